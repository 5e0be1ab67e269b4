//! Hostile input, a named test each. Whatever comes from a caller or from an upstream: the server
//! stays alive and right, the upstream sees well-formed requests alone and never more than were
//! made, and nothing hostile is given to anyone else.

mod absurd_bodies;
mod bad_heads;
mod big_heads;
mod broken_bodies;
mod connection_fields;
mod cross_talk;
mod endless_upstreams;
mod framing;
mod fuzz;
mod http2;
mod lying_upstreams;
mod odd_answers;
mod slow_callers;
mod targets;
mod unread_bodies;

use std::sync::{Arc, Mutex};

use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::wire::answer;
use black_box_tests::{Raw, Server, Setup, Wire, WireRequest};
use tokio::net::TcpListener;

/// Where everything passes through.
const FILES: &str = "/v1/files";

/// One path that is cached and one that is passed through.
const PATHS: [&str; 2] = [EMBEDDINGS, FILES];

/// A request that must never be seen as one: it stands where a body is, or behind an end.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: cache\r\n\r\n";

/// What a body says that asks whether all is well.
const WELL: &str = "Is all well?";

/// An answer to any question on [`EMBEDDINGS`].
fn good_answer() -> Vec<u8> {
    answer("200 OK", "content-type: application/json\r\n", &embedding(0.25).to_string())
}

/// A host that is named somewhere, and that nobody must connect to.
struct Elsewhere(TcpListener);

impl Elsewhere {
    async fn start() -> Elsewhere {
        Elsewhere(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    fn authority(&self) -> String {
        self.0.local_addr().expect("an address").to_string()
    }

    fn assert_left_alone(self) {
        let listener = self.0.into_std().expect("a listener");
        let nobody = listener.accept().expect_err("nobody connects elsewhere");
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
    }
}

/// A server in front of an upstream that is watched byte by byte.
struct Stage {
    upstream: Wire,
    server: Server,
    /// What the upstream says to all who do not ask whether all is well.
    script: Arc<Mutex<Vec<u8>>>,
}

impl Stage {
    /// In front of an upstream that gives every request [`good_answer`] until it is told to say
    /// something else.
    async fn start() -> Stage {
        Stage::bounded("").await
    }

    /// The same, with these lines in `[server]`.
    async fn bounded(limits: &str) -> Stage {
        let script = Arc::new(Mutex::new(good_answer()));
        let says_so = Arc::clone(&script);
        let upstream = Wire::start(move |request| {
            let asks = says(&request.body, WELL);
            if asks { good_answer() } else { says_so.lock().expect("the script").clone() }
        });
        let stage = Stage::in_front_of(upstream.await, &format!("[server]\n{limits}")).await;
        Stage { script, ..stage }
    }

    /// From now on the upstream answers with these bytes.
    fn upstream_says(&self, bytes: impl Into<Vec<u8>>) {
        *self.script.lock().expect("the script") = bytes.into();
    }

    async fn in_front_of(upstream: Wire, config: &str) -> Stage {
        let setup = Setup::default().argument("--upstream").argument(&upstream.url());
        let server = Server::start(setup.config(config)).await;
        Stage { server, upstream, script: Arc::default() }
    }

    async fn connect(&self) -> Raw {
        Raw::open(&self.server.address).await
    }

    /// Tells the server these bytes on a connection of their own.
    async fn tell(&self, bytes: impl AsRef<[u8]>) -> Told {
        tell(&self.server, bytes).await
    }

    /// The targets that the upstream has been asked for.
    fn targets(&self) -> Vec<String> {
        self.upstream.requests().iter().map(WireRequest::target).collect()
    }

    /// The server answers, stores and gives again; and all that the upstream ever got from it
    /// was well-formed.
    async fn assert_well(&self) {
        let asks = question(&format!("{WELL} After {} requests?", self.upstream.calls()));
        let first = self.server.client().ask(EMBEDDINGS, &asks).await;
        assert_eq!(first.json(), embedding(0.25), "{}", first.cache_status());
        let again = self.server.client().ask(EMBEDDINGS, &asks).await;
        assert_eq!(again.json(), embedding(0.25));
        assert!(again.is_hit(), "{}, then {}", first.cache_status(), again.cache_status());
        let body = asks.to_string();
        let asked = |request: &&WireRequest| request.body == body.as_bytes();
        assert_eq!(self.upstream.requests().iter().filter(asked).count(), 1);
        for request in self.upstream.requests() {
            let head = String::from_utf8_lossy(&request.head);
            assert_eq!(request.fault(), None, "{head}");
            assert!(!head.contains("/smuggled"), "{head}");
        }
    }
}

/// Sends these bytes on a connection of their own, and reads until the server closes it.
async fn tell(server: &Server, bytes: impl AsRef<[u8]>) -> Told {
    let mut caller = Raw::open(&server.address).await;
    // It may close before it has read all.
    let _ = caller.try_send(bytes).await;
    Told(caller.rest().await)
}

/// Everything that a connection was told before it was closed.
struct Told(Vec<u8>);

impl Told {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// The statuses of its answers, in order.
    fn statuses(&self) -> Vec<u16> {
        let text = self.text();
        let answers = text.split("HTTP/1.1 ").skip(1);
        answers.map(|answer| answer[..3].parse().expect("a status")).collect()
    }

    /// There is one answer, and it is an error of this code in the form of RFC 9457.
    fn assert_problem(&self, status: u16, code: &str, case: &str) {
        let text = self.text();
        assert_eq!(self.statuses(), [status], "{case}: {text}");
        assert!(text.contains("content-type: application/problem+json"), "{case}: {text}");
        assert!(text.contains(&format!("\"code\":\"{code}\"")), "{case}: {text}");
        assert!(text.contains(&format!("cache-status: cache-server; detail={code}")), "{case}");
    }
}

fn says(bytes: &[u8], words: &str) -> bool {
    bytes.windows(words.len()).any(|window| window == words.as_bytes())
}

/// A POST with this body, its length, and these lines of fields.
fn post(path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: cache\r\n{fields}content-length: {length}\r\n\r\n{body}")
}
