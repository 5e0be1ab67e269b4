//! The purge table from outside: orders, restarts, kills, damage, bounds, and a model of it.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Waker};

use proptest::prelude::*;
use tempfile::TempDir;

use super::log::{RECORD_BYTES, Record, What};
use super::*;

const NOON: Timestamp = Timestamp(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn settings(orders_max: usize) -> PurgeSettings {
    PurgeSettings { orders_max, entry_life_max: 100 * HOUR }
}

fn tag(name: &str) -> Selector {
    Selector::tag(name)
}

fn named(name: &str) -> [Target; 1] {
    [Target::Selector(tag(name))]
}

/// A table with a log, of a server that has stored entries before.
fn open(folder: &Path) -> Purges {
    open_with(folder, settings(1_000), &Clock::standing_at(NOON))
}

fn open_with(folder: &Path, settings: PurgeSettings, clock: &Clock) -> Purges {
    Purges::open(Some(folder), settings, clock.clone(), true).unwrap()
}

/// A folder with an empty log.
fn fresh() -> TempDir {
    let folder = TempDir::new().unwrap();
    Purges::open(Some(folder.path()), settings(1), Clock::standing_at(NOON), false).unwrap();
    folder
}

fn in_memory(settings: PurgeSettings) -> Purges {
    Purges::open(None, settings, Clock::standing_at(NOON), false).unwrap()
}

fn log_of(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("purges")).unwrap()
}

/// What a kill at this moment would leave, in a folder of its own.
fn as_killed(folder: &Path) -> TempDir {
    with_log(&log_of(folder))
}

fn with_log(log: &[u8]) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("purges"), log).unwrap();
    folder
}

#[tokio::test]
async fn an_order_kills_what_was_filled_before_it_and_names_it() {
    let purges = in_memory(settings(10));
    let before = purges.sequence();
    assert_eq!(purges.verdict(&[tag("a")], before), Verdict::Alive);
    let number = purges.order(&named("a"), Manner::Hard).await.unwrap();
    assert!(number > before && purges.sequence() == number);
    assert_eq!(purges.verdict(&[tag("a")], before), Verdict::Dead);
    assert_eq!(purges.verdict(&[tag("b"), tag("a")], before), Verdict::Dead);
    assert_eq!(purges.verdict(&[tag("b")], before), Verdict::Alive);
    assert_eq!(purges.verdict(&[], before), Verdict::Alive);
    assert_eq!(purges.verdict(&[tag("a")], number), Verdict::Alive, "filled after it");
}

#[tokio::test]
async fn a_soft_order_makes_stale_and_dead_wins() {
    let purges = in_memory(settings(10));
    let first = purges.sequence();
    let soft = purges.order(&named("a"), Manner::Soft).await.unwrap();
    assert_eq!(purges.verdict(&[tag("a")], first), Verdict::Stale);
    let hard = purges.order(&named("b"), Manner::Hard).await.unwrap();
    assert_eq!(purges.verdict(&[tag("a"), tag("b")], first), Verdict::Dead);
    let hard_too = purges.order(&named("a"), Manner::Hard).await.unwrap();
    assert_eq!(purges.verdict(&[tag("a")], soft), Verdict::Dead);
    let last = purges.order(&named("a"), Manner::Soft).await.unwrap();
    assert_eq!(purges.verdict(&[tag("a")], hard), Verdict::Dead, "a soft order lifts no hard one");
    assert_eq!(purges.verdict(&[tag("a")], hard_too), Verdict::Stale);
    assert_eq!(purges.verdict(&[tag("a")], last), Verdict::Alive);
}

#[tokio::test]
async fn everything_is_a_target_and_gives_the_room_of_the_orders_before_it_back() {
    let purges = in_memory(settings(10));
    let first = purges.sequence();
    let a = purges.order(&named("a"), Manner::Hard).await.unwrap();
    purges.order(&named("b"), Manner::Soft).await.unwrap();
    let soft = purges.order(&[Target::Everything], Manner::Soft).await.unwrap();
    assert_eq!(purges.counts().orders, 1, "a hard order is more than everything soft");
    assert_eq!(purges.verdict(&[tag("a")], first), Verdict::Dead);
    assert_eq!(purges.verdict(&[tag("a")], a), Verdict::Stale);
    assert_eq!(purges.verdict(&[], first), Verdict::Stale);
    assert_eq!(purges.verdict(&[], soft), Verdict::Alive);
    let [b] = named("b");
    purges.order(&[b], Manner::Soft).await.unwrap();
    let hard = purges.order(&[b, Target::Everything], Manner::Hard).await.unwrap();
    assert_eq!(purges.verdict(&[tag("b")], soft), Verdict::Dead);
    assert_eq!(purges.verdict(&[], soft), Verdict::Dead);
    assert_eq!(purges.verdict(&[], hard), Verdict::Alive);
    let counts = purges.counts();
    assert_eq!((counts.orders, counts.folded), (0, 0));
    assert_eq!((counts.soft_floor, counts.hard_floor), (soft, hard));
}

#[tokio::test]
async fn a_purge_is_durable_before_it_is_acknowledged() {
    let folder = fresh();
    let purges = open(folder.path());
    let before = purges.sequence();
    for round in 0..20 {
        let name = round.to_string();
        let number = purges.order(&named(&name), Manner::Hard).await.unwrap();
        let killed = as_killed(folder.path());
        let again = open(killed.path());
        assert_eq!(again.verdict(&[tag(&name)], before), Verdict::Dead);
        assert_eq!(again.verdict(&[tag(&name)], number), Verdict::Alive);
        assert!(again.sequence() > purges.sequence());
        assert!(!again.counts().is_log_lost);
    }
}

#[tokio::test]
async fn an_order_that_nobody_waits_for_is_durable_when_the_log_is_closed() {
    let folder = fresh();
    let purges = open(folder.path());
    let before = purges.sequence();
    let number = purges.order_soon(&named("a"), Manner::Soft);
    assert_eq!(purges.verdict(&[tag("a")], before), Verdict::Stale);
    purges.close().await;
    let again = open(folder.path());
    assert_eq!(again.verdict(&[tag("a")], before), Verdict::Stale);
    assert_eq!(again.verdict(&[tag("a")], number), Verdict::Alive);
}

#[tokio::test]
async fn an_order_whose_caller_hangs_up_was_given_all_the_same() {
    let folder = fresh();
    let purges = open(folder.path());
    let before = purges.sequence();
    for name in ["a", "b", "c"] {
        let targets = named(name);
        let mut order = Box::pin(purges.order(&targets, Manner::Hard));
        // It waits at one place alone, after this.
        let _ = order.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(order);
        assert_eq!(purges.verdict(&[tag(name)], before), Verdict::Dead);
    }
    purges.close().await;
    let again = open(folder.path());
    for name in ["a", "b", "c"] {
        assert_eq!(again.verdict(&[tag(name)], before), Verdict::Dead);
    }
}

#[tokio::test]
async fn a_closed_log_leaves_orders_in_force_and_says_that_they_are_not_durable() {
    let folder = fresh();
    let purges = open(folder.path());
    purges.close().await;
    purges.close().await;
    let before = purges.sequence();
    assert!(purges.order(&named("a"), Manner::Hard).await.is_err());
    assert_eq!(purges.verdict(&[tag("a")], before), Verdict::Dead);
}

/// A table whose log takes nothing that is added to it: the disk is full.
fn on_a_full_disk(folder: &Path) -> Purges {
    let ledger = Ledger::new(settings(100));
    let clock = Clock::standing_at(NOON);
    let mut log = Log::create(folder, &ledger.records(&Tables::new(), 7)).unwrap();
    log.divert_to(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let tables = Tables::new();
    Opened { tables, ledger, base: 7, clock, is_log_lost: false }.start(Some(log)).unwrap()
}

#[tokio::test]
async fn a_failed_write_is_reported_and_the_next_goes_to_a_fresh_log() {
    let folder = TempDir::new().unwrap();
    let purges = on_a_full_disk(folder.path());
    let failed = purges.order(&named("a"), Manner::Hard).await.unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
    assert_eq!(purges.verdict(&[tag("a")], 7), Verdict::Dead, "in force all the same");
    assert_eq!(purges.counts().log_failures, 1);
    purges.order(&named("b"), Manner::Hard).await.unwrap();
    purges.order(&named("c"), Manner::Hard).await.unwrap();
    let killed = as_killed(folder.path());
    let again = open(killed.path());
    for name in ["a", "b", "c"] {
        assert_eq!(again.verdict(&[tag(name)], 7), Verdict::Dead, "{name}");
    }
    assert_eq!(again.verdict(&[tag("d")], 7), Verdict::Alive);
}

#[tokio::test]
async fn a_failed_write_is_tried_again_without_another_order() {
    let folder = TempDir::new().unwrap();
    let purges = on_a_full_disk(folder.path());
    assert!(purges.order(&named("a"), Manner::Hard).await.is_err());
    let written = durable_of(&purges, purges.sequence());
    tokio::time::timeout(Duration::from_secs(60), written).await.unwrap();
    let killed = as_killed(folder.path());
    assert_eq!(open(killed.path()).verdict(&[tag("a")], 7), Verdict::Dead);
}

/// Waits until an order is durable, however often writing it fails.
async fn durable_of(purges: &Purges, number: u64) {
    let mut settled = purges.settled.clone().unwrap();
    while durable(&mut settled, number).await.is_err() {
        settled.changed().await.unwrap();
    }
}

#[tokio::test]
async fn a_disk_that_stays_full_does_not_hold_up_the_end() {
    let folder = TempDir::new().unwrap();
    let purges = on_a_full_disk(folder.path());
    fs::create_dir(folder.path().join("purges.new")).unwrap();
    for name in ["a", "b"] {
        assert!(purges.order(&named(name), Manner::Hard).await.is_err());
        assert_eq!(purges.verdict(&[tag(name)], 7), Verdict::Dead);
    }
    purges.close().await;
    assert!(purges.counts().log_failures >= 2);
}

#[tokio::test]
async fn at_the_bound_the_oldest_orders_become_a_floor() {
    let purges = in_memory(settings(3));
    let first = purges.sequence();
    let mut numbers = Vec::new();
    for name in ["a", "b", "c", "a"] {
        numbers.push(purges.order(&named(name), Manner::Hard).await.unwrap());
    }
    let counts = purges.counts();
    assert_eq!((counts.orders, counts.folded, counts.hard_floor), (3, 0, 0), "a took no more room");
    assert_eq!(purges.verdict(&[tag("other")], first), Verdict::Alive);
    let last = purges.order(&named("d"), Manner::Soft).await.unwrap();
    let counts = purges.counts();
    assert_eq!((counts.orders, counts.folded, counts.hard_floor), (3, 1, numbers[1]));
    assert_eq!(purges.verdict(&[tag("other")], numbers[0]), Verdict::Dead, "more than was named");
    assert_eq!(purges.verdict(&[tag("other")], numbers[1]), Verdict::Alive);
    assert_eq!(purges.verdict(&[tag("b")], numbers[0]), Verdict::Dead, "never less");
    assert_eq!(purges.verdict(&[tag("c")], numbers[1]), Verdict::Dead);
    assert_eq!(purges.verdict(&[tag("d")], numbers[3]), Verdict::Stale);
    for name in ["e", "f", "g"] {
        purges.order(&named(name), Manner::Soft).await.unwrap();
    }
    let counts = purges.counts();
    assert_eq!((counts.hard_floor, counts.soft_floor), (numbers[3], last));
    assert_eq!(purges.verdict(&[tag("other")], numbers[3]), Verdict::Stale, "soft folds softly");
}

#[tokio::test]
async fn an_order_larger_than_the_table_purges_everything_before_it() {
    for orders_max in 0..3 {
        let purges = in_memory(settings(orders_max));
        let first = purges.sequence();
        let targets: Vec<Target> = ["a", "b", "c"].into_iter().flat_map(named).collect();
        let number = purges.order(&targets, Manner::Hard).await.unwrap();
        assert_eq!(purges.verdict(&[tag("other")], first), Verdict::Dead);
        assert_eq!(purges.verdict(&[tag("a")], number), Verdict::Alive);
        assert!(purges.counts().orders <= orders_max);
    }
}

#[tokio::test]
async fn an_order_past_the_longest_life_gives_its_room_back() {
    let (folder, clock) = (fresh(), Clock::standing_at(NOON));
    let purges = open_with(folder.path(), settings(10), &clock);
    let first = purges.sequence();
    let aged = purges.order(&named("a"), Manner::Hard).await.unwrap();
    clock.advance(60 * HOUR);
    purges.order(&named("b"), Manner::Hard).await.unwrap();
    clock.advance(41 * HOUR);
    purges.order(&named("c"), Manner::Hard).await.unwrap();
    let counts = purges.counts();
    assert_eq!((counts.orders, counts.aged, counts.folded), (2, 1, 0));
    assert_eq!(purges.verdict(&[tag("a")], first), Verdict::Dead, "not even then is it undone");
    assert_eq!(purges.verdict(&[tag("other")], aged), Verdict::Alive);
    clock.advance(60 * HOUR);
    purges.close().await;
    let again = open_with(folder.path(), settings(10), &clock);
    assert_eq!(again.counts().orders, 1, "and on opening");
    assert_eq!(again.verdict(&[tag("b")], aged), Verdict::Dead);
}

#[tokio::test]
async fn an_order_names_at_most_so_many_targets() {
    let purges = in_memory(settings(20_000));
    let first = purges.sequence();
    let mut targets: Vec<Target> =
        (0..TARGETS_MAX).flat_map(|number| named(&number.to_string())).collect();
    purges.order(&targets, Manner::Hard).await.unwrap();
    assert_eq!(purges.counts().orders, TARGETS_MAX);
    targets.extend(named("one more"));
    let refused = purges.order(&targets, Manner::Hard).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(purges.verdict(&[tag("one more")], first), Verdict::Alive);
    purges.order_soon(&targets, Manner::Hard);
    assert_eq!(purges.verdict(&[tag("whatever")], first), Verdict::Dead);
}

#[tokio::test]
async fn an_order_of_nothing_takes_no_number() {
    let purges = in_memory(settings(10));
    let before = purges.sequence();
    assert_eq!(purges.order(&[], Manner::Hard).await.unwrap(), before);
    assert_eq!(purges.order_soon(&[], Manner::Hard), before);
    assert_eq!(purges.sequence(), before);
}

#[tokio::test]
async fn numbers_are_not_given_again_after_a_kill_however_the_clock_stands() {
    for restarted_at in [Timestamp(0), NOON, NOON.plus(HOUR), Timestamp(u64::MAX)] {
        let folder = fresh();
        let purges = open(folder.path());
        // As if nothing of what follows had reached the disk.
        let killed = as_killed(folder.path());
        let given = [(); 50].map(|()| purges.order_soon(&named("a"), Manner::Hard))[49];
        let again = open_with(killed.path(), settings(10), &Clock::standing_at(restarted_at));
        assert!(again.sequence() > given);
        let twice = as_killed(killed.path());
        let third = open_with(twice.path(), settings(10), &Clock::standing_at(restarted_at));
        assert!(third.sequence() > again.sequence(), "the base was in the log at once");
        let number = again.order_soon(&named("a"), Manner::Hard);
        assert_eq!(again.verdict(&[tag("a")], given), Verdict::Dead);
        assert_eq!(again.verdict(&[tag("a")], number), Verdict::Alive);
    }
}

/// Everything stored before is dead, and what is filled from now on is not.
fn assert_lost(folder: &Path, before: u64) {
    let purges = open_with(folder, settings(1_000), &Clock::standing_at(Timestamp(0)));
    assert!(purges.counts().is_log_lost);
    assert_eq!(purges.verdict(&[tag("other")], before), Verdict::Dead);
    assert!(purges.sequence() > before);
    assert_eq!(purges.verdict(&[tag("a")], purges.sequence()), Verdict::Alive);
    let number = purges.order_soon(&named("other"), Manner::Hard);
    assert_eq!(purges.verdict(&[tag("other")], number - 1), Verdict::Dead);
    drop(purges);
    let killed = as_killed(folder);
    assert_eq!(open(killed.path()).verdict(&[tag("other")], before), Verdict::Dead, "for good");
}

/// A log of five orders with one name each, and the number that a fill before them records.
async fn five_orders(folder: &Path) -> (Vec<u64>, u64) {
    let purges = open(folder);
    let before = purges.sequence();
    let mut numbers = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        numbers.push(purges.order(&named(name), Manner::Hard).await.unwrap());
    }
    purges.close().await;
    (numbers, before)
}

#[tokio::test]
async fn a_damaged_log_makes_everything_older_dead() {
    let folder = fresh();
    let (numbers, _) = five_orders(folder.path()).await;
    let log = log_of(folder.path());
    for byte in (0..log.len()).step_by(7) {
        let mut damaged = log.clone();
        damaged[byte] ^= 0x10;
        assert_lost(with_log(&damaged).path(), numbers[4]);
    }
    assert_lost(with_log(b"").path(), numbers[4]);
}

#[tokio::test]
async fn a_log_of_another_version_makes_everything_older_dead() {
    let folder = fresh();
    let (numbers, _) = five_orders(folder.path()).await;
    let mut log = log_of(folder.path());
    log[7] += 1;
    assert_lost(with_log(&log).path(), numbers[4]);
}

#[tokio::test]
async fn a_missing_log_makes_everything_older_dead_if_there_is_anything() {
    let folder = fresh();
    let (numbers, _) = five_orders(folder.path()).await;
    fs::remove_file(folder.path().join("purges")).unwrap();
    assert_lost(folder.path(), numbers[4]);
    let empty = TempDir::new().unwrap();
    let clock = Clock::standing_at(NOON);
    let first = Purges::open(Some(empty.path()), settings(10), clock.clone(), false).unwrap();
    assert!(!first.counts().is_log_lost);
    assert_eq!(first.verdict(&[tag("a")], 0), Verdict::Alive);
    let memory = Purges::open(None, settings(10), clock, true).unwrap();
    assert_eq!(memory.verdict(&[tag("a")], numbers[4]), Verdict::Dead);
}

#[test]
fn a_log_that_is_lost_twice_makes_everything_older_dead_twice() {
    let folder = fresh();
    let lost_at = |now: Timestamp| {
        fs::remove_file(folder.path().join("purges")).unwrap();
        open_with(folder.path(), settings(10), &Clock::standing_at(now))
    };
    drop(lost_at(NOON));
    let mut filled = 0;
    for _ in 0..20 {
        filled = open_with(folder.path(), settings(10), &Clock::standing_at(NOON)).sequence();
    }
    let purges = lost_at(NOON.plus(Duration::from_secs(60)));
    assert_eq!(purges.verdict(&[tag("a")], filled), Verdict::Dead);
}

#[test]
fn a_log_that_is_damaged_between_two_losses_makes_everything_older_dead_each_time() {
    let folder = fresh();
    let path = folder.path().join("purges");
    let opened_at =
        |now: Timestamp| open_with(folder.path(), settings(10), &Clock::standing_at(now));
    fs::remove_file(&path).unwrap();
    drop(opened_at(NOON));
    let mut log = fs::read(&path).unwrap();
    let last = log.len() - 1;
    log[last - RECORD_BYTES] ^= 1;
    fs::write(&path, log).unwrap();
    let damaged = opened_at(NOON);
    assert!(damaged.counts().is_log_lost);
    let filled = damaged.sequence();
    drop(damaged);
    fs::remove_file(&path).unwrap();
    let purges = opened_at(NOON.plus(Duration::from_secs(3_600)));
    assert_eq!(purges.verdict(&[tag("a")], filled), Verdict::Dead);
}

#[tokio::test]
async fn a_log_cut_anywhere_has_the_orders_before_the_cut() {
    let folder = fresh();
    let (_, before) = five_orders(folder.path()).await;
    let log = log_of(folder.path());
    let orders_from = log.len() - 5 * RECORD_BYTES;
    for cut in orders_from..=log.len() {
        let torn = with_log(&log[..cut]);
        let purges = open(torn.path());
        assert!(!purges.counts().is_log_lost, "cut at {cut}");
        let kept = (cut - orders_from) / RECORD_BYTES;
        for (index, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            let expected = if index < kept { Verdict::Dead } else { Verdict::Alive };
            assert_eq!(purges.verdict(&[tag(name)], before), expected, "{name}, cut at {cut}");
        }
        if cut % 10 > 0 {
            continue;
        }
        // And nothing is written behind the torn record.
        purges.order(&named("f"), Manner::Hard).await.unwrap();
        let killed = as_killed(torn.path());
        let again = open(killed.path());
        assert!(!again.counts().is_log_lost);
        assert_eq!(again.verdict(&[tag("f")], before), Verdict::Dead);
    }
}

#[tokio::test]
async fn a_log_is_shortened_while_it_is_used_and_loses_nothing() {
    let folder = fresh();
    let purges = open(folder.path());
    let before = purges.sequence();
    purges.order_soon(&named("once"), Manner::Soft);
    for round in 0..6_000 {
        purges.order_soon(&named(["a", "b", "c"][round % 3]), Manner::Hard);
    }
    let number = purges.order(&named("last"), Manner::Hard).await.unwrap();
    purges.close().await;
    let length = log_of(folder.path()).len() as u64;
    assert_eq!(purges.counts().log_bytes, length);
    assert!(length <= 64 << 10, "{length} bytes are left of 6,000 orders");
    let again = open(folder.path());
    assert_eq!(again.counts().orders, 5);
    assert_eq!(again.verdict(&[tag("once")], before), Verdict::Stale);
    assert_eq!(again.verdict(&[tag("c")], before), Verdict::Dead);
    assert_eq!(again.verdict(&[tag("c")], number), Verdict::Alive);
    assert_eq!(log_of(folder.path()).len(), 8 + 6 * RECORD_BYTES, "and on opening");
}

#[tokio::test]
async fn a_record_that_is_told_twice_or_late_changes_nothing() {
    let mut ledger = Ledger::new(settings(10));
    let tables = Tables::new();
    let order = |target, manner, number| Record {
        what: What::Order(target, manner),
        number,
        at: NOON,
        shared: 0,
        is_own: true,
    };
    let (a, b) = (named("a")[0], named("b")[0]);
    let told = [
        order(a, Manner::Hard, 2),
        order(Target::Everything, Manner::Hard, 5),
        order(a, Manner::Hard, 7),
        order(b, Manner::Soft, 8),
    ];
    told.iter().for_each(|record| ledger.replay(&tables, record));
    let records = ledger.records(&tables, 8);
    told.iter().for_each(|record| ledger.replay(&tables, record));
    assert_eq!(ledger.records(&tables, 8), records);
    ledger.replay(&tables, &order(b, Manner::Hard, 6));
    assert_eq!(tables.verdict(&[tag("b")], 7), Verdict::Stale, "the newer soft order stays");
    assert_eq!(tables.verdict(&[tag("b")], 5), Verdict::Dead);
}

#[test]
fn a_folder_that_cannot_be_used_is_an_error_that_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let opened = Purges::open(Some(file.path()), settings(1), Clock::default(), false);
    let error = opened.unwrap_err();
    assert!(error.to_string().contains(&file.path().display().to_string()));
}

#[test]
fn an_order_that_returned_is_seen_by_every_later_verdict() {
    const ROUNDS: u64 = 3_000;
    // So few that the floors rise all the time, and soft and hard orders take over in turn.
    let purges = in_memory(settings(3));
    let first = purges.sequence();
    let newest_acknowledged = AtomicU64::new(0);
    let start = Barrier::new(4);
    let give = |names: [&'static str; 2]| {
        start.wait();
        let mut last = 0;
        for round in 0..ROUNDS {
            let name = names[usize::from(round % 2 == 0)];
            let manner = if round % 3 == 0 { Manner::Soft } else { Manner::Hard };
            let number = purges.order_soon(&named(name), manner);
            assert!(number > last, "numbers grow");
            last = number;
            newest_acknowledged.fetch_max(number, Ordering::SeqCst);
            assert!(purges.sequence() >= number);
            assert_ne!(purges.verdict(&[tag(name)], number - 1), Verdict::Alive);
        }
    };
    let read = || {
        start.wait();
        loop {
            let acknowledged = newest_acknowledged.load(Ordering::SeqCst);
            if acknowledged > 0 {
                // One of them was named by the newest order, whichever took over what since.
                let all = ["a", "b", "c", "d"].map(tag);
                assert_ne!(purges.verdict(&all, acknowledged - 1), Verdict::Alive);
            }
            if acknowledged >= first + 2 * ROUNDS {
                return;
            }
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(|| give(["a", "b"]));
        threads.spawn(|| give(["c", "d"]));
        threads.spawn(read);
        threads.spawn(read);
    });
    assert_eq!(purges.sequence(), first + 2 * ROUNDS);
}

#[test]
fn no_order_is_out_of_force_while_another_takes_over() {
    const ROUNDS: u64 = 10_000;
    let purges = in_memory(settings(1));
    let soft = AtomicU64::new(purges.order_soon(&named("a"), Manner::Soft));
    let done = AtomicBool::new(false);
    // A verdict takes its time over these, so that whole rounds go by within one.
    let mut selectors: Vec<Selector> = (0..300).map(|number| tag(&number.to_string())).collect();
    selectors.push(tag("a"));
    let read = || {
        while !done.load(Ordering::SeqCst) {
            let number = soft.load(Ordering::SeqCst);
            assert_ne!(purges.verdict(&selectors, number - 1), Verdict::Alive);
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(read);
        threads.spawn(read);
        for _ in 0..ROUNDS {
            soft.store(purges.order_soon(&named("a"), Manner::Soft), Ordering::SeqCst);
            // A hard order takes over, then a floor.
            purges.order_soon(&named("a"), Manner::Hard);
            purges.order_soon(&named("b"), Manner::Hard);
        }
        done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn orders_of_many_threads_are_durable_when_they_return() {
    let folder = fresh();
    let purges = open(folder.path());
    let before = purges.sequence();
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let purges = &purges;
            threads.spawn(move || {
                for round in 0..20 {
                    let targets = named(&format!("{thread}.{round}"));
                    runtime().block_on(purges.order(&targets, Manner::Hard)).unwrap();
                }
            });
        }
    });
    let counts = purges.counts();
    assert!(counts.log_writes <= 80 && counts.log_failures == 0);
    let killed = as_killed(folder.path());
    let again = open(killed.path());
    for name in (0..4).flat_map(|thread| (0..20).map(move |round| format!("{thread}.{round}"))) {
        assert_eq!(again.verdict(&[tag(&name)], before), Verdict::Dead, "{name}");
    }
}

/// What happens to a table and its model.
#[derive(Clone, Debug)]
enum Step {
    /// Names by number; the last one is everything.
    Order {
        names: Vec<u8>,
        manner: Manner,
        waits: bool,
    },
    /// An entry with the names whose bit is set.
    Fill {
        names: u8,
    },
    Restart,
    Kill,
    Pass(Duration),
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const EVERYTHING: u8 = 5;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let manner = prop_oneof![Just(Manner::Hard), Just(Manner::Soft)];
    let name = prop_oneof![20 => 0..EVERYTHING, 1 => Just(EVERYTHING)];
    let names = proptest::collection::vec(name, 1..4);
    let step = prop_oneof![
        8 => (names, manner, any::<bool>())
            .prop_map(|(names, manner, waits)| Step::Order { names, manner, waits }),
        8 => (0_u8..32).prop_map(|names| Step::Fill { names }),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        2 => (0_u32..60).prop_map(|hours| Step::Pass(hours * HOUR)),
    ];
    proptest::collection::vec(step, 1..40)
}

/// The rule itself, without table, bound or log: all orders ever given, and all entries.
#[derive(Default)]
struct Model {
    orders: Vec<(Vec<u8>, Manner)>,
    entries: Vec<Filled>,
}

struct Filled {
    names: u8,
    purge_sequence: u64,
    /// Orders given before.
    orders_before: usize,
    at: Timestamp,
}

impl Model {
    fn verdict(&self, entry: &Filled) -> Verdict {
        let names = |name: &u8| *name == EVERYTHING || entry.names & (1 << name) != 0;
        let since = self.orders[entry.orders_before..].iter();
        let manners: Vec<Manner> =
            since.filter(|(named, _)| named.iter().any(names)).map(|(_, manner)| *manner).collect();
        match manners.contains(&Manner::Hard) {
            true => Verdict::Dead,
            false if manners.is_empty() => Verdict::Alive,
            false => Verdict::Stale,
        }
    }
}

/// The table beside its model.
struct Both {
    folder: TempDir,
    clock: Clock,
    settings: PurgeSettings,
    purges: Purges,
    model: Model,
    runtime: tokio::runtime::Runtime,
}

impl Both {
    fn new(orders_max: usize) -> Both {
        let (folder, clock) = (fresh(), Clock::standing_at(NOON));
        let settings = settings(orders_max);
        let purges = open_with(folder.path(), settings, &clock);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Both { folder, clock, settings, purges, model: Model::default(), runtime }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Order { names, manner, waits } => {
                let target = |name: &u8| match NAMES.get(usize::from(*name)) {
                    Some(name) => Target::Selector(tag(name)),
                    None => Target::Everything,
                };
                let targets: Vec<Target> = names.iter().map(target).collect();
                if waits {
                    self.runtime.block_on(self.purges.order(&targets, manner)).unwrap();
                } else {
                    self.purges.order_soon(&targets, manner);
                }
                self.model.orders.push((names, manner));
            }
            Step::Fill { names } => self.model.entries.push(Filled {
                names,
                purge_sequence: self.purges.sequence(),
                orders_before: self.model.orders.len(),
                at: self.clock.now(),
            }),
            Step::Restart => {
                self.runtime.block_on(self.purges.close());
                self.open_again();
            }
            Step::Kill => {
                // Durable with all before it, and of no entry's name.
                self.runtime.block_on(self.purges.order(&named("nobody"), Manner::Hard)).unwrap();
                self.folder = as_killed(self.folder.path());
                self.open_again();
            }
            Step::Pass(time) => self.clock.advance(time),
        }
    }

    fn open_again(&mut self) {
        let before = self.purges.sequence();
        self.purges = open_with(self.folder.path(), self.settings, &self.clock);
        assert!(self.purges.sequence() > before);
        assert!(!self.purges.counts().is_log_lost);
    }

    /// What the table and the model make of each entry that has not expired.
    fn verdicts(&self) -> Vec<(Verdict, Verdict)> {
        let now = self.clock.now();
        let lives = |entry: &&Filled| now.since(entry.at) <= self.settings.entry_life_max;
        let both = |entry: &Filled| {
            let has = |index: &usize| entry.names & (1 << index) != 0;
            let selectors: Vec<Selector> =
                (0..NAMES.len()).filter(has).map(|index| tag(NAMES[index])).collect();
            let found = self.purges.verdict(&selectors, entry.purge_sequence);
            (found, self.model.verdict(entry))
        };
        self.model.entries.iter().filter(lives).map(both).collect()
    }
}

fn severity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Alive => 0,
        Verdict::Stale => 1,
        Verdict::Dead => 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn within_the_bound_exactly_what_was_named_is_purged(steps in steps()) {
        let mut both = Both::new(11);
        for step in steps {
            both.take(step);
            for (found, expected) in both.verdicts() {
                prop_assert_eq!(found, expected);
            }
        }
        prop_assert_eq!(both.purges.counts().folded, 0);
    }

    #[test]
    fn at_the_bound_never_less_is_purged_than_was_named(
        orders_max in 0_usize..5,
        steps in steps(),
    ) {
        let mut both = Both::new(orders_max);
        for step in steps {
            both.take(step);
            prop_assert!(both.purges.counts().orders <= orders_max);
            for (found, expected) in both.verdicts() {
                prop_assert!(severity(found) >= severity(expected), "{found:?} < {expected:?}");
            }
        }
    }
}
