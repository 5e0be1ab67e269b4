//! The durable log of orders: one file of records of one size, each with a checksum.
//!
//! ```text
//! magic and version (8 bytes) · record · record · …
//! record: kind u8 · number u64 · time u64 · shared number u64 · selector (16 bytes) · checksum (8 bytes)
//! ```
//! Integers are little-endian, the time is in milliseconds since the Unix epoch, the checksum is
//! BLAKE3, cut, over what is before it. Version 1 had no shared numbers; it is read, and written
//! anew in this form. The file only grows. To shorten it, or to go on after a
//! write has failed, it is written anew beside itself and put in its own place, so that nothing
//! is ever written behind a torn record, and a failed fsync (after which the system may take
//! lost pages for written) is never asked again.
//!
//! A record whose end never arrived is a write that was cut, which nobody was told of as done:
//! it is left out. Whatever else cannot be read is damage.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::ledger::Given;
use super::{Manner, Target};
use crate::cache::entry::Selector;
use crate::clock::Timestamp;

/// The log's name in the data folder.
const NAME: &str = "purges";
/// Its name while it is written anew.
const NEW_NAME: &str = "purges.new";
/// What the file begins with; the last byte is the version.
const MAGIC: [u8; 8] = *b"purges\n\x02";
/// What one began with that had no shared numbers.
const MAGIC_V1: [u8; 8] = *b"purges\n\x01";
/// Bytes of a record.
pub(super) const RECORD_BYTES: usize = 1 + 8 + 8 + 8 + Selector::BYTES + CHECKSUM_BYTES;
const RECORD_BYTES_V1: usize = RECORD_BYTES - 8;
const CHECKSUM_BYTES: usize = 8;
/// No order has a number near this: one that claims to is damage. What is above is room for
/// what is added to numbers.
const NUMBER_MAX: u64 = 1 << 62;
/// A log shorter than this is not worth writing anew.
const COMPACT_BYTES_MIN: u64 = 64 << 10;

/// Removes the log of a folder, if there is one.
///
/// # Errors
/// When it is there and cannot be removed.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// One line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) what: What,
    pub(super) number: u64,
    /// When the order was given.
    pub(super) at: Timestamp,
    /// The number that servers know it by; 0 while they do not.
    pub(super) shared: u64,
    /// Whether it was in force here before it was published.
    pub(super) is_own: bool,
}

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Numbers up to this one may have been given out.
    Base,
    /// An order. One of everything also stands for a floor.
    Order(Target, Manner),
}

/// Set in the shared number of an order that was in force here before it was published.
const OWN: u64 = 1 << 63;

impl Record {
    /// The record of an order.
    pub(super) fn of_order(target: Target, manner: Manner, number: u64, given: Given) -> Record {
        let Given { at, shared, from } = given;
        let is_own = from > number;
        Record { what: What::Order(target, manner), number, at, shared, is_own }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, selector) = match self.what {
            What::Base => (0, None),
            What::Order(Target::Selector(selector), Manner::Hard) => (1, Some(selector)),
            What::Order(Target::Selector(selector), Manner::Soft) => (2, Some(selector)),
            What::Order(Target::Everything, Manner::Hard) => (3, None),
            What::Order(Target::Everything, Manner::Soft) => (4, None),
        };
        let start = out.len();
        out.push(kind);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.at.0.to_le_bytes());
        let own = if self.is_own { OWN } else { 0 };
        out.extend_from_slice(&(self.shared | own).to_le_bytes());
        out.extend_from_slice(
            selector.map_or([0; Selector::BYTES], |it| *it.as_bytes()).as_slice(),
        );
        let checksum = checksum(&out[start..]);
        out.extend_from_slice(&checksum);
    }

    /// `None` is damage, or of a kind that this build does not know. The length tells the version.
    fn decode(bytes: &[u8]) -> Option<Record> {
        let (told, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
        if checksum(told) != check {
            return None;
        }
        let (&kind, rest) = told.split_first()?;
        let (&number, rest) = rest.split_first_chunk()?;
        let (&at, rest) = rest.split_first_chunk()?;
        let (shared, selector) = match bytes.len() {
            RECORD_BYTES_V1 => (0, rest),
            _ => {
                let (&shared, selector) = rest.split_first_chunk()?;
                (u64::from_le_bytes(shared), selector)
            }
        };
        let selector = Target::Selector(Selector::of_bytes(selector.try_into().ok()?));
        let what = match kind {
            0 => What::Base,
            1 => What::Order(selector, Manner::Hard),
            2 => What::Order(selector, Manner::Soft),
            3 => What::Order(Target::Everything, Manner::Hard),
            4 => What::Order(Target::Everything, Manner::Soft),
            _ => return None,
        };
        let number = u64::from_le_bytes(number);
        let at = Timestamp(u64::from_le_bytes(at));
        let (is_own, shared) = (shared & OWN != 0, shared & !OWN);
        let is_sound = number <= NUMBER_MAX && shared <= NUMBER_MAX;
        is_sound.then_some(Record { what, number, at, shared, is_own })
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut checksum = [0; CHECKSUM_BYTES];
    blake3::Hasher::new().update(bytes).finalize_xof().fill(&mut checksum);
    checksum
}

/// What reading a log came to. All orders may be wrong but those of a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none.
    Missing,
    /// Every record was read, but for a cut one at the end.
    Whole {
        /// The greatest number told.
        newest: u64,
    },
    /// What was acknowledged may be lost.
    Damaged {
        /// The greatest number that could still be read.
        newest: u64,
        /// For the operator.
        why: &'static str,
    },
}

/// Reads the log in a folder and tells its records in order.
///
/// # Errors
/// When there is a log that cannot be opened. One that cannot be read is damaged.
pub(super) fn replay(folder: &Path, each: impl FnMut(Record)) -> io::Result<Found> {
    match File::open(folder.join(NAME)) {
        Ok(file) => Ok(read(&mut BufReader::new(file), each)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
        Err(error) => Err(error),
    }
}

fn read(reader: &mut impl Read, mut each: impl FnMut(Record)) -> Found {
    let mut magic = [0; MAGIC.len()];
    let is_read = reader.read_exact(&mut magic).is_ok();
    let record_bytes = match magic {
        MAGIC if is_read => RECORD_BYTES,
        MAGIC_V1 if is_read => RECORD_BYTES_V1,
        _ => {
            let why = "it is of an unknown version, or no purge log";
            return Found::Damaged { newest: 0, why };
        }
    };
    let (mut newest, mut ended, mut damage) = (0, false, None);
    loop {
        let mut chunk = [0; RECORD_BYTES];
        let chunk = &mut chunk[..record_bytes];
        let count = match read_full(reader, chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(_) => return Found::Damaged { newest, why: "it cannot be read" },
        };
        let record = Record::decode(chunk);
        match record {
            Some(record) if !ended && damage.is_none() => each(record),
            // Room that the file was given for a write that never came.
            None if ended && chunk.iter().all(|byte| *byte == 0) => {}
            None if !ended && is_unfinished(chunk, count) => ended = true,
            _ => damage = damage.or(Some("a record in its middle is damaged")),
        }
        newest = newest.max(record.map_or(0, |record| record.number));
    }
    match damage {
        Some(why) => Found::Damaged { newest, why },
        None => Found::Whole { newest },
    }
}

/// Whether the record's end never arrived. A flipped bit does not make a checksum of zeros.
fn is_unfinished(chunk: &[u8], count: usize) -> bool {
    count < chunk.len() || chunk.ends_with(&[0; CHECKSUM_BYTES])
}

/// Reads until the chunk is full or the file ends, and says how much that was.
fn read_full(reader: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < chunk.len() {
        match reader.read(&mut chunk[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// The log, open for writing. One thread has it.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    file: File,
    /// How long the file is.
    bytes: u64,
    /// Shorter than this, writing it anew is not tried (again).
    compact_from_bytes: u64,
    /// Whether the folder is known to hold the file under its name.
    is_in_place: bool,
}

impl Log {
    /// Writes a log of these records in place of what there was. It is durable on return.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn create(folder: &Path, records: &[Record]) -> io::Result<Log> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let (file, bytes) = write_beside(folder, records)?;
        fs::rename(folder.join(NEW_NAME), folder.join(NAME))?;
        let mut log = Log {
            folder: folder.to_owned(),
            file,
            bytes,
            compact_from_bytes: COMPACT_BYTES_MIN,
            is_in_place: false,
        };
        log.sync_folder()?;
        Ok(log)
    }

    /// Adds records; they are durable on return.
    ///
    /// # Errors
    /// Those of the file system. Then the log may end within a record, and the next thing must
    /// be to write it anew.
    pub(super) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(records.len() * RECORD_BYTES);
        records.iter().for_each(|record| record.encode(&mut bytes));
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.bytes += bytes.len() as u64;
        self.sync_folder()
    }

    /// Writes a log of these records in place of this one; they are durable on return.
    ///
    /// # Errors
    /// Those of the file system. The log can be added to as before.
    pub(super) fn rewrite(&mut self, records: &[Record]) -> io::Result<()> {
        // Should this fail, it is tried again when the file has grown as much again.
        self.compact_from_bytes = self.bytes.saturating_mul(2);
        let (file, bytes) = write_beside(&self.folder, records)?;
        fs::rename(self.folder.join(NEW_NAME), self.folder.join(NAME))?;
        (self.file, self.bytes, self.is_in_place) = (file, bytes, false);
        self.compact_from_bytes = COMPACT_BYTES_MIN;
        self.sync_folder()
    }

    /// Whether it is more than twice as long as what it holds, and long enough to matter.
    pub(super) fn is_overlong(&self, records: usize) -> bool {
        let held = (MAGIC.len() + records * RECORD_BYTES) as u64;
        self.bytes >= self.compact_from_bytes && self.bytes > held.saturating_mul(2)
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the file's name durable, where it is new.
    fn sync_folder(&mut self) -> io::Result<()> {
        if !self.is_in_place {
            File::open(&self.folder)?.sync_all()?;
            self.is_in_place = true;
        }
        Ok(())
    }
}

/// A durable file of these records under the new name.
fn write_beside(folder: &Path, records: &[Record]) -> io::Result<(File, u64)> {
    let path = folder.join(NEW_NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
    let mut bytes = MAGIC.to_vec();
    records.iter().for_each(|record| record.encode(&mut bytes));
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok((file, bytes.len() as u64))
}

#[cfg(test)]
impl Log {
    /// Lets what is added from here on go to another file.
    pub(super) fn divert_to(&mut self, file: File) {
        self.file = file;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    fn records() -> Vec<Record> {
        let tag = |name| Target::Selector(Selector::tag(name));
        let record = |what, number| Record {
            what,
            number,
            at: Timestamp(number * 10),
            shared: number / 2,
            is_own: number % 2 == 0,
        };
        vec![
            record(What::Base, 1),
            record(What::Order(tag("a"), Manner::Hard), 2),
            record(What::Order(tag("b"), Manner::Soft), 3),
            record(What::Order(Target::Everything, Manner::Hard), 4),
            record(What::Order(Target::Everything, Manner::Soft), 5),
        ]
    }

    fn encoded(records: &[Record]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        records.iter().for_each(|record| record.encode(&mut bytes));
        bytes
    }

    fn decoded(mut bytes: &[u8]) -> (Vec<Record>, Found) {
        let mut records = Vec::new();
        let found = read(&mut bytes, |record| records.push(record));
        (records, found)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (read, found) = decoded(&encoded(&records()));
        assert_eq!((read, found), (records(), Found::Whole { newest: 5 }));
    }

    #[test]
    fn a_cut_leaves_the_records_before_it() {
        let bytes = encoded(&records());
        for cut in 0..bytes.len() {
            let (read, found) = decoded(&bytes[..cut]);
            let Some(kept) = cut.checked_sub(MAGIC.len()) else {
                assert!(matches!(found, Found::Damaged { newest: 0, .. }), "cut at {cut}");
                continue;
            };
            let whole = kept / RECORD_BYTES;
            assert_eq!(read, records()[..whole], "cut at {cut}");
            assert_eq!(found, Found::Whole { newest: whole as u64 }, "cut at {cut}");
        }
    }

    #[test]
    fn room_for_a_write_that_never_came_is_no_damage() {
        let mut bytes = encoded(&records());
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        bytes.resize(bytes.len() + 4_000, 0);
        assert_eq!(decoded(&bytes), (records()[..4].to_vec(), Found::Whole { newest: 4 }));
        bytes.extend_from_slice(b"!");
        assert!(matches!(decoded(&bytes).1, Found::Damaged { newest: 4, .. }));
    }

    #[test]
    fn every_flipped_bit_is_damage_and_the_greatest_number_is_still_found() {
        let bytes = encoded(&records());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Found::Damaged { newest, .. } = decoded(&flipped).1 else {
                panic!("bit {bit} was not noticed");
            };
            let record = (bit / 8).checked_sub(MAGIC.len()).map(|byte| byte / RECORD_BYTES);
            let expected = match record {
                None => 0,
                Some(4) => 4,
                Some(_) => 5,
            };
            assert_eq!(newest, expected, "bit {bit}");
        }
    }

    #[test]
    fn a_number_that_nobody_can_have_given_is_damage() {
        let mut far = records();
        far[2].number = NUMBER_MAX + 1;
        assert!(matches!(decoded(&encoded(&far)).1, Found::Damaged { newest: 5, .. }));
    }

    #[test]
    fn the_log_is_its_owners_alone_and_a_leftover_is_no_hindrance() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        let mut log = Log::create(&folder, &records()).unwrap();
        let mode = fs::metadata(folder.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.join(NEW_NAME), "half a log").unwrap();
        log.rewrite(&records()[..1]).unwrap();
        log.append(&records()[1..]).unwrap();
        assert_eq!(fs::read(folder.join(NAME)).unwrap(), encoded(&records()));
        assert_eq!(log.bytes(), encoded(&records()).len() as u64);
        assert!(!folder.join(NEW_NAME).exists());
    }

    #[test]
    fn a_log_that_cannot_be_written_anew_can_still_be_added_to() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(folder.path(), &records()[..1]).unwrap();
        // Nothing can be written where there is a folder.
        fs::create_dir(folder.path().join(NEW_NAME)).unwrap();
        assert!(log.rewrite(&records()).is_err());
        log.append(&records()[1..]).unwrap();
        assert_eq!(fs::read(folder.path().join(NAME)).unwrap(), encoded(&records()));
    }

    #[test]
    fn a_log_that_cannot_be_shortened_is_left_alone_until_it_has_doubled() {
        let folder = tempfile::tempdir().unwrap();
        let many = vec![records()[0]; 2_000];
        let mut log = Log::create(folder.path(), &many).unwrap();
        assert!(log.is_overlong(999) && !log.is_overlong(1_001));
        fs::create_dir(folder.path().join(NEW_NAME)).unwrap();
        assert!(log.rewrite(&many).is_err());
        assert!(!log.is_overlong(1));
        log.append(&many).unwrap();
        log.append(&many[..1]).unwrap();
        assert!(log.is_overlong(1));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            is_ours in any::<bool>(),
        ) {
            let start: &[u8] = if is_ours { &MAGIC } else { &[] };
            let (read, _) = decoded(&[start, &bytes].concat());
            prop_assert!(read.is_empty());
        }
    }
}
