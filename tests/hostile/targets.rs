//! Targets in every spelling: they reach the configured upstream alone, and what is keyed is
//! what is forwarded.

use std::collections::HashMap;

use black_box_tests::sample::{EMBEDDINGS, question};

use super::{Elsewhere, Stage, post};

#[tokio::test]
async fn an_absolute_target_that_names_another_host_goes_to_the_configured_upstream() {
    let stage = Stage::start().await;
    let elsewhere = Elsewhere::start().await;
    let authority = elsewhere.authority();
    let own = stage.upstream.url().trim_start_matches("http://").to_owned();
    for scheme in ["http", "HTTP", "https", "ftp", "x"] {
        let mut caller = stage.connect().await;
        let target = format!("{scheme}://{authority}/a/b?c=d");
        caller.send(format!("GET {target} HTTP/1.1\r\nhost: {authority}\r\n\r\n")).await;
        let answer = caller.answer().await;
        // A scheme that is none of ours may be refused as well.
        let refused = answer.head.starts_with("HTTP/1.1 400 ");
        assert!(refused || answer.head.starts_with("HTTP/1.1 200 "), "{scheme}: {}", answer.head);
    }
    for request in stage.upstream.requests() {
        assert_eq!(request.target(), "/a/b?c=d");
        assert_eq!(request.fields("host"), std::slice::from_ref(&own));
    }
    assert!(stage.upstream.calls() >= 3);
    elsewhere.assert_left_alone();
    stage.assert_well().await;
}

#[tokio::test]
async fn a_target_that_hides_a_host_goes_nowhere_else() {
    let stage = Stage::start().await;
    let elsewhere = Elsewhere::start().await;
    let authority = elsewhere.authority();
    for target in [
        format!("//{authority}/x"),
        format!("///{authority}/x"),
        format!("/\\{authority}/x"),
        format!("\\\\{authority}\\x"),
        format!("/@{authority}/x"),
        format!("@{authority}/x"),
        format!(":80@{authority}/x"),
        format!("/%2f%2f{authority}/x"),
        format!("/http://{authority}/x"),
        format!("/;@{authority}"),
        format!("http://user:password@{authority}/x"),
        format!("http://cache@{authority}/x"),
        format!("http:/{authority}/x"),
        format!("http:{authority}/x"),
        "file:///etc/passwd".into(),
        "http://169.254.169.254/latest/meta-data/".into(),
        "http://[::1]/x".into(),
        "http:///x".into(),
        "http://%00/x".into(),
    ] {
        let told = stage
            .tell(format!("GET {target} HTTP/1.1\r\nhost: cache\r\nconnection: close\r\n\r\n"))
            .await;
        let [status] = told.statuses()[..] else { panic!("{target}: {}", told.text()) };
        assert!([200, 400, 404].contains(&status), "{target}: {}", told.text());
    }
    elsewhere.assert_left_alone();
    stage.assert_well().await;
}

#[tokio::test]
async fn nobody_gets_a_tunnel() {
    let stage = Stage::start().await;
    let elsewhere = Elsewhere::start().await;
    let authority = elsewhere.authority();
    for target in [authority.as_str(), "169.254.169.254:80", "cache:443"] {
        let head =
            format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n");
        let told = stage.tell(format!("{head}{}", super::SMUGGLED)).await;
        told.assert_problem(501, "no-tunnel", target);
    }
    assert_eq!(stage.upstream.calls(), 0);
    elsewhere.assert_left_alone();
    stage.assert_well().await;
}

#[tokio::test]
async fn a_target_without_a_path_is_refused_where_it_means_nothing() {
    let stage = Stage::start().await;
    for line in ["GET cache:80", "POST cache:80", "OPTIONS *", "GET *", "GET cache", "DELETE *"] {
        let head = format!("{line} HTTP/1.1\r\nhost: cache\r\nconnection: close\r\n\r\n");
        let told = stage.tell(head).await;
        assert_eq!(told.statuses(), [400], "{line}: {}", told.text());
        assert_eq!(stage.upstream.calls(), 0, "{line}: {:?}", stage.targets());
    }
    stage.assert_well().await;
}

/// Paths that a careless reader may take for one another.
const SPELLINGS: [&str; 44] = [
    "/v1/embeddings",
    "/v1/./embeddings",
    "/./v1/embeddings",
    "/v1/x/../embeddings",
    "/v1/x/y/../../embeddings",
    "/v1/%2e/embeddings",
    "/v1/%2E/embeddings",
    "/v1/x/%2e%2e/embeddings",
    "/v1/x/.%2E/embeddings",
    "/v1/x%2f..%2fembeddings",
    "/v1/x/..%2fembeddings",
    "/v1/x/..;/embeddings",
    "/v1/.../embeddings",
    "/v1//embeddings",
    "//v1/embeddings",
    "/v1/embeddings/",
    "/v1/embeddings/.",
    "/v1/embeddings/x/..",
    "/v1\\embeddings",
    "/v1/x\\..\\embeddings",
    "\\v1\\embeddings",
    "/v1%2fembeddings",
    "/v1%2Fembeddings",
    "/v1%5cembeddings",
    "/v1/x%5c..%5cembeddings",
    "/v1/embeddings;x=1",
    "/v1;x=1/embeddings",
    "/v1/embeddings%3bx=1",
    "/v1/embeddings%00",
    "/v1%00/embeddings",
    "/%00/../v1/embeddings",
    "/v1/embeddings%23",
    "/v1/embeddings%3f",
    "/v1/embeddings?",
    "/v1/embeddings?x=1",
    "/v1/%65mbeddings",
    "/v1/embedding%73",
    "/v1/embeddings%",
    "/v1/%zz/embeddings",
    "/v1/%e9/embeddings",
    "/v1/%c3%a9/embeddings",
    "/V1/embeddings",
    "/v1/embeddings.",
    "/v1/embeddings%20",
];

/// The value of `key` in `Cache-Status`.
fn key_in(head: &str) -> Option<String> {
    let (_, rest) = head.split_once("; key=\"")?;
    rest.split('"').next().map(Into::into)
}

#[tokio::test]
async fn what_is_keyed_is_what_is_forwarded_in_every_spelling_of_a_path() {
    let stage = Stage::start().await;
    let body = question("which path?").to_string();
    let mut key_of_target: HashMap<String, String> = HashMap::new();
    let mut path_of_key: HashMap<String, String> = HashMap::new();
    for spelling in SPELLINGS.iter().chain(&["/v1/embeddings#fragment", "/v1/\u{e9}/embeddings"]) {
        let before = stage.upstream.calls();
        let fields = "cache-server-reuse: new\r\nconnection: close\r\n";
        let told = stage.tell(post(spelling, fields, &body)).await.text();
        if told.starts_with("HTTP/1.1 400 ") {
            assert_eq!(stage.upstream.calls(), before, "{spelling}");
            continue;
        }
        let asked = stage.targets().split_off(before);
        assert_eq!(asked.len(), 1, "{spelling}: {told}");
        let (target, Some(key)) = (asked[0].clone(), key_in(&told)) else {
            assert!(told.contains("; detail=not-a-model-route"), "{spelling}: {told}");
            continue;
        };
        let path = target.split('?').next().expect("a path").to_owned();
        assert!(!path.contains("/../") && !path.contains('\\'), "{spelling} as {path}");
        let one = key_of_target.entry(target.clone()).or_insert_with(|| key.clone());
        assert_eq!(*one, key, "{spelling}: {target} has two keys");
        let one = path_of_key.entry(key).or_insert_with(|| path.clone());
        assert_eq!(*one, path, "{spelling} shares a key with another path");
    }
    assert!(path_of_key.len() >= 8, "only {path_of_key:?} were keyed");
    stage.assert_well().await;
}

#[tokio::test]
async fn a_target_that_no_url_may_hold_is_refused() {
    let stage = Stage::start().await;
    for target in ["v1/embeddings", "?x", "#", "/x<", "/x>", "/x\"y z", "/\0", "/\u{1}", ""] {
        let told = stage
            .tell(format!("GET {target} HTTP/1.1\r\nhost: cache\r\nconnection: close\r\n\r\n"))
            .await;
        assert_eq!(told.statuses(), [400], "{target:?}: {}", told.text());
        assert_eq!(stage.upstream.calls(), 0, "{target:?}: {:?}", stage.targets());
    }
    let latin = b"GET /caf\xe9 HTTP/1.1\r\nhost: cache\r\nconnection: close\r\n\r\n";
    assert_eq!(stage.tell(latin).await.statuses(), [400]);
    stage.assert_well().await;
}

#[tokio::test]
async fn a_host_that_is_not_ours_reaches_no_upstream_and_no_key() {
    let stage = Stage::start().await;
    let body = question("which host?").to_string();
    let own = stage.upstream.url().trim_start_matches("http://").to_owned();
    for (number, host) in
        ["cache", "evil.example", "169.254.169.254", "localhost:1", "[::1]:8080", "EVIL.example."]
            .into_iter()
            .enumerate()
    {
        let length = body.len();
        let fields = "x-forwarded-host: evil.example\r\nforwarded: host=evil.example";
        let told = stage
            .tell(format!(
                "POST {EMBEDDINGS} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\nconnection: close\r\n\
                 content-length: {length}\r\n\r\n{body}"
            ))
            .await
            .text();
        let expected = if number == 0 { "; stored" } else { "; hit" };
        assert!(told.contains(expected), "{host}: {told}");
    }
    let [asked] = &stage.upstream.requests()[..] else { panic!("{:?}", stage.targets()) };
    assert_eq!(asked.fields("host"), [own]);
    stage.assert_well().await;
}
