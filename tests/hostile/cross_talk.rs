//! Upstreams that say more than they were asked: what is behind an answer is never given to the
//! next request on that connection.

use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::wire::answer;
use black_box_tests::{PATIENCE, Raw, Server, Setup};
use tokio::net::TcpListener;

use super::{FILES, Stage, good_answer};

/// What nobody must get.
const POISON: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n\"poison\"";

/// An answer of the upstream's with something behind it.
fn followed_by(behind: &str) -> Vec<u8> {
    [&good_answer(), behind.as_bytes()].concat()
}

impl Stage {
    /// The upstream puts these bytes behind each of its answers.
    async fn assert_nobody_gets(&self, behind: &str) {
        self.upstream_says(followed_by(behind));
        let before = self.upstream.calls();
        for number in 0..5 {
            for path in [EMBEDDINGS, FILES] {
                let asks = question(&format!("{behind:?} {number}"));
                let answer = self.server.client().ask(path, &asks).await;
                assert_eq!(answer.json(), embedding(0.25), "{behind:?} on {path}");
            }
        }
        assert_eq!(self.upstream.calls(), before + 10, "{behind:?}: one request each");
    }
}

#[tokio::test]
async fn a_second_answer_where_one_was_asked_for_reaches_nobody() {
    let stage = Stage::start().await;
    stage.assert_nobody_gets(POISON).await;
    stage.assert_nobody_gets(&POISON.repeat(100)).await;
    stage.assert_well().await;
}

#[tokio::test]
async fn garbage_behind_an_answer_reaches_nobody() {
    let stage = Stage::start().await;
    for behind in ["garbage", "\r\n", "\0", "HTTP/1.1 ", "0\r\n\r\n", "HTTP/1.1 100 Go on\r\n\r\n"]
    {
        stage.assert_nobody_gets(behind).await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_body_longer_than_it_says_is_cut_where_it_says() {
    let stage = Stage::start().await;
    stage.assert_nobody_gets(&embedding(0.75).to_string()).await;
    stage.assert_nobody_gets(&"x".repeat(4 << 20)).await;
    stage.assert_well().await;
}

#[tokio::test]
async fn a_body_where_there_must_be_none_reaches_nobody() {
    let stage = Stage::start().await;
    for (status, method) in [(204, "POST"), (304, "POST"), (200, "HEAD")] {
        let length = POISON.len();
        stage.upstream_says(format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{POISON}"
        ));
        for path in [EMBEDDINGS, FILES] {
            for _ in 0..3 {
                let before = stage.upstream.calls();
                let fields = "host: cache\r\nconnection: close\r\ncontent-length: 2";
                let told =
                    stage.tell(format!("{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n{{}}")).await;
                assert_eq!(told.statuses(), [status], "{path}: {}", told.text());
                assert!(!told.text().contains("poison"), "{status} {path}: {}", told.text());
                assert_eq!(stage.upstream.calls(), before + 1, "{status} {path} is not stored");
            }
        }
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn what_an_upstream_says_on_an_idle_connection_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = Server::start(Setup::default().argument("--upstream").argument(&url)).await;
    for path in [EMBEDDINGS, FILES] {
        let accepted = || async {
            let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
            Raw::of(accepted.expect("a connection in time").expect("a connection").0)
        };
        let ask = |input: &str| {
            let (client, asks) = (server.client(), question(input));
            tokio::spawn(async move { client.ask(path, &asks).await })
        };
        let first = ask("first");
        let mut upstream = accepted().await;
        upstream.head().await;
        upstream.exactly(question("first").to_string().len()).await;
        upstream.send(good_answer()).await;
        assert_eq!(first.await.expect("an answer").json(), embedding(0.25));

        // Nobody has asked for this.
        upstream.send(POISON).await;
        let second = ask("second");
        let mut fresh = accepted().await;
        fresh.head().await;
        fresh.exactly(question("second").to_string().len()).await;
        let other = embedding(0.5).to_string();
        let fields = "content-type: application/json\r\nconnection: close\r\n";
        fresh.send(answer("200 OK", fields, &other)).await;
        assert_eq!(second.await.expect("an answer").json(), embedding(0.5), "{path}");
    }
}
