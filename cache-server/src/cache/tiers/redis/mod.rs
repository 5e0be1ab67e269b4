//! The Redis tier: entries that servers share, behind the local tiers of each.
//!
//! - `settings`: where it is, and the bounds;
//! - `connect`: how a connection comes about;
//! - `control`: what servers ask beside entries;
//! - `breaker`: whether it is asked at all;
//! - `fault`: what its errors mean;
//! - `direct`: connections that a read has for itself;
//! - `answer`: what comes on them;
//! - `link`: the connections, kept behind the breaker;
//! - `metrics`: what is counted;
//! - `time`: its clock and this server's;
//! - `touch`: whether entries may be read, as what was purged is known;
//! - `value`: an entry's form there;
//! - `write_behind`: entries on their way there.
//!
//! Nothing that Redis does reaches a caller but as a miss: it may be slow, full, read-only, another
//! one, or not there. A read has a deadline; reads of one key that come together are one; and what is
//! read is held to the key before anybody sees it. Redis expires entries at the end of their last use,
//! and evicts them when it likes.

mod answer;
mod breaker;
mod connect;
pub mod control;
mod direct;
mod fault;
mod link;
pub mod metrics;
pub mod settings;
pub mod time;
mod touch;
mod value;
mod write_behind;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use keyspec::Key;
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::Instant;

use super::TierError;
use crate::cache::entry::Entry;
use crate::cache::leases::Fence;
use crate::cache::purge::Purges;
use crate::clock::Clock;
use control::Control;
use link::{Link, Reach};
use metrics::{RedisMetrics, RedisRead};
use settings::RedisSettings;
use time::RedisTime;
pub use value::Form;
use write_behind::WriteBehind;

/// Bytes of values that are read at once at most.
const READ_BYTES_MAX: usize = 256 << 20;
/// How long the start waits for the first attempt to connect.
const START_WAIT: Duration = Duration::from_secs(1);

/// Entries in Redis.
#[derive(Debug)]
pub struct RedisTier {
    reader: Arc<Reader>,
    /// Reads under way, for those who ask for the same.
    readings: Arc<Mutex<Readings>>,
    writes: Arc<WriteBehind>,
    time: Arc<RedisTime>,
}

type Readings = HashMap<Key, WeakShared<Reading>>;

/// A read under way.
pub type Reading = BoxFuture<'static, Result<Option<Arc<Entry>>, TierError>>;

/// How the tier does, as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RedisReport {
    /// `up` if any of it is asked, else `down`.
    state: &'static str,
    /// Why none of it is asked, or part of it is not.
    why: Option<&'static str>,
    /// `on`, or `paused` while it refuses to be written to.
    writes: &'static str,
    /// Why it refuses.
    writes_why: Option<&'static str>,
    /// Entries that wait to be written.
    write_queue_entries: usize,
    /// Their bytes.
    write_queue_bytes: usize,
}

impl RedisReport {
    /// What is wrong with it, in words.
    pub fn faults(&self) -> impl Iterator<Item = String> {
        let down = match (self.state, self.why) {
            ("up", None) => None,
            ("up", Some(why)) => Some(format!("part of redis is down ({why})")),
            (_, why) => Some(format!("redis is down ({})", why.unwrap_or("connect"))),
        };
        let paused = self.writes_why.map(|why| format!("redis takes no writes ({why})"));
        down.into_iter().chain(paused)
    }
}

impl RedisTier {
    /// Starts it: connects and writes behind, on this runtime. It needs no Redis to be there.
    /// Positions of what is written and read are told by `purges`.
    #[must_use]
    pub fn start(
        settings: RedisSettings,
        purges: Arc<Purges>,
        clock: Clock,
        metrics: RedisMetrics,
    ) -> RedisTier {
        let (settings, metrics) = (Arc::new(settings), Arc::new(metrics));
        let time = Arc::new(RedisTime::new(clock.clone()));
        let prefix = value::prefix(&settings.prefix);
        let link = Arc::new(Link::new(&settings, &prefix, Arc::clone(&metrics)));
        tokio::spawn(Arc::clone(&link).keep());
        let writes = Arc::new(WriteBehind::new(
            Arc::clone(&settings),
            prefix.clone(),
            Arc::clone(&purges),
            Arc::clone(&time),
            Arc::clone(&link),
            clock,
            Arc::clone(&metrics),
        ));
        writes.start();
        let reads_max = (READ_BYTES_MAX / settings.form.value_bytes_max.max(1)).clamp(16, 1024);
        let permits = Semaphore::new(reads_max);
        let own = Arc::clone(&time);
        let reader = Reader { settings, prefix, link, purges, time: own, permits, metrics };
        RedisTier { reader: Arc::new(reader), readings: Arc::default(), writes, time }
    }

    /// Waits for the first attempt to connect, a second at most, so that a server that has just
    /// started does not ask an upstream for what Redis has.
    pub async fn started(&self) {
        let mut reach = self.reader.link.reach();
        let is_known = reach.wait_for(|reach| *reach != Reach::Unknown);
        let _ = tokio::time::timeout(START_WAIT, is_known).await;
    }

    /// A way to ask for other things than entries.
    #[must_use]
    pub fn control(&self) -> Control {
        let Reader { settings, prefix, link, .. } = &*self.reader;
        Control::new(Arc::clone(link), settings, prefix, self.writes.process())
    }

    /// Entries that were not written because a later fetch had stored: whoever asks first gets them.
    #[must_use]
    pub fn came_too_late(&self) -> Option<mpsc::Receiver<Arc<Entry>>> {
        self.writes.came_too_late()
    }

    /// Redis's time.
    #[must_use]
    pub fn time(&self) -> &Arc<RedisTime> {
        &self.time
    }

    /// Asks for the entry of a key, within the deadline. Who asks for one that is being read gets that.
    /// What it gives may be past all its ends; its times and its purge number are this server's. It fails when Redis does not answer in time, is left alone, or holds something else under the
    /// key.
    pub fn get(&self, key: &Key) -> Shared<Reading> {
        let mut readings = lock(&self.readings);
        if let Some(reading) = readings.get(key).and_then(WeakShared::upgrade) {
            return reading;
        }
        let listed = Listed { readings: Arc::clone(&self.readings), key: *key };
        let (reader, key) = (Arc::clone(&self.reader), *key);
        let reading = async move {
            let _listed = listed;
            reader.read(&key, reader.settings.deadline).await
        };
        let reading = reading.boxed().shared();
        readings.extend(reading.downgrade().map(|weak| (key, weak)));
        reading
    }

    /// The same for what is there by now, as a read under way may have been before it; with more patience,
    /// as the alternative is a fetch.
    ///
    /// # Errors
    /// As [`RedisTier::get`].
    pub async fn get_anew(&self, key: &Key) -> Result<Option<Arc<Entry>>, TierError> {
        self.reader.read(key, self.reader.settings.patience()).await
    }

    /// Has an entry of a fetch written; nobody waits for it. What is over the bounds is dropped and counted.
    pub fn put_soon(&self, entry: Arc<Entry>, fence: Fence) {
        self.writes.put(entry, fence);
    }

    /// Whether any of it is asked.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.reader.link.is_up()
    }

    /// How it does.
    #[must_use]
    pub fn report(&self) -> RedisReport {
        let writes = self.writes.state();
        RedisReport {
            state: if self.is_up() { "up" } else { "down" },
            why: self.reader.link.why_down(),
            writes: if writes.refused.is_some() { "paused" } else { "on" },
            writes_why: writes.refused,
            write_queue_entries: writes.entries,
            write_queue_bytes: writes.bytes,
        }
    }

    /// Writes what waits, until the deadline.
    pub async fn close(&self, deadline: Instant) {
        self.writes.close(deadline).await;
    }
}

/// What reads are done with.
#[derive(Debug)]
struct Reader {
    settings: Arc<RedisSettings>,
    prefix: String,
    link: Arc<Link>,
    purges: Arc<Purges>,
    time: Arc<RedisTime>,
    permits: Semaphore,
    metrics: Arc<RedisMetrics>,
}

impl Reader {
    async fn read(&self, key: &Key, deadline: Duration) -> Result<Option<Arc<Entry>>, TierError> {
        let read = self.try_read(key, deadline).await;
        self.metrics.read(match &read {
            Ok(Some(_)) => RedisRead::Found,
            Ok(None) => RedisRead::Absent,
            Err(TierError::Resting) => RedisRead::Skipped,
            Err(_) => RedisRead::Failed,
        });
        if let Err(error) = &read
            && !matches!(error, TierError::Resting)
        {
            self.metrics.error(error.kind());
        }
        read
    }

    async fn try_read(
        &self,
        key: &Key,
        deadline: Duration,
    ) -> Result<Option<Arc<Entry>>, TierError> {
        let until = Instant::now() + deadline;
        let _permit = self.permit(until).await?;
        let name = name(&self.prefix, key);
        // Never more of it than a value may have: others may have written there.
        let last = self.settings.form.value_bytes_max;
        let mut command = redis::cmd("GETRANGE");
        command.arg(&name).arg(0).arg(last);
        let value = self.link.read(&name, &command, last + 1, until).await?;
        if value.is_empty() {
            return Ok(None);
        }
        let mut entry = value::decode(&Bytes::from(value), key, &self.settings.form)?;
        self.time.take(&mut entry);
        entry.purge_sequence = self.purges.number_at(entry.purge_sequence);
        Ok(Some(Arc::new(entry)))
    }

    async fn permit(&self, until: Instant) -> Result<SemaphorePermit<'_>, TierError> {
        // Where there is room, as there nearly always is, no timer is needed.
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let waited = tokio::time::timeout_at(until, self.permits.acquire()).await;
        waited.ok().and_then(Result::ok).ok_or(TierError::Busy)
    }
}

/// A read under way is listed until it ends, or nobody waits for it any more.
struct Listed {
    readings: Arc<Mutex<Readings>>,
    key: Key,
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.readings).remove(&self.key);
    }
}

/// The name of a key in Redis.
fn name(prefix: &str, key: &Key) -> Vec<u8> {
    format!("{prefix}{key}").into_bytes()
}

fn lock(readings: &Mutex<Readings>) -> MutexGuard<'_, Readings> {
    readings.lock().unwrap_or_else(PoisonError::into_inner)
}
