//! Bodies under way: a request's towards the upstream, and an answer's towards the caller.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::line::Line;
use super::traced::TracedBody;
use crate::cache::budget::Reservation;
use crate::telemetry::trace::Step;
use crate::upstream::answer::EventFrames;
use crate::upstream::body::{ReceivedBody, RequestBody};

/// Any error that cuts a body off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body on its way to the upstream, unchanged: what was read of it already, then
/// the rest as it comes, within a deadline between reads and a bound on the whole.
#[derive(Debug)]
pub struct PassingBody {
    begun: Option<Bytes>,
    rest: Option<Incoming>,
    read_timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    left: u64,
    fault: Fault,
    trailers: Option<HeaderMap>,
    reservation: Option<Reservation>,
}

/// What went wrong on the caller's side, told to whoever sees the exchange fail.
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<OnceLock<BodyFault>>);

impl Fault {
    /// What went wrong, if anything did.
    #[must_use]
    pub fn get(&self) -> Option<BodyFault> {
        self.0.get().copied()
    }
}

/// Why a request's body did not come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// Nothing came for too long.
    #[error("the request's body stopped coming")]
    TimedOut,
    /// It went on over the bound.
    #[error("the request's body is too large")]
    TooLarge,
    /// The caller broke off.
    #[error("the request's body broke off")]
    Broken,
}

impl PassingBody {
    /// One that was read whole.
    #[must_use]
    pub fn buffered(body: Bytes, reservation: Reservation) -> PassingBody {
        PassingBody {
            begun: Some(body),
            rest: None,
            read_timeout: Duration::ZERO,
            timer: None,
            left: u64::MAX,
            fault: Fault::default(),
            trailers: None,
            reservation: Some(reservation),
        }
    }

    /// One that nobody has read from.
    #[must_use]
    pub fn streamed(body: Incoming, read_timeout: Duration, bytes_max: u64) -> PassingBody {
        PassingBody {
            begun: None,
            rest: Some(body),
            read_timeout,
            timer: None,
            left: bytes_max,
            fault: Fault::default(),
            trailers: None,
            reservation: None,
        }
    }

    /// One that was begun to be read.
    #[must_use]
    pub fn begun(
        begun: Bytes,
        reservation: Reservation,
        rest: Incoming,
        read_timeout: Duration,
        bytes_max: u64,
    ) -> PassingBody {
        PassingBody {
            left: bytes_max.saturating_sub(begun.len() as u64),
            begun: Some(begun),
            reservation: Some(reservation),
            ..PassingBody::streamed(rest, read_timeout, bytes_max)
        }
    }

    /// With trailers that came after the bytes that were read.
    #[must_use]
    pub fn with_trailers(self, trailers: HeaderMap) -> PassingBody {
        PassingBody { trailers: Some(trailers), ..self }
    }

    /// Where to look for what went wrong, after the body was handed away.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault.clone()
    }

    fn fail(&self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let _ = self.fault.0.set(fault);
        Poll::Ready(Some(Err(fault)))
    }
}

impl Body for PassingBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if let Some(begun) = self.begun.take().filter(|begun| !begun.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(begun))));
        }
        let Some(rest) = self.rest.as_mut() else {
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        };
        let frame = match Pin::new(rest).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let read_timeout = self.read_timeout;
                let timer =
                    self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(read_timeout)));
                ready!(timer.as_mut().poll(context));
                return self.fail(BodyFault::TimedOut);
            }
        };
        self.timer = None;
        match frame {
            None => Poll::Ready(None),
            Some(Err(_)) => self.fail(BodyFault::Broken),
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                match self.left.checked_sub(bytes) {
                    None => self.fail(BodyFault::TooLarge),
                    Some(left) => {
                        self.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.begun.as_ref().is_none_or(Bytes::is_empty)
            && self.trailers.is_none()
            && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let begun = self.begun.as_ref().map_or(0, Bytes::len) as u64;
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + begun);
        // Without a length it goes in chunks, which alone can be followed by trailers.
        if let (Some(upper), None) = (rest.upper(), &self.trailers) {
            hint.set_upper(upper + begun);
        }
        hint
    }
}

impl From<PassingBody> for RequestBody {
    /// What is left to come decides: a body that is there already passes through nothing.
    fn from(body: PassingBody) -> RequestBody {
        let has_come = body.rest.as_ref().is_none_or(Body::is_end_stream);
        if has_come && body.trailers.is_none() {
            return RequestBody::whole(body.begun.unwrap_or_default(), body.reservation);
        }
        RequestBody::passing(body)
    }
}

/// An answer's body on its way to the caller.
pub enum AnswerBody {
    /// All of it at once.
    Whole(Option<Bytes>),
    /// A stored event stream, cut at its event boundaries, unpaced.
    Events {
        /// The events to come.
        events: EventFrames,
        /// Their bytes; not declared as a length, or HTTP/1.1 would not send an event a chunk.
        bytes: u64,
    },
    /// Some pieces of what is stored.
    Parts {
        /// The pieces to come; none is empty.
        pieces: VecDeque<Bytes>,
        /// Their bytes.
        bytes: u64,
    },
    /// From the upstream straight through.
    Passing(Box<PassingAnswer>),
    /// From a flight.
    Flight(Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, BoxError>> + Send>>),
    /// One of the stored ones, and what comes behind it.
    Trailed(Box<TrailedBody>),
    /// Any of these, with the span that ends with it.
    Traced(Box<TracedBody>),
}

/// A body with trailers. It declares no length, or HTTP/1.1 would not send them.
pub struct TrailedBody {
    body: AnswerBody,
    trailers: Option<HeaderMap>,
}

/// An upstream's answer that no cache looks at.
pub struct PassingAnswer {
    body: ReceivedBody,
    line: Line,
    /// The span of the fetch; it ends with the body.
    span: Step,
}

impl PassingAnswer {
    /// Passes `body` on, which `line` follows to its end.
    #[must_use]
    pub fn new(body: ReceivedBody, line: Line, span: Step) -> PassingAnswer {
        let mut answer = PassingAnswer { body, line, span };
        answer.end_if_known();
        answer
    }

    /// A body that knows that it has ended, or was empty from the start, is not asked for its end.
    fn end_if_known(&mut self) {
        if self.body.is_end_stream() {
            self.line.whole();
        }
    }
}

impl AnswerBody {
    /// A body of these bytes.
    #[must_use]
    pub fn whole(bytes: Bytes) -> AnswerBody {
        AnswerBody::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// No body.
    #[must_use]
    pub fn none() -> AnswerBody {
        AnswerBody::Whole(None)
    }

    /// These pieces, none of them empty, in a row.
    #[must_use]
    pub fn parts(pieces: VecDeque<Bytes>) -> AnswerBody {
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        AnswerBody::Parts { pieces, bytes }
    }

    /// A stored event stream.
    #[must_use]
    pub fn events(stream: Bytes) -> AnswerBody {
        let bytes = stream.len() as u64;
        AnswerBody::Events { events: EventFrames::new(stream), bytes }
    }

    /// The same, with trailers behind it.
    #[must_use]
    pub fn followed_by(self, trailers: HeaderMap) -> AnswerBody {
        AnswerBody::Trailed(Box::new(TrailedBody { body: self, trailers: Some(trailers) }))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            AnswerBody::Whole(bytes) => Poll::Ready(bytes.take().map(|data| Ok(Frame::data(data)))),
            AnswerBody::Events { events, bytes } => {
                let event = events.next();
                *bytes -= event.as_ref().map_or(0, Bytes::len) as u64;
                Poll::Ready(event.map(|data| Ok(Frame::data(data))))
            }
            AnswerBody::Parts { pieces, bytes } => {
                let piece = pieces.pop_front();
                *bytes -= piece.as_ref().map_or(0, Bytes::len) as u64;
                Poll::Ready(piece.map(|data| Ok(Frame::data(data))))
            }
            AnswerBody::Passing(answer) => {
                let frame = ready!(Pin::new(&mut answer.body).poll_frame(context));
                match &frame {
                    Some(Ok(frame)) => {
                        answer.line.sent(frame.data_ref().map_or(0, Bytes::len) as u64);
                        answer.end_if_known();
                    }
                    Some(Err(_)) => {
                        answer.line.broken();
                        answer.span.fail("broken");
                    }
                    None => {
                        answer.line.whole();
                        answer.span.end();
                    }
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            AnswerBody::Flight(stream) => stream.as_mut().poll_next(context),
            AnswerBody::Trailed(trailed) => {
                let frame = ready!(Pin::new(&mut trailed.body).poll_frame(context));
                let trailers = || trailed.trailers.take().map(|last| Ok(Frame::trailers(last)));
                Poll::Ready(frame.or_else(trailers))
            }
            AnswerBody::Traced(traced) => Pin::new(&mut **traced).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Whole(bytes) => bytes.is_none(),
            AnswerBody::Events { bytes, .. } | AnswerBody::Parts { bytes, .. } => *bytes == 0,
            AnswerBody::Passing(answer) => answer.body.is_end_stream(),
            AnswerBody::Flight(_) => false,
            AnswerBody::Trailed(trailed) => trailed.trailers.is_none(),
            AnswerBody::Traced(traced) => traced.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            AnswerBody::Parts { bytes, .. } => SizeHint::with_exact(*bytes),
            AnswerBody::Passing(answer) => answer.body.size_hint(),
            AnswerBody::Traced(traced) => traced.size_hint(),
            AnswerBody::Events { .. } | AnswerBody::Flight(_) | AnswerBody::Trailed(_) => {
                SizeHint::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::budget::Budget;
    use http_body_util::BodyExt;

    fn buffered(budget: &Arc<Budget>) -> PassingBody {
        let mut reservation = budget.open();
        assert!(reservation.grow(4));
        PassingBody::buffered(Bytes::from_static(b"body"), reservation)
    }

    #[test]
    fn a_body_that_was_read_whole_goes_on_with_its_length_and_what_is_reserved_for_it() {
        let budget = Budget::new(10);
        let body = RequestBody::from(buffered(&budget));
        assert_eq!(body.size_hint().exact(), Some(4));
        assert_eq!(budget.held(), 4);
        drop(body);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn trailers_go_on_behind_a_body_that_was_read_whole() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
        let body = buffered(&Budget::new(10)).with_trailers(trailers.clone());
        let body = RequestBody::from(body);
        assert_eq!(body.size_hint().exact(), None);
        let whole = body.collect().await.unwrap();
        assert_eq!(whole.trailers(), Some(&trailers));
        assert_eq!(whole.to_bytes(), "body");
    }
}
