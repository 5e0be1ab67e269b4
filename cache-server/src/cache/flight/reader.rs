//! The reading end of a flight.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::state::{End, Failure, Flight, lock};
use super::sync::watch;

/// The reading end of a flight.
#[derive(Debug)]
pub struct Reader<H, E> {
    flight: Arc<Flight<H, E>>,
    changed: watch::Receiver<()>,
    id: u64,
    position: usize,
}

/// What a reader finds next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<E> {
    /// More of the body.
    Chunk(Bytes),
    /// The verified end, with the trailers if there were any.
    Done(Option<HeaderMap>),
    /// No more is to be had, and what came is not whole.
    Failed(Failure<E>),
}

impl<H, E> Reader<H, E> {
    pub(super) fn join(flight: &Arc<Flight<H, E>>) -> Reader<H, E> {
        let changed = flight.changed.subscribe();
        let mut state = lock(&flight.state);
        let id = state.next_reader;
        state.next_reader += 1;
        state.joined += 1;
        state.readers.insert(id, 0);
        drop(state);
        Reader { flight: Arc::clone(flight), changed, id, position: 0 }
    }

    /// Leaves again, as one that has not come to read: it does not count.
    pub fn pass_by(self) {
        lock(&self.flight.state).joined -= 1;
    }
}

impl<H: Clone, E: Clone> Reader<H, E> {
    /// Waits for the headers. It ends with the fill, whose every wait has a deadline.
    ///
    /// # Errors
    /// The fill's failure, if it came before the headers.
    pub async fn head(&mut self) -> Result<H, Failure<E>> {
        loop {
            self.changed.mark_unchanged();
            {
                let state = lock(&self.flight.state);
                match (&state.head, &state.end) {
                    (Some(head), _) => return Ok(head.clone()),
                    (None, Some(End::Failed(failure))) => return Err(failure.clone()),
                    (None, Some(End::Done(_))) => return Err(Failure::Abandoned),
                    (None, None) => {}
                }
            }
            if self.changed.changed().await.is_err() {
                return Err(Failure::Abandoned);
            }
        }
    }

    /// Waits for what comes next. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Next<E> {
        loop {
            self.changed.mark_unchanged();
            if let Some(next) = self.poll_state() {
                return next;
            }
            if self.changed.changed().await.is_err() {
                return Next::Failed(Failure::Abandoned);
            }
        }
    }

    fn poll_state(&mut self) -> Option<Next<E>> {
        let mut state = lock(&self.flight.state);
        let Some(index) = self.position.checked_sub(state.dropped) else {
            return Some(Next::Failed(Failure::TooSlow));
        };
        if let Some(chunk) = state.chunks.get(index).cloned() {
            self.position += 1;
            state.readers.insert(self.id, self.position);
            if !state.recording {
                state.trim();
                self.flight.reader_moved.notify_one();
            }
            return Some(Next::Chunk(chunk));
        }
        match &state.end {
            Some(End::Done(trailers)) => Some(Next::Done(trailers.clone())),
            Some(End::Failed(failure)) => Some(Next::Failed(failure.clone())),
            None => None,
        }
    }
}

impl<H, E> Drop for Reader<H, E> {
    fn drop(&mut self) {
        lock(&self.flight.state).readers.remove(&self.id);
        self.flight.reader_moved.notify_one();
    }
}
