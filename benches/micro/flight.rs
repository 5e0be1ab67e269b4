//! Flights: joining one that is under way, and leading one from its beginning to its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_server::cache::budget::Budget;
use cache_server::cache::flight::{Flights, Joined, Limits, Next};
use criterion::Criterion;
use futures_util::FutureExt;
use keyspec::Key;

use crate::entries::{self, Bodies};

const LIMITS: Limits = Limits {
    flights_max: 1_000,
    recorded_bytes_max: 1 << 20,
    window_bytes: 256 << 10,
    slow_reader_timeout: Duration::from_secs(30),
    // Longer than the benchmark runs: the flight that is joined stays open.
    age_max: Duration::from_secs(3_600),
};
const BUDGET_BYTES: usize = 64 << 20;

/// What is known at the headers does not matter here, nor why a fill failed.
type Table = Arc<Flights<(), ()>>;
type Join = Joined<(), (), ()>;

/// Measures a follower's way on board, and a leader's whole way with an answer of 2.8 KB.
pub(crate) fn measure(criterion: &mut Criterion) {
    let flights: Table = Flights::new(LIMITS, Budget::new(BUDGET_BYTES));
    let [under_way, led] = [entries::key(1), entries::key(2)];
    // Held, so that the flight stays under way.
    let leader = join(&flights, under_way);
    assert!(matches!(leader, Joined::Leader(..)), "somebody leads already");
    assert!(matches!(join(&flights, under_way), Joined::Follower(_)), "the flight is not joined");
    let answer = Bytes::from(Bodies::Chat.body(1, 2_800));
    let mut group = criterion.benchmark_group("flight");
    group.bench_function("joined and left", |bencher| bencher.iter(|| join(&flights, under_way)));
    group.bench_function("led from beginning to end", |bencher| {
        bencher.iter(|| lead(&flights, led, &answer));
    });
    group.finish();
}

fn join(flights: &Table, key: Key) -> Join {
    flights.join(key, 0, |_| true, || None)
}

/// Begins a flight, fills it with an answer of one chunk, and reads that to its end.
fn lead(flights: &Table, key: Key, answer: &Bytes) {
    let Joined::Leader(mut writer, mut reader) = join(flights, key) else {
        panic!("there is a flight under this key already");
    };
    writer.set_head((), true);
    assert!(writer.record(answer), "there is no room for the answer");
    writer.finish(None);
    assert_eq!(reader.head().now_or_never(), Some(Ok(())));
    assert!(matches!(reader.next().now_or_never(), Some(Next::Chunk(chunk)) if chunk == answer));
    assert_eq!(reader.next().now_or_never(), Some(Next::Done(None)));
}
