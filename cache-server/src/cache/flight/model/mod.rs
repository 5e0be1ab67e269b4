//! The laws of flights, under schedules that tests on real threads would meet once in a year.
//!
//! The files of the state machine are compiled a second time here, on primitives that leave it to
//! a scheduler whose turn it is after every step. Each law is run under thousands of schedules: half
//! of them random, the others with few switches at random places, which finds what needs one
//! unlucky moment. One that breaks the law is printed and can be replayed. A schedule in which
//! nobody can go on breaks it too: time stands still, so that no timeout helps anyone out.
#![allow(
    clippy::duplicate_mod,
    dead_code,
    unreachable_pub,
    reason = "the files are here a second time, and the laws need not call all that the server does"
)]

#[path = "../../budget.rs"]
mod budget;
mod coalescing;
#[path = "../reader.rs"]
mod reader;
mod reading;
#[path = "../state.rs"]
mod state;
mod sync;
#[path = "../table.rs"]
mod table;
mod window;
#[path = "../writer.rs"]
mod writer;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use keyspec::Key;
use shuttle::future::block_on;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread::JoinHandle;
use tokio::runtime::Runtime;

use budget::Budget;
use reader::Next;
use table::{Flights, Joined, Limits};

/// How many schedules of either kind a law is run under.
const SCHEDULES: usize = 2000;

/// Switches of a schedule with few.
const SWITCHES: usize = 3;

const SLOW_READER_TIMEOUT: Duration = Duration::from_secs(30);

const KEY: Key = Key::from_bytes([1; 32]);

type Reader = reader::Reader<Head, &'static str>;
type Writer = writer::Writer<Head, &'static str>;

/// What is known at the headers. To look at a broken one panics, under the flight's lock.
#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    is_broken: bool,
}

impl Clone for Head {
    fn clone(&self) -> Head {
        if self.is_broken {
            panic_quietly();
        }
        Head { ..*self }
    }
}

const OK: Head = Head { status: 200, is_broken: false };

/// As a bug does, but without its message on the terminal.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("a bug"))
}

/// Runs a law under many schedules, while time stands still.
fn holds(law: fn()) {
    holds_in_time(move |_| law());
}

/// Runs a law that may move its clock under many schedules.
fn holds_in_time(law: impl Fn(&'static Clock) + Copy + Send + Sync + 'static) {
    // Never shut down: that would wake those whom a broken law has left asleep, and hide the law.
    let clock: &Clock = Box::leak(Box::new(Clock::new()));
    let _inside = clock.runtime.enter();
    shuttle::check_random(move || law(clock), SCHEDULES);
    shuttle::check_pct(move || law(clock), SCHEDULES, SWITCHES);
}

/// What deadlines are measured by.
struct Clock {
    runtime: Runtime,
}

impl Clock {
    fn new() -> Clock {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
        Clock { runtime }
    }

    /// Moves on, and wakes whoever waited for that.
    fn advance(&self, by: Duration) {
        self.runtime.block_on(tokio::time::advance(by));
    }
}

/// A table, and the budget that it draws on.
#[derive(Clone)]
struct Table {
    flights: Arc<Flights<Head, &'static str>>,
    budget: Arc<Budget>,
}

impl Table {
    fn new(limits: Limits, budget: usize) -> Table {
        let budget = Budget::new(budget);
        Table { flights: Flights::new(limits, Arc::clone(&budget)), budget }
    }

    fn join(&self) -> Joined<Head, &'static str, ()> {
        self.flights.join(KEY, 0, |_| true, || None)
    }

    fn lead(&self) -> (Writer, Reader) {
        match self.join() {
            Joined::Leader(writer, reader) => (writer, reader),
            other => panic!("expected to lead, got {other:?}"),
        }
    }

    fn follow(&self) -> Reader {
        match self.join() {
            Joined::Follower(reader) => reader,
            other => panic!("expected to follow, got {other:?}"),
        }
    }

    /// Everybody is gone: nothing is open, and nothing held.
    fn assert_empty(&self) {
        let left = (self.flights.open_count(), self.flights.held_bytes(), self.budget.held());
        assert_eq!(left, (0, 0, 0), "flights open, bytes held, bytes reserved");
    }
}

/// All of an answer fits into the record.
fn recorded() -> Limits {
    Limits {
        flights_max: 4,
        recorded_bytes_max: 100,
        window_bytes: 4,
        slow_reader_timeout: SLOW_READER_TIMEOUT,
        age_max: Duration::from_secs(600),
    }
}

/// The first chunk of an answer fits into the record, and two into the window.
fn windowed() -> Limits {
    Limits { recorded_bytes_max: 2, ..recorded() }
}

const CHUNKS: [Bytes; 4] = [
    Bytes::from_static(b"ab"),
    Bytes::from_static(b"cd"),
    Bytes::from_static(b"ef"),
    Bytes::from_static(b"gh"),
];

const WHOLE: &[u8] = b"abcdefgh";

/// What is to be had of an answer, and how that ended.
type Read = (Vec<u8>, Next<&'static str>);

fn whole() -> Read {
    (WHOLE.to_vec(), Next::Done(None))
}

/// Passes a chunk on, recorded if there is room. Says whether anybody listens.
fn push(writer: &mut Writer, chunk: Bytes) -> bool {
    writer.record(&chunk) || block_on(writer.pass(chunk)).is_ok()
}

/// Fills a flight, and calls `before_end` when all is out but the end.
fn fill(mut writer: Writer, before_end: impl FnOnce()) {
    writer.set_head(OK, true);
    for chunk in CHUNKS {
        assert!(push(&mut writer, chunk), "somebody listens");
    }
    before_end();
    writer.finish(None);
}

/// What comes next. Half of the time the question is dropped first, and put again.
fn next(reader: &mut Reader) -> Next<&'static str> {
    if thread_rng().gen_bool(0.5)
        && let Some(next) = reader.next().now_or_never()
    {
        return next;
    }
    block_on(reader.next())
}

/// Reads to the end, and leaves.
fn read(mut reader: Reader) -> Read {
    let mut bytes = Vec::new();
    loop {
        match next(&mut reader) {
            Next::Chunk(chunk) => bytes.extend_from_slice(&chunk),
            end => return (bytes, end),
        }
    }
}

/// Reads to the end in a thread of its own.
fn reading(reader: Reader) -> JoinHandle<Read> {
    shuttle::thread::spawn(|| read(reader))
}

/// Fills a flight in a thread of its own.
fn filling(writer: Writer) -> JoinHandle<()> {
    shuttle::thread::spawn(|| fill(writer, || ()))
}

/// Waits for all threads; gives what they gave.
fn all<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}
