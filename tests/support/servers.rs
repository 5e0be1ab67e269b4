//! Several servers that are one cache: how each of them is set up, and for how long one still gives
//! what another has purged.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use serde_json::Value;

use crate::{Answer, Client, Reply, Server, Setup, Upstream, eventually, plain};

/// An upstream whose pages come out in editions, and say in which one they did.
#[derive(Debug)]
pub struct Press {
    /// Where the pages are.
    pub upstream: Upstream,
    edition: Arc<AtomicUsize>,
}

/// What a page of an edition says.
#[must_use]
pub fn printed(edition: usize, path: &str) -> String {
    format!("edition {edition} of {path}")
}

impl Press {
    /// Starts one at edition 0. Pages live for ten minutes, and ten more in which they may be given
    /// stale; each is tagged `all`, and with its path.
    pub async fn start() -> Press {
        let edition = Arc::<AtomicUsize>::default();
        let current = Arc::clone(&edition);
        let upstream = Upstream::start(move |received| {
            let path = received.uri.path();
            Reply::bytes(printed(current.load(Ordering::SeqCst), path))
                .with("cache-control", "max-age=600, stale-while-revalidate=600")
                .with("surrogate-key", &format!("all {path}"))
        });
        Press { upstream: upstream.await, edition }
    }

    /// What it is asked for from now on is of this edition.
    pub fn prints(&self, edition: usize) {
        self.edition.store(edition, Ordering::SeqCst);
    }

    /// A server in front of it, by this name among those that share the Redis at `url`.
    #[must_use]
    pub fn member(&self, url: &str, name: &str) -> Setup {
        Setup::member(&self.upstream, url, name)
    }
}

impl Setup {
    /// In front of this upstream, by this name among those that share the Redis at `url`.
    #[must_use]
    pub fn member(upstream: &Upstream, url: &str, name: &str) -> Setup {
        Setup::in_front_of(upstream).sharing(url).redis("node", name)
    }
}

/// Starts them all at the same time, and waits until each of them has its Redis.
pub async fn all_of<const COUNT: usize>(setups: [Setup; COUNT]) -> [Server; COUNT] {
    let servers = join_all(setups.map(Server::start)).await;
    for server in &servers {
        server.is_ready("ready").await;
    }
    servers.try_into().expect("as many as were asked for")
}

/// What a server has at this path, without asking the upstream.
pub async fn cached(client: &Client, path: &str) -> Answer {
    plain::ask(client, Method::GET, path, &[("cache-control", "only-if-cached")]).await
}

/// Whether this answer is that text, and said to be fresh.
#[must_use]
pub fn is_fresh(answer: &Answer, text: &str) -> bool {
    answer.is_hit() && answer.body == text && answer.ttl_s() >= 0
}

impl Server {
    /// Orders a purge.
    ///
    /// # Panics
    /// When it is not acknowledged.
    pub async fn purge(&self, targets: &Value) {
        let answer = Answer::of(self.admin_client().post("/purge", targets)).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// Fetches this page, and waits until it is in Redis.
    pub async fn shares(&self, path: &str) -> Answer {
        let written = self.written().await;
        let answer = self.client().get(path).await;
        assert!(!answer.is_hit(), "{path}: {}", answer.cache_status());
        eventually(&format!("{path} in Redis"), || async {
            (self.written().await > written).then_some(())
        })
        .await;
        answer
    }

    /// Asks until it does not give this text as fresh any more. How long after `since` the last
    /// request was sent that got it: the test may be slow, and the server is not.
    pub async fn gave(&self, path: &str, text: &str, since: Instant) -> Duration {
        let (client, last) = (self.client(), Cell::new(Duration::ZERO));
        eventually(&format!("an end of {text:?}"), || async {
            let sent = since.elapsed();
            let is_given = is_fresh(&cached(&client, path).await, text);
            if is_given {
                last.set(sent);
            }
            (!is_given).then_some(())
        })
        .await;
        last.get()
    }
}

/// Has this page on the first of these servers fetched, and on all of them in memory.
pub async fn spread(servers: &[&Server], path: &str) -> Answer {
    let first = servers[0].shares(path).await;
    for server in servers {
        let client = server.client();
        eventually(&format!("{path} everywhere"), || async {
            client.get(path).await.is_hit().then_some(())
        })
        .await;
        assert!(is_fresh(&cached(&client, path).await, plain::text(&first)), "{path} is there");
    }
    first
}

/// Sees again and again that none of these servers gives this text as fresh.
///
/// # Panics
/// When one does.
pub async fn nobody_gives(servers: &[&Server], path: &str, text: &str) {
    for server in servers {
        let client = server.client();
        for _ in 0..20 {
            let answer = cached(&client, path).await;
            assert!(!is_fresh(&answer, text), "{path}: {}", answer.cache_status());
        }
    }
}

impl Server {
    /// How many of the leases that it asked for came out like this: `won`, `lost`, `taken-over` or
    /// `failed`.
    pub async fn leases(&self, outcome: &str) -> f64 {
        self.metric(&format!("cache_server_leases_total{{outcome=\"{outcome}\"}}")).await
    }

    /// How many of its waits for another server's answer ended like this: `stored`, `unshared`,
    /// `abandoned`, `expired` or `timed-out`.
    pub async fn lease_waits(&self, outcome: &str) -> f64 {
        self.metric(&format!("cache_server_lease_waits_total{{outcome=\"{outcome}\"}}")).await
    }

    /// Waits until it has found so many leases with another server since its start: it waits for
    /// them, or has waited.
    pub async fn has_lost(&self, count: u32) {
        eventually(&format!("{count} leases lost"), || async {
            (self.leases("lost").await >= f64::from(count)).then_some(())
        })
        .await;
    }
}
