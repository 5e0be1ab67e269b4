//! `cache-server health`: whether a server takes requests, for containers without an HTTP client.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Failure, HealthOptions};

/// Connecting and the answer together. Who asks for health kills what does not answer.
const DEADLINE: Duration = Duration::from_secs(2);

pub(crate) fn run(options: &HealthOptions) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .map_err(Failure::start)?;
    runtime.block_on(ready(options.admin)).map_err(Failure::start)?;
    println!("ready");
    Ok(())
}

async fn ready(admin: SocketAddr) -> anyhow::Result<()> {
    let asked = tokio::time::timeout(DEADLINE, ask(admin)).await;
    let status = asked
        .with_context(|| format!("{admin} does not answer within {DEADLINE:?}"))?
        .with_context(|| format!("cannot ask {admin}"))?;
    ensure!(status == StatusCode::OK, "{admin} is not ready: it answers {status}");
    Ok(())
}

/// The status of `/readyz`.
async fn ask(admin: SocketAddr) -> anyhow::Result<StatusCode> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/readyz").header(HOST, admin.to_string());
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    Ok(answer.status())
}
