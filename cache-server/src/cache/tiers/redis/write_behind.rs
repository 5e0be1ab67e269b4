//! Write-behind: entries on their way to Redis. Nobody waits for them.
//!
//! What waits is bounded in number and bytes; beyond, the oldest is dropped, and counted. Under one
//! key only the newest waits. While Redis is away the queue keeps what fits, and afterwards no more
//! than [`WRITERS`] of it are under way at once, so that a Redis that has just come back is not
//! flooded. A write that fails is tried once more. Where Redis refuses to be written to (it is
//! read-only or full, say), writing stops for a second at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyspec::Key;
use redis::Value;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::control::lease_name;
use super::link::{Link, Reach, WriteError};
use super::metrics::{Dropped, RedisMetrics};
use super::settings::RedisSettings;
use super::time::RedisTime;
use super::value;
use crate::cache::entry::Entry;
use crate::cache::leases::Fence;
use crate::cache::purge::Purges;
use crate::cache::tiers::TierError;
use crate::clock::Clock;

/// Writes under way at once.
const WRITERS: usize = 4;
/// How long nothing is written after Redis has refused to be written to.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a writer waits where the part of Redis that it writes to is left alone.
const REST: Duration = Duration::from_millis(20);
/// Entries that came too late and are looked after.
const FENCED_MAX: usize = 256;
/// How often one entry is tried to be written.
const TRIES: u8 = 2;
/// Writes a value that no later fetch has written.
const WRITE: &str = include_str!("write.lua");
/// From this size on an entry is encoded where it holds up no requests.
const LARGE_BYTES: usize = 128 << 10;

/// The queue, and what is written with.
#[derive(Debug)]
pub(super) struct WriteBehind {
    settings: Arc<RedisSettings>,
    prefix: String,
    /// What this process calls itself; no other does.
    process: Arc<str>,
    purges: Arc<Purges>,
    time: Arc<RedisTime>,
    link: Arc<Link>,
    clock: Clock,
    queue: Mutex<Queue>,
    pause: Mutex<Pause>,
    /// Wakes a writer.
    work: Notify,
    /// Wakes whoever waits for the queue to be empty, or for Redis to refuse what is in it.
    done: Notify,
    metrics: Arc<RedisMetrics>,
    /// Where entries go that came too late.
    fenced: mpsc::Sender<Arc<Entry>>,
    came_too_late: Mutex<Option<mpsc::Receiver<Arc<Entry>>>>,
}

/// What waits, the oldest first.
#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<Key>,
    entries: HashMap<Key, Waiting>,
    bytes: usize,
    /// Writes under way.
    writing: usize,
}

/// An entry that waits.
#[derive(Debug)]
struct Waiting {
    entry: Arc<Entry>,
    fence: Fence,
    /// What it counts for: its weight.
    bytes: usize,
    /// How often it has been tried.
    tries: u8,
}

impl Waiting {
    fn new(entry: Arc<Entry>, fence: Fence) -> Waiting {
        Waiting { bytes: entry.weight(), entry, fence, tries: 0 }
    }
}

/// Whether writes wait because Redis refuses them.
#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    why: Option<&'static str>,
}

/// What waits to be written, and whether it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteState {
    /// Entries that wait.
    pub(super) entries: usize,
    /// Their bytes.
    pub(super) bytes: usize,
    /// Why Redis refuses to be written to, if it does.
    pub(super) refused: Option<&'static str>,
}

impl WriteBehind {
    /// A queue that nobody writes yet. Positions of entries are told by `purges`.
    #[must_use]
    pub(super) fn new(
        settings: Arc<RedisSettings>,
        prefix: String,
        purges: Arc<Purges>,
        time: Arc<RedisTime>,
        link: Arc<Link>,
        clock: Clock,
        metrics: Arc<RedisMetrics>,
    ) -> WriteBehind {
        let (fenced, came_too_late) = mpsc::channel(FENCED_MAX);
        WriteBehind {
            process: format!("{}|{:016x}", settings.node, fastrand::u64(..)).into(),
            settings,
            prefix,
            purges,
            time,
            link,
            clock,
            queue: Mutex::default(),
            pause: Mutex::default(),
            work: Notify::new(),
            done: Notify::new(),
            metrics,
            fenced,
            came_too_late: Mutex::new(Some(came_too_late)),
        }
    }

    /// What this process calls itself; no other does.
    pub(super) fn process(&self) -> &Arc<str> {
        &self.process
    }

    /// Entries that were not written because a later fetch had stored: whoever asks first gets them.
    pub(super) fn came_too_late(&self) -> Option<mpsc::Receiver<Arc<Entry>>> {
        self.came_too_late.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Starts the writers, which end with the runtime.
    pub(super) fn start(self: &Arc<Self>) {
        for _ in 0..WRITERS {
            tokio::spawn(Arc::clone(self).write());
        }
    }

    /// Has an entry written, in the place of an older one that waits under its key.
    pub(super) fn put(&self, entry: Arc<Entry>, fence: Fence) {
        let dropped = {
            let mut queue = self.queue();
            queue.push(Waiting::new(entry, fence));
            let dropped = queue.drop_beyond(
                self.settings.write_queue_entries_max,
                self.settings.write_queue_bytes_max,
            );
            self.metrics.show_queue(queue.order.len(), queue.bytes);
            dropped
        };
        (0..dropped).for_each(|_| self.metrics.dropped(Dropped::Full));
        self.work.notify_one();
    }

    /// What waits now.
    #[must_use]
    pub(super) fn state(&self) -> WriteState {
        let refused = self.pausing().why;
        let queue = self.queue();
        WriteState { entries: queue.order.len(), bytes: queue.bytes, refused }
    }

    /// Waits until everything is written, for as long as there is hope and until the deadline; the
    /// rest is dropped.
    pub(super) async fn close(&self, deadline: Instant) {
        let mut reach = self.link.reach();
        let is_over = async {
            loop {
                let done = self.done.notified();
                if self.queue().is_done() || self.state().refused.is_some() {
                    return;
                }
                done.await;
            }
        };
        let is_away = async { reach.wait_for(|reach| *reach != Reach::Up).await.map(|_| ()) };
        tokio::select! {
            () = is_over => {}
            _ = is_away => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
        let left = self.queue().clear();
        if left > 0 {
            tracing::warn!(entries = left, "entries were not written to redis before the end");
            (0..left).for_each(|_| self.metrics.dropped(Dropped::Closing));
        }
    }

    async fn write(self: Arc<Self>) {
        let mut reach = self.link.reach();
        loop {
            // It ends with the link, which ends with the server.
            if reach.wait_for(|reach| *reach == Reach::Up).await.is_err() {
                return;
            }
            let is_probe = self.paused().await;
            let Some(waiting) = self.next() else {
                if is_probe {
                    self.probe().await;
                } else {
                    self.work.notified().await;
                }
                continue;
            };
            let _writing = Writing(&self);
            // One wake-up may stand for many entries.
            self.work.notify_one();
            self.write_one(waiting).await;
        }
    }

    async fn write_one(&self, mut waiting: Waiting) {
        let began = Instant::now();
        waiting.tries += 1;
        match self.try_write(&waiting).await {
            Ok(()) => {
                self.metrics.written(began.elapsed());
                self.resume();
                if let Some(lease) = &waiting.fence.lease {
                    lease.stored().await;
                }
            }
            Err(NotWritten::Later) => {
                self.metrics.dropped(Dropped::Fenced);
                self.fenced_off(&waiting).await;
            }
            Err(NotWritten::Dropped(why)) => self.metrics.dropped(why),
            Err(NotWritten::Redis(WriteError::Failed(TierError::Resting))) => {
                // It was not asked: that was no try, and the next one can wait.
                waiting.tries -= 1;
                self.queue().retry_last(waiting);
                tokio::time::sleep(REST).await;
            }
            Err(NotWritten::Redis(error)) => self.failed(waiting, &error),
        }
    }

    /// What a later fetch has stored is as good for those who wait, and better for this server too.
    async fn fenced_off(&self, waiting: &Waiting) {
        if let Some(lease) = &waiting.fence.lease {
            lease.stored().await;
        }
        // Beyond, it goes on with what it has, which was right when it was fetched.
        let _ = self.fenced.try_send(Arc::clone(&waiting.entry));
    }

    fn failed(&self, waiting: Waiting, error: &WriteError) {
        let (WriteError::Refused(fault) | WriteError::Failed(fault)) = error;
        self.metrics.write_failed();
        self.metrics.error(fault.kind());
        match error {
            WriteError::Refused(fault) => {
                self.metrics.dropped(Dropped::Refused);
                self.pause(fault);
            }
            WriteError::Failed(_) if waiting.tries < TRIES => {
                self.queue().retry_first(waiting);
            }
            WriteError::Failed(_) => self.metrics.dropped(Dropped::Failed),
        }
    }

    async fn try_write(&self, waiting: &Waiting) -> Result<(), NotWritten> {
        let (entry, token) = (&waiting.entry, waiting.fence.token);
        let lives = entry.ends.last().since(self.clock.now());
        let lives_ms = u64::try_from(lives.as_millis()).unwrap_or(u64::MAX).min(LIFE_MS_MAX);
        if lives_ms == 0 {
            return Err(NotWritten::Dropped(Dropped::Expired));
        }
        let value = self.value(entry, token).await.ok_or(NotWritten::Dropped(Dropped::TooLarge))?;
        let name = super::name(&self.prefix, &entry.key);
        let mut command = redis::cmd("EVAL");
        command.arg(WRITE).arg(2).arg(&name).arg(lease_name(&self.settings.prefix, &name));
        command.arg(token).arg(&token.to_be_bytes()).arg(lives_ms).arg(value).arg(&*self.process);
        let deadline = self.settings.write_deadline;
        match self.link.write(&name, &command, deadline).await.map_err(NotWritten::Redis)? {
            Value::Int(0) => Err(NotWritten::Later),
            Value::Int(2) => Err(NotWritten::Dropped(Dropped::Fenced)),
            _ => Ok(()),
        }
    }

    /// The value, with times and a purge number that say to all servers what the fill's own say to this.
    async fn value(&self, entry: &Arc<Entry>, token: u64) -> Option<Vec<u8>> {
        let purge_sequence = self.purges.position(entry.purge_sequence);
        let (is_large, form) = (entry.body.len() >= LARGE_BYTES, self.settings.form);
        let mut entry = Entry { purge_sequence, ..Entry::clone(entry) };
        self.time.share(&mut entry);
        let encode = move || value::encode(&entry, token, &form).ok().flatten();
        if is_large {
            return tokio::task::spawn_blocking(encode).await.ok().flatten();
        }
        encode()
    }

    fn next(&self) -> Option<Waiting> {
        let mut queue = self.queue();
        let waiting = queue.pop()?;
        queue.writing += 1;
        self.metrics.show_queue(queue.order.len(), queue.bytes);
        Some(waiting)
    }

    /// Waits while writes are paused. After a pause one writer tries, and the others wait for it; says
    /// whether this one does.
    async fn paused(&self) -> bool {
        loop {
            let until = {
                let mut pause = self.pausing();
                let Some(until) = pause.until else { return false };
                if until <= Instant::now() {
                    pause.until = Some(Instant::now() + PAUSE);
                    return true;
                }
                until
            };
            tokio::time::sleep_until(until).await;
        }
    }

    /// Finds out whether Redis takes writes again, where nothing waits to be written.
    async fn probe(&self) {
        let name = format!("{}probe:write", self.prefix).into_bytes();
        let mut command = redis::cmd("EVAL");
        command.arg(WRITE).arg(2).arg(&name).arg(lease_name(&self.settings.prefix, &name));
        command.arg(0).arg(&[0_u8; 8]).arg(1).arg(1);
        let deadline = self.settings.write_deadline;
        match self.link.write(&name, &command, deadline).await {
            Ok(_) => self.resume(),
            Err(WriteError::Refused(fault)) => self.pause(&fault),
            // Nobody knows; the next probe will.
            Err(WriteError::Failed(_)) => {}
        }
    }

    fn pause(&self, fault: &TierError) {
        let kind = fault.kind();
        let mut pause = self.pausing();
        pause.until = Some(Instant::now() + PAUSE);
        if pause.why.replace(kind).is_none() {
            self.metrics.show_writes_paused(true);
            tracing::warn!(kind, error = %fault, "redis takes no writes now");
        }
        drop(pause);
        // Who waits for the end need not wait for this.
        self.done.notify_waiters();
    }

    fn resume(&self) {
        let mut pause = self.pausing();
        if pause.why.take().is_some() {
            *pause = Pause::default();
            self.metrics.show_writes_paused(false);
            tracing::info!("redis takes writes again");
        }
    }

    fn pausing(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No entry lives longer; Redis refuses times that its clock cannot hold.
const LIFE_MS_MAX: u64 = 100 * 366 * 24 * 3600 * 1000;

/// A write under way.
struct Writing<'w>(&'w WriteBehind);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let is_done = {
            let mut queue = self.0.queue();
            queue.writing -= 1;
            queue.is_done()
        };
        if is_done {
            self.0.done.notify_waiters();
        }
    }
}

/// Why an entry is not in Redis.
enum NotWritten {
    /// It is not worth writing.
    Dropped(Dropped),
    /// Redis has what a later fetch has stored.
    Later,
    /// Redis did not take it.
    Redis(WriteError),
}

impl Queue {
    /// Puts an entry last, or in the place of the one that waits under its key, unless that is of a later
    /// fetch.
    fn push(&mut self, waiting: Waiting) {
        let key = waiting.entry.key;
        // The fetch of one that waits may have begun later, and ended sooner.
        let is_later = |other: &&mut Waiting| other.fence.token > waiting.fence.token;
        if let Some(later) = self.entries.get_mut(&key).filter(is_later) {
            // It is as good for those who wait for this one.
            later.fence.lease = later.fence.lease.take().or(waiting.fence.lease);
            return;
        }
        self.bytes += waiting.bytes;
        match self.entries.insert(key, waiting) {
            Some(before) => self.bytes -= before.bytes,
            None => self.order.push_back(key),
        }
    }

    /// Puts an entry back first that could not be written, unless a newer one waits.
    fn retry_first(&mut self, waiting: Waiting) {
        let key = waiting.entry.key;
        if !self.entries.contains_key(&key) {
            self.push(waiting);
            self.order.rotate_right(1);
        }
    }

    /// Puts an entry back last, unless a newer one waits.
    fn retry_last(&mut self, waiting: Waiting) {
        if !self.entries.contains_key(&waiting.entry.key) {
            self.push(waiting);
        }
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.entries.remove(&self.order.pop_front()?)?;
        self.bytes -= waiting.bytes;
        Some(waiting)
    }

    /// Drops the oldest until the rest is within the bounds, and says how many.
    fn drop_beyond(&mut self, entries_max: usize, bytes_max: usize) -> usize {
        let before = self.order.len();
        while (self.order.len() > entries_max || self.bytes > bytes_max) && self.pop().is_some() {}
        before - self.order.len()
    }

    fn clear(&mut self) -> usize {
        let left = self.order.len();
        *self = Queue { writing: self.writing, ..Queue::default() };
        left
    }

    fn is_done(&self) -> bool {
        self.order.is_empty() && self.writing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::tests::sample;

    fn waiting(key: u8, bytes: usize) -> Waiting {
        Waiting::new(Arc::new(sample([key; 32], &vec![b'x'; bytes])), Fence::default())
    }

    fn keys(queue: &mut Queue) -> Vec<u8> {
        let mut keys = Vec::new();
        while let Some(waiting) = queue.pop() {
            keys.push(waiting.entry.key.as_bytes()[0]);
        }
        assert_eq!(queue.bytes, 0, "all bytes were given back");
        keys
    }

    #[test]
    fn the_oldest_goes_first_and_one_key_waits_once() {
        let mut queue = Queue::default();
        for key in [1, 2, 1, 3] {
            queue.push(waiting(key, 10));
        }
        assert_eq!(keys(&mut queue), [1, 2, 3]);
    }

    #[test]
    fn beyond_either_bound_the_oldest_is_dropped() {
        let mut queue = Queue::default();
        for key in 1..=5 {
            queue.push(waiting(key, 1000));
        }
        assert_eq!(queue.drop_beyond(4, usize::MAX), 1);
        let two_and_a_half = queue.bytes * 5 / 8;
        assert_eq!(queue.drop_beyond(4, two_and_a_half), 2);
        assert_eq!(keys(&mut queue), [4, 5]);
    }

    #[test]
    fn one_entry_over_the_bound_does_not_wait_at_all() {
        let mut queue = Queue::default();
        queue.push(waiting(1, 1000));
        assert_eq!(queue.drop_beyond(10, 100), 1);
        assert!(queue.is_done());
    }

    #[test]
    fn what_failed_goes_first_again_unless_a_newer_one_waits() {
        let mut queue = Queue::default();
        queue.push(waiting(2, 10));
        queue.retry_first(waiting(1, 10));
        queue.retry_first(waiting(2, 5000));
        queue.retry_last(waiting(2, 5000));
        assert!(queue.bytes < 5000);
        assert_eq!(keys(&mut queue), [1, 2]);
    }
}
