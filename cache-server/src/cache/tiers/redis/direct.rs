//! Direct reads: connections that carry one call at a time, each by whoever asks.
//!
//! On the library's connections a call goes to the task that writes for all and comes back from it, and
//! the answer is parsed as whatever it might be. Here the caller writes to the socket and reads from it,
//! into a buffer of the value's size.
//!
//! A call has its connection for itself, and gives it back when it has read its answer to the end. Where
//! it ends before that, as at its deadline, the connection ends with it: no answer is ever left for the
//! next one. Nobody waits for a connection and nobody makes one on the way: where none is idle the call
//! goes over the library's, and the keeper of the link makes those anew that are gone.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BufMut;
use redis::aio::MultiplexedConnection;
use redis::{Client, Cmd, ConnectionAddr, ErrorKind, RedisError, RedisResult};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::answer::{self, Said};
use super::connect;

/// What a connection is read from at once while the length of an answer is not known yet. Most answers
/// come whole with that.
const BUFFER_BYTES: usize = 16 << 10;
/// What is behind a value.
const END: &[u8] = b"\r\n";

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Direct {
    client: Client,
    /// How many there are at most.
    count_max: usize,
    /// Each holds it once more, those under way too: so they are counted.
    count: Arc<()>,
    /// Those that nobody uses. The one used last is on top: it is the likeliest to be open.
    idle: Mutex<Vec<Line>>,
}

impl Direct {
    /// Up to so many connections to where this client leads: none yet. Nothing where TLS is spoken.
    #[must_use]
    pub(super) fn to(client: &Client, count_max: usize) -> Option<Direct> {
        matches!(client.get_connection_info().addr(), ConnectionAddr::Tcp(..)).then(|| Direct {
            client: client.clone(),
            count_max,
            count: Arc::default(),
            idle: Mutex::new(Vec::with_capacity(count_max)),
        })
    }

    /// Makes those that are missing, one after the other: those that stand are of use at once. No two may
    /// do it at a time.
    ///
    /// # Errors
    /// The first that did not stand in time. The others are left for later.
    pub(super) async fn fill(&self) -> RedisResult<()> {
        let missing = self.count_max.saturating_sub(Arc::strong_count(&self.count) - 1);
        for _ in 0..missing {
            let stream = connect::in_time(greeted(&self.client)).await?;
            self.idle().push(Line::of(stream, Arc::clone(&self.count)));
        }
        Ok(())
    }

    /// Sends a command that asks for a value of this many bytes at most, and waits for the answer: the
    /// value, empty where there is none. It has no deadline. Nothing if no connection is idle, or Redis
    /// had closed the one that was: then another way is to be taken.
    ///
    /// # Errors
    /// What Redis or the connection says.
    pub(super) async fn call(
        &self,
        command: &Cmd,
        value_bytes_max: usize,
    ) -> RedisResult<Option<Vec<u8>>> {
        let Some(mut line) = self.take() else { return Ok(None) };
        match line.call(command, value_bytes_max).await {
            Ok(answered) => {
                self.idle().push(line);
                answered.map(Some)
            }
            Err(Unanswered::Closed) => Ok(None),
            Err(Unanswered::Broken(error)) => Err(error),
        }
    }

    /// One that is idle. Where there is something to be read from it, Redis has closed it, or says what
    /// nobody has asked for: it is let go.
    fn take(&self) -> Option<Line> {
        loop {
            let line = self.idle().pop()?;
            if line.is_silent() {
                return Some(line);
            }
        }
    }

    /// How many nobody uses.
    #[cfg(test)]
    pub(super) fn idle_count(&self) -> usize {
        self.idle().len()
    }

    /// Never held for longer than it takes to put one there or take one away.
    fn idle(&self) -> MutexGuard<'_, Vec<Line>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection on which the library has said what is to be said first: user and password, the database.
async fn greeted(client: &Client) -> RedisResult<TcpStream> {
    let info = client.get_connection_info();
    let ConnectionAddr::Tcp(host, port) = info.addr() else { return Err(broken("not over TCP")) };
    let stream = connect::socket(host, *port).await?.into_std()?;
    // The library keeps what it is given: so it gets another handle on the same socket.
    let lent = TcpStream::from_std(stream.try_clone()?)?;
    drop(MultiplexedConnection::new(info.redis_settings(), lent).await?);
    Ok(TcpStream::from_std(stream)?)
}

/// Why a call was not answered. The connection is of no use any more.
#[derive(Debug)]
enum Unanswered {
    /// It was closed before a byte came.
    Closed,
    /// It was cut later, or what came is no answer.
    Broken(RedisError),
}

impl From<RedisError> for Unanswered {
    fn from(error: RedisError) -> Unanswered {
        Unanswered::Broken(error)
    }
}

/// One connection.
#[derive(Debug)]
struct Line {
    stream: TcpStream,
    /// The command, and then how its answer begins.
    buffer: Vec<u8>,
    /// It counts for as long as it is there.
    _counted: Arc<()>,
}

impl Line {
    fn of(stream: TcpStream, counted: Arc<()>) -> Line {
        Line { stream, buffer: Vec::with_capacity(BUFFER_BYTES), _counted: counted }
    }

    /// Whether nothing has come, not even its end. It costs no call of the system in nearly all cases.
    fn is_silent(&self) -> bool {
        let looked = self.stream.try_read(&mut [0]);
        looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a command and reads its answer to the end: a value, or an error of Redis's.
    async fn call(
        &mut self,
        command: &Cmd,
        value_bytes_max: usize,
    ) -> Result<RedisResult<Vec<u8>>, Unanswered> {
        self.buffer.clear();
        command.write_packed_command(&mut self.buffer);
        self.stream.write_all(&self.buffer).await.map_err(|_closed| Unanswered::Closed)?;
        let (said, line_bytes) = self.first_line(value_bytes_max).await?;
        let answered = match said {
            Said::Value(bytes) => return Ok(Ok(self.value(line_bytes, bytes).await?)),
            Said::Absent => Ok(Vec::new()),
            Said::Error => Err(error_of(&self.buffer[..line_bytes])),
        };
        if self.buffer.len() > line_bytes {
            return Err(broken("more than an answer").into());
        }
        Ok(answered)
    }

    /// What an answer begins with, and how many bytes of the buffer say it. More of the answer may be
    /// behind them.
    async fn first_line(&mut self, value_bytes_max: usize) -> Result<(Said, usize), Unanswered> {
        self.buffer.clear();
        loop {
            // A line is shorter than the buffer, so that there is always room.
            let room = BUFFER_BYTES.saturating_sub(self.buffer.len());
            let read = self.stream.read_buf(&mut (&mut self.buffer).limit(room)).await;
            match read {
                Ok(1..) => {}
                _ if self.buffer.is_empty() => return Err(Unanswered::Closed),
                Ok(0) => return Err(cut().into()),
                Err(error) => return Err(RedisError::from(error).into()),
            }
            match answer::first_line(&self.buffer, value_bytes_max) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(why) => return Err(broken(why).into()),
            }
        }
    }

    /// The value behind a first line.
    async fn value(&mut self, line_bytes: usize, bytes: usize) -> RedisResult<Vec<u8>> {
        let come = &self.buffer[line_bytes..];
        let all_bytes = bytes + END.len();
        if come.len() > all_bytes {
            return Err(broken("more than an answer"));
        }
        let mut value = Vec::with_capacity(all_bytes);
        value.extend_from_slice(come);
        while value.len() < all_bytes {
            let left = all_bytes - value.len();
            if self.stream.read_buf(&mut (&mut value).limit(left)).await? == 0 {
                return Err(cut());
            }
        }
        if !value.ends_with(END) {
            return Err(broken("a value with another end"));
        }
        value.truncate(bytes);
        Ok(value)
    }
}

/// The library's error for a line that is one, so that it means what it means on its connections.
fn error_of(line: &[u8]) -> RedisError {
    let parsed = redis::parse_redis_value(line).and_then(redis::Value::extract_error);
    parsed.err().unwrap_or_else(|| broken("an error that is none"))
}

fn broken(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Parse, why))
}

fn cut() -> RedisError {
    RedisError::from(io::Error::from(io::ErrorKind::UnexpectedEof))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const MAX: usize = 100_000;
    /// What nothing here takes.
    const SOON: Duration = Duration::from_secs(10);

    /// Direct connections, and where they lead.
    struct Fake {
        direct: Direct,
        listener: TcpListener,
    }

    impl Fake {
        async fn start(url: &str, count_max: usize) -> Fake {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let info: redis::ConnectionInfo = redis::IntoConnectionInfo::into_connection_info(
                url.replace("PORT", &port.to_string()),
            )
            .unwrap();
            let settings = info.redis_settings().clone().set_skip_set_lib_name();
            let client = Client::open(info.set_redis_settings(settings)).unwrap();
            Fake { direct: Direct::to(&client, count_max).unwrap(), listener }
        }

        /// One with a connection, and the other end of it.
        async fn with_one() -> (Fake, TcpStream) {
            let fake = Fake::start("redis://127.0.0.1:PORT", 1).await;
            fake.direct.fill().await.unwrap();
            let (peer, _) = fake.listener.accept().await.unwrap();
            (fake, peer)
        }

        fn idle(&self) -> usize {
            self.direct.idle_count()
        }

        async fn call(&self) -> RedisResult<Option<Vec<u8>>> {
            timeout(SOON, self.direct.call(&command(), MAX)).await.expect("no call hangs")
        }
    }

    fn command() -> Cmd {
        let mut command = redis::cmd("GETRANGE");
        command.arg("name").arg(0).arg(MAX - 1);
        command
    }

    /// Waits for one call, as it is to be, and answers it with these pieces, each by itself.
    async fn answer(peer: &mut TcpStream, pieces: &[&[u8]]) {
        let mut asked = vec![0; command().get_packed_command().len()];
        peer.read_exact(&mut asked).await.unwrap();
        assert_eq!(asked, command().get_packed_command());
        peer.set_nodelay(true).unwrap();
        for piece in pieces {
            // Who does not listen any more has heard enough.
            let _ = peer.write_all(piece).await;
            tokio::task::yield_now().await;
        }
    }

    /// What a call comes to that is answered so, and whether the connection may be used again.
    async fn answered(pieces: &[&[u8]], then_closed: bool) -> (RedisResult<Option<Vec<u8>>>, bool) {
        let (fake, mut peer) = Fake::with_one().await;
        let peer = async {
            answer(&mut peer, pieces).await;
            (!then_closed).then_some(peer)
        };
        let (came_to, _peer) = tokio::join!(fake.call(), peer);
        (came_to, fake.idle() == 1)
    }

    fn value(bytes: usize) -> Vec<u8> {
        (0..=255).cycle().take(bytes).collect()
    }

    fn bulk(value: &[u8]) -> Vec<u8> {
        [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
    }

    fn kind(error: &RedisError) -> &'static str {
        super::super::fault::of_call(error).0
    }

    #[tokio::test]
    async fn a_value_of_any_size_is_read_and_the_connection_used_again() {
        let (fake, mut peer) = Fake::with_one().await;
        for bytes in [0, 1, 3300, BUFFER_BYTES - 8, BUFFER_BYTES, BUFFER_BYTES + 1, MAX] {
            let all = bulk(&value(bytes));
            let pieces = [&all[..]];
            let (came_to, ()) = tokio::join!(fake.call(), answer(&mut peer, &pieces));
            assert_eq!(came_to.unwrap(), Some(value(bytes)));
            assert_eq!(fake.idle(), 1, "{bytes}");
        }
    }

    #[tokio::test]
    async fn an_answer_may_come_in_pieces_of_any_size() {
        let all = bulk(&value(20_000));
        for piece_bytes in [1000, 7, 16_384] {
            let mut pieces: Vec<&[u8]> = all[..5].chunks(1).collect();
            pieces.extend(all[5..].chunks(piece_bytes));
            let (came_to, is_idle) = answered(&pieces, false).await;
            assert_eq!((came_to.unwrap(), is_idle), (Some(value(20_000)), true));
        }
    }

    #[tokio::test]
    async fn no_value_is_an_empty_one() {
        let (came_to, is_idle) = answered(&[b"$-1\r\n"], false).await;
        assert_eq!((came_to.unwrap(), is_idle), (Some(Vec::new()), true));
    }

    #[tokio::test]
    async fn errors_of_redis_mean_what_they_mean_on_the_librarys_connections() {
        for (line, means) in [
            (&b"-NOAUTH Authentication required.\r\n"[..], "auth"),
            (b"-WRONGPASS invalid username-password pair\r\n", "auth"),
            (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
            (b"-READONLY You can't write against a read only replica.\r\n", "read-only"),
            (b"-NOPERM this user has no permissions\r\n", "no-permission"),
            (b"-MASTERDOWN Link with MASTER is down\r\n", "cluster-down"),
            (b"-WRONGTYPE Operation against a key of another kind\r\n", "foreign"),
            (b"-OOM command not allowed\r\n", "full"),
            (b"-ERR unknown command\r\n", "refused"),
            (b"-\r\n", "refused"),
        ] {
            let (came_to, is_idle) = answered(&[line], false).await;
            let error = came_to.unwrap_err();
            assert_eq!((kind(&error), is_idle), (means, true), "{}", line.escape_ascii());
        }
    }

    #[tokio::test]
    async fn what_is_cut_or_no_answer_is_a_fault_and_ends_the_connection() {
        let long = vec![b'x'; BUFFER_BYTES];
        for (pieces, then_closed) in [
            (&[&b"$5\r\nhel"[..]][..], true),
            (&[b"$5\r\nhello"], true),
            (&[b"$50000\r\n", &long], true),
            (&[b"$"], true),
            (&[b"-ERR cut"], true),
            (&[b"$5\r\nhelloXY"], false),
            (&[b"$5\r\nhello\r\n$1\r\nx\r\n"], false),
            (&[b"$-1\r\n$-1\r\n"], false),
            (&[b"-ERR one\r\n-ERR two\r\n"], false),
            (&[b"$100001\r\n"], false),
            (&[b"$18446744073709551616\r\n"], false),
            (&[b"+OK\r\n"], false),
            (&[b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n"], false),
            (&[b"-", &long], false),
            (&[b"\x00\xff"], false),
        ] {
            let said: Vec<u8> = pieces.concat().into_iter().take(40).collect();
            let (came_to, is_idle) = answered(pieces, then_closed).await;
            let error = came_to.expect_err(&said.escape_ascii().to_string());
            assert_eq!((kind(&error), is_idle), ("broken", false), "{}", said.escape_ascii());
        }
    }

    #[tokio::test]
    async fn a_connection_that_closes_before_it_answers_leaves_the_call_to_another() {
        // While it was idle, and while it was asked.
        let (fake, peer) = Fake::with_one().await;
        drop(peer);
        assert_eq!(fake.call().await.unwrap(), None);
        let (came_to, is_idle) = answered(&[], true).await;
        assert_eq!((came_to.unwrap(), is_idle), (None, false));
    }

    #[tokio::test]
    async fn what_nobody_asked_for_is_nobodys_answer() {
        let (fake, mut peer) = Fake::with_one().await;
        peer.write_all(&bulk(b"of another")).await.unwrap();
        let line = fake.direct.idle().pop().unwrap();
        line.stream.readable().await.unwrap();
        fake.direct.idle().push(line);
        assert_eq!((fake.call().await.unwrap(), fake.idle()), (None, 0));
    }

    #[tokio::test]
    async fn a_call_that_ends_early_takes_its_connection_with_it() {
        let (fake, mut peer) = Fake::with_one().await;
        for late in [&b""[..], b"$5", b"$5\r\nhe"] {
            let mut calling = Box::pin(fake.call());
            let partly = async {
                answer(&mut peer, &[late]).await;
                tokio::task::yield_now().await;
            };
            tokio::select! {
                biased;
                came_to = &mut calling => panic!("{came_to:?}"),
                () = partly => {}
            }
            drop(calling);
            assert_eq!(fake.idle(), 0);
            assert_eq!(peer.read(&mut [0]).await.ok().filter(|bytes| *bytes > 0), None);
            fake.direct.fill().await.unwrap();
            (peer, _) = fake.listener.accept().await.unwrap();
            let (came_to, ()) = tokio::join!(fake.call(), answer(&mut peer, &[b"$1\r\nx\r\n"]));
            assert_eq!(came_to.unwrap(), Some(b"x".to_vec()));
        }
    }

    #[tokio::test]
    async fn there_are_never_more_connections_than_there_may_be() {
        let fake = Fake::start("redis://127.0.0.1:PORT", 3).await;
        assert_eq!(fake.call().await.unwrap(), None, "there is none yet");
        fake.direct.fill().await.unwrap();
        assert_eq!(fake.idle(), 3);
        let busy = fake.direct.take().unwrap();
        fake.direct.fill().await.unwrap();
        assert_eq!(fake.idle(), 2, "one is under way");
        drop(busy);
        fake.direct.fill().await.unwrap();
        assert_eq!(fake.idle(), 3);
        let (_first, _second, _third) =
            (fake.direct.take(), fake.direct.take(), fake.direct.take());
        assert_eq!(fake.call().await.unwrap(), None, "all are under way");
    }

    #[tokio::test]
    async fn user_password_and_database_are_said_first() {
        let fake = Fake::start("redis://kim:secret@127.0.0.1:PORT/3", 1).await;
        let expected =
            "*3\r\n$4\r\nAUTH\r\n$3\r\nkim\r\n$6\r\nsecret\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n";
        for (answer, means) in [
            ("+OK\r\n+OK\r\n", None),
            ("-WRONGPASS invalid username-password pair\r\n-NOAUTH no\r\n", Some("auth")),
        ] {
            let (filled, _peer) = tokio::join!(fake.direct.fill(), async {
                let (mut peer, _) = fake.listener.accept().await.unwrap();
                let mut said = vec![0; expected.len()];
                peer.read_exact(&mut said).await.unwrap();
                assert_eq!(String::from_utf8(said).unwrap(), expected);
                peer.write_all(answer.as_bytes()).await.unwrap();
                peer
            });
            assert_eq!(filled.as_ref().err().map(kind), means);
            assert_eq!(fake.idle(), usize::from(means.is_none()));
            fake.direct.idle().clear();
        }
    }

    #[test]
    fn over_tls_there_are_none() {
        let tls = redis::ConnectionAddr::TcpTls {
            host: "redis".into(),
            port: 1,
            insecure: false,
            tls_params: None,
        };
        let info = redis::IntoConnectionInfo::into_connection_info(tls).unwrap();
        assert!(Direct::to(&Client::open(info).unwrap(), 1).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_an_answer_or_a_fault(
            start in "([$-][0-9]{0,6}(\r\n)?)?",
            more in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0_usize..200,
        ) {
            let all = [start.as_bytes(), &more].concat();
            let (first, second) = all.split_at(cut.min(all.len()));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (came_to, is_idle) = runtime.block_on(answered(&[first, second], true));
            match came_to {
                Ok(None) => prop_assert!(all.is_empty() && !is_idle),
                Ok(Some(value)) => prop_assert!(is_idle && all.len() > value.len()),
                Err(error) => prop_assert_eq!(is_idle, kind(&error) != "broken"),
            }
        }
    }
}
