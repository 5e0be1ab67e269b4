//! What is known of one flight: its head, its chunks, its end, and where each reader stands.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use keyspec::Key;
use tokio::time::Instant;

use super::budget::Reservation;
use super::sync::{AtomicUsize, Mutex, MutexGuard, Notify, Ordering, PoisonError, watch};

/// One fill under way.
#[derive(Debug)]
pub(super) struct Flight<H, E> {
    pub(super) key: Key,
    /// The newest purge order when it began.
    pub(super) sequence: u64,
    /// When it began.
    pub(super) began: Instant,
    pub(super) state: Mutex<State<H, E>>,
    /// Wakes readers: the head, a chunk or the end came.
    pub(super) changed: watch::Sender<()>,
    /// Wakes the writer: a reader took a chunk or left.
    pub(super) reader_moved: Notify,
}

/// What of it changes.
#[derive(Debug)]
pub(super) struct State<H, E> {
    pub(super) head: Option<H>,
    pub(super) chunks: VecDeque<Bytes>,
    /// How many chunks have left the window before the first one in `chunks`.
    pub(super) dropped: usize,
    pub(super) held: Held,
    pub(super) recording: bool,
    pub(super) reservation: Reservation,
    /// Bytes of the first chunk, if it passes over the budget.
    pub(super) unreserved: usize,
    pub(super) end: Option<End<E>>,
    /// Position of each reader: the number of the chunk that it takes next.
    pub(super) readers: HashMap<u64, usize>,
    pub(super) next_reader: u64,
    /// How many have come to read.
    pub(super) joined: u64,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum End<E> {
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

impl<H, E> Flight<H, E> {
    /// One that has just begun. What it reserves counts for the budget, what it holds for all.
    pub(super) fn new(
        key: Key,
        sequence: u64,
        reservation: Reservation,
        held_by_all: &Arc<AtomicUsize>,
    ) -> Arc<Flight<H, E>> {
        Arc::new(Flight {
            key,
            sequence,
            began: Instant::now(),
            state: Mutex::new(State::new(reservation, Held::nothing(held_by_all))),
            changed: watch::Sender::new(()),
            reader_moved: Notify::new(),
        })
    }
}

impl<H, E> State<H, E> {
    fn new(reservation: Reservation, held: Held) -> State<H, E> {
        State {
            head: None,
            chunks: VecDeque::new(),
            dropped: 0,
            held,
            recording: true,
            reservation,
            unreserved: 0,
            end: None,
            readers: HashMap::new(),
            next_reader: 0,
            joined: 0,
        }
    }

    pub(super) fn append(&mut self, chunk: Bytes) {
        self.held.grow(chunk.len());
        self.chunks.push_back(chunk);
    }

    pub(super) fn drop_first(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.dropped += 1;
            self.held.shrink(chunk.len());
            self.reservation.shrink(chunk.len() - std::mem::take(&mut self.unreserved));
        }
    }

    /// Drops what every reader has taken. It looks no further than to the first reader that has not:
    /// with thousands of them, each would otherwise look at all others with every chunk.
    pub(super) fn trim(&mut self) {
        while !self.chunks.is_empty() && self.readers.values().all(|next| *next > self.dropped) {
            self.drop_first();
        }
    }

    /// Reserves room for a chunk, if the window and the budget have it. With an empty window it
    /// passes even over the budget, unreserved: it is here already.
    pub(super) fn take_room(&mut self, needed: usize, window_bytes: usize) -> bool {
        let is_empty = self.chunks.is_empty();
        if !is_empty && self.held.bytes() + needed > window_bytes {
            return false;
        }
        let is_reserved = self.reservation.grow(needed);
        if is_empty && !is_reserved {
            self.unreserved = needed;
        }
        is_empty || is_reserved
    }
}

/// Bytes that one flight holds, counted into those of all flights until it is gone.
#[derive(Debug)]
pub(super) struct Held {
    bytes: usize,
    by_all: Arc<AtomicUsize>,
}

impl Held {
    fn nothing(by_all: &Arc<AtomicUsize>) -> Held {
        Held { bytes: 0, by_all: Arc::clone(by_all) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn grow(&mut self, more: usize) {
        self.bytes += more;
        self.by_all.fetch_add(more, Ordering::Relaxed);
    }

    fn shrink(&mut self, fewer: usize) {
        self.bytes -= fewer;
        self.by_all.fetch_sub(fewer, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

/// Locks, also after a panic elsewhere: every change under these locks leaves a valid state.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
