//! The floor: what one core can do at best. A bare hyper server that reads the request's body
//! and answers fixed bytes; the same runtime, allocator and answer as everyone else.

use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::shared::exchange::{self, ANSWER_BYTES};
use crate::shared::listen;

/// What the floor is like.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Floor {
    /// Bytes of an answer.
    #[arg(long, default_value_t = ANSWER_BYTES)]
    answer_bytes: usize,
    /// Speak HTTP/2 in clear, and nothing else.
    #[arg(long)]
    http2: bool,
}

/// Serves until standard input ends.
pub(crate) async fn run(floor: Floor) -> anyhow::Result<()> {
    let body = exchange::answer_of(floor.answer_bytes)?;
    if floor.http2 {
        return listen::accept(move |stream| converse(stream, body.clone())).await;
    }
    listen::serve(move |request| answer(request, body.clone())).await
}

/// The same over HTTP/2.
async fn converse(stream: TcpStream, body: Bytes) {
    let answer = service_fn(move |request| answer(request, body.clone()));
    let server = http2::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(stream), answer).await;
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
