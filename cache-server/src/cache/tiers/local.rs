//! The local tier: memory in front of disk, on foyer, used as a plain byte store.
//!
//! Every entry is written to disk when it is put, so that a killed process loses only what was
//! still queued. foyer may bring an older entry back (a dropped write leaves the one before it
//! readable, a removal does not clear its write queue), so every entry read is checked against
//! its embedded key, and nothing relies on removing. Whether an entry is still of use is for the
//! reader to judge; one that is of none is left to be evicted, for removing it could take a newer
//! one away that was put meanwhile. foyer takes no lock on its folder: the lock here is ours.

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foyer::{
    BlockEngineConfig, Code, DeviceBuilder, Event, EventListener, FsDeviceBuilder, HybridCache,
    HybridCacheBuilder, HybridCachePolicy, Load, PsyncIoEngineConfig, RecoverMode, S3FifoConfig,
};
use keyspec::Key;
use mixtrics::metrics::BoxedRegistry;
use tokio::sync::Semaphore;

use super::room::Room;
use super::{OpenError, TierError};
use crate::cache::entry::Entry;
use crate::cache::packed::{Packed, Templates};
use crate::clock::{Clock, Timestamp};

/// foyer's unit of eviction on disk; no entry on disk can be larger.
pub const BLOCK_BYTES: usize = 16 << 20;
/// The largest entry that fits a block beside foyer's own headers.
pub const ENTRY_BYTES_LIMIT: usize = BLOCK_BYTES - (1 << 20);
/// Where in the data folder the entries are.
const ENTRIES: &str = "entries";
/// What tells that a process uses the data folder.
const LOCK: &str = "lock";
/// Shards of the memory tier: each has its own lock and its own part of the capacity.
const MEMORY_SHARDS: usize = 8;
/// Bytes of entries that are read from disk at once, where that is no fewer reads than this: disks are quick
/// only if they are asked for many things, and few entries are as large as they may be.
const READING_BYTES_MAX: usize = 256 << 20;
const READS_MIN: usize = 128;
const READS_MAX: usize = 1024;
/// How long the disk is left alone after it missed its deadline.
const REST: Duration = Duration::from_secs(1);

/// Sizes and places of the local tier.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// The data folder; made with mode 0700 where it is missing.
    pub data_dir: PathBuf,
    /// Bytes of entries kept in memory.
    pub memory_bytes_max: usize,
    /// Bytes of disk used; 0 keeps entries in memory only.
    pub disk_bytes_max: usize,
    /// The largest entry kept.
    pub entry_bytes_max: usize,
    /// How long a read from disk may take before it counts as a miss.
    pub disk_deadline: Duration,
}

impl LocalSettings {
    /// Whether the data folder holds entries, before the tier is opened.
    #[must_use]
    pub fn has_entries(&self) -> bool {
        let files = std::fs::read_dir(self.data_dir.join(ENTRIES));
        self.disk_bytes_max > 0 && files.is_ok_and(|mut files| files.next().is_some())
    }
}

/// Memory in front of disk.
#[derive(Debug)]
pub struct LocalTier {
    cache: HybridCache<StoredKey, Stored>,
    /// What entries in memory have in common.
    templates: Templates,
    clock: Clock,
    settings: LocalSettings,
    /// The disk's; none without one.
    room: Option<Room>,
    /// For reads from disk: each takes one while it is under way.
    turns: Semaphore,
    /// Until when the disk is left alone, in milliseconds of wall time.
    resting_until: AtomicU64,
    /// One of these is held while memory is changed under a key.
    stripes: [Mutex<()>; 16],
    /// Held for as long as the tier is open; the lock goes with the process, however it ends.
    _lock: Option<File>,
}

impl LocalTier {
    /// Opens the tier and recovers what the disk holds. `on_evict` is told of every entry that
    /// leaves memory for want of space.
    ///
    /// # Errors
    /// When the folder is in use, cannot be made or written, or the engine does not start.
    pub async fn open(
        settings: LocalSettings,
        clock: Clock,
        registry: BoxedRegistry,
        on_evict: impl Fn() + Send + Sync + 'static,
    ) -> Result<LocalTier, OpenError> {
        let with_disk = settings.disk_bytes_max > 0;
        let lock = if with_disk { Some(lock_folder(&settings.data_dir)?) } else { None };
        let room =
            with_disk.then(|| Room::make(settings.data_dir.join(ENTRIES), settings.disk_bytes_max));
        let cache = build(&settings, registry, on_evict).await?;
        let reads_max = READING_BYTES_MAX / settings.entry_bytes_max.max(1);
        Ok(LocalTier {
            cache,
            turns: Semaphore::new(reads_max.clamp(READS_MIN, READS_MAX)),
            room,
            templates: Templates::default(),
            clock,
            settings,
            resting_until: AtomicU64::new(0),
            stripes: Default::default(),
            _lock: lock,
        })
    }

    /// Asks memory; never waits. What it gives may be past all its ends.
    pub fn get_memory(&self, key: &Key) -> Option<Arc<Entry>> {
        self.cache.memory().get(&StoredKey::of(key))?.value().entry_of(key)
    }

    /// Asks the disk, within its deadline, and keeps what it finds in memory, unless that is past
    /// its last end.
    ///
    /// # Errors
    /// When the disk is slow, resting after having been slow, or unreadable, or too many read from it.
    pub async fn get_disk(&self, key: &Key) -> Result<Option<Arc<Entry>>, TierError> {
        if self.settings.disk_bytes_max == 0 {
            return Ok(None);
        }
        let rest = Timestamp(self.resting_until.load(Ordering::Relaxed)).since(self.clock.now());
        // A longer one is of before the clock was set back.
        if !rest.is_zero() && rest <= REST {
            return Err(TierError::Resting);
        }
        let stored_key = StoredKey::of(key);
        let until = tokio::time::Instant::now() + self.settings.disk_deadline;
        let turn = tokio::time::timeout_at(until, self.turns.acquire()).await;
        let _turn = turn.ok().and_then(Result::ok).ok_or(TierError::Busy)?;
        let load = self.cache.storage().load(&stored_key);
        let stored = match tokio::time::timeout_at(until, load).await {
            Err(_elapsed) => {
                let until = self.clock.now().plus(REST);
                self.resting_until.store(until.0, Ordering::Relaxed);
                return Err(TierError::Deadline);
            }
            Ok(Err(error)) => return Err(TierError::Read(error.to_string())),
            Ok(Ok(Load::Miss | Load::Throttled)) => return Ok(None),
            Ok(Ok(Load::Entry { value, .. })) => value,
            Ok(Ok(Load::Piece { piece, .. })) => piece.value().clone(),
        };
        let Some(entry) = stored.entry_of(key) else { return Ok(None) };
        if self.clock.now() >= entry.ends.last() {
            return Ok(Some(entry));
        }
        let _changing = self.changing(key);
        // A put that came while the disk was read is newer: leave it. What another read has put there is the
        // same, and one copy of it is enough.
        if let Some(in_memory) = self.get_memory(key) {
            return Ok(Some(in_memory));
        }
        self.cache.memory().insert(stored_key, self.packed(&entry));
        Ok(Some(entry))
    }

    /// Stores an entry in memory and queues it for the disk. One over `entry_bytes_max` is not
    /// stored, nor one that is too large for memory where there is no disk, and that is said.
    #[must_use]
    pub fn put(&self, entry: &Entry) -> bool {
        self.put_if(entry, || true)
    }

    /// Stores an entry likewise, unless memory has one that was stored later than `than`.
    #[must_use]
    pub fn put_unless_newer(&self, entry: &Entry, than: Timestamp) -> bool {
        self.put_if(entry, || !self.has_newer(&entry.key, than))
    }

    /// Whether memory has an entry that was stored later than `than`.
    #[must_use]
    pub fn has_newer(&self, key: &Key, than: Timestamp) -> bool {
        self.get_memory(key).is_some_and(|known| known.stored > than)
    }

    /// Asks whether it may while nobody else changes what is stored.
    fn put_if(&self, entry: &Entry, may: impl FnOnce() -> bool) -> bool {
        if entry.encoded_size() > self.settings.entry_bytes_max {
            return false;
        }
        let stored = self.packed(entry);
        let has_a_place = self.settings.disk_bytes_max > 0 || self.fits_memory(&stored);
        let _changing = self.changing(&entry.key);
        has_a_place && may() && self.keep(&entry.key, stored)
    }

    /// Puts what is packed in memory and queues it for the disk, while its key is held. Where the disk has no
    /// room it is in memory alone, if it fits there, and what it takes the place of is there no more.
    fn keep(&self, key: &Key, stored: Stored) -> bool {
        let key = StoredKey::of(key);
        if self.room.as_ref().is_none_or(Room::has_some) {
            self.cache.insert(key, stored);
            return true;
        }
        self.cache.remove(&key);
        let fits = self.fits_memory(&stored);
        if fits {
            self.cache.memory().insert(key, stored);
        }
        fits
    }

    /// What is wrong with the disk, in words, if anything is.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        let is_short = self.room.as_ref().is_some_and(Room::is_short);
        is_short.then_some("the disk is nearly full")
    }

    /// Keeps an entry in memory alone. One that is too large for it is not stored.
    #[must_use]
    pub fn put_in_memory(&self, entry: &Entry) -> bool {
        let stored = self.packed(entry);
        let fits = self.fits_memory(&stored);
        if fits {
            let _changing = self.changing(&entry.key);
            self.cache.memory().insert(StoredKey::of(&entry.key), stored);
        }
        fits
    }

    /// Puts what `make` makes of the entry in memory, if there is one; nobody else changes it
    /// meanwhile. Gives what was put.
    pub fn replace(
        &self,
        key: &Key,
        make: impl FnOnce(Option<&Arc<Entry>>) -> Option<Arc<Entry>>,
    ) -> Option<Arc<Entry>> {
        let _changing = self.changing(key);
        let before = self.get_memory(key);
        let entry = make(before.as_ref())?;
        self.keep(key, self.packed(&entry));
        Some(entry)
    }

    /// Keeps an entry that another tier had, unless memory has one that was stored later.
    pub fn adopt(&self, entry: &Arc<Entry>) {
        if entry.encoded_size() > self.settings.entry_bytes_max {
            return;
        }
        let _changing = self.changing(&entry.key);
        if !self.has_newer(&entry.key, entry.stored) {
            self.keep(&entry.key, self.packed(entry));
        }
    }

    /// What memory and disk hold under a key, for operators: neither is changed by it.
    pub async fn inspect(&self, key: &Key) -> (Option<Arc<Entry>>, Option<Arc<Entry>>) {
        let in_memory = self.get_memory(key);
        if self.settings.disk_bytes_max == 0 {
            return (in_memory, None);
        }
        let stored_key = StoredKey::of(key);
        let load = self.cache.storage().load(&stored_key);
        let on_disk = match tokio::time::timeout(self.settings.disk_deadline, load).await {
            Ok(Ok(Load::Entry { value, .. })) => value.entry_of(key),
            Ok(Ok(Load::Piece { piece, .. })) => piece.value().entry_of(key),
            _ => None,
        };
        (in_memory, on_disk)
    }

    /// Whether an entry is too large for memory, so that each look brings a copy of its own from disk.
    #[must_use]
    pub fn is_for_disk_alone(&self, entry: &Entry) -> bool {
        // What is far below the bound in any form need not be packed to know. In memory an entry takes
        // at most a few times its parts.
        const MOST_TIMES: usize = 4;
        let may_be_too_large =
            entry.weight().saturating_mul(MOST_TIMES) > memory_entry_bytes_max(&self.settings);
        may_be_too_large && !self.fits_memory(&self.packed(entry))
    }

    /// Bytes of entries in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.cache.memory().usage()
    }

    /// Entries in memory.
    #[must_use]
    pub fn memory_entries(&self) -> usize {
        self.cache.memory().entries()
    }

    /// Writes what is queued and closes the disk. Entries are on disk already or in the queue.
    pub async fn close(&self) {
        if let Err(error) = self.cache.close().await {
            tracing::warn!(%error, "the disk tier did not close cleanly");
        }
    }

    fn packed(&self, entry: &Entry) -> Stored {
        Stored::Packed(Packed::of(entry, &self.templates))
    }

    fn fits_memory(&self, stored: &Stored) -> bool {
        stored.weight() <= memory_entry_bytes_max(&self.settings)
    }

    /// Held while memory is changed under a key, so that what the disk gave never takes the place
    /// of what is being put.
    fn changing(&self, key: &Key) -> MutexGuard<'_, ()> {
        let stripe = usize::from(key.as_bytes()[0]) % self.stripes.len();
        self.stripes[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A larger entry would empty its whole shard; it lives on disk alone.
fn memory_entry_bytes_max(settings: &LocalSettings) -> usize {
    settings.memory_bytes_max / MEMORY_SHARDS / 8
}

/// Takes the lock on the data folder, making the folder where it is missing.
fn lock_folder(folder: &Path) -> Result<File, OpenError> {
    let named = || folder.display().to_string();
    let unusable = |source| OpenError::Folder { folder: named(), source };
    for private in [folder, &folder.join(ENTRIES)] {
        DirBuilder::new().recursive(true).mode(0o700).create(private).map_err(unusable)?;
    }
    // The data folder may have been made by somebody else; what is in it is ours alone.
    let ours_alone = Permissions::from_mode(0o700);
    std::fs::set_permissions(folder.join(ENTRIES), ours_alone).map_err(unusable)?;
    let lock = File::create(folder.join(LOCK)).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { folder: named() }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

/// The lock on a data folder that is there and that no process uses.
#[must_use]
pub fn lock_unused(folder: &Path) -> Option<File> {
    let lock = File::open(folder.join(LOCK)).ok()?;
    lock.try_lock().is_ok().then_some(lock)
}

async fn build(
    settings: &LocalSettings,
    registry: BoxedRegistry,
    on_evict: impl Fn() + Send + Sync + 'static,
) -> Result<HybridCache<StoredKey, Stored>, OpenError> {
    let memory_entry_bytes_max = memory_entry_bytes_max(settings);
    let memory = HybridCacheBuilder::new()
        .with_name("cache-server")
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .with_flush_on_close(false)
        .with_event_listener(Arc::new(Evictions(on_evict)))
        .with_metrics_registry(registry)
        .memory(settings.memory_bytes_max)
        .with_shards(MEMORY_SHARDS)
        .with_eviction_config(S3FifoConfig::default())
        .with_weighter(|_, stored: &Stored| stored.weight())
        .with_filter(move |_, stored: &Stored| stored.weight() <= memory_entry_bytes_max)
        .storage();
    if settings.disk_bytes_max == 0 {
        return memory.build().await.map_err(|error| engine_error(settings, &error));
    }
    let device = FsDeviceBuilder::new(settings.data_dir.join(ENTRIES))
        .with_capacity(settings.disk_bytes_max)
        .build()
        .map_err(|error| engine_error(settings, &error))?;
    let engine = BlockEngineConfig::new(device)
        .with_block_size(BLOCK_BYTES)
        .with_buffer_pool_size(2 * BLOCK_BYTES)
        .with_submit_queue_size_threshold(4 * BLOCK_BYTES)
        .with_tombstone_log(false);
    memory
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(engine)
        .with_recover_mode(RecoverMode::Quiet)
        .build()
        .await
        .map_err(|error| engine_error(settings, &error))
}

fn engine_error(settings: &LocalSettings, error: &foyer::Error) -> OpenError {
    OpenError::Engine { folder: settings.data_dir.display().to_string(), why: error.to_string() }
}

/// Counts what leaves memory for want of space.
struct Evictions<F>(F);

impl<F: Fn() + Send + Sync + 'static> EventListener for Evictions<F> {
    type Key = StoredKey;
    type Value = Stored;

    fn on_leave(&self, reason: Event, _: &StoredKey, _: &Stored) {
        if reason == Event::Evict {
            (self.0)();
        }
    }
}

/// A key as foyer's key: its first eight bytes. It is a uniform hash, and foyer finds entries on disk by
/// no more than that. Whoever reads an entry compares its whole key: of two that begin alike one is
/// there, and the other a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoredKey([u8; 8]);

impl StoredKey {
    fn of(key: &Key) -> StoredKey {
        let [a, b, c, d, e, f, g, h, ..] = *key.as_bytes();
        StoredKey([a, b, c, d, e, f, g, h])
    }
}

impl Hash for StoredKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from_le_bytes(self.0));
    }
}

impl Code for StoredKey {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        writer.write_all(&self.0).map_err(foyer::Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut bytes = [0; 8];
        reader.read_exact(&mut bytes).map_err(foyer::Error::io_error)?;
        Ok(StoredKey(bytes))
    }

    fn estimated_size(&self) -> usize {
        size_of::<StoredKey>()
    }
}

/// An entry as foyer's value.
#[derive(Clone, Debug)]
enum Stored {
    /// As it is in memory.
    Packed(Packed),
    /// As it was read from disk, on its way to whoever asked for it.
    Read(Arc<Entry>),
}

impl Stored {
    /// The entry, if it is that of this key.
    fn entry_of(&self, key: &Key) -> Option<Arc<Entry>> {
        match self {
            Stored::Packed(packed) if packed.is_of(key) => packed.unpack().map(Arc::new),
            Stored::Read(entry) if entry.key == *key => Some(Arc::clone(entry)),
            _ => None,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Stored::Packed(packed) => packed.weight(),
            Stored::Read(entry) => entry.weight(),
        }
    }
}

impl Code for Stored {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let written = match self {
            Stored::Packed(packed) => match packed.unpack() {
                Some(entry) => entry.write_to(writer),
                None => Err(std::io::ErrorKind::InvalidData.into()),
            },
            Stored::Read(entry) => entry.write_to(writer),
        };
        written.map_err(foyer::Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        Entry::read_from(reader, ENTRY_BYTES_LIMIT as u64)
            .map(|entry| Stored::Read(Arc::new(entry)))
            .map_err(foyer::Error::io_error)
    }

    fn estimated_size(&self) -> usize {
        // foyer bounds by it what waits to be written, which is in memory until then.
        self.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::tests::sample;
    use mixtrics::registry::noop::NoopMetricsRegistry;
    use tempfile::TempDir;

    fn settings(folder: &TempDir) -> LocalSettings {
        LocalSettings {
            data_dir: folder.path().join("data"),
            memory_bytes_max: 8 << 20,
            disk_bytes_max: 64 << 20,
            entry_bytes_max: 1 << 20,
            disk_deadline: Duration::from_secs(5),
        }
    }

    async fn open(settings: LocalSettings, clock: Clock) -> Result<LocalTier, OpenError> {
        LocalTier::open(settings, clock, Box::new(NoopMetricsRegistry), || {}).await
    }

    fn key(byte: u8) -> Key {
        Key::from_bytes([byte; 32])
    }

    fn before_expiry() -> Clock {
        Clock::standing_at(Timestamp(1_500_000))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn entries_survive_a_restart() {
        let folder = TempDir::new().unwrap();
        let entry = Arc::new(sample([1; 32], b"kept"));
        let tier = open(settings(&folder), before_expiry()).await.unwrap();
        assert!(tier.put(&entry));
        assert_eq!(tier.get_memory(&key(1)).as_deref(), Some(&*entry));
        tier.close().await;
        drop(tier);

        let tier = open(settings(&folder), before_expiry()).await.unwrap();
        assert_eq!(tier.get_memory(&key(1)), None);
        assert_eq!(tier.get_disk(&key(1)).await.unwrap().as_deref(), Some(&*entry));
        assert_eq!(tier.get_memory(&key(1)).as_deref(), Some(&*entry), "a disk hit fills memory");
        assert_eq!(tier.get_disk(&key(2)).await.unwrap(), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_data_folder_in_use_is_refused_by_name() {
        let folder = TempDir::new().unwrap();
        let _first = open(settings(&folder), before_expiry()).await.unwrap();
        let second = open(settings(&folder), before_expiry()).await.unwrap_err();
        assert!(matches!(&second, OpenError::InUse { folder } if folder.ends_with("data")));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn entries_are_for_the_servers_user_alone_even_in_a_folder_made_by_another() {
        let folder = TempDir::new().unwrap();
        let settings = settings(&folder);
        let entries = settings.data_dir.join(ENTRIES);
        std::fs::create_dir_all(&entries).unwrap();
        std::fs::set_permissions(&entries, Permissions::from_mode(0o755)).unwrap();
        let _tier = open(settings, before_expiry()).await.unwrap();
        let mode = std::fs::metadata(&entries).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_expired_entry_is_given_for_its_reader_to_judge_and_takes_no_room_in_memory() {
        let folder = TempDir::new().unwrap();
        let clock = before_expiry();
        let entry = Arc::new(sample([1; 32], b"old"));
        let tier = open(settings(&folder), clock.clone()).await.unwrap();
        assert!(tier.put(&entry));
        clock.advance(Duration::from_secs(100_000));
        assert_eq!(tier.get_memory(&key(1)).as_deref(), Some(&*entry));
        tier.close().await;
        drop(tier);

        let tier = open(settings(&folder), clock).await.unwrap();
        assert_eq!(tier.get_disk(&key(1)).await.unwrap().as_deref(), Some(&*entry));
        assert_eq!(tier.get_memory(&key(1)), None, "it would only push out what is of use");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_entry_under_another_key_is_never_an_answer() {
        let folder = TempDir::new().unwrap();
        let tier = open(settings(&folder), before_expiry()).await.unwrap();
        // Its first bytes are the same, and foyer knows no more of it.
        let mut other = [1; 32];
        other[31] = 2;
        assert!(tier.put(&sample(other, b"not yours")));
        assert_eq!(tier.get_memory(&key(1)), None);
        assert_eq!(tier.get_disk(&key(1)).await.unwrap(), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_entry_over_the_bound_is_not_stored() {
        let folder = TempDir::new().unwrap();
        let bounds = LocalSettings { entry_bytes_max: 64, ..settings(&folder) };
        let tier = open(bounds, before_expiry()).await.unwrap();
        assert!(!tier.put(&sample([1; 32], b"too large for sixty-four bytes")));
        assert_eq!(tier.get_memory(&key(1)), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_a_disk_what_memory_would_not_keep_is_not_called_stored() {
        let folder = TempDir::new().unwrap();
        let small =
            LocalSettings { disk_bytes_max: 0, memory_bytes_max: 32 << 10, ..settings(&folder) };
        let tier = open(small, before_expiry()).await.unwrap();
        assert!(!tier.put(&sample([1; 32], &[b'x'; 1024])));
        assert_eq!(tier.get_memory(&key(1)), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_memory_does_not_take_is_for_disk_alone_to_the_byte() {
        let folder = TempDir::new().unwrap();
        let small = LocalSettings { memory_bytes_max: 1 << 20, ..settings(&folder) };
        let tier = open(small, before_expiry()).await.unwrap();
        for body in (8 << 10..20 << 10).step_by(100) {
            let entry = sample([1; 32], &vec![b'x'; body]);
            assert!(tier.put(&entry));
            let is_in_memory = tier.get_memory(&key(1)).is_some_and(|of| of.body == entry.body);
            assert_eq!(tier.is_for_disk_alone(&entry), !is_in_memory, "{body} bytes");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_a_disk_nothing_is_written() {
        let folder = TempDir::new().unwrap();
        let bounds = LocalSettings { disk_bytes_max: 0, ..settings(&folder) };
        let tier = open(bounds.clone(), before_expiry()).await.unwrap();
        assert!(tier.put(&sample([1; 32], b"in memory")));
        assert!(tier.get_memory(&key(1)).is_some());
        assert_eq!(tier.get_disk(&key(1)).await.unwrap(), None);
        assert!(!bounds.data_dir.exists());
    }
}
