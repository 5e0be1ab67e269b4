//! The example of three servers in `deploy/three-servers`: its files are accepted by the programs that
//! they are for, and what its `run.sh` starts is one cache.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use black_box_tests::programs::{installed, lasting_port};
use black_box_tests::sample::{CHAT, chat};
use black_box_tests::server::{binary, end_of};
use black_box_tests::{Answer, Client, eventually, run};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// What `run.sh` listens on, from its first port on.
const PORTS: [u16; 10] = [0, 1, 2, 3, 11, 12, 13, 20, 21, 30];
/// The servers among them, and their listeners for operators.
const SERVERS: [u16; 3] = [1, 2, 3];
const ADMINS: [u16; 3] = [11, 12, 13];

fn example(name: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    workspace.join("deploy/three-servers").join(name)
}

/// Whether nginx takes this as its config. It tries the ports, too.
async fn nginx_takes(config: &str) -> Result<(), String> {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("nginx.conf");
    let config = config.replace("127.0.0.1:8000", &format!("127.0.0.1:{}", lasting_port()));
    std::fs::write(&file, config).expect("the config is written");
    let mut command = tokio::process::Command::new(installed("nginx", "nginx-light"));
    command.args(["-t", "-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(&file);
    let ended = end_of(command).await;
    if ended.status.success() { Ok(()) } else { Err(ended.stderr) }
}

#[tokio::test]
async fn the_example_of_three_servers_is_accepted_by_check() {
    let file = example("cache-server.toml");
    let ended = run("cache-server", &["check", "--config", file.to_str().expect("text")]).await;
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
}

#[tokio::test]
async fn nginx_takes_the_example_of_three_servers_with_each_way_of_balancing() {
    let config = std::fs::read_to_string(example("nginx.conf")).expect("the example");
    nginx_takes(&config).await.expect("round robin");
    let hash = config.replace("# hash $affinity", "hash $affinity");
    assert_ne!(hash, config, "there is another way");
    nginx_takes(&hash).await.expect("a hash");
    let wrong = config.replace("# hash $affinity", "hash $affinty");
    nginx_takes(&wrong).await.expect_err("a variable that nobody sets");
}

/// All that `run.sh` has started. It is told to end when dropped, and waited for: it ends the others.
struct Running {
    script: Child,
    folder: TempDir,
    base: u16,
}

/// A first port for `run.sh`, of which all are free: below those that other tests have.
fn free_base() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const BASES: u16 = 300;
    const APART: u16 = 32;
    // Other runs of the tests begin elsewhere.
    let begin = u16::try_from(std::process::id() % u32::from(BASES)).expect("it is below");
    let mut bases =
        (0..BASES).map(|_| FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % BASES * APART);
    let is_free = |base: &u16| {
        let mut ports = PORTS.iter().map(|port| base + port);
        ports.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
    };
    bases.find(is_free).expect("free ports")
}

impl Running {
    fn start(base: u16) -> Running {
        let folder = TempDir::new().expect("a temporary folder");
        let said = std::fs::File::create(folder.path().join("said")).expect("a file");
        let mut command = Command::new(example("run.sh"));
        command
            .env("BASE", base.to_string())
            .env("CACHE_SERVER", binary("cache-server"))
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stderr(said.try_clone().expect("the same file"))
            .stdout(said)
            .process_group(0);
        Running { script: command.spawn().expect("it starts"), folder, base }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    /// Waits until it says that all are there.
    async fn is_ready(&mut self) {
        let (script, said) = (&mut self.script, self.folder.path().join("said"));
        let script = std::cell::RefCell::new(script);
        eventually("run.sh", || async {
            let said = std::fs::read_to_string(&said).unwrap_or_default();
            let ended = script.borrow_mut().try_wait().expect("it can be asked");
            assert!(ended.is_none(), "run.sh ended: {said}");
            said.contains("Ready.").then_some(())
        })
        .await;
    }

    fn address(&self, port: u16) -> String {
        format!("127.0.0.1:{}", self.base + port)
    }

    fn client(&self, port: u16) -> Client {
        Client::of(&self.address(port))
    }

    /// Ends it as Ctrl-C does, but for the signal, which a script in the background does not hear.
    fn end(&mut self) -> ExitStatus {
        let id = i32::try_from(self.script.id()).expect("a process");
        // One that has ended already needs no telling.
        let _ = kill_process(Pid::from_raw(id).expect("a process"), Signal::TERM);
        self.script.wait().expect("it ends")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

#[tokio::test]
async fn what_the_example_starts_is_one_cache_and_ends_without_a_trace() {
    let path = format!("/openai{CHAT}");
    let mut running = Running::start(free_base());
    running.is_ready().await;
    for admin in ADMINS {
        let ready = running.client(admin).get("/readyz").await;
        assert_eq!((ready.status.as_u16(), ready.body.trim_ascii()), (200, &b"ready"[..]));
    }
    eventually("three servers that know one another", || async {
        let stats = running.client(ADMINS[0]).get("/stats").await.json();
        (stats["coherence"]["nodes"].as_array()?.len() == SERVERS.len()).then_some(())
    })
    .await;
    let [one, two, _] = SERVERS.map(|port| running.client(port));
    let first = one.ask(&path, &chat(false)).await;
    assert_eq!(first.status, 200, "{}", running.said());
    assert!(!first.is_hit(), "{}", first.cache_status());
    let second = eventually("a hit on another server", || async {
        Some(two.ask(&path, &chat(false)).await).filter(Answer::is_hit)
    })
    .await;
    assert_eq!(second.body, first.body);
    let by_nginx = running.client(0).ask(&path, &chat(false)).await;
    assert!(by_nginx.is_hit() && by_nginx.body == first.body, "{}", by_nginx.cache_status());

    let admin = running.address(ADMINS[2]);
    let tag = ["purge", "--tag", "model:gpt-4o-mini", "--admin", &admin];
    let purged = run("cache-server", &tag).await;
    assert!(purged.status.success(), "{}", purged.stderr);
    eventually("an end of it on the others", || async {
        let asked =
            one.request(http::Method::POST, &path).header("cache-control", "only-if-cached");
        let asked = asked.header("authorization", "Bearer sk-test");
        let asked = asked.header("content-type", "application/json");
        let answer = Answer::of(asked.body(chat(false).to_string())).await;
        (!answer.is_hit()).then_some(())
    })
    .await;

    assert!(running.end().success(), "{}", running.said());
    for port in PORTS {
        let address = running.address(port);
        assert!(TcpStream::connect(&address).is_err(), "{address} still listens");
    }
    let left = std::fs::read_dir(running.folder.path()).expect("the folder").count();
    assert_eq!(left, 1, "what it said is all that is left");
}

#[test]
fn an_example_that_finds_a_port_taken_says_so_and_ends() {
    let base = free_base();
    let _taken = TcpListener::bind(("127.0.0.1", base + SERVERS[1])).expect("a free port");
    let mut running = Running::start(base);
    let status = running.script.wait().expect("it ends");
    assert!(!status.success(), "{}", running.said());
    assert!(running.said().contains("server-2 did not start"), "{}", running.said());
}
