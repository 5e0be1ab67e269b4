//! The short way on an HTTP/1.1 connection, below hyper: a request that came before, byte for byte, is
//! answered before it is parsed ([`repeat`]). All others are handed to hyper, and never look as if
//! anything stood below it.
//!
//! Both read from one stream and write to it, so that at any time only one of them may. It is this
//! one's turn between two exchanges: when hyper was given exactly one request, has answered it, and
//! has flushed. Then it has nothing left of what it read, and nothing to write. Whether it was exactly
//! one request must be beyond doubt; where it is not (a chunked body, a header in pieces, requests
//! behind each other, an upgrade), the rest of the connection is hyper's.
//!
//! What is read here is never more than [`REQUEST_BYTES_MAX`], and goes on at once: it is read into a
//! buffer that all connections of a thread share, and only what hyper is to read takes memory of its
//! own, no more than it fills.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::wire::Incoming;
use crate::app::App;
use crate::cache::repeats::REQUEST_BYTES_MAX;
use crate::request::repeat;
use crate::request::respond::Written;

thread_local! {
    /// What a connection reads into, for as long as it looks at that.
    static READ: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; REQUEST_BYTES_MAX].into_boxed_slice());
}

/// A connection's stream, as hyper sees it.
#[derive(Debug)]
pub(super) struct Lane<S> {
    incoming: Incoming<S>,
    activity: Arc<Activity>,
    app: Option<Arc<App>>,
    turn: Turn,
    /// What hyper reads next.
    handed: Bytes,
    /// What came together with a request that was answered here, and has not been looked at.
    rest: Bytes,
    /// What is being written.
    answer: Option<Written>,
    /// Hyper wants to read, and was told to wait until it has flushed.
    is_waited_for: bool,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// This one's: the stream is between two exchanges.
    Ours,
    /// Hyper's, for one request of which so many bytes are still to be read.
    Handed { left: u64 },
    /// Hyper's, to the end of the connection.
    GivenUp,
}

impl<S> Lane<S> {
    /// A lane for the requests that `app` knows; without one, all is hyper's.
    pub(super) fn new(
        incoming: Incoming<S>,
        activity: Arc<Activity>,
        app: Option<Arc<App>>,
    ) -> Lane<S> {
        let turn = if app.is_some() { Turn::Ours } else { Turn::GivenUp };
        let (handed, rest) = (Bytes::new(), Bytes::new());
        Lane { incoming, activity, app, turn, handed, rest, answer: None, is_waited_for: false }
    }

    /// Answers the first request in these bytes, if it came before, and says how far it reaches; else
    /// how it is framed.
    fn answer_first(&mut self, bytes: &[u8]) -> Result<usize, Framing> {
        if self.answer(bytes) {
            return Ok(bytes.len());
        }
        match framing(bytes) {
            // More of them came at once.
            Framing::Whole(first) if first < bytes.len() && self.answer(&bytes[..first]) => {
                Ok(first)
            }
            framing => Err(framing),
        }
    }

    /// Answers the request that these bytes are, if it came before.
    fn answer(&mut self, bytes: &[u8]) -> bool {
        let Some(app) = &self.app else { return false };
        self.answer = repeat::answer(app, bytes);
        if self.answer.is_some() {
            self.activity.answered_at_once();
        }
        self.answer.is_some()
    }

    fn hand_over(&mut self, bytes: Bytes, framing: Framing) {
        self.turn = match framing {
            Framing::Whole(count) if count == bytes.len() => {
                self.activity.set_raw(bytes.clone());
                Turn::Handed { left: 0 }
            }
            Framing::Begun { left } => Turn::Handed { left },
            Framing::Whole(_) | Framing::Unclear => Turn::GivenUp,
        };
        self.handed = bytes;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Lane<S> {
    /// Takes this one's turn until there is something for hyper. Says false at the end of the stream.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            ready!(self.poll_answer(context))?;
            if !self.rest.is_empty() {
                self.take_rest();
            } else if ready!(self.poll_take(context))? == 0 {
                return Poll::Ready(Ok(false));
            }
            if self.answer.is_none() {
                return Poll::Ready(Ok(true));
            }
        }
    }

    /// Reads, and takes what came: the first request, or all of it for hyper. Says how much it was.
    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.incoming).poll_read(context, &mut buffer))?;
            let read = buffer.filled();
            if read.is_empty() {
                return Poll::Ready(Ok(0));
            }
            match self.answer_first(read) {
                Ok(count) => self.rest = Bytes::copy_from_slice(&read[count..]),
                Err(framing) => self.hand_over(Bytes::copy_from_slice(read), framing),
            }
            Poll::Ready(Ok(read.len()))
        })
    }

    /// Takes what came together with the last request.
    fn take_rest(&mut self) {
        let mut rest = std::mem::take(&mut self.rest);
        match self.answer_first(&rest) {
            Ok(count) if count < rest.len() => {
                rest.advance(count);
                self.rest = rest;
            }
            // Nothing is kept of what is empty, least of all its memory.
            Ok(_) => {}
            Err(framing) => {
                // What was answered was taken for all that had come.
                self.activity.header.set(true);
                self.hand_over(rest, framing);
            }
        }
    }

    /// Writes the answer, if there is one.
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(answer) = &mut self.answer else { return Poll::Ready(Ok(())) };
        while !answer.is_sent() {
            let incoming = Pin::new(&mut self.incoming);
            let left = answer.left();
            let count = ready!(match left {
                [head, body] if body.is_empty() => incoming.poll_write(context, &head),
                _ => incoming.poll_write_vectored(context, &left),
            })?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            answer.advance(count);
        }
        ready!(Pin::new(&mut self.incoming).poll_flush(context))?;
        self.answer = None;
        Poll::Ready(Ok(()))
    }

    /// Reads what hyper wants of the request that it has.
    fn poll_handed(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        left: u64,
    ) -> Poll<io::Result<()>> {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.incoming).poll_read(context, &mut part))?;
        let count = part.filled().len();
        buffer.advance(count);
        self.turn = Turn::Handed { left: left - count as u64 };
        Poll::Ready(Ok(()))
    }

    /// Reads while hyper answers, which it does to see whether the caller is gone.
    fn poll_ahead(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.incoming).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.turn = Turn::GivenUp;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Lane<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.turn == Turn::Ours && !ready!(self.poll_turn(context))? {
            return Poll::Ready(Ok(()));
        }
        if !self.handed.is_empty() {
            let count = self.handed.len().min(buffer.remaining());
            buffer.put_slice(&self.handed[..count]);
            self.handed.advance(count);
            if self.handed.is_empty() {
                // It would keep the memory of what it was.
                self.handed = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        match self.turn {
            Turn::Handed { left: 0 } if self.activity.is_answering() => {
                self.poll_ahead(context, buffer)
            }
            Turn::Handed { left: 0 } | Turn::Ours => {
                self.is_waited_for = true;
                Poll::Pending
            }
            Turn::Handed { left } => self.poll_handed(context, buffer, left),
            Turn::GivenUp => Pin::new(&mut self.incoming).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lane<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.incoming).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.incoming).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.incoming.is_write_vectored()
    }

    /// Hyper flushes the stream once it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.incoming).poll_flush(context))?;
        let is_done = self.turn == Turn::Handed { left: 0 }
            && self.handed.is_empty()
            && !self.activity.is_answering();
        if is_done {
            self.turn = Turn::Ours;
            if std::mem::take(&mut self.is_waited_for) {
                context.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Hyper takes the stream to be idle while an answer is written here.
        ready!(self.poll_answer(context))?;
        Pin::new(&mut self.incoming).poll_shutdown(context)
    }
}

/// How far a request reaches in some bytes that begin with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// So many of them are the request.
    Whole(usize),
    /// All of them are of the request, and so many more will be.
    Begun { left: u64 },
    /// It is not beyond doubt.
    Unclear,
}

/// Looks how far the request reaches: what is clear to the strictest reader alone (RFC 9112 sections
/// 2.2, 3, 5 and 6).
fn framing(bytes: &[u8]) -> Framing {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = memmem::find(bytes, END) else { return Framing::Unclear };
    let Some(content) = content_bytes(&bytes[..end]) else { return Framing::Unclear };
    let have = (bytes.len() - end - END.len()) as u64;
    match usize::try_from(content) {
        Ok(content_bytes) if content <= have => Framing::Whole(end + END.len() + content_bytes),
        _ => Framing::Begun { left: content - have },
    }
}

/// How long the content is that a header declares, of which this is all but its end; nothing where
/// anyone could read it otherwise.
fn content_bytes(head: &[u8]) -> Option<u64> {
    let mut lines = Lines(Some(head));
    let first = lines.next()??;
    if !first.ends_with(b" HTTP/1.1") || first.starts_with(b"CONNECT") {
        return None;
    }
    let mut content = None;
    for line in lines {
        let line = line?;
        let (name, value) = line.split_at(memchr::memchr(b':', line)?);
        if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
            return None;
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let declared = whole_number(value[1..].trim_ascii())?;
            content = Some(declared).filter(|_| content.is_none());
            content?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding")
            || name.eq_ignore_ascii_case(b"upgrade")
        {
            return None;
        }
    }
    Some(content.unwrap_or(0))
}

/// The lines of a header. One that a lone CR or LF could end elsewhere is none.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        let rest = self.0.take()?;
        let Some(end) = memchr::memchr2(b'\r', b'\n', rest) else { return Some(Some(rest)) };
        let (line, end) = rest.split_at(end);
        let Some(rest) = end.strip_prefix(b"\r\n") else { return Some(None) };
        self.0 = Some(rest);
        Some(Some(line))
    }
}

/// Digits alone, and not too many.
fn whole_number(digits: &[u8]) -> Option<u64> {
    const DIGITS_MAX: usize = 18;
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text =
        std::str::from_utf8(digits).ok().filter(|_| is_plain && digits.len() <= DIGITS_MAX)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(lines: &str, content: &str) -> Vec<u8> {
        format!("POST / HTTP/1.1\r\nhost: a\r\n{lines}\r\n{content}").into_bytes()
    }

    #[test]
    fn a_request_reaches_as_far_as_its_content() {
        let length = "content-length: 3\r\n";
        for (bytes, expected) in [
            (request("", ""), Framing::Whole(28)),
            (request(length, "abc"), Framing::Whole(50)),
            (request(length, "abcPOST"), Framing::Whole(50)),
            (request(length, "a"), Framing::Begun { left: 2 }),
            (request("Content-Length:0\r\n", ""), Framing::Whole(46)),
        ] {
            assert_eq!(framing(&bytes), expected, "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_unclear() {
        for lines in [
            "content-length: 3\r\ncontent-length: 3\r\n",
            "content-length: 3, 3\r\n",
            "content-length: +3\r\n",
            "content-length: 0x3\r\n",
            "content-length:\r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length : 3\r\n",
            "content-length: 3\n",
            "a: b\rcontent-length: 3\r\n",
            "a: b\r\n content-length: 3\r\n",
            "transfer-encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\ncontent-length: 3\r\n",
            "upgrade: websocket\r\n",
            "no colon\r\n",
            ": no name\r\n",
        ] {
            assert_eq!(framing(&request(lines, "abc")), Framing::Unclear, "{lines:?}");
        }
        for bytes in [
            &b"GET / HTTP/1.0\r\n\r\n"[..],
            b"GET / HTTP/1.1\n\n",
            b"\r\nGET / HTTP/1.1\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a\r\n",
            b"",
        ] {
            assert_eq!(framing(bytes), Framing::Unclear, "{}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_whole_is_read_so_by_the_parser_of_hyper(
            lines in prop::collection::vec("(a: b|content-length: ?[0-9]{0,2}|x:y| z: w|\\r|\\n|host: h)", 0..4),
            content in "[a-z]{0,12}",
        ) {
            let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let bytes = request(&lines, &content);
            if let Framing::Whole(count) = framing(&bytes) {
                let mut fields = [httparse::EMPTY_HEADER; 16];
                let mut parsed = httparse::Request::new(&mut fields);
                let head = parsed.parse(&bytes).unwrap().unwrap();
                let declared = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
                let declared = declared.map_or(0, |field| std::str::from_utf8(field.value).unwrap().parse().unwrap());
                prop_assert_eq!(count, head + declared);
            }
        }
    }
}
