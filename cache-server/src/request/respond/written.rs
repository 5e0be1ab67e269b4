//! An answer as the bytes of HTTP/1.1 (RFC 9112), for a request that came before: what is sent for the
//! others is put together field by field and written by hyper.

use std::io::IoSlice;

use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH, DATE};
use http::{HeaderMap, StatusCode};
use httpdate::HttpDate;

use crate::cache::freshness::surrogate::WITHHELD;
use crate::clock::Timestamp;

/// A body up to this size is copied behind its header: that costs less than to write from two places.
const COPIED_BYTES_MAX: usize = 16 << 10;
/// What a header takes for the most part; one that takes more grows.
const HEAD_BYTES: usize = 1024;

/// An answer on its way: its bytes, and how many of them were written.
#[derive(Debug)]
pub struct Written {
    /// The header, and a small body behind it.
    head: Vec<u8>,
    /// A large body.
    body: Bytes,
    sent: usize,
}

impl Written {
    /// An answer of this status that is about as large as this body.
    pub(super) fn new(status: StatusCode, body: &Bytes) -> Written {
        let copied = if body.len() <= COPIED_BYTES_MAX { body.len() } else { 0 };
        let mut head = Vec::with_capacity(HEAD_BYTES + copied);
        head.extend_from_slice(b"HTTP/1.1 ");
        head.extend_from_slice(status.as_str().as_bytes());
        head.push(b' ');
        head.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        head.extend_from_slice(b"\r\n");
        Written { head, body: Bytes::new(), sent: 0 }
    }

    /// The fields of an entry, but those that are said anew; with a date, as every answer has one
    /// (RFC 9110 section 6.6.1).
    pub(super) fn fields(&mut self, fields: &HeaderMap, now: Timestamp) {
        let mut has_date = false;
        for (name, value) in fields {
            if [AGE, CONTENT_LENGTH, WITHHELD].contains(name) {
                continue;
            }
            has_date |= *name == DATE;
            self.field(name.as_str(), value.as_bytes());
        }
        if !has_date {
            let date = HttpDate::from(now.as_system_time()).to_string();
            self.field(DATE.as_str(), date.as_bytes());
        }
    }

    /// One more field.
    pub(super) fn field(&mut self, name: &str, value: &[u8]) {
        self.head.extend_from_slice(name.as_bytes());
        self.head.extend_from_slice(b": ");
        self.head.extend_from_slice(value);
        self.head.extend_from_slice(b"\r\n");
    }

    /// One more field, of a number.
    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.field(name, itoa::Buffer::new().format(value).as_bytes());
    }

    /// The end of the fields, and the body.
    pub(super) fn body(&mut self, body: &Bytes) {
        self.number(CONTENT_LENGTH.as_str(), body.len() as u64);
        self.head.extend_from_slice(b"\r\n");
        if body.len() <= COPIED_BYTES_MAX {
            self.head.extend_from_slice(body);
        } else {
            self.body = body.clone();
        }
    }

    /// What is to be written yet.
    #[must_use]
    pub fn left(&self) -> [IoSlice<'_>; 2] {
        let (head, body) = (self.head.len(), &self.body[..]);
        let from_body = self.sent.saturating_sub(head).min(body.len());
        [IoSlice::new(&self.head[self.sent.min(head)..]), IoSlice::new(&body[from_body..])]
    }

    /// So much of it was written.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
    }

    /// Whether all of it was written.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.sent >= self.head.len() + self.body.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn written(body: &'static [u8]) -> Written {
        let body = Bytes::from_static(body);
        let mut written = Written::new(StatusCode::OK, &body);
        let mut fields = HeaderMap::new();
        fields.append("set", HeaderValue::from_static("a"));
        fields.append("set", HeaderValue::from_static("b"));
        fields.append(AGE, HeaderValue::from_static("9"));
        fields.append(WITHHELD, HeaderValue::from_static("max-age=1"));
        written.fields(&fields, Timestamp(784_111_777_000));
        written.number("age", 7);
        written.body(&body);
        written
    }

    #[test]
    fn an_answer_has_a_date_and_each_field_and_none_that_is_said_anew_or_withheld() {
        let written = written(b"{}");
        let expected = "HTTP/1.1 200 OK\r\nset: a\r\nset: b\r\n\
                        date: Sun, 06 Nov 1994 08:49:37 GMT\r\nage: 7\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(String::from_utf8_lossy(&written.left()[0]), expected);
    }

    fn bytes_left(written: &Written) -> Vec<u8> {
        written.left().iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn an_answer_that_is_written_in_pieces_is_the_same() {
        let (small, large) = (&b"small"[..], &[b'x'; 3 * COPIED_BYTES_MAX][..]);
        for (body, steps) in [(small, [1, 7, 300]), (large, [900, 5_000, 20_000])] {
            let whole = bytes_left(&written(body));
            for step in steps {
                let (mut written, mut sent) = (written(body), Vec::new());
                while !written.is_sent() {
                    let left = bytes_left(&written);
                    let piece = &left[..step.min(left.len())];
                    written.advance(piece.len());
                    sent.extend_from_slice(piece);
                }
                assert!(sent == whole, "in steps of {step}");
            }
        }
    }
}
