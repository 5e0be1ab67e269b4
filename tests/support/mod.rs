//! The harness: a real server process, a fake upstream that does as it is told, and a client.
//!
//! Nothing here waits for a fixed time: what takes time outside is polled with a deadline.

pub mod by_hand;
pub mod cache_status;
pub mod calls;
pub mod client;
pub mod collector;
pub mod frames;
pub mod front;
pub mod load;
pub mod plain;
pub mod programs;
pub mod raw;
pub mod reading;
pub mod redis;
pub mod relay;
pub mod sample;
pub mod server;
pub mod servers;
pub mod terminal;
pub mod tls;
pub mod upstream;
pub mod wire;

use std::future::Future;
use std::time::{Duration, Instant};

pub use by_hand::{ByHand, Form};
pub use calls::{CALLS, Call, Fixture};
pub use client::{Answer, Client};
pub use collector::{Collector, Exported};
pub use frames::Frames;
pub use front::{Front, Product};
pub use load::Load;
pub use raw::{Raw, RawAnswer};
pub use reading::Reading;
pub use redis::{Cluster, Redis, Sentinels};
pub use relay::{Manner, Relay};
pub use server::{Ended, Server, Setup, credential_digest, run};
pub use terminal::Terminal;
pub use tls::{Certified, TlsFront};
pub use upstream::{Received, Reply, Upstream};
pub use wire::{Wire, WireRequest};

/// How long anything outside may take before a test fails. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until `probe` gives something, at most for [`PATIENCE`].
///
/// # Panics
/// When it never does; `what` says what was waited for.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
