//! The same of an upstream that speaks HTTP/2: an answer is whole when its stream has ended
//! (RFC 9113 section 8.1), and not when the stream, or its connection, has been broken off.

use black_box_tests::frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, answer_block,
};
use black_box_tests::{Client, Form, Frames, PATIENCE, Reading, Server, Setup};
use futures_util::future::join_all;
use tokio::net::TcpListener;

use crate::flight_failing::{assert_problem, callers, recovers};

/// An upstream frame by frame. It has one connection at a time.
struct Peer {
    listener: TcpListener,
    connection: Option<Frames>,
    calls: usize,
}

impl Peer {
    /// A server in front of one.
    async fn with_server() -> (Peer, Server) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let mounted = format!("[[upstream]]\nname = \"up\"\nurl = \"{url}\"\nprefix = \"/\"");
        let setup = Setup::default().config(&format!("{mounted}\nprotocol = \"http2\""));
        (Peer { listener, connection: None, calls: 0 }, Server::start(setup).await)
    }

    /// The stream of the next request, all of whose requests are without a body.
    async fn asked(&mut self) -> u32 {
        loop {
            let Some(connection) = &mut self.connection else {
                let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
                let (stream, _) = accepted.expect("a connection in time").expect("a connection");
                self.connection = Some(Frames::accepted(stream).await);
                continue;
            };
            match connection.next().await {
                None => self.connection = None,
                Some(frame) if frame.kind == HEADERS => {
                    self.calls += 1;
                    return frame.stream;
                }
                Some(_) => {}
            }
        }
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let connection = self.connection.as_mut().expect("a connection");
        connection.send(kind, flags, stream, payload).await.expect("it reads");
    }

    async fn send_head(&mut self, stream: u32, form: &Form, more: &[(&str, &str)]) {
        let is_feed = form.name == Form::feed().name;
        let content_type = if is_feed { "text/event-stream" } else { "text/html" };
        let fields = [("content-type", content_type), ("cache-control", "max-age=600")];
        let block = answer_block(&[&fields, more].concat());
        self.send(HEADERS, END_HEADERS, stream, &block).await;
    }

    /// Answers whoever asks, from now on.
    async fn answer_all(mut self, form: Form) {
        loop {
            let stream = self.asked().await;
            self.send_head(stream, &form, &[]).await;
            self.send(DATA, END_STREAM, stream, &form.whole()).await;
        }
    }
}

/// How an answer is broken off.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// Its stream is reset with this code.
    Reset(u32),
    /// The connection is closed, with word of it.
    GoAway,
    /// The connection is closed without a word.
    Close,
    /// The stream ends before the length that it said.
    Short,
}

const NO_ERROR: u32 = 0;
const BREAKS: [Break; 10] = [
    Break::Reset(NO_ERROR),
    Break::Reset(1),
    Break::Reset(2),
    Break::Reset(5),
    Break::Reset(7),
    Break::Reset(8),
    Break::Reset(11),
    Break::GoAway,
    Break::Close,
    Break::Short,
];

impl Break {
    async fn happen(self, peer: &mut Peer, stream: u32) {
        match self {
            Break::Reset(code) => peer.send(RST_STREAM, 0, stream, &code.to_be_bytes()).await,
            Break::GoAway => {
                // The last stream that was looked at, and INTERNAL_ERROR.
                let says = [stream.to_be_bytes(), 2_u32.to_be_bytes()].concat();
                peer.send(GOAWAY, 0, 0, &says).await;
                peer.connection = None;
            }
            Break::Close => peer.connection = None,
            Break::Short => peer.send(DATA, END_STREAM, stream, b"").await,
        }
    }
}

/// An answer is broken off once so many pieces of it have come; or before its head.
async fn broken_off(form: &Form, pieces: Option<usize>, by: Break) {
    let case = format!("{} after {pieces:?} pieces by {by:?}", form.name);
    let (mut peer, server) = Peer::with_server().await;
    let waiting = callers(&server, form, 0).await;
    let stream = peer.asked().await;
    if let Some(pieces) = pieces {
        let length = form.whole().len() + 1;
        let length = [("content-length", &*length.to_string())];
        let length = if matches!(by, Break::Short) { &length[..] } else { &[] };
        peer.send_head(stream, form, length).await;
        for piece in &form.pieces[..pieces] {
            peer.send(DATA, 0, stream, piece).await;
        }
        let mut readers = Vec::new();
        for caller in waiting {
            readers.push(caller.await.expect("a head"));
        }
        readers.push(Reading::of(form.ask(&Client::h2c(&server.address), 0)).await);
        for reader in &mut readers {
            reader.expect(&form.first(pieces)).await;
        }
        by.happen(&mut peer, stream).await;
        for reader in readers {
            assert_eq!(reader.head.status.as_u16(), 200, "{case}");
            assert!(reader.rest().await.is_err(), "{case}: it must not end cleanly");
        }
    } else {
        by.happen(&mut peer, stream).await;
        for caller in waiting {
            assert_problem(caller.await.expect("a head"), &case, 502).await;
        }
    }
    assert_eq!(server.stats().await["stores"], 0, "{case}");
    assert_eq!(peer.calls, 1, "{case}");
    let answers = tokio::spawn(peer.answer_all(form.clone()));
    recovers(&server, form, 0, &case).await;
    answers.abort();
}

#[tokio::test]
async fn an_answer_that_is_broken_off_before_its_head_is_a_502_for_all_who_wait() {
    let breaks = BREAKS.into_iter().filter(|by| !matches!(by, Break::Short));
    let form = Form::feed();
    join_all(breaks.map(|by| broken_off(&form, None, by))).await;
}

#[tokio::test]
async fn an_answer_that_is_broken_off_in_the_middle_is_cut_for_all_and_not_stored() {
    for form in [Form::feed(), Form::page(true)] {
        for pieces in [0, 2] {
            join_all(BREAKS.map(|by| broken_off(&form, Some(pieces), by))).await;
        }
    }
}

#[tokio::test]
async fn an_answer_all_of_whose_bytes_have_come_and_whose_end_has_not_is_cut_for_all() {
    let form = Form::feed();
    join_all(BREAKS.map(|by| broken_off(&form, Some(form.pieces.len()), by))).await;
}

#[tokio::test]
async fn a_reset_behind_the_end_of_an_answer_takes_nothing_from_it() {
    let form = Form::page(true);
    let (mut peer, server) = Peer::with_server().await;
    let waiting = callers(&server, &form, 0).await;
    let stream = peer.asked().await;
    peer.send_head(stream, &form, &[]).await;
    peer.send(DATA, END_STREAM, stream, &form.whole()).await;
    peer.send(RST_STREAM, 0, stream, &NO_ERROR.to_be_bytes()).await;
    for caller in waiting {
        let caller = caller.await.expect("a head");
        assert_eq!(caller.rest().await.expect("a clean end"), form.whole());
    }
    assert!(server.client().get(&form.path(0)).await.is_hit());
    assert_eq!(peer.calls, 1);
}
