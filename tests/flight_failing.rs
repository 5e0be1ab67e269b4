//! An upstream that fails, at whatever boundary, fails everybody who waits for it: with a problem
//! before the head, with a cut after it, and never with a clean end. Nothing is stored, and the
//! next caller has the whole answer.

use black_box_tests::by_hand::chunk;
use black_box_tests::sample::{events, recorded};
use black_box_tests::{Answer, ByHand, Client, Form, Raw, Reading, Server, Setup, eventually};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How far the upstream gets.
struct Boundary {
    name: &'static str,
    /// What it sends, as bytes on the wire.
    sent: Vec<u8>,
    /// What callers see of the body, once the head is whole.
    shown: Option<Bytes>,
}

/// Boundaries that end the answer to this form before its end, whatever ends it.
fn boundaries(form: &Form) -> Vec<Boundary> {
    let head = form.head().into_bytes();
    let in_head = |name, bytes: usize| Boundary { name, sent: head[..bytes].into(), shown: None };
    let mut all = vec![
        in_head("before any byte", 0),
        in_head("in the status line", 10),
        in_head("in a field", 40),
        in_head("before the head's last byte", head.len() - 1),
    ];
    let mut more = |name, count: usize, of_next: &[u8], shown_of_next: usize| {
        let pieces = (0..count).flat_map(|index| form.piece(index));
        let sent = head.iter().copied().chain(pieces).chain(of_next.iter().copied()).collect();
        let mut shown = form.first(count).to_vec();
        shown.extend(form.pieces.get(count).map_or(&[][..], |piece| &piece[..shown_of_next]));
        all.push(Boundary { name, sent, shown: Some(shown.into()) });
    };
    let (next, end) = (form.piece(1), form.pieces.len());
    let (size, half) = (form.pieces[1].len(), form.pieces[1].len() / 2);
    more("after the head", 0, b"", 0);
    more("after a piece", 1, b"", 0);
    if form.in_chunks {
        let line = next.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        more("in the line before a chunk", 1, &next[..1], 0);
        more("in the middle of a chunk", 1, &next[..line + half], half);
        more("before the line's end behind a chunk", 1, &next[..line + size], size);
        more("before the last chunk", end, b"", 0);
        more("in the last chunk", end, b"0\r\n", 0);
    } else {
        let piece = &form.pieces[end - 1];
        more("in the middle of a piece", 1, &next[..half], half);
        more("one byte before the length", end - 1, &piece[..piece.len() - 1], piece.len() - 1);
    }
    all
}

/// What ends the answer.
#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    Reset,
    Silence,
}

/// Callers who wait for one answer: two of HTTP/1.1 and one of HTTP/2.
pub(crate) async fn callers(server: &Server, form: &Form, turn: usize) -> Vec<JoinHandle<Reading>> {
    let lookups = server.lookups_in_vain().await;
    let clients = [server.client(), server.client(), Client::h2c(&server.address)];
    let asks = clients.map(|client| tokio::spawn(Reading::of(form.ask(&client, turn))));
    eventually("all have asked", || async {
        (server.lookups_in_vain().await >= lookups + 3.0).then_some(())
    })
    .await;
    asks.into()
}

/// An error of ours, in the form of RFC 9457.
pub(crate) async fn assert_problem(reading: Reading, case: &str, status: u16) {
    let code = if status == 504 { "upstream-timeout" } else { "upstream-broken" };
    assert_eq!(reading.head.status.as_u16(), status, "{case}");
    assert_eq!(reading.head.field("content-type"), "application/problem+json", "{case}");
    let body = reading.rest().await.expect("a whole problem");
    let problem: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()), "{case}");
}

/// The upstream gets as far as a boundary, and ends so.
async fn fails(
    (server, upstream): (&Server, &ByHand),
    (form, turn): (&Form, usize),
    boundary: Boundary,
    end: End,
) {
    let case = format!("{}, {}, by {end:?}", form.name, boundary.name);
    let (calls, stores) = (upstream.calls(), server.stats().await["stores"].clone());
    let waiting = callers(server, form, turn).await;
    let mut asked = upstream.asked().await;
    asked.send(&boundary.sent).await;
    let ends = |asked: Raw| match end {
        End::Close => None,
        End::Reset => {
            asked.reset();
            None
        }
        End::Silence => Some(asked),
    };
    let _silent;
    if let Some(shown) = &boundary.shown {
        let mut readers = Vec::new();
        for caller in waiting {
            readers.push(caller.await.expect("a head"));
        }
        readers.push(Reading::of(form.ask(&server.client(), turn)).await);
        for reader in &mut readers {
            reader.expect(shown).await;
        }
        _silent = ends(asked);
        for reader in readers {
            assert_eq!(reader.head.status.as_u16(), 200, "{case}");
            assert!(reader.rest().await.is_err(), "{case}: it must not end cleanly");
        }
    } else {
        _silent = ends(asked);
        let status = if matches!(end, End::Silence) { 504 } else { 502 };
        for caller in waiting {
            assert_problem(caller.await.expect("a head"), &case, status).await;
        }
    }
    assert_eq!(upstream.calls(), calls + 1, "{case}: nothing is asked twice");
    assert_eq!(server.stats().await["stores"], stores, "{case}");
    upstream.says(form.answer());
    recovers(server, form, turn, &case).await;
    upstream.says_nothing();
}

/// The next who asks gets a new answer and a whole one; it may take a moment until the upstream
/// is asked again.
pub(crate) async fn recovers(server: &Server, form: &Form, turn: usize, case: &str) {
    let client = server.client();
    let whole = eventually("a whole answer", || async {
        let answer = Answer::of(form.ask(&client, turn)).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert!(!whole.is_hit(), "{case}: {}", whole.cache_status());
    assert!(whole.body == form.whole(), "{case}: {} bytes", whole.body.len());
    let hit = Answer::of(form.ask(&client, turn)).await;
    assert!(hit.is_hit() && hit.body == form.whole(), "{case}: {}", hit.cache_status());
}

/// The upstream fails so at every boundary.
async fn fails_at_every_boundary(end: End) {
    let fails_of = |form: Form| async move {
        let upstream = ByHand::start().await;
        let server = Server::start(upstream.setup()).await;
        for (turn, boundary) in boundaries(&form).into_iter().enumerate() {
            fails((&server, &upstream), (&form, turn), boundary, end).await;
        }
    };
    join_all(Form::all().into_iter().map(fails_of)).await;
}

#[tokio::test]
async fn an_upstream_that_closes_at_any_boundary_fails_all_who_wait_and_nobody_after() {
    fails_at_every_boundary(End::Close).await;
}

#[tokio::test]
async fn an_upstream_that_resets_its_connection_at_any_boundary_fails_all_who_wait() {
    fails_at_every_boundary(End::Reset).await;
}

#[tokio::test]
async fn an_upstream_that_falls_silent_at_any_boundary_fails_all_who_wait_at_the_read_timeout() {
    let falls_silent = |form: Form, boundary: Boundary| async move {
        let upstream = ByHand::start().await;
        let url = upstream.url();
        let mounted = format!("[[upstream]]\nname = \"up\"\nurl = \"{url}\"\nprefix = \"/\"");
        // Long enough for all to join in on a busy machine.
        let setup = Setup::default().config(&format!("{mounted}\nread_timeout = \"4s\""));
        let server = Server::start(setup).await;
        fails((&server, &upstream), (&form, 0), boundary, End::Silence).await;
    };
    let mut falling = Vec::new();
    for form in [Form::stream(), Form::page(true), Form::json(false)] {
        for boundary in boundaries(&form) {
            let is_one = ["in a field", "after the head", "in the middle of a chunk"];
            let is_last = ["before the last chunk", "one byte before the length"];
            if is_one.contains(&boundary.name) || is_last.contains(&boundary.name) {
                falling.push(falls_silent(form.clone(), boundary));
            }
        }
    }
    join_all(falling).await;
}

#[tokio::test]
async fn an_upstream_that_refuses_connections_fails_all_who_ask_and_none_once_it_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let setup = Setup::default().argument("--upstream").argument(&format!("http://{address}"));
    let server = Server::start(setup).await;
    for (turn, form) in Form::all().iter().enumerate() {
        let asks = (0..5).map(|_| Answer::of(form.ask(&server.client(), turn)));
        for answer in join_all(asks).await {
            assert_eq!(answer.status, 502, "{}", form.name);
            assert_eq!(answer.json()["code"], "upstream-unreachable", "{}", form.name);
        }
    }
    let listener = TcpListener::bind(address).await.expect("the same port");
    let upstream = ByHand::start_on(listener);
    for (turn, form) in Form::all().iter().enumerate() {
        upstream.says(form.answer());
        recovers(&server, form, turn, form.name).await;
    }
}

/// Event streams that come to a clean end of HTTP and not to their own.
fn unfinished_streams() -> [(&'static str, Bytes); 3] {
    let whole = recorded("openai-chat-completions/whole.sse");
    let parts = events(&whole);
    let without_done = parts[..parts.len() - 1].concat();
    let in_an_event = whole.slice(..whole.len() - parts[parts.len() - 1].len() - 20);
    let error = recorded("openai-chat-completions/error-event.sse");
    [
        ("without its last event", without_done.into()),
        ("in the middle of an event", in_an_event),
        ("with an error event", error),
    ]
}

#[tokio::test]
async fn a_stream_that_ends_before_its_last_event_reaches_all_as_it_is_and_nobody_after() {
    let form = Form::stream();
    let upstream = ByHand::start().await;
    let server = Server::start(upstream.setup()).await;
    for (turn, (case, body)) in unfinished_streams().into_iter().enumerate() {
        let stores = server.stats().await["stores"].clone();
        let waiting = callers(&server, &form, turn).await;
        let mut asked = upstream.asked().await;
        asked.send(form.head()).await;
        let (first, rest) = body.split_at(body.len() / 2);
        asked.send(chunk(first)).await;
        let mut readers = Vec::new();
        for caller in waiting {
            readers.push(caller.await.expect("a head"));
        }
        readers.push(Reading::of(form.ask(&server.client(), turn)).await);
        for reader in &mut readers {
            reader.expect(first).await;
        }
        asked.send([&chunk(rest), &b"0\r\n\r\n"[..]].concat()).await;
        for reader in readers {
            assert_eq!(reader.rest().await.expect("a clean end"), rest, "{case}");
        }
        assert_eq!(upstream.calls(), 2 * turn + 1, "{case}");
        assert_eq!(server.stats().await["stores"], stores, "{case}");
        upstream.says(form.answer());
        recovers(&server, &form, turn, case).await;
        upstream.says_nothing();
    }
}
