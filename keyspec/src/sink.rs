//! Where canonical bytes go: a `Vec<u8>` for people and tests, a hash for keys.

/// Takes canonical bytes, piece by piece.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Bytes gathered before they are hashed: BLAKE3 wants long runs to use the machine's width.
const BUFFER_BYTES: usize = 16 * 1024;

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
        hasher.update(&self.buffer);
        self.buffer.clear();
        if bytes.len() < BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
        } else {
            hasher.update(bytes);
        }
    }
}

impl Sink for HashSink {
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
    fn a_hash_does_not_depend_on_how_its_bytes_were_cut() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        for cut in [1, 7, 1000, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 100_000] {
            let mut sink = HashSink::new(10);
            bytes.chunks(cut).for_each(|piece| sink.put(piece));
            assert_eq!(sink.finish(), *blake3::hash(&bytes).as_bytes(), "pieces of {cut}");
        }
    }
}
