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
    /// Fills that record this number or more began after it had been published. One of this server is
    /// in force before it is published, so that this may be greater than its number.
    pub(super) from: u64,
}

/// Of what was published nobody knows when.
const FROM_UNKNOWN: u64 = u64::MAX;

impl Given {
    /// Of an order of this server, given now.
    pub(super) fn own(at: Timestamp) -> Given {
        Given { at, shared: 0, from: FROM_UNKNOWN }
    }

    /// Of an order of another server, under this number.
    pub(super) fn heard(at: Timestamp, shared: u64, number: u64) -> Given {
        Given { at, shared, from: number }
    }

    /// Of a floor that stands for nothing that was published.
    fn floor() -> Given {
        Given { at: FLOOR, shared: 0, from: 0 }
    }

    /// Stands from now on for another, whose number is no greater. Were it forgotten that the other was
    /// published later, then after a restart an entry from between the two publications would be taken
    /// for one that knows of both. An order that others do not know yet has no need of it: they will
    /// know it by a greater number.
    fn stand_for(&mut self, other: Given) {
        if other.shared > 0 && (self.shared > 0 || self.at == FLOOR) {
            self.shared = other.shared.max(self.shared);
            self.from = other.from.max(self.from);
        }
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
    /// What the floor of each manner stands for, hard first.
    floors: [Given; 2],
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
            floors: [Given::floor(); 2],
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
            self.raise(tables, manner, number, given);
            self.give_everything(manner, Everything { number, given });
        } else {
            self.give_selectors(tables, targets, manner, number, given);
        }
        while self.len() > self.settings.orders_max
            && let Some(oldest) = self.oldest()
        {
            self.folded += self.raise(tables, oldest.manner, oldest.number, oldest.given);
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
                _ if given.from <= number => return Known::All,
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
            covering.push((tables.of(*manner).floor(), self.floors[*manner as usize]));
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

    /// Shared numbers, each with that of this server from which on the order holds, or the floor that has
    /// taken it over.
    pub(super) fn shared(&self, tables: &Tables) -> Vec<(u64, u64)> {
        let floors = [Manner::Hard, Manner::Soft]
            .into_iter()
            .map(|manner| (self.floors[manner as usize].shared, tables.of(manner).floor()));
        let orders = self.orders().map(|(_, _, number, given)| (given.shared, number));
        floors.chain(orders).filter(|(shared, _)| *shared > 0).collect()
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
        let from = if record.is_own { FROM_UNKNOWN } else { record.number };
        let given = Given { at: record.at, shared: record.shared, from };
        // A log may tell again what a floor has taken over.
        let over =
            [manner, Manner::Hard].into_iter().find(|it| record.number <= tables.of(*it).floor());
        match (target, over) {
            (Target::Everything, _) if record.at == FLOOR => {
                self.raise(tables, manner, record.number, given);
            }
            (Target::Selector(_), Some(over)) => self.floors[over as usize].stand_for(given),
            _ => self.give(tables, &[target], manner, record.number, given),
        }
    }

    /// All was replayed, and the process begins with this number: fills from here on began after all that
    /// was published before.
    pub(super) fn begin(&mut self, number: u64) {
        let indexed = self.hard.values_mut().chain(self.soft.values_mut());
        let everything = self.everything.iter_mut().flatten().map(|newest| &mut newest.given);
        for given in indexed.chain(everything).chain(&mut self.floors) {
            given.from = given.from.min(number);
        }
    }

    fn give_everything(&mut self, manner: Manner, order: Everything) {
        let (first, last) = match self.everything[manner as usize] {
            Some(newest) if newest.number > order.number => (order, newest),
            Some(newest) => (newest, order),
            None => (order, order),
        };
        self.floors[manner as usize].stand_for(first.given);
        let newest = self.everything[manner as usize].insert(last);
        newest.given.stand_for(first.given);
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
            let index = self.index_mut(manner);
            if let Some(newer) = index.get_mut(&(before, selector)).filter(|_| before > number) {
                newer.stand_for(given);
                continue;
            }
            let mut given = given;
            index.remove(&(before, selector)).into_iter().for_each(|older| given.stand_for(older));
            if manner == Manner::Hard && !self.soft.is_empty() {
                let soft = self.take_over_soft(tables, selector, number);
                soft.into_iter().for_each(|soft| given.stand_for(soft));
            }
            self.index_mut(manner).insert((number, selector), given);
        }
    }

    /// A hard order leaves nothing to do for an older soft one, which it gives back.
    fn take_over_soft(
        &mut self,
        tables: &Tables,
        selector: Selector,
        number: u64,
    ) -> Option<Given> {
        let table = tables.of(Manner::Soft);
        let soft = table.number(&selector);
        let given = (soft <= number).then(|| self.soft.remove(&(soft, selector)))??;
        table.remove(&selector);
        Some(given)
    }

    /// Raises a floor, for what is `given`, and removes what it takes over, and says how many that were.
    pub(super) fn raise(
        &mut self,
        tables: &Tables,
        manner: Manner,
        number: u64,
        given: Given,
    ) -> u64 {
        tables.of(manner).raise_floor(number);
        tables.announce(manner, number);
        let mut floor = self.floors[manner as usize];
        floor.stand_for(given);
        let softer = match manner {
            Manner::Hard => self.remove_through(tables, Manner::Soft, number, &mut floor),
            Manner::Soft => 0,
        };
        let removed = softer + self.remove_through(tables, manner, number, &mut floor);
        self.floors[manner as usize] = floor;
        removed
    }

    /// Raises the floor of all that was stored before `number`, for nobody knows what was ordered.
    pub(super) fn raise_blindly(&mut self, tables: &Tables, number: u64) {
        self.raise(tables, Manner::Hard, number, Given::floor());
    }

    fn remove_through(
        &mut self,
        tables: &Tables,
        manner: Manner,
        number: u64,
        floor: &mut Given,
    ) -> u64 {
        let (index, table) = (self.index_mut(manner), tables.of(manner));
        let before = index.len();
        if index.last_key_value().is_none_or(|((last, _), _)| *last <= number) {
            index.values().for_each(|given| floor.stand_for(*given));
            index.clear();
            table.clear();
        }
        while let Some(oldest) = index.first_entry()
            && oldest.key().0 <= number
        {
            let ((_, selector), given) = oldest.remove_entry();
            floor.stand_for(given);
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
            self.aged += self.raise(tables, oldest.manner, oldest.number, oldest.given);
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
            let (number, given) = (tables.of(manner).floor(), self.floors[manner as usize]);
            if number > 0 {
                records.push(Record::of_order(Target::Everything, manner, number, given));
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
