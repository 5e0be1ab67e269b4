//! A key whose fetch failed is not fetched again at once, and twice as late with each failure in a
//! row: who asks meanwhile gets a stale entry, waits a moment, or is told the failure again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use black_box_tests::plain;
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::{self, Gate};
use black_box_tests::wire::{self, Wire};
use black_box_tests::{Answer, Reply, Server, Setup, Upstream, eventually};
use futures_util::future::join_all;
use http::Method;
use tokio::net::TcpSocket;

/// The least waits after a first failure and those that follow, a little less for clocks that
/// count in milliseconds.
const WAITS: [Duration; 4] = [
    Duration::from_millis(98),
    Duration::from_millis(198),
    Duration::from_millis(398),
    Duration::from_millis(798),
];

/// The number of a call, and what it answers.
type Says = fn(usize) -> Vec<u8>;

/// Nothing at all.
fn nothing() -> Vec<u8> {
    Vec::new()
}

/// Half of what it declares.
fn cut() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n{\"object\":".to_vec()
}

fn good() -> Vec<u8> {
    let fields = "content-type: application/json\r\nconnection: close\r\n";
    wire::answer("200 OK", fields, &embedding(0.25).to_string())
}

/// An upstream that notes when it was asked.
async fn upstream(says: Says) -> (Arc<Mutex<Vec<Instant>>>, Wire) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&asked);
    let wire = Wire::start(move |_| {
        let mut times = times.lock().expect("the times");
        times.push(Instant::now());
        says(times.len() - 1)
    });
    (asked, wire.await)
}

fn in_front_of(url: &str, more: &str) -> Setup {
    let upstream = format!("[[upstream]]\nname = \"frail\"\nurl = \"{url}\"\nprefix = \"/\"\n");
    Setup::default().config(&(upstream + more))
}

/// What is stored is stale a moment later, and good for this only.
fn stale_for(while_revalidate: &str, if_error: &str) -> String {
    format!(
        "[[route]]\nfresh_for = \"1ms\"\nstale_while_revalidate = \"{while_revalidate}\"\n\
         stale_if_error = \"{if_error}\""
    )
}

async fn ask(server: &Server, input: &str) -> Answer {
    server.client().ask(EMBEDDINGS, &question(input)).await
}

/// Asks until the refusal says when to come back: from then on a long back-off holds.
async fn told_to_wait(server: &Server, calls: impl Fn() -> usize) -> Answer {
    eventually("a failure with Retry-After", || async {
        let before = calls();
        let answer = ask(server, "failing").await;
        assert_eq!(answer.status, 502, "{answer:?}");
        let is_told = answer.retry_after_s().is_some();
        assert!(!is_told || calls() == before, "who is told to wait costs no call");
        is_told.then_some(answer)
    })
    .await
}

/// That the calls were as far apart as the failures in a row have it.
fn assert_apart(asked: &[Instant], case: &str) {
    for (pair, wait) in asked.windows(2).zip(WAITS) {
        let apart = pair[1] - pair[0];
        assert!(apart >= wait, "{case}: {apart:?}, not {wait:?}");
    }
}

#[tokio::test]
async fn callers_who_keep_asking_cause_only_the_calls_that_the_back_off_allows() {
    for (case, says) in [("nothing", (|_| nothing()) as Says), ("a cut answer", |_| cut())] {
        let (asked, upstream) = upstream(says).await;
        let server = Server::start(in_front_of(&upstream.url(), "")).await;
        eventually("five calls", || async {
            let answers = join_all((0..3).map(|_| ask(&server, "failing"))).await;
            for answer in answers {
                assert_eq!(answer.status, 502, "{case}: {answer:?}");
                assert_eq!(answer.json()["code"], "upstream-broken", "{case}");
            }
            (upstream.calls() >= 5).then_some(())
        })
        .await;
        assert_apart(&asked.lock().expect("the times")[..5], case);
    }
}

#[tokio::test]
async fn a_refused_connection_is_not_tried_again_at_once() {
    // Bound and never listening: nobody else can take the port meanwhile.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let url = format!("http://{}", socket.local_addr().expect("an address"));
    let server = Server::start(in_front_of(&url, "")).await;
    let series = "cache_server_upstream_exchanges_total{upstream=\"frail\",end=\"unreachable\"}";
    let begun = Instant::now();
    let tried = eventually("four tries", || async {
        let answer = ask(&server, "failing").await;
        assert_eq!(answer.status, 502, "{answer:?}");
        assert_eq!(answer.json()["code"], "upstream-unreachable");
        let tried = server.metric(series).await;
        (tried >= 4.0).then_some(tried)
    })
    .await;
    let least: Duration = WAITS[..3].iter().sum();
    assert!(begun.elapsed() >= least, "{tried} tries in {:?}", begun.elapsed());
}

#[tokio::test]
async fn within_a_long_one_callers_are_told_the_failure_again_and_when_to_come_back() {
    let (_, upstream) = upstream(|_| nothing()).await;
    let server = Server::start(in_front_of(&upstream.url(), "")).await;
    let told = told_to_wait(&server, || upstream.calls()).await;
    assert_eq!(told.field("content-type"), "application/problem+json");
    assert_eq!(told.json()["code"], "upstream-broken");
    assert!(told.retry_after_s().is_some_and(|wait_s| (1..=5).contains(&wait_s)), "{told:?}");
    // At least three failures before the first wait that is too long to be waited out.
    assert!(upstream.calls() >= 3, "{}", upstream.calls());
}

#[tokio::test]
async fn within_a_short_one_all_who_ask_wait_for_one_call_and_get_its_answer() {
    let (asked, upstream) = upstream(|call| if call == 0 { nothing() } else { good() }).await;
    let server = Server::start(in_front_of(&upstream.url(), "")).await;
    let (client, failing) = (server.client(), question("failing"));
    assert_eq!(client.ask(EMBEDDINGS, &failing).await.status, 502);
    for answer in join_all((0..20).map(|_| client.ask(EMBEDDINGS, &failing))).await {
        assert_eq!((answer.status.as_u16(), answer.json()), (200, embedding(0.25)));
    }
    assert_apart(&asked.lock().expect("the times"), "the second call");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_stale_entry_answers_at_once_and_says_why() {
    let (_, upstream) = upstream(|call| if call == 0 { good() } else { nothing() }).await;
    let server = Server::start(in_front_of(&upstream.url(), &stale_for("0s", "1h"))).await;
    assert_eq!(ask(&server, "failing").await.status, 200);
    let held = eventually("a stale answer in a back-off", || async {
        let before = upstream.calls();
        let answer = ask(&server, "failing").await;
        let said = answer.cache_status();
        assert_eq!((answer.status.as_u16(), answer.json()), (200, embedding(0.25)), "{said}");
        let is_held = said.ends_with("; detail=back-off");
        assert!(!is_held || upstream.calls() == before, "it costs no call");
        is_held.then_some(answer)
    })
    .await;
    let said = held.cache_status();
    assert!(said.starts_with("cache-server; hit; ttl=-"), "{said}");
    assert!(upstream.calls() > 1, "a call has failed");
}

#[tokio::test]
async fn other_keys_are_fetched_meanwhile() {
    let upstream =
        Wire::start(|request| match String::from_utf8_lossy(&request.body).contains("failing") {
            true => nothing(),
            false => good(),
        })
        .await;
    let server = Server::start(in_front_of(&upstream.url(), "")).await;
    told_to_wait(&server, || upstream.calls()).await;
    let other = ask(&server, "another").await;
    assert_eq!((other.status.as_u16(), other.json()), (200, embedding(0.25)));
}

#[tokio::test]
async fn a_success_ends_the_row() {
    // Three failures, a success that is not stored, a failure, a success.
    let (_, upstream) = upstream(|call| match call {
        0..=2 | 4 => nothing(),
        _ => wire::answer("200 OK", "connection: close\r\n", "well"),
    })
    .await;
    let server = Server::start(in_front_of(&upstream.url(), "")).await;
    eventually("a success", || async {
        (server.client().get("/page").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(upstream.calls(), 4);
    assert_eq!(server.client().get("/page").await.status, 502);
    let next = server.client().get("/page").await;
    assert_eq!((next.status.as_u16(), plain::text(&next)), (200, "well"), "a first, short wait");
    assert_eq!(upstream.calls(), 6);
}

#[tokio::test]
async fn fetches_that_fail_together_are_one_failure() {
    let gate = Arc::new(Gate::closed());
    let (holds, calls) = (Arc::clone(&gate), AtomicUsize::new(0));
    let upstream = Upstream::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0..5 => {
            let (live, reply) = Reply::live("text/plain");
            live.send(upstream::cut()).expect("it is read");
            reply.held_by(&holds)
        }
        _ => Reply::bytes("well"),
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    // Whoever wants it afresh waits for nobody.
    let afresh = || plain::ask(&client, Method::GET, "/page", &[("cache-control", "no-cache")]);
    let (answers, ()) = tokio::join!(join_all((0..5).map(|_| afresh())), async {
        let asked = || async { (upstream.calls() == 5).then_some(()) };
        eventually("all five fetch", asked).await;
        gate.open();
    });
    assert!(answers.iter().all(|answer| answer.status == 502), "{answers:?}");
    let next = client.get("/page").await;
    assert_eq!((next.status.as_u16(), plain::text(&next)), (200, "well"), "a first, short wait");
}

#[tokio::test]
async fn no_wait_is_longer_than_failure_backoff_max_and_zero_is_none() {
    for (longest, least) in [("0s", Duration::ZERO), ("200ms", WAITS[1])] {
        let (asked, upstream) = upstream(|_| nothing()).await;
        let bound =
            format!("[cache]\ndisk_bytes_max = \"64MiB\"\nfailure_backoff_max = \"{longest}\"");
        let server = Server::start(in_front_of(&upstream.url(), &bound)).await;
        for count in 1..=6 {
            // A wait so short is waited out, however many failures there were.
            let answer = ask(&server, "failing").await;
            assert_eq!((answer.status.as_u16(), answer.retry_after_s()), (502, None), "{longest}");
            assert_eq!(upstream.calls(), count, "{longest}: each is tried");
        }
        let asked = asked.lock().expect("the times");
        let last = asked[5] - asked[4];
        assert!(last >= least, "{longest}: {last:?}");
    }
}

#[tokio::test]
async fn errors_that_the_upstream_answers_with_are_passed_on_each_time() {
    let upstream = Upstream::start(|_| Reply::bytes("its own words").status(500)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for count in 1..=6 {
        let answer = ask(&server, "failing").await;
        assert_eq!((answer.status.as_u16(), plain::text(&answer)), (500, "its own words"));
        assert_eq!((answer.retry_after_s(), upstream.calls()), (None, count));
    }
}

#[tokio::test]
async fn a_refresh_that_fails_is_tried_again_no_more_often_than_the_back_off_allows() {
    let failures: [(&str, Says); 2] = [
        ("500", |call| match call {
            0 => good(),
            _ => wire::answer("500 Internal Server Error", "connection: close\r\n", "no"),
        }),
        ("nothing", |call| if call == 0 { good() } else { nothing() }),
    ];
    for (case, says) in failures {
        let (asked, upstream) = upstream(says).await;
        let server = Server::start(in_front_of(&upstream.url(), &stale_for("1h", "0s"))).await;
        eventually("four refreshes", || async {
            let answer = ask(&server, "failing").await;
            assert_eq!((answer.status.as_u16(), answer.json()), (200, embedding(0.25)), "{case}");
            (upstream.calls() >= 5).then_some(())
        })
        .await;
        assert_apart(&asked.lock().expect("the times")[1..5], case);
        let held = "cache_server_refreshes_total{why=\"stale\",outcome=\"held\"}";
        assert!(server.metric(held).await > 0.0, "{case}: others were not begun");
    }
}

#[tokio::test]
async fn an_error_whose_body_nobody_reads_holds_the_next_refresh_back_too() {
    const CHUNKED: &str = "HTTP/1.1 500 Internal Server Error\r\ntransfer-encoding: chunked\r\n\
                           connection: close\r\n\r\n2\r\nno\r\n0\r\n\r\n";
    let says: Says = |call| match call {
        0 => wire::answer("200 OK", "connection: close\r\n", "page"),
        _ => CHUNKED.into(),
    };
    let (asked, upstream) = upstream(says).await;
    let route = stale_for("1h", "0s") + "\nendpoint = \"http\"\nobey_upstream = false";
    let server = Server::start(in_front_of(&upstream.url(), &route)).await;
    eventually("four refreshes", || async {
        assert_eq!(plain::text(&server.client().get("/page").await), "page");
        (upstream.calls() >= 5).then_some(())
    })
    .await;
    assert_apart(&asked.lock().expect("the times")[1..5], "chunked");
}

#[tokio::test]
async fn a_refresh_of_which_nothing_is_kept_holds_the_next_one_back_too() {
    let says: Says = |call| match call {
        0 => good(),
        // A list without vectors.
        _ => wire::answer(
            "200 OK",
            "content-type: application/json\r\nconnection: close\r\n",
            r#"{"object":"list"}"#,
        ),
    };
    let (asked, upstream) = upstream(says).await;
    let server = Server::start(in_front_of(&upstream.url(), &stale_for("1h", "0s"))).await;
    eventually("four refreshes", || async {
        assert_eq!(ask(&server, "changed").await.json(), embedding(0.25));
        (upstream.calls() >= 5).then_some(())
    })
    .await;
    assert_apart(&asked.lock().expect("the times")[1..5], "not stored");
}
