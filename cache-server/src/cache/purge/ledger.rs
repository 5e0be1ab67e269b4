//! The orders in force, as whoever gives orders keeps them: the oldest first, within a bound.
//!
//! At the bound, and when an order is older than any entry may live, the oldest fold into the
//! floor of their manner. For an order past its time that costs nothing: whatever was filled
//! before it has expired. Should the bound on life have been wrong (a clock that jumped, a
//! lifetime shortened by config), a floor purges too much, where forgetting would purge too
//! little.

use std::collections::BTreeMap;

use super::log::{Record, What};
use super::tables::Tables;
use super::{Manner, PurgeSettings, SequenceId, Target};
use crate::cache::entry::Selector;
use crate::clock::Timestamp;

/// Groups of orders that are folded for their age with one new order. It bounds how long an
/// order takes, and is more than it brings.
const AGED_MAX: usize = 64;

/// When each order was given, the oldest first.
type Index = BTreeMap<(u64, Selector), Timestamp>;

/// Every order in force.
#[derive(Debug)]
pub(super) struct Ledger {
    settings: PurgeSettings,
    /// The sequence that numbers count in.
    pub(super) id: SequenceId,
    hard: Index,
    soft: Index,
    /// Orders that a floor took over for want of room.
    pub(super) folded: u64,
    /// Orders that a floor took over because nothing that they name is alive.
    pub(super) aged: u64,
}

impl Ledger {
    /// No orders, of a sequence that nobody has counted in.
    pub(super) fn new(settings: PurgeSettings) -> Ledger {
        let id = SequenceId::random();
        Ledger { settings, id, hard: Index::new(), soft: Index::new(), folded: 0, aged: 0 }
    }

    /// Selectors under an order, those under a hard and a soft one twice.
    pub(super) fn len(&self) -> usize {
        self.hard.len() + self.soft.len()
    }

    /// Puts an order in force. [`Target::Everything`] stands alone.
    pub(super) fn give(
        &mut self,
        tables: &Tables,
        targets: &[Target],
        manner: Manner,
        number: u64,
        at: Timestamp,
    ) {
        if targets == [Target::Everything] {
            self.raise(tables, manner, number);
        } else {
            self.give_selectors(tables, targets, manner, number, at);
        }
        while self.len() > self.settings.orders_max
            && let Some(oldest) = self.oldest()
        {
            self.folded += self.raise(tables, oldest.manner, oldest.number);
        }
        self.age(tables, at, AGED_MAX);
    }

    /// Puts what the log tells back in force.
    pub(super) fn replay(&mut self, tables: &Tables, record: &Record) {
        let (target, manner) = match record.what {
            What::Order(target, manner) => (target, manner),
            What::Base(id) => {
                // Logs of old have none.
                if id != SequenceId::NONE {
                    self.id = id;
                }
                return;
            }
        };
        // A log may tell again what a floor has taken over.
        let floor = tables.of(manner).floor().max(tables.of(Manner::Hard).floor());
        if record.number > floor {
            self.give(tables, &[target], manner, record.number, record.at);
        }
    }

    fn give_selectors(
        &mut self,
        tables: &Tables,
        targets: &[Target],
        manner: Manner,
        number: u64,
        at: Timestamp,
    ) {
        let mut selectors: Vec<Selector> = targets.iter().filter_map(Target::selector).collect();
        // In order, they go to the end of the index, and to shard after shard.
        selectors.sort_unstable();
        let table = tables.of(manner);
        let before: Vec<u64> = selectors.iter().map(|it| table.put(*it, number)).collect();
        tables.announce(manner, number);
        // In force from here on; the rest is book-keeping.
        for (selector, before) in selectors.into_iter().zip(before) {
            if before > number {
                continue;
            }
            let index = self.index(manner);
            index.remove(&(before, selector));
            index.insert((number, selector), at);
            if manner == Manner::Hard && !self.soft.is_empty() {
                self.take_over_soft(tables, selector, number);
            }
        }
    }

    /// A hard order leaves nothing to do for an older soft one.
    fn take_over_soft(&mut self, tables: &Tables, selector: Selector, number: u64) {
        let table = tables.of(Manner::Soft);
        let soft = table.number(&selector);
        if soft <= number && self.soft.remove(&(soft, selector)).is_some() {
            table.remove(&selector);
        }
    }

    /// Raises a floor and removes what it takes over, and says how many that were.
    pub(super) fn raise(&mut self, tables: &Tables, manner: Manner, number: u64) -> u64 {
        tables.of(manner).raise_floor(number);
        tables.announce(manner, number);
        let softer = match manner {
            Manner::Hard => self.remove_through(tables, Manner::Soft, number),
            Manner::Soft => 0,
        };
        softer + self.remove_through(tables, manner, number)
    }

    fn remove_through(&mut self, tables: &Tables, manner: Manner, number: u64) -> u64 {
        let (index, table) = (self.index(manner), tables.of(manner));
        let before = index.len();
        if index.last_key_value().is_none_or(|((last, _), _)| *last <= number) {
            index.clear();
            table.clear();
        }
        while let Some(oldest) = index.first_entry()
            && oldest.key().0 <= number
        {
            let ((_, selector), _) = oldest.remove_entry();
            table.remove(&selector);
        }
        (before - index.len()) as u64
    }

    /// Folds orders older than any entry may live, at most `groups_max` numbers of them.
    pub(super) fn age(&mut self, tables: &Tables, now: Timestamp, groups_max: usize) {
        for _ in 0..groups_max {
            let Some(oldest) = self.oldest() else { return };
            if now.since(oldest.at) <= self.settings.entry_life_max {
                return;
            }
            self.aged += self.raise(tables, oldest.manner, oldest.number);
        }
    }

    fn oldest(&self) -> Option<Oldest> {
        let first = |manner, index: &Index| {
            let ((number, _), at) = index.first_key_value()?;
            Some(Oldest { manner, number: *number, at: *at })
        };
        let both = [first(Manner::Hard, &self.hard), first(Manner::Soft, &self.soft)];
        both.into_iter().flatten().min_by_key(|oldest| oldest.number)
    }

    /// All that is in force, as the log keeps it, with `base` for the number given last. The
    /// floors come before what they have not taken over.
    pub(super) fn records(&self, tables: &Tables, base: u64) -> Vec<Record> {
        let mut records = Vec::with_capacity(self.len() + 3);
        records.push(Record { what: What::Base(self.id), number: base, at: Timestamp(0) });
        for manner in [Manner::Hard, Manner::Soft] {
            let number = tables.of(manner).floor();
            if number > 0 {
                let what = What::Order(Target::Everything, manner);
                records.push(Record { what, number, at: Timestamp(0) });
            }
        }
        for (manner, index) in [(Manner::Hard, &self.hard), (Manner::Soft, &self.soft)] {
            records.extend(index.iter().map(|((number, selector), at)| {
                let what = What::Order(Target::Selector(*selector), manner);
                Record { what, number: *number, at: *at }
            }));
        }
        records
    }

    /// How many those records are at most.
    pub(super) fn records_max(&self) -> usize {
        self.len() + 3
    }

    fn index(&mut self, manner: Manner) -> &mut Index {
        match manner {
            Manner::Hard => &mut self.hard,
            Manner::Soft => &mut self.soft,
        }
    }
}

/// The oldest order in force.
struct Oldest {
    manner: Manner,
    number: u64,
    at: Timestamp,
}
