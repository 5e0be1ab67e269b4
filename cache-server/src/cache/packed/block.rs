//! The block of an entry: its bytes, and how they are written and read.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

use crate::cache::freshness::date;
use crate::clock::Timestamp;

/// What counts references before the bytes of an `Arc`.
const COUNTS_BYTES: usize = 16;
/// The allocator has four sizes of block for each power of two.
const SIZES_PER_DOUBLING: usize = 4;
/// It leaves about one part in so many of its pages unused.
const PAGE_PARTS: usize = 20;

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
    let block = bytes.next_multiple_of(step);
    block + block / PAGE_PARTS
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

/// Writes the value of a field. A date of the usual form is told by how far it is from `base`, in
/// seconds: most answers have one, and it would be a tenth of a small one.
pub(super) fn put_value(out: &mut Vec<u8>, base: Timestamp, value: &[u8]) {
    let at = date::parse(value, base).filter(|at| date::written(*at) == value);
    match at {
        Some(at) => {
            put_number(out, 0);
            put_distance(out, base.0 / 1000, at.0 / 1000);
        }
        None => put_bytes_or_none(out, Some(value)),
    }
}

/// Writes an id, if there is one. Many end in a number in hexadecimal digits, which takes half as much
/// as a number.
pub(super) fn put_id(out: &mut Vec<u8>, id: Option<&str>) {
    let id = id.map(str::as_bytes);
    let digits = id.map_or(0, |id| id.iter().rev().take_while(|byte| is_digit(byte)).count());
    let (before, digits) =
        id.unwrap_or_default().split_at(id.map_or(0, |id| id.len() - digits / 2 * 2));
    put_bytes_or_none(out, id.map(|_| before));
    if id.is_some() {
        put_number(out, digits.len() as u64 / 2);
        out.extend(digits.chunks_exact(2).map(|pair| value_of(pair[0]) << 4 | value_of(pair[1])));
    }
}

fn is_digit(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn value_of(digit: u8) -> u8 {
    if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 }
}

/// The same, if there are any.
fn put_bytes_or_none(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
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

    /// Four distances from nothing.
    pub(super) fn distances(&mut self) -> Option<[u64; 4]> {
        let mut distances = [0; 4];
        for distance in &mut distances {
            *distance = self.distance_from(0)?;
        }
        Some(distances)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = usize::try_from(self.number()?).ok()?;
        self.take(count)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// What [`put_value`] has written. A value that is no date is no copy: it holds the block.
    pub(super) fn value(&mut self, base: Timestamp) -> Option<HeaderValue> {
        let Some(count) = self.number()?.checked_sub(1) else {
            let at = self.distance_from(base.0 / 1000)?.checked_mul(1000)?;
            return HeaderValue::from_bytes(&date::written(Timestamp(at))).ok();
        };
        let count = usize::try_from(count).ok()?;
        self.take(count)?;
        HeaderValue::from_maybe_shared(self.whole.slice(self.at - count..self.at)).ok()
    }

    /// What [`put_id`] has written: an id or none; the outer is nothing if neither is there.
    pub(super) fn id(&mut self) -> Option<Option<Box<str>>> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let Some(count) = self.number()?.checked_sub(1) else { return Some(None) };
        let before = self.take(usize::try_from(count).ok()?)?;
        let digits = self.bytes()?;
        let mut id = Vec::with_capacity(before.len() + digits.len() * 2);
        id.extend_from_slice(before);
        for byte in digits {
            id.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
        }
        String::from_utf8(id).ok().map(|id| Some(id.into()))
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
        for (asked, block) in [(1, 16), (64, 64), (65, 80), (513, 640), (640, 640), (641, 768)] {
            assert_eq!(allocated(asked), block + block / PAGE_PARTS, "{asked}");
        }
    }

    #[test]
    fn dates_and_ids_take_few_bytes() {
        let base = Timestamp(1_795_000_000_000);
        let mut out = Vec::new();
        put_value(&mut out, base, &date::written(Timestamp(base.0 - 2000)));
        assert_eq!(out.len(), 2);
        out.clear();
        put_id(&mut out, Some("req_0123456789abcdef0123456789abcdef"));
        assert_eq!(out.len(), 1 + 4 + 1 + 16);
    }

    fn values() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~]{0,40}",
            (0..300_000_000_000_u64).prop_map(|seconds| {
                String::from_utf8(date::written(Timestamp(seconds)).to_vec()).unwrap()
            }),
            Just("Sunday, 06-Nov-94 08:49:37 GMT".into()),
            Just("sun, 06 nov 1994 08:49:37 GMT".into()),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            number: u64,
            base: u64,
            bytes: Vec<u8>,
            value in values(),
            id in proptest::option::of("[a-z]{0,6}_?[0-9a-f]{0,40}"),
        ) {
            let mut out = Vec::new();
            put_number(&mut out, number);
            put_distance(&mut out, base, number);
            put_bytes(&mut out, &bytes);
            put_value(&mut out, Timestamp(base), value.as_bytes());
            put_id(&mut out, id.as_deref());
            let whole = Bytes::from(out);
            let mut from = Cursor::of(&whole);
            prop_assert_eq!(from.number(), Some(number));
            prop_assert_eq!(from.distance_from(base), Some(number));
            prop_assert_eq!(from.bytes(), Some(&bytes[..]));
            let read = from.value(Timestamp(base)).unwrap();
            prop_assert_eq!(read.as_bytes(), value.as_bytes());
            prop_assert_eq!(from.id(), Some(id.map(Into::into)));
            prop_assert_eq!((from.number(), from.bytes()), (None, None));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let whole = Bytes::from(bytes);
            let mut from = Cursor::of(&whole);
            while from.value(Timestamp(0)).is_some() && from.id().is_some() {}
            prop_assert!(from.at() <= whole.len());
        }
    }
}
