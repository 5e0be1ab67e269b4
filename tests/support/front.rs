//! A cache in front of the server: the real nginx or the real Varnish, as docs/examples sets it up.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::programs::installed;
use crate::{Answer, Client, eventually};

/// How often another port is tried if somebody else took the first one.
const TRIES: usize = 5;

/// Which cache stands in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// nginx.
    Nginx,
    /// Varnish.
    Varnish,
}

/// A running cache in front of a server. It is killed when dropped.
#[derive(Debug)]
pub struct Front {
    /// Where callers connect.
    pub address: String,
    _child: Child,
    _folder: TempDir,
}

impl Product {
    /// Both.
    pub const ALL: [Product; 2] = [Product::Nginx, Product::Varnish];

    /// The file that sets it up, and says in its comments what the route of the server needs.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn example(self) -> String {
        let name = match self {
            Product::Nginx => "nginx.conf",
            Product::Varnish => "varnish.vcl",
        };
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let path = workspace.join("docs/examples").join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// What its example says the route of the server needs.
    #[must_use]
    pub fn route(self) -> String {
        let example = self.example();
        let settings = example.lines().filter_map(|line| line.strip_prefix("#   "));
        let settings: Vec<&str> =
            settings.filter(|line| line.starts_with('[') || line.contains(" = ")).collect();
        settings.join("\n")
    }

    fn program(self) -> &'static str {
        match self {
            Product::Nginx => "nginx",
            Product::Varnish => "varnishd",
        }
    }

    /// The command that runs it in the foreground, with all that it writes in this folder.
    fn command(self, folder: &Path, address: SocketAddr, server: &str) -> Command {
        let example = self.example().replace("127.0.0.1:8080", server);
        let config = folder.join("config");
        let mut command = Command::new(installed(self.program(), "nginx-light and varnish"));
        match self {
            Product::Nginx => {
                std::fs::write(&config, nginx_config(&example, folder, address)).expect("a config");
                let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
                // One process: workers would outlive a master that is killed.
                let more = "daemon off; master_process off;";
                let more = format!("{more} pid {}/pid; {user}", folder.display());
                command.arg("-c").arg(&config).arg("-p").arg(folder);
                command.args(["-e", "stderr", "-g", &more]);
            }
            Product::Varnish => {
                std::fs::write(&config, example).expect("a config");
                command.args(["-F", "-j", "none", "-T", "none", "-s", "malloc,16m"]);
                command.args(["-p", "http_gzip_support=off", "-p", "vsl_space=1m"]);
                command.args(["-a", &address.to_string(), "-f"]).arg(&config);
                command.arg("-n").arg(folder.join("varnish"));
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }
}

impl Front {
    /// Starts one in front of the server at this address, and waits until it answers.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    pub async fn start(product: Product, server: &str) -> Front {
        let mut log = String::new();
        for _ in 0..TRIES {
            match Front::try_to_start(product, server).await {
                Ok(front) => return front,
                Err(said) => log = said,
            }
        }
        panic!("{product:?} does not start:\n{log}")
    }

    /// What it said if it ended at once.
    async fn try_to_start(product: Product, server: &str) -> Result<Front, String> {
        let folder = TempDir::new().expect("a temporary folder");
        let address = free_address();
        let mut child =
            product.command(folder.path(), address, server).spawn().expect("it is installed");
        let log = Arc::default();
        follow(child.stdout.take().expect("it is piped"), &log);
        follow(child.stderr.take().expect("it is piped"), &log);
        let listens = eventually("a cache in front", || async {
            let is_ready = match product {
                Product::Nginx => folder.path().join("pid").exists(),
                Product::Varnish => log.lock().expect("the log").contains("Child starts"),
            };
            (is_ready && std::net::TcpStream::connect(address).is_ok()).then_some(())
        });
        tokio::select! {
            () = listens => Ok(Front { address: address.to_string(), _child: child, _folder: folder }),
            _ = child.wait() => Err(log.lock().expect("the log").clone()),
        }
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::of(&self.address)
    }
}

/// The members of `Cache-Status` in their order: what is nearest to the origin comes first.
#[must_use]
pub fn members(answer: &Answer) -> Vec<String> {
    let lines = answer.headers.get_all("cache-status").iter();
    let text: Vec<&str> = lines.map(|line| line.to_str().expect("text")).collect();
    text.join(", ").split(", ").map(Into::into).collect()
}

/// Whether the cache in front answered from what it keeps, fresh or stale.
#[must_use]
pub fn is_kept(answer: &Answer) -> bool {
    members(answer).last().is_some_and(|last| last.contains("; hit"))
}

/// Whether what it answered with was stale.
#[must_use]
pub fn is_stale(answer: &Answer) -> bool {
    members(answer).last().is_some_and(|last| last.contains("; hit; detail=stale"))
}

/// At another address than in the example, and with its files in this folder.
fn nginx_config(example: &str, folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders: Vec<String> =
        kinds.iter().map(|kind| format!("{kind}_temp_path {folder}/{kind};")).collect();
    example
        .replace("127.0.0.1:8000", &address.to_string())
        .replace("/var/cache/nginx", &format!("{folder}/cache"))
        .replace("http {", &format!("http {{ {}", folders.join(" ")))
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

fn follow(output: impl AsyncRead + Unpin + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut log = log.lock().expect("the log");
            log.push_str(&line);
            log.push('\n');
        }
    });
}
