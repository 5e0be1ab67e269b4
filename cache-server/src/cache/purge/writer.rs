//! The desk at which orders are given, and the one thread that writes them to the log.
//!
//! An order is in force when it leaves the desk, and what it adds to the log lies there until
//! the thread comes for it. The thread takes all that has gathered in the meantime, so that many
//! orders share one fsync. Nobody's task writes, so none can be cancelled while it does.
//!
//! What waits for the log is bounded: beyond [`PENDING_MAX`] records nothing more is noted, and
//! the log is written anew from the orders in force, which are bounded themselves. The same
//! happens after a failed write, again and again until it succeeds.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use super::ledger::{Given, Known, Ledger, Noted};
use super::log::{Log, Record};
use super::positions::Positions;
use super::tables::Tables;
use super::{Manner, NUMBERS_AHEAD, SharedOrder, Target, Unshared, Verdict};
use crate::cache::entry::Entry;
use crate::clock::Timestamp;

/// Records that wait for the log, before it is written anew instead.
const PENDING_MAX: usize = 40_000;
/// Orders that wait to be told to servers; beyond, everything is purged, and they are told that.
const UNSHARED_MAX: usize = 100_000;
/// How long after a failed write the next is tried, if no order comes before.
const RETRY: Duration = Duration::from_secs(1);

/// What those who give, those who read and the thread that writes share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) tables: Tables,
    /// What a fill that begins now records.
    sequence: AtomicU64,
    desk: Mutex<Desk>,
    /// Wakes the thread.
    work: Condvar,
}

/// Where orders are given, one after the other.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) ledger: Ledger,
    /// The number given last.
    pub(super) newest: u64,
    /// How numbers and those that servers share stand to each other.
    pub(super) positions: Positions,
    /// Orders that servers do not know yet, the oldest first; absent if they are told of none.
    pub(super) unshared: Option<VecDeque<Unshared>>,
    /// Numbers up to this are in the log.
    durable: u64,
    /// What the log lacks; absent if nothing is kept.
    pending: Option<Pending>,
    /// How long the log is, as of the last write.
    pub(super) log_bytes: u64,
    /// Writes that succeeded.
    pub(super) log_writes: u64,
    /// Writes that failed.
    pub(super) log_failures: u64,
}

/// What waits for the log.
#[derive(Debug, Default)]
struct Pending {
    records: Vec<Record>,
    /// The log has to be written anew from the orders in force; `records` is empty.
    is_rewrite: bool,
    /// There is something to do now.
    is_due: bool,
    /// Nothing more will come.
    is_closing: bool,
}

impl Shared {
    /// Begins at `base`, which the log holds already if there is one.
    pub(super) fn new(tables: Tables, ledger: Ledger, base: u64, log: Option<&Log>) -> Shared {
        let desk = Desk {
            ledger,
            newest: base,
            positions: Positions::default(),
            unshared: None,
            durable: base,
            pending: log.map(|_| Pending::default()),
            log_bytes: log.map_or(0, Log::bytes),
            log_writes: 0,
            log_failures: 0,
        };
        let (sequence, desk) = (AtomicU64::new(base), Mutex::new(desk));
        Shared { tables, sequence, desk, work: Condvar::new() }
    }

    /// Gives an order: it is in force on return, and waits for the log, and to be told to servers.
    pub(super) fn give(
        &self,
        targets: &[Target],
        manner: Manner,
        now: impl FnOnce() -> Timestamp,
    ) -> u64 {
        self.give_at(&mut self.desk(), targets, manner, now)
    }

    /// Gives an order, and what those before it make of an entry.
    pub(super) fn give_and_judge(
        &self,
        targets: &[Target],
        manner: Manner,
        now: impl FnOnce() -> Timestamp,
        entry: &Entry,
    ) -> (u64, Verdict) {
        // Under the lock, or another order could come between the two.
        let mut desk = self.desk();
        let verdict = self.tables.verdict(&entry.selectors, entry.purge_sequence);
        (self.give_at(&mut desk, targets, manner, now), verdict)
    }

    fn give_at(
        &self,
        desk: &mut Desk,
        targets: &[Target],
        manner: Manner,
        now: impl FnOnce() -> Timestamp,
    ) -> u64 {
        let (number, at) = (desk.newest + 1, now());
        desk.newest = number;
        let folded = desk.ledger.folded + desk.ledger.aged;
        desk.put_in_force(&self.tables, targets, manner, number, Given::own(at));
        desk.wait_to_be_shared(targets, manner, number);
        let are_taken_over = desk.ledger.folded + desk.ledger.aged > folded;
        if are_taken_over || desk.unshared.as_ref().is_some_and(|all| all.len() > UNSHARED_MAX) {
            desk.give_again(&self.tables, at);
        }
        self.work.notify_one();
        self.publish(desk);
        number
    }

    /// Puts orders in force that other servers gave, and notes that all up to `seen` were published
    /// before now. Says whether any was news.
    pub(super) fn apply(&self, orders: &[SharedOrder], seen: u64, at: Timestamp) -> bool {
        let mut desk = self.desk();
        let mut is_news = false;
        for order in orders {
            is_news |= desk.apply_one(&self.tables, order, at);
        }
        if is_news {
            desk.give_again(&self.tables, at);
        }
        desk.note_seen(seen);
        if is_news {
            self.work.notify_one();
        }
        self.publish(&desk);
        is_news
    }

    /// Notes the numbers that servers know orders of this one by, the oldest of those that waited.
    pub(super) fn note_shared(&self, orders: &[Noted]) {
        let mut desk = self.desk();
        desk.newest += 1;
        let from = desk.newest;
        for order in orders {
            desk.positions.note_order(order.shared, order.number);
            desk.forget_unshared(order);
            if let Some(given) = desk.ledger.note_shared(order, from) {
                desk.note_in_log(&[order.target], order.manner, order.number, given);
            }
        }
        self.work.notify_one();
        self.publish(&desk);
    }

    /// What a fill that begins now records: the newest number, but none so far ahead of the log
    /// that it could be given again after a crash. To know of fewer orders only purges more.
    fn publish(&self, desk: &Desk) {
        let ahead_max = match desk.pending {
            Some(_) => desk.durable.saturating_add(NUMBERS_AHEAD),
            None => u64::MAX,
        };
        self.sequence.store(desk.newest.min(ahead_max), Ordering::Release);
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// Tells the thread to write what is left and to end.
    pub(super) fn close(&self) {
        if let Some(pending) = &mut self.desk().pending {
            pending.is_closing = true;
            pending.is_due |= pending.is_rewrite;
        }
        self.work.notify_one();
    }

    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to write; `None` at the end.
    fn next_batch(&self) -> Option<Batch> {
        let mut desk = self.desk();
        loop {
            let pending = desk.pending.as_ref()?;
            if pending.is_due {
                return desk.take_batch(&self.tables);
            }
            if pending.is_closing {
                return None;
            }
            if !pending.is_rewrite {
                desk = self.work.wait(desk).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self.work.wait_timeout(desk, RETRY);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            desk = woken;
            if let Some(pending) = desk.pending.as_mut().filter(|_| timeout.timed_out()) {
                pending.is_due = true;
            }
        }
    }
}

impl Pending {
    fn add(&mut self, targets: &[Target], manner: Manner, number: u64, given: Given) {
        self.is_due = true;
        if self.is_rewrite || self.records.len() + targets.len() > PENDING_MAX {
            self.is_rewrite = true;
            self.records = Vec::new();
            return;
        }
        let record = |target: &Target| Record::of_order(*target, manner, number, given);
        self.records.extend(targets.iter().map(record));
    }
}

impl Desk {
    fn put_in_force(
        &mut self,
        tables: &Tables,
        targets: &[Target],
        manner: Manner,
        number: u64,
        given: Given,
    ) {
        self.ledger.give(tables, targets, manner, number, given);
        self.note_in_log(targets, manner, number, given);
    }

    fn note_in_log(&mut self, targets: &[Target], manner: Manner, number: u64, given: Given) {
        if let Some(pending) = &mut self.pending {
            pending.add(targets, manner, number, given);
        }
    }

    fn wait_to_be_shared(&mut self, targets: &[Target], manner: Manner, number: u64) {
        let Some(unshared) = &mut self.unshared else { return };
        let waiting = |target: &Target| Unshared { target: *target, manner, number, first: number };
        unshared.extend(targets.iter().map(waiting));
    }

    /// Gives orders again that servers do not know yet, and that others have taken over here: a restart
    /// would forget to tell of them. If they are too many, everything is purged instead.
    fn give_again(&mut self, tables: &Tables, at: Timestamp) {
        // It ends: what is given again is the newest, and at most half of what is kept.
        loop {
            let Some(unshared) = &mut self.unshared else { return };
            let owed_max = UNSHARED_MAX.min(self.ledger.orders_max() / 2);
            let (owed, mut lost): (Vec<Unshared>, Vec<Unshared>) =
                unshared.iter().partition(|order| self.ledger.owes(tables, order));
            if lost.is_empty() && owed.len() <= UNSHARED_MAX {
                return;
            }
            if owed.len() + lost.len() > owed_max {
                let first = owed.iter().chain(&lost).map(|order| order.first).min();
                let (target, manner) = (Target::Everything, Manner::Hard);
                let first = first.unwrap_or(self.newest);
                unshared.clear();
                lost = vec![Unshared { target, manner, number: 0, first }];
            } else {
                *unshared = owed.into();
            }
            for order in lost {
                self.newest += 1;
                let (targets, number) = (&[order.target], self.newest);
                self.put_in_force(tables, targets, order.manner, number, Given::own(at));
                self.unshared
                    .iter_mut()
                    .for_each(|all| all.push_back(Unshared { number, ..order }));
            }
        }
    }

    fn forget_unshared(&mut self, order: &Noted) {
        let Some(unshared) = &mut self.unshared else { return };
        let is_it = |waiting: &Unshared| {
            (waiting.target, waiting.manner, waiting.number)
                == (order.target, order.manner, order.number)
        };
        if unshared.front().is_some_and(is_it) {
            unshared.pop_front();
        } else {
            unshared.retain(|waiting| !is_it(waiting));
        }
    }

    /// Puts an order of another server in force, unless a later one holds for as much. One that is heard
    /// of late spares what was filled after it had been published.
    fn apply_one(&mut self, tables: &Tables, order: &SharedOrder, at: Timestamp) -> bool {
        let SharedOrder { target, manner, shared } = *order;
        let late = match self.ledger.known(tables, order) {
            Known::All => return false,
            Known::UpTo(from) => Some(from),
            Known::Nothing => self.positions.late_number(shared),
        };
        let number = late.unwrap_or_else(|| {
            self.newest += 1;
            self.newest
        });
        self.put_in_force(tables, &[target], manner, number, Given::heard(at, shared, number));
        self.positions.note_order(shared, number);
        true
    }

    /// From here on fills begin after `seen` was published: they are told from those before.
    fn note_seen(&mut self, seen: u64) {
        if seen > self.positions.newest_seen() {
            self.newest += 1;
            self.positions.note_seen(seen, self.newest);
        }
    }

    /// The own number of the oldest order that servers do not know yet.
    pub(super) fn oldest_unshared(&self) -> Option<u64> {
        self.unshared.as_ref()?.front().map(|waiting| waiting.number)
    }

    fn take_batch(&mut self, tables: &Tables) -> Option<Batch> {
        let pending = self.pending.as_mut()?;
        pending.is_due = false;
        // Cleared before the writing: what is ordered meanwhile is noted, to be added after.
        let is_rewrite = std::mem::take(&mut pending.is_rewrite);
        let added = std::mem::take(&mut pending.records);
        let records = if is_rewrite { self.ledger.records(tables, self.newest) } else { added };
        Some(Batch { records, through: self.newest, is_rewrite })
    }

    fn note_success(&mut self, through: u64) {
        self.log_writes += 1;
        self.durable = through;
    }

    /// Whatever was written may be torn: next comes the whole log, anew.
    fn note_failure(&mut self) {
        self.log_failures += 1;
        if let Some(pending) = &mut self.pending {
            pending.is_rewrite = true;
            pending.records = Vec::new();
        }
    }
}

/// What is written at once.
struct Batch {
    records: Vec<Record>,
    /// Every order up to this number is in it, or in the log already.
    through: u64,
    /// It takes the log's place.
    is_rewrite: bool,
}

/// How far the log has come.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    /// Orders up to this number are durable.
    durable: u64,
    /// Orders up to this number were written, or their writing failed.
    tried: u64,
    /// Why the last write failed.
    failure: Option<(io::ErrorKind, Arc<str>)>,
}

impl Settled {
    /// At the start, when the log holds all.
    fn at(base: u64) -> Settled {
        Settled { durable: base, tried: base, failure: None }
    }
}

/// Waits until an order is durable.
///
/// # Errors
/// When it could not be written, or nobody writes any more. It is tried again all the same.
pub(super) async fn durable(settled: &mut watch::Receiver<Settled>, number: u64) -> io::Result<()> {
    let is_settled = |now: &Settled| now.durable >= number || now.tried >= number;
    let Ok(now) = settled.wait_for(is_settled).await else {
        return Err(io::Error::other("the purge log is closed"));
    };
    match &now.failure {
        Some((kind, why)) if now.durable < number => Err(io::Error::new(*kind, why.to_string())),
        _ => Ok(()),
    }
}

/// The thread that writes.
pub(super) struct Writer {
    shared: Arc<Shared>,
    log: Log,
    /// Dropped when the thread ends, which is how others learn that it has.
    settled: watch::Sender<Settled>,
}

impl Writer {
    /// Starts the thread. It ends when the desk is closed and nothing is left.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(
        shared: Arc<Shared>,
        log: Log,
        base: u64,
    ) -> io::Result<watch::Receiver<Settled>> {
        let (settled, watched) = watch::channel(Settled::at(base));
        let writer = Writer { shared, log, settled };
        thread::Builder::new().name("purge-log".into()).spawn(move || writer.run())?;
        Ok(watched)
    }

    fn run(mut self) {
        while let Some(batch) = self.shared.next_batch() {
            let done = match batch.is_rewrite {
                true => self.log.rewrite(&batch.records),
                false => self.log.append(&batch.records),
            };
            self.settle(&batch, &done);
            self.compact();
        }
    }

    /// Says what became of a batch, to the desk first: who waited may ask it next.
    fn settle(&self, batch: &Batch, done: &io::Result<()>) {
        let mut desk = self.shared.desk();
        desk.log_bytes = self.log.bytes();
        match done {
            Ok(()) => desk.note_success(batch.through),
            Err(_) => desk.note_failure(),
        }
        self.shared.publish(&desk);
        drop(desk);
        self.report(done.as_ref().err());
        self.settled.send_modify(|now| {
            now.tried = batch.through;
            match done {
                Ok(()) => (now.durable, now.failure) = (batch.through, None),
                Err(error) => now.failure = Some((error.kind(), error.to_string().into())),
            }
        });
    }

    /// Once for each time of trouble, not for every try.
    fn report(&self, error: Option<&io::Error>) {
        let was_failing = self.settled.borrow().failure.is_some();
        match error {
            Some(error) if !was_failing => tracing::warn!(
                %error,
                "purge orders cannot be written; they are in force and will be tried again"
            ),
            None if was_failing => tracing::info!("purge orders are written again"),
            _ => {}
        }
    }

    /// Shortens a log that has grown too long. Orders are given meanwhile; what is noted of them
    /// is added after, some of it a second time, which does no harm.
    fn compact(&mut self) {
        let records = {
            let desk = self.shared.desk();
            if !self.log.is_overlong(desk.ledger.records_max()) {
                return;
            }
            desk.ledger.records(&self.shared.tables, desk.newest)
        };
        if let Err(error) = self.log.rewrite(&records) {
            tracing::warn!(%error, "the purge log cannot be shortened");
        }
        self.shared.desk().log_bytes = self.log.bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::Selector;
    use crate::cache::purge::{PurgeSettings, TARGETS_MAX};

    const BASE: u64 = 1_000;

    /// A desk with a log, and nobody who comes for what waits.
    fn desk(folder: &std::path::Path) -> Shared {
        let settings = PurgeSettings { orders_max: 100_000, entry_life_max: Duration::MAX };
        let log = Log::create(folder, &[]).unwrap();
        Shared::new(Tables::new(), Ledger::new(settings), BASE, Some(&log))
    }

    fn tag(number: usize) -> Target {
        Target::Selector(Selector::tag(&number.to_string()))
    }

    fn give(shared: &Shared, targets: &[Target]) -> u64 {
        shared.give(targets, Manner::Hard, || Timestamp(5))
    }

    #[test]
    fn orders_that_wait_are_written_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let shared = desk(folder.path());
        let numbers: Vec<u64> = (0..200).map(|number| give(&shared, &[tag(number)])).collect();
        let batch = shared.next_batch().unwrap();
        assert_eq!(batch.records.iter().map(|it| it.number).collect::<Vec<_>>(), numbers);
        assert_eq!((batch.through, batch.is_rewrite), (numbers[199], false));
        shared.close();
        assert!(shared.next_batch().is_none(), "nothing is left");
    }

    #[test]
    fn more_than_may_wait_is_written_anew_from_what_is_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let shared = desk(folder.path());
        let targets: Vec<Target> = (0..TARGETS_MAX).map(tag).collect();
        for _ in 0..PENDING_MAX / TARGETS_MAX {
            give(&shared, &targets);
        }
        let waiting = || shared.desk().pending.as_ref().unwrap().records.len();
        assert_eq!(waiting(), PENDING_MAX);
        let through = give(&shared, &targets[..1]);
        assert_eq!(waiting(), 0);
        let batch = shared.next_batch().unwrap();
        assert!(batch.is_rewrite);
        assert_eq!((batch.through, batch.records.len()), (through, 1 + TARGETS_MAX));
        give(&shared, &targets[..1]);
        assert_eq!(waiting(), 1, "what comes during the writing is noted again");
    }

    #[test]
    fn a_fill_records_no_number_far_ahead_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let shared = desk(folder.path());
        assert_eq!(give(&shared, &[tag(1)]), BASE + 1);
        assert_eq!(shared.sequence(), BASE + 1);
        shared.desk().newest = BASE + NUMBERS_AHEAD;
        assert_eq!(give(&shared, &[tag(1)]), BASE + NUMBERS_AHEAD + 1);
        assert_eq!(shared.sequence(), BASE + NUMBERS_AHEAD);
        let mut desk = shared.desk();
        let through = desk.newest;
        desk.note_success(through);
        shared.publish(&desk);
        assert_eq!(shared.sequence(), through, "the log has come after");
    }
}
