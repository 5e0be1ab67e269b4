//! A fake upstream: a real HTTP server that answers as a test tells it, and remembers what it
//! was asked.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What the upstream was asked.
#[derive(Clone, Debug)]
pub struct Received {
    /// The HTTP version.
    pub version: Version,
    /// The method.
    pub method: Method,
    /// Path and query as they came.
    pub uri: Uri,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// What came after it.
    pub trailers: Option<HeaderMap>,
}

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, io::Error>> + Send>>;

/// What the upstream answers.
pub struct Reply {
    status: StatusCode,
    headers: Vec<(String, String)>,
    pieces: Pieces,
    length: Option<usize>,
    trailers: Option<HeaderMap>,
    held_until: Option<watch::Receiver<bool>>,
}

impl Reply {
    /// 200 with JSON.
    #[must_use]
    pub fn json(body: &Value) -> Reply {
        Reply::bytes(body.to_string().into_bytes()).with("content-type", "application/json")
    }

    /// 200 with these bytes and their length.
    #[must_use]
    pub fn bytes(body: impl Into<Bytes>) -> Reply {
        let body = body.into();
        let length = body.len();
        Reply {
            status: StatusCode::OK,
            headers: Vec::new(),
            pieces: Box::pin(stream::iter([Ok(body)])),
            length: Some(length),
            trailers: None,
            held_until: None,
        }
    }

    /// 200 with an event stream of these events, all at once.
    #[must_use]
    pub fn events(body: impl Into<Bytes>) -> Reply {
        Reply::bytes(body).without_length().with("content-type", "text/event-stream")
    }

    /// 200 with a body that the test sends piece by piece. Dropping the sender ends the body;
    /// [`cut`] breaks it off.
    #[must_use]
    pub fn live(content_type: &str) -> (mpsc::UnboundedSender<Result<Bytes, io::Error>>, Reply) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let pieces = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        let reply = Reply { pieces: Box::pin(pieces), length: None, ..Reply::bytes("") };
        (sender, reply.with("content-type", content_type))
    }

    /// With another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Reply {
        self.status = StatusCode::from_u16(status).expect("a status");
        self
    }

    /// With one more field.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With all fields of a recorded header block, `Name: value` a line.
    #[must_use]
    pub fn with_block(mut self, block: &str) -> Reply {
        for line in block.lines().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').expect("Name: value");
            self.headers.push((name.trim().into(), value.trim().into()));
        }
        self
    }

    /// Declares no length, as streams do: it is sent in chunks.
    #[must_use]
    pub fn without_length(mut self) -> Reply {
        self.length = None;
        self
    }

    /// Declares a length of its own, true or not.
    #[must_use]
    pub fn declaring(mut self, length: usize) -> Reply {
        self.length = Some(length);
        self
    }

    /// With trailers after its body.
    #[must_use]
    pub fn with_trailers(mut self, trailers: HeaderMap) -> Reply {
        self.trailers = Some(trailers);
        self
    }

    /// Held back until the gate is opened.
    #[must_use]
    pub fn held_by(mut self, gate: &Gate) -> Reply {
        self.held_until = Some(gate.0.subscribe());
        self
    }
}

/// Breaks a live body off: the connection is cut.
pub fn cut() -> Result<Bytes, io::Error> {
    Err(io::Error::other("cut by the test"))
}

/// Holds replies back until it is opened.
#[derive(Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn closed() -> Gate {
        Gate(watch::Sender::new(false))
    }

    /// Lets every reply out that it holds.
    pub fn open(&self) {
        self.0.send_replace(true);
    }
}

/// A running fake upstream.
#[derive(Debug)]
pub struct Upstream {
    address: String,
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts one that answers each request by `reply`.
    pub async fn start(reply: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Upstream::start_on(listener, reply)
    }

    /// Starts one that gives every request the same JSON.
    pub async fn saying(body: Value) -> Upstream {
        Upstream::start(move |_| Reply::json(&body)).await
    }

    /// Starts one on a listener that the test has bound.
    pub fn start_on(
        listener: TcpListener,
        reply: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Upstream {
        let address = listener.local_addr().expect("an address").to_string();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (reply, seen) = (Arc::new(reply), Arc::clone(&received));
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let (reply, seen) = (Arc::clone(&reply), Arc::clone(&seen));
                let service = service_fn(move |request| {
                    let (reply, seen) = (Arc::clone(&reply), Arc::clone(&seen));
                    async move { answer(request, &*reply, &seen).await }
                });
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Upstream { address, received, task }
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that it was asked so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("what was received").clone()
    }

    /// How often it was asked.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.received.lock().expect("what was received").len()
    }

    /// Stops accepting; its port refuses from now on.
    pub async fn stop(self) {
        self.task.abort();
        let _ = (&mut { self }.task).await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    reply: &(dyn Fn(&Received) -> Reply + Send + Sync),
    seen: &Mutex<Vec<Received>>,
) -> Result<Response<StreamBody<FrameStream>>, Infallible> {
    let (parts, body) = request.into_parts();
    // A body that is cut off is remembered as empty.
    let body = body.collect().await;
    let trailers = body.as_ref().ok().and_then(|body| body.trailers().cloned());
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let received = Received {
        version: parts.version,
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        body,
        trailers,
    };
    seen.lock().expect("what was received").push(received.clone());
    let reply = reply(&received);
    if let Some(mut gate) = reply.held_until {
        let _ = tokio::time::timeout(Duration::from_secs(60), gate.wait_for(|open| *open)).await;
    }
    let trailers = stream::iter(reply.trailers.map(|trailers| Ok(Frame::trailers(trailers))));
    let frames = reply.pieces.map(|piece| piece.map(Frame::data));
    let frames: FrameStream = Box::pin(frames.chain(trailers));
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name.as_str(), value.as_str());
    }
    if let Some(length) = reply.length {
        response = response.header("content-length", length);
    }
    Ok(response.body(StreamBody::new(frames)).expect("a response"))
}

type FrameStream = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, io::Error>> + Send>>;
