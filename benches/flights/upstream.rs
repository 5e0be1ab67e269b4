//! The upstream: answers chat completions and pages after a delay, whole or as a stream, and
//! keeps a record of its calls.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::time::Instant;

use crate::ask::{self, Form, LIFETIME};
use crate::calls::{CALLS_PATH, Call};
use crate::said;
use crate::shared::{exchange, listen};
use crate::{clock, peers};

type Body = BoxBody<Bytes, Infallible>;

struct Model {
    body: Bytes,
    brief: HeaderValue,
    calls: Mutex<Vec<Call>>,
}

/// Serves until standard input ends.
pub(crate) async fn run() -> anyhow::Result<()> {
    let (fresh_s, stale_s) = (LIFETIME.as_secs(), peers::STALE_FOR.as_secs());
    let brief = format!("max-age={fresh_s}, stale-while-revalidate={stale_s}");
    let model = Arc::new(Model {
        body: exchange::answer_body()?,
        brief: HeaderValue::from_str(&brief).context("no lifetime")?,
        calls: Mutex::default(),
    });
    listen::serve(move |request| answer(request, Arc::clone(&model))).await
}

async fn answer(
    request: Request<Incoming>,
    model: Arc<Model>,
) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    if head.uri.path() == CALLS_PATH {
        let calls = serde_json::to_vec(&model.take_calls()).unwrap_or_default();
        return Ok(response("application/json", Full::new(calls.into()).boxed()));
    }
    let question = body.collect().await?.to_bytes();
    let is_page = head.method == Method::GET;
    let form = match ask::form_of_page(head.uri.path()).filter(|_| is_page) {
        Some(form) => form,
        None if exchange::asks_for_stream(&question) => Form::Stream,
        None => Form::Whole,
    };
    let asked = if is_page { head.uri.path().as_bytes() } else { &question };
    model.note(ask::number_in(asked));
    if let Some(delay) = exchange::delay(&head.headers) {
        tokio::time::sleep(delay).await;
    }
    let mut response = match form {
        Form::Stream => response("text/event-stream", spoken()),
        _ => response("application/json", Full::new(model.body.clone()).boxed()),
    };
    if is_page {
        let long = || HeaderValue::from_static("max-age=3600");
        let lifetime = if form == Form::Brief { model.brief.clone() } else { long() };
        response.headers_mut().insert(CACHE_CONTROL, lifetime);
    } else {
        response.headers_mut().extend(fields_of_a_provider());
    }
    Ok(response)
}

impl Model {
    fn note(&self, number: Option<u64>) {
        let call = number.map(|number| Call { number, at_ns: clock::now_ns() });
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).extend(call);
    }

    fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The events one by one, the first at once, each with the time at which it is said.
fn spoken() -> Body {
    let begun = Instant::now();
    let frames = stream::unfold(0, move |number| async move {
        if number == said::EVENTS {
            return None;
        }
        tokio::time::sleep_until(begun + said::due(number)).await;
        let event = said::event(number, clock::now_ns());
        Some((Ok(Frame::data(event)), number + 1))
    });
    BodyExt::boxed(StreamBody::new(frames))
}

fn response(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn fields_of_a_provider() -> HeaderMap {
    let fields = [
        ("openai-version", "2020-10-01"),
        ("openai-processing-ms", "1"),
        ("x-request-id", "req_invented_for_the_benchmark"),
    ];
    let fields = fields.map(|(name, value)| {
        (http::HeaderName::from_static(name), HeaderValue::from_static(value))
    });
    HeaderMap::from_iter(fields)
}
