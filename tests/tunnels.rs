//! WebSockets are tunnelled: byte for byte, counted, bounded, and never by another name.

use black_box_tests::{PATIENCE, Raw, Server, Setup, eventually};
use tokio::net::TcpListener;

const ASKS: &str = "GET /v1/realtime?model=m HTTP/1.1\r\nhost: cache\r\nconnection: upgrade\r\n\
                    upgrade: websocket\r\nsec-websocket-key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\
                    sec-websocket-version: 13\r\nauthorization: Bearer sk-test\r\n\r\n";
const GRANTS: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                      upgrade: websocket\r\nsec-websocket-accept: HSmrc0sMlYUkAGmm5OPpG2HaGWk=\r\n\r\n";

/// An upstream of raw connections, and a server in front of it.
async fn raw_upstream(more: &str) -> (TcpListener, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let setup = Setup::default().argument("--upstream").argument(&url).config(more);
    (listener, Server::start(setup).await)
}

async fn accepted(listener: &TcpListener) -> Raw {
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    Raw::of(accepted.expect("a connection in time").expect("a connection").0)
}

/// A tunnel with both of its ends.
async fn tunnel(listener: &TcpListener, server: &Server) -> (Raw, Raw) {
    let mut caller = Raw::open(&server.address).await;
    caller.send(ASKS).await;
    let mut upstream = accepted(listener).await;
    upstream.head().await;
    upstream.send(GRANTS).await;
    assert!(caller.head().await.starts_with("HTTP/1.1 101"));
    (caller, upstream)
}

#[tokio::test]
async fn a_websocket_carries_bytes_both_ways_and_its_end() {
    let (listener, server) = raw_upstream("").await;
    let mut caller = Raw::open(&server.address).await;
    // The first frame may come with the request's head.
    caller.send(format!("{ASKS}early")).await;
    let mut upstream = accepted(&listener).await;
    let asked = upstream.head().await.to_ascii_lowercase();
    for line in [
        "get /v1/realtime?model=m http/1.1",
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-key: x3jjhmbdl1ezlkh9gbhxdw==",
        "authorization: bearer sk-test",
    ] {
        assert!(asked.contains(line), "{line} is missing in {asked}");
    }
    upstream.send(format!("{GRANTS}welcome")).await;
    let granted = caller.head().await.to_ascii_lowercase();
    for line in [
        "http/1.1 101",
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: hsmrc0smlyukagmm5oppg2hagwk=",
        "detail=tunnel",
    ] {
        assert!(granted.contains(line), "{line} is missing in {granted}");
    }
    assert_eq!(caller.exactly(7).await, b"welcome");
    assert_eq!(upstream.exactly(5).await, b"early");
    caller.send(vec![1; 100_000]).await;
    assert_eq!(upstream.exactly(100_000).await, vec![1; 100_000]);
    upstream.send([0, 255, 10]).await;
    assert_eq!(caller.exactly(3).await, [0, 255, 10]);
    assert_eq!(server.stats().await["tunnels_open"], 1);
    drop(upstream);
    assert!(caller.rest().await.is_empty(), "the upstream's end is the caller's");
    drop(caller);
    eventually("no tunnel", || async { (server.stats().await["tunnels_open"] == 0).then_some(()) })
        .await;
}

#[tokio::test]
async fn what_the_upstream_says_instead_of_a_websocket_is_passed_on() {
    let (listener, server) = raw_upstream("").await;
    let mut caller = Raw::open(&server.address).await;
    caller.send(ASKS).await;
    let mut upstream = accepted(&listener).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno").await;
    let answer = caller.answer().await;
    assert!(answer.head.starts_with("HTTP/1.1 401"), "{}", answer.head);
    assert_eq!(answer.text(), "no");
    assert_eq!(server.stats().await["tunnels_open"], 0);
}

#[tokio::test]
async fn a_credential_that_is_refused_a_websocket_is_suspended_until_it_is_granted_one() {
    let (listener, server) = raw_upstream("").await;
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let mut caller = Raw::open(&server.address).await;
        caller.send(ASKS).await;
        let mut upstream = accepted(&listener).await;
        upstream.head().await;
        let refuses = "connection: close\r\ncontent-length: 0\r\n\r\n";
        upstream.send(format!("HTTP/1.1 {status}\r\n{refuses}")).await;
        caller.answer().await;
        assert_eq!(server.stats().await["suspensions"], 1, "{status}");
        tunnel(&listener, &server).await;
        assert_eq!(server.stats().await["suspensions"], 0, "{status}");
    }
}

#[tokio::test]
async fn one_tunnel_too_many_is_refused_until_another_ends() {
    let (listener, server) = raw_upstream("[server]\ntunnels_max = 1").await;
    let (first, upstream) = tunnel(&listener, &server).await;
    let mut second = Raw::open(&server.address).await;
    second.send(ASKS).await;
    let refused = second.answer().await;
    assert!(refused.head.starts_with("HTTP/1.1 503"), "{}", refused.head);
    assert!(refused.text().contains("tunnels-full"), "{}", refused.text());
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: 1"), "{}", refused.head);
    drop((first, upstream));
    eventually("room for another", || async {
        (server.stats().await["tunnels_open"] == 0).then_some(())
    })
    .await;
    tunnel(&listener, &server).await;
}

#[tokio::test]
async fn a_tunnel_keeps_its_places_among_all_connections_and_those_of_its_address() {
    let (listener, server) = raw_upstream("[server]\nconnections_per_address_max = 1").await;
    let (caller, upstream) = tunnel(&listener, &server).await;
    let mut second = Raw::open(&server.address).await;
    second.send("GET /x HTTP/1.1\r\nhost: cache\r\n\r\n").await;
    let refused = second.answer().await;
    assert!(refused.text().contains("connections-per-address"), "{}", refused.head);
    assert_eq!(server.stats().await["connections_open"], 1);
    drop((caller, upstream));
    eventually("no connection", || async {
        (server.stats().await["connections_open"] == 0).then_some(())
    })
    .await;
    tunnel(&listener, &server).await;
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_is_closed() {
    let (listener, server) = raw_upstream("[server]\ntunnel_idle_timeout = \"200ms\"").await;
    let (mut caller, mut upstream) = tunnel(&listener, &server).await;
    assert!(caller.rest().await.is_empty());
    assert!(upstream.rest().await.is_empty());
}

#[tokio::test]
async fn a_tunnel_outlives_the_bound_on_idle_connections() {
    let more = "[server]\nidle_timeout = \"50ms\"\nheader_timeout = \"50ms\"";
    let (listener, server) = raw_upstream(more).await;
    let (mut caller, mut upstream) = tunnel(&listener, &server).await;
    for turn in 0..2_u8 {
        let quiet = std::time::Instant::now();
        eventually("four times the bound", || async {
            (quiet.elapsed().as_millis() > 200).then_some(())
        })
        .await;
        caller.send([turn]).await;
        assert_eq!(upstream.exactly(1).await, [turn]);
    }
}

#[tokio::test]
async fn draining_waits_for_a_tunnel_and_cuts_it_at_the_deadline() {
    let (listener, mut server) = raw_upstream("[server]\ndrain_timeout = \"300ms\"").await;
    let (mut caller, mut upstream) = tunnel(&listener, &server).await;
    server.signal(libc::SIGTERM);
    eventually("draining", || async { server.log().contains("draining").then_some(()) }).await;
    caller.send("still here").await;
    assert_eq!(upstream.exactly(10).await, b"still here");
    assert!(server.ended().await.success());
    assert!(caller.rest().await.is_empty());
}

#[tokio::test]
async fn no_other_protocol_is_tunnelled() {
    for upgrade in ["h2c", "TLS/1.0", "websocketx", "HTTP/2.0"] {
        let (listener, server) = raw_upstream("").await;
        let mut caller = Raw::open(&server.address).await;
        let asks = ASKS.replace("upgrade: websocket", &format!("upgrade: {upgrade}"));
        caller.send(asks).await;
        let mut upstream = accepted(&listener).await;
        let asked = upstream.head().await.to_ascii_lowercase();
        assert!(!asked.contains("upgrade"), "{upgrade} reached the upstream: {asked}");
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(caller.answer().await.text(), "ok");
    }
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_no_tunnel() {
    let (listener, server) = raw_upstream("").await;
    let mut caller = Raw::open(&server.address).await;
    caller.send("GET /x HTTP/1.1\r\nhost: cache\r\n\r\n").await;
    let mut upstream = accepted(&listener).await;
    upstream.head().await;
    upstream.send(GRANTS).await;
    let answer = caller.answer().await;
    assert!(answer.head.starts_with("HTTP/1.1 502"), "{}", answer.head);
    assert_eq!(server.stats().await["tunnels_open"], 0);
}
