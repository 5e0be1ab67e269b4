//! A stranger's attacks on the cache of HTTP, through ordinary requests and lying upstreams: nobody
//! gets what is wrong, foreign, poisoned, cut or out of date, and no flood takes more than its bound.

mod dates;
mod deception;
mod floods;
mod numbers;
mod poisoning;
mod spellings;

use black_box_tests::plain;
use black_box_tests::wire::answer;
use black_box_tests::{Answer, Raw, RawAnswer, Server, Setup, Wire, WireRequest};
use http::Method;

/// All callers share the answers of HTTP at large.
const SHARED: &str =
    "[[route]]\nendpoint = \"http\"\nscope = \"shared\"\nallow_unverified_callers = true";

/// What is stored for ten minutes.
const KEPT: &str = "cache-control: max-age=600\r\n";

/// Gets with these fields, over HTTP/1.1.
async fn get(server: &Server, path: &str, fields: &[(&str, &str)]) -> Answer {
    plain::ask(&server.client(), Method::GET, path, fields).await
}

/// What is stored under a path, or a 504.
async fn stored(server: &Server, path: &str) -> Answer {
    get(server, path, &[("cache-control", "only-if-cached")]).await
}

/// A server in front of an upstream that answers by bytes.
async fn in_front_of_wire(
    config: &str,
    answer: impl Fn(&WireRequest) -> Vec<u8> + Send + Sync + 'static,
) -> (Wire, Server) {
    let upstream = Wire::start(answer).await;
    let setup = Setup::default().argument("--upstream").argument(&upstream.url());
    let server = Server::start(setup.config(config)).await;
    (upstream, server)
}

/// A server in front of an upstream that answers `/0` with the first of these lines of fields,
/// `/1` with the second, and so on.
async fn in_front_of_each(config: &str, lines: Vec<String>) -> (Wire, Server) {
    in_front_of_wire(config, move |request| {
        let number: usize = request.target().trim_start_matches('/').parse().expect("a number");
        answer("200 OK", &lines[number], "page")
    })
    .await
}

/// Gets by exactly these bytes, on a connection that goes on.
async fn get_raw(caller: &mut Raw, target: &str, fields: &str) -> RawAnswer {
    caller.send(format!("GET {target} HTTP/1.1\r\nhost: cache\r\n{fields}\r\n")).await;
    caller.answer().await
}

fn is_raw_hit(answer: &RawAnswer) -> bool {
    answer.head.contains("cache-status: cache-server; hit")
}
