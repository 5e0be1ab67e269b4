//! What a flight promises, by paused time and without a network.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use keyspec::Key;

use super::{Failure, Flights, Joined, Limits, Next, NobodyListens, Reader, Writer};
use crate::cache::budget::Budget;

fn always(_: u64) -> bool {
    true
}

type TestFlights = Flights<&'static str, &'static str>;
type TestJoined = Joined<&'static str, &'static str, ()>;

const SLOW_READER_TIMEOUT: Duration = Duration::from_secs(30);
const AGE_MAX: Duration = Duration::from_secs(600);

const KEY: Key = Key::from_bytes([1; 32]);

fn flights(recorded_bytes_max: usize, budget: usize) -> Arc<TestFlights> {
    flights_on(&Budget::new(budget), recorded_bytes_max)
}

fn flights_on(budget: &Arc<Budget>, recorded_bytes_max: usize) -> Arc<TestFlights> {
    let limits = Limits {
        flights_max: 2,
        recorded_bytes_max,
        window_bytes: 4,
        slow_reader_timeout: SLOW_READER_TIMEOUT,
        age_max: AGE_MAX,
    };
    Flights::new(limits, Arc::clone(budget))
}

fn lead(
    flights: &Arc<TestFlights>,
) -> (Writer<&'static str, &'static str>, Reader<&'static str, &'static str>) {
    match flights.join(KEY, 0, always, || None::<()>) {
        Joined::Leader(writer, reader) => (writer, reader),
        other => panic!("expected to lead, got {other:?}"),
    }
}

fn follow(flights: &Arc<TestFlights>) -> Reader<&'static str, &'static str> {
    match flights.join(KEY, 0, always, || None::<()>) {
        Joined::Follower(reader) => reader,
        other => panic!("expected to follow, got {other:?}"),
    }
}

async fn push(
    writer: &mut Writer<&'static str, &'static str>,
    chunk: &'static [u8],
) -> Result<(), NobodyListens> {
    let chunk = Bytes::from_static(chunk);
    if writer.record(&chunk) { Ok(()) } else { writer.pass(chunk).await }
}

async fn rest(reader: &mut Reader<&'static str, &'static str>) -> (Vec<u8>, Next<&'static str>) {
    let mut bytes = Vec::new();
    loop {
        match reader.next().await {
            Next::Chunk(chunk) => bytes.extend_from_slice(&chunk),
            end => return (bytes, end),
        }
    }
}

#[tokio::test]
async fn a_late_follower_gets_the_beginning_and_then_runs_live() {
    let flights = flights(100, 100);
    let (mut writer, mut leader) = lead(&flights);
    writer.set_head("200", true);
    push(&mut writer, b"one ").await.unwrap();
    let mut late = follow(&flights);
    assert_eq!(late.head().await, Ok("200"));
    push(&mut writer, b"two").await.unwrap();
    writer.finish(None);
    assert_eq!(rest(&mut leader).await, (b"one two".to_vec(), Next::Done(None)));
    assert_eq!(rest(&mut late).await, (b"one two".to_vec(), Next::Done(None)));
    assert_eq!(flights.open_count(), 0);
}

#[tokio::test]
async fn a_writer_that_vanishes_never_looks_complete() {
    let flights = flights(100, 100);
    let (mut writer, mut reader) = lead(&flights);
    writer.set_head("200", true);
    push(&mut writer, b"half").await.unwrap();
    drop(writer);
    let (bytes, end) = rest(&mut reader).await;
    assert_eq!((bytes.as_slice(), end), (&b"half"[..], Next::Failed(Failure::Abandoned)));
    assert_eq!(flights.open_count(), 0);
}

#[tokio::test]
async fn a_failure_before_the_headers_reaches_every_waiter() {
    let flights = flights(100, 100);
    let (writer, mut leader) = lead(&flights);
    let mut follower = follow(&flights);
    writer.fail("refused");
    assert_eq!(leader.head().await, Err(Failure::Fill("refused")));
    assert_eq!(follower.head().await, Err(Failure::Fill("refused")));
}

#[tokio::test]
async fn readers_that_leave_change_nothing_for_a_recorded_flight() {
    let flights = flights(100, 100);
    let (mut writer, leader) = lead(&flights);
    drop(leader);
    push(&mut writer, b"all of it").await.unwrap();
    assert_eq!(writer.recorded(), Some(vec![Bytes::from_static(b"all of it")]));
    let mut late = follow(&flights);
    writer.finish(None);
    assert_eq!(rest(&mut late).await.0, b"all of it");
}

#[tokio::test]
async fn over_the_record_a_flight_takes_no_joiners_and_is_paced_by_its_reader() {
    let flights = flights(4, 100);
    let (mut writer, mut reader) = lead(&flights);
    push(&mut writer, b"abcd").await.unwrap();
    let pushing = tokio::spawn(async move {
        push(&mut writer, b"efgh").await.unwrap();
        assert_eq!(writer.recorded(), None);
        writer.finish(None);
    });
    assert_eq!(rest(&mut reader).await, (b"abcdefgh".to_vec(), Next::Done(None)));
    pushing.await.unwrap();
    assert_eq!(flights.open_count(), 0);
}

#[tokio::test]
async fn nobody_boards_a_flight_that_is_broken_off_because_all_have_left() {
    let flights = flights(100, 100);
    let (mut writer, leader) = lead(&flights);
    let mut follower = follow(&flights);
    drop(leader);
    assert!(writer.left_by_all().now_or_never().is_none(), "one still reads");
    push(&mut writer, b"so far").await.unwrap();
    assert_eq!(follower.next().await, Next::Chunk(Bytes::from_static(b"so far")));
    drop(follower);
    writer.left_by_all().await;
    let (newer, _reader) = lead(&flights);
    drop(writer);
    assert!(newer.is_current());
}

#[tokio::test]
async fn an_unrecorded_flight_that_nobody_reads_is_given_up() {
    let flights = flights(4, 100);
    let (mut writer, reader) = lead(&flights);
    drop(reader);
    let pushed = push(&mut writer, b"too long").await;
    assert_eq!(pushed, Err(NobodyListens));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stands_still_is_left_behind_and_told_so() {
    let flights = flights(4, 100);
    let (mut writer, mut slow) = lead(&flights);
    let mut quick = follow(&flights);
    let fast = tokio::spawn(async move { rest(&mut quick).await });
    for _ in 0..4 {
        push(&mut writer, b"abcd").await.unwrap();
    }
    writer.finish(None);
    assert_eq!(fast.await.unwrap(), (b"abcdabcdabcdabcd".to_vec(), Next::Done(None)));
    assert_eq!(slow.next().await, Next::Failed(Failure::TooSlow));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_moves_slowly_is_waited_for() {
    let flights = flights(40, 100);
    let (mut writer, mut slow) = lead(&flights);
    for _ in 0..10 {
        push(&mut writer, b"abcd").await.unwrap();
    }
    let reading = tokio::spawn(async move {
        let mut chunks = 0;
        while let Next::Chunk(_) = slow.next().await {
            chunks += 1;
            // Ten chunks at this pace take longer than a reader may stand still.
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        chunks
    });
    push(&mut writer, b"efgh").await.unwrap();
    writer.finish(None);
    assert_eq!(reading.await.unwrap(), 11);
}

#[tokio::test]
async fn the_window_too_draws_on_the_budget() {
    let budget = Budget::new(6);
    let flights = flights_on(&budget, 4);
    let (mut writer, mut reader) = lead(&flights);
    push(&mut writer, b"abcd").await.unwrap();
    assert_eq!(budget.held(), 4);
    let pushing = tokio::spawn(async move {
        push(&mut writer, b"efg").await.unwrap();
        writer
    });
    assert_eq!(reader.next().await, Next::Chunk(Bytes::from_static(b"abcd")));
    let writer = pushing.await.unwrap();
    assert_eq!(budget.held(), 3, "what was taken is given back, the rest is held");
    writer.finish(None);
    assert_eq!(rest(&mut reader).await.0, b"efg");
    drop(reader);
    assert_eq!(budget.held(), 0);
}

#[tokio::test]
async fn a_full_budget_ends_recording_and_is_given_back() {
    let budget = Budget::new(6);
    let flights = flights_on(&budget, 100);
    let (mut writer, mut reader) = lead(&flights);
    push(&mut writer, b"abcd").await.unwrap();
    assert!(writer.recorded().is_some());
    let pushing = tokio::spawn(async move {
        push(&mut writer, b"efgh").await.unwrap();
        assert!(writer.recorded().is_none());
        writer.finish(None);
    });
    assert_eq!(rest(&mut reader).await.0, b"abcdefgh");
    pushing.await.unwrap();
    drop(reader);
    assert_eq!(budget.held(), 0);
}

#[tokio::test]
async fn the_table_is_bounded() {
    let flights = flights(100, 100);
    let _first = lead(&flights);
    let _second = match flights.join(Key::from_bytes([2; 32]), 0, always, || None::<()>) {
        Joined::Leader(writer, reader) => (writer, reader),
        other => panic!("expected to lead, got {other:?}"),
    };
    let third: TestJoined = flights.join(Key::from_bytes([3; 32]), 0, always, || None);
    assert!(matches!(third, Joined::Full));
}

#[tokio::test]
async fn flights_that_nobody_joins_any_more_count_until_they_end() {
    let flights = flights(100, 100);
    let (older, _reader) = lead(&flights);
    let TestJoined::Leader(mut newer, _reader) = flights.lead_anew(KEY, 0) else {
        panic!("expected to lead")
    };
    newer.close_to_joiners();
    assert!(matches!(flights.lead_anew::<()>(KEY, 0), Joined::Full));
    assert_eq!(flights.open_count(), 2);
    older.fail("refused");
    assert!(matches!(flights.lead_anew::<()>(KEY, 0), Joined::Leader(..)));
}

#[tokio::test]
async fn an_answer_that_arrived_in_the_meantime_is_found_instead_of_fetched() {
    let flights = flights(100, 100);
    assert!(matches!(flights.join(KEY, 0, always, || Some(42)), Joined::Found(42)));
    assert_eq!(flights.open_count(), 0);
}

#[tokio::test]
async fn a_flight_that_is_closed_to_joiners_goes_on_for_those_on_board() {
    let flights = flights(100, 100);
    let (mut writer, mut leader) = lead(&flights);
    writer.close_to_joiners();
    let (_second, _) = lead(&flights);
    push(&mut writer, b"the last chunk").await.unwrap();
    writer.finish(None);
    assert_eq!(rest(&mut leader).await, (b"the last chunk".to_vec(), Next::Done(None)));
    assert_eq!(flights.open_count(), 1, "the second flight keeps its place");
}

#[tokio::test]
async fn a_newer_flight_takes_the_place_of_an_older_one_and_keeps_it() {
    let flights = flights(100, 100);
    let (older, mut reader) = lead(&flights);
    let TestJoined::Leader(newer, _reader) = flights.lead_anew(KEY, 0) else {
        panic!("expected to lead")
    };
    assert!(!older.is_current() && newer.is_current());
    older.finish(None);
    assert_eq!(reader.next().await, Next::Done(None));
    assert!(newer.is_current(), "the older one's end must not close the newer one");
}

#[tokio::test]
async fn a_flight_that_began_before_a_purge_is_joined_no_more() {
    let flights = flights(100, 100);
    let TestJoined::Leader(older, _reader) = flights.join(KEY, 1, always, || None::<()>) else {
        panic!("expected to lead")
    };
    let after_purge = |began: u64| began >= 2;
    let TestJoined::Leader(newer, _) = flights.join(KEY, 2, after_purge, || None) else {
        panic!("expected to lead anew")
    };
    assert!(!older.is_current() && newer.is_current());
    assert!(matches!(flights.join(KEY, 2, after_purge, || None::<()>), Joined::Follower(_)));
}

#[tokio::test(start_paused = true)]
async fn an_old_flight_is_joined_no_more_and_goes_on_for_those_on_board() {
    let flights = flights(100, 100);
    let (mut older, mut on_board) = lead(&flights);
    tokio::time::advance(AGE_MAX).await;
    let mut last = follow(&flights);
    tokio::time::advance(Duration::from_millis(1)).await;
    let (newer, mut reader) = lead(&flights);
    assert!(!older.is_current() && newer.is_current());
    let mut with_newer = follow(&flights);
    push(&mut older, b"from the older").await.unwrap();
    older.finish(None);
    newer.fail("refused");
    let whole = (b"from the older".to_vec(), Next::Done(None));
    assert_eq!(rest(&mut on_board).await, whole);
    assert_eq!(rest(&mut last).await, whole);
    assert_eq!(reader.next().await, Next::Failed(Failure::Fill("refused")));
    assert_eq!(with_newer.next().await, Next::Failed(Failure::Fill("refused")));
}

#[tokio::test(start_paused = true)]
async fn what_an_old_flight_has_stored_is_found_instead_of_fetched() {
    let flights = flights(100, 100);
    let (_older, _reader) = lead(&flights);
    tokio::time::advance(AGE_MAX + Duration::from_millis(1)).await;
    assert!(matches!(flights.join(KEY, 0, always, || Some(42)), Joined::Found(42)));
}

#[tokio::test]
async fn bytes_are_held_until_the_last_reader_has_left_however_the_flight_ends() {
    let ends: [fn(Writer<&'static str, &'static str>); 3] =
        [|writer| writer.finish(None), |writer| writer.fail("refused"), drop];
    for end in ends {
        let flights = flights(100, 100);
        let (mut writer, leader) = lead(&flights);
        let follower = follow(&flights);
        assert!(writer.record(&Bytes::from_static(b"abcd")));
        assert!(writer.record(&Bytes::from_static(b"ef")));
        assert_eq!(flights.held_bytes(), 6);
        drop(leader);
        end(writer);
        assert_eq!(flights.held_bytes(), 6, "a reader may still take them");
        drop(follower);
        assert_eq!(flights.held_bytes(), 0);
    }
}

#[tokio::test]
async fn a_window_holds_what_its_readers_have_not_taken() {
    let budget = Budget::new(4);
    let flights = flights_on(&budget, 4);
    let (mut writer, mut leader) = lead(&flights);
    let mut follower = follow(&flights);
    assert!(writer.record(&Bytes::from_static(b"abcd")));
    assert!(!writer.record(&Bytes::from_static(b"too long")));
    assert_eq!(flights.held_bytes(), 4, "what does not fit is not kept");
    leader.next().await;
    assert_eq!(flights.held_bytes(), 4);
    follower.next().await;
    assert_eq!(flights.held_bytes(), 0);
    writer.pass(Bytes::from_static(b"too long")).await.unwrap();
    assert_eq!((flights.held_bytes(), budget.held()), (8, 0), "it passes over the budget");
    drop((leader, follower));
    assert_eq!(writer.pass(Bytes::from_static(b"more")).await, Err(NobodyListens));
    assert_eq!(flights.held_bytes(), 0, "nobody will take it");
    drop(writer);
    assert_eq!((flights.held_bytes(), budget.held()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_slow_reader_has_missed_is_not_held_for_it() {
    let flights = flights(4, 100);
    let (mut writer, mut slow) = lead(&flights);
    let mut quick = follow(&flights);
    push(&mut writer, b"abcd").await.unwrap();
    quick.next().await;
    push(&mut writer, b"efgh").await.unwrap();
    assert_eq!(flights.held_bytes(), 4, "only what the quick one has still to take");
    quick.next().await;
    assert_eq!(flights.held_bytes(), 0);
    assert_eq!(slow.next().await, Next::Failed(Failure::TooSlow));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stands_still_is_left_behind_for_want_of_budget_too() {
    let budget = Budget::new(4);
    let flights = flights_on(&budget, 100);
    let (mut writer, mut slow) = lead(&flights);
    let mut quick = follow(&flights);
    assert!(writer.record(&Bytes::from_static(b"ab")));
    let mut other = budget.open();
    assert!(other.grow(2));
    assert!(!writer.record(&Bytes::from_static(b"cd")), "the budget is full");
    assert_eq!(quick.next().await, Next::Chunk(Bytes::from_static(b"ab")));
    {
        let mut pass = pin!(writer.pass(Bytes::from_static(b"cd")));
        assert!(pass.as_mut().now_or_never().is_none(), "the window has room, the budget has none");
        tokio::time::advance(SLOW_READER_TIMEOUT).await;
        assert_eq!(pass.now_or_never(), Some(Ok(())));
    }
    writer.finish(None);
    assert_eq!(rest(&mut quick).await, (b"cd".to_vec(), Next::Done(None)));
    assert_eq!(slow.next().await, Next::Failed(Failure::TooSlow));
    drop((other, slow, quick));
    assert_eq!((flights.held_bytes(), budget.held()), (0, 0));
}

#[tokio::test]
async fn a_question_that_is_dropped_at_any_await_and_put_again_loses_nothing() {
    let flights = flights(8, 100);
    let (mut writer, mut reader) = lead(&flights);
    assert_eq!(reader.head().now_or_never(), None);
    writer.set_head("200", true);
    assert_eq!(reader.head().now_or_never(), Some(Ok("200")));
    assert_eq!(reader.next().now_or_never(), None);
    assert!(writer.record(&Bytes::from_static(b"abcd")));
    assert!(writer.record(&Bytes::from_static(b"efgh")));
    assert_eq!(reader.head().now_or_never(), Some(Ok("200")), "as often as it is asked for");
    assert_eq!(reader.next().now_or_never(), Some(Next::Chunk(Bytes::from_static(b"abcd"))));
    assert!(!writer.record(&Bytes::from_static(b"ijkl")));
    assert_eq!(writer.pass(Bytes::from_static(b"ijkl")).now_or_never(), None, "no room yet");
    assert_eq!(reader.next().now_or_never(), Some(Next::Chunk(Bytes::from_static(b"efgh"))));
    assert_eq!(reader.next().now_or_never(), None, "what was not passed on is not there");
    assert_eq!(writer.pass(Bytes::from_static(b"ijkl")).now_or_never(), Some(Ok(())));
    assert_eq!(reader.next().now_or_never(), Some(Next::Chunk(Bytes::from_static(b"ijkl"))));
    assert_eq!(reader.next().now_or_never(), None);
    assert_eq!(writer.nobody_listens().now_or_never(), None);
    writer.finish(None);
    assert_eq!(reader.next().now_or_never(), Some(Next::Done(None)));
    assert_eq!(reader.next().now_or_never(), Some(Next::Done(None)), "as often as it is asked for");
}

/// A question is put and waits, what it waits for comes, and it is dropped before it could look.
#[tokio::test]
async fn a_question_that_is_dropped_when_its_answer_has_come_loses_nothing() {
    let flights = flights(100, 100);
    let (mut writer, mut reader) = lead(&flights);
    {
        let mut head = pin!(reader.head());
        assert_eq!(head.as_mut().now_or_never(), None);
        writer.set_head("200", true);
    }
    assert_eq!(reader.head().now_or_never(), Some(Ok("200")));
    {
        let mut next = pin!(reader.next());
        assert_eq!(next.as_mut().now_or_never(), None);
        assert!(writer.record(&Bytes::from_static(b"abcd")));
    }
    assert_eq!(reader.next().now_or_never(), Some(Next::Chunk(Bytes::from_static(b"abcd"))));
    {
        let mut next = pin!(reader.next());
        assert_eq!(next.as_mut().now_or_never(), None);
        writer.fail("refused");
    }
    let refused = Next::Failed(Failure::Fill("refused"));
    assert_eq!(reader.next().now_or_never(), Some(refused));
}

#[tokio::test]
async fn a_panic_in_the_task_that_holds_the_writer_fails_the_flight() {
    let flights = flights(100, 100);
    let (mut writer, mut leader) = lead(&flights);
    let mut follower = follow(&flights);
    let filling = tokio::spawn(async move {
        assert!(writer.record(&Bytes::from_static(b"half")));
        tokio::task::yield_now().await;
        // As a panic does, but without its message on the terminal.
        std::panic::resume_unwind(Box::new("a bug"));
    });
    let half = (b"half".to_vec(), Next::Failed(Failure::Abandoned));
    assert_eq!(rest(&mut leader).await, half);
    assert_eq!(rest(&mut follower).await, half);
    assert!(filling.await.unwrap_err().is_panic());
    drop((leader, follower));
    assert_eq!((flights.open_count(), flights.held_bytes()), (0, 0));
    lead(&flights);
}

#[tokio::test]
async fn a_panic_under_the_locks_stops_nobody() {
    let flights = flights(100, 100);
    let panics = || -> Option<()> { std::panic::resume_unwind(Box::new("a bug")) };
    let ask = AssertUnwindSafe(|| flights.join(KEY, 0, always, panics));
    assert!(std::panic::catch_unwind(ask).is_err());
    let (writer, mut reader) = lead(&flights);
    let panics = |_| std::panic::resume_unwind(Box::new("a bug"));
    let ask = AssertUnwindSafe(|| flights.join(KEY, 0, panics, || None::<()>));
    assert!(std::panic::catch_unwind(ask).is_err());
    writer.finish(None);
    assert_eq!(rest(&mut reader).await, (Vec::new(), Next::Done(None)));
    assert_eq!(flights.open_count(), 0);
}

/// Ten thousand readers of one flight, each a task of its own; some leave half way.
async fn all_who_stay_of_ten_thousand_get_all(recorded_bytes_max: usize) {
    let budget = Budget::new(1000);
    let flights = flights_on(&budget, recorded_bytes_max);
    let (mut writer, leader) = lead(&flights);
    let mut stay = tokio::task::JoinSet::new();
    let mut leave = tokio::task::JoinSet::new();
    for number in 0..10_000 {
        let mut reader = follow(&flights);
        if number % 10 == 0 {
            leave.spawn(async move { reader.next().await });
        } else {
            stay.spawn(async move { rest(&mut reader).await });
        }
    }
    drop(leader);
    for _ in 0..5 {
        push(&mut writer, b"abcd").await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(writer.joined(), 10_001);
    writer.finish(None);
    let whole = (b"abcd".repeat(5), Next::Done(None));
    assert!(stay.join_all().await.into_iter().all(|read| read == whole));
    let first = Next::Chunk(Bytes::from_static(b"abcd"));
    assert!(leave.join_all().await.into_iter().all(|read| read == first));
    assert_eq!((flights.open_count(), flights.held_bytes(), budget.held()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_readers_of_a_record_all_get_all() {
    all_who_stay_of_ten_thousand_get_all(100).await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_readers_of_a_window_all_get_all() {
    all_who_stay_of_ten_thousand_get_all(4).await;
}

#[tokio::test]
async fn a_chunk_that_passed_over_the_budget_gives_nothing_back_to_it() {
    let budget = Budget::new(4);
    let flights = flights_on(&budget, 0);
    let (mut writer, mut reader) = lead(&flights);
    let mut other = budget.open();
    assert!(other.grow(4));
    push(&mut writer, b"ab").await.unwrap();
    drop(other);
    assert_eq!(
        (flights.held_bytes(), budget.held()),
        (2, 0),
        "it is here, whatever the budget says"
    );
    push(&mut writer, b"cd").await.unwrap();
    assert_eq!((flights.held_bytes(), budget.held()), (4, 2));
    reader.next().await;
    assert_eq!((flights.held_bytes(), budget.held()), (2, 2));
    reader.next().await;
    assert_eq!((flights.held_bytes(), budget.held()), (0, 0));
}
