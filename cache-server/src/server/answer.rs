//! An answer's body on its way out, watched to its last byte. HTTP/1.1 and HTTP/2 alike let go
//! of a body before what they took of it is written; so its pieces are watched as well.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use http::Version;
use http_body::{Body, Frame, SizeHint};

use super::activity::Answering;

/// An answer's body that keeps its exchange under way.
#[derive(Debug)]
pub(super) struct WatchedBody<B> {
    body: B,
    answering: Answering,
    /// HTTP/1.0: whatever has no length ends with its connection.
    ends_by_closing: bool,
}

impl<B> WatchedBody<B> {
    pub(super) fn new(body: B, answering: Answering, asked_in: Version) -> WatchedBody<B> {
        WatchedBody { body, answering, ends_by_closing: asked_in <= Version::HTTP_10 }
    }
}

impl<B: Body + Unpin> Body for WatchedBody<B> {
    type Data = Piece<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if self.ends_by_closing && matches!(frame, Poll::Ready(Some(Err(_)))) {
            self.answering.broke_off();
        }
        let watch = |data| Piece { data, answering: self.answering.piece() };
        frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(watch))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes of an answer until they are written.
#[derive(Debug)]
pub(super) struct Piece<D> {
    data: D,
    answering: Answering,
}

impl<D: Buf> Buf for Piece<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [std::io::IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.answering.moved();
        self.data.advance(count);
    }
}

impl<D> Drop for Piece<D> {
    fn drop(&mut self) {
        self.answering.piece_is_gone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::activity::Activity;
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use std::sync::Arc;

    #[tokio::test]
    async fn a_piece_outlives_its_body_and_tells_each_byte_that_is_written() {
        let activity = Arc::new(Activity::default());
        let exchange = activity.exchange();
        let mut body = WatchedBody::new(
            Full::new(Bytes::from_static(b"abc")),
            exchange.begin(),
            Version::HTTP_11,
        );
        assert!(!exchange.is_sent().on, "nobody has taken anything yet");
        let mut piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(body);
        let taken = exchange.is_sent();
        piece.advance(2);
        let moved = exchange.is_sent();
        assert!(taken.on && moved.on && taken.turn != moved.turn);
        assert_eq!(piece.chunk(), b"c");
        drop(piece);
        assert!(!exchange.is_sent().on && activity.idles().on);
    }
}
