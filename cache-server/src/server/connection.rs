//! What a connection is doing, watched: a header that does not get finished, a connection that
//! idles and a caller that does not take its answer are closed.
//!
//! hyper's one header timer runs while a connection idles as well, so that it cannot have two
//! bounds. Here the stream says when bytes came, the service says when a request is being
//! answered, and a watchdog looks in from time to time: no timer is touched per request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::Instant;

use crate::config::ServerSettings;

/// The phase of a connection, in the two low bits; above them a number that grows with each
/// change, so that the watchdog knows one phase from the next of the same kind.
#[derive(Debug, Default)]
pub(super) struct Phase {
    state: AtomicU64,
    /// The caller takes nothing: the last write had to wait.
    write_waits: AtomicBool,
}

const IDLE: u64 = 0;
const HEADER: u64 = 1;
const BUSY: u64 = 2;
const KIND: u64 = 3;

impl Phase {
    fn enter(&self, kind: u64) {
        let now = self.state.load(Ordering::Relaxed);
        self.state.store((((now >> 2) + 1) << 2) | kind, Ordering::Relaxed);
    }

    fn kind(&self) -> u64 {
        self.state.load(Ordering::Relaxed) & KIND
    }

    /// Notes how a write went. Progress begins the phase anew: while an answer moves, however
    /// slowly, the connection is neither idle nor stuck. hyper lets go of an answer's body before
    /// its last bytes are written, so that this may also happen to an idle connection.
    fn written(&self, written: &Poll<std::io::Result<usize>>) {
        self.write_waits.store(written.is_pending(), Ordering::Relaxed);
        if written.is_ready() {
            self.enter(self.kind());
        }
    }

    /// A request's header is complete.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.enter(BUSY);
        Busy(Arc::clone(self))
    }
}

/// Held while a request is answered; the connection idles when it is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Phase>);

impl Busy {
    /// Keeps the connection busy until the body has been sent.
    pub(super) fn until_sent<B>(self, body: B) -> BusyBody<B> {
        BusyBody { body, _busy: self }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(IDLE);
    }
}

/// An answer's body that keeps its connection busy.
#[derive(Debug)]
pub(super) struct BusyBody<B> {
    body: B,
    _busy: Busy,
}

impl<B: Body + Unpin> Body for BusyBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that notes when the first bytes of a request come.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    phase: Arc<Phase>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S) -> (Watched<S>, Arc<Phase>) {
        let phase = Arc::new(Phase::default());
        (Watched { stream, phase: Arc::clone(&phase) }, phase)
    }
}

impl<S: Read + Unpin> Read for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.phase.kind() == IDLE {
            self.phase.enter(HEADER);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Write + Unpin> Write for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.phase.written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.phase.written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Looks in on a connection, often enough to be late by a quarter of the shortest bound at most.
#[derive(Debug)]
pub(super) struct Watchdog {
    phase: Arc<Phase>,
    header_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
}

impl Watchdog {
    pub(super) fn new(phase: Arc<Phase>, settings: &ServerSettings) -> Watchdog {
        Watchdog {
            phase,
            header_timeout: settings.header_timeout,
            idle_timeout: settings.idle_timeout,
            write_timeout: settings.write_timeout,
        }
    }

    /// Returns when the connection is to be closed, and says why.
    pub(super) async fn bark(self) -> &'static str {
        let shortest = self.header_timeout.min(self.idle_timeout).min(self.write_timeout);
        let interval = (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1));
        let mut seen = self.phase.state.load(Ordering::Relaxed);
        let mut since = Instant::now();
        loop {
            tokio::time::sleep(interval).await;
            let phase = self.phase.state.load(Ordering::Relaxed);
            if phase != seen {
                seen = phase;
                since = Instant::now();
                continue;
            }
            // Whatever the phase: hyper calls a connection idle while its last bytes still wait.
            let waits = self.phase.write_waits.load(Ordering::Relaxed);
            match phase & KIND {
                _ if waits && since.elapsed() >= self.write_timeout => {
                    return "its caller did not take the answer";
                }
                _ if waits => {}
                IDLE if since.elapsed() >= self.idle_timeout => return "it idled too long",
                HEADER if since.elapsed() >= self.header_timeout => {
                    return "its header did not come in time";
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watchdog(phase: &Arc<Phase>) -> Watchdog {
        Watchdog {
            phase: Arc::clone(phase),
            header_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(8),
            write_timeout: Duration::from_secs(4),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_after_its_bound() {
        let start = Instant::now();
        assert_eq!(watchdog(&Arc::default()).bark().await, "it idled too long");
        assert!((8.0..9.0).contains(&start.elapsed().as_secs_f64()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_drips_is_closed_after_its_bound() {
        let phase = Arc::new(Phase::default());
        phase.enter(HEADER);
        let start = Instant::now();
        assert_eq!(watchdog(&phase).bark().await, "its header did not come in time");
        assert!((2.0..3.0).contains(&start.elapsed().as_secs_f64()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_is_left_alone_and_idles_afresh_afterwards() {
        let phase = Arc::new(Phase::default());
        let busy = phase.begin();
        let barking = tokio::spawn(watchdog(&phase).bark());
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!barking.is_finished());
        drop(busy);
        let idle_since = Instant::now();
        assert_eq!(barking.await.unwrap(), "it idled too long");
        assert!(idle_since.elapsed() >= Duration::from_secs(8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_takes_nothing_is_closed_after_its_bound() {
        let phase = Arc::new(Phase::default());
        let _busy = phase.begin();
        phase.written(&Poll::Pending);
        let start = Instant::now();
        assert_eq!(watchdog(&phase).bark().await, "its caller did not take the answer");
        assert!((4.0..5.0).contains(&start.elapsed().as_secs_f64()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_takes_its_answer_slowly_is_left_alone() {
        let phase = Arc::new(Phase::default());
        let busy = phase.begin();
        let barking = tokio::spawn(watchdog(&phase).bark());
        for second in 0..60 {
            // Its body is let go of half-way, while its last bytes are still being written.
            if second == 30 {
                phase.enter(IDLE);
            }
            phase.written(&Poll::Ready(Ok(1)));
            phase.written(&Poll::Pending);
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        assert!(!barking.is_finished());
        drop(busy);
    }
}
