//! Variants: the answers under one key that differ by request fields, as `Vary` says (RFC 9111
//! section 4.1).
//!
//! Under the key itself stands a record: the names of all fields that answers there were said to
//! vary with, and a digest of those fields for each variant. The variant stands under a key of its
//! own, made of both. A request whose fields have another digest is a miss. An answer that varies
//! with more names makes the digests of fewer names useless: the list begins anew.
//!
//! A record lists at most [`VARIANTS_MAX`] variants. One more takes the place of the oldest, which
//! is not found any more and goes when its space is needed.

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderName;
use keyspec::Key;

/// Most variants under one key.
pub const VARIANTS_MAX: usize = 64;

/// Most names that answers under one key vary with.
pub const NAMES_MAX: usize = 16;

/// A digest of the request fields that select a variant.
pub type Selecting = [u8; 16];

/// What is known of the variants under one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variants {
    /// Sorted, without repeats.
    names: Vec<HeaderName>,
    /// The oldest first.
    selecting: Vec<Selecting>,
}

impl Variants {
    /// The fields that select a variant.
    #[must_use]
    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// Whether there is a variant for these fields.
    #[must_use]
    pub fn has(&self, selecting: &Selecting) -> bool {
        self.selecting.contains(selecting)
    }

    /// What selects each variant, the oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Selecting> {
        self.selecting.iter()
    }

    /// The names with more of them; nothing if they are too many.
    #[must_use]
    pub fn names_with(&self, more: &[HeaderName]) -> Option<Vec<HeaderName>> {
        let mut names = self.names.clone();
        names.extend_from_slice(more);
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        (names.len() <= NAMES_MAX).then_some(names)
    }

    /// Adds a variant whose fields are those of `names`, which [`names_with`](Self::names_with)
    /// gave.
    pub fn add(&mut self, names: Vec<HeaderName>, selecting: Selecting) {
        if names != self.names {
            *self = Variants { names, selecting: Vec::new() };
        }
        self.selecting.retain(|known| *known != selecting);
        if self.selecting.len() == VARIANTS_MAX {
            self.selecting.remove(0);
        }
        self.selecting.push(selecting);
    }

    /// The binary form: the count of names, each with its length, then the digests.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u16_le(narrow(self.names.len()));
        for name in &self.names {
            out.put_u16_le(narrow(name.as_str().len()));
            out.put_slice(name.as_str().as_bytes());
        }
        self.selecting.iter().for_each(|selecting| out.put_slice(selecting));
        out.freeze()
    }

    /// Reads the binary form; nothing if it is none.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Variants> {
        let count = usize::from(u16::from_le_bytes(take(&mut bytes)?));
        let mut names = Vec::new();
        for _ in 0..count.min(NAMES_MAX + 1) {
            let length = usize::from(u16::from_le_bytes(take(&mut bytes)?));
            let (name, rest) = bytes.split_at_checked(length)?;
            names.push(HeaderName::from_bytes(name).ok()?);
            bytes = rest;
        }
        let (selecting, rest) = bytes.as_chunks();
        let is_whole = rest.is_empty() && count <= NAMES_MAX && selecting.len() <= VARIANTS_MAX;
        is_whole.then(|| Variants { names, selecting: selecting.to_vec() })
    }
}

/// The key of the variant that these fields select.
#[must_use]
pub fn variant_key(key: &Key, selecting: &Selecting) -> Key {
    let mut hasher = blake3::Hasher::new_derive_key("cache-server 2026 variant key v1");
    hasher.update(key.as_bytes()).update(selecting);
    Key::from_bytes(*hasher.finalize().as_bytes())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

/// Names are bounded in number, and a field's name by the header block that it came in.
fn narrow(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(listed: &[&'static str]) -> Vec<HeaderName> {
        listed.iter().map(|name| HeaderName::from_static(name)).collect()
    }

    fn with(names: &[HeaderName], selecting: impl IntoIterator<Item = u8>) -> Variants {
        let mut variants = Variants::default();
        for byte in selecting {
            variants.add(names.to_vec(), [byte; 16]);
        }
        variants
    }

    #[test]
    fn a_record_reads_back_as_it_was_written_and_a_damaged_one_is_none() {
        let record = with(&names(&["accept", "accept-language"]), [1, 2, 3]);
        let bytes = record.encode();
        assert_eq!(Variants::decode(&bytes), Some(record));
        for cut in 0..bytes.len() {
            if let Some(shorter) = Variants::decode(&bytes[..cut]) {
                assert!((bytes.len() - cut).is_multiple_of(16), "cut at {cut}: {shorter:?}");
            }
        }
    }

    #[test]
    fn the_oldest_variant_gives_way_at_the_bound() {
        let accept = names(&["accept"]);
        let record = with(&accept, 0..=u8::try_from(VARIANTS_MAX).unwrap());
        assert!(!record.has(&[0; 16]) && record.has(&[1; 16]));
        assert_eq!(record.selecting.len(), VARIANTS_MAX);
    }

    #[test]
    fn an_answer_that_varies_with_more_makes_the_other_digests_useless() {
        let mut record = with(&names(&["accept"]), [1, 2]);
        let more = record.names_with(&names(&["accept", "accept-language"])).unwrap();
        assert_eq!(more, names(&["accept", "accept-language"]));
        record.add(more, [3; 16]);
        assert!(!record.has(&[1; 16]) && record.has(&[3; 16]));
        let fewer = record.names_with(&names(&["accept"])).unwrap();
        assert_eq!(fewer, record.names(), "an answer that varies with less still has all fields");
    }

    #[test]
    fn too_many_names_are_none() {
        let many: Vec<HeaderName> =
            (0..=NAMES_MAX).map(|index| format!("x-{index}").parse().unwrap()).collect();
        assert_eq!(Variants::default().names_with(&many), None);
        assert!(Variants::default().names_with(&many[1..]).is_some());
    }
}
