//! The `warm` program against a small HTTP server: what it sends, counts and says.

use std::convert::Infallible;
use std::io::Write;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::process::Command;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What the server was asked, and how many requests it held at a time.
#[derive(Debug, Default)]
struct Seen {
    /// Path with query, `x-test` field, body.
    requests: Vec<(String, Option<String>, String)>,
    now: usize,
    most: usize,
}

/// A server that answers by what the path begins with.
struct Server {
    address: String,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(request, &seen));
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Server { address, seen }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: &Mutex<Seen>,
) -> Result<Response<Body>, Infallible> {
    let target = request.uri().path_and_query().expect("it has a path").to_string();
    let field = request
        .headers()
        .get("x-test")
        .map(|value| value.to_str().expect("the tests send ASCII").to_owned());
    let body = request.into_body().collect().await.expect("the body is whole").to_bytes();
    let body = String::from_utf8(body.to_vec()).expect("the tests send UTF-8");
    {
        let mut seen = seen.lock().expect("no test panics with the lock");
        seen.requests.push((target.clone(), field, body));
        seen.now += 1;
        seen.most = seen.most.max(seen.now);
    }
    if target.starts_with("/hang") {
        std::future::pending::<()>().await;
    }
    // Others get their turn meanwhile, so that requests overlap if they may.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    seen.lock().expect("no test panics with the lock").now -= 1;
    let (status, cache_status) = match target.as_str() {
        "/hit" => (200, Some("cache-server; hit; ttl=10; detail=memory")),
        "/fill" | "/cut" => {
            (200, Some("edge; hit, cache-server; fwd=miss; fwd-status=200; stored"))
        }
        "/bypass" => (200, Some("cache-server; fwd=bypass; detail=not-deterministic")),
        "/missing" => (404, Some("cache-server; fwd=miss; fwd-status=404")),
        _ => (200, None),
    };
    let mut response = Response::builder().status(status);
    if let Some(cache_status) = cache_status {
        response = response.header("cache-status", cache_status);
    }
    let body = if target == "/cut" {
        cut()
    } else {
        Full::from("ok").map_err(|never| match never {}).boxed_unsync()
    };
    Ok(response.body(body).expect("status and field are valid"))
}

/// A body that breaks off.
fn cut() -> Body {
    let frames = [Ok(Frame::data(Bytes::from("half"))), Err(std::io::Error::other("cut"))];
    http_body_util::StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

/// Runs `warm run` on a file with these lines.
async fn warm(lines: &str, server: &str, options: &[&str]) -> Output {
    let mut file = tempfile::NamedTempFile::new().expect("there is a place for files");
    file.write_all(lines.as_bytes()).expect("the file can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_warm"));
    command.arg("run").arg(file.path()).args(["--server", server]).args(options).kill_on_drop(true);
    let running = tokio::time::timeout(Duration::from_secs(60), command.output());
    running.await.expect("it ends").expect("it starts")
}

fn get(path: &str) -> String {
    format!("{{\"method\":\"GET\",\"path\":\"{path}\"}}\n")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The report's count of `row`.
fn count(output: &Output, row: &str) -> u64 {
    let text = stdout(output);
    let line = text.lines().find(|line| line.starts_with(row)).expect("the report has the row");
    line[row.len()..].trim().parse().expect("the row has a count")
}

#[tokio::test]
async fn hits_fills_and_bypasses_are_told_apart_and_nothing_failed() {
    let server = Server::start().await;
    let lines = [get("/hit"), get("/hit"), get("/fill"), get("/bypass")].concat();
    let output = warm(&lines, &server.url(), &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let counts =
        ["requests", "hits", "fills", "bypasses", "failures"].map(|row| count(&output, row));
    assert_eq!(counts, [4, 2, 1, 1, 0]);
    assert!(stdout(&output).contains("not-deterministic 1"), "{}", stdout(&output));
}

#[tokio::test]
async fn a_request_arrives_as_it_was_recorded_byte_for_byte() {
    let server = Server::start().await;
    let body = r#"{ "b" : 1.50, "a":[1e2,"\u00e9"] }"#;
    let lines = format!(
        "{{\"method\":\"POST\",\"path\":\"/v1/x?q=a%20b\",\"headers\":{{\"X-Test\":\"yes\",\"Host\":\"elsewhere\"}},\"body\":{body}}}\n\
         {{\"method\":\"PUT\",\"path\":\"/text\",\"body\":\"plain \\u00e9\"}}"
    );
    let output = warm(&lines, &format!("{}/base/", server.url()), &["--concurrency", "1"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let seen = server.seen.lock().unwrap();
    let expected = [
        ("/base/v1/x?q=a%20b".to_owned(), Some("yes".to_owned()), body.to_owned()),
        ("/base/text".to_owned(), None, "plain é".to_owned()),
    ];
    assert_eq!(seen.requests, expected);
}

#[tokio::test]
async fn failures_are_named_by_their_line_and_the_rest_is_still_sent() {
    let server = Server::start().await;
    let lines =
        format!("{}nonsense\n{}{}{}", get("/missing"), get("/cut"), get("/hang"), get("/hit"));
    let output = warm(&lines, &server.url(), &["--deadline", "500ms"]).await;
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    for failure in ["line 1: status 404", "line 2: not JSON", "line 3: ", "line 4: no whole answer"]
    {
        assert!(told.contains(failure), "{failure}: {told}");
    }
    assert_eq!((count(&output, "failures"), count(&output, "hits")), (4, 1));
}

#[tokio::test]
async fn ctrl_c_ends_with_the_report_of_what_was_done_and_an_exit_code_of_1() {
    let server = Server::start().await;
    let mut file = tempfile::NamedTempFile::new().expect("there is a place for files");
    file.write_all([get("/hit"), get("/hang")].concat().as_bytes()).expect("it is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_warm"));
    command.arg("run").arg(file.path()).args(["--server", &server.url(), "--concurrency", "1"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let running = command.spawn().expect("it starts");
    let hangs = async {
        while server.seen.lock().expect("no test panics with the lock").requests.len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), hangs).await.expect("it asks");
    let id = running.id().expect("it runs").to_string();
    let sent = std::process::Command::new("kill").args(["-INT", &id]).status();
    assert!(sent.expect("kill runs").success());
    let ended = tokio::time::timeout(Duration::from_secs(60), running.wait_with_output());
    let output = ended.await.expect("it ends").expect("it ran");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!((count(&output, "requests"), count(&output, "hits")), (1, 1));
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_every_request_without_telling_their_urls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let lines = get("/v1/x?key=secret").repeat(30);
    let output = warm(&lines, &format!("http://{address}"), &[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(count(&output, "failures"), 30);
    let told = stderr(&output);
    assert_eq!(told.lines().filter(|line| line.starts_with("line ")).count(), 20, "{told}");
    assert!(told.contains("only counted") && !told.contains("secret"), "{told}");
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_asked_for() {
    for (option, most) in [("1", 1), ("3", 3)] {
        let server = Server::start().await;
        let output =
            warm(&get("/fill").repeat(40), &server.url(), &["--concurrency", option]).await;
        assert_eq!(count(&output, "fills"), 40);
        let seen = server.seen.lock().unwrap();
        assert!((1..=most).contains(&seen.most), "{} of {most}", seen.most);
    }
}

#[tokio::test]
async fn a_server_that_is_no_cache_server_is_noticed() {
    let server = Server::start().await;
    let output = warm(&get("/plain"), &server.url(), &[]).await;
    assert_eq!((output.status.code(), count(&output, "bypasses")), (Some(0), 1));
    assert!(stdout(&output).contains("is that its address?"), "{}", stdout(&output));
}

#[tokio::test]
async fn wrong_usage_and_unreadable_files_exit_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let missing = format!("{folder}/missing");
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    let server = ["--server", "http://127.0.0.1:1"];
    let cases = [
        vec!["run", file],
        vec!["run", &missing, server[0], server[1]],
        vec!["run", folder, server[0], server[1]],
        vec!["run", file, "--server", "ftp://x"],
        vec!["run", file, "--server", "nonsense"],
        vec!["run", file, server[0], server[1], "--concurrency", "0"],
        vec!["run", file, server[0], server[1], "--concurrency", "257"],
        vec!["run", file, server[0], server[1], "--deadline", "soon"],
    ];
    for arguments in cases {
        let output =
            Command::new(env!("CARGO_BIN_EXE_warm")).args(&arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn an_empty_file_is_a_run_without_requests() {
    let output = warm("\n\n", "http://127.0.0.1:1", &[]).await;
    assert_eq!((output.status.code(), count(&output, "requests")), (Some(0), 0));
}
