//! Ended: an answer over HTTP/2 is whole when its stream has ended (RFC 9113 section 8.1).
//!
//! The HTTP library takes a reset without an error for an end as well, since one may follow the
//! end of an answer. One that comes before it would make half an answer look whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};

/// A stream was reset before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its stream was reset before its end")]
pub struct NotEnded;

/// A body that over HTTP/2 fails where it stops before its stream has ended.
#[derive(Debug)]
pub struct Ended<B> {
    body: B,
    /// Whether it has an end that can be told from a reset, and none was missed: after an error
    /// nothing is to be expected.
    is_checked: bool,
}

impl<B> Ended<B> {
    /// Checks the end of an answer's body.
    pub fn new(body: B, version: Version) -> Ended<B> {
        Ended { body, is_checked: version >= Version::HTTP_2 }
    }
}

impl<B> Body for Ended<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: From<NotEnded>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None if self.is_checked && !self.body.is_end_stream() => Some(Err(NotEnded.into())),
            frame => frame,
        };
        self.is_checked &= !matches!(frame, Some(Err(_)));
        Poll::Ready(frame)
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
    use http_body_util::BodyExt;

    /// One piece, and then nothing, at the end of its stream or not.
    struct Piece {
        piece: Option<Bytes>,
        has_ended: bool,
    }

    impl Body for Piece {
        type Data = Bytes;
        type Error = NotEnded;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, NotEnded>>> {
            Poll::Ready(self.piece.take().map(|piece| Ok(Frame::data(piece))))
        }

        fn is_end_stream(&self) -> bool {
            self.has_ended && self.piece.is_none()
        }
    }

    async fn end_of(version: Version, has_ended: bool) -> Option<NotEnded> {
        let body = Piece { piece: Some(Bytes::from_static(b"half")), has_ended };
        let mut body = Ended::new(body, version);
        let piece = body.frame().await.unwrap().unwrap();
        assert_eq!(piece.into_data().unwrap(), "half");
        let end = body.frame().await.map(|end| end.unwrap_err());
        assert!(body.frame().await.is_none());
        end
    }

    #[tokio::test]
    async fn a_body_that_stops_before_its_stream_ends_is_an_error_once() {
        assert_eq!(end_of(Version::HTTP_2, true).await, None);
        assert_eq!(end_of(Version::HTTP_2, false).await, Some(NotEnded));
    }

    #[tokio::test]
    async fn the_end_of_http1_is_its_librarys_to_check() {
        assert_eq!(end_of(Version::HTTP_11, false).await, None);
    }
}
