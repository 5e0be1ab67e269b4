//! The purge table: which entries an order has killed, without looking for them.
//!
//! Purging is one growing sequence. An order takes the next number and names targets. An entry
//! is dead when any of its selectors was purged under a newer number than the one that its node
//! had applied when its fill began ([`Entry::purge_sequence`]). So an order costs one write
//! whatever it kills, a hit compares a handful of hashes, and an older fill that arrives late is
//! born dead. A soft order is the same with "stale" for "dead".
//!
//! - `tables`: the orders as the hit path reads them;
//! - `ledger`: the orders by age, within a bound, folding the oldest into floors;
//! - `log`: the file;
//! - `positions`: how these numbers and those that servers share stand to each other;
//! - `writer`: the desk where orders are given, and the thread that writes them.
//!
//! **Never too little.** Where something is unknown, more is purged: at the bound the oldest
//! orders become a floor under everything, and a log that is damaged, of an unknown version, or
//! missing while there are entries, makes everything dead that was stored before. A log that
//! ends in a torn record is not damaged: nobody was told that this record was written.
//!
//! **Numbers are never given twice**, or an entry that knows of the first would be taken to know
//! of the second. But numbers are handed out before they are in the log (so that nobody waits
//! for a disk), entries are stored with them, and then the process may be killed. So on opening,
//! the sequence goes on 2^20 above the greatest number that the log tells and not below the wall
//! clock in milliseconds, and this base is in the log before any fill records it. Nor does a
//! fill ever record a number 2^20 above what is in the log. After a damaged or missing log, when
//! the greatest number is unknown, it goes on at 2^48 and 2^11 higher for each millisecond of the
//! wall clock, if that is higher: by the next loss the clock has gone further than restarts and orders have.
//!
//! [`Entry::purge_sequence`]: crate::cache::entry::Entry::purge_sequence

mod ledger;
mod log;
mod positions;
#[cfg(test)]
mod sharing_tests;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::cache::entry::{Entry, Selector};
use crate::clock::{Clock, Timestamp};
use ledger::{Given, Ledger, Noted};
use log::{Found, Log};
use tables::Tables;
use writer::{Settled, Shared, Writer, durable};

/// Targets of one order, which is one write whatever it names.
pub const TARGETS_MAX: usize = 10_000;
/// How far numbers run ahead of the log at most.
const NUMBERS_AHEAD: u64 = 1 << 20;
/// Where the sequence goes on at least when nobody knows how far it was. It is more than milliseconds
/// since the epoch will ever be, lest a clock that stands at the epoch repeat numbers.
const NUMBERS_LOST: u64 = 1 << 48;
/// How far numbers go on with each millisecond of the clock then: further than a restart a second takes.
const NUMBERS_LOST_A_MS: u64 = 1 << 11;

/// What an order makes of the entries that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manner {
    /// They are dead: never given again.
    Hard,
    /// They are stale: given only where a stale entry may be.
    Soft,
}

/// What an order names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The entries with this selector.
    Selector(Selector),
    /// All entries.
    Everything,
}

impl Target {
    fn selector(&self) -> Option<Selector> {
        match self {
            Target::Selector(selector) => Some(*selector),
            Target::Everything => None,
        }
    }
}

/// An order as servers tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedOrder {
    /// What it names.
    pub target: Target,
    /// What it makes of it.
    pub manner: Manner,
    /// The number under which it was published.
    pub shared: u64,
}

/// An order of this server that the others do not know yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unshared {
    /// What it names.
    pub target: Target,
    /// What it makes of it.
    pub manner: Manner,
    /// Its number here.
    pub number: u64,
    /// The number that it was given first. It has another where an order of another server would have
    /// taken it over.
    pub first: u64,
}

/// What the orders given so far make of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: its freshness alone decides.
    Alive,
    /// It counts as stale, however fresh.
    Stale,
    /// It is as if it were not there.
    Dead,
}

/// The bounds of the purge table.
#[derive(Clone, Copy, Debug)]
pub struct PurgeSettings {
    /// Orders kept, a target under a hard and a soft one counting twice. Beyond, the oldest fold
    /// into a floor, which purges more than they did. One takes about 100 bytes of memory, and
    /// the empty table half a mebibyte.
    pub orders_max: usize,
    /// The longest that an entry may live, from the beginning of its fill to its last use as a
    /// stale one. Orders older than this fold into a floor; no entry that they could spare is
    /// alive any more.
    pub entry_life_max: Duration,
}

/// The purge table in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeCounts {
    /// What a fill that begins now records.
    pub sequence: u64,
    /// Orders kept, a target under a hard and a soft one counting twice.
    pub orders: usize,
    /// Orders that a floor took over for want of room, since the start. If it grows, `orders_max`
    /// is too small, and purges hit more than they name.
    pub folded: u64,
    /// Orders that a floor took over because of their age, since the start.
    pub aged: u64,
    /// Entries that know of no order this new are dead; 0 is none.
    pub hard_floor: u64,
    /// Entries that know of no order this new are stale; 0 is none.
    pub soft_floor: u64,
    /// How long the log is; 0 without one.
    pub log_bytes: u64,
    /// Writes to the log that succeeded, since the start. There are fewer than orders when orders
    /// come faster than the disk.
    pub log_writes: u64,
    /// Writes to the log that failed, since the start.
    pub log_failures: u64,
    /// Whether all that was stored before the start is dead, because the log was lost.
    pub is_log_lost: bool,
}

/// Why the purge table cannot be opened; the operator has to act.
#[derive(Debug, thiserror::Error)]
#[error("the purge log in {} cannot be used", .folder.display())]
pub struct OpenError {
    /// The data folder as configured.
    pub folder: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// The purge orders in force.
#[derive(Debug)]
pub struct Purges {
    shared: Arc<Shared>,
    /// How far the log has come; absent if there is none.
    settled: Option<watch::Receiver<Settled>>,
    clock: Clock,
    is_log_lost: bool,
}

impl Purges {
    /// Opens the table, with the log in `folder` (made with mode 0700 where it is missing), or
    /// in memory alone. `entries_exist` says whether entries from before may be found: without
    /// a log they are all dead. The folder must be this process's alone. It reads and writes
    /// files, and blocks for as long.
    ///
    /// # Errors
    /// When the log cannot be opened or written. A damaged one is no error.
    pub fn open(
        folder: Option<&Path>,
        settings: PurgeSettings,
        clock: Clock,
        entries_exist: bool,
    ) -> Result<Purges, OpenError> {
        let unusable =
            |source| OpenError { folder: folder.unwrap_or(Path::new("")).to_owned(), source };
        let (tables, mut ledger) = (Tables::new(), Ledger::new(settings));
        let found = match folder {
            Some(folder) => {
                log::replay(folder, |record| ledger.replay(&tables, &record)).map_err(unusable)?
            }
            None => Found::Missing,
        };
        let loss = loss(found, entries_exist);
        let base = base(found, loss.is_some(), clock.now());
        ledger.age(&tables, clock.now(), usize::MAX);
        if let Some(why) = loss {
            tracing::warn!(why, "the purge log is lost: all that was stored before is dead");
            ledger.raise_blindly(&tables, base);
        }
        ledger.begin(base);
        let log = folder.map(|folder| Log::create(folder, &ledger.records(&tables, base)));
        let opened = Opened { tables, ledger, base, clock, is_log_lost: loss.is_some() };
        opened.start(log.transpose().map_err(unusable)?).map_err(unusable)
    }

    /// Forgets all orders in a folder that no process uses: whatever was stored there is dead for whoever
    /// opens it next.
    pub fn forget(folder: &Path) {
        if let Err(error) = log::remove(folder) {
            let folder = folder.display();
            tracing::warn!(%error, %folder, "a purge log cannot be removed");
        }
    }

    /// The newest order: what a fill that begins now records.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.shared.sequence()
    }

    /// From now on orders wait to be told to other servers, those of before included that never were.
    pub fn share(&self) {
        let mut desk = self.shared.desk();
        let never = |(target, manner, number, given): (Target, Manner, u64, Given)| {
            (given.shared == 0).then_some(Unshared { target, manner, number, first: number })
        };
        let mut unshared: Vec<Unshared> = desk.ledger.orders().filter_map(never).collect();
        unshared.sort_unstable_by_key(|waiting| waiting.number);
        desk.unshared = Some(unshared.into());
        for (shared, number) in desk.ledger.shared(&self.shared.tables) {
            desk.positions.note_order(shared, number);
        }
    }

    /// Orders that wait to be told to other servers, the oldest first, at most so many.
    #[must_use]
    pub fn unshared(&self, max: usize) -> Vec<Unshared> {
        self.shared.desk().unshared.iter().flatten().take(max).copied().collect()
    }

    /// How many wait to be told to other servers.
    #[must_use]
    pub fn unshared_count(&self) -> usize {
        self.shared.desk().unshared.as_ref().map_or(0, VecDeque::len)
    }

    /// The first number of the oldest order that waits to be told to other servers.
    #[must_use]
    pub fn first_unshared(&self) -> Option<u64> {
        // One that was given again stands behind younger ones.
        self.shared.desk().unshared.iter().flatten().map(|order| order.first).min()
    }

    /// Notes under which numbers orders were published.
    pub fn note_shared(&self, orders: &[(Unshared, u64)]) {
        let noted: Vec<Noted> = orders
            .iter()
            .map(|(Unshared { target, manner, number, .. }, shared)| Noted {
                target: *target,
                manner: *manner,
                number: *number,
                shared: *shared,
            })
            .collect();
        self.shared.note_shared(&noted);
    }

    /// Puts orders in force that other servers published, and notes that all up to `seen` were before
    /// now: fills that begin later know of them. Says whether any was news. In the order in which they
    /// were published, they purge least.
    pub fn apply(&self, orders: &[SharedOrder], seen: u64) -> bool {
        self.shared.apply(orders, seen, self.clock.now())
    }

    /// Every order that servers know, as this one does.
    #[must_use]
    pub fn published(&self) -> Vec<SharedOrder> {
        let desk = self.shared.desk();
        let published = |(target, manner, _, given): (Target, Manner, u64, Given)| {
            (given.shared > 0).then_some(SharedOrder { target, manner, shared: given.shared })
        };
        desk.ledger.orders().filter_map(published).collect()
    }

    /// The position of an entry among what servers share: every order that was published later, and
    /// names it, holds for it. 0 if all do.
    #[must_use]
    pub fn position(&self, purge_sequence: u64) -> u64 {
        self.shared.desk().positions.position(purge_sequence)
    }

    /// The purge number here of an entry at this position.
    #[must_use]
    pub fn number_at(&self, position: u64) -> u64 {
        let sequence = self.sequence();
        let desk = self.shared.desk();
        desk.positions.own_number(position, sequence, desk.oldest_unshared())
    }

    /// What the orders make of an entry with these selectors and [`purge_sequence`]. It costs
    /// one load if the entry knows of every order, else a look-up for each selector. It never
    /// allocates.
    ///
    /// [`purge_sequence`]: crate::cache::entry::Entry::purge_sequence
    #[must_use]
    pub fn verdict(&self, selectors: &[Selector], purge_sequence: u64) -> Verdict {
        self.shared.tables.verdict(selectors, purge_sequence)
    }

    /// The same of an entry.
    #[must_use]
    pub fn verdict_on(&self, entry: &Entry) -> Verdict {
        self.verdict(&entry.selectors, entry.purge_sequence)
    }

    /// Gives an order, which is in force at once, and waits until it is durable. Gives its
    /// number; an order of nothing takes none. It waits for as long as the disk does: bring a
    /// deadline. Dropped while it waits, it has been given all the same.
    ///
    /// # Errors
    /// `InvalidInput` for more than [`TARGETS_MAX`] targets, of which none is purged. Any other
    /// says that the order is not durable: it is in force, and its writing is tried again.
    pub async fn order(&self, targets: &[Target], manner: Manner) -> io::Result<u64> {
        if targets.len() > TARGETS_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a purge order names at most {TARGETS_MAX} targets"),
            ));
        }
        let number = self.give(targets, manner);
        if let Some(settled) = &self.settled {
            durable(&mut settled.clone(), number).await?;
        }
        Ok(number)
    }

    /// Gives an order, which is in force at once and durable a little later: it waits for no
    /// disk. Gives its number; an order of nothing takes none. More than [`TARGETS_MAX`] targets purge everything.
    pub fn order_soon(&self, targets: &[Target], manner: Manner) -> u64 {
        match targets.len() {
            0..=TARGETS_MAX => self.give(targets, manner),
            _ => self.give(&[Target::Everything], manner),
        }
    }

    /// Gives an order for the sake of an entry that is about to be stored; it is in force at once and
    /// durable a little later. Gives the number that the entry is to record: it is behind this order, unless
    /// one before has purged it.
    #[must_use]
    pub fn order_ahead_of(&self, entry: &Entry, target: Target, manner: Manner) -> u64 {
        match self.shared.give_and_judge(&[target], manner, || self.clock.now(), entry) {
            (number, Verdict::Alive) => number,
            (_, Verdict::Stale | Verdict::Dead) => entry.purge_sequence,
        }
    }

    fn give(&self, targets: &[Target], manner: Manner) -> u64 {
        match targets {
            [] => self.shared.desk().newest,
            // It stands for whatever else is named.
            _ if targets.contains(&Target::Everything) => {
                self.shared.give(&[Target::Everything], manner, || self.clock.now())
            }
            _ => self.shared.give(targets, manner, || self.clock.now()),
        }
    }

    /// The table in numbers.
    #[must_use]
    pub fn counts(&self) -> PurgeCounts {
        let (desk, tables) = (self.shared.desk(), &self.shared.tables);
        PurgeCounts {
            sequence: self.sequence(),
            orders: desk.ledger.len(),
            folded: desk.ledger.folded,
            aged: desk.ledger.aged,
            hard_floor: tables.of(Manner::Hard).floor(),
            soft_floor: tables.of(Manner::Soft).floor(),
            log_bytes: desk.log_bytes,
            log_writes: desk.log_writes,
            log_failures: desk.log_failures,
            is_log_lost: self.is_log_lost,
        }
    }

    /// Writes what is left and closes the log. Later orders are in force, but not durable. It
    /// waits for as long as the disk does: bring a deadline.
    pub async fn close(&self) {
        self.shared.close();
        if let Some(mut settled) = self.settled.clone() {
            // It fails when the thread has ended.
            while settled.changed().await.is_ok() {}
        }
    }
}

impl Drop for Purges {
    /// The thread ends when it has written what is left.
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Why what the log held may be lost, if so.
fn loss(found: Found, entries_exist: bool) -> Option<&'static str> {
    match found {
        Found::Damaged { why, .. } => Some(why),
        Found::Missing if entries_exist => Some("it is missing, and there are entries"),
        Found::Missing | Found::Whole { .. } => None,
    }
}

/// Where the sequence goes on: above whatever any fill may have recorded.
fn base(found: Found, is_lost: bool, now: Timestamp) -> u64 {
    let newest = match found {
        Found::Missing => 0,
        Found::Whole { newest } | Found::Damaged { newest, .. } => newest,
    };
    let now_ms = now.0.min(NUMBERS_LOST);
    let base = newest.saturating_add(NUMBERS_AHEAD);
    match is_lost {
        true => base.max(now_ms * NUMBERS_LOST_A_MS + NUMBERS_LOST),
        false => base.max(now_ms),
    }
}

/// A table that was read back, and is not in use yet.
struct Opened {
    tables: Tables,
    ledger: Ledger,
    base: u64,
    clock: Clock,
    is_log_lost: bool,
}

impl Opened {
    fn start(self, log: Option<Log>) -> io::Result<Purges> {
        let shared = Arc::new(Shared::new(self.tables, self.ledger, self.base, log.as_ref()));
        let settled = match log {
            Some(log) => Some(Writer::start(Arc::clone(&shared), log, self.base)?),
            None => None,
        };
        Ok(Purges { shared, settled, clock: self.clock, is_log_lost: self.is_log_lost })
    }
}
