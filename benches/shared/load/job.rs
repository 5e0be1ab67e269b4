//! What a load has to do, and what answers are what it wants.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use crate::shared::exchange::Question;

/// What a load has to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Whom to ask.
    pub(crate) address: SocketAddr,
    /// How to speak to it.
    pub(crate) protocol: Protocol,
    /// What to ask.
    pub(crate) question: Question,
    /// How many bytes a whole answer is to have.
    pub(crate) answer_bytes: usize,
    /// Which prompts.
    pub(crate) numbers: Numbers,
    /// How many callers at once.
    pub(crate) callers: u64,
    /// When it is enough.
    pub(crate) until: Until,
    /// What the answers must be.
    pub(crate) expected: Expected,
    /// What is asked besides, if anything; the others are then asked by Zipf's law.
    pub(crate) mixed: Option<Mix>,
    /// Whether to spin instead of sleeping. A load that sleeps has to be woken for an answer,
    /// and the waking costs the server: the slower it is, the more often. With a core of its own
    /// the load takes that cost from all servers alike.
    pub(crate) spin: bool,
}

impl Job {
    /// How long it takes, where it says so.
    pub(crate) fn duration(&self) -> Duration {
        match self.until {
            Until::Asked { .. } => Duration::ZERO,
            Until::Elapsed { millis } => Duration::from_millis(millis) + self.warm_up(),
        }
    }

    /// The first answers find cold caches and new connections; they are checked and not counted.
    pub(super) fn warm_up(&self) -> Duration {
        match self.until {
            Until::Asked { .. } => Duration::ZERO,
            Until::Elapsed { millis } => Duration::from_millis((millis / 5).min(200)),
        }
    }

    pub(super) fn counts(&self, asked: Instant, warm: Instant) -> bool {
        matches!(self.until, Until::Asked { .. }) || asked >= warm
    }
}

/// How to speak to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Protocol {
    /// HTTP/1.1, each caller on a connection of its own.
    Http1,
    /// HTTP/2 in clear, so many callers on each connection.
    Http2 { streams: u64 },
}

/// The numbers of the prompts: so many from the first, over and over. The callers start evenly
/// spread over them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Numbers {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

impl Numbers {
    /// The one of this caller of so many, in this turn.
    pub(super) fn of(self, caller: u64, callers: u64, turn: u64) -> u64 {
        let start = caller * self.count / callers;
        self.first + (start + turn) % self.count
    }
}

/// New prompts among the others.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Mix {
    /// Of a hundred, how many are new.
    pub(crate) new_percent: u8,
    /// The new ones.
    pub(crate) new: Numbers,
    /// What their answers must be.
    pub(crate) expected: Expected,
}

/// When a load ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Until {
    /// Each caller has asked so often.
    Asked { times: u64 },
    /// So much time has passed after the warm-up.
    Elapsed { millis: u64 },
}

/// Where the answers must come from. A peer is set up to say so in `Cache-Status`, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Expected {
    /// Nobody in between.
    Direct,
    /// Past the cache.
    Bypass,
    /// The upstream, through the cache, as a leader or a follower.
    Miss,
    /// The memory tier.
    Memory,
    /// The disk tier.
    Disk,
    /// A tier of this server.
    Hit,
    /// The cache: whoever is late in a storm finds the answer stored.
    Cache,
    /// Past a peer's cache.
    PeerBypass,
    /// The upstream, through a peer's cache.
    PeerMiss,
    /// A peer's cache.
    PeerHit,
    /// A peer's cache or the upstream: those who wait in a storm are told that they hit.
    Peer,
}

impl Expected {
    pub(super) fn is_met(self, cache_status: Option<&str>) -> bool {
        let Some(said) = cache_status else { return self == Expected::Direct };
        match self {
            Expected::Direct => false,
            Expected::Bypass => said.starts_with("cache-server; fwd=bypass;"),
            Expected::Miss => said.starts_with("cache-server; fwd=miss;"),
            Expected::Memory => is_hit(said) && said.ends_with("; detail=memory"),
            Expected::Disk => is_hit(said) && said.ends_with("; detail=disk"),
            Expected::Hit => is_hit(said),
            Expected::Cache => is_hit(said) || Expected::Miss.is_met(Some(said)),
            Expected::PeerBypass => said == "peer; fwd=bypass",
            Expected::PeerMiss => said == "peer; fwd=miss",
            Expected::PeerHit => said == "peer; hit",
            Expected::Peer => said == "peer; hit" || Expected::PeerMiss.is_met(Some(said)),
        }
    }

    /// Checks an answer.
    pub(super) fn check(
        self,
        status: &str,
        said: Option<&str>,
        body: &[u8],
        wanted: &[u8],
    ) -> anyhow::Result<()> {
        let text = || String::from_utf8_lossy(&body[..body.len().min(4096)]);
        ensure!(status == "200", "{status} instead of 200: {}", text());
        ensure!(self.is_met(said), "not what is to be measured, {self:?}: {said:?}");
        ensure!(body == wanted, "the answer's body is not the upstream's: {}", text());
        Ok(())
    }
}

fn is_hit(said: &str) -> bool {
    said.starts_with("cache-server; hit;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_start_spread_over_the_prompts_and_ask_each_once() {
        let numbers = Numbers { first: 100, count: 8 };
        let asked = |caller| (0..4).map(move |turn| numbers.of(caller, 2, turn));
        let asked: Vec<u64> = asked(0).chain(asked(1)).collect();
        assert_eq!(asked, [100, 101, 102, 103, 104, 105, 106, 107]);
        assert_eq!(numbers.of(15, 16, 0), 107, "more callers than prompts are spread as well");
    }

    #[test]
    fn an_answer_must_come_from_where_the_row_claims() {
        let hit = Some("cache-server; hit; ttl=9; detail=memory");
        assert!(Expected::Memory.is_met(hit) && Expected::Hit.is_met(hit));
        let miss = Some("cache-server; fwd=miss; fwd-status=200; stored");
        assert!(Expected::Cache.is_met(hit) && Expected::Cache.is_met(miss));
        assert!(!Expected::Hit.is_met(miss));
        assert!(!Expected::Disk.is_met(hit) && !Expected::PeerHit.is_met(hit));
        assert!(Expected::Direct.is_met(None) && !Expected::Direct.is_met(hit));
        assert!(!Expected::Memory.is_met(None));
        for met in [Expected::PeerHit, Expected::Peer] {
            assert!(met.is_met(Some("peer; hit")));
        }
        assert!(!Expected::PeerHit.is_met(Some("peer; fwd=miss")));
        assert!(Expected::Peer.is_met(Some("peer; fwd=miss")));
        assert!(Expected::Direct.check("200", None, b"a", b"a").is_ok());
        assert!(Expected::Direct.check("200", None, b"a", b"b").is_err());
        assert!(Expected::Direct.check("503", None, b"a", b"a").is_err());
    }
}
