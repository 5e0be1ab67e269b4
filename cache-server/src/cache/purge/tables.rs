//! The orders in force, as the hit path reads them: without waiting for whoever gives orders,
//! and without allocating.
//!
//! There is one table a manner. For each selector it has the number of its newest order, and for
//! everything a floor. Writers take turns (they hold the desk's lock). Readers take no lock but
//! that of a shard, and that only where the selector's mark says that it may have been purged:
//! all hits share the selectors of a few routes and tenants, and would meet at their locks.
//!
//! What makes that safe is the order of steps on both sides:
//!
//! - An order is written to its shards (or the floor) and then announced with `Release`. A
//!   reader that sees the announcement with `Acquire` sees the order and its mark. One that does not see it
//!   yet asked before the order was given.
//! - What a floor takes over is removed after the floor was raised, and a reader asks the shards
//!   before the floor: one that finds nothing in a shard any more finds the floor raised.
//! - What a hard order takes over from the soft table is removed after the hard order was
//!   announced, and a reader asks the soft table before the hard one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rapidhash::quality::RandomState;

use super::{Manner, Verdict};
use crate::cache::entry::Selector;

/// Shards of a table. A selector's first byte chooses, and it is a hash.
const SHARDS: usize = 64;
/// Marks of a table, 256 KiB of them. Of entries older than a thousand orders, one selector in
/// thirty is looked up in vain; older than ten thousand, one in four.
const MARKS: usize = 1 << 15;

/// Both tables.
#[derive(Debug)]
pub(super) struct Tables {
    /// The newest order of either manner: an entry that knows of it is alive.
    newest: AtomicU64,
    hard: Table,
    soft: Table,
}

impl Tables {
    /// No orders.
    pub(super) fn new() -> Tables {
        Tables { newest: AtomicU64::new(0), hard: Table::new(), soft: Table::new() }
    }

    /// What the orders make of an entry with these selectors whose fill knew of all orders up to
    /// `purge_sequence`.
    #[inline]
    pub(super) fn verdict(&self, selectors: &[Selector], purge_sequence: u64) -> Verdict {
        if purge_sequence >= self.newest.load(Ordering::Acquire) {
            return Verdict::Alive;
        }
        self.look_up(selectors, purge_sequence)
    }

    #[inline(never)]
    fn look_up(&self, selectors: &[Selector], purge_sequence: u64) -> Verdict {
        let is_stale = self.soft.names(selectors, purge_sequence);
        match self.hard.names(selectors, purge_sequence) {
            true => Verdict::Dead,
            false if is_stale => Verdict::Stale,
            false => Verdict::Alive,
        }
    }

    /// The table of one manner.
    pub(super) fn of(&self, manner: Manner) -> &Table {
        match manner {
            Manner::Hard => &self.hard,
            Manner::Soft => &self.soft,
        }
    }

    /// Puts in force what was written under numbers up to `number`.
    pub(super) fn announce(&self, manner: Manner, number: u64) {
        self.of(manner).newest.fetch_max(number, Ordering::Release);
        self.newest.fetch_max(number, Ordering::Release);
    }
}

/// The orders of one manner.
#[derive(Debug)]
pub(super) struct Table {
    newest: AtomicU64,
    /// Everything that knows of no order this new was purged.
    floor: AtomicU64,
    /// The newest order of any selector that shares the mark. They only grow: a mark that is too
    /// high costs a look-up.
    marks: Box<[AtomicU64]>,
    shards: [Shard; SHARDS],
}

/// Seeded anew in each process, so that nobody can aim names at one bucket.
type Numbers = HashMap<Selector, u64, RandomState>;

#[derive(Debug)]
struct Shard(RwLock<Numbers>);

impl Table {
    fn new() -> Table {
        let shard = |_| Shard(RwLock::new(HashMap::with_hasher(RandomState::new())));
        Table {
            newest: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            marks: (0..MARKS).map(|_| AtomicU64::new(0)).collect(),
            shards: std::array::from_fn(shard),
        }
    }

    /// Whether an order newer than `purge_sequence` names one of the selectors, or everything.
    fn names(&self, selectors: &[Selector], purge_sequence: u64) -> bool {
        if purge_sequence >= self.newest.load(Ordering::Acquire) {
            return false;
        }
        let named = |selector: &Selector| {
            self.mark(selector).load(Ordering::Relaxed) > purge_sequence
                && self.number(selector) > purge_sequence
        };
        selectors.iter().any(named) || self.floor() > purge_sequence
    }

    /// The newest order that names this selector; 0 is none.
    pub(super) fn number(&self, selector: &Selector) -> u64 {
        self.shard(selector).read().get(selector).copied().unwrap_or(0)
    }

    /// Everything that knows of no order this new was purged; 0 is nothing.
    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    /// Writes an order, unless a newer one is written. Gives the number that was there; 0 is
    /// none.
    pub(super) fn put(&self, selector: Selector, number: u64) -> u64 {
        let mut shard = self.shard(&selector).write();
        let slot = shard.entry(selector).or_insert(0);
        let before = *slot;
        *slot = before.max(number);
        // Whoever sees the announcement sees this too.
        self.mark(&selector).fetch_max(number, Ordering::Relaxed);
        before
    }

    /// Raises the floor, which takes over what has lower numbers.
    pub(super) fn raise_floor(&self, number: u64) {
        self.floor.fetch_max(number, Ordering::Release);
    }

    /// Removes a selector of which something else has taken over.
    pub(super) fn remove(&self, selector: &Selector) {
        self.shard(selector).write().remove(selector);
    }

    /// Removes all selectors.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            shard.write().clear();
        }
    }

    fn shard(&self, selector: &Selector) -> &Shard {
        &self.shards[usize::from(selector.as_bytes()[0]) * SHARDS / 256]
    }

    fn mark(&self, selector: &Selector) -> &AtomicU64 {
        let [_, low, high, ..] = *selector.as_bytes();
        &self.marks[usize::from(u16::from_le_bytes([low, high])) % MARKS]
    }
}

/// A panic while a lock was held leaves a map that is whole, so the lock is taken all the same.
impl Shard {
    fn read(&self) -> RwLockReadGuard<'_, Numbers> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Numbers> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Selectors are hashes: this one is as good, and cheaper to make a million times.
    fn selector(number: u64) -> Selector {
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut bytes = [0; Selector::BYTES];
        bytes[..8].copy_from_slice(&spread.to_be_bytes());
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        Selector::of_bytes(bytes)
    }

    fn order(tables: &Tables, manner: Manner, selector: Selector, number: u64) {
        tables.of(manner).put(selector, number);
        tables.announce(manner, number);
    }

    #[test]
    fn a_verdict_allocates_nothing_whatever_the_number_of_orders() {
        let tables = Tables::new();
        for number in 0..10_000 {
            let manner = if number % 4 == 0 { Manner::Soft } else { Manner::Hard };
            order(&tables, manner, selector(number * 100), number + 1);
        }
        let (mut dead, mut stale) = (0, 0);
        let allocations = allocation_counter::measure(|| {
            for number in 0..1_000_000 {
                match tables.verdict(&[selector(number)], 0) {
                    Verdict::Dead => dead += 1,
                    Verdict::Stale => stale += 1,
                    Verdict::Alive => {}
                }
            }
        });
        assert_eq!(allocations.count_total, 0);
        assert_eq!((dead, stale), (7_500, 2_500));
    }

    #[test]
    fn selectors_that_share_a_mark_are_told_apart() {
        let tables = Tables::new();
        let bytes = *selector(1).as_bytes();
        let mut others = bytes;
        others[15] ^= 1;
        order(&tables, Manner::Hard, Selector::of_bytes(bytes), 5);
        assert_eq!(tables.verdict(&[Selector::of_bytes(bytes)], 4), Verdict::Dead);
        assert_eq!(tables.verdict(&[Selector::of_bytes(others)], 4), Verdict::Alive);
    }

    #[test]
    fn what_is_written_is_in_force_when_it_is_announced() {
        let tables = Tables::new();
        tables.of(Manner::Hard).put(selector(1), 5);
        assert_eq!(tables.verdict(&[selector(1)], 4), Verdict::Alive);
        tables.announce(Manner::Hard, 5);
        assert_eq!(tables.verdict(&[selector(1)], 4), Verdict::Dead);
        assert_eq!(tables.verdict(&[selector(1)], 5), Verdict::Alive);
    }

    #[test]
    fn an_older_number_never_replaces_a_newer_one() {
        let table = Table::new();
        assert_eq!(table.put(selector(1), 5), 0);
        assert_eq!(table.put(selector(1), 3), 5);
        assert_eq!(table.number(&selector(1)), 5);
        table.raise_floor(4);
        table.raise_floor(2);
        assert_eq!(table.floor(), 4);
    }
}
