//! Ended: an answer over HTTP/2 is whole when its stream has ended (RFC 9113 section 8.1).
//!
//! The HTTP library takes a reset without an error for an end as well, since one may follow the
//! end of an answer. One that comes before it would make half an answer look whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, Version};
use http_body::{Body, Frame, SizeHint};

/// A stream was reset before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its stream was reset before its end")]
struct NotEnded;

/// Makes an answer over HTTP/2 fail that stops before its stream has ended.
#[must_use]
pub(super) fn checked(answer: Response<reqwest::Body>) -> Response<reqwest::Body> {
    if answer.version() < Version::HTTP_2 {
        return answer;
    }
    answer.map(|body| reqwest::Body::wrap(Ended { body, failed: false }))
}

struct Ended<B> {
    body: B,
    /// An error was given, after which nothing is to be expected.
    failed: bool,
}

impl<B> Body for Ended<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None if !self.failed && !self.body.is_end_stream() => Some(Err(NotEnded.into())),
            frame => frame.map(|frame| frame.map_err(Into::into)),
        };
        self.failed |= matches!(frame, Some(Err(_)));
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
    use std::convert::Infallible;

    /// One piece, and then nothing, at the end of its stream or not.
    struct Piece {
        piece: Option<Bytes>,
        has_ended: bool,
    }

    impl Body for Piece {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.piece.take().map(|piece| Ok(Frame::data(piece))))
        }

        fn is_end_stream(&self) -> bool {
            self.has_ended && self.piece.is_none()
        }
    }

    #[tokio::test]
    async fn a_body_that_stops_before_its_stream_ends_is_an_error_once() {
        for has_ended in [true, false] {
            let body = Piece { piece: Some(Bytes::from_static(b"half")), has_ended };
            let mut body = Ended { body, failed: false };
            let piece = body.frame().await.unwrap().unwrap();
            assert_eq!(piece.into_data().unwrap(), "half");
            let end = body.frame().await;
            assert_eq!(end.is_none(), has_ended);
            assert!(end.is_none_or(|end| end.unwrap_err().is::<NotEnded>()));
            assert!(body.frame().await.is_none());
        }
    }
}
