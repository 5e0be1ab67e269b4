//! The table of flights: who leads, who follows, and how many there may be.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use keyspec::Key;

use super::budget::Budget;
use super::reader::Reader;
use super::state::{Flight, lock};
use super::sync::{AtomicUsize, Mutex, Ordering};
use super::writer::Writer;

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
    /// How long after its beginning a flight takes joiners; the next caller then begins another.
    pub age_max: Duration,
}

/// Every flight under way.
#[derive(Debug)]
pub struct Flights<H, E> {
    /// Those that can be joined, by key.
    open: Mutex<HashMap<Key, Arc<Flight<H, E>>>>,
    /// Those whose writer has not ended, joinable or not. It grows under the table's lock alone.
    filling: AtomicUsize,
    /// Bytes held by every flight that a writer or a reader still has.
    held: Arc<AtomicUsize>,
    pub(super) limits: Limits,
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
        Arc::new(Flights {
            open: Mutex::new(HashMap::new()),
            filling: AtomicUsize::new(0),
            held: Arc::new(AtomicUsize::new(0)),
            limits,
            budget,
        })
    }

    /// Flights open now, those included that nobody joins any more.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.filling.load(Ordering::Relaxed)
    }

    /// Bytes of answers held by flights now: what they have recorded, or their windows. A flight that
    /// has ended counts until its last reader has left. The budget may know of fewer: one chunk a
    /// flight may pass over it.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Joins the flight for `key` or opens one, of which `sequence` is noted: the newest purge
    /// order when it begins. One that `is_current` says no to, by what was noted of it, is joined
    /// no more, nor is one older than [`Limits::age_max`]. `recheck` looks once more where the
    /// answer would be stored, under the table's lock: a flight stores before it leaves the table,
    /// so that between a miss and the joining no answer can slip by.
    pub fn join<F>(
        self: &Arc<Self>,
        key: Key,
        sequence: u64,
        is_current: impl FnOnce(u64) -> bool,
        recheck: impl FnOnce() -> Option<F>,
    ) -> Joined<H, E, F> {
        let mut open = lock(&self.open);
        if let Some(flight) = open.get(&key)
            && flight.began.elapsed() <= self.limits.age_max
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
        let flight = Flight::new(key, sequence, self.budget.open(), &self.held);
        open.insert(key, Arc::clone(&flight));
        let reader = Reader::join(&flight);
        Joined::Leader(Writer::new(Arc::clone(self), flight), reader)
    }

    /// Takes a flight out of the table, unless a newer one has its place.
    pub(super) fn close(&self, flight: &Arc<Flight<H, E>>) {
        self.close_if(flight, || true);
    }

    /// The same if `may_close`, which is asked while nobody can board. Gives what it says.
    pub(super) fn close_if(
        &self,
        flight: &Arc<Flight<H, E>>,
        may_close: impl FnOnce() -> bool,
    ) -> bool {
        let mut open = lock(&self.open);
        if !may_close() {
            return false;
        }
        if open.get(&flight.key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            open.remove(&flight.key);
        }
        true
    }

    /// Whether a flight can be found in the table.
    pub(super) fn has(&self, flight: &Arc<Flight<H, E>>) -> bool {
        lock(&self.open).get(&flight.key).is_some_and(|current| Arc::ptr_eq(current, flight))
    }

    /// A writer has ended: another may begin.
    pub(super) fn make_place(&self) {
        self.filling.fetch_sub(1, Ordering::Relaxed);
    }
}
