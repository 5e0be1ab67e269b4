//! Reads through a link whose Redis does as it is told.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use metrics::{Counter, Gauge, Histogram};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::cache::tiers::redis::settings::Place;
use crate::cache::tiers::redis::value::Form;

/// What nothing here takes.
const LONG: Duration = Duration::from_secs(20);
/// What all keys are named here; probes are not.
const NAME: &[u8] = b"the-key";
/// The connections of a link with one of each kind: direct, to read, to write, for probes.
const ALL: usize = 4;

/// What becomes of the next read of the key. All others are answered.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Its connection is closed.
    Closed,
    /// It is never answered.
    Ignored,
}

/// A Redis that has the same value under every name.
struct Fake {
    fate: Fate,
    strikes: AtomicBool,
    connections: watch::Sender<usize>,
    /// Those that the link has not closed.
    open: watch::Sender<usize>,
    struck: AtomicUsize,
}

impl Fake {
    async fn serve(self: Arc<Fake>, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            self.connections.send_modify(|count| *count += 1);
            self.open.send_modify(|count| *count += 1);
            let fake = Arc::clone(&self);
            tokio::spawn(async move {
                fake.converse(stream).await;
                fake.open.send_modify(|count| *count -= 1);
            });
        }
    }

    /// Every call comes alone and whole: each side waits for the other.
    async fn converse(&self, mut stream: TcpStream) {
        let mut call = vec![0; 4096];
        while let Ok(bytes @ 1..) = stream.read(&mut call).await {
            let has = |word: &[u8]| call[..bytes].windows(word.len()).any(|part| part == word);
            let is_struck = has(NAME) && self.strikes.swap(false, Ordering::SeqCst);
            self.struck.fetch_add(usize::from(is_struck), Ordering::SeqCst);
            let answer = match self.fate {
                Fate::Closed if is_struck => return,
                Fate::Ignored if is_struck => continue,
                _ if has(b"GETRANGE") => "$5\r\nvalue\r\n",
                // The two calls by which the library says its name.
                _ => "+OK\r\n+OK\r\n",
            };
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

fn metrics() -> RedisMetrics {
    RedisMetrics {
        reads: std::array::from_fn(|_| Counter::noop()),
        written: Counter::noop(),
        write_failed: Counter::noop(),
        write_seconds: Histogram::noop(),
        drops: std::array::from_fn(|_| Counter::noop()),
        up: Gauge::noop(),
        breaker_open: Gauge::noop(),
        writes_paused: Gauge::noop(),
        queue_entries: Gauge::noop(),
        queue_bytes: Gauge::noop(),
        errors: Box::new(|_| {}),
    }
}

/// A link with all its connections, and its Redis, which deals this fate once it is told to.
async fn linked(fate: Fate) -> (Arc<Link>, Arc<Fake>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let settings = RedisSettings {
        address: Address::One(Place { host: "127.0.0.1".into(), port }),
        username: None,
        password: None,
        sentinel_password: None,
        database: 0,
        tls: None,
        prefix: "test".into(),
        deadline: LONG,
        write_deadline: LONG,
        connections: 1,
        form: Form { value_bytes_max: 100, compress_bytes_min: 0, entry_bytes_max: 100 },
        node: "test".into(),
        shared_flights: false,
        coherence_lifetime: LONG,
        write_queue_entries_max: 1,
        write_queue_bytes_max: 1,
    };
    let fake = Arc::new(Fake {
        fate,
        strikes: AtomicBool::new(false),
        connections: watch::Sender::new(0),
        open: watch::Sender::new(0),
        struck: AtomicUsize::new(0),
    });
    tokio::spawn(Arc::clone(&fake).serve(listener));
    let link = Arc::new(Link::new(&Arc::new(settings), "test:", Arc::new(metrics())));
    tokio::spawn(Arc::clone(&link).keep());
    has_direct(&link).await;
    assert_eq!(*fake.connections.borrow(), ALL);
    (link, fake)
}

/// Waits until the direct connection is idle.
async fn has_direct(link: &Link) {
    let is_there = async {
        loop {
            if link.lanes.load().as_ref().is_some_and(|lanes| {
                lanes.direct.as_ref().is_some_and(|direct| direct.idle_count() == 1)
            }) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, is_there).await.expect("a direct connection");
}

async fn read(link: &Link, within: Duration) -> Result<Vec<u8>, TierError> {
    let mut command = redis::cmd("GETRANGE");
    command.arg(NAME).arg(0).arg(99);
    link.read(NAME, &command, 100, tokio::time::Instant::now() + within).await
}

#[tokio::test]
async fn a_read_whose_connection_redis_has_closed_is_answered_over_another() {
    let (link, fake) = linked(Fate::Closed).await;
    fake.strikes.store(true, Ordering::SeqCst);
    assert_eq!(read(&link, LONG).await.unwrap(), b"value");
    assert_eq!(fake.struck.load(Ordering::SeqCst), 1);
    assert_eq!(link.why_down(), None);
    // It is made anew, and nothing else is.
    has_direct(&link).await;
    assert_eq!(*fake.connections.borrow(), ALL + 1);
}

#[tokio::test]
async fn a_read_that_finds_no_direct_connection_idle_shares_another() {
    let (link, fake) = linked(Fate::Ignored).await;
    fake.strikes.store(true, Ordering::SeqCst);
    let busy = tokio::spawn({
        let link = Arc::clone(&link);
        async move { read(&link, LONG).await }
    });
    let is_asked = async {
        while fake.struck.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, is_asked).await.expect("the first read has the direct connection");
    for _ in 0..10 {
        assert_eq!(read(&link, LONG).await.unwrap(), b"value");
    }
    assert_eq!(*fake.connections.borrow(), ALL, "nobody connects on the way");
    busy.abort();
}

#[tokio::test]
async fn a_read_past_its_deadline_loses_its_connection_which_is_made_anew_once() {
    let (link, fake) = linked(Fate::Ignored).await;
    fake.strikes.store(true, Ordering::SeqCst);
    let late = read(&link, Duration::from_millis(50)).await;
    assert!(matches!(late, Err(TierError::Deadline)), "{late:?}");
    assert_eq!(read(&link, LONG).await.unwrap(), b"value");
    has_direct(&link).await;
    assert_eq!(read(&link, LONG).await.unwrap(), b"value");
    assert_eq!(*fake.connections.borrow(), ALL + 1);
}

#[tokio::test]
async fn direct_connections_go_with_the_others_where_those_are_made_anew() {
    let (link, fake) = linked(Fate::Closed).await;
    let moved = TierError::Fault { kind: "read-only", said: "another is the master".into() };
    link.give_up(&link.lanes.load_full().unwrap(), &moved);
    let mut connections = fake.connections.subscribe();
    timeout(LONG, connections.wait_for(|count| *count == 2 * ALL)).await.unwrap().unwrap();
    let mut open = fake.open.subscribe();
    timeout(LONG, open.wait_for(|count| *count == ALL)).await.unwrap().unwrap();
    has_direct(&link).await;
    assert_eq!(read(&link, LONG).await.unwrap(), b"value");
}
