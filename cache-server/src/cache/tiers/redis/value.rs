//! The value: an entry as Redis holds it.
//!
//! ```text
//! version u8 · encoding u8 · the fetch's token u64 · raw length u32 · the entry's own form
//! ```
//! The token is big-endian, and compared by the script that writes; the length is little-endian. The entry's own form ([`Entry::write_to`]) is versioned and
//! checksummed, and may be compressed as a whole. Whatever others may have written under the name
//! of a key, it is that key's entry or an error: a miss.
//!
//! Its times are Redis's, and its purge number is a position among the orders that servers share.

use std::io;

use bytes::Bytes;
use keyspec::Key;

use crate::cache::entry::{self, Entry};
use crate::cache::tiers::TierError;

/// The version of this form, the only one that is read.
const VERSION: u8 = 2;
const AS_IS: u8 = 0;
const ZSTD: u8 = 1;
const PRELUDE_BYTES: usize = 1 + 1 + 8 + 4;
/// Fast enough for the writer's thread, and a third of the bytes of JSON and text.
const ZSTD_LEVEL: i32 = 3;

/// How values are written, and how large they may be.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The largest value that is written, as it is written.
    pub value_bytes_max: usize,
    /// Entries this large are compressed; 0 for none.
    pub compress_bytes_min: usize,
    /// The largest entry that is read, whatever it was compressed to.
    pub entry_bytes_max: usize,
}

/// Why a value is no entry of its key.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoEntry {
    /// It is cut, damaged, of another version or out of bounds.
    #[error("the value is damaged: {0}")]
    Damaged(#[from] io::Error),
    /// It is another key's.
    #[error("the value is another key's")]
    Foreign,
}

impl From<NoEntry> for TierError {
    fn from(error: NoEntry) -> TierError {
        let kind = match error {
            NoEntry::Damaged(_) => "damaged",
            NoEntry::Foreign => "foreign",
        };
        TierError::Fault { kind, said: error.to_string() }
    }
}

/// Where the entries of these versions are: a name that no other version reads or writes.
#[must_use]
pub(super) fn prefix(prefix: &str) -> String {
    format!("{prefix}:{VERSION}.{}:", entry::FORMAT_VERSION)
}

/// The value of an entry, from the fetch with this token; nothing if it is too large for one.
///
/// # Errors
/// For a header block over 1 MiB.
pub(super) fn encode(entry: &Entry, token: u64, form: &Form) -> io::Result<Option<Vec<u8>>> {
    let mut raw = Vec::with_capacity(PRELUDE_BYTES + entry.encoded_size());
    raw.extend([VERSION, AS_IS]);
    raw.extend_from_slice(&token.to_be_bytes());
    raw.extend_from_slice(&[0; 4]);
    entry.write_to(&mut raw)?;
    let raw_length = raw.len() - PRELUDE_BYTES;
    if raw_length > form.entry_bytes_max {
        return Ok(None);
    }
    let Ok(raw_length) = u32::try_from(raw_length) else { return Ok(None) };
    raw[PRELUDE_BYTES - 4..PRELUDE_BYTES].copy_from_slice(&raw_length.to_le_bytes());
    let value = match form.compress_bytes_min {
        0 => raw,
        min if raw.len() < min => raw,
        _ => compressed(raw)?,
    };
    Ok((value.len() <= form.value_bytes_max).then_some(value))
}

/// The same value in fewer bytes, if that is possible.
fn compressed(raw: Vec<u8>) -> io::Result<Vec<u8>> {
    let (prelude, entry) = raw.split_at(PRELUDE_BYTES);
    let packed = zstd::bulk::compress(entry, ZSTD_LEVEL)?;
    if packed.len() >= entry.len() {
        return Ok(raw);
    }
    let mut value = Vec::with_capacity(PRELUDE_BYTES + packed.len());
    value.extend_from_slice(prelude);
    value[1] = ZSTD;
    value.extend_from_slice(&packed);
    Ok(value)
}

/// Reads the entry of `key` back. It takes no more memory than `entry_bytes_max` twice, whatever
/// the value claims.
///
/// # Errors
/// When the value is no entry of this key.
pub(super) fn decode(value: &Bytes, key: &Key, form: &Form) -> Result<Entry, NoEntry> {
    let (prelude, _) =
        value.split_first_chunk::<PRELUDE_BYTES>().ok_or_else(|| damaged("it is cut"))?;
    let [version, encoding, ..] = *prelude;
    let (_, raw_length) = prelude.split_at(PRELUDE_BYTES - 4);
    let raw_length = u32::from_le_bytes(raw_length.try_into().unwrap_or_default()) as usize;
    if version != VERSION || raw_length > form.entry_bytes_max {
        return Err(damaged("unknown version, or too large").into());
    }
    let stored = value.slice(PRELUDE_BYTES..);
    let raw = match encoding {
        AS_IS => stored,
        ZSTD => Bytes::from(zstd::bulk::decompress(&stored, raw_length)?),
        _ => return Err(damaged("unknown encoding").into()),
    };
    if raw.len() != raw_length {
        return Err(damaged("its length is another").into());
    }
    let entry = Entry::read_whole(&raw, raw_length as u64)?;
    if entry.key != *key {
        return Err(NoEntry::Foreign);
    }
    Ok(entry)
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::entry::tests::sample;

    const FORM: Form =
        Form { value_bytes_max: 64 << 10, compress_bytes_min: 4 << 10, entry_bytes_max: 128 << 10 };

    const TOKEN: u64 = 1_800_000_000_000_001;

    fn read(value: &[u8], key: &Key) -> Result<Entry, NoEntry> {
        decode(&Bytes::copy_from_slice(value), key, &FORM)
    }

    fn value_of(entry: &Entry) -> Vec<u8> {
        encode(entry, TOKEN, &FORM).unwrap().expect("it fits")
    }

    fn key(byte: u8) -> Key {
        Key::from_bytes([byte; 32])
    }

    #[test]
    fn an_entry_comes_back_as_it_was_small_or_compressed() {
        let text = b"all work and no play ".repeat(1000);
        for body in [&b"small"[..], &text] {
            let entry = sample([1; 32], body);
            let value = value_of(&entry);
            assert_eq!(value[1] == ZSTD, body.len() > 4096);
            let found = read(&value, &key(1)).unwrap();
            assert_eq!(found, entry);
        }
        assert!(value_of(&sample([1; 32], &text)).len() < text.len() / 10);
    }

    #[test]
    fn the_form_of_this_version_is_pinned() {
        let value = value_of(&sample([1; 32], b"small"));
        let length = u32::try_from(value.len() - PRELUDE_BYTES).unwrap();
        let prelude = [&[2, 0][..], &TOKEN.to_be_bytes(), &length.to_le_bytes()].concat();
        assert!(value.starts_with(&prelude), "another form is another version");
    }

    #[test]
    fn what_does_not_get_smaller_is_not_compressed() {
        let noise: Vec<u8> = (0..8192).map(|_| fastrand::u8(..)).collect();
        let entry = sample([1; 32], &noise);
        let value = value_of(&entry);
        assert!(value.len() <= PRELUDE_BYTES + entry.encoded_size());
        assert_eq!(read(&value, &key(1)).unwrap(), entry);
    }

    #[test]
    fn nothing_is_compressed_where_that_is_switched_off() {
        let form = Form { compress_bytes_min: 0, ..FORM };
        let entry = sample([1; 32], &[b'x'; 30_000]);
        let value = encode(&entry, TOKEN, &form).unwrap().unwrap();
        assert_eq!(value[1], AS_IS);
    }

    #[test]
    fn an_entry_over_either_bound_has_no_value() {
        let noise: Vec<u8> = (0..70_000).map(|_| fastrand::u8(..)).collect();
        assert!(encode(&sample([1; 32], &noise), TOKEN, &FORM).unwrap().is_none());
        let text = vec![b'x'; 140_000];
        assert!(encode(&sample([1; 32], &text), TOKEN, &FORM).unwrap().is_none());
    }

    #[test]
    fn another_keys_value_is_no_answer() {
        let value = value_of(&sample([1; 32], b"not yours"));
        assert!(matches!(read(&value, &key(2)), Err(NoEntry::Foreign)));
    }

    #[test]
    fn a_frame_that_grows_beyond_what_it_says_is_refused() {
        let mut value = value_of(&sample([1; 32], &[b'x'; 60_000]));
        let bomb = zstd::bulk::compress(&vec![0; 100 << 20], 3).unwrap();
        value.truncate(PRELUDE_BYTES);
        value.extend_from_slice(&bomb);
        assert!(matches!(read(&value, &key(1)), Err(NoEntry::Damaged(_))));
        value[PRELUDE_BYTES - 4..PRELUDE_BYTES].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read(&value, &key(1)), Err(NoEntry::Damaged(_))));
    }

    #[test]
    fn bytes_behind_the_entry_are_damage() {
        let mut value = value_of(&sample([1; 32], b"x"));
        value.push(0);
        let raw_length = u32::try_from(value.len() - PRELUDE_BYTES).unwrap();
        value[PRELUDE_BYTES - 4..PRELUDE_BYTES].copy_from_slice(&raw_length.to_le_bytes());
        assert!(matches!(read(&value, &key(1)), Err(NoEntry::Damaged(_))));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_never_another_answer(bytes in 0_usize..30_000, at in 0_f64..1.0, bit in 0_u32..8) {
            let entry = sample([1; 32], &vec![b'x'; bytes]);
            let mut value = value_of(&entry);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let index = (value.len() as f64 * at) as usize;
            value[index] ^= 1_u8 << bit;
            // The token says nothing of the entry.
            if let Ok(found) = read(&value, &key(1)) {
                prop_assert_eq!(found, entry);
            }
        }

        #[test]
        fn any_bytes_are_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(read(&bytes, &key(1)).is_err());
        }

        #[test]
        fn a_cut_value_is_damaged(at in 0_f64..1.0) {
            let value = value_of(&sample([1; 32], &[b'x'; 10_000]));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let cut = (value.len() as f64 * at) as usize;
            prop_assert!(read(&value[..cut], &key(1)).is_err());
        }
    }
}
