//! One connection from its first byte to its last: which HTTP it speaks, and the bounds of each.
//!
//! Both protocols share a port. In cleartext the first bytes tell them apart (h2c by prior
//! knowledge, RFC 9113 section 3.3), under TLS the handshake has. hyper-util can do that too,
//! but puts its own buffer under every read that follows, and hides the two apart from each
//! other; the few lines here cost a connection one look at its first bytes, and a request nothing.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming as RequestBody;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Answering};
use super::answer::WatchedBody;
use super::frames::PREFACE;
use super::lane::Lane;
use super::watchdog::{Alarm, Watchdog};
use super::wire::{Incoming, Outgoing};
use crate::app::App;
use crate::config::ServerSettings;
use crate::request::repeat;

/// What a conversation runs over.
pub(super) type Wire = Either<Outgoing, Box<TlsStream<Outgoing>>>;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What may arrive of one request's body before anyone reads it (HTTP/2).
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// The same for all requests of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// The largest frame taken.
const FRAME_BYTES_MAX: u32 = 16 << 10;
/// What is copied ahead of one stream's answer while the socket is slow.
const SEND_BUFFER_BYTES_MAX: usize = 64 << 10;
/// Requests taken back before we have looked at them; one more ends the connection
/// (CVE-2023-44487, "rapid reset").
const PENDING_RESETS_MAX: usize = 20;
/// Streams that we had to reset for the caller's mistakes; one more ends the connection
/// (RUSTSEC-2024-0003).
const ERROR_RESETS_MAX: usize = 100;

/// What may end a connection from our side, whatever it is doing.
#[derive(Debug)]
pub(super) struct Guards<'a> {
    watchdog: Watchdog,
    draining: &'a CancellationToken,
}

impl<'a> Guards<'a> {
    pub(super) fn new(
        activity: &Arc<Activity>,
        settings: &ServerSettings,
        draining: &'a CancellationToken,
    ) -> Guards<'a> {
        Guards { watchdog: Watchdog::new(Arc::clone(activity), settings), draining }
    }

    /// Waits for what comes before any request; nothing if the connection is to be closed.
    async fn before_requests<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = future => Some(done),
            () = self.draining.cancelled() => None,
            alarm = self.watchdog.bark() => {
                tracing::debug!(why = alarm.why(), "a connection was closed");
                None
            }
        }
    }

    /// Runs a connection to its end. Once told to end it takes no further request; with HTTP/2
    /// the caller hears so (GOAWAY), and nothing that it has asked before is lost.
    async fn run<C>(
        mut self,
        mut connection: Pin<&mut C>,
        tell: fn(Pin<&mut C>),
    ) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut told = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = &ended {
                        tracing::debug!(%error, "a connection ended");
                    }
                    return ended;
                }
                alarm = self.watchdog.bark() => {
                    if told || alarm != Alarm::Idle {
                        tracing::debug!(why = alarm.why(), "a connection was closed");
                        return Ok(());
                    }
                }
                () = self.draining.cancelled(), if !told => {}
            }
            told = true;
            self.watchdog.expect_its_end();
            tell(connection.as_mut());
        }
    }
}

/// Serves one connection to its end; `protocol` is what TLS agreed on. What `repeats` knows is answered
/// without `serve`.
///
/// # Errors
/// Those of the connection, which its caller has made or suffered.
pub(super) async fn converse<B, F>(
    settings: &ServerSettings,
    wire: Wire,
    activity: Arc<Activity>,
    protocol: Option<Protocol>,
    mut guards: Guards<'_>,
    repeats: Option<Arc<App>>,
    serve: impl Fn(Request<RequestBody>) -> F + Send + 'static,
) -> hyper::Result<()>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    F: Future<Output = Response<B>> + Send + 'static,
{
    let mut incoming = Incoming::new(wire, Arc::clone(&activity));
    let protocol = match protocol {
        Some(protocol) => protocol,
        None => match guards.before_requests(first_words(&mut incoming)).await {
            Some(Ok(protocol)) => protocol,
            Some(Err(_)) | None => return Ok(()),
        },
    };
    match protocol {
        Protocol::Http1 => {
            let exchange = activity.exchange();
            let service = service_fn(|mut request| {
                activity.header.set(false);
                if let Some(raw) = activity.take_raw() {
                    request.extensions_mut().insert(repeat::Raw(raw));
                }
                watched(exchange.begin(), request.version(), serve(request))
            });
            let lane = Lane::new(incoming, Arc::clone(&activity), repeats);
            let connection = http1(settings).serve_connection(TokioIo::new(lane), service);
            let connection = pin!(connection.with_upgrades());
            guards.run(connection, http1::UpgradeableConnection::graceful_shutdown).await
        }
        Protocol::Http2 => {
            incoming.follow_frames();
            let service = service_fn(move |request| {
                let answering = activity.exchange().begin();
                // A stream is a task of its own, and moved several times before it runs.
                watched(answering, request.version(), Box::pin(serve(request)))
            });
            let connection =
                pin!(http2(settings).serve_connection(TokioIo::new(incoming), service));
            guards.run(connection, http2::Connection::graceful_shutdown).await
        }
    }
}

/// Whether a connection ended because of what was sent on it. Nothing else tells of that: it is
/// answered, where it is, below all that knows of requests.
pub(super) fn is_refused(error: &hyper::Error) -> bool {
    let http2 =
        std::error::Error::source(error).and_then(|error| error.downcast_ref::<h2::Error>());
    error.is_parse() || http2.is_some_and(|error| error.is_go_away() && error.is_library())
}

/// Watches an answer to its last byte. Not an async function: that would take the room for `answer`
/// twice, before it begins and then.
fn watched<B>(
    answering: Answering,
    asked_in: Version,
    answer: impl Future<Output = Response<B>>,
) -> impl Future<Output = Result<Response<WatchedBody<B>>, Infallible>> {
    answer.map(move |response| Ok(response.map(|body| WatchedBody::new(body, answering, asked_in))))
}

fn http1(settings: &ServerSettings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(settings.headers_max)
        .max_buf_size(settings.header_bytes_max)
        .half_close(false);
    builder
}

fn http2(settings: &ServerSettings) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.streams_max)
        .max_header_list_size(u32::try_from(settings.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX);
    builder
}

/// Reads until it is clear whether this is HTTP/2's preface. What was read comes again.
async fn first_words<S: AsyncRead + Unpin>(
    incoming: &mut Incoming<S>,
) -> std::io::Result<Protocol> {
    let mut words = [0; PREFACE.len()];
    let mut filled = 0;
    let protocol = loop {
        let count = incoming.read(&mut words[filled..]).await?;
        filled += count;
        if count == 0 || words[..filled] != PREFACE[..filled] {
            break Protocol::Http1;
        }
        if filled == PREFACE.len() {
            break Protocol::Http2;
        }
    };
    incoming.give_again(Bytes::copy_from_slice(&words[..filled]));
    Ok(protocol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn told(pieces: &[&[u8]]) -> (Protocol, Vec<u8>) {
        let (ours, mut callers) = tokio::io::duplex(1024);
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let sending = tokio::spawn(async move {
            for piece in pieces {
                callers.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut incoming = Incoming::new(ours, Arc::default());
        let protocol = first_words(&mut incoming).await.unwrap();
        sending.await.unwrap();
        let mut all = Vec::new();
        incoming.read_to_end(&mut all).await.unwrap();
        (protocol, all)
    }

    #[tokio::test]
    async fn the_first_words_tell_the_protocol_and_are_not_lost() {
        for (pieces, protocol) in [
            (&[&b"GET / HTTP/1.1\r\n\r\n"[..]][..], Protocol::Http1),
            (&[&b"P"[..], b"OST / HTTP/1.1\r\n\r\n"], Protocol::Http1),
            (&[&b"PRI * HTTP/2.0\r\n"[..], b"\r\nSM\r\n\r\n+more"], Protocol::Http2),
            (&[&PREFACE[..23], b"X and more"], Protocol::Http1),
            (&[&b"PRI * HT"[..]], Protocol::Http1),
            (&[], Protocol::Http1),
        ] {
            let (found, came) = told(pieces).await;
            assert_eq!((found, came), (protocol, pieces.concat()));
        }
    }
}
