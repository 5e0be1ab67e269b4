//! Where canonical bytes go: a `Vec<u8>` for people and tests, a hash for keys. On the way
//! there, pieces that stand side by side in the body are joined.

use std::ops::Range;

/// Takes canonical bytes, piece by piece.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    /// Takes one byte, which is quicker than to copy a slice of it.
    #[inline]
    fn put_byte(&mut self, byte: u8) {
        self.put(&[byte]);
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put_byte(&mut self, byte: u8) {
        self.push(byte);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Joins pieces that stand side by side in the body. Most of a body is canonical as it is
/// spelled, and one long copy costs less than many short ones.
pub(crate) struct Joined<'b, S> {
    body: &'b [u8],
    /// What of the body is yet to be put.
    run: Range<usize>,
    out: S,
}

impl<'b, S: Sink> Joined<'b, S> {
    /// Puts into `out`, and copies from `body`.
    pub(crate) fn new(body: &'b [u8], out: S) -> Self {
        Self { body, run: 0..0, out }
    }

    /// Puts a piece of the body.
    #[inline]
    pub(crate) fn copy(&mut self, piece: Range<usize>) {
        if piece.start == self.run.end {
            self.run.end = piece.end;
        } else {
            self.put_run();
            self.run = piece;
        }
    }

    /// Puts what is yet to be put.
    pub(crate) fn finish(mut self) {
        self.put_run();
    }

    /// Apart, so that the usual byte costs little.
    #[inline(never)]
    fn put_other_byte(&mut self, byte: u8) {
        self.put_run();
        self.out.put_byte(byte);
    }

    fn put_run(&mut self) {
        if !self.run.is_empty() {
            self.out.put(&self.body[self.run.clone()]);
            self.run.start = self.run.end;
        }
    }
}

impl<S: Sink> Sink for Joined<'_, S> {
    /// Mostly it is the one that follows in the body.
    #[inline]
    fn put_byte(&mut self, byte: u8) {
        if self.body.get(self.run.end) == Some(&byte) {
            self.run.end += 1;
        } else {
            self.put_other_byte(byte);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.put_run();
        self.out.put(bytes);
    }
}

impl<S: Sink> Sink for &mut S {
    #[inline]
    fn put_byte(&mut self, byte: u8) {
        (**self).put_byte(byte);
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        (**self).put(bytes);
    }
}

/// Bytes gathered before they are hashed. BLAKE3 uses the machine's width on long runs only. A
/// power of two, so that the parts of its tree are whole.
const BUFFER_BYTES: usize = 64 * 1024;

/// Hashes what is put into it, holding at most [`BUFFER_BYTES`].
pub(crate) struct HashSink {
    /// Begun only when the buffer is full for the first time: hashing a short body at once is
    /// faster.
    hasher: Option<blake3::Hasher>,
    buffer: Vec<u8>,
}

impl HashSink {
    /// `expected_bytes` sizes the buffer; a wrong guess only costs time.
    pub(crate) fn new(expected_bytes: usize) -> Self {
        let capacity = expected_bytes.min(BUFFER_BYTES);
        Self { hasher: None, buffer: Vec::with_capacity(capacity) }
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        let hash = match self.hasher {
            None => blake3::hash(&self.buffer),
            Some(mut hasher) => hasher.update(&self.buffer).finalize(),
        };
        *hash.as_bytes()
    }

    fn put_past_buffer(&mut self, bytes: &[u8]) {
        let hasher = self.hasher.get_or_insert_with(blake3::Hasher::new);
        // Full buffers alone: after an odd length BLAKE3 works chunk by chunk.
        let (head, rest) = bytes.split_at(BUFFER_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(head);
        hasher.update(&self.buffer);
        let (whole, tail) = rest.split_at(rest.len() - rest.len() % BUFFER_BYTES);
        hasher.update(whole);
        self.buffer.clear();
        self.buffer.extend_from_slice(tail);
    }
}

impl Sink for HashSink {
    #[inline]
    fn put_byte(&mut self, byte: u8) {
        if self.buffer.len() < BUFFER_BYTES {
            self.buffer.push(byte);
        } else {
            self.put_past_buffer(&[byte]);
        }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() <= BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.put_past_buffer(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_and_nothing_is_lost_between_them() {
        let mut out = Vec::new();
        let mut joined = Joined::new(b"[1,2],3", &mut out);
        joined.put_byte(b'[');
        joined.copy(3..4);
        joined.put_byte(b',');
        joined.copy(1..2);
        joined.copy(2..4);
        joined.put_byte(b']');
        joined.put(b"x");
        joined.put_byte(b',');
        joined.copy(6..7);
        joined.put_byte(b'.');
        joined.finish();
        assert_eq!(out, b"[2,1,2]x,3.");
    }

    #[test]
    fn a_hash_does_not_depend_on_how_its_bytes_were_cut() {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        for cut in [1, 7, 1000, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFER_BYTES]
        {
            let mut sink = HashSink::new(10);
            bytes.chunks(cut).for_each(|piece| sink.put(piece));
            assert_eq!(sink.finish(), *blake3::hash(&bytes).as_bytes(), "pieces of {cut}");
        }
        let mut sink = HashSink::new(10);
        bytes.iter().for_each(|byte| sink.put_byte(*byte));
        assert_eq!(sink.finish(), *blake3::hash(&bytes).as_bytes(), "bytes");
    }
}
