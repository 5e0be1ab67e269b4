//! Tunnel: a WebSocket, for realtime APIs, is passed through byte for byte (RFC 6455; RFC 9110
//! section 7.8). Nothing of it is keyed or stored. Tunnels are counted, closed when nothing
//! moves in them, and cut at the drain deadline.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

use super::body::AnswerBody;
use super::identify::Asked;
use super::key::Cause;
use super::line::{Facts, Line};
use super::rejection::Rejection;
use super::{respond, suspend};
use crate::app::App;
use crate::upstream::fields;

/// A tunnel's buffer for each direction.
const BUFFER_BYTES: usize = 16 << 10;

/// The connection that asks for a WebSocket, and what it counts for: both last as long as the
/// tunnel does, though the server has done with the connection by then.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its bytes, once it has been answered.
    pub upgrade: OnUpgrade,
    /// Its places among all connections and among those of its address.
    pub places: Arc<dyn Any + Send + Sync>,
}

/// A place among the tunnels that may be open at once; given back when dropped.
#[derive(Debug)]
struct Place(Arc<App>);

impl Place {
    fn take(app: &Arc<App>, tunnels_max: usize) -> Option<Place> {
        let place = Place(Arc::clone(app));
        let before = app.tunnels_open.fetch_add(1, Ordering::Relaxed);
        (before < tunnels_max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.tunnels_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Asks the upstream for a WebSocket and joins the two connections if it agrees. What else it
/// says is passed on as an answer.
pub async fn open(app: &Arc<App>, mut asked: Asked) -> Response<AnswerBody> {
    let facts = Facts::of_unkeyed(&asked, None);
    let line = Line::past(app, facts, &Cause::TUNNEL);
    let Some(caller) = asked.tunnel.take() else {
        return respond::reject(line, Rejection::NoTunnel);
    };
    let tunnels_max = asked.settings.server.tunnels_max;
    let Some(place) = Place::take(app, tunnels_max) else {
        return respond::reject(line, Rejection::TunnelsFull { tunnels_max });
    };
    let credential = asked.credential();
    let mut headers: HeaderMap = std::mem::take(&mut asked.headers);
    fields::prepare_request(&mut headers, &app.loops);
    fields::upgrade_to_websocket(&mut headers);
    let mut span = asked.trace.fetch(&asked.call(), &mut headers);
    let mut answer = match asked.upstream.send_upgrade(&asked.target, headers).await {
        Ok(answer) => answer,
        Err(error) => {
            span.fail(error.kind());
            return respond::upstream_failed(line, &error);
        }
    };
    suspend::note(app, credential.as_ref(), answer.status(), !asked.is_of_a_model());
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return respond::passed(line, &Cause::TUNNEL, answer, span);
    }
    let upstream = hyper::upgrade::on(&mut answer);
    let idle_timeout = asked.settings.server.tunnel_idle_timeout;
    app.tunnels.spawn(async move {
        join(caller.upgrade, upstream, idle_timeout).await;
        drop((place, caller.places));
    });
    let mut response = respond::passed(line, &Cause::TUNNEL, answer, span);
    fields::upgrade_to_websocket(response.headers_mut());
    response
}

/// Carries bytes both ways until both ends are done, one breaks, or nothing moves for too long.
async fn join(caller: OnUpgrade, upstream: OnUpgrade, idle_timeout: Duration) {
    let (caller, upstream) = match tokio::try_join!(caller, upstream) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a tunnel did not come about");
            return;
        }
    };
    let parts = |end: Upgraded| split(TokioIo::new(end));
    let ((from_caller, to_caller), (from_upstream, to_upstream)) = (parts(caller), parts(upstream));
    let moved = AtomicU64::new(0);
    let carried = async {
        tokio::try_join!(
            carry(from_caller, to_upstream, &moved),
            carry(from_upstream, to_caller, &moved)
        )
    };
    tokio::select! {
        ended = carried => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a tunnel broke");
            }
        }
        () = idles(&moved, idle_timeout) => tracing::debug!("a tunnel idled too long"),
    }
}

/// Carries bytes one way; the end of them is passed on.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        // TLS takes more than it has sent, and sends the rest when it is asked to.
        to.flush().await?;
        moved.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Returns once nothing has moved for `bound`, late by a quarter of it at most.
async fn idles(moved: &AtomicU64, bound: Duration) {
    let mut seen = moved.load(Ordering::Relaxed);
    let mut since = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(bound / 4).await;
        let now = moved.load(Ordering::Relaxed);
        if now != seen {
            (seen, since) = (now, tokio::time::Instant::now());
        } else if since.elapsed() >= bound {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_idles_from_its_last_byte_on() {
        let moved = Arc::new(AtomicU64::new(0));
        let watched = Arc::clone(&moved);
        let watch = tokio::spawn(async move { idles(&watched, Duration::from_secs(8)).await });
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            moved.fetch_add(1, Ordering::Relaxed);
        }
        assert!(!watch.is_finished());
        let last = tokio::time::Instant::now();
        watch.await.unwrap();
        assert!((8..=12).contains(&last.elapsed().as_secs()));
    }

    #[tokio::test]
    async fn bytes_and_the_end_of_them_are_carried_on() {
        let (mut caller, inner) = tokio::io::duplex(64);
        let (far, mut upstream) = tokio::io::duplex(64);
        let moved = AtomicU64::new(0);
        let send = async {
            caller.write_all(&[7; 1000]).await.unwrap();
            caller.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (carried, (), read) =
            tokio::join!(carry(inner, far, &moved), send, upstream.read_to_end(&mut received));
        assert!(carried.is_ok() && read.is_ok());
        assert_eq!(received, [7; 1000]);
        assert_eq!(moved.load(Ordering::Relaxed), 1000);
    }
}
