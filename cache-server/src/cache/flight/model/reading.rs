//! Laws of reading along: what whoever boards gets to see, however the flight ends.

use std::panic::{AssertUnwindSafe, catch_unwind};

use shuttle::future::block_on;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread::{JoinHandle, spawn};

use super::state::Failure;
use super::table::Limits;
use super::{
    CHUNKS, Head, Joined, Next, OK, Read, Table, WHOLE, Writer, all, filling, holds, panic_quietly,
    push, read, reading, recorded, whole, windowed,
};

/// Asks in a thread of its own, and reads what it may. Whoever leads gives up at once.
fn asking(table: &Table) -> JoinHandle<Option<Read>> {
    let table = table.clone();
    spawn(move || match table.join() {
        Joined::Follower(reader) => Some(read(reader)),
        Joined::Leader(..) => None,
        other => panic!("expected to board, got {other:?}"),
    })
}

fn who_boards_at_any_moment_reads_all(limits: Limits) {
    let table = Table::new(limits, 100);
    let (writer, leader) = table.lead();
    let filling = filling(writer);
    let leader = reading(leader);
    let callers = [asking(&table), asking(&table)];
    for read in all(callers).into_iter().flatten() {
        // Unless it followed one who gave up.
        if read.1 != Next::Failed(Failure::Abandoned) {
            assert_eq!(read, whole());
        }
    }
    all([filling]);
    assert_eq!(all([leader]), [whole()]);
    table.assert_empty();
}

#[test]
fn whoever_boards_at_any_moment_reads_from_the_first_byte() {
    holds(|| who_boards_at_any_moment_reads_all(recorded()));
}

#[test]
fn nobody_boards_a_flight_whose_beginning_is_gone() {
    holds(|| who_boards_at_any_moment_reads_all(windowed()));
}

#[test]
fn the_leader_leaves_at_any_moment_and_nothing_changes_for_others() {
    holds(|| {
        let table = Table::new(recorded(), 100);
        let (mut writer, leader) = table.lead();
        let follower = reading(table.follow());
        let leaving = spawn(move || drop(leader));
        let filling = spawn(move || {
            writer.set_head(OK, true);
            assert!(CHUNKS.into_iter().all(|chunk| writer.record(&chunk)));
            assert_eq!(writer.recorded().expect("a record").concat(), WHOLE);
            writer.finish(None);
        });
        all([filling, leaving]);
        assert_eq!(all([follower]), [whole()]);
        table.assert_empty();
    });
}

/// Fills a flight in part, and goes away without a word.
fn fill_in_part(mut writer: Writer, go: fn(Writer)) {
    let steps = thread_rng().gen_range(0..=CHUNKS.len());
    if steps > 0 || thread_rng().gen_bool(0.5) {
        writer.set_head(OK, true);
    }
    for chunk in CHUNKS.into_iter().take(steps) {
        assert!(push(&mut writer, chunk), "somebody listens");
    }
    go(writer);
}

fn a_writer_without_a_word_fails_everybody(limits: Limits, go: fn(Writer)) {
    let table = Table::new(limits, 100);
    let (writer, leader) = table.lead();
    let readers = [reading(leader), reading(table.follow())];
    let filling = spawn(move || {
        let _ = catch_unwind(AssertUnwindSafe(|| fill_in_part(writer, go)));
    });
    let late = asking(&table);
    for (bytes, end) in all(readers).into_iter().chain(all([late]).into_iter().flatten()) {
        assert!(WHOLE.starts_with(&bytes));
        assert_eq!(end, Next::Failed(Failure::Abandoned));
    }
    all([filling]);
    table.assert_empty();
}

#[test]
fn a_writer_that_goes_at_any_moment_fails_everybody() {
    holds(|| a_writer_without_a_word_fails_everybody(recorded(), drop));
    holds(|| a_writer_without_a_word_fails_everybody(windowed(), drop));
}

#[test]
fn a_writer_that_panics_at_any_moment_fails_everybody() {
    holds(|| a_writer_without_a_word_fails_everybody(recorded(), |_writer| panic_quietly()));
    holds(|| a_writer_without_a_word_fails_everybody(windowed(), |_writer| panic_quietly()));
}

#[test]
fn a_panic_under_the_flights_lock_stops_nobody() {
    holds(|| {
        let table = Table::new(recorded(), 100);
        let (mut writer, mut leader) = table.lead();
        let follower = reading(table.follow());
        writer.set_head(Head { is_broken: true, ..OK }, true);
        let panicking = spawn(move || {
            let look = AssertUnwindSafe(|| block_on(leader.head()));
            assert!(catch_unwind(look).is_err());
            assert_eq!(read(leader), whole());
        });
        let filling = spawn(move || {
            assert!(CHUNKS.into_iter().all(|chunk| writer.record(&chunk)));
            writer.finish(None);
        });
        all([panicking, filling]);
        assert_eq!(all([follower]), [whole()]);
        table.assert_empty();
    });
}
