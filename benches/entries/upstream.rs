//! The upstream: answers at once, with the fields that a provider behind an edge gives its answers.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::exchange;
use crate::shared::listen;

/// Fields that all answers have, beside the date. Some are for the leader alone.
const FIELDS: [(&str, &str); 10] = [
    ("access-control-expose-headers", "X-Request-ID"),
    ("openai-organization", "invented-for-the-benchmark"),
    ("openai-processing-ms", "412"),
    ("openai-version", "2020-10-01"),
    ("x-ratelimit-limit-requests", "30000"),
    ("x-ratelimit-remaining-requests", "29999"),
    ("set-cookie", "__cf_bm=invented; path=/; HttpOnly; Secure; SameSite=None"),
    ("x-content-type-options", "nosniff"),
    ("server", "invented-edge"),
    ("cf-cache-status", "DYNAMIC"),
];

/// Serves until standard input ends.
pub(crate) async fn run() -> anyhow::Result<()> {
    listen::serve(answer).await
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let question = request.into_body().collect().await?.to_bytes();
    let Ok(body) = exchange::answer_to(&question) else {
        let mut refused = Response::new(Full::from("no question of ours"));
        *refused.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refused);
    };
    let id = format!("req_{:032x}", fastrand::u128(..));
    let mut response = Response::new(Full::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in FIELDS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
        .extend(HeaderValue::from_str(&id).map(|id| (HeaderName::from_static("x-request-id"), id)));
    Ok(response)
}
