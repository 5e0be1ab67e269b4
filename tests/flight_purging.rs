//! A purge while a fill is under way: once it is acknowledged, nothing that began before it is
//! served to those who ask, whoever ends first. Those on board before get their answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use black_box_tests::plain::text;
use black_box_tests::{
    Answer, ByHand, Client, Form, PATIENCE, Raw, Reading, Reply, Server, Setup, Upstream,
    eventually,
};
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Looks into the cache; behind each that finds nothing alive stands a fill, or joins one.
const LOOKUPS: &str = "cache_server_tier_read_seconds_count{tier=\"memory\"}";

/// The same question with another answer of the same length.
fn newer(form: &Form) -> Form {
    let text = String::from_utf8(form.whole().to_vec()).expect("text");
    let text = text.replace("Hello", "Howdy").replace("same", "next");
    assert_ne!(text.as_bytes(), form.whole(), "{}", form.name);
    let (mut whole, mut newer) = (Bytes::from(text), form.clone());
    for piece in &mut newer.pieces {
        *piece = whole.split_to(piece.len());
    }
    newer
}

/// Orders a purge, and comes back when it is acknowledged.
async fn purge(server: &Server, order: &Value) {
    let answer = Answer::of(server.admin_client().post("/purge", order)).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

/// What an order may name of a fill, whose key is this.
fn orders(form: &Form, turn: usize, key: &str) -> [Value; 5] {
    let is_page = form.name.contains("page");
    let (route, tenant) =
        if is_page { ("http", "anonymous") } else { ("openai.chat_completions", "(unmapped)") };
    [
        json!({ "keys": [key] }),
        json!({ "urls": [form.path(turn)] }),
        json!({ "routes": [route] }),
        json!({ "tenants": [tenant] }),
        json!({ "everything": true }),
    ]
}

/// Who has asked before an order, and what is done meanwhile.
struct OnBoard<'o> {
    leader: JoinHandle<Reading>,
    early: JoinHandle<Reading>,
    order: &'o Value,
    /// Whether somebody asks between the order and the end of the fill.
    asks_meanwhile: bool,
}

async fn all_of(reading: Reading, case: &str) -> Bytes {
    reading.rest().await.unwrap_or_else(|error| panic!("{case}: {error}"))
}

/// A form and the fills of it that are purged.
struct Scene {
    form: Form,
    newer: Form,
    upstream: ByHand,
    server: Server,
    turn: usize,
}

impl Scene {
    async fn of(form: Form) -> Scene {
        let upstream = ByHand::start().await;
        let server = Server::start(upstream.setup()).await;
        Scene { newer: newer(&form), form, upstream, server, turn: 0 }
    }

    async fn ask(&self) -> Answer {
        let asked = Answer::of(self.form.ask(&self.server.client(), self.turn));
        tokio::time::timeout(PATIENCE, asked).await.expect("an answer in time")
    }

    fn reading(&self) -> JoinHandle<Reading> {
        tokio::spawn(Reading::of(self.form.ask(&self.server.client(), self.turn)))
    }

    /// The key of this turn's question, of which nothing is kept afterwards.
    async fn key(&self) -> String {
        self.upstream.says(self.form.answer());
        let key = self.ask().await.cache_status().split('"').nth(1).expect("a key").to_owned();
        purge(&self.server, &json!({ "keys": [key] })).await;
        self.upstream.says_nothing();
        key
    }

    /// A fill is purged when so many pieces have come, or before its head. Somebody asks before
    /// it has ended, or nobody does.
    async fn purged(&self, order: &Value, pieces: Option<usize>, asks_meanwhile: bool) {
        let case = format!("{}, {order}, {pieces:?}, {asks_meanwhile}", self.form.name);
        let lookups = self.server.metric(LOOKUPS).await;
        let leader = self.reading();
        let asked = self.upstream.asked().await;
        let early = self.reading();
        eventually("both have asked", || async {
            (self.server.metric(LOOKUPS).await >= lookups + 2.0).then_some(())
        })
        .await;
        let on_board = OnBoard { leader, early, asks_meanwhile, order };
        match pieces {
            None => self.purged_before_the_head(asked, on_board, &case).await,
            Some(pieces) => self.purged_after(pieces, asked, on_board, &case).await,
        }
        self.is_gone(order, asks_meanwhile, &case).await;
        self.upstream.says_nothing();
    }

    /// The leader gets what it asked for. The follower may have it, or go its own way.
    async fn purged_before_the_head(&self, mut asked: Raw, on_board: OnBoard<'_>, case: &str) {
        purge(&self.server, on_board.order).await;
        self.upstream.says(self.newer.answer());
        if on_board.asks_meanwhile {
            self.leads_anew(case).await;
        }
        asked.send(self.form.answer()).await;
        let (old, new) = (self.form.whole(), self.newer.whole());
        let leaders = all_of(on_board.leader.await.expect("a head"), case).await;
        assert!(leaders == old, "{case}: {} bytes", leaders.len());
        let early = all_of(on_board.early.await.expect("a head"), case).await;
        assert!(early == old || early == new, "{case}: {} bytes", early.len());
    }

    /// All on board get the rest.
    async fn purged_after(&self, pieces: usize, mut asked: Raw, on_board: OnBoard<'_>, case: &str) {
        let form = &self.form;
        asked.send(form.head()).await;
        for index in 0..pieces {
            asked.send(form.piece(index)).await;
        }
        let OnBoard { leader, early, asks_meanwhile, order } = on_board;
        let mut readers = [leader.await.expect("a head"), early.await.expect("a head")];
        for reader in &mut readers {
            reader.expect(&form.first(pieces)).await;
        }
        purge(&self.server, order).await;
        self.upstream.says(self.newer.answer());
        if asks_meanwhile {
            self.leads_anew(case).await;
        }
        for index in pieces..form.pieces.len() {
            asked.send(form.piece(index)).await;
        }
        asked.send(form.end()).await;
        for reader in readers {
            let rest = all_of(reader, case).await;
            let seen = form.first(pieces).len();
            assert!(rest == form.whole().slice(seen..), "{case}: {} bytes", rest.len());
        }
    }

    /// Who asks now does not join what is under way.
    async fn leads_anew(&self, case: &str) {
        let calls = self.upstream.calls();
        let next = self.ask().await;
        let is_led_anew = !next.is_hit() && self.upstream.calls() == calls + 1;
        assert!(is_led_anew && next.body == self.newer.whole(), "{case}: {}", next.cache_status());
    }

    /// What was purged is served no more, but as stale where the order was soft and nobody has
    /// asked for a newer one.
    async fn is_gone(&self, order: &Value, is_replaced: bool, case: &str) {
        let is_soft = order["soft"] == true;
        for _ in 0..3 {
            let answer = self.ask().await;
            let is_new = answer.body == self.newer.whole();
            let is_stale = answer.cache_status().contains("hit; ttl=-");
            assert!(is_new || (is_soft && is_stale), "{case}: {}", answer.cache_status());
            assert!(!is_replaced || answer.is_hit() && is_new, "{case}: {}", answer.cache_status());
        }
        eventually("the newer answer", || async {
            let answer = self.ask().await;
            (answer.is_hit() && answer.body == self.newer.whole()).then_some(())
        })
        .await;
    }

    /// Each order, hard and soft, at each of these moments, with somebody asking meanwhile or
    /// with nobody by turns; and once more after a kill.
    async fn purged_in_every_way(mut self, moments: &[Option<usize>]) {
        for number in 0..5 {
            for soft in [false, true] {
                for (index, moment) in moments.iter().enumerate() {
                    let asks_meanwhile = (number + usize::from(soft) + index) % 2 == 0;
                    let key = self.key().await;
                    let mut order = orders(&self.form, self.turn, &key)[number].clone();
                    order["soft"] = soft.into();
                    self.purged(&order, *moment, asks_meanwhile).await;
                    self.turn += 1;
                }
            }
        }
        let turns = self.turn;
        self.server.kill().await;
        self.server = self.server.start_again().await;
        self.upstream.says(self.newer.answer());
        for turn in 0..turns {
            self.turn = turn;
            let answer = self.ask().await;
            let is_new = answer.body == self.newer.whole();
            assert!(is_new, "{}, {turn}: {}", self.form.name, answer.cache_status());
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_purged_under_way_is_for_those_on_board_alone() {
    let form = Form::stream();
    let moments = [None, Some(0), Some(1), Some(form.pieces.len())];
    Scene::of(form).await.purged_in_every_way(&moments).await;
}

#[tokio::test]
async fn an_answer_with_a_length_that_is_purged_under_way_is_for_those_on_board_alone() {
    let form = Form::json(false);
    let moments = [None, Some(form.pieces.len() - 1)];
    Scene::of(form).await.purged_in_every_way(&moments).await;
}

#[tokio::test]
async fn a_page_that_is_purged_under_way_is_for_those_on_board_alone() {
    let form = Form::page(true);
    let moments = [None, Some(1), Some(form.pieces.len())];
    Scene::of(form).await.purged_in_every_way(&moments).await;
}

/// An upstream whose answers say which version there was when it was asked, three times over.
/// Every other version's answers end only when two more orders have been acknowledged.
async fn versioned(version: &Arc<AtomicUsize>, acknowledged: &watch::Sender<usize>) -> Upstream {
    let (version, acknowledged) = (Arc::clone(version), acknowledged.clone());
    Upstream::start(move |_| {
        let version = version.load(Ordering::SeqCst);
        let mut acknowledged = acknowledged.subscribe();
        let (pieces, reply) = Reply::live("text/event-stream");
        tokio::spawn(async move {
            let _ = pieces.send(Ok(format!("{version} {version} ").into()));
            if version % 2 == 1 {
                let _ = acknowledged.wait_for(|newest| *newest >= version + 2).await;
            }
            let _ = pieces.send(Ok(format!("{version} ").into()));
        });
        reply.with("cache-control", "max-age=600")
    })
    .await
}

/// Asks once, and sees that nothing is older than it may be. Says whether it was a hit.
async fn asks(client: Client, oldest: Arc<AtomicUsize>) -> bool {
    let oldest = oldest.load(Ordering::SeqCst);
    let answer = client.get("/page").await;
    let (text, status) = (text(&answer), answer.cache_status());
    let said: Vec<usize> =
        text.split_whitespace().map(|said| said.parse().expect("a number")).collect();
    assert_eq!(said, vec![said[0]; 3], "an answer is of one piece");
    assert!(said[0] >= oldest, "{} after order {oldest}: {status}", said[0]);
    answer.is_hit()
}

/// Asks until all is over.
async fn asks_on(client: Client, oldest: Arc<AtomicUsize>, is_over: Arc<AtomicBool>) -> usize {
    let mut hits = 0;
    while !is_over.load(Ordering::SeqCst) {
        hits += usize::from(asks(client.clone(), oldest.clone()).await);
    }
    hits
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_after_a_purge_was_acknowledged_gets_nothing_older_whatever_is_under_way() {
    const PURGES: usize = 200;
    let version = Arc::new(AtomicUsize::new(0));
    let acknowledged = watch::Sender::new(0);
    let upstream = versioned(&version, &acknowledged).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let (oldest, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let client = server.client();
    let ask = |_| tokio::spawn(asks_on(client.clone(), oldest.clone(), is_over.clone()));
    let callers: Vec<_> = (0..4).map(ask).collect();
    let mut others = Vec::new();
    let urls = json!({ "urls": ["/page"] });
    let orders = [urls, json!({ "routes": ["http"] }), json!({ "everything": true })];
    for number in 1..=PURGES {
        let mut order = orders[number % 3].clone();
        order["soft"] = (number % 2 == 0).into();
        version.store(number, Ordering::SeqCst);
        purge(&server, &order).await;
        oldest.store(number, Ordering::SeqCst);
        others.push(tokio::spawn(asks(client.clone(), oldest.clone())));
        acknowledged.send_replace(number);
    }
    is_over.store(true, Ordering::SeqCst);
    acknowledged.send_replace(usize::MAX);
    for other in join_all(others).await {
        other.expect("nothing older");
    }
    let hits = join_all(callers).await.into_iter().map(|hits| hits.expect("nothing older"));
    assert!(hits.sum::<usize>() > 0, "something was stored between the orders");
}
