//! One connection, byte by byte: for what a real client never sends and never shows. It serves
//! as a caller's end and, behind a listener of the test, as an upstream's.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::PATIENCE;

/// A connection; every wait on it has a deadline.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer as it came over the wire.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// Status line and fields.
    pub head: String,
    /// The body, out of its chunks.
    pub body: Vec<u8>,
}

impl RawAnswer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Raw {
    /// Connects.
    pub async fn open(address: &str) -> Raw {
        let stream = TcpStream::connect(address);
        let stream = tokio::time::timeout(PATIENCE, stream).await.expect("a connection in time");
        Raw::of(stream.expect("a connection"))
    }

    /// Takes a connection that was accepted.
    #[must_use]
    pub fn of(stream: TcpStream) -> Raw {
        let _ = stream.set_nodelay(true);
        Raw { stream, unread: Vec::new() }
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// When the other side has closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the other side still reads");
    }

    /// Sends bytes to a side that may have closed.
    ///
    /// # Errors
    /// When it has.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let sent = self.stream.write_all(bytes.as_ref());
        tokio::time::timeout(PATIENCE, sent).await.expect("the bytes are taken in time")
    }

    /// Sends a POST of JSON whose body is whole.
    pub async fn post(&mut self, path: &str, body: &str) {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: cache\r\nauthorization: Bearer sk-test\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        self.send(head + body).await;
    }

    /// Reads a head: everything up to an empty line, which is taken and not given.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn head(&mut self) -> String {
        let head = self.until(b"\r\n\r\n").await;
        String::from_utf8(head).expect("a head is text")
    }

    /// Reads a head, or less of one if the connection ends before.
    pub async fn head_if_any(&mut self) -> Vec<u8> {
        while !self.unread.windows(4).any(|four| four == b"\r\n\r\n") && self.more().await {}
        std::mem::take(&mut self.unread)
    }

    /// Reads the next chunk of a chunked body; the last one is empty.
    pub async fn chunk(&mut self) -> Vec<u8> {
        let size = String::from_utf8(self.until(b"\r\n").await).expect("a size");
        let size = usize::from_str_radix(&size, 16).expect("a size in hex digits");
        let chunk = self.exactly(size).await;
        assert_eq!(self.exactly(2).await, b"\r\n", "a chunk ends with a line's end");
        chunk
    }

    /// Reads this many bytes.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.more().await, "the connection ended; unread: {}", self.shown());
        }
        self.unread.drain(..count).collect()
    }

    /// Reads until the other side closes, cleanly or not.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.unread)
    }

    /// Reads a whole answer, by its length or its chunks.
    pub async fn answer(&mut self) -> RawAnswer {
        let head = self.head().await;
        let fields = head.to_ascii_lowercase();
        let length = fields.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body = match length {
            Some(length) => self.exactly(length.parse().expect("a length")).await,
            None if fields.contains("transfer-encoding: chunked") => self.chunks().await.concat(),
            None => self.rest().await,
        };
        RawAnswer { head, body }
    }

    /// Reads all chunks of a chunked body that has no trailers.
    pub async fn chunks(&mut self) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        loop {
            let chunk = self.chunk().await;
            if chunk.is_empty() {
                return chunks;
            }
            chunks.push(chunk);
        }
    }

    /// Breaks the connection off by a reset, instead of closing it.
    ///
    /// # Panics
    /// When it cannot be reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().expect("a connection can be reset");
    }

    async fn until(&mut self, mark: &[u8]) -> Vec<u8> {
        loop {
            let found = self.unread.windows(mark.len()).position(|window| window == mark);
            if let Some(position) = found {
                let mut taken: Vec<u8> = self.unread.drain(..position + mark.len()).collect();
                taken.truncate(position);
                return taken;
            }
            assert!(self.more().await, "the connection ended; unread: {}", self.shown());
        }
    }

    /// Reads what comes next; `false` at the end.
    async fn more(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.unread);
        let read = tokio::time::timeout(PATIENCE, read).await;
        read.expect("something comes in time, or the end").unwrap_or(0) > 0
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }
}
