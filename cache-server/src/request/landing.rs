//! Landing: takes an upstream's answer in and passes it on to those who read along.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt;

use super::order::Order;
use super::store::{BUFFERS_FULL, SUPERSEDED, TOO_LARGE};
use crate::cache::entry::{Entry, Usage};
use crate::cache::flight::Writer;
use crate::upstream::body::ReceivedBody;
use crate::upstream::exchange::ExchangeError;
use crate::upstream::head::{AnswerHead, Arrival};
use crate::upstream::{UpstreamError, fields};

/// How long the head of an answer that is no stream is held back for its body, so that the head
/// can say whether it was stored.
const HEAD_HELD_MAX: Duration = Duration::from_millis(250);

/// A piece of an upstream's answer.
type Received = Result<Frame<Bytes>, ExchangeError>;

/// The writing end of this server's flights.
pub type AnswerWriter = Writer<Arrival, UpstreamError>;

/// Why a fill ended early.
pub enum Stopped {
    /// The upstream failed.
    Failed(UpstreamError),
    /// All callers have left.
    NobodyListens,
    /// What others may have must end in time. What is for one caller lasts as long as it is read.
    Overdue,
}

/// Takes an answer in and passes it on. Two things wait for the verdict on storing, so that
/// whoever has seen the end of an answer finds it in the cache: the end itself, and of an answer
/// whose length is known its last chunk. The head of one that is no stream waits with them, for
/// a short while, to tell whether it was stored.
pub struct Landing<'w> {
    head: AnswerHead,
    writer: &'w mut AnswerWriter,
    /// Whether it ends once nobody reads along, though it is recorded.
    may_be_left: bool,
    head_is_out: bool,
    head_due: tokio::time::Instant,
    received: u64,
    last_chunk: Option<Bytes>,
}

impl<'w> Landing<'w> {
    /// Begins to take an answer in; lets its head out at once where nothing is gained by waiting.
    pub fn new(head: AnswerHead, writer: &'w mut AnswerWriter, may_be_left: bool) -> Landing<'w> {
        let mut landing = Landing {
            head_due: tokio::time::Instant::now() + HEAD_HELD_MAX,
            head_is_out: false,
            received: 0,
            last_chunk: None,
            head,
            writer,
            may_be_left,
        };
        // Nobody will read it again.
        if !landing.head.may_be_stored() {
            landing.writer.stop_recording();
        }
        if landing.head.is_event_stream() || !landing.head.may_be_stored() {
            landing.let_head_out();
        }
        landing
    }

    /// The head of the answer.
    pub fn head(&self) -> &AnswerHead {
        &self.head
    }

    fn let_head_out(&mut self) {
        if !self.head_is_out {
            self.head_is_out = true;
            let head = Arrival::Answer(Arc::new(self.head.clone()));
            self.writer.set_head(head, self.head.is_shareable());
        }
    }

    /// Reads the body to its end; gives its trailers.
    ///
    /// # Errors
    /// When it breaks off, or nobody is left to read it.
    pub async fn take_in(
        &mut self,
        order: &Order,
        mut body: ReceivedBody,
    ) -> Result<Option<HeaderMap>, Stopped> {
        let mut trailers = None;
        loop {
            let Some(frame) = self.frame(&mut body).await? else { return Ok(trailers) };
            let frame = frame.map_err(|error| Stopped::Failed(order.upstream.error(&error)))?;
            match frame.into_data() {
                Ok(chunk) => self.pass_on(chunk).await?,
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    trailers.iter_mut().for_each(fields::strip_hop_by_hop);
                    trailers.iter().for_each(|trailers| self.share(trailers));
                }
            }
        }
    }

    /// Takes in what is stored, which the upstream has confirmed; gives its trailers.
    ///
    /// # Errors
    /// When nobody is left to read it.
    pub async fn take_stored(&mut self, entry: &Entry) -> Result<Option<HeaderMap>, Stopped> {
        self.pass_on(entry.body.clone()).await?;
        self.share(&entry.trailers);
        Ok(self.head.settled.trailers.get().cloned())
    }

    fn share(&self, trailers: &HeaderMap) {
        let shared = self.head.shared_trailers(trailers);
        if !shared.is_empty() {
            let _ = self.head.settled.trailers.set(shared);
        }
    }

    /// What comes next of the body, if it has not ended.
    async fn frame(&mut self, body: &mut ReceivedBody) -> Result<Option<Received>, Stopped> {
        let is_left_alone = self.may_be_left || !self.writer.is_recording();
        loop {
            let head_due = async {
                if self.head_is_out {
                    std::future::pending::<()>().await;
                } else {
                    tokio::time::sleep_until(self.head_due).await;
                }
            };
            tokio::select! {
                biased;
                frame = body.frame() => return Ok(frame),
                () = self.writer.left_by_all(), if is_left_alone => {
                    return Err(Stopped::NobodyListens);
                }
                () = head_due => {}
            }
            self.let_head_out();
        }
    }

    /// Takes in a piece of the body.
    ///
    /// # Errors
    /// When nobody is left to read it.
    pub async fn pass_on(&mut self, chunk: Bytes) -> Result<(), Stopped> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.received += chunk.len() as u64;
        if self.head.content_length() == Some(self.received) {
            self.last_chunk = Some(chunk);
            return Ok(());
        }
        self.publish(chunk).await
    }

    async fn publish(&mut self, chunk: Bytes) -> Result<(), Stopped> {
        if self.writer.record(&chunk) {
            return Ok(());
        }
        // Its readers must be on their way before they can make room.
        self.let_head_out();
        self.writer.pass(chunk).await.map_err(|_| Stopped::NobodyListens)
    }

    /// Has the answer stored, or not, and lets out what waited for that.
    ///
    /// # Errors
    /// When nobody is left to read its end.
    pub async fn settle(
        mut self,
        store: impl FnOnce(&AnswerHead, Result<Bytes, &'static str>) -> Result<Usage, &'static str>,
    ) -> Result<Result<Usage, &'static str>, Stopped> {
        let body = self.body();
        let stored = store(&self.head, body);
        self.head.stored = Some(stored.map(|_| ()));
        // Before anyone can have seen its end: who asks after that asks anew, or finds it stored.
        self.writer.close_to_joiners();
        self.let_head_out();
        if let Some(chunk) = self.last_chunk.take() {
            let published = self.publish(chunk).await;
            // What is stored was not fetched for its readers alone.
            if stored.is_err() {
                published?;
            }
        }
        Ok(stored)
    }

    /// Whether more has come than is stored of one answer.
    pub fn is_too_large(&self) -> bool {
        self.received > self.writer.recorded_bytes_max() as u64
    }

    /// The body as it is to be stored, or why there is none.
    fn body(&self) -> Result<Bytes, &'static str> {
        let Some(recorded) = self.writer.recorded() else {
            return Err(if self.is_too_large() { TOO_LARGE } else { BUFFERS_FULL });
        };
        // A fetch that began after this one has its place, and knows better.
        if self.head.is_shareable() && !self.writer.is_current() {
            return Err(SUPERSEDED);
        }
        // One buffer of its exact size: slices would keep network buffers alive.
        let chunks = || recorded.iter().chain(&self.last_chunk);
        let mut body = BytesMut::with_capacity(chunks().map(Bytes::len).sum());
        for chunk in chunks() {
            body.extend_from_slice(chunk);
        }
        Ok(body.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::AnswerFlights;
    use crate::cache::budget::Budget;
    use crate::cache::flight::{Flights, Joined, Limits, Next, Reader};
    use keyspec::Key;

    type AnswerReader = Reader<Arrival, UpstreamError>;

    async fn head_of(reader: &mut AnswerReader) -> Arc<AnswerHead> {
        match reader.head().await.unwrap() {
            Arrival::Answer(head) => head,
            Arrival::Stored(_) => panic!("nobody else has stored it"),
        }
    }

    fn flight() -> (Arc<AnswerFlights>, AnswerWriter, AnswerReader) {
        let limits = Limits {
            flights_max: 10,
            recorded_bytes_max: 100,
            window_bytes: 10,
            slow_reader_timeout: Duration::from_secs(30),
            age_max: Duration::from_secs(600),
        };
        let flights: Arc<AnswerFlights> = Flights::new(limits, Budget::new(1000));
        match flights.join(Key::from_bytes([1; 32]), 0, |_| true, || None::<()>) {
            Joined::Leader(writer, reader) => (flights, writer, reader),
            other => panic!("expected to lead, got {other:?}"),
        }
    }

    fn head(fields: &[(&str, &str)]) -> AnswerHead {
        let mut response = http::Response::builder();
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        AnswerHead::of(response.body(()).unwrap().into_parts().0)
    }

    fn is_waiting(future: impl Future) -> bool {
        use futures_util::FutureExt;
        future.now_or_never().is_none()
    }

    #[tokio::test]
    async fn the_head_and_the_last_chunk_wait_for_the_verdict_on_storing() {
        let (_flights, mut writer, mut reader) = flight();
        let mut landing = Landing::new(head(&[("content-length", "3")]), &mut writer, false);
        assert!(landing.pass_on(Bytes::from_static(b"ab")).await.is_ok());
        assert!(is_waiting(reader.head()), "the head must not be out before the verdict");
        assert!(landing.pass_on(Bytes::from_static(b"c")).await.is_ok());
        assert_eq!(reader.next().await, Next::Chunk(Bytes::from_static(b"ab")));
        assert!(is_waiting(reader.next()), "the last chunk must not be out before the verdict");
        let stored = landing.settle(|_, body| {
            assert_eq!(body.as_deref(), Ok(&b"abc"[..]));
            Err("length")
        });
        assert!(matches!(stored.await, Ok(Err("length"))));
        assert_eq!(head_of(&mut reader).await.stored, Some(Err("length")));
        assert_eq!(reader.next().await, Next::Chunk(Bytes::from_static(b"c")));
    }

    #[tokio::test]
    async fn nobody_joins_once_the_last_chunk_is_out() {
        let (flights, mut writer, mut reader) = flight();
        let mut landing = Landing::new(head(&[("content-length", "1")]), &mut writer, false);
        assert!(landing.pass_on(Bytes::from_static(b"a")).await.is_ok());
        assert!(landing.settle(|_, _| Err("status")).await.is_ok());
        assert_eq!(reader.next().await, Next::Chunk(Bytes::from_static(b"a")));
        assert!(!writer.is_current(), "the fill is not finished, but its end is out");
        assert_eq!(flights.open_count(), 1);
    }

    #[tokio::test]
    async fn an_event_streams_head_and_events_are_never_held_back() {
        let (_flights, mut writer, mut reader) = flight();
        let mut landing =
            Landing::new(head(&[("content-type", "text/event-stream")]), &mut writer, false);
        assert_eq!(head_of(&mut reader).await.stored, None);
        assert!(landing.pass_on(Bytes::from_static(b"data: 1\n\n")).await.is_ok());
        assert_eq!(reader.next().await, Next::Chunk(Bytes::from_static(b"data: 1\n\n")));
    }

    #[tokio::test]
    async fn a_fetch_whose_place_was_taken_stores_nothing() {
        let (flights, mut writer, _reader) = flight();
        let landing = Landing::new(head(&[]), &mut writer, false);
        let _newer = flights.lead_anew::<()>(Key::from_bytes([1; 32]), 0);
        let stored = landing.settle(|_, body| Err(body.expect_err("it must not be stored")));
        assert!(matches!(stored.await, Ok(Err("superseded"))));
    }
}
