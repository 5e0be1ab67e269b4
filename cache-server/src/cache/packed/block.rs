//! The block of an entry: its bytes, and how they are written and read.

use std::sync::Arc;

use bytes::Bytes;

/// What counts references before the bytes of an `Arc`.
const COUNTS_BYTES: usize = 16;
/// The allocator has four sizes of block for each power of two, and pages of four kilobytes from a few
/// hundred of those on.
const SIZES_PER_DOUBLING: usize = 4;

/// The bytes of an entry, with its body behind them or beside them.
#[derive(Clone, Debug)]
pub(super) enum Block {
    /// All in one.
    Whole(Arc<[u8]>),
    /// The body is large and its own.
    Apart(Box<(Arc<[u8]>, Bytes)>),
}

impl Block {
    /// These bytes, the body among them.
    pub(super) fn whole(bytes: &[u8]) -> Block {
        Block::Whole(bytes.into())
    }

    /// These bytes, and a body.
    pub(super) fn apart(bytes: &[u8], body: Bytes) -> Block {
        Block::Apart(Box::new((bytes.into(), body)))
    }

    /// Its bytes, those of a body apart excepted.
    pub(super) fn bytes(&self) -> &[u8] {
        self.arc()
    }

    /// The same, to be kept in parts.
    pub(super) fn share(&self) -> Bytes {
        Bytes::from_owner(Held(Arc::clone(self.arc())))
    }

    /// The body: in `whole`, which are its bytes, from there on, or apart.
    pub(super) fn body(&self, whole: &Bytes, from: usize) -> Bytes {
        match self {
            Block::Whole(_) => whole.slice(from.min(whole.len())..),
            Block::Apart(parts) => parts.1.clone(),
        }
    }

    /// Bytes that it takes in memory.
    pub(super) fn weight(&self) -> usize {
        let own = allocated(COUNTS_BYTES + self.bytes().len());
        match self {
            Block::Whole(_) => own,
            // The body counts its references in a small block, and this one is one more.
            Block::Apart(parts) => own + allocated(parts.1.len()) + 32 + 48,
        }
    }

    fn arc(&self) -> &Arc<[u8]> {
        match self {
            Block::Whole(bytes) => bytes,
            Block::Apart(parts) => &parts.0,
        }
    }
}

/// Bytes that the allocator takes for so many.
pub(super) fn allocated(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 2 / SIZES_PER_DOUBLING).max(16);
    bytes.next_multiple_of(step)
}

/// A part of a block holds the whole.
struct Held(Arc<[u8]>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Writes a number in as many bytes as it needs: seven bits in each, the lowest first.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Writes how far `number` is from `base`, which is not far in either direction.
pub(super) fn put_distance(out: &mut Vec<u8>, base: u64, number: u64) {
    let distance = number.wrapping_sub(base).cast_signed();
    put_number(out, ((distance << 1) ^ (distance >> 63)).cast_unsigned());
}

/// Writes bytes, and before them how many.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The same, if there are any.
pub(super) fn put_bytes_or_none(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_number(out, bytes.map_or(0, |bytes| bytes.len() as u64 + 1));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// Reads a block in order. It gives nothing where there is nothing left.
pub(super) struct Cursor<'a> {
    whole: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning.
    pub(super) fn of(whole: &'a Bytes) -> Cursor<'a> {
        Cursor { whole, at: 0 }
    }

    /// Where it is.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.whole.get(self.at..)?.get(..count)?;
        self.at += count;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn number_u32(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    pub(super) fn distance_from(&mut self, base: u64) -> Option<u64> {
        let folded = self.number()?;
        let distance = (folded >> 1) ^ (folded & 1).wrapping_neg();
        Some(base.wrapping_add(distance))
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = usize::try_from(self.number()?).ok()?;
        self.take(count)
    }

    /// The same without a copy: they hold the block.
    pub(super) fn shared_bytes(&mut self) -> Option<Bytes> {
        let taken = self.bytes()?;
        Some(self.whole.slice(self.at - taken.len()..self.at))
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// A text, or none: the outer is nothing if neither is there.
    pub(super) fn text_or_none(&mut self) -> Option<Option<&'a str>> {
        let Some(count) = self.number()?.checked_sub(1) else { return Some(None) };
        let bytes = self.take(usize::try_from(count).ok()?)?;
        std::str::from_utf8(bytes).ok().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_small_number_takes_a_byte_and_the_largest_ten() {
        for (number, bytes) in [(0, 1), (127, 1), (128, 2), (86_400_000, 4), (u64::MAX, 10)] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!(out.len(), bytes, "{number}");
        }
    }

    #[test]
    fn the_allocators_sizes_are_four_for_each_power_of_two() {
        for (asked, taken) in [(1, 16), (64, 64), (65, 80), (513, 640), (640, 640), (641, 768)] {
            assert_eq!(allocated(asked), taken, "{asked}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(number: u64, base: u64, bytes: Vec<u8>) {
            let mut out = Vec::new();
            put_number(&mut out, number);
            put_distance(&mut out, base, number);
            put_bytes(&mut out, &bytes);
            let whole = Bytes::from(out);
            let mut from = Cursor::of(&whole);
            prop_assert_eq!(from.number(), Some(number));
            prop_assert_eq!(from.distance_from(base), Some(number));
            prop_assert_eq!(from.shared_bytes(), Some(Bytes::from(bytes)));
            prop_assert_eq!((from.number(), from.bytes()), (None, None));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let whole = Bytes::from(bytes);
            let mut from = Cursor::of(&whole);
            while from.shared_bytes().is_some() {}
            prop_assert!(from.at() <= whole.len());
        }
    }
}
