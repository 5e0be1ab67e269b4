//! An upstream that a test plays by hand: each request is handed to the test, which says in its
//! own time what comes back, byte by byte. And questions whose answers come in pieces.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::sample::{CHAT, chat, events, recorded};
use crate::{Client, PATIENCE, Raw, Setup};

/// A running upstream that answers nothing of its own accord. A request has a connection of its
/// own: answers must say `connection: close`, as those of a [`Form`] do.
#[derive(Debug)]
pub struct ByHand {
    url: String,
    shared: Arc<Shared>,
    asked: tokio::sync::Mutex<mpsc::UnboundedReceiver<Raw>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicUsize,
    script: Mutex<Option<Vec<u8>>>,
}

impl ByHand {
    /// Starts one on any free port.
    pub async fn start() -> ByHand {
        ByHand::start_on(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    /// Starts one on a listener that the test has bound.
    ///
    /// # Panics
    /// When the listener has no address.
    #[must_use]
    pub fn start_on(listener: TcpListener) -> ByHand {
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, asked) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(hand_over(stream, Arc::clone(&seen), sender.clone()));
            }
        });
        ByHand { url, shared, asked: asked.into(), task }
    }

    /// A server in front of it.
    #[must_use]
    pub fn setup(&self) -> Setup {
        Setup::default().argument("--upstream").argument(&self.url)
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How often it was asked; only whole requests count.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// The next request's connection, to be answered. Dropping it closes it.
    ///
    /// # Panics
    /// When nobody asks.
    pub async fn asked(&self) -> Raw {
        let mut asked = self.asked.lock().await;
        tokio::time::timeout(PATIENCE, asked.recv())
            .await
            .expect("a request in time")
            .expect("the upstream runs")
    }

    /// From now on, whoever asks is told these bytes at once.
    ///
    /// # Panics
    /// Never: nothing else panics under the lock.
    pub fn says(&self, bytes: impl Into<Vec<u8>>) {
        *self.shared.script.lock().expect("the script") = Some(bytes.into());
    }

    /// From now on, the test answers again.
    ///
    /// # Panics
    /// Never: nothing else panics under the lock.
    pub fn says_nothing(&self) {
        *self.shared.script.lock().expect("the script") = None;
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads a request, and answers it or hands it over.
async fn hand_over(stream: TcpStream, shared: Arc<Shared>, sender: mpsc::UnboundedSender<Raw>) {
    let mut connection = Raw::of(stream);
    let head = connection.head_if_any().await;
    let Some((head, begun)) = split_head(&head) else { return };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
    if begun < length {
        connection.exactly(length - begun).await;
    }
    shared.calls.fetch_add(1, Ordering::SeqCst);
    let script = shared.script.lock().expect("the script").clone();
    match script {
        Some(bytes) => {
            // The server may have hung up by now; that is its test.
            let _ = connection.try_send(bytes).await;
        }
        None => {
            let _ = sender.send(connection);
        }
    }
}

/// The head in lower case, and how many bytes came behind it.
fn split_head(bytes: &[u8]) -> Option<(String, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    Some((head, bytes.len() - end - 4))
}

/// A question, and the answer to it in pieces.
#[derive(Clone, Debug)]
pub struct Form {
    /// What it is called in messages.
    pub name: &'static str,
    /// The answer's body.
    pub pieces: Vec<Bytes>,
    /// Whether it is sent in chunks; else it says its length.
    pub in_chunks: bool,
    path: &'static str,
    /// What is posted; nothing is a GET.
    posts: Option<Value>,
    fields: &'static str,
}

const SSE: &str = "content-type: text/event-stream\r\n";
const JSON: &str = "content-type: application/json\r\n";
const PAGE: &str = "content-type: text/html\r\ncache-control: max-age=600\r\n";
const FEED: &str = "content-type: text/event-stream\r\ncache-control: max-age=600\r\n";

impl Form {
    /// A chat whose answer is an event stream.
    #[must_use]
    pub fn stream() -> Form {
        let pieces = events(&recorded("openai-chat-completions/whole.sse"));
        let (path, posts) = (CHAT, Some(chat(true)));
        Form { name: "a streamed chat", pieces, in_chunks: true, path, posts, fields: SSE }
    }

    /// A chat whose answer is JSON.
    #[must_use]
    pub fn json(in_chunks: bool) -> Form {
        let name = if in_chunks { "a chat in chunks" } else { "a chat with a length" };
        let pieces = quarters(&recorded("openai-chat-completions/whole.json"));
        Form { name, pieces, in_chunks, path: CHAT, posts: Some(chat(false)), fields: JSON }
    }

    /// A page that may be kept.
    #[must_use]
    pub fn page(in_chunks: bool) -> Form {
        let name = if in_chunks { "a page in chunks" } else { "a page with a length" };
        let pieces = quarters(&Bytes::from("<p>The same for all.</p>".repeat(20)));
        Form { name, pieces, in_chunks, path: "/page", posts: None, fields: PAGE }
    }

    /// An event stream that is got and may be kept.
    #[must_use]
    pub fn feed() -> Form {
        let pieces = (0..4).map(|number| Bytes::from(format!("data: {number}\n\n"))).collect();
        Form { name: "a feed", pieces, in_chunks: true, path: "/feed", posts: None, fields: FEED }
    }

    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Form> {
        let pages = [Form::page(true), Form::page(false), Form::feed()];
        [Form::stream(), Form::json(true), Form::json(false)].into_iter().chain(pages).collect()
    }

    /// The question; each turn is another one.
    pub fn ask(&self, client: &Client, turn: usize) -> RequestBuilder {
        let path = self.path(turn);
        match &self.posts {
            Some(body) => client.post(&path, body),
            None => client.request(Method::GET, &path),
        }
    }

    /// Where it is asked.
    #[must_use]
    pub fn path(&self, turn: usize) -> String {
        format!("{}?turn={turn}", self.path)
    }

    /// The whole body.
    #[must_use]
    pub fn whole(&self) -> Bytes {
        self.first(self.pieces.len())
    }

    /// The body as far as it has come by so many pieces.
    #[must_use]
    pub fn first(&self, count: usize) -> Bytes {
        self.pieces[..count].concat().into()
    }

    /// The answer's head on the wire.
    #[must_use]
    pub fn head(&self) -> String {
        let framing = match self.in_chunks {
            true => "transfer-encoding: chunked".to_owned(),
            false => format!("content-length: {}", self.whole().len()),
        };
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{}{framing}\r\n\r\n", self.fields)
    }

    /// A piece on the wire.
    #[must_use]
    pub fn piece(&self, index: usize) -> Vec<u8> {
        let piece = &self.pieces[index];
        if self.in_chunks { chunk(piece) } else { piece.to_vec() }
    }

    /// The end on the wire.
    #[must_use]
    pub fn end(&self) -> &'static str {
        if self.in_chunks { "0\r\n\r\n" } else { "" }
    }

    /// The whole answer on the wire.
    #[must_use]
    pub fn answer(&self) -> Vec<u8> {
        let pieces = (0..self.pieces.len()).flat_map(|index| self.piece(index));
        let head = self.head().into_bytes();
        head.into_iter().chain(pieces).chain(self.end().bytes()).collect()
    }
}

/// A chunk on the wire.
#[must_use]
pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn quarters(body: &Bytes) -> Vec<Bytes> {
    let cut = |quarter: usize| body.len() * quarter / 4;
    (0..4).map(|quarter| body.slice(cut(quarter)..cut(quarter + 1))).collect()
}
