//! The scan: one pass over a body that checks it, bounds it and notes where its values are.
//!
//! It is strict where parsers differ, because a body that two parsers read differently has no
//! one meaning to key: duplicate names, lone surrogates, a byte order mark and bytes after the
//! value make it not keyable. Such a request is forwarded and not cached.

use super::specials::Specials;
use super::{Document, Form, Names, Node, Shape, narrow};
use crate::not_keyable::NotKeyable;
use crate::number::{self, EXPONENT_MAX, NUMBER_BYTES_MAX};
use crate::text::{EscapeFault, Spelling, decode_escape, is_canonical_escape};

/// Longest body that is keyable, in bytes. Spans are 32 bits wide.
pub const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Deepest nesting of arrays and objects that is keyable.
pub const DEPTH_MAX: usize = 128;

/// Most values in one body that are keyable; a member's name counts as one. It bounds the
/// scan's memory: at most 28 bytes a value, and as much again while the list grows.
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
        let capacity = (body.len() / 16).clamp(32, 4096);
        let mut scan = Scan {
            at: 0,
            depth: 0,
            form: Form::Canonical,
            spelling: Spelling::Plain,
            specials: Specials::of(text.as_bytes()),
            document: Document {
                text,
                nodes: Vec::with_capacity(capacity),
                // A name has a value beside it.
                order: Vec::with_capacity(capacity / 2),
            },
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
    // The fast check does not say where it failed.
    simdutf8::basic::from_utf8(body).or_else(|_| {
        std::str::from_utf8(body)
            .map_err(|error| NotKeyable::InvalidUtf8 { at: error.valid_up_to() })
    })
}

/// The state of a scan.
struct Scan<'b> {
    at: usize,
    depth: usize,
    /// Of what has been scanned of the array or object that is open.
    form: Form,
    /// Of the string that was scanned last.
    spelling: Spelling,
    specials: Specials<'b>,
    document: Document<'b>,
}

impl Scan<'_> {
    fn value(&mut self) -> Result<(), NotKeyable> {
        let first = self.peek();
        // Most values are strings.
        if first == Some(b'"') {
            return self.string();
        }
        match first {
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
        let outer = self.form;
        let object = self.open(Shape::Object)?;
        let mut names = Names::new();
        if !self.take(b'}') {
            loop {
                self.member(&mut names)?;
                if self.take(b'}') {
                    break;
                }
                self.need(b',')?;
                self.skip_space();
            }
        }
        if !self.document.sort_members(object, &names)? {
            self.worsen(Form::Unsorted);
        }
        self.close(object, outer);
        Ok(())
    }

    fn member(&mut self, names: &mut Names) -> Result<(), NotKeyable> {
        if self.peek() != Some(b'"') {
            return Err(self.malformed());
        }
        let (node, start) = (self.document.nodes.len(), self.at + 1);
        self.string()?;
        let name = start..self.at - 1;
        // Not by way of the node, which has just been written: reading it at once would wait.
        names.add(narrow(node), self.document.beginning(name, self.spelling));
        if !self.take(b':') {
            self.skip_space();
            self.need(b':')?;
        }
        self.skip_space();
        self.value()?;
        self.skip_space();
        Ok(())
    }

    fn array(&mut self) -> Result<(), NotKeyable> {
        let outer = self.form;
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
        self.close(array, outer);
        Ok(())
    }

    /// Steps into an array or object, up to its first value.
    #[inline]
    fn open(&mut self, shape: Shape) -> Result<usize, NotKeyable> {
        if self.depth == DEPTH_MAX {
            return Err(NotKeyable::TooDeep { at: self.at });
        }
        self.depth += 1;
        let index = self.document.nodes.len();
        self.push(shape, Form::Canonical, self.at)?;
        self.form = Form::Canonical;
        self.at += 1;
        self.skip_space();
        Ok(index)
    }

    /// Steps out again, to what was in the form `outer` so far.
    #[inline]
    fn close(&mut self, index: usize, outer: Form) {
        self.depth -= 1;
        let next = narrow(self.document.nodes.len());
        let node = &mut self.document.nodes[index];
        (node.form, node.end, node.next) = (self.form, narrow(self.at), next);
        self.worsen(outer);
    }

    fn string(&mut self) -> Result<(), NotKeyable> {
        let (start, bytes) = (self.at, self.document.text.as_bytes());
        let mut spelling = Spelling::Plain;
        let mut at = start + 1;
        loop {
            at = self.specials.next_from(at);
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at = at;
                    spelling = spelling.max(self.escape()?);
                    at = self.at;
                }
                _ => return Err(NotKeyable::Malformed { at }),
            }
        }
        self.at = at + 1;
        let form = if spelling == Spelling::Escaped { Form::Other } else { Form::Canonical };
        self.spelling = spelling;
        self.push(Shape::String(spelling), form, start)
    }

    fn escape(&mut self) -> Result<Spelling, NotKeyable> {
        let after = &self.document.text.as_bytes()[self.at + 1..];
        if is_canonical_escape(after) {
            self.at += 2;
            return Ok(Spelling::Canonical);
        }
        let (_, length) = decode_escape(after).map_err(|fault| match fault {
            EscapeFault::Malformed => NotKeyable::Malformed { at: self.at },
            EscapeFault::LoneSurrogate => NotKeyable::LoneSurrogate { at: self.at },
        })?;
        self.at += 1 + length;
        Ok(Spelling::Escaped)
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
        let spelled = &self.document.text[start..self.at];
        let form = if number::is_canonical(spelled) { Form::Canonical } else { Form::Other };
        self.push(Shape::Number, form, start)
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
        self.push(shape, Form::Canonical, start)
    }

    /// Notes a value that began at `start` and ends here.
    #[inline]
    fn push(&mut self, shape: Shape, form: Form, start: usize) -> Result<(), NotKeyable> {
        let nodes = &mut self.document.nodes;
        if nodes.len() == VALUES_MAX {
            return Err(NotKeyable::TooManyValues { at: start });
        }
        let next = narrow(nodes.len() + 1);
        let (start, end) = (narrow(start), narrow(self.at));
        nodes.push(Node { shape, form, start, end, next, names: 0 });
        self.worsen(form);
        Ok(())
    }

    /// What is open is in no better form than something in it. It seldom changes: a test is cheaper
    /// than to write, and to wait for what was written before.
    #[inline]
    fn worsen(&mut self, form: Form) {
        if self.form < form {
            self.form = form;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.document.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        // A branch, which is guessed: a sum would wait for the byte.
        if self.peek() == Some(byte) {
            self.at += 1;
            true
        } else {
            false
        }
    }

    fn need(&mut self, byte: u8) -> Result<(), NotKeyable> {
        if self.take(byte) { Ok(()) } else { Err(self.malformed()) }
    }

    #[inline]
    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
            self.form = Form::Other;
        }
    }

    fn malformed(&self) -> NotKeyable {
        NotKeyable::Malformed { at: self.at }
    }
}
