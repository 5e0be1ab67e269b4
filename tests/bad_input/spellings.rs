//! Spellings of a URL: each is answered with what the upstream says to its very bytes, or shares an
//! entry with those alone that reach the upstream as the same bytes.

use std::collections::HashMap;

use black_box_tests::wire::answer;
use black_box_tests::{Answer, Raw, Server, Wire};
use serde_json::json;

use super::{KEPT, get_raw, in_front_of_wire, is_raw_hit};

/// A server in front of an upstream that answers with the target that it was asked for.
async fn echoing(config: &str) -> (Wire, Server) {
    in_front_of_wire(config, |request| answer("200 OK", KEPT, &request.target())).await
}

/// Asks for each of them past the cache, then twice by way of it: whatever is stored by then, each
/// gets what the upstream says to its own bytes. Gives the bytes that reached the upstream.
async fn assert_told_apart(server: &Server, spellings: &[String]) -> Vec<String> {
    let mut sent_as: HashMap<&String, Option<String>> = HashMap::new();
    for spelling in spellings {
        let mut caller = Raw::open(&server.address).await;
        let answer = get_raw(&mut caller, spelling, "cache-control: no-store\r\n").await;
        let is_answered = answer.head.starts_with("HTTP/1.1 200 ");
        assert!(is_answered || answer.head.starts_with("HTTP/1.1 400 "), "{}", answer.head);
        sent_as.insert(spelling, is_answered.then(|| answer.text()));
    }
    for round in 0..2 {
        for spelling in spellings {
            let mut caller = Raw::open(&server.address).await;
            let answer = get_raw(&mut caller, spelling, "").await;
            let Some(sent) = &sent_as[spelling] else {
                assert!(answer.head.starts_with("HTTP/1.1 400 "), "{spelling}: {}", answer.head);
                continue;
            };
            assert_eq!(&answer.text(), sent, "{spelling} is given another's answer");
            assert!(round == 0 || is_raw_hit(&answer), "{spelling}: {}", answer.head);
        }
    }
    spellings.iter().filter_map(|spelling| sent_as[spelling].clone()).collect()
}

fn owned(spellings: &[&str]) -> Vec<String> {
    spellings.iter().map(|spelling| (*spelling).to_owned()).collect()
}

/// Paths that a careless reader takes for one another.
const PATHS: &[&str] = &[
    "/a/b",
    "/a/b/",
    "/a//b",
    "//a/b",
    "/a/./b",
    "/a/x/../b",
    "/a/%2e/b",
    "/a/%2E/b",
    "/a/x/%2e%2e/b",
    "/a/x/.%2e/b",
    "/a/x/%2E./b",
    "/a/..%2fb",
    "/a/..%2Fb",
    "/a%2fb",
    "/a%2Fb",
    "/a%252fb",
    "/a\\b",
    "/a%5cb",
    "/a%5Cb",
    "/a/b;x=1",
    "/a;x=1/b",
    "/a/b;",
    "/a/b%3bx=1",
    "/a/b.",
    "/a/b%2e",
    "/a./b",
    "/A/b",
    "/a/B",
    "/%61/b",
    "/a/%62",
    "/a/b+",
    "/a/b%20",
    "/a/b%2b",
    "/a/b%2B",
    "/a/b%00",
    "/a/b%00.css",
    "/a/b%0d%0a",
    "/a/b%23",
    "/a/b%3f",
    "/a/b%3F",
    "/a/b%",
    "/a/b%2",
    "/a/b%zz",
    "/a/b%c3%a9",
    "/a/b%C3%A9",
    "/a/b%e9",
    "/a/b%ff%fe",
    "/a/b%c0%af",
    "/a/b~",
    "/a/b%7e",
    "/a/b:",
    "/a/b%3a",
    "/a/b@",
    "/a/b%40",
    "/a/b!",
    "/a/b%21",
    "/a/b'",
    "/a/b%27",
    "/a/b(",
    "/a/b%28",
    "/a/b*",
    "/a/b,",
    "/a/b%2c",
    "/a/b&c=d",
    "/a/b=",
    "/a/b|",
    "/a/b%7c",
    "/a/b^",
    "/a/b`",
    "/a/b{c}",
    "/a/b%7bc%7d",
    "/a/b[c]",
    "/a/b[c",
    "/a/b%5bc%5d",
];

/// The same of queries.
const QUERIES: &[&str] = &[
    "/q?a=x%20y",
    "/q?a=x+y",
    "/q?a=x%2by",
    "/q?a=x%2By",
    "/q?a",
    "/q?a=",
    "/q?a==",
    "/q?a=%3d",
    "/q?=a",
    "/q?=",
    "/q?&",
    "/q?&&",
    "/q?a&",
    "/q?&a",
    "/q?a=1&a=2",
    "/q?a=2&a=1",
    "/q?a=1&A=1",
    "/q?A=1&a=1",
    "/q?a=1;b=2",
    "/q?a=1%3bb=2",
    "/q?a=1?b=2",
    "/q?a=1%3fb=2",
    "/q?a=1/b",
    "/q?a=1%2fb",
    "/q?a=%00",
    "/q?a=\\",
    "/q?a=%5c",
    "/q?a[]=1",
    "/q?a%5b%5d=1",
    "/q?a=%ff",
    "/q?a=%FF",
    "/q?a=%c0%af",
    "/q?a=%",
    "/q?a=%2",
    "/q?a=%zz",
    "/q?a='",
    "/q?a=%27",
    "/q?a=|",
    "/q?a=%7c",
    "/q?a=%26b",
    "/q?a=%61",
    "/q?%61=a",
    "/q?a=a",
    "/q??a=a",
    "/q?/../a",
    "/q?a=../..",
    "/q?a=%2e%2e",
];

#[tokio::test]
async fn a_path_is_answered_with_what_is_said_to_its_very_spelling() {
    let (_upstream, server) = echoing("").await;
    let sent = assert_told_apart(&server, &owned(PATHS)).await;
    assert!(sent.len() >= 60, "only {} are forwarded: {sent:?}", sent.len());
}

#[tokio::test]
async fn a_query_is_answered_with_what_is_said_to_its_very_spelling() {
    let (_upstream, server) = echoing("").await;
    let sent = assert_told_apart(&server, &owned(QUERIES)).await;
    assert!(sent.len() >= 40, "only {} are forwarded: {sent:?}", sent.len());
}

#[tokio::test]
async fn an_empty_query_is_another_url_than_none() {
    let (upstream, server) = echoing("").await;
    assert_told_apart(&server, &owned(&["/page", "/page?"])).await;
    assert_told_apart(&server, &owned(&["/other?", "/other"])).await;
    assert_eq!(upstream.calls(), 8);
}

#[tokio::test]
async fn a_key_in_the_query_hides_no_spelling_of_it() {
    let (_upstream, server) = echoing("").await;
    for spellings in [
        &["/k?key=s1", "/k?k%65y=s1", "/k?%6bey=s1"][..],
        &["/k?key=s2", "/k?key=%73%32", "/k?key=s%32"],
        &["/k?a=1&key=s3", "/k?key=s3&a=1"],
        &["/k?key=s4", "/k?&key=s4", "/k?key=s4&"],
        &["/k?key=s5&key=s6", "/k?key=s6&key=s5"],
        &["/k?key", "/k?key=", "/k"],
        &["/k?a=1&key=s7&z=1", "/k?a=1&z=1&key=s7"],
        &["/k?key=s8", "/k?key=s8&b", "/k?b&key=s8"],
    ] {
        assert_told_apart(&server, &owned(spellings)).await;
    }
}

#[tokio::test]
async fn targets_with_a_host_and_fragments_are_those_that_the_upstream_gets() {
    let (upstream, server) = echoing("").await;
    let sent = assert_told_apart(
        &server,
        &owned(&[
            "/p",
            "http://cache/p",
            "http://CACHE/p",
            "http://other.example/p",
            "http://cache:80/p",
            "/p#",
            "/p#x",
            "/p#?a",
            "/p?#a",
            "/p?a#b",
            "http://cache/p?",
            "http://cache?/p",
            "http://cache",
            "http://cache/",
        ]),
    )
    .await;
    assert!(sent.iter().all(|target| !target.contains('#')), "{sent:?}");
    assert!(upstream.requests().iter().all(|request| request.fault().is_none()));
}

#[tokio::test]
async fn long_urls_that_differ_in_their_last_letter_are_two() {
    let (_upstream, server) = echoing("").await;
    for length in [255, 256, 4095, 4096, 16_000] {
        let long = "x".repeat(length);
        let spellings =
            [format!("/{long}a"), format!("/{long}b"), format!("/?{long}a"), format!("/?{long}b")];
        let sent = assert_told_apart(&server, &spellings).await;
        assert_eq!(sent.len(), 4, "{length}");
    }
}

#[tokio::test]
async fn a_purge_of_a_url_reaches_it_in_the_spelling_in_which_it_is_stored() {
    let (_upstream, server) = echoing("").await;
    for spelling in [
        "/a/%2e/b",
        "/a/x/../b",
        "/a//b",
        "/a\\b",
        "/a%2fb",
        "/a%5cb",
        "/a;x/b",
        "/a/b.",
        "/a?",
        "/a?a=x+y",
        "/a?a=x%20y",
        "/a?b&a",
        "/a?a==",
        "/a??",
        "/a?a[]=1",
        "/a?a=%ff",
        "/a?a='",
        "/a|b",
        "/a/b%00",
        "/a/b%zz",
        "/a?key=s&a=1",
        "/a/{b}",
    ] {
        let mut caller = Raw::open(&server.address).await;
        for _ in 0..2 {
            get_raw(&mut caller, spelling, "").await;
        }
        assert!(is_raw_hit(&get_raw(&mut caller, spelling, "").await), "{spelling}");
        let order = json!({ "urls": [spelling] });
        let answer = Answer::of(server.admin_client().post("/purge", &order)).await;
        assert_eq!(answer.status.as_u16(), 200, "{spelling}: {:?}", answer.body);
        assert!(!is_raw_hit(&get_raw(&mut caller, spelling, "").await), "{spelling} is not purged");
    }
}
