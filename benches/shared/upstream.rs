//! The upstream: answers a chat completion at once, after a delay, or as a stream, in the size that is
//! wanted, and counts its calls.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::json;

use crate::shared::exchange::{self, DONE, Question};
use crate::shared::listen;
use crate::sized;

/// Events of a stream that carry text.
const TEXT_EVENTS: usize = 10;
/// Between two events of a stream.
const EVENT_GAP: Duration = Duration::from_millis(1);
/// Where the count of calls is read.
pub(crate) const CALLS_PATH: &str = "/calls";

type Answer = Response<BoxBody<Bytes, Infallible>>;

struct Model {
    /// The usual answer.
    body: Bytes,
    /// Answers by their size.
    sized: HashMap<usize, Bytes>,
    events: Arc<[Bytes]>,
    calls: AtomicU64,
}

/// Serves until standard input ends.
pub(crate) async fn run() -> anyhow::Result<()> {
    let answers = sized::ANSWER_SIZES.map(|bytes| Ok((bytes, exchange::answer_of(bytes)?)));
    let model = Arc::new(Model {
        body: exchange::answer_body()?,
        sized: answers.into_iter().collect::<anyhow::Result<_>>()?,
        events: answer_events().into(),
        calls: AtomicU64::new(0),
    });
    listen::serve(move |request| answer(request, Arc::clone(&model))).await
}

async fn answer(request: Request<Incoming>, model: Arc<Model>) -> Result<Answer, hyper::Error> {
    if request.method() == Method::GET {
        let calls = model.calls.load(Ordering::Relaxed).to_string();
        return Ok(response("text/plain", Full::new(Bytes::from(calls)).boxed()));
    }
    model.calls.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let question = body.collect().await?.to_bytes();
    if let Some(delay) = exchange::delay(&head.headers) {
        tokio::time::sleep(delay).await;
    }
    if exchange::asks_for_stream(&question) {
        return Ok(response("text/event-stream", paced(Arc::clone(&model.events))));
    }
    let size = sized::wanted(&head.headers);
    let body = size.and_then(|bytes| model.sized.get(&bytes)).unwrap_or(&model.body);
    Ok(response("application/json", Full::new(body.clone()).boxed()))
}

/// The body that a question must be answered with, where a whole answer of this size is wanted.
pub(crate) fn expected_body(question: Question, answer_bytes: usize) -> anyhow::Result<Bytes> {
    if question.stream {
        return Ok(answer_events().concat().into());
    }
    exchange::answer_of(answer_bytes)
}

/// The events of a streamed answer of about the same size as a whole one.
fn answer_events() -> Vec<Bytes> {
    let mut events = vec![exchange::event(&json!({"role": "assistant", "content": ""}), None)];
    let word = exchange::event(&json!({"content": " word"}), None);
    events.extend(std::iter::repeat_n(word, TEXT_EVENTS));
    events.push(exchange::event(&json!({}), Some("stop")));
    events.push(Bytes::from_static(DONE));
    events
}

/// The events one by one, the first at once.
fn paced(events: Arc<[Bytes]>) -> BoxBody<Bytes, Infallible> {
    let frames = stream::unfold((events, 0), |(events, next)| async move {
        let event = events.get(next)?.clone();
        if next > 0 {
            tokio::time::sleep(EVENT_GAP).await;
        }
        Some((Ok(Frame::data(event)), (events, next + 1)))
    });
    BodyExt::boxed(StreamBody::new(frames))
}

fn response(content_type: &'static str, body: BoxBody<Bytes, Infallible>) -> Answer {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
    headers.insert("openai-processing-ms", HeaderValue::from_static("1"));
    headers.insert("x-request-id", HeaderValue::from_static("req_invented_for_the_benchmark"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}
