//! `cache-server demo`: what a newcomer sees in the first minute.

use black_box_tests::{Answer, Server, Setup, eventually};
use reqwest::Method;

/// A line that the demo prints for pasting.
#[derive(Debug)]
struct Printed {
    path: String,
    fields: Vec<(String, String)>,
    body: String,
}

fn printed_requests(log: &str) -> Vec<Printed> {
    log.lines()
        .filter_map(|line| line.trim().strip_prefix("curl "))
        .map(|line| {
            let (_, rest) = line.split_once("http://").expect("a URL");
            let (url, rest) = rest.split_once(' ').expect("options behind the URL");
            let path = &url[url.find('/').expect("a path")..];
            let quoted: Vec<&str> = rest.split('\'').skip(1).step_by(2).collect();
            let (body, fields) = quoted.split_last().expect("a body");
            let fields = fields
                .iter()
                .map(|field| field.split_once(": ").expect("a field"))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            Printed { path: path.to_owned(), fields, body: (*body).to_owned() }
        })
        .collect()
}

async fn ask(server: &Server, printed: &Printed) -> Answer {
    let asking = server.client().request(Method::POST, &printed.path);
    let mut asking = asking.body(printed.body.clone());
    for (name, value) in &printed.fields {
        asking = asking.header(name, value);
    }
    Answer::of(asking).await
}

fn quick_demo() -> Setup {
    Setup::demo().argument("--latency").argument("20ms").argument("--jitter").argument("0ms")
}

#[tokio::test]
async fn each_printed_line_hits_the_second_time_and_after_a_restart() {
    let mut server = Server::start(quick_demo()).await;
    let requests = printed_requests(&server.log());
    assert_eq!(requests.len(), 3, "{}", server.log());
    for request in &requests {
        let first = ask(&server, request).await;
        assert!(first.cache_status().contains("; fwd=miss"), "{request:?}: {first:?}");
        let second = ask(&server, request).await;
        assert!(second.is_hit(), "{request:?}: {second:?}");
        assert_eq!(second.body, first.body);
    }
    server.stop().await;
    let server = server.start_again().await;
    for request in &requests {
        let again = ask(&server, request).await;
        assert!(again.cache_status().ends_with("detail=disk"), "{request:?}: {again:?}");
    }
}

#[tokio::test]
async fn it_says_that_the_model_is_simulated_and_keeps_a_live_line() {
    let server = Server::start(quick_demo()).await;
    assert!(server.log().contains("SIMULATED"), "{}", server.log());
    let requests = printed_requests(&server.log());
    let answer = ask(&server, &requests[0]).await;
    assert!(String::from_utf8_lossy(&answer.body).contains("(simulated)"));
    ask(&server, &requests[0]).await;
    eventually("a live line with one hit", || async {
        server.log().contains("hits 1 (50 %) · misses 1 · ").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_simulated_error_rate_reaches_the_caller_and_is_never_stored() {
    let server = Server::start(quick_demo().argument("--error-rate").argument("1")).await;
    let requests = printed_requests(&server.log());
    for _ in 0..2 {
        let answer = ask(&server, &requests[0]).await;
        assert!(matches!(answer.status.as_u16(), 429 | 500), "{answer:?}");
        assert!(!answer.is_hit(), "{answer:?}");
    }
}
