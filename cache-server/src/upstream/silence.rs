//! Silence: an answer whose next piece does not come in time has failed.
//!
//! Only waits are timed, each anew: a caller that takes its time with what has come already says
//! nothing about the upstream. A piece that is there when it is asked for touches no timer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// Nothing came for as long as an upstream may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was silent for too long")]
pub struct Silent;

/// A body that fails where it is silent for too long.
#[derive(Debug)]
pub struct Timed<B> {
    body: B,
    /// The longest wait for one piece.
    silence_max: Duration,
    /// Made at the first wait, and set again by each that follows.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl<B> Timed<B> {
    /// Bounds each wait for a piece of `body`.
    pub fn new(body: B, silence_max: Duration) -> Timed<B> {
        Timed { body, silence_max, timer: None, is_waiting: false }
    }

    /// The timer of the wait that is under way.
    fn timer(&mut self) -> Pin<&mut Sleep> {
        let (silence_max, is_waiting) = (self.silence_max, self.is_waiting);
        self.is_waiting = true;
        let is_new = self.timer.is_none();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(silence_max)));
        if !is_new && !is_waiting {
            timer.as_mut().reset(Instant::now() + silence_max);
        }
        timer.as_mut()
    }
}

impl<B> Body for Timed<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: From<Silent>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending() {
            ready!(self.timer().poll(context));
        }
        self.is_waiting = false;
        match frame {
            Poll::Ready(frame) => Poll::Ready(frame),
            Poll::Pending => Poll::Ready(Some(Err(Silent.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};

    const SILENCE_MAX: Duration = Duration::from_secs(10);

    /// One byte after each of these waits, and then no end.
    fn pieces(waits_s: &[u64]) -> Timed<impl Body<Data = Bytes, Error = Silent> + Unpin + use<>> {
        let pieces = stream::iter(waits_s.to_vec()).then(async |wait_s| {
            sleep(Duration::from_secs(wait_s)).await;
            Ok(Frame::data(Bytes::from_static(b"x")))
        });
        Timed::new(StreamBody::new(Box::pin(pieces.chain(stream::pending()))), SILENCE_MAX)
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_is_timed_anew() {
        let mut body = pieces(&[9, 9, 0, 9]);
        let begun = Instant::now();
        for _ in 0..4 {
            assert!(body.frame().await.unwrap().is_ok());
        }
        assert_eq!(begun.elapsed().as_secs(), 27);
        assert_eq!(body.frame().await.unwrap().unwrap_err(), Silent);
        assert_eq!(begun.elapsed().as_secs(), 37);
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_piece_that_never_comes_is_an_error() {
        let mut body = pieces(&[11]);
        let begun = Instant::now();
        assert_eq!(body.frame().await.unwrap().unwrap_err(), Silent);
        assert_eq!(begun.elapsed(), SILENCE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_its_time_is_not_the_upstreams_silence() {
        let mut body = pieces(&[1, 9, 0]);
        assert!(body.frame().await.unwrap().is_ok());
        tokio::time::advance(SILENCE_MAX * 2).await;
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_ok());
    }
}
