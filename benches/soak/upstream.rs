//! The upstream: answers every question as it is fated, in this process.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::question::{Fate, Question, Shape};

/// How long it thinks about a late answer.
const LATE: Duration = Duration::from_millis(150);
/// Between two events of a stream.
const EVENT_GAP: Duration = Duration::from_millis(1);
/// How long it holds a stalled answer: longer than anyone waits.
const STALLED: Duration = Duration::from_secs(300);
/// What it says with status 500.
pub(crate) const REFUSAL: &str = "{\"error\":{\"message\":\"soak\",\"type\":\"server_error\"}}";
/// A request to a path like this was hidden in the body of another.
pub(crate) const SMUGGLED_PATH: &str = "/smuggled";

type Pieces = Pin<Box<dyn Stream<Item = io::Result<Frame<Bytes>>> + Send>>;
type Answer = Response<StreamBody<Pieces>>;

/// What it was asked.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Requests, all in all.
    pub(crate) calls: AtomicU64,
    /// Requests that no caller sent as such.
    pub(crate) smuggled: AtomicU64,
    /// How often each late question came that nobody has taken note of yet.
    late: Mutex<HashMap<Question, u64>>,
}

impl Asked {
    fn note(&self, path: &str, question: Option<Question>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if path.starts_with(SMUGGLED_PATH) {
            self.smuggled.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(question) = question.filter(|question| question.fate == Fate::Late) {
            let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
            *late.entry(question).or_default() += 1;
        }
    }

    /// How often this late question came; forgets it.
    pub(crate) fn take_late(&self, question: &Question) -> u64 {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.remove(question).unwrap_or(0)
    }
}

/// Serves on a free port for as long as the process lives.
pub(crate) async fn start(asked: Arc<Asked>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                let service = service_fn(|request| answer(request, &asked));
                // A connection that we cut, or that the server gave up, ends with an error.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

async fn answer(request: Request<Incoming>, asked: &Asked) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(said(StatusCode::BAD_REQUEST, "the body is cut"));
    };
    let credential = head.headers.get(AUTHORIZATION).and_then(|field| field.to_str().ok());
    let question = Question::read(credential.unwrap_or_default(), &body.to_bytes());
    asked.note(head.uri.path(), question);
    let Some(question) = question.filter(|question| question.path() == head.uri.path()) else {
        return Ok(said(StatusCode::NOT_FOUND, "no question of ours"));
    };
    Ok(match question.fate {
        Fate::Refused => said(StatusCode::INTERNAL_SERVER_ERROR, REFUSAL),
        Fate::Late => {
            tokio::time::sleep(LATE).await;
            whole(&question)
        }
        Fate::Small | Fate::Large | Fate::Huge => whole(&question),
        Fate::Cut => half(&question, false),
        Fate::Stalled => half(&question, true),
    })
}

fn said(status: StatusCode, text: &'static str) -> Answer {
    let mut response = response("application/json", Some(text.len()), stream::iter([text.into()]));
    *response.status_mut() = status;
    response
}

fn whole(question: &Question) -> Answer {
    let pieces = question.pieces();
    if question.shape == Shape::Stream {
        return response("text/event-stream", None, paced(pieces));
    }
    let length = pieces.iter().map(Bytes::len).sum();
    response("application/json", Some(length), stream::iter(pieces))
}

/// Half the answer, which says how long the whole would be, and then silence or the end.
fn half(question: &Question, stalls: bool) -> Answer {
    let answer = question.answer();
    let half = answer.slice(..answer.len() / 2);
    let begun = stream::iter([Ok(Frame::data(half))]);
    let rest = stream::once(async move {
        if stalls {
            tokio::time::sleep(STALLED).await;
        }
        Err(io::Error::other("cut off by its fate"))
    });
    let pieces: Pieces = Box::pin(begun.chain(rest));
    let is_stream = question.shape == Shape::Stream;
    let content_type = if is_stream { "text/event-stream" } else { "application/json" };
    let mut response = Response::new(StreamBody::new(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if !is_stream {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(answer.len()));
    }
    response
}

/// The events one by one, the first at once.
fn paced(events: Vec<Bytes>) -> impl Stream<Item = Bytes> + Send {
    stream::iter(events.into_iter().enumerate()).then(|(number, event)| async move {
        if number > 0 {
            tokio::time::sleep(EVENT_GAP).await;
        }
        event
    })
}

fn response(
    content_type: &'static str,
    length: Option<usize>,
    pieces: impl Stream<Item = Bytes> + Send + 'static,
) -> Answer {
    let pieces: Pieces = Box::pin(pieces.map(|piece| Ok(Frame::data(piece))));
    let mut response = Response::new(StreamBody::new(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}
