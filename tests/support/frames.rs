//! One HTTP/2 connection, frame by frame (RFC 9113): for what a real client or upstream never
//! does.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::PATIENCE;

/// Types of frames.
pub const DATA: u8 = 0;
/// A header block, or its beginning.
pub const HEADERS: u8 = 1;
/// The end of one stream.
pub const RST_STREAM: u8 = 3;
/// What one side asks of the other.
pub const SETTINGS: u8 = 4;
/// Asks for a sign of life.
pub const PING: u8 = 6;
/// The end of the connection.
pub const GOAWAY: u8 = 7;
/// Allows more to be sent.
pub const WINDOW_UPDATE: u8 = 8;
/// More of a header block.
pub const CONTINUATION: u8 = 9;

/// The flag of an answer to a setting or a ping.
pub const ACK: u8 = 1;
/// The flag of a stream's last frame.
pub const END_STREAM: u8 = 1;
/// The flag of a header block's last frame.
pub const END_HEADERS: u8 = 4;

/// The setting of a stream's window at its beginning.
pub const INITIAL_WINDOW_SIZE: u16 = 4;
/// The setting of how many streams there may be at once.
pub const MAX_CONCURRENT_STREAMS: u16 = 3;

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it came.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it holds.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The four bytes at `at` of the payload, as a number: an error code, say.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

/// A connection; every wait on it has a deadline.
#[derive(Debug)]
pub struct Frames {
    stream: TcpStream,
}

impl Frames {
    /// Connects, and says what a client says first.
    ///
    /// # Panics
    /// When there is nobody.
    pub async fn open(address: &str, settings: &[(u16, u32)]) -> Frames {
        let stream = TcpStream::connect(address);
        let stream = tokio::time::timeout(PATIENCE, stream).await.expect("a connection in time");
        let stream = stream.expect("a connection");
        let _ = stream.set_nodelay(true);
        let mut frames = Frames { stream };
        frames.send_bytes(PREFACE).await.expect("it reads");
        let setting = |(name, value): &(u16, u32)| {
            [&name.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()
        };
        let payload: Vec<u8> = settings.iter().flat_map(setting).collect();
        frames.send(SETTINGS, 0, 0, &payload).await.expect("it reads");
        frames
    }

    /// Takes a connection that was accepted, and says what a server says first.
    ///
    /// # Panics
    /// When the other side speaks something else.
    pub async fn accepted(mut stream: TcpStream) -> Frames {
        let mut preface = [0; 24];
        let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut preface)).await;
        read.expect("a preface in time").expect("a preface");
        assert_eq!(&preface, PREFACE);
        let _ = stream.set_nodelay(true);
        let mut frames = Frames { stream };
        frames.send(SETTINGS, 0, 0, &[]).await.expect("it reads");
        frames
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the other side has closed.
    pub async fn send(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        self.send_bytes(&frame(kind, flags, stream, payload)).await
    }

    /// Sends bytes that are no whole frame.
    ///
    /// # Errors
    /// When the other side has closed.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Asks for a path on a stream, with more fields.
    ///
    /// # Panics
    /// When the other side has closed.
    pub async fn get(&mut self, stream: u32, path: &str, fields: &[(&str, &str)]) {
        let block = header_block(path, fields);
        let sent = self.send(HEADERS, END_HEADERS | END_STREAM, stream, &block).await;
        sent.expect("it reads");
    }

    /// The next frame, or nothing if the connection has ended, cleanly or not.
    ///
    /// # Panics
    /// When neither comes in time.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        let read = tokio::time::timeout(PATIENCE, self.stream.read_exact(&mut header)).await;
        read.expect("something comes in time, or the end").ok()?;
        let [a, b, c, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        let read = tokio::time::timeout(PATIENCE, self.stream.read_exact(&mut payload)).await;
        read.expect("the rest comes in time, or the end").ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// The next frame of this type on this stream; others are read over.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn expect(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.next().await;
            let frame = frame.unwrap_or_else(|| panic!("the end, and no frame of type {kind}"));
            if (frame.kind, frame.stream) == (kind, stream) {
                return frame;
            }
            assert!(frame.kind != GOAWAY, "told to go: {frame:?}");
        }
    }

    /// Reads until a frame of this type on this stream has come, or the other side closes; gives
    /// the frames that came.
    pub async fn rest_or(&mut self, kind: u8, stream: u32) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            let is_last = (frame.kind, frame.stream) == (kind, stream);
            frames.push(frame);
            if is_last {
                break;
            }
        }
        frames
    }

    /// Reads until the other side closes; gives the frames that came.
    pub async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}

/// The bytes of a frame.
///
/// # Panics
/// When the payload is longer than a frame can be.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it fits").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A GET of a path from `cache`, in the plainest form that HPACK (RFC 7541) has.
#[must_use]
pub fn header_block(path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    const GET: u8 = 0x82;
    const HTTP: u8 = 0x86;
    const PATH_NAME: u8 = 0x04;
    const AUTHORITY_NAME: u8 = 0x01;
    let mut block = vec![GET, HTTP, PATH_NAME];
    push_text(&mut block, path);
    block.push(AUTHORITY_NAME);
    push_text(&mut block, "cache");
    push_fields(&mut block, fields);
    block
}

/// The head of a 200 with these fields, in the same form.
#[must_use]
pub fn answer_block(fields: &[(&str, &str)]) -> Vec<u8> {
    const OK: u8 = 0x88;
    let mut block = vec![OK];
    push_fields(&mut block, fields);
    block
}

/// Fields that no table is to remember (RFC 7541 section 6.2.2).
fn push_fields(block: &mut Vec<u8>, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        block.push(0);
        push_text(block, name);
        push_text(block, value);
    }
}

/// A string with its length in front (RFC 7541 sections 5.1 and 5.2), not compressed.
fn push_text(block: &mut Vec<u8>, text: &str) {
    const PREFIX_MAX: usize = 127;
    let byte = |number: usize| u8::try_from(number).expect("it fits");
    if text.len() < PREFIX_MAX {
        block.push(byte(text.len()));
    } else {
        block.push(byte(PREFIX_MAX));
        let mut rest = text.len() - PREFIX_MAX;
        while rest >= 128 {
            block.push(byte(rest % 128 + 128));
            rest /= 128;
        }
        block.push(byte(rest));
    }
    block.extend(text.as_bytes());
}
