//! The floor: what one core can do at best. A bare hyper server that reads the request's body
//! and answers fixed bytes; the same runtime, allocator and answer as everyone else.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::shared::{exchange, listen};

/// Serves until standard input ends.
pub(crate) async fn run() -> anyhow::Result<()> {
    let body = exchange::answer_body()?;
    listen::serve(move |request| answer(request, body.clone())).await
}

async fn answer(
    request: Request<Incoming>,
    body: Bytes,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    request.into_body().collect().await?;
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
