//! The commands beside serving, as scripts, packages and service managers use them.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::Gate;
use black_box_tests::{Ended, PATIENCE, Raw, Reply, Server, Setup, Upstream, eventually, run};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixDatagram};
use tokio::process::Command;

const PROGRAMS: [&str; 2] = ["cache-server", "warm"];

async fn succeeding(program: &str, arguments: &[&str]) -> String {
    let ended = run(program, arguments).await;
    assert!(ended.status.success(), "{program} {arguments:?}: {}", ended.stderr);
    ended.stdout
}

/// The subcommands that `--help` lists.
async fn subcommands(program: &str) -> Vec<String> {
    let help = succeeding(program, &["--help"]).await;
    let (_, listed) = help.split_once("Commands:\n").expect("a list of commands");
    let (listed, _) = listed.split_once("\n\n").expect("an end of it");
    let name = |line: &str| line.split_whitespace().next().expect("a name").to_owned();
    let names: Vec<String> = listed.lines().map(name).filter(|name| name != "help").collect();
    assert!(names.contains(&"man".to_owned()), "{names:?}");
    names
}

/// Runs another program; `None` where it is not installed.
async fn foreign(program: &str, arguments: &[&str], stdin: &str) -> Option<Ended> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut taken = child.stdin.take().expect("standard input is piped");
    taken.write_all(stdin.as_bytes()).await.expect("it reads");
    drop(taken);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it ends").expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Some(Ended { status: output.status, stdout, stderr })
}

/// What the build was told, or what git says, as the build asks it.
async fn commit() -> String {
    if let Ok(given) = std::env::var("CACHE_SERVER_COMMIT")
        && !given.is_empty()
    {
        return given;
    }
    let folder = env!("CARGO_MANIFEST_DIR");
    let at_root = foreign("git", &["-C", folder, "rev-parse", "--show-cdup"], "").await;
    let asked = foreign("git", &["-C", folder, "rev-parse", "--short=12", "HEAD"], "").await;
    match (at_root, asked) {
        (Some(root), Some(asked)) if root.stdout == "../\n" && asked.status.success() => {
            asked.stdout.trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

#[tokio::test]
async fn versions_name_the_commit_that_was_built() {
    let version = env!("CARGO_PKG_VERSION");
    let commit = commit().await;
    for program in PROGRAMS {
        let said = succeeding(program, &["--version"]).await;
        assert_eq!(said, format!("{program} {version} ({commit})\n"), "build it again");
    }
    let upstream = Upstream::saying(embedding(0.25)).await;
    let stats = Server::start(Setup::in_front_of(&upstream)).await.stats().await;
    assert_eq!((&stats["version"], &stats["commit"]), (&version.into(), &commit.into()));
}

#[tokio::test]
async fn every_shell_completes_every_subcommand() {
    for program in PROGRAMS {
        let commands = subcommands(program).await;
        for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
            let script = succeeding(program, &["completions", shell]).await;
            for command in &commands {
                assert!(script.contains(command.as_str()), "{shell}: {program} {command}");
            }
        }
        let script = succeeding(program, &["completions", "bash"]).await;
        let read = foreign("bash", &["-n"], &script).await.expect("install bash");
        assert!(read.status.success() && read.stderr.is_empty(), "{}", read.stderr);
    }
}

/// Formats a page where there is the program to do it; no word of complaint is allowed.
async fn assert_is_a_page(path: &Path) {
    let text = std::fs::read_to_string(path).expect("a page");
    for section in [".TH ", ".SH NAME\n", ".SH SYNOPSIS\n", ".SH DESCRIPTION\n"] {
        assert!(text.contains(section), "{}: no {section}", path.display());
    }
    // Others called `man` take other options.
    let version = foreign("man", &["--version"], "").await;
    if version.is_some_and(|version| version.stdout.starts_with("man 2.")) {
        let path = path.to_str().expect("text");
        let shown = foreign("man", &["--warnings", "-E", "UTF-8", "-l", path], "").await;
        let shown = shown.expect("it was there");
        assert!(shown.status.success() && shown.stderr.is_empty(), "{path}: {}", shown.stderr);
        assert!(shown.stdout.contains("SYNOPSIS"), "{path}");
    }
}

#[tokio::test]
async fn the_man_page_names_every_subcommand_and_each_has_a_page() {
    for program in PROGRAMS {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().to_str().expect("text");
        succeeding(program, &["man", "--dir", path]).await;
        let main = folder.path().join(format!("{program}.1"));
        assert_is_a_page(&main).await;
        let text = std::fs::read_to_string(&main).expect("the main page");
        assert_eq!(succeeding(program, &["man"]).await, text);
        let commands = subcommands(program).await;
        for command in &commands {
            // Roff wants its hyphens escaped.
            let name = format!("{program}-{command}");
            assert!(text.contains(&name.replace('-', r"\-")), "no {name} in {main:?}");
            assert_is_a_page(&folder.path().join(format!("{name}.1"))).await;
        }
        for page in std::fs::read_dir(folder.path()).expect("the folder") {
            let path = page.expect("a page").path();
            let page = path.file_stem().expect("a name").to_string_lossy().into_owned();
            // A command may have some of its own: those of `a-program a-command one` and `two`.
            let is_of = |command: &String| {
                let rest = page.strip_prefix(&format!("{program}-{command}"));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            };
            assert!(page == program || commands.iter().any(is_of), "{page}");
            assert_is_a_page(&path).await;
        }
    }
}

#[tokio::test]
async fn a_man_page_without_a_place_for_it_fails() {
    for program in PROGRAMS {
        let ended = run(program, &["man", "--dir", "/nonexistent"]).await;
        assert!(!ended.status.success());
        assert!(ended.stderr.contains("/nonexistent"), "{}", ended.stderr);
    }
}

async fn health(admin: &str) -> Ended {
    run("cache-server", &["health", "--admin", admin]).await
}

#[tokio::test]
async fn health_is_zero_while_requests_are_taken_and_one_while_it_drains() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| Reply::json(&embedding(0.25)).held_by(&holds)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let port = server.admin.rsplit(':').next().expect("a port");
    // What listens everywhere is asked here.
    for admin in [&server.admin, &format!("0.0.0.0:{port}")] {
        let healthy = health(admin).await;
        assert_eq!(healthy.status.code(), Some(0), "{admin}: {}", healthy.stderr);
        assert_eq!(healthy.stdout, "ready\n");
    }
    let mut caller = Raw::open(&server.address).await;
    caller.post(EMBEDDINGS, &question("under way").to_string()).await;
    eventually("the request is upstream", || async { (upstream.calls() == 1).then_some(()) }).await;
    server.signal(libc::SIGTERM);
    let drains = eventually("it drains", || async {
        let drains = health(&server.admin).await;
        (!drains.status.success()).then_some(drains)
    })
    .await;
    assert_eq!(drains.status.code(), Some(1));
    assert!(drains.stderr.contains("503"), "{}", drains.stderr);
    gate.open();
}

#[tokio::test]
async fn health_is_one_where_nobody_listens_and_where_nobody_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let silent = health(&address).await;
    assert_eq!(silent.status.code(), Some(1), "{}", silent.stderr);
    assert!(silent.stderr.contains("does not answer within 2s"), "{}", silent.stderr);
    drop(listener);
    let absent = health(&address).await;
    assert_eq!(absent.status.code(), Some(1), "{}", absent.stderr);
    assert!(absent.stderr.contains("refused"), "{}", absent.stderr);
}

#[tokio::test]
async fn health_at_no_address_is_wrong_usage() {
    for admin in ["", "localhost", "127.0.0.1", "http://127.0.0.1:8081"] {
        assert_eq!(health(admin).await.status.code(), Some(2), "{admin:?}");
    }
}

#[tokio::test]
async fn a_service_manager_is_told_when_it_listens_and_when_it_drains() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    let told = async || {
        let mut message = vec![0; 1024];
        let length = tokio::time::timeout(PATIENCE, manager.recv(&mut message)).await;
        message.truncate(length.expect("a message in time").expect("a message"));
        String::from_utf8(message).expect("text")
    };
    let upstream = Upstream::saying(embedding(0.25)).await;
    let setup = Setup::in_front_of(&upstream);
    let setup = setup.variable("NOTIFY_SOCKET", path.to_str().expect("text"));
    let mut server = Server::start(setup).await;
    assert_eq!(told().await, "READY=1\n");
    server.stop().await;
    assert_eq!(told().await, "STOPPING=1\n");
}

#[tokio::test]
async fn a_service_manager_that_is_gone_does_no_harm() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let setup = Setup::in_front_of(&upstream).variable("NOTIFY_SOCKET", "/nonexistent/notify");
    let mut server = Server::start(setup).await;
    assert_eq!(server.client().ask(EMBEDDINGS, &question("hi")).await.status, 200);
    server.stop().await;
    assert!(server.log().contains("the service manager cannot be told"), "{}", server.log());
}
