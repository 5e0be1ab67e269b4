//! Looks in on a connection from time to time and says when it is to be closed: a header that
//! does not get finished, a connection that idles, a caller that does not take its answer, an
//! exchange over its time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::activity::{Activity, Look};
use crate::config::ServerSettings;

/// Beyond its own bound an exchange is cut by whoever answers it, so that its connection lives
/// on. This much later the connection is closed if its caller still takes of the answer.
const REQUEST_GRACE: Duration = Duration::from_secs(1);

/// How long a connection that was told to end may idle.
const LAST_IDLE: Duration = Duration::from_secs(1);

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// Nothing was asked for `idle_timeout`.
    Idle,
    /// A header was not complete after `header_timeout`.
    Header,
    /// Its caller took nothing of an answer for `write_timeout`.
    Write,
    /// An exchange took longer than `request_timeout`, and its caller still reads.
    Request,
}

impl Alarm {
    /// For the log.
    pub(super) fn why(self) -> &'static str {
        match self {
            Alarm::Idle => "it idled too long",
            Alarm::Header => "its header did not come in time",
            Alarm::Write => "its caller did not take the answer",
            Alarm::Request => "its caller was not done with an answer in time",
        }
    }
}

/// Since when something is so, as far as looks can tell.
#[derive(Clone, Copy, Debug)]
struct Watch {
    seen: u64,
    since: Instant,
}

impl Watch {
    fn since(now: Instant) -> Watch {
        Watch { seen: 0, since: now }
    }

    /// Whether it has been so for `bound`, without a change between looks.
    fn exceeds(&mut self, look: Look, now: Instant, bound: Duration) -> bool {
        if !look.on || look.turn != self.seen {
            *self = Watch { seen: look.turn, since: now };
        }
        look.on && now.duration_since(self.since) >= bound
    }
}

/// The looks at one exchange.
#[derive(Clone, Copy, Debug)]
struct ExchangeWatch {
    sent: Watch,
    answered: Watch,
}

/// Watches one connection; late by a quarter of the shortest bound at most, and by a second.
#[derive(Debug)]
pub(super) struct Watchdog {
    activity: Arc<Activity>,
    header_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
    request_timeout: Option<Duration>,
    header: Watch,
    idle: Watch,
    write: Watch,
    /// Those that were there at the last look, by id, in its order.
    exchanges: Vec<(u64, ExchangeWatch)>,
}

impl Watchdog {
    pub(super) fn new(activity: Arc<Activity>, settings: &ServerSettings) -> Watchdog {
        let now = Watch::since(Instant::now());
        Watchdog {
            activity,
            header_timeout: settings.header_timeout,
            idle_timeout: settings.idle_timeout,
            write_timeout: settings.write_timeout,
            request_timeout: settings.request_timeout.map(|bound| bound + REQUEST_GRACE),
            header: now,
            idle: now,
            write: now,
            exchanges: Vec::new(),
        }
    }

    /// The connection was told to end: from now on it may idle only for a moment.
    pub(super) fn expect_its_end(&mut self) {
        self.idle_timeout = self.idle_timeout.min(LAST_IDLE);
        self.idle.since = Instant::now();
    }

    /// Returns when the connection is to be closed. Between two calls nothing is forgotten.
    pub(super) async fn bark(&mut self) -> Alarm {
        let shortest = self.header_timeout.min(self.idle_timeout).min(self.write_timeout);
        let interval = (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1));
        loop {
            tokio::time::sleep(interval).await;
            if let Some(alarm) = self.look(Instant::now()) {
                return alarm;
            }
        }
    }

    fn look(&mut self, now: Instant) -> Option<Alarm> {
        let activity = &self.activity;
        if self.write.exceeds(activity.write_waits.look(), now, self.write_timeout) {
            return Some(Alarm::Write);
        }
        if self.header.exceeds(activity.header.look(), now, self.header_timeout) {
            return Some(Alarm::Header);
        }
        if self.idle.exceeds(activity.idles(), now, self.idle_timeout) {
            return Some(Alarm::Idle);
        }
        self.look_at_exchanges(now)
    }

    fn look_at_exchanges(&mut self, now: Instant) -> Option<Alarm> {
        let request_timeout = self.request_timeout.unwrap_or(Duration::MAX);
        let before = std::mem::take(&mut self.exchanges);
        let mut alarm = None;
        for exchange in self.activity.exchanges() {
            let first = Watch::since(now);
            let first = ExchangeWatch { sent: first, answered: first };
            let known = before.binary_search_by_key(&exchange.id(), |(id, _)| *id);
            let mut watch = known.map_or(first, |place| before[place].1);
            if watch.sent.exceeds(exchange.is_sent(), now, self.write_timeout) {
                alarm = Some(Alarm::Write);
            }
            if watch.answered.exceeds(exchange.is_answered(), now, request_timeout) {
                alarm = Some(Alarm::Request);
            }
            self.exchanges.push((exchange.id(), watch));
        }
        alarm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watchdog(activity: &Arc<Activity>) -> Watchdog {
        let now = Watch::since(Instant::now());
        Watchdog {
            activity: Arc::clone(activity),
            header_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(8),
            write_timeout: Duration::from_secs(4),
            request_timeout: None,
            header: now,
            idle: now,
            write: now,
            exchanges: Vec::new(),
        }
    }

    fn barking(activity: &Arc<Activity>) -> tokio::task::JoinHandle<Alarm> {
        let mut watchdog = watchdog(activity);
        tokio::spawn(async move { watchdog.bark().await })
    }

    async fn seconds(count: u64) {
        tokio::time::sleep(Duration::from_secs(count)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_after_its_bound() {
        let start = Instant::now();
        assert_eq!(watchdog(&Arc::default()).bark().await, Alarm::Idle);
        assert!((8.0..9.0).contains(&start.elapsed().as_secs_f64()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_told_to_end_may_not_idle_for_long() {
        let mut watchdog = watchdog(&Arc::default());
        assert_eq!(watchdog.bark().await, Alarm::Idle);
        watchdog.expect_its_end();
        let told = Instant::now();
        assert_eq!(watchdog.bark().await, Alarm::Idle);
        assert!((1.0..2.0).contains(&told.elapsed().as_secs_f64()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_drips_is_closed_after_its_bound() {
        let activity = Arc::new(Activity::default());
        activity.header.set(true);
        let start = Instant::now();
        assert_eq!(watchdog(&activity).bark().await, Alarm::Header);
        assert!((2.0..3.0).contains(&start.elapsed().as_secs_f64()));
    }

    #[tokio::test(start_paused = true)]
    async fn headers_one_after_the_other_are_not_one_that_drips() {
        let activity = Arc::new(Activity::default());
        let barking = barking(&activity);
        for _ in 0..20 {
            activity.header.set(true);
            seconds(1).await;
            activity.header.set(false);
        }
        assert!(!barking.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_is_left_alone_and_idles_afresh_afterwards() {
        let activity = Arc::new(Activity::default());
        let answering = activity.exchange().begin();
        let barking = barking(&activity);
        seconds(3600).await;
        assert!(!barking.is_finished());
        drop(answering);
        let idle_since = Instant::now();
        assert_eq!(barking.await.unwrap(), Alarm::Idle);
        assert!(idle_since.elapsed() >= Duration::from_secs(8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_takes_nothing_is_closed_after_its_bound() {
        let activity = Arc::new(Activity::default());
        let _answering = activity.exchange().begin();
        activity.write_waits.set(true);
        let start = Instant::now();
        assert_eq!(watchdog(&activity).bark().await, Alarm::Write);
        assert!((4.0..5.0).contains(&start.elapsed().as_secs_f64()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_takes_its_answer_slowly_is_left_alone() {
        let activity = Arc::new(Activity::default());
        let exchange = activity.exchange();
        let answering = exchange.begin();
        let piece = answering.piece();
        let barking = barking(&activity);
        // Its body is let go of, while its last bytes are still being written.
        drop(answering);
        for _ in 0..60 {
            activity.write_waits.set(false);
            piece.moved();
            activity.write_waits.set(true);
            seconds(3).await;
        }
        assert!(!barking.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn one_stream_whose_answer_is_not_taken_is_found_among_busy_ones() {
        let activity = Arc::new(Activity::default());
        let stuck = activity.exchange().begin();
        let _piece = stuck.piece();
        let start = Instant::now();
        let barking = barking(&activity);
        while !barking.is_finished() {
            let other = activity.exchange().begin();
            let piece = other.piece();
            piece.moved();
            piece.piece_is_gone();
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(start.elapsed() < Duration::from_secs(60), "it is never found");
        }
        assert_eq!(barking.await.unwrap(), Alarm::Write);
        assert!((4.0..5.0).contains(&start.elapsed().as_secs_f64()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_its_upstream_is_left_alone() {
        let activity = Arc::new(Activity::default());
        let exchange = activity.exchange();
        let answering = exchange.begin();
        let barking = barking(&activity);
        for _ in 0..10 {
            let piece = answering.piece();
            piece.moved();
            piece.piece_is_gone();
            drop(piece);
            seconds(600).await;
        }
        assert!(!barking.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_over_its_time_is_closed_and_a_quick_one_after_it_counts_anew() {
        let activity = Arc::new(Activity::default());
        let exchange = activity.exchange();
        let mut watchdog = watchdog(&activity);
        watchdog.request_timeout = Some(Duration::from_secs(10));
        let barking = tokio::spawn(async move { watchdog.bark().await });
        for _ in 0..5 {
            let answering = exchange.begin();
            seconds(6).await;
            drop(answering);
        }
        assert!(!barking.is_finished());
        let answering = exchange.begin();
        let start = Instant::now();
        let piece = answering.piece();
        drop(answering);
        while !barking.is_finished() {
            piece.moved();
            seconds(1).await;
        }
        assert_eq!(barking.await.unwrap(), Alarm::Request);
        assert!((10.0..12.5).contains(&start.elapsed().as_secs_f64()));
    }
}
