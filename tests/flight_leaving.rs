//! A flight belongs to no caller's connection: whoever leaves, and whenever, the others get the
//! whole answer, it is fetched once, and it is stored.

use black_box_tests::{
    Answer, ByHand, Client, Form, Raw, Reading, Server, Setup, eventually, sample,
};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use http::Method;
use tokio::task::JoinHandle;

/// When the leader leaves.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The upstream has the request, and has said nothing.
    Unanswered,
    /// The head has come, and so many pieces.
    After(usize),
}

/// How it leaves.
#[derive(Clone, Copy, Debug)]
enum By {
    /// It closes its connection of HTTP/1.1.
    Closing,
    /// It closes its connection of HTTP/2.
    ClosingHttp2,
    /// It resets its stream on a connection that others use.
    Reset,
}

/// With a line for each request, so that a test sees who has left.
fn told_of_all(setup: Setup) -> Setup {
    setup.config("[log]\nrequests_per_second_max = 10000")
}

/// How many callers have left so far before their answer's end.
fn left(server: &Server) -> usize {
    server.log().matches("\"cut_off_by\":\"caller\"").count()
}

async fn has_left(server: &Server, before: usize) {
    eventually("one more has left", || async { (left(server) > before).then_some(()) }).await;
}

/// A caller of one form, and a leader of it who leaves.
struct Scene<'s> {
    form: &'s Form,
    server: &'s Server,
    upstream: &'s ByHand,
    /// On whose connection the leader resets its stream.
    shared: Client,
    turn: usize,
}

impl Scene<'_> {
    /// The leader leaves at this moment, in this way. One follower was there before, one comes
    /// after.
    async fn leader_leaves(&mut self, moment: Moment, by: By) {
        let Scene { form, server, .. } = *self;
        let case = format!("{}, {moment:?}, by {by:?}", form.name);
        let (calls, lookups) = (self.upstream.calls(), server.lookups_in_vain().await);
        let leading = match by {
            By::Closing => server.client(),
            By::ClosingHttp2 => Client::h2c(&server.address),
            By::Reset => self.shared.clone(),
        };
        let leader = tokio::spawn(Reading::of(form.ask(&leading, self.turn)));
        drop(leading);
        let mut asked = self.upstream.asked().await;
        let early = tokio::spawn(Reading::of(form.ask(&self.shared, self.turn)));
        let both = || async { (server.lookups_in_vain().await >= lookups + 2.0).then_some(()) };
        eventually("both have asked", both).await;

        let given = self.leave(&mut asked, leader, moment).await;
        let late = tokio::spawn(Reading::of(form.ask(&self.shared, self.turn)));
        if given.is_none() {
            asked.send(form.head()).await;
        }
        let given = given.unwrap_or(0);
        let mut followers = [early.await.expect("a head"), late.await.expect("a head")];
        for follower in &mut followers {
            let status = follower.head.cache_status();
            assert!(status.contains("; collapsed"), "{case}: {status}");
            follower.expect(&form.first(given)).await;
        }
        for index in given..form.pieces.len() {
            asked.send(form.piece(index)).await;
            for follower in &mut followers {
                follower.expect(&form.pieces[index]).await;
            }
        }
        asked.send(form.end()).await;
        for follower in followers {
            assert_eq!(follower.rest().await.expect("a clean end"), "", "{case}");
        }
        let hit = Answer::of(form.ask(&self.shared, self.turn)).await;
        assert!(hit.is_hit(), "{case}: {}", hit.cache_status());
        assert_eq!((hit.body, self.upstream.calls()), (form.whole(), calls + 1), "{case}");
        self.turn += 1;
    }

    /// Answers as far as the moment says, and sees the leader off. Gives how many pieces it has
    /// sent behind the head, if it has sent that.
    async fn leave(
        &self,
        asked: &mut Raw,
        leader: JoinHandle<Reading>,
        moment: Moment,
    ) -> Option<usize> {
        let left_before = left(self.server);
        let Moment::After(pieces) = moment else {
            leader.abort();
            has_left(self.server, left_before).await;
            return None;
        };
        asked.send(self.form.head()).await;
        let mut leader = leader.await.expect("a head");
        for index in 0..pieces {
            asked.send(self.form.piece(index)).await;
            leader.expect(&self.form.pieces[index]).await;
        }
        drop(leader);
        has_left(self.server, left_before).await;
        Some(pieces)
    }
}

/// The leader of this form leaves at every moment.
async fn leader_leaves(form: Form, by: By) {
    let upstream = ByHand::start().await;
    let server = Server::start(told_of_all(upstream.setup())).await;
    let shared = Client::h2c(&server.address);
    let mut scene = Scene { form: &form, server: &server, upstream: &upstream, shared, turn: 0 };
    scene.leader_leaves(Moment::Unanswered, by).await;
    // With a length, who has the last piece has the whole answer.
    let last = if form.in_chunks { form.pieces.len() } else { form.pieces.len() - 1 };
    for pieces in 0..=last {
        scene.leader_leaves(Moment::After(pieces), by).await;
    }
}

#[tokio::test]
async fn a_leader_who_closes_its_connection_at_any_moment_takes_nobody_along() {
    join_all(Form::all().into_iter().map(|form| leader_leaves(form, By::Closing))).await;
}

#[tokio::test]
async fn a_leader_who_closes_its_connection_of_http_2_takes_nobody_along() {
    let forms = [Form::stream(), Form::page(true)];
    join_all(forms.map(|form| leader_leaves(form, By::ClosingHttp2))).await;
}

#[tokio::test]
async fn a_leader_who_resets_its_stream_takes_nobody_on_its_connection_along() {
    join_all(Form::all().into_iter().map(|form| leader_leaves(form, By::Reset))).await;
}

#[tokio::test]
async fn whoever_leaves_before_the_end_of_its_own_request_has_asked_for_nothing() {
    let upstream = ByHand::start().await;
    let server = Server::start(upstream.setup()).await;
    let form = Form::json(false);
    let body = sample::chat(false).to_string();
    let (first_half, _) = body.split_at(body.len() / 2);
    let path = form.path(0);
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: cache\r\nauthorization: Bearer sk-test\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    let reads_it =
        || async { (server.metric("cache_server_buffered_bytes").await > 0.0).then_some(()) };

    let mut after_its_head = Raw::open(&server.address).await;
    after_its_head.send(format!("{head}expect: 100-continue\r\n\r\n")).await;
    assert_eq!(after_its_head.head().await, "HTTP/1.1 100 Continue");
    drop(after_its_head);
    let mut in_its_body = Raw::open(&server.address).await;
    in_its_body.send(format!("{head}\r\n{first_half}")).await;
    eventually("the body is being read", reads_it).await;
    drop(in_its_body);
    idle(&server).await;

    let begun = stream::iter([Ok::<_, std::io::Error>(Bytes::from(first_half.to_owned()))]);
    let half = reqwest::Body::wrap_stream(begun.chain(stream::pending()));
    let over_http2 = Client::h2c(&server.address).request(Method::POST, &path);
    let over_http2 = over_http2.header("content-type", "application/json").body(half);
    let over_http2 = tokio::spawn(over_http2.send());
    eventually("the body is being read", reads_it).await;
    over_http2.abort();
    idle(&server).await;
    assert_eq!(upstream.calls(), 0);

    let whole = tokio::spawn(Answer::of(form.ask(&server.client(), 0)));
    upstream.asked().await.send(form.answer()).await;
    assert_eq!(whole.await.expect("an answer").body, form.whole());
    assert!(Answer::of(form.ask(&server.client(), 0)).await.is_hit());
    assert_eq!(upstream.calls(), 1);
}

/// Waits until nothing is under way and nothing is held.
async fn idle(server: &Server) {
    eventually("nothing is under way", || async {
        let stats = server.stats().await;
        let idle = ["connections_open", "flights_open", "buffered_bytes"];
        idle.iter().all(|name| stats[*name] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_all_have_left_in_the_middle_is_read_to_its_end_and_stored() {
    for form in Form::all() {
        let upstream = ByHand::start().await;
        let server = Server::start(upstream.setup()).await;
        let leader = tokio::spawn(Reading::of(form.ask(&server.client(), 0)));
        let mut asked = upstream.asked().await;
        asked.send(form.head()).await;
        asked.send(form.piece(0)).await;
        let mut readers = [
            leader.await.expect("a head"),
            Reading::of(form.ask(&server.client(), 0)).await,
            Reading::of(form.ask(&Client::h2c(&server.address), 0)).await,
        ];
        for reader in &mut readers {
            reader.expect(&form.pieces[0]).await;
        }
        drop(readers);
        eventually("all have left", || async {
            (server.stats().await["connections_open"] == 0).then_some(())
        })
        .await;
        for index in 1..form.pieces.len() {
            asked.send(form.piece(index)).await;
        }
        asked.send(form.end()).await;
        idle(&server).await;
        let hit = Answer::of(form.ask(&server.client(), 0)).await;
        assert!(hit.is_hit(), "{}: {}", form.name, hit.cache_status());
        assert_eq!((hit.body, upstream.calls()), (form.whole(), 1), "{}", form.name);
    }
}
