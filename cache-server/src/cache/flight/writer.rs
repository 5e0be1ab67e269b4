//! The filling end of a flight.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::{Instant, timeout_at};

use super::state::{End, Failure, Flight, State, lock};
use super::sync::MutexGuard;
use super::table::{Flights, Limits};

/// The filling end of a flight, held by one detached task.
#[derive(Debug)]
pub struct Writer<H, E> {
    flights: Arc<Flights<H, E>>,
    flight: Arc<Flight<H, E>>,
    ended: bool,
}

/// Every reader has left a flight that is no longer recorded: there is no use in going on.
#[derive(Debug, PartialEq, Eq)]
pub struct NobodyListens;

impl<H, E> Writer<H, E> {
    pub(super) fn new(flights: Arc<Flights<H, E>>, flight: Arc<Flight<H, E>>) -> Writer<H, E> {
        Writer { flights, flight, ended: false }
    }

    /// Publishes what is known at the headers. One that is not `joinable` leaves the table; those
    /// who wait see the head and go their own ways.
    pub fn set_head(&mut self, head: H, joinable: bool) {
        if !joinable {
            self.flights.close(&self.flight);
        }
        lock(&self.flight.state).head = Some(head);
        self.flight.changed.send_replace(());
    }

    /// Takes no more joiners. Whoever asks from now on finds what was stored, or asks anew.
    pub fn close_to_joiners(&mut self) {
        self.flights.close(&self.flight);
    }

    /// Whether it has its place in the table still: no newer flight has taken it.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.flights.has(&self.flight)
    }

    /// The newest purge order when the flight began.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.flight.sequence
    }

    /// Appends a chunk to the record. Says `false`, and keeps nothing, when it does not fit: the
    /// flight is then no longer recorded, and goes on by [`Writer::pass`].
    #[must_use]
    pub fn record(&mut self, chunk: &Bytes) -> bool {
        let mut state = lock(&self.flight.state);
        if !state.recording {
            return false;
        }
        let fits = state.held.bytes() + chunk.len() <= self.flights.limits.recorded_bytes_max;
        if fits && state.reservation.grow(chunk.len()) {
            state.append(chunk.clone());
            drop(state);
            self.flight.changed.send_replace(());
            return true;
        }
        drop(state);
        self.stop_recording();
        false
    }

    /// Keeps no record from now on: nobody joins any more, and nothing is stored.
    pub fn stop_recording(&mut self) {
        // First out of the table, then trimmed: nobody joins a flight whose beginning is gone.
        self.flights.close(&self.flight);
        let mut state = lock(&self.flight.state);
        state.recording = false;
        state.trim();
    }

    /// Whether all of the answer so far is recorded.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.state().recording
    }

    /// Waits until every reader has left.
    pub async fn nobody_listens(&self) {
        loop {
            let moved = self.flight.reader_moved.notified();
            if self.state().readers.is_empty() {
                return;
            }
            moved.await;
        }
    }

    /// Waits until every reader has left, and takes the flight out of the table: nobody boards one
    /// that is about to be broken off.
    pub async fn left_by_all(&self) {
        loop {
            self.nobody_listens().await;
            if self.flights.close_if(&self.flight, || self.state().readers.is_empty()) {
                return;
            }
        }
    }

    /// Passes a chunk of an answer that is not recorded on to its readers, at the pace of the
    /// slowest.
    ///
    /// # Errors
    /// [`NobodyListens`] when every reader has left.
    pub async fn pass(&mut self, chunk: Bytes) -> Result<(), NobodyListens> {
        self.make_room(chunk.len()).await?;
        self.state().append(chunk);
        self.flight.changed.send_replace(());
        Ok(())
    }

    /// Waits until the window and the budget have room for a chunk, and reserves it.
    async fn make_room(&self, needed: usize) -> Result<(), NobodyListens> {
        let Limits { window_bytes, slow_reader_timeout, .. } = self.flights.limits;
        let mut deadline = Instant::now() + slow_reader_timeout;
        let mut dropped = self.state().dropped;
        loop {
            let moved = self.flight.reader_moved.notified();
            {
                let mut state = self.state();
                state.trim();
                if state.readers.is_empty() {
                    return Err(NobodyListens);
                }
                if state.take_room(needed, window_bytes) {
                    return Ok(());
                }
                // The slowest moved: it is slow, and does not stand still.
                if state.dropped != dropped {
                    dropped = state.dropped;
                    deadline = Instant::now() + slow_reader_timeout;
                }
            }
            if timeout_at(deadline, moved).await.is_err() {
                self.leave_the_slow_behind(needed, dropped);
            }
        }
    }

    /// Drops chunks that slow readers have not taken; they find that out at their next read. The
    /// first chunk goes in any case, also where it is the budget that has no room: whoever has yet
    /// to take it stood still. Nothing is dropped if the slowest has just moved on after all.
    fn leave_the_slow_behind(&self, needed: usize, dropped: usize) {
        let mut state = self.state();
        state.trim();
        if state.dropped != dropped {
            return;
        }
        state.drop_first();
        while state.held.bytes() + needed > self.flights.limits.window_bytes
            && !state.chunks.is_empty()
        {
            state.drop_first();
        }
        let dropped = state.dropped;
        state.readers.retain(|_, position| *position >= dropped);
        drop(state);
        self.flight.changed.send_replace(());
    }

    /// The whole answer so far, if all of it was recorded.
    #[must_use]
    pub fn recorded(&self) -> Option<Vec<Bytes>> {
        let state = self.state();
        state.recording.then(|| state.chunks.iter().cloned().collect())
    }

    /// How much of an answer is recorded at most.
    #[must_use]
    pub fn recorded_bytes_max(&self) -> usize {
        self.flights.limits.recorded_bytes_max
    }

    /// How many have read along, whether they stayed or not.
    #[must_use]
    pub fn joined(&self) -> u64 {
        self.state().joined
    }

    /// Ends the flight as complete.
    pub fn finish(mut self, trailers: Option<HeaderMap>) {
        self.end(End::Done(trailers));
    }

    /// Ends the flight as failed.
    pub fn fail(mut self, error: E) {
        self.end(End::Failed(Failure::Fill(error)));
    }

    fn end(&mut self, end: End<E>) {
        self.ended = true;
        self.flights.close(&self.flight);
        self.flights.make_place();
        self.state().end = Some(end);
        self.flight.changed.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, State<H, E>> {
        lock(&self.flight.state)
    }
}

impl<H, E> Drop for Writer<H, E> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(End::Failed(Failure::Abandoned));
        }
    }
}
