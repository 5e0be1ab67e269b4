//! The least proxy: a bare hyper server, and the client that the cache asks upstreams with. What passing
//! through costs at least on this runtime, with these libraries.

use std::net::SocketAddr;

use clap::Args;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::shared::listen;

/// Whom it forwards to.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Forwarder {
    #[arg(long)]
    to: SocketAddr,
}

type Pool = Client<HttpConnector, Incoming>;

/// Serves until standard input ends.
pub(crate) async fn run(forwarder: Forwarder) -> anyhow::Result<()> {
    let to: Authority = forwarder.to.to_string().parse()?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let pool = Client::builder(TokioExecutor::new()).build(connector);
    listen::accept(move |stream| converse(stream, pool.clone(), to.clone())).await
}

async fn converse(stream: TcpStream, pool: Pool, to: Authority) {
    let forward = service_fn(move |request| forward(pool.clone(), to.clone(), request));
    // A load that is done hangs up; that is how a connection ends here.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), forward).await;
}

async fn forward(
    pool: Pool,
    to: Authority,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, Error> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(to);
    let path = request.uri().path_and_query().cloned();
    parts.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    pool.request(request).await
}
