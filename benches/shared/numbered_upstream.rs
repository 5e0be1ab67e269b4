//! The upstream: answers chat completions and pages, each with the number of its question, after as
//! long as it is asked to think, and counts its calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::exchange::{self, Answers};
use crate::shared::exchange::delay;
use crate::shared::listen;

/// Where the count of calls is read.
pub(crate) const CALLS_PATH: &str = "/calls";

/// How many dates answers have at one time, a second apart.
const DATES: u64 = 16;

struct Model {
    answers: Answers,
    calls: AtomicU64,
}

type Body = Full<Bytes>;

/// Serves until standard input ends.
pub(crate) async fn run() -> anyhow::Result<()> {
    let model = Arc::new(Model { answers: Answers::new()?, calls: AtomicU64::new(0) });
    listen::serve(move |request| answer(request, Arc::clone(&model))).await
}

async fn answer(
    request: Request<Incoming>,
    model: Arc<Model>,
) -> Result<Response<Body>, hyper::Error> {
    if request.uri().path() == CALLS_PATH {
        let calls = model.calls.load(Ordering::Relaxed).to_string();
        return Ok(response("text/plain", calls.into()));
    }
    model.calls.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let question = body.collect().await?.to_bytes();
    if let Some(delay) = delay(&head.headers) {
        tokio::time::sleep(delay).await;
    }
    let is_page = head.method == Method::GET;
    let asked = if is_page { head.uri.path().as_bytes() } else { &question };
    let Some(number) = exchange::number_in(asked) else {
        let mut refused = response("text/plain", "a question without a number".into());
        *refused.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refused);
    };
    let mut response = response("application/json", model.answers.of(number));
    response.headers_mut().extend(date_of(number).map(|date| (DATE, date)));
    if is_page {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    }
    Ok(response)
}

/// A date that is not that of the answers before and after it: entries of one second would have it in common.
fn date_of(number: u64) -> Option<HeaderValue> {
    let at = SystemTime::now() - Duration::from_secs(number % DATES);
    HeaderValue::from_str(&httpdate::fmt_http_date(at)).ok()
}

fn response(content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::<Full<Bytes>>::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
    headers.insert("x-request-id", HeaderValue::from_static("req_invented_for_the_benchmark"));
    response
}
