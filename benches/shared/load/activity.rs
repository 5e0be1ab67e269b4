//! How busy a load is: where it has nothing to do, it waits for the server, and the server is what
//! is measured.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What a load has done so far.
#[derive(Debug)]
pub(super) struct Activity {
    /// How often a part of it had something to do.
    turns: AtomicU64,
    /// Nanoseconds spun without anything to do.
    idle_ns: AtomicU64,
    began: Instant,
    spins: bool,
}

impl Activity {
    /// Of a load that spins, or sleeps, when it has nothing to do.
    pub(super) fn new(spins: bool) -> Activity {
        let (turns, idle_ns) = (AtomicU64::new(0), AtomicU64::new(0));
        Activity { turns, idle_ns, began: Instant::now(), spins }
    }

    /// How long the load has had nothing to do so far.
    pub(super) fn idle(&self) -> Duration {
        if self.spins {
            return Duration::from_nanos(self.idle_ns.load(Ordering::Relaxed));
        }
        let busy = clock_gettime(ClockId::ProcessCPUTime);
        self.began.elapsed().saturating_sub(Duration::try_from(busy).unwrap_or_default())
    }

    /// Runs a part of the load. It is polled when it has something to do.
    pub(super) async fn counting<F: Future>(&self, part: F) -> F::Output {
        let mut part = pin!(part);
        poll_fn(|context| {
            self.turns.fetch_add(1, Ordering::Relaxed);
            part.as_mut().poll(context)
        })
        .await
    }

    /// Keeps the load awake, if it spins. This runs when no part can; a turn in which none did was
    /// idle.
    pub(super) async fn spin(&self) {
        if !self.spins {
            return;
        }
        let mut began = Instant::now();
        let mut turns = 0;
        loop {
            tokio::task::yield_now().await;
            let now = Instant::now();
            let turns_now = self.turns.load(Ordering::Relaxed);
            if turns_now == turns {
                let idle = u64::try_from((now - began).as_nanos()).unwrap_or(0);
                self.idle_ns.fetch_add(idle, Ordering::Relaxed);
            }
            (began, turns) = (now, turns_now);
        }
    }
}
