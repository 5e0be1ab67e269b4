//! The cap on bytes held in memory for requests and answers under way.
//!
//! Whoever buffers reserves first and gives back by dropping the reservation, so that the sum
//! of all request bodies and flights never passes `buffered_bytes_max`. Reserving never waits:
//! at the cap a request is refused (503) and a flight stops recording.

use std::sync::Arc;

use bytes::Bytes;

use super::sync::{AtomicUsize, Ordering};

/// The process-wide cap.
#[derive(Debug)]
pub struct Budget {
    held: AtomicUsize,
    bytes_max: usize,
}

impl Budget {
    /// A budget of `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget { held: AtomicUsize::new(0), bytes_max })
    }

    /// Bytes reserved now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The same bytes, which count for as long as anyone holds a piece of them. Nothing if there is no
    /// room.
    #[must_use]
    pub fn counted(self: &Arc<Self>, bytes: Bytes) -> Option<Bytes> {
        let mut reservation = self.open();
        let has_room = reservation.grow(bytes.len());
        has_room.then(|| Bytes::from_owner(Counted { bytes, _reservation: reservation }))
    }

    /// An empty reservation, to be grown.
    #[must_use]
    pub fn open(self: &Arc<Self>) -> Reservation {
        Reservation { budget: Arc::clone(self), bytes: 0 }
    }
}

/// Bytes, and what is reserved for them.
struct Counted {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes held against the budget; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// Reserves `more` bytes, or changes nothing and says `false` when that would pass the cap.
    #[must_use]
    pub fn grow(&mut self, more: usize) -> bool {
        let taken = self.budget.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(more).filter(|sum| *sum <= self.budget.bytes_max)
        });
        if taken.is_ok() {
            self.bytes += more;
        }
        taken.is_ok()
    }

    /// Gives `fewer` bytes back; never more than are held.
    pub fn shrink(&mut self, fewer: usize) {
        let fewer = fewer.min(self.bytes);
        self.bytes -= fewer;
        self.budget.held.fetch_sub(fewer, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}
