//! The frame of the two servers that are measured against: a bare hyper server on a free port.

use std::convert::Infallible;
use std::future::Future;
use std::io::Read;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// What a server says before its address; the server under test says it in these words.
pub(crate) const ANNOUNCEMENT: &str = "Listening on http://";

/// The same kind of runtime as in the server under test: as many threads as it may use cores.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Answers by HTTP/1.1 on a free port until standard input ends.
pub(crate) async fn serve<F, R, B>(answer: F) -> anyhow::Result<()>
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response<B>, hyper::Error>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    accept(move |stream| converse(stream, answer.clone())).await
}

/// Has whoever comes to a free port talked to until standard input ends, which it does with the
/// conductor.
pub(crate) async fn accept<F, R>(converse: F) -> anyhow::Result<()>
where
    F: Fn(TcpStream) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on loopback")?;
    eprintln!("{ANNOUNCEMENT}{}", listener.local_addr()?);
    let mut ended = stdin_ended();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let stream = accepted?.0;
                let _ = stream.set_nodelay(true);
                tokio::spawn(converse(stream));
            }
            _ = &mut ended => return Ok(()),
        }
    }
}

/// Resolves when standard input ends. A thread that is never joined waits for it: tokio's own
/// standard input is a feature that the server under test would be built with, too.
fn stdin_ended() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        drop(sender);
    });
    receiver
}

async fn converse<F, R, B>(stream: TcpStream, answer: F)
where
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Result<Response<B>, hyper::Error>>,
    B: Body<Data = Bytes, Error = Infallible> + 'static,
{
    // A load that is done hangs up; that is how a connection ends here.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}
