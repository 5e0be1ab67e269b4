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
use super::{Manner, PurgeSettings, SharedOrder, Target, Unshared};
use crate::cache::entry::Selector;
use crate::clock::Timestamp;

/// Groups of orders that are folded for their age with one new order. It bounds how long an
/// order takes, and is more than it brings.
const AGED_MAX: usize = 64;

/// The orders of one manner, the oldest first.
type Index = BTreeMap<(u64, Selector), Given>;

/// What is known of an order beside its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// When it was given.
    pub(super) at: Timestamp,
    /// The number that servers know it by; 0 while they do not.
    pub(super) shared: u64,
    /// Fills that record this number or more began after it had been published. An order of another
    /// server has no lesser one; one of this server is in force before it is published. 0 is that of a
    /// fill after the last start.
    pub(super) from: u64,
}

impl Given {
    /// Of an order of this server, given now.
    pub(super) fn own(at: Timestamp) -> Given {
        Given { at, shared: 0, from: 0 }
    }

    /// Whether servers have yet to be told of it.
    pub(super) fn is_owed(&self) -> bool {
        self.shared == 0 && self.at != FLOOR
    }
}

/// What is known already of an order of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    Nothing,
    /// All that it says.
    All,
    /// A later one of this server's holds, and spares fills that began before that was published. From
    /// this number on there are none such.
    UpTo(u64),
}

/// The newest order of everything of one manner. What takes over old orders is none.
#[derive(Clone, Copy, Debug)]
struct Everything {
    number: u64,
    given: Given,
}

/// Every order in force.
#[derive(Debug)]
pub(super) struct Ledger {
    settings: PurgeSettings,
    hard: Index,
    soft: Index,
    /// By manner, hard first.
    everything: [Option<Everything>; 2],
    /// The greatest shared number of what the floor of each manner stands for, hard first.
    floor_shared: [u64; 2],
    /// Orders that a floor took over for want of room.
    pub(super) folded: u64,
    /// Orders that a floor took over because nothing that they name is alive.
    pub(super) aged: u64,
}

impl Ledger {
    /// No orders.
    pub(super) fn new(settings: PurgeSettings) -> Ledger {
        Ledger {
            settings,
            hard: Index::new(),
            soft: Index::new(),
            everything: [None; 2],
            floor_shared: [0; 2],
            folded: 0,
            aged: 0,
        }
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
        given: Given,
    ) {
        if targets == [Target::Everything] {
            self.raise(tables, manner, number, given.shared);
            let newest = &mut self.everything[manner as usize];
            if newest.is_none_or(|newest| newest.number <= number) {
                *newest = Some(Everything { number, given });
            }
        } else {
            self.give_selectors(tables, targets, manner, number, given);
        }
        while self.len() > self.settings.orders_max
            && let Some(oldest) = self.oldest()
        {
            self.folded += self.raise(tables, oldest.manner, oldest.number, oldest.shared());
        }
        self.age(tables, given.at, AGED_MAX);
    }

    /// What is known of an order: a later one that holds for as much is as good.
    pub(super) fn known(&self, tables: &Tables, order: &SharedOrder) -> Known {
        let mut known = Known::Nothing;
        for (number, given) in self.covering(tables, order.target, order.manner) {
            known = match known {
                _ if given.shared == order.shared => return Known::All,
                known if given.shared < order.shared => known,
                _ if given.from == number => return Known::All,
                Known::UpTo(from) => Known::UpTo(from.min(given.from)),
                _ => Known::UpTo(given.from),
            };
        }
        known
    }

    /// Whether an order that servers do not know yet is here to be told to them after a restart: itself,
    /// or a later one like it that holds for as much.
    pub(super) fn owes(&self, tables: &Tables, order: &Unshared) -> bool {
        let Unshared { target, manner, number, .. } = *order;
        let covering = self.covering(tables, target, manner);
        covering.into_iter().any(|(at, given)| at >= number && given.is_owed())
    }

    /// The orders that hold for all that an order of this target and manner would hold for.
    fn covering(&self, tables: &Tables, target: Target, manner: Manner) -> Vec<(u64, Given)> {
        let manners: &[Manner] = match manner {
            Manner::Hard => &[Manner::Hard],
            Manner::Soft => &[Manner::Hard, Manner::Soft],
        };
        let mut covering = Vec::new();
        for manner in manners {
            if let Some(selector) = target.selector() {
                let number = tables.of(*manner).number(&selector);
                let given = self.index(*manner).get(&(number, selector));
                covering.extend(given.map(|given| (number, *given)));
            }
            let everything = self.everything[*manner as usize];
            covering.extend(everything.map(|newest| (newest.number, newest.given)));
            let (from, shared) = (tables.of(*manner).floor(), self.floor_shared[*manner as usize]);
            covering.push((from, Given { at: FLOOR, shared, from }));
        }
        covering
    }

    /// Notes the number that servers know an order by, and that fills which record `from` or more began
    /// after it was published. Gives what is known of it; nothing if something else has taken its place.
    pub(super) fn note_shared(&mut self, order: &Noted, from: u64) -> Option<Given> {
        let (number, shared, manner) = (order.number, order.shared, order.manner);
        let given = match order.target {
            Target::Selector(selector) => self.index_mut(manner).get_mut(&(number, selector))?,
            Target::Everything => {
                let newest = self.everything[manner as usize].as_mut()?;
                (newest.number == number).then_some(&mut newest.given)?
            }
        };
        (given.shared, given.from) = (shared, from);
        Some(*given)
    }

    /// Every order in force, with its number and what else is known of it.
    pub(super) fn orders(&self) -> impl Iterator<Item = (Target, Manner, u64, Given)> {
        let everything = [Manner::Hard, Manner::Soft].into_iter().filter_map(|manner| {
            let newest = self.everything[manner as usize]?;
            Some((Target::Everything, manner, newest.number, newest.given))
        });
        let of = |manner| {
            let order = move |((number, selector), given): (&(u64, Selector), &Given)| {
                (Target::Selector(*selector), manner, *number, *given)
            };
            self.index(manner).iter().map(order)
        };
        everything.chain(of(Manner::Hard)).chain(of(Manner::Soft))
    }

    /// Puts what the log tells back in force.
    pub(super) fn replay(&mut self, tables: &Tables, record: &Record) {
        let (target, manner) = match record.what {
            What::Order(target, manner) => (target, manner),
            What::Base => return,
        };
        let from = if record.is_own { 0 } else { record.number };
        let given = Given { at: record.at, shared: record.shared, from };
        if target == Target::Everything && record.at == FLOOR {
            self.raise(tables, manner, record.number, record.shared);
            return;
        }
        // A log may tell again what a floor has taken over.
        let floor = tables.of(manner).floor().max(tables.of(Manner::Hard).floor());
        if record.number > floor || target == Target::Everything {
            self.give(tables, &[target], manner, record.number, given);
        }
    }

    fn give_selectors(
        &mut self,
        tables: &Tables,
        targets: &[Target],
        manner: Manner,
        number: u64,
        given: Given,
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
            let index = self.index_mut(manner);
            index.remove(&(before, selector));
            index.insert((number, selector), given);
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
    pub(super) fn raise(
        &mut self,
        tables: &Tables,
        manner: Manner,
        number: u64,
        shared: u64,
    ) -> u64 {
        let floor_shared = &mut self.floor_shared[manner as usize];
        *floor_shared = shared.max(*floor_shared);
        tables.of(manner).raise_floor(number);
        tables.announce(manner, number);
        let softer = match manner {
            Manner::Hard => self.remove_through(tables, Manner::Soft, number),
            Manner::Soft => 0,
        };
        softer + self.remove_through(tables, manner, number)
    }

    fn remove_through(&mut self, tables: &Tables, manner: Manner, number: u64) -> u64 {
        let (index, table) = (self.index_mut(manner), tables.of(manner));
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
            if now.since(oldest.given.at) <= self.settings.entry_life_max {
                return;
            }
            self.aged += self.raise(tables, oldest.manner, oldest.number, oldest.shared());
        }
    }

    fn oldest(&self) -> Option<Oldest> {
        let first = |manner, index: &Index| {
            let ((number, _), given) = index.first_key_value()?;
            Some(Oldest { manner, number: *number, given: *given })
        };
        let both = [first(Manner::Hard, &self.hard), first(Manner::Soft, &self.soft)];
        both.into_iter().flatten().min_by_key(|oldest| oldest.number)
    }

    /// All that is in force, as the log keeps it, with `base` for the number given last. The
    /// floors come before what they have not taken over.
    pub(super) fn records(&self, tables: &Tables, base: u64) -> Vec<Record> {
        let mut records = Vec::with_capacity(self.records_max());
        records.push(Record {
            what: What::Base,
            number: base,
            at: FLOOR,
            shared: 0,
            is_own: false,
        });
        for manner in [Manner::Hard, Manner::Soft] {
            let (number, shared) = (tables.of(manner).floor(), self.floor_shared[manner as usize]);
            if number > 0 {
                let what = What::Order(Target::Everything, manner);
                records.push(Record { what, number, at: FLOOR, shared, is_own: false });
            }
        }
        let record =
            |(target, manner, number, given)| Record::of_order(target, manner, number, given);
        records.extend(self.orders().map(record));
        records
    }

    /// Orders that are kept at most.
    pub(super) fn orders_max(&self) -> usize {
        self.settings.orders_max
    }

    /// How many those records are at most.
    pub(super) fn records_max(&self) -> usize {
        self.len() + 5
    }

    fn index(&self, manner: Manner) -> &Index {
        match manner {
            Manner::Hard => &self.hard,
            Manner::Soft => &self.soft,
        }
    }

    fn index_mut(&mut self, manner: Manner) -> &mut Index {
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
    given: Given,
}

impl Oldest {
    /// The shared number that a floor in its place stands for: none for an order of this server, whose
    /// number spares fills from before it was published.
    fn shared(&self) -> u64 {
        if self.given.from == self.number { self.given.shared } else { 0 }
    }
}

/// An order that servers have given a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) target: Target,
    pub(super) manner: Manner,
    /// The number that it has here.
    pub(super) number: u64,
    /// The number that servers know it by.
    pub(super) shared: u64,
}

/// The time of a floor in the log: nobody gave it.
const FLOOR: Timestamp = Timestamp(0);
