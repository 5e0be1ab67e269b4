//! Requests that come back to where they have been (RFC 9110 section 7.6.3, RFC 8586): refused the
//! first time that they do. Servers in line are none.

use black_box_tests::plain::{ask, text};
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::{Answer, Raw, Reply, Server, Setup, Upstream};
use http::{HeaderMap, Method};
use tokio::net::TcpListener;

/// Two addresses that are free now.
async fn free_addresses() -> (String, String) {
    let bound = async || TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (one, other) = (bound().await, bound().await);
    let address = |listener: TcpListener| listener.local_addr().expect("an address").to_string();
    (address(one), address(other))
}

/// A server at one address whose upstream is at another.
async fn from_to(address: &str, upstream: &str) -> Server {
    let setup = Setup::default().listening_on(address).argument("--upstream");
    Server::start(setup.argument(&format!("http://{upstream}"))).await
}

/// How many requests a server has answered, those of the admin listener left out.
async fn requests(server: &Server) -> u64 {
    let metrics = server.admin_client().get("/metrics").await;
    let counted =
        text(&metrics).lines().filter(|line| line.starts_with("cache_server_requests_total{"));
    counted
        .map(|line| line.rsplit(' ').next().expect("a value").parse::<u64>().expect("a count"))
        .sum()
}

fn values(fields: &HeaderMap, name: &str) -> Vec<String> {
    let values = fields.get_all(name).iter();
    values.map(|value| value.to_str().expect("text").to_owned()).collect()
}

fn assert_refused(answer: &Answer, case: &str) {
    assert_eq!(answer.status, 508, "{case}: {answer:?}");
    let problem = answer.json();
    assert_eq!(problem["code"], "loop", "{case}");
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.contains("upstream's URL") && detail.contains("CDN-Loop"), "{case}: {detail}");
}

/// Asks in every way that a request can take through a server.
async fn all_refused(server: &Server, case: &str) -> u64 {
    let client = server.client();
    let body = question(case);
    let answers = [
        client.get("/page").await,
        client.ask(EMBEDDINGS, &body).await,
        client.ask("/v1/files", &body).await,
        ask(&client, Method::from_bytes(b"PURGE").expect("a method"), "/page", &[]).await,
    ];
    for answer in &answers {
        assert_refused(answer, case);
    }
    let head = ask(&client, Method::HEAD, "/page", &[]).await;
    assert_eq!(head.status, 508, "{case}");
    let mut caller = Raw::open(&server.address).await;
    let socket = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                  sec-websocket-key: x3JJHMbDL1EzLkh9GBhXDw==\r\n";
    caller.send(format!("GET /v1/realtime HTTP/1.1\r\nhost: cache\r\n{socket}\r\n")).await;
    assert!(caller.answer().await.head.starts_with("HTTP/1.1 508 "), "{case}");
    answers.len() as u64 + 2
}

#[tokio::test]
async fn a_server_whose_upstream_is_itself_refuses_what_comes_back() {
    let (address, _) = free_addresses().await;
    let server = from_to(&address, &address).await;
    let asked = all_refused(&server, "itself").await;
    assert_eq!(requests(&server).await, 2 * asked, "each came back once");
}

#[tokio::test]
async fn two_servers_in_a_ring_refuse_what_has_been_around() {
    let (one, other) = free_addresses().await;
    let (one, other) = (from_to(&one, &other).await, from_to(&other, &one).await);
    let asked = all_refused(&one, "a ring").await;
    assert_eq!((requests(&one).await, requests(&other).await), (2 * asked, asked));
}

#[tokio::test]
async fn three_servers_in_line_are_no_loop() {
    let upstream =
        Upstream::start(|_| Reply::json(&embedding(0.25)).with("cache-control", "max-age=600"));
    let upstream = upstream.await;
    let last = Server::start(Setup::in_front_of(&upstream)).await;
    let middle = from_to("127.0.0.1:0", &last.address).await;
    let first = from_to("127.0.0.1:0", &middle.address).await;
    let client = first.client();
    for turn in 0..2 {
        for answer in [client.get("/page").await, client.ask(EMBEDDINGS, &question("x")).await] {
            assert_eq!((answer.status.as_u16(), answer.is_hit()), (200, turn == 1), "{answer:?}");
        }
    }
    assert_eq!(client.ask("/v1/files", &question("x")).await.status, 200);
    assert_eq!(upstream.calls(), 3);
    for received in upstream.received() {
        assert_eq!(values(&received.headers, "via"), ["1.1 cache-server"; 3]);
        let been = values(&received.headers, "cdn-loop");
        let mut ids: Vec<_> = been
            .iter()
            .map(|been| been.strip_prefix("cache-server; id=").expect("an id"))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() == 3 && ids.iter().all(|id| id.len() == 8), "{been:?}");
    }
}

#[tokio::test]
async fn who_forges_where_it_has_been_harms_itself_alone() {
    let upstream = Upstream::start(|_| Reply::bytes("page").with("cache-control", "max-age=600"));
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    client.get("/page").await;
    let ours = values(&upstream.received()[0].headers, "cdn-loop").remove(0);
    let (eight, nine) = (["cache-server"; 8].join(","), ["cache-server"; 9].join(","));
    let (via_eight, via_nine) =
        (["1.1 cache-server"; 8].join(","), ["1.1 cache-server"; 9].join(","));
    let been_here = format!("edge; x=\"a, b\", {ours}");
    for (name, value) in [
        ("cdn-loop", ours.as_str()),
        ("cdn-loop", &been_here),
        ("cdn-loop", &nine),
        ("via", &via_nine),
    ] {
        for path in ["/page", "/other"] {
            let refused = ask(&client, Method::GET, path, &[(name, value)]).await;
            assert_refused(&refused, value);
        }
        let named = [(name, value), ("connection", name)];
        assert_refused(&ask(&client, Method::GET, "/page", &named).await, value);
    }
    assert_eq!(upstream.calls(), 1, "before anything is sent");
    for (number, (name, value)) in [
        ("cdn-loop", "cache-server; id=aaaa2222"),
        ("cdn-loop", eight.as_str()),
        ("cdn-loop", "\"; ,= (\\"),
        ("cdn-loop", ""),
        ("via", via_eight.as_str()),
        ("via", "((( 1.1 cache-server"),
    ]
    .into_iter()
    .enumerate()
    {
        let hit = ask(&client, Method::GET, "/page", &[(name, value)]).await;
        assert!(hit.is_hit(), "{value}: it is in no key: {hit:?}");
        let path = format!("/forged/{number}");
        assert_eq!(ask(&client, Method::GET, &path, &[(name, value)]).await.status, 200, "{value}");
        let received = upstream.received().pop().expect("it was asked").headers;
        assert_eq!(values(&received, name)[0], value, "it stays as it is written");
    }
}

#[tokio::test]
async fn where_callers_share_answers_only_what_we_wrote_of_where_they_have_been_goes_on() {
    let upstream = Upstream::start(|_| Reply::bytes("page").with("cache-control", "max-age=600"));
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream).config(
        "[[route]]\nendpoint = \"http\"\nscope = \"shared\"\nallow_unverified_callers = true",
    ));
    let server = server.await;
    let passed = "edge, cache-server; id=abcdefgh; x=evil";
    let been = [("cdn-loop", passed), ("via", "1.1 edge"), ("x-forwarded-host", "evil")];
    ask(&server.client(), Method::GET, "/page", &been).await;
    let received = upstream.received().pop().expect("it was asked").headers;
    assert_eq!(values(&received, "via"), ["1.1 cache-server"]);
    let members = values(&received, "cdn-loop");
    assert_eq!((members.len(), &*members[0]), (2, "cache-server; id=abcdefgh"));
    assert!(!received.contains_key("x-forwarded-host"));
    let hit = ask(&server.client(), Method::GET, "/page", &[("cdn-loop", "other")]).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
}

#[tokio::test]
async fn a_purge_is_carried_out_wherever_it_has_been() {
    let upstream = Upstream::start(|_| Reply::bytes("page").with("cache-control", "max-age=600"));
    let upstream = upstream.await;
    let setup = Setup::in_front_of(&upstream).config("[server]\npurge_from = [\"127.0.0.0/8\"]");
    let server = Server::start(setup).await;
    let client = server.client();
    client.get("/page").await;
    let ours = values(&upstream.received()[0].headers, "cdn-loop").remove(0);
    let purge = Method::from_bytes(b"PURGE").expect("a method");
    let purged = ask(&client, purge, "/page", &[("cdn-loop", ours.as_str())]).await;
    assert_eq!(purged.status, 200, "{purged:?}");
    assert!(!client.get("/page").await.is_hit());
}
