//! Laws of a flight that is not recorded: who paces it, and who is left behind.

use std::time::Duration;

use shuttle::future::block_on;
use shuttle::thread::spawn;

use super::state::Failure;
use super::table::Limits;
use super::{
    Bytes, CHUNKS, Joined, Key, Next, Reader, SLOW_READER_TIMEOUT, Table, WHOLE, Writer, all,
    filling, holds, holds_in_time, next, push, reading, whole, windowed,
};

#[test]
fn readers_of_any_pace_get_all_and_one_that_leaves_holds_nobody_up() {
    holds(|| {
        // Room for the window, but not for one more byte; and for less than it.
        for budget in [4, 3] {
            let table = Table::new(windowed(), budget);
            let (writer, leader) = table.lead();
            let staying = [reading(leader), reading(table.follow())];
            let mut leaver = table.follow();
            let leaving = spawn(move || {
                assert_eq!(next(&mut leaver), Next::Chunk(Bytes::from_static(b"ab")));
            });
            let filling = filling(writer);
            all([filling, leaving]);
            assert_eq!(all(staying), [whole(), whole()]);
            table.assert_empty();
        }
    });
}

fn lead(table: &Table, number: u8) -> (Writer, Reader) {
    match table.flights.join(Key::from_bytes([number; 32]), 0, |_| true, || None::<()>) {
        Joined::Leader(writer, reader) => (writer, reader),
        other => panic!("expected to lead, got {other:?}"),
    }
}

#[test]
fn flights_that_share_a_budget_too_small_for_both_never_wait_for_each_other() {
    holds(|| {
        let table = Table::new(windowed(), 3);
        let (one, other) = (lead(&table, 1), lead(&table, 2));
        let readers = [reading(one.1), reading(other.1)];
        all([filling(one.0), filling(other.0)]);
        assert_eq!(all(readers), [whole(), whole()]);
        table.assert_empty();
    });
}

#[test]
fn who_is_left_behind_is_told_so_and_nobody_reads_across_a_gap() {
    // Nobody is waited for: to be later than others is to stand still.
    holds(|| {
        let table = Table::new(Limits { slow_reader_timeout: Duration::ZERO, ..windowed() }, 3);
        let (mut writer, leader) = table.lead();
        let readers = [reading(leader), reading(table.follow())];
        let filling = spawn(move || {
            if CHUNKS.into_iter().all(|chunk| push(&mut writer, chunk)) {
                writer.finish(None);
            }
        });
        for (bytes, end) in all(readers) {
            match end {
                Next::Failed(Failure::TooSlow) => assert!(WHOLE.starts_with(&bytes)),
                end => assert_eq!((bytes, end), whole()),
            }
        }
        all([filling]);
        table.assert_empty();
    });
}

#[test]
fn a_writer_that_waits_for_all_to_leave_is_woken_by_the_last() {
    holds(|| {
        let table = Table::new(windowed(), 100);
        let (mut writer, leader) = table.lead();
        writer.stop_recording();
        let waiting = spawn(move || block_on(writer.nobody_listens()));
        let other = spawn(move || drop(leader));
        all([waiting, other]);
        table.assert_empty();
    });
}

#[test]
fn whoever_moves_in_the_last_moment_is_not_left_behind() {
    holds_in_time(|clock| {
        let table = Table::new(windowed(), 100);
        let (mut writer, reader) = table.lead();
        let reader = reading(reader);
        // Two chunks fill the window; only the third has to wait, and time passes only once.
        let filling = spawn(move || {
            if CHUNKS.into_iter().take(3).all(|chunk| push(&mut writer, chunk)) {
                writer.finish(None);
            }
        });
        let passing = spawn(|| clock.advance(SLOW_READER_TIMEOUT));
        let read = all([reader]).remove(0);
        let too_late = (Vec::new(), Next::Failed(Failure::TooSlow));
        assert!(read == too_late || read == (WHOLE[..6].to_vec(), Next::Done(None)), "{read:?}");
        all([filling, passing]);
        table.assert_empty();
    });
}
