//! A connection's bytes, watched on their way: [`Outgoing`] next to the socket, where it shows
//! whether the caller takes anything; [`Incoming`] above TLS, where it shows what was asked.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::activity::Activity;
use super::frames::Frames;

/// A socket that notes how writes go.
#[derive(Debug)]
pub(super) struct Outgoing {
    socket: TcpStream,
    activity: Arc<Activity>,
}

impl Outgoing {
    pub(super) fn new(socket: TcpStream, activity: Arc<Activity>) -> Outgoing {
        Outgoing { socket, activity }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.write_waits.set(written.is_pending());
        written
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if self.activity.broke_off.load(Ordering::Relaxed) {
            // The caller sees a reset, and cannot take what it has for the whole.
            let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Outgoing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Outgoing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// A stream that notes when a header begins, and gives bytes again that were read to tell its
/// protocol.
#[derive(Debug)]
pub(super) struct Incoming<S> {
    stream: S,
    activity: Arc<Activity>,
    again: Bytes,
    /// Of an HTTP/2 connection.
    frames: Option<Frames>,
}

impl<S> Incoming<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Incoming<S> {
        Incoming { stream, activity, again: Bytes::new(), frames: None }
    }

    /// These bytes come again at the next read.
    pub(super) fn give_again(&mut self, bytes: Bytes) {
        self.again = bytes;
    }

    /// From its first byte on it is HTTP/2.
    pub(super) fn follow_frames(&mut self) {
        self.activity.header.set(false);
        self.frames = Some(Frames::default());
    }

    fn note(&mut self, bytes: &[u8]) {
        let activity = &self.activity;
        match &mut self.frames {
            Some(frames) => frames.follow(bytes, |open| activity.header.set(open)),
            // Between two answers of HTTP/1.1, whatever comes is a header.
            None if !bytes.is_empty() && !activity.is_answering() => activity.header.set(true),
            None => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Incoming<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let count = self.again.len().min(buffer.remaining());
        buffer.put_slice(&self.again[..count]);
        self.again.advance(count);
        // What was read ahead is the beginning of what has come, and most often not all of it.
        let read = Pin::new(&mut self.stream).poll_read(context, buffer)?;
        if count == 0 {
            ready!(read);
        }
        self.note(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Incoming<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::frames::PREFACE;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Both ends of a connection, ours watched.
    async fn connection(activity: &Arc<Activity>) -> (Outgoing, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let callers = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        (Outgoing::new(ours, Arc::clone(activity)), callers)
    }

    #[tokio::test]
    async fn a_write_that_waits_is_noted_until_the_caller_takes_something() {
        const MORE_THAN_SOCKETS_HOLD: usize = 64 << 20;
        let activity = Arc::new(Activity::default());
        let (mut outgoing, mut callers) = connection(&activity).await;
        outgoing.write_all(b"little").await.unwrap();
        assert!(!activity.write_waits.look().on);
        let writing = tokio::spawn(async move {
            outgoing.write_all(&vec![0; MORE_THAN_SOCKETS_HOLD]).await.map(|()| outgoing)
        });
        while !activity.write_waits.look().on {
            tokio::task::yield_now().await;
        }
        let mut taken = vec![0; 6 + MORE_THAN_SOCKETS_HOLD];
        callers.read_exact(&mut taken).await.unwrap();
        let _outgoing = writing.await.unwrap().unwrap();
        assert!(!activity.write_waits.look().on);
    }

    #[tokio::test]
    async fn a_connection_whose_answer_broke_off_is_reset() {
        for broke_off in [false, true] {
            let activity = Arc::new(Activity::default());
            let (mut outgoing, mut callers) = connection(&activity).await;
            outgoing.write_all(b"some").await.unwrap();
            callers.read_exact(&mut [0; 4]).await.unwrap();
            activity.broke_off.store(broke_off, Ordering::Relaxed);
            drop(outgoing);
            assert_eq!(callers.read(&mut [0; 1]).await.is_err(), broke_off);
        }
    }

    #[tokio::test]
    async fn a_header_begins_with_any_byte_unless_something_is_answered() {
        let activity = Arc::new(Activity::default());
        let mut incoming = Incoming::new(&b"GETbody"[..], Arc::clone(&activity));
        incoming.read_exact(&mut [0; 3]).await.unwrap();
        assert!(activity.header.look().on);
        activity.header.set(false);
        let _answering = activity.exchange().begin();
        incoming.read_exact(&mut [0; 4]).await.unwrap();
        assert!(!activity.header.look().on);
    }

    #[tokio::test]
    async fn bytes_that_are_given_again_come_first_and_count_for_http2() {
        let activity = Arc::new(Activity::default());
        let ping = b"\0\0\x08\x06\0\0\0\0\x0012345678";
        let headers = b"\0\0\x05\x01\x04\0\0\0\x01";
        let rest = [&PREFACE[10..], ping, headers].concat();
        let mut incoming = Incoming::new(&rest[..], Arc::clone(&activity));
        incoming.give_again(Bytes::copy_from_slice(&PREFACE[..10]));
        incoming.follow_frames();
        let mut came = [0; 24];
        incoming.read_exact(&mut came).await.unwrap();
        assert_eq!(&came, PREFACE);
        incoming.read_exact(&mut [0; 17]).await.unwrap();
        assert!(!activity.header.look().on, "a PING is no header");
        incoming.read_exact(&mut [0; 9]).await.unwrap();
        assert!(activity.header.look().on);
    }
}
