//! Room: whether the disk under the data folder has some left.
//!
//! Block files are sparse: they take their space as they are written to for the first time. foyer does not
//! get over a write that fails for want of space, so none is begun that might: while the disk is nearly full,
//! and the files have not taken all of their space yet, entries are kept in memory alone. A server that starts
//! on a full disk gives up some of its own entries, or it could not even write its purge orders.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::local::BLOCK_BYTES;

/// How foyer calls its block files; a number of eight digits follows.
const FILE_PREFIX: &str = "foyer-storage-direct-fs-";
/// Less is nearly full: what waits to be written and what other programs write must find some.
const SPARE_BYTES: u64 = 256 << 20;
/// Less at the start is full.
const START_BYTES: u64 = 16 << 20;
/// How long what was seen holds.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Bytes that this process may still write to the disk of a folder.
type Free = fn(&Path) -> io::Result<u64>;

/// The disk under a folder of block files.
#[derive(Debug)]
pub(super) struct Room {
    folder: PathBuf,
    capacity: u64,
    free: Free,
    began: Instant,
    /// When somebody last looked, in milliseconds since `began`.
    looked_ms: AtomicU64,
    is_short: AtomicBool,
}

impl Room {
    /// That of block files which may take so many bytes together. What is beyond that, of a time when they
    /// might take more, is removed, and some of the others where the disk is full.
    pub(super) fn make(folder: PathBuf, capacity: usize) -> Room {
        Room::with(folder, capacity, free_bytes)
    }

    fn with(folder: PathBuf, capacity: usize, free: Free) -> Room {
        let mut files = block_files(&folder);
        let count = capacity / BLOCK_BYTES;
        remove(files.split_off(files.partition_point(|(number, _)| *number < count as u64)));
        give_up_some(&folder, files, free);
        let room = Room {
            folder,
            capacity: (count * BLOCK_BYTES) as u64,
            free,
            began: Instant::now(),
            looked_ms: AtomicU64::new(0),
            is_short: AtomicBool::new(false),
        };
        room.look();
        room
    }

    /// Whether an entry may be written. It looks at the disk a few times a second at most.
    pub(super) fn has_some(&self) -> bool {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let looked_ms = self.looked_ms.load(Ordering::Relaxed);
        let is_old = u128::from(now_ms.saturating_sub(looked_ms)) >= LOOK_AGAIN.as_millis();
        let order = Ordering::Relaxed;
        if is_old && self.looked_ms.compare_exchange(looked_ms, now_ms, order, order).is_ok() {
            self.look();
        }
        !self.is_short()
    }

    /// Whether it had none left when somebody last looked.
    pub(super) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    fn look(&self) {
        // Where it cannot be told it is as it was.
        let Ok(free) = (self.free)(&self.folder) else { return };
        let is_short =
            free < SPARE_BYTES && free < self.capacity.saturating_sub(taken(&self.folder));
        if self.is_short.swap(is_short, Ordering::Relaxed) == is_short {
            return;
        }
        let folder = self.folder.display();
        if is_short {
            tracing::warn!(%folder, free, "the disk is nearly full: entries are kept in memory alone");
        } else {
            tracing::info!(%folder, free, "the disk has room again");
        }
    }
}

/// Removes files that have taken space, from the last on, until the disk is not full any more.
fn give_up_some(folder: &Path, mut files: Vec<(u64, PathBuf)>, free: Free) {
    files.retain(|(_, path)| blocks(path) > 0);
    let count = files.len();
    while free(folder).is_ok_and(|free| free < START_BYTES)
        && let Some(last) = files.pop()
    {
        remove([last]);
    }
    let given_up = count - files.len();
    if given_up > 0 {
        let folder = folder.display();
        tracing::warn!(%folder, files = given_up, "the disk was full: some entries are given up");
    }
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The block files, by their numbers.
fn block_files(folder: &Path) -> Vec<(u64, PathBuf)> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let numbered = files.filter_map(|file| {
        let number = file.file_name().to_str()?.strip_prefix(FILE_PREFIX)?.parse().ok()?;
        Some((number, file.path()))
    });
    let mut files: Vec<_> = numbered.collect();
    files.sort_unstable();
    files
}

/// The space that block files have taken.
fn taken(folder: &Path) -> u64 {
    const STAT_BLOCK_BYTES: u64 = 512;
    let files = block_files(folder);
    files.iter().map(|(_, path)| blocks(path)).sum::<u64>() * STAT_BLOCK_BYTES
}

/// How many of the units that file systems count in a file has taken.
fn blocks(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |file| file.blocks())
}

fn remove(files: impl IntoIterator<Item = (u64, PathBuf)>) {
    for (_, path) in files {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, file = %path.display(), "a block file cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const CAPACITY: usize = 4 * BLOCK_BYTES;

    fn folder_of(numbers: &[u64]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for number in numbers {
            fs::write(folder.path().join(format!("{FILE_PREFIX}{number:08}")), b"x").unwrap();
        }
        folder
    }

    fn numbers(folder: &TempDir) -> Vec<u64> {
        block_files(folder.path()).into_iter().map(|(number, _)| number).collect()
    }

    fn room(folder: &TempDir, free: Free) -> Room {
        Room::with(folder.path().to_owned(), CAPACITY, free)
    }

    #[test]
    fn files_beyond_what_they_may_take_together_are_removed_and_others_are_not() {
        let folder = folder_of(&[0, 3, 4, 100]);
        fs::write(folder.path().join("other"), b"x").unwrap();
        room(&folder, |_| Ok(u64::MAX));
        assert_eq!(numbers(&folder), [0, 3]);
        assert!(folder.path().join("other").exists());
    }

    #[test]
    fn on_a_full_disk_files_are_given_up_from_the_last_on() {
        let folder = folder_of(&[0, 1, 2]);
        fs::write(folder.path().join(format!("{FILE_PREFIX}00000003")), b"").unwrap();
        // Full while there are more than three.
        let free = |folder: &Path| {
            Ok(if block_files(folder).len() > 3 { START_BYTES - 1 } else { START_BYTES })
        };
        room(&folder, free);
        assert_eq!(numbers(&folder), [0, 1, 3], "one that has taken no space gives none");
        assert!(room(&folder_of(&[]), |_| Ok(0)).is_short(), "there is nothing to give up");
    }

    #[test]
    fn it_is_short_where_the_files_could_not_take_what_they_may() {
        let cases: [(&str, Free, bool); 4] = [
            ("enough for anything", |_| Ok(SPARE_BYTES), false),
            ("all that they may take", |_| Ok(CAPACITY as u64), false),
            ("half of it", |_| Ok(CAPACITY as u64 / 2), true),
            ("nothing", |_| Ok(0), true),
        ];
        for (case, free, is_short) in cases {
            assert_eq!(room(&folder_of(&[]), free).is_short(), is_short, "{case}");
        }
    }

    #[test]
    fn files_that_have_taken_all_of_their_space_are_written_to_on_a_full_disk_too() {
        let folder = folder_of(&[]);
        let full = vec![b'x'; BLOCK_BYTES];
        for number in 0..4 {
            fs::write(folder.path().join(format!("{FILE_PREFIX}{number:08}")), &full).unwrap();
        }
        let mut room = room(&folder, |_| Ok(u64::MAX));
        room.free = |_| Ok(0);
        room.look();
        assert!(!room.is_short());
    }

    #[test]
    fn what_cannot_be_told_changes_nothing() {
        let folder = folder_of(&[]);
        let mut room = room(&folder, |_| Ok(0));
        assert!(room.is_short() && !room.has_some());
        room.free = |_| Err(io::ErrorKind::Unsupported.into());
        room.look();
        assert!(room.is_short());
    }
}
