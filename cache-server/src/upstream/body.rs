//! Bodies to and from an upstream: what is sent with a request, and what is received of an answer.
//!
//! Most requests' bodies were read whole before the upstream is asked, or are empty: these are
//! bytes and nothing else. Only one that is still under way is boxed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

use super::ended::Ended;
use super::exchange::ExchangeError;
use super::health::Health;
use super::noted::Noted;
use super::silence::Timed;
use crate::cache::budget::Reservation;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body on its way to the upstream.
#[derive(Debug)]
pub struct RequestBody(Kind);

#[derive(Debug)]
enum Kind {
    /// It was read whole; empty once it is sent.
    Whole { bytes: Bytes, _reservation: Option<Reservation> },
    /// It is still under way.
    Passing(UnsyncBoxBody<Bytes, BoxError>),
}

impl RequestBody {
    /// No body.
    #[must_use]
    pub fn empty() -> RequestBody {
        RequestBody::whole(Bytes::new(), None)
    }

    /// One that was read whole, and what is reserved for it until it is sent.
    #[must_use]
    pub fn whole(bytes: Bytes, reservation: Option<Reservation>) -> RequestBody {
        RequestBody(Kind::Whole { bytes, _reservation: reservation })
    }

    /// One that is still under way.
    #[must_use]
    pub fn passing<B>(body: B) -> RequestBody
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        RequestBody(Kind::Passing(body.map_err(Into::into).boxed_unsync()))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Whole { bytes, .. } if bytes.is_empty() => Poll::Ready(None),
            Kind::Whole { bytes, .. } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Passing(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole { bytes, .. } => bytes.is_empty(),
            Kind::Passing(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Kind::Passing(body) => body.size_hint(),
        }
    }
}

/// An upstream's answer as it is received: an error where it is silent for too long, or ends early, which
/// its health is told.
pub type ReceivedBody = Noted<Ended<Timed<Received>>>;

/// What the HTTP library gives of an answer.
#[derive(Debug)]
pub struct Received(Incoming);

/// An answer whose body is watched to its end, of which `health` is told if it is given.
pub(super) fn received(
    answer: Response<Incoming>,
    silence_max: Duration,
    health: Option<Arc<Health>>,
) -> Response<ReceivedBody> {
    let version = answer.version();
    answer.map(|body| {
        Noted::new(Ended::new(Timed::new(Received(body), silence_max), version), health)
    })
}

impl Body for Received {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let frame = Pin::new(&mut self.0).poll_frame(context);
        frame.map(|frame| frame.map(|frame| frame.map_err(ExchangeError::Answer)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::budget::Budget;
    use http::HeaderMap;
    use http_body_util::{Empty, Full};

    #[tokio::test]
    async fn a_whole_body_is_one_piece_of_a_known_length_and_then_ends() {
        let mut body = RequestBody::whole(Bytes::from_static(b"body"), None);
        assert!(!body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(4));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "body");
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn no_body_has_ended() {
        let mut body = RequestBody::empty();
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.frame().await.is_none());
    }

    #[test]
    fn what_is_reserved_for_a_body_is_held_until_it_is_let_go() {
        let budget = Budget::new(10);
        let mut reservation = budget.open();
        assert!(reservation.grow(4));
        let body = RequestBody::whole(Bytes::from_static(b"body"), Some(reservation));
        assert_eq!(budget.held(), 4);
        drop(body);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn a_body_under_way_keeps_its_length_and_its_trailers() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
        let last = std::future::ready(Some(Ok(trailers.clone())));
        let body = RequestBody::passing(Full::from("body").with_trailers(last));
        let whole = body.collect().await.unwrap();
        assert_eq!(whole.trailers(), Some(&trailers));
        assert_eq!(whole.to_bytes(), "body");
        assert_eq!(RequestBody::passing(Full::from("body")).size_hint().exact(), Some(4));
        assert!(RequestBody::passing(Empty::<Bytes>::new()).is_end_stream());
    }
}
