//! Flights: one fill under way for one key, and everybody who reads along.
//!
//! A flight is an append-only list of chunks with a watched state. Its [`Writer`] belongs to a
//! detached task, never to a caller's connection, so a caller that hangs up harms nobody. A
//! [`Reader`] starts at the first byte whenever it joins and then runs live. A writer that goes
//! away without saying how it ended leaves a failed flight, never one that looks complete.
//!
//! Bounds. While the answer fits into `recorded_bytes_max` and the budget has room, every chunk
//! is kept for late joiners and for storing. Beyond that the flight stops recording: it leaves
//! the table (nobody joins any more, nothing is stored), keeps a window of `window_bytes`, and
//! is paced by its slowest reader. A reader that does not move for `slow_reader_timeout` is
//! dropped from the window and gets an error.
//!
//! The table knows neither HTTP nor upstreams: `H` is what is known at the headers, `E` why a
//! fill failed.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use keyspec::Key;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::cache::budget::{Budget, Reservation};

/// The bounds of a flight.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Flights open at once; one more goes alone, uncoalesced.
    pub flights_max: usize,
    /// Bytes recorded of one answer.
    pub recorded_bytes_max: usize,
    /// Bytes kept between the fill and the slowest reader once recording has stopped.
    pub window_bytes: usize,
    /// How long a reader may hold the window up.
    pub slow_reader_timeout: Duration,
}

/// Every flight under way.
#[derive(Debug)]
pub struct Flights<H, E> {
    /// Those that can be joined, by key.
    open: Mutex<HashMap<Key, Arc<Flight<H, E>>>>,
    /// Those whose writer has not ended, joinable or not. It grows under the table's lock alone.
    filling: AtomicUsize,
    limits: Limits,
    budget: Arc<Budget>,
}

/// What joining gave.
#[derive(Debug)]
pub enum Joined<H, E, F> {
    /// Nobody was fetching: the caller must see to it that the writer is filled.
    Leader(Writer<H, E>, Reader<H, E>),
    /// Somebody is: read along.
    Follower(Reader<H, E>),
    /// The answer arrived in the meantime.
    Found(F),
    /// The table is full: fetch alone.
    Full,
}

impl<H, E> Flights<H, E> {
    /// An empty table.
    #[must_use]
    pub fn new(limits: Limits, budget: Arc<Budget>) -> Arc<Flights<H, E>> {
        let (open, filling) = (Mutex::new(HashMap::new()), AtomicUsize::new(0));
        Arc::new(Flights { open, filling, limits, budget })
    }

    /// Flights open now, those included that nobody joins any more.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.filling.load(Ordering::Relaxed)
    }

    /// Joins the flight for `key` or opens one, of which `sequence` is noted: the newest purge
    /// order when it begins. One that `is_current` says no to, by what was noted of it, is joined
    /// no more. `recheck` looks once more where the answer would be stored, under the table's
    /// lock: a flight stores before it leaves the table, so that between a miss and the joining no
    /// answer can slip by.
    pub fn join<F>(
        self: &Arc<Self>,
        key: Key,
        sequence: u64,
        is_current: impl FnOnce(u64) -> bool,
        recheck: impl FnOnce() -> Option<F>,
    ) -> Joined<H, E, F> {
        let mut open = lock(&self.open);
        if let Some(flight) = open.get(&key)
            && is_current(flight.sequence)
        {
            return Joined::Follower(Reader::join(flight));
        }
        if let Some(found) = recheck() {
            return Joined::Found(found);
        }
        self.open_flight(&mut open, key, sequence)
    }

    /// Opens a flight for `key` whatever is under way; an older one goes on for those who are on
    /// it, but is no longer joined.
    pub fn lead_anew<F>(self: &Arc<Self>, key: Key, sequence: u64) -> Joined<H, E, F> {
        self.open_flight(&mut lock(&self.open), key, sequence)
    }

    fn open_flight<F>(
        self: &Arc<Self>,
        open: &mut HashMap<Key, Arc<Flight<H, E>>>,
        key: Key,
        sequence: u64,
    ) -> Joined<H, E, F> {
        if self.open_count() >= self.limits.flights_max {
            return Joined::Full;
        }
        self.filling.fetch_add(1, Ordering::Relaxed);
        let flight = Arc::new(Flight {
            key,
            sequence,
            state: Mutex::new(State::new(self.budget.open())),
            changed: watch::Sender::new(()),
            reader_moved: Notify::new(),
        });
        open.insert(key, Arc::clone(&flight));
        let reader = Reader::join(&flight);
        Joined::Leader(Writer { flights: Arc::clone(self), flight, ended: false }, reader)
    }

    /// Takes a flight out of the table, unless a newer one has its place.
    fn close(&self, flight: &Arc<Flight<H, E>>) {
        let mut open = lock(&self.open);
        if open.get(&flight.key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            open.remove(&flight.key);
        }
    }
}

#[derive(Debug)]
struct Flight<H, E> {
    key: Key,
    /// The newest purge order when it began.
    sequence: u64,
    state: Mutex<State<H, E>>,
    /// Wakes readers: the head, a chunk or the end came.
    changed: watch::Sender<()>,
    /// Wakes the writer: a reader took a chunk or left.
    reader_moved: Notify,
}

#[derive(Debug)]
struct State<H, E> {
    head: Option<H>,
    chunks: VecDeque<Bytes>,
    /// How many chunks have left the window before the first one in `chunks`.
    dropped: usize,
    bytes: usize,
    recording: bool,
    reservation: Reservation,
    /// Bytes of the first chunk, if it passes over the budget.
    unreserved: usize,
    end: Option<End<E>>,
    /// Position of each reader: the number of the chunk that it takes next.
    readers: HashMap<u64, usize>,
    next_reader: u64,
}

#[derive(Debug)]
enum End<E> {
    Done(Option<HeaderMap>),
    Failed(Failure<E>),
}

/// Why a reader gets no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The fill failed.
    Fill(E),
    /// The fill's task is gone without a word: it panicked or was dropped.
    Abandoned,
    /// This reader was too slow for the window.
    TooSlow,
}

impl<H, E> State<H, E> {
    fn new(reservation: Reservation) -> State<H, E> {
        State {
            head: None,
            chunks: VecDeque::new(),
            dropped: 0,
            bytes: 0,
            recording: true,
            reservation,
            unreserved: 0,
            end: None,
            readers: HashMap::new(),
            next_reader: 0,
        }
    }

    fn append(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    fn drop_first(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.dropped += 1;
            self.bytes -= chunk.len();
            self.reservation.shrink(chunk.len() - std::mem::take(&mut self.unreserved));
        }
    }

    /// Drops what every reader has taken.
    fn trim(&mut self) {
        let slowest = self.readers.values().min().copied().unwrap_or(usize::MAX);
        while self.dropped < slowest && !self.chunks.is_empty() {
            self.drop_first();
        }
    }
}

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

    /// Whether a caller who asks now would join this flight: no newer one has taken its place.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let open = lock(&self.flights.open);
        open.get(&self.flight.key).is_some_and(|current| Arc::ptr_eq(current, &self.flight))
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
        let fits = state.bytes + chunk.len() <= self.flights.limits.recorded_bytes_max;
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

    /// Waits until the window and the budget have room for a chunk, and reserves it. With an empty
    /// window it passes even over the budget, unreserved: it is here already.
    async fn make_room(&self, needed: usize) -> Result<(), NobodyListens> {
        let window_bytes = self.flights.limits.window_bytes;
        let mut deadline = Instant::now() + self.flights.limits.slow_reader_timeout;
        let mut dropped = self.state().dropped;
        loop {
            let moved = self.flight.reader_moved.notified();
            {
                let mut state = self.state();
                state.trim();
                if state.readers.is_empty() {
                    return Err(NobodyListens);
                }
                let is_empty = state.chunks.is_empty();
                if is_empty || state.bytes + needed <= window_bytes {
                    if state.reservation.grow(needed) {
                        return Ok(());
                    }
                    if is_empty {
                        state.unreserved = needed;
                        return Ok(());
                    }
                }
                // The slowest moved: it is slow, and does not stand still.
                if state.dropped != dropped {
                    dropped = state.dropped;
                    deadline = Instant::now() + self.flights.limits.slow_reader_timeout;
                }
            }
            if timeout_at(deadline, moved).await.is_err() {
                self.leave_the_slow_behind(needed);
            }
        }
    }

    /// Drops chunks that slow readers have not taken; they find that out at their next read.
    fn leave_the_slow_behind(&self, needed: usize) {
        let mut state = self.state();
        while state.bytes + needed > self.flights.limits.window_bytes && !state.chunks.is_empty() {
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
        self.state().next_reader
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
        self.flights.filling.fetch_sub(1, Ordering::Relaxed);
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
    fn join(flight: &Arc<Flight<H, E>>) -> Reader<H, E> {
        let changed = flight.changed.subscribe();
        let mut state = lock(&flight.state);
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, 0);
        drop(state);
        Reader { flight: Arc::clone(flight), changed, id, position: 0 }
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

/// Locks, also after a panic elsewhere: every change under these locks leaves a valid state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn always(_: u64) -> bool {
        true
    }

    type TestFlights = Flights<&'static str, &'static str>;
    type TestJoined = Joined<&'static str, &'static str, ()>;

    const KEY: Key = Key::from_bytes([1; 32]);

    fn flights(recorded_bytes_max: usize, budget: usize) -> Arc<TestFlights> {
        let limits = Limits {
            flights_max: 2,
            recorded_bytes_max,
            window_bytes: 4,
            slow_reader_timeout: Duration::from_secs(30),
        };
        Flights::new(limits, Budget::new(budget))
    }

    fn lead(
        flights: &Arc<TestFlights>,
    ) -> (Writer<&'static str, &'static str>, Reader<&'static str, &'static str>) {
        match flights.join(KEY, 0, always, || None::<()>) {
            Joined::Leader(writer, reader) => (writer, reader),
            other => panic!("expected to lead, got {other:?}"),
        }
    }

    fn follow(flights: &Arc<TestFlights>) -> Reader<&'static str, &'static str> {
        match flights.join(KEY, 0, always, || None::<()>) {
            Joined::Follower(reader) => reader,
            other => panic!("expected to follow, got {other:?}"),
        }
    }

    async fn push(
        writer: &mut Writer<&'static str, &'static str>,
        chunk: &'static [u8],
    ) -> Result<(), NobodyListens> {
        let chunk = Bytes::from_static(chunk);
        if writer.record(&chunk) { Ok(()) } else { writer.pass(chunk).await }
    }

    async fn rest(
        reader: &mut Reader<&'static str, &'static str>,
    ) -> (Vec<u8>, Next<&'static str>) {
        let mut bytes = Vec::new();
        loop {
            match reader.next().await {
                Next::Chunk(chunk) => bytes.extend_from_slice(&chunk),
                end => return (bytes, end),
            }
        }
    }

    #[tokio::test]
    async fn a_late_follower_gets_the_beginning_and_then_runs_live() {
        let flights = flights(100, 100);
        let (mut writer, mut leader) = lead(&flights);
        writer.set_head("200", true);
        push(&mut writer, b"one ").await.unwrap();
        let mut late = follow(&flights);
        assert_eq!(late.head().await, Ok("200"));
        push(&mut writer, b"two").await.unwrap();
        writer.finish(None);
        assert_eq!(rest(&mut leader).await, (b"one two".to_vec(), Next::Done(None)));
        assert_eq!(rest(&mut late).await, (b"one two".to_vec(), Next::Done(None)));
        assert_eq!(flights.open_count(), 0);
    }

    #[tokio::test]
    async fn a_writer_that_vanishes_never_looks_complete() {
        let flights = flights(100, 100);
        let (mut writer, mut reader) = lead(&flights);
        writer.set_head("200", true);
        push(&mut writer, b"half").await.unwrap();
        drop(writer);
        let (bytes, end) = rest(&mut reader).await;
        assert_eq!((bytes.as_slice(), end), (&b"half"[..], Next::Failed(Failure::Abandoned)));
        assert_eq!(flights.open_count(), 0);
    }

    #[tokio::test]
    async fn a_failure_before_the_headers_reaches_every_waiter() {
        let flights = flights(100, 100);
        let (writer, mut leader) = lead(&flights);
        let mut follower = follow(&flights);
        writer.fail("refused");
        assert_eq!(leader.head().await, Err(Failure::Fill("refused")));
        assert_eq!(follower.head().await, Err(Failure::Fill("refused")));
    }

    #[tokio::test]
    async fn readers_that_leave_change_nothing_for_a_recorded_flight() {
        let flights = flights(100, 100);
        let (mut writer, leader) = lead(&flights);
        drop(leader);
        push(&mut writer, b"all of it").await.unwrap();
        assert_eq!(writer.recorded(), Some(vec![Bytes::from_static(b"all of it")]));
        let mut late = follow(&flights);
        writer.finish(None);
        assert_eq!(rest(&mut late).await.0, b"all of it");
    }

    #[tokio::test]
    async fn over_the_record_a_flight_takes_no_joiners_and_is_paced_by_its_reader() {
        let flights = flights(4, 100);
        let (mut writer, mut reader) = lead(&flights);
        push(&mut writer, b"abcd").await.unwrap();
        let pushing = tokio::spawn(async move {
            push(&mut writer, b"efgh").await.unwrap();
            assert_eq!(writer.recorded(), None);
            writer.finish(None);
        });
        assert_eq!(rest(&mut reader).await, (b"abcdefgh".to_vec(), Next::Done(None)));
        pushing.await.unwrap();
        assert_eq!(flights.open_count(), 0);
    }

    #[tokio::test]
    async fn an_unrecorded_flight_that_nobody_reads_is_given_up() {
        let flights = flights(4, 100);
        let (mut writer, reader) = lead(&flights);
        drop(reader);
        let pushed = push(&mut writer, b"too long").await;
        assert_eq!(pushed, Err(NobodyListens));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stands_still_is_left_behind_and_told_so() {
        let flights = flights(4, 100);
        let (mut writer, mut slow) = lead(&flights);
        let mut quick = follow(&flights);
        let fast = tokio::spawn(async move { rest(&mut quick).await });
        for _ in 0..4 {
            push(&mut writer, b"abcd").await.unwrap();
        }
        writer.finish(None);
        assert_eq!(fast.await.unwrap(), (b"abcdabcdabcdabcd".to_vec(), Next::Done(None)));
        assert_eq!(slow.next().await, Next::Failed(Failure::TooSlow));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_moves_slowly_is_waited_for() {
        let flights = flights(40, 100);
        let (mut writer, mut slow) = lead(&flights);
        for _ in 0..10 {
            push(&mut writer, b"abcd").await.unwrap();
        }
        let reading = tokio::spawn(async move {
            let mut chunks = 0;
            while let Next::Chunk(_) = slow.next().await {
                chunks += 1;
                // Ten chunks at this pace take longer than a reader may stand still.
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
            chunks
        });
        push(&mut writer, b"efgh").await.unwrap();
        writer.finish(None);
        assert_eq!(reading.await.unwrap(), 11);
    }

    #[tokio::test]
    async fn the_window_too_draws_on_the_budget() {
        let flights = flights(4, 6);
        let other = flights.budget.open();
        let (mut writer, mut reader) = lead(&flights);
        push(&mut writer, b"abcd").await.unwrap();
        assert_eq!(flights.budget.held(), 4);
        let pushing = tokio::spawn(async move {
            push(&mut writer, b"efg").await.unwrap();
            writer
        });
        assert_eq!(reader.next().await, Next::Chunk(Bytes::from_static(b"abcd")));
        let writer = pushing.await.unwrap();
        assert_eq!(flights.budget.held(), 3, "what was taken is given back, the rest is held");
        writer.finish(None);
        assert_eq!(rest(&mut reader).await.0, b"efg");
        drop((reader, other));
        assert_eq!(flights.budget.held(), 0);
    }

    #[tokio::test]
    async fn a_full_budget_ends_recording_and_is_given_back() {
        let flights = flights(100, 6);
        let (mut writer, mut reader) = lead(&flights);
        push(&mut writer, b"abcd").await.unwrap();
        assert!(writer.recorded().is_some());
        let pushing = tokio::spawn(async move {
            push(&mut writer, b"efgh").await.unwrap();
            assert!(writer.recorded().is_none());
            writer.finish(None);
        });
        assert_eq!(rest(&mut reader).await.0, b"abcdefgh");
        pushing.await.unwrap();
        drop(reader);
        assert_eq!(flights.budget.held(), 0);
    }

    #[tokio::test]
    async fn the_table_is_bounded() {
        let flights = flights(100, 100);
        let _first = lead(&flights);
        let _second = match flights.join(Key::from_bytes([2; 32]), 0, always, || None::<()>) {
            Joined::Leader(writer, reader) => (writer, reader),
            other => panic!("expected to lead, got {other:?}"),
        };
        let third: TestJoined = flights.join(Key::from_bytes([3; 32]), 0, always, || None);
        assert!(matches!(third, Joined::Full));
    }

    #[tokio::test]
    async fn flights_that_nobody_joins_any_more_count_until_they_end() {
        let flights = flights(100, 100);
        let (older, _reader) = lead(&flights);
        let TestJoined::Leader(mut newer, _reader) = flights.lead_anew(KEY, 0) else {
            panic!("expected to lead")
        };
        newer.close_to_joiners();
        assert!(matches!(flights.lead_anew::<()>(KEY, 0), Joined::Full));
        assert_eq!(flights.open_count(), 2);
        older.fail("refused");
        assert!(matches!(flights.lead_anew::<()>(KEY, 0), Joined::Leader(..)));
    }

    #[tokio::test]
    async fn an_answer_that_arrived_in_the_meantime_is_found_instead_of_fetched() {
        let flights = flights(100, 100);
        assert!(matches!(flights.join(KEY, 0, always, || Some(42)), Joined::Found(42)));
        assert_eq!(flights.open_count(), 0);
    }

    #[tokio::test]
    async fn a_flight_that_is_closed_to_joiners_goes_on_for_those_on_board() {
        let flights = flights(100, 100);
        let (mut writer, mut leader) = lead(&flights);
        writer.close_to_joiners();
        let (_second, _) = lead(&flights);
        push(&mut writer, b"the last chunk").await.unwrap();
        writer.finish(None);
        assert_eq!(rest(&mut leader).await, (b"the last chunk".to_vec(), Next::Done(None)));
        assert_eq!(flights.open_count(), 1, "the second flight keeps its place");
    }

    #[tokio::test]
    async fn a_newer_flight_takes_the_place_of_an_older_one_and_keeps_it() {
        let flights = flights(100, 100);
        let (older, mut reader) = lead(&flights);
        let TestJoined::Leader(newer, _reader) = flights.lead_anew(KEY, 0) else {
            panic!("expected to lead")
        };
        assert!(!older.is_current() && newer.is_current());
        older.finish(None);
        assert_eq!(reader.next().await, Next::Done(None));
        assert!(newer.is_current(), "the older one's end must not close the newer one");
    }

    #[tokio::test]
    async fn a_flight_that_began_before_a_purge_is_joined_no_more() {
        let flights = flights(100, 100);
        let TestJoined::Leader(older, _reader) = flights.join(KEY, 1, always, || None::<()>) else {
            panic!("expected to lead")
        };
        let after_purge = |began: u64| began >= 2;
        let TestJoined::Leader(newer, _) = flights.join(KEY, 2, after_purge, || None) else {
            panic!("expected to lead anew")
        };
        assert!(!older.is_current() && newer.is_current());
        assert!(matches!(flights.join(KEY, 2, after_purge, || None::<()>), Joined::Follower(_)));
    }
}
