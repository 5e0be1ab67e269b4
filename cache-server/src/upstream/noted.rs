//! Noted: an exchange has gone well once its answer has ended, and not at its headers: an upstream whose
//! answers break off each time is as good as down.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::exchange::ExchangeError;
use super::health::Health;
use crate::telemetry::upstream::ExchangeEnd;

/// An answer's body that tells its upstream's health how it ended. One that is dropped before says nothing
/// against the upstream.
#[derive(Debug)]
pub struct Noted<B> {
    body: B,
    /// Until it is told.
    health: Option<Arc<Health>>,
}

impl<B> Noted<B> {
    /// A body whose end `health` is told, if it is given.
    pub fn new(body: B, health: Option<Arc<Health>>) -> Noted<B> {
        Noted { body, health }
    }

    /// The exchange has gone so, whatever comes.
    pub fn went(&mut self, end: ExchangeEnd) {
        if let Some(health) = self.health.take() {
            health.note(end);
        }
    }
}

impl<B> Drop for Noted<B> {
    fn drop(&mut self) {
        self.went(ExchangeEnd::Answered);
    }
}

impl<B> Body for Noted<B>
where
    B: Body<Data = Bytes, Error = ExchangeError> + Unpin,
{
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Err(error)) = &frame {
            self.went(error.end().unwrap_or(ExchangeEnd::Answered));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
