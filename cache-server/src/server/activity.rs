//! What a connection is doing, noted in a few atomics as it happens: a header that has begun,
//! answers under way, and whether the caller takes them. The [watchdog](super::watchdog) reads
//! them from time to time, so that no timer is touched per request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// A state that comes and goes: on in the lowest bit, and above it a number that grows with each
/// change, so that two looks can tell one time of it from the next. One task sets it.
#[derive(Debug, Default)]
pub(super) struct Mark(AtomicU64);

impl Mark {
    pub(super) fn set(&self, on: bool) {
        let now = self.0.load(Ordering::Relaxed);
        if (now & 1 == 1) != on {
            self.0.store((((now >> 1) + 1) << 1) | u64::from(on), Ordering::Relaxed);
        }
    }

    pub(super) fn look(&self) -> Look {
        let now = self.0.load(Ordering::Relaxed);
        Look { on: now & 1 == 1, turn: now >> 1 }
    }
}

/// What one look saw: whether it is so, and a number that is another if it was not so meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) on: bool,
    pub(super) turn: u64,
}

/// What one connection is doing.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// A header has begun and is not complete.
    pub(super) header: Mark,
    /// The socket took nothing at the last write. Goes off with every byte it takes.
    pub(super) write_waits: Mark,
    /// An answer broke off that the end of the connection would complete (HTTP/1.0): it must not
    /// end cleanly.
    pub(super) broke_off: AtomicBool,
    /// Exchanges under way.
    answering: AtomicUsize,
    /// How often an exchange began or ended.
    turns: AtomicU64,
    /// The bytes of the request under way, where all of it came at once (HTTP/1.1).
    raw: Mutex<Option<Bytes>>,
    next_id: AtomicU64,
    /// Those that may be under way: one with HTTP/1.1, one a stream with HTTP/2.
    exchanges: Mutex<BTreeMap<u64, Weak<Exchange>>>,
}

impl Activity {
    /// Whether a request is being answered.
    pub(super) fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed) > 0
    }

    /// A request was answered as soon as it came.
    pub(super) fn answered_at_once(&self) {
        self.header.set(false);
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// These are all the bytes of the request that comes next.
    pub(super) fn set_raw(&self, request: Bytes) {
        *self.raw.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
    }

    /// All the bytes of the request that has come, if they are known.
    pub(super) fn take_raw(&self) -> Option<Bytes> {
        self.raw.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Nothing is asked and nothing is answered.
    pub(super) fn idles(&self) -> Look {
        let header = self.header.look();
        let waits = self.write_waits.look();
        let turn = self.turns.load(Ordering::Relaxed);
        Look {
            on: !(self.is_answering() || header.on || waits.on),
            turn: turn.wrapping_add(header.turn).wrapping_add(waits.turn),
        }
    }

    /// A place for one exchange after the other.
    pub(super) fn exchange(self: &Arc<Self>) -> Arc<Exchange> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let exchange = Arc::new(Exchange {
            id,
            activity: Arc::clone(self),
            holders: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            pieces: AtomicUsize::new(0),
            moves: AtomicU64::new(0),
        });
        self.lock().insert(id, Arc::downgrade(&exchange));
        exchange
    }

    /// The exchanges that are there now, by id. Their number is bounded by the streams that a
    /// connection may have.
    pub(super) fn exchanges(&self) -> Vec<Arc<Exchange>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Weak<Exchange>>> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request and its answer, or one after the other of them on an HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Exchange {
    id: u64,
    activity: Arc<Activity>,
    /// Who still works at it: the service, then the body, then its pieces.
    holders: AtomicUsize,
    begun: AtomicU64,
    /// Pieces of its answer that were taken from us and are not written yet.
    pieces: AtomicUsize,
    /// Grows whenever some of its answer is written.
    moves: AtomicU64,
}

impl Exchange {
    /// A request's header is complete.
    pub(super) fn begin(self: &Arc<Self>) -> Answering {
        if self.holders.fetch_add(1, Ordering::Relaxed) == 0 {
            self.activity.answering.fetch_add(1, Ordering::Relaxed);
        }
        self.activity.turns.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// It is being answered, to the last byte.
    pub(super) fn is_answered(&self) -> Look {
        Look {
            on: self.holders.load(Ordering::Relaxed) > 0,
            turn: self.begun.load(Ordering::Relaxed),
        }
    }

    /// Some of its answer is waiting to be written. An answer that waits for its upstream is not.
    pub(super) fn is_sent(&self) -> Look {
        Look {
            on: self.pieces.load(Ordering::Relaxed) > 0,
            turn: self.moves.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.activity.lock().remove(&self.id);
    }
}

/// Held by whoever still works at an exchange. It is over when the last is dropped.
#[derive(Debug)]
pub(super) struct Answering(Arc<Exchange>);

impl Answering {
    /// A piece of the answer was handed to be written.
    pub(super) fn piece(&self) -> Answering {
        self.0.pieces.fetch_add(1, Ordering::Relaxed);
        self.0.holders.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(&self.0))
    }

    /// The answer broke off, and only a connection that breaks can tell.
    pub(super) fn broke_off(&self) {
        self.0.activity.broke_off.store(true, Ordering::Relaxed);
    }

    /// Some of a piece was written.
    pub(super) fn moved(&self) {
        self.0.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// A piece was written, or will never be.
    pub(super) fn piece_is_gone(&self) {
        self.moved();
        self.0.pieces.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.0.holders.fetch_sub(1, Ordering::Relaxed) == 1 {
            let activity = &self.0.activity;
            activity.answering.fetch_sub(1, Ordering::Relaxed);
            activity.turns.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_over_when_its_last_piece_is_written() {
        let activity = Arc::new(Activity::default());
        assert!(activity.idles().on);
        let exchange = activity.exchange();
        let answering = exchange.begin();
        let piece = answering.piece();
        drop(answering);
        assert!(exchange.is_answered().on && exchange.is_sent().on && !activity.idles().on);
        piece.piece_is_gone();
        drop(piece);
        assert!(!exchange.is_answered().on && !exchange.is_sent().on && activity.idles().on);
    }

    #[test]
    fn a_connection_idles_only_when_its_last_stream_is_answered() {
        let activity = Arc::new(Activity::default());
        let (first, second) = (activity.exchange().begin(), activity.exchange().begin());
        assert_eq!(activity.exchanges().len(), 2);
        drop(first);
        assert!(!activity.idles().on);
        let before = activity.idles().turn;
        drop(second);
        assert!(activity.idles().on && activity.idles().turn != before);
        assert_eq!(activity.exchanges().len(), 0, "what is over is forgotten");
    }

    #[test]
    fn a_mark_tells_one_time_from_the_next() {
        let mark = Mark::default();
        mark.set(true);
        let first = mark.look();
        mark.set(true);
        assert_eq!(mark.look().turn, first.turn, "it is still the same time");
        mark.set(false);
        mark.set(true);
        assert!(mark.look().on && mark.look().turn != first.turn);
    }
}
