//! Connections of random bytes, from pure noise to requests with a few bytes wrong: the server
//! lives on, and whatever it makes of them, the upstream sees well-formed requests alone.

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use super::Stage;

/// Connections that are open at once, and how often.
const TOGETHER: usize = 25;
const TIMES: u32 = 12;

/// What a connection is closed by that waits for more.
const SOON: &str = "header_timeout = \"200ms\"\nidle_timeout = \"200ms\"\nbody_timeout = \"200ms\"";

const GET: &str = "GET /v1/models?x=%41 HTTP/1.1\r\nhost: cache\r\naccept: */*\r\nx-a: b\r\n\r\n";
const POST: &str = "POST /v1/embeddings HTTP/1.1\r\nHost: cache\r\nauthorization: Bearer sk\r\n\
                    content-length: 13\r\n\r\n{\"input\":\"x\"}";
const CHUNKED: &str = "POST /v1/files HTTP/1.1\r\nhost: cache\r\ntransfer-encoding: chunked\r\n\
                       connection: x-a, close\r\nx-a: b\r\n\r\n5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n";

/// Pieces that matter to a reader of HTTP more often than chance has them.
const WORDS: [&str; 28] = [
    "GET ",
    "POST ",
    "CONNECT ",
    "/",
    "/v1/embeddings",
    "http://cache/",
    "*",
    "..",
    "%2e",
    "?",
    "#",
    "\\",
    " HTTP/1.1",
    " HTTP/1.0",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "host: cache\r\n",
    "content-length: 5\r\n",
    "content-length: ",
    "transfer-encoding: chunked\r\n",
    "connection: close\r\n",
    "expect: 100-continue\r\n",
    "upgrade: h2c\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "{}",
];

fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop::sample::select(b"\r\n \t:;,/%0Af\0\x7f\xe9".to_vec())]
}

/// A lawful exchange with some bytes replaced, taken out, put in, or cut off.
fn any_edited() -> impl Strategy<Value = Vec<u8>> {
    let requests = prop::collection::vec(prop::sample::select(vec![GET, POST, CHUNKED]), 1..3);
    let edits = prop::collection::vec((any::<usize>(), 0..4_u8, any_byte()), 0..5);
    (requests, edits).prop_map(|(requests, edits)| {
        let mut bytes = requests.concat().into_bytes();
        for (place, kind, byte) in edits {
            let at = place % bytes.len().max(1);
            match kind {
                _ if bytes.is_empty() => bytes.push(byte),
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}

fn any_connection() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..30);
    prop_oneof![
        1 => prop::collection::vec(any_byte(), 0..300),
        2 => words.prop_map(|words| words.concat().into_bytes()),
        3 => any_edited(),
    ]
}

#[test]
fn connections_of_random_bytes_reach_the_upstream_as_well_formed_requests_or_not_at_all() {
    let runtime = Runtime::new().expect("a runtime");
    let stage = runtime.block_on(Stage::bounded(SOON));
    let config = Config { cases: TIMES, failure_persistence: None, ..Config::default() };
    let connections = prop::collection::vec(any_connection(), TOGETHER);
    let outcome = TestRunner::new(config).run(&connections, |connections| {
        runtime.block_on(async {
            join_all(connections.into_iter().map(|bytes| stage.tell(bytes))).await;
        });
        for request in stage.upstream.requests() {
            let head = String::from_utf8_lossy(&request.head).into_owned();
            prop_assert!(request.fault().is_none(), "{:?} in {head}", request.fault());
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}\n{}", stage.server.log());
    }
    runtime.block_on(stage.assert_well());
    assert!(stage.upstream.calls() > 20, "only {} requests were of use", stage.upstream.calls());
    assert!(!stage.server.log().contains("panicked"), "{}", stage.server.log());
}
