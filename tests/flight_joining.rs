//! Whoever asks for what is being fetched joins in: at any moment of the answer they get its
//! beginning at once and the rest as it comes, and the upstream is asked once.

use std::sync::Arc;

use black_box_tests::{Answer, ByHand, Client, Form, PATIENCE, Reading, Server};
use bytes::Bytes;
use futures_util::future::join_all;

/// How the callers of one flight connect.
#[derive(Clone, Copy, Debug)]
enum Over {
    /// HTTP/1.1, a connection each.
    Http1,
    /// HTTP/2, all on one connection.
    Http2,
    /// The one and the other by turns.
    Both,
}

/// Gives each caller its client.
struct Clients {
    over: Over,
    given: usize,
    http1: Client,
    http2: Client,
}

impl Clients {
    fn of(server: &Server, over: Over) -> Clients {
        let (http1, http2) = (server.client(), Client::h2c(&server.address));
        Clients { over, given: 0, http1, http2 }
    }

    fn next(&mut self) -> Client {
        self.given += 1;
        match self.over {
            Over::Http1 => self.http1.clone(),
            Over::Http2 => self.http2.clone(),
            Over::Both if self.given.is_multiple_of(2) => self.http1.clone(),
            Over::Both => self.http2.clone(),
        }
    }
}

fn assert_collapsed(head: &Answer, case: &str) {
    let status = head.cache_status();
    assert!(status.contains("fwd=miss") && status.contains("; collapsed"), "{case}: {status}");
}

/// One answer, given piece by piece; somebody joins before each piece, and before the end.
async fn join_at_each_piece(form: &Form, over: Over) {
    let case = format!("{} over {over:?}", form.name);
    let upstream = ByHand::start().await;
    let server = Server::start(upstream.setup()).await;
    let mut clients = Clients::of(&server, over);

    let leader = tokio::spawn(Reading::of(form.ask(&clients.next(), 0)));
    let mut asked = upstream.asked().await;
    let early = tokio::spawn(Reading::of(form.ask(&clients.next(), 0)));
    server.misses_looked_up(2).await;
    asked.send(form.head()).await;
    let mut readers = vec![leader.await.expect("a head"), early.await.expect("a head")];
    assert_collapsed(&readers[1].head, &case);

    for (index, piece) in form.pieces.iter().enumerate() {
        readers.push(joined(form, &clients.next(), index, &case).await);
        asked.send(form.piece(index)).await;
        for reader in &mut readers {
            reader.expect(piece).await;
        }
    }
    if form.in_chunks {
        readers.push(joined(form, &clients.next(), form.pieces.len(), &case).await);
    }
    asked.send(form.end()).await;
    for reader in readers {
        assert_eq!(reader.rest().await.expect("a clean end"), "", "{case}");
    }

    let hit = Answer::of(form.ask(&clients.next(), 0)).await;
    assert!(hit.is_hit(), "{case}: {}", hit.cache_status());
    assert_eq!((hit.body, upstream.calls()), (form.whole(), 1), "{case}");
}

/// Joins when so many pieces have come, and reads them while no further one comes.
async fn joined(form: &Form, client: &Client, pieces: usize, case: &str) -> Reading {
    let mut reader = Reading::of(form.ask(client, 0)).await;
    assert_collapsed(&reader.head, case);
    let length = if form.in_chunks { String::new() } else { form.whole().len().to_string() };
    assert_eq!(reader.head.field("content-length"), length, "{case}");
    reader.expect(&form.first(pieces)).await;
    reader
}

#[tokio::test]
async fn a_follower_joins_at_each_piece_and_gets_the_beginning_at_once_and_the_rest_live() {
    for form in Form::all() {
        join_at_each_piece(&form, Over::Http1).await;
    }
}

#[tokio::test]
async fn over_http_2_a_follower_joins_at_each_piece_beside_the_leader() {
    for form in Form::all() {
        join_at_each_piece(&form, Over::Http2).await;
    }
}

#[tokio::test]
async fn followers_of_both_versions_of_http_read_one_answer() {
    for form in [Form::stream(), Form::page(false)] {
        join_at_each_piece(&form, Over::Both).await;
    }
}

/// Callers who come while many pieces rush by, and around the end: whether they join or find what
/// was stored is nobody's to say, but each gets the same.
async fn join_in_a_rush(mut form: Form, over: Over) {
    const PIECES: usize = 300;
    let case = format!("{} over {over:?}", form.name);
    form.pieces = (0..PIECES).map(|number| Bytes::from(format!("data: {number}\n\n"))).collect();
    let whole = form.whole();
    let upstream = ByHand::start().await;
    let server = Arc::new(Server::start(upstream.setup()).await);
    let mut clients = Clients::of(&server, over);
    let mut callers = vec![tokio::spawn(Answer::of(form.ask(&clients.next(), 0)))];

    let mut asked = upstream.asked().await;
    asked.send(form.head()).await;
    for index in 0..PIECES {
        asked.send(form.piece(index)).await;
        if index % 5 == 0 || index + 10 > PIECES {
            callers.push(tokio::spawn(Answer::of(form.ask(&clients.next(), 0))));
        }
        tokio::task::yield_now().await;
    }
    callers.push(tokio::spawn(Answer::of(form.ask(&clients.next(), 0))));
    asked.send(form.end()).await;
    for _ in 0..20 {
        callers.push(tokio::spawn(Answer::of(form.ask(&clients.next(), 0))));
        tokio::task::yield_now().await;
    }

    let answers = tokio::time::timeout(PATIENCE, join_all(callers)).await.expect("all in time");
    for answer in answers {
        let answer = answer.expect("an answer");
        assert!(answer.body == whole, "{case}: {} bytes", answer.body.len());
    }
    assert_eq!(upstream.calls(), 1, "{case}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_joins_while_pieces_rush_by_misses_none_and_asks_nobody() {
    for over in [Over::Http1, Over::Http2] {
        for form in [Form::feed(), Form::page(false)] {
            join_in_a_rush(form, over).await;
        }
    }
}
