//! The scan: one pass over a body that checks it, bounds it and notes where its values are.
//!
//! It is strict where parsers differ, because a body that two parsers read differently has no
//! one meaning to key: duplicate names, lone surrogates, a byte order mark and bytes after the
//! value make it not keyable. Such a request is forwarded and not cached.

use super::{Document, Node, Shape, narrow};
use crate::not_keyable::NotKeyable;
use crate::number::{EXPONENT_MAX, NUMBER_BYTES_MAX};
use crate::text::{EscapeFault, Spelling, decode_escape};

/// Longest body that is keyable, in bytes. Spans are 32 bits wide.
pub const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Deepest nesting of arrays and objects that is keyable.
pub const DEPTH_MAX: usize = 128;

/// Most values in one body that are keyable; a member's name counts as one. It bounds the
/// scan's memory: 20 bytes a value, and as much again while the list grows.
pub const VALUES_MAX: usize = 1 << 20;

impl<'b> Document<'b> {
    /// Scans a body that must be an object.
    pub(crate) fn scan_object(body: &'b [u8]) -> Result<Self, NotKeyable> {
        let document = Self::scan(body)?;
        document.object().map(|_| ()).ok_or(NotKeyable::NotAnObject)?;
        Ok(document)
    }

    /// Scans a body.
    pub(crate) fn scan(body: &'b [u8]) -> Result<Self, NotKeyable> {
        let text = checked_text(body)?;
        // A guess at the values in a body of prose, so that the list seldom grows.
        let capacity = (body.len() / 32).clamp(32, 4096);
        let mut scan = Scan {
            at: 0,
            depth: 0,
            document: Document { text, nodes: Vec::with_capacity(capacity), order: Vec::new() },
        };
        scan.skip_space();
        if scan.peek().is_none() {
            return Err(NotKeyable::EmptyBody);
        }
        scan.value()?;
        scan.skip_space();
        if scan.peek().is_some() {
            return Err(NotKeyable::TrailingBytes { at: scan.at });
        }
        Ok(scan.document)
    }
}

fn checked_text(body: &[u8]) -> Result<&str, NotKeyable> {
    if body.len() > BODY_BYTES_MAX {
        return Err(NotKeyable::TooLong);
    }
    if body.starts_with(b"\xEF\xBB\xBF") {
        return Err(NotKeyable::ByteOrderMark);
    }
    std::str::from_utf8(body).map_err(|error| NotKeyable::InvalidUtf8 { at: error.valid_up_to() })
}

/// The state of a scan.
struct Scan<'b> {
    at: usize,
    depth: usize,
    document: Document<'b>,
}

impl Scan<'_> {
    fn value(&mut self) -> Result<(), NotKeyable> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal(b"true", Shape::Bool(true)),
            Some(b'f') => self.literal(b"false", Shape::Bool(false)),
            Some(b'n') => self.literal(b"null", Shape::Null),
            _ => Err(self.malformed()),
        }
    }

    fn object(&mut self) -> Result<(), NotKeyable> {
        let object = self.open(Shape::Object)?;
        if !self.take(b'}') {
            loop {
                self.member()?;
                if self.take(b'}') {
                    break;
                }
                self.need(b',')?;
                self.skip_space();
            }
        }
        self.close(object);
        self.document.sort_members(object)
    }

    fn member(&mut self) -> Result<(), NotKeyable> {
        if self.peek() != Some(b'"') {
            return Err(self.malformed());
        }
        self.string()?;
        self.skip_space();
        self.need(b':')?;
        self.skip_space();
        self.value()?;
        self.skip_space();
        Ok(())
    }

    fn array(&mut self) -> Result<(), NotKeyable> {
        let array = self.open(Shape::Array)?;
        if !self.take(b']') {
            loop {
                self.value()?;
                self.skip_space();
                if self.take(b']') {
                    break;
                }
                self.need(b',')?;
                self.skip_space();
            }
        }
        self.close(array);
        Ok(())
    }

    /// Steps into an array or object, up to its first value.
    fn open(&mut self, shape: Shape) -> Result<usize, NotKeyable> {
        if self.depth == DEPTH_MAX {
            return Err(NotKeyable::TooDeep { at: self.at });
        }
        self.depth += 1;
        let index = self.document.nodes.len();
        self.push(shape, self.at)?;
        self.at += 1;
        self.skip_space();
        Ok(index)
    }

    fn close(&mut self, index: usize) {
        self.depth -= 1;
        self.document.nodes[index].next = narrow(self.document.nodes.len());
    }

    fn string(&mut self) -> Result<(), NotKeyable> {
        let start = self.at;
        let mut spelling = Spelling::Plain;
        self.at += 1;
        loop {
            self.at += plain_run(&self.document.text.as_bytes()[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => spelling = spelling.max(self.escape()?),
                _ => return Err(self.malformed()),
            }
        }
        self.at += 1;
        self.push(Shape::String(spelling), start)
    }

    fn escape(&mut self) -> Result<Spelling, NotKeyable> {
        let after = &self.document.text.as_bytes()[self.at + 1..];
        let (_, length) = decode_escape(after).map_err(|fault| match fault {
            EscapeFault::Malformed => NotKeyable::Malformed { at: self.at },
            EscapeFault::LoneSurrogate => NotKeyable::LoneSurrogate { at: self.at },
        })?;
        let canonical = !matches!(after.first(), Some(b'u' | b'/'));
        self.at += 1 + length;
        Ok(if canonical { Spelling::Canonical } else { Spelling::Escaped })
    }

    fn number(&mut self) -> Result<(), NotKeyable> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            self.exponent(start)?;
        }
        if self.at - start > NUMBER_BYTES_MAX {
            return Err(NotKeyable::NumberOutOfRange { at: start });
        }
        self.push(Shape::Number, start)
    }

    fn exponent(&mut self, number: usize) -> Result<(), NotKeyable> {
        if !self.take(b'+') {
            self.take(b'-');
        }
        let start = self.at;
        self.digits()?;
        match self.document.text[start..self.at].parse::<u32>() {
            Ok(magnitude) if magnitude <= EXPONENT_MAX => Ok(()),
            _ => Err(NotKeyable::NumberOutOfRange { at: number }),
        }
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), NotKeyable> {
        let rest = &self.document.text.as_bytes()[self.at..];
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += length;
        if length == 0 { Err(self.malformed()) } else { Ok(()) }
    }

    fn literal(&mut self, word: &[u8], shape: Shape) -> Result<(), NotKeyable> {
        if !self.document.text.as_bytes()[self.at..].starts_with(word) {
            return Err(self.malformed());
        }
        let start = self.at;
        self.at += word.len();
        self.push(shape, start)
    }

    /// Notes a value that began at `start` and ends here.
    fn push(&mut self, shape: Shape, start: usize) -> Result<(), NotKeyable> {
        let nodes = &mut self.document.nodes;
        if nodes.len() == VALUES_MAX {
            return Err(NotKeyable::TooManyValues { at: start });
        }
        let next = narrow(nodes.len() + 1);
        nodes.push(Node { shape, start: narrow(start), end: narrow(self.at), next });
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.document.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    fn need(&mut self, byte: u8) -> Result<(), NotKeyable> {
        if self.take(byte) { Ok(()) } else { Err(self.malformed()) }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn malformed(&self) -> NotKeyable {
        NotKeyable::Malformed { at: self.at }
    }
}

/// How many bytes at the front are neither a quotation mark, a backslash nor a control
/// character: eight at a time, each byte of a word tested in place.
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let special = (word.wrapping_sub(ONES * 0x20) & !word)
            | (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash);
        // A borrow can only mark bytes above a true match, and the lowest mark is taken.
        let marks = special & HIGHS;
        if marks != 0 {
            return index * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let plain = tail.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count();
    words.len() * 8 + plain
}

#[cfg(test)]
mod tests {
    use super::plain_run;

    #[test]
    fn the_run_of_plain_bytes_ends_at_the_first_special_one_wherever_it_is() {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for at in 0..40 {
                let mut bytes = vec![b'a'; 40];
                bytes[at] = special;
                assert_eq!(plain_run(&bytes), at, "{special:#x} at {at}");
            }
        }
        let all_plain: Vec<u8> =
            (0x20..=0xff).filter(|byte| !matches!(byte, b'"' | b'\\')).collect();
        assert_eq!(plain_run(&all_plain), all_plain.len());
    }
}
