//! Laws of the table: who leads, who follows, and how many there may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyspec::Key;
use shuttle::future::block_on;
use shuttle::thread::spawn;

use super::sync::AtomicUsize as ScheduledUsize;
use super::table::Limits;
use super::{
    Head, Joined, KEY, OK, Table, Writer, all, fill, holds, panic_quietly, read, recorded, whole,
};

/// Counts who is between two points, and refuses more than there may be.
#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn enter(&self, most: usize) {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        assert!(before < most, "{} where there may be {most}", before + 1);
    }

    fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn of_all_who_ask_at_once_one_leads_until_the_end_and_all_read_the_same() {
    holds(|| {
        let table = Table::new(recorded(), 100);
        let leading = Arc::new(Count::default());
        let callers = [(); 3].map(|()| {
            let (table, leading) = (table.clone(), Arc::clone(&leading));
            spawn(move || match table.join() {
                Joined::Leader(writer, reader) => {
                    leading.enter(1);
                    let filling = spawn(move || fill(writer, || leading.leave()));
                    let read = read(reader);
                    all([filling]);
                    read
                }
                Joined::Follower(reader) => read(reader),
                other => panic!("expected to board, got {other:?}"),
            })
        });
        for read in all(callers) {
            assert_eq!(read, whole());
        }
        table.assert_empty();
    });
}

/// Stores first, then leaves the table, as a fill does.
fn fill_and_store(writer: Writer, stored: &ScheduledUsize) {
    fill(writer, || stored.store(1, Ordering::SeqCst));
}

#[test]
fn what_is_stored_before_the_flight_leaves_the_table_is_never_fetched_twice() {
    holds(|| {
        let table = Table::new(recorded(), 100);
        let stored = Arc::new(ScheduledUsize::new(0));
        let fetches = Arc::new(Count::default());
        let callers = [(); 3].map(|()| {
            let (table, stored, fetches) =
                (table.clone(), Arc::clone(&stored), Arc::clone(&fetches));
            let is_stored = {
                let stored = Arc::clone(&stored);
                move || (stored.load(Ordering::SeqCst) == 1).then_some(())
            };
            spawn(move || match table.flights.join(KEY, 0, |_| true, is_stored) {
                Joined::Leader(writer, reader) => {
                    fetches.enter(1);
                    let filling = spawn(move || fill_and_store(writer, &stored));
                    assert_eq!(read(reader), whole());
                    all([filling]);
                }
                Joined::Follower(reader) => assert_eq!(read(reader), whole()),
                Joined::Found(()) => {}
                Joined::Full => panic!("there is room"),
            })
        });
        all(callers);
        table.assert_empty();
    });
}

#[test]
fn there_are_never_more_flights_than_there_may_be() {
    holds(|| {
        let table = Table::new(Limits { flights_max: 2, ..recorded() }, 100);
        let (open, led) = (Arc::new(Count::default()), Arc::new(AtomicUsize::new(0)));
        let callers = [1, 2, 3, 4].map(|number| {
            let (table, open, led) = (table.clone(), Arc::clone(&open), Arc::clone(&led));
            spawn(move || {
                let key = Key::from_bytes([number; 32]);
                // One of them asks whatever is under way.
                let joined = match number {
                    4 => table.flights.lead_anew(key, 0),
                    _ => table.flights.join(key, 0, |_| true, || None::<()>),
                };
                match joined {
                    Joined::Leader(writer, _reader) => {
                        open.enter(2);
                        led.fetch_add(1, Ordering::Relaxed);
                        assert!((1..=2).contains(&table.flights.open_count()));
                        open.leave();
                        writer.fail("refused");
                    }
                    Joined::Full => {}
                    other => panic!("nobody else asks for this, got {other:?}"),
                }
            })
        });
        all(callers);
        assert!(led.load(Ordering::Relaxed) >= 2, "there is room for two");
        table.assert_empty();
    });
}

#[test]
fn the_end_of_an_older_flight_never_takes_a_newer_one_out_of_the_table() {
    holds(|| {
        let table = Table::new(recorded(), 100);
        let (older, on_board) = table.lead();
        let ending = spawn(move || fill(older, || ()));
        let beginning = {
            let table = table.clone();
            spawn(move || match table.flights.lead_anew::<()>(KEY, 0) {
                Joined::Leader(newer, reader) => (newer, reader),
                other => panic!("expected to lead, got {other:?}"),
            })
        };
        assert_eq!(read(on_board), whole());
        all([ending]);
        let (newer, _reader) = all([beginning]).remove(0);
        assert!(newer.is_current());
        let follower = table.follow();
        newer.finish(None);
        assert_eq!(read(follower).0, b"");
        drop(_reader);
        table.assert_empty();
    });
}

#[test]
fn an_answer_that_is_for_one_caller_releases_its_waiters_and_takes_no_more() {
    const REFUSED: Head = Head { status: 401, ..OK };
    holds(|| {
        let table = Table::new(recorded(), 100);
        let (mut writer, mut leader) = table.lead();
        let is_out = Arc::new(AtomicUsize::new(0));
        let filling = {
            let is_out = Arc::clone(&is_out);
            spawn(move || {
                writer.set_head(REFUSED, false);
                is_out.store(1, Ordering::Relaxed);
                writer
            })
        };
        let callers = [(); 2].map(|()| {
            let (table, is_out) = (table.clone(), Arc::clone(&is_out));
            spawn(move || {
                for _ in 0..2 {
                    let was_out = is_out.load(Ordering::Relaxed) == 1;
                    match table.join() {
                        Joined::Follower(mut reader) => {
                            let head = block_on(reader.head());
                            let is_refused = head == Ok(REFUSED);
                            assert!(!(is_refused && was_out), "boarded after the head was out");
                            // Whoever has seen it may tell others.
                            is_out.fetch_max(usize::from(is_refused), Ordering::Relaxed);
                        }
                        Joined::Leader(mut writer, _reader) => writer.set_head(OK, true),
                        other => panic!("expected to board, got {other:?}"),
                    }
                }
            })
        });
        assert_eq!(block_on(leader.head()), Ok(REFUSED));
        all(callers);
        drop((all([filling]), leader));
        table.assert_empty();
    });
}

#[test]
fn a_panic_under_the_tables_lock_stops_nobody() {
    holds(|| {
        let table = Table::new(recorded(), 100);
        let panicking = {
            let table = table.clone();
            let ask = move || table.flights.join(KEY, 0, |_| panic_quietly(), || panic_quietly());
            let ask = std::panic::AssertUnwindSafe(ask);
            spawn(|| assert!(std::panic::catch_unwind::<_, Joined<_, _, ()>>(ask).is_err()))
        };
        let calling = {
            let table = table.clone();
            spawn(move || {
                let (writer, reader) = table.lead();
                fill(writer, || ());
                assert_eq!(read(reader), whole());
            })
        };
        all([panicking, calling]);
        table.assert_empty();
    });
}
