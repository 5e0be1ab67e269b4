//! A connection of the load: raw HTTP/1.1, one request at a time, and the least parser that can
//! tell where an answer ends. It costs less than any server it measures.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Room for a whole answer in one read: a read that fills its buffer costs another one.
const BUFFER_BYTES: usize = 32 << 10;

/// A keep-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// The answer as it came.
    buffer: Vec<u8>,
    /// The body, where it came in chunks.
    dechunked: Vec<u8>,
    /// How the body came.
    arrivals: Vec<Arrival>,
}

/// More of a body was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    /// Bytes of the body that were there then, all in all.
    pub(crate) bytes: usize,
}

/// Nothing of an answer had come when the connection failed: another server may be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unanswered;

impl fmt::Display for Unanswered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nothing was answered")
    }
}

/// An answer that came whole.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: &'a str,
    /// What the cache says, if there is one.
    pub(crate) cache_status: Option<&'a str>,
    pub(crate) body: &'a [u8],
    /// When the first bytes of the body were there, when more, and when all.
    pub(crate) arrivals: &'a [Arrival],
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunks,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let buffer = Vec::with_capacity(BUFFER_BYTES);
        Ok(Connection { stream, buffer, dechunked: Vec::new(), arrivals: Vec::new() })
    }

    /// Sends a request and takes the whole answer. An error that is [`Unanswered`] says that nothing
    /// of one had come.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.buffer.clear();
        self.dechunked.clear();
        self.arrivals.clear();
        let sent = self.stream.write_all(request).await.context("cannot send");
        sent.context(Unanswered)?;
        let body_start = loop {
            let read = self.read_more().await;
            if self.buffer.is_empty() {
                read.context(Unanswered)?;
            } else {
                read?;
            }
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let framing = framing(head_of(&self.buffer, body_start)?)?;
        let body_end = match framing {
            Framing::Length(length) => self.take_length(body_start, length).await?,
            Framing::Chunks => self.take_chunks(body_start).await?,
        };
        ensure!(self.buffer.len() == body_end, "there are bytes after the answer's end");
        let head = head_of(&self.buffer, body_start)?;
        let body = match framing {
            Framing::Length(_) => &self.buffer[body_start..body_end],
            Framing::Chunks => &self.dechunked,
        };
        let status = head.get(9..12).context("no status line")?;
        let arrivals = &self.arrivals;
        Ok(Answer { status, cache_status: field(head, "cache-status"), body, arrivals })
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        self.buffer.reserve(BUFFER_BYTES / 2);
        let read = self.stream.read_buf(&mut self.buffer).await.context("cannot receive")?;
        ensure!(read > 0, "the connection was closed before the answer's end");
        Ok(())
    }

    /// Notes how much of the body is here.
    fn note(&mut self, bytes: usize) {
        if self.arrivals.last().map_or(0, |last| last.bytes) < bytes {
            self.arrivals.push(Arrival { at: Instant::now(), bytes });
        }
    }

    /// Reads a body of this length; gives where it ends.
    async fn take_length(&mut self, start: usize, length: usize) -> anyhow::Result<usize> {
        loop {
            let here = self.buffer.len() - start;
            self.note(here);
            if here >= length {
                return Ok(start + length);
            }
            self.read_more().await?;
        }
    }

    /// Reads chunks to the last one; gives where it ends.
    async fn take_chunks(&mut self, start: usize) -> anyhow::Result<usize> {
        let mut at = start;
        loop {
            match chunk(&self.buffer[at..])? {
                None => {
                    self.note(self.dechunked.len());
                    self.read_more().await?;
                }
                Some((data, whole)) => {
                    let is_last = data.is_empty();
                    self.dechunked.extend_from_slice(&self.buffer[at..][data]);
                    at += whole;
                    if is_last {
                        self.note(self.dechunked.len());
                        return Ok(at);
                    }
                }
            }
        }
    }
}

/// Where the data of the chunk at the start of `bytes` is, and how many bytes the chunk takes;
/// nothing if it has not come whole. Trailers are not expected.
fn chunk(bytes: &[u8]) -> anyhow::Result<Option<(std::ops::Range<usize>, usize)>> {
    let Some(line_end) = memmem::find(bytes, b"\r\n") else { return Ok(None) };
    let size = std::str::from_utf8(&bytes[..line_end])?;
    let size = usize::from_str_radix(size, 16).context("no chunk size")?;
    let data = line_end + 2..line_end + 2 + size;
    let whole = data.end + 2;
    Ok((bytes.len() >= whole).then_some((data, whole)))
}

fn head_of(buffer: &[u8], end: usize) -> anyhow::Result<&str> {
    std::str::from_utf8(&buffer[..end]).context("the head is no text")
}

fn framing(head: &str) -> anyhow::Result<Framing> {
    if let Some(length) = field(head, "content-length") {
        return Ok(Framing::Length(length.parse().context("no length")?));
    }
    match field(head, "transfer-encoding") {
        Some("chunked") => Ok(Framing::Chunks),
        _ => bail!("the answer's end cannot be found: {head}"),
    }
}

/// The last field of this name.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").filter_map(|line| line.split_once(": ")).fold(None, |found, (key, value)| {
        if key.eq_ignore_ascii_case(name) { Some(value) } else { found }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_found_when_it_is_whole() {
        assert_eq!(chunk(b"3\r\nab").unwrap(), None);
        assert_eq!(chunk(b"3\r\nabc\r\n0\r\n\r\n").unwrap(), Some((3..6, 8)));
        assert_eq!(chunk(b"0\r\n\r\n").unwrap(), Some((3..3, 5)));
        assert!(chunk(b"x\r\n").is_err());
    }

    #[test]
    fn framing_and_fields_are_read_from_a_head() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\na: 1\r\nA: 2\r\n\r\n";
        assert_eq!(framing(head).unwrap(), Framing::Length(12));
        assert_eq!(field(head, "a"), Some("2"));
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(framing(head).unwrap(), Framing::Chunks);
        assert!(framing("HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
