//! The app: all long-lived state, built once, torn down once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use keyspec::CredentialDigest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::budget::Budget;
use crate::cache::flight::Flights;
use crate::cache::memo::Memo;
use crate::cache::tiers::local::LocalTier;
use crate::clock::Clock;
use crate::config::policy::Policies;
use crate::config::{Config, ServerSettings};
use crate::telemetry::{Levels, Telemetry};
use crate::upstream::UpstreamError;
use crate::upstream::client::Upstream;
use crate::upstream::head::AnswerHead;

/// The flights of this server.
pub type AnswerFlights = Flights<AnswerHead, UpstreamError>;

/// Everything that outlives a request.
#[derive(Debug)]
pub struct App {
    /// Listeners and their limits.
    pub server: ServerSettings,
    /// What is reused, and for how long.
    pub policies: Policies,
    /// Which credential belongs to which tenant.
    pub tenants: HashMap<CredentialDigest, Arc<str>>,
    /// Longest prefix first.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Where entries live.
    pub tier: LocalTier,
    /// The meaning of bodies that were read before.
    pub memo: Memo,
    /// The fills under way.
    pub flights: Arc<AnswerFlights>,
    /// How long one fill may take altogether.
    pub fill_timeout: Duration,
    /// The tasks of the fills, waited for at the end.
    pub fills: TaskTracker,
    /// The cap on bytes held for requests and fills.
    pub budget: Arc<Budget>,
    /// Every metric.
    pub telemetry: Arc<Telemetry>,
    /// The time.
    pub clock: Clock,
    /// Cancelled when the server begins to drain.
    pub draining: CancellationToken,
    /// Connections of callers now.
    pub connections_open: AtomicUsize,
    /// When the app was built.
    pub started: Instant,
}

impl App {
    /// Builds everything: opens the tiers, makes the clients. Opens no listener.
    ///
    /// # Errors
    /// When the data folder is in use or unusable, or a client cannot be made.
    pub async fn build(config: Config) -> anyhow::Result<Arc<App>> {
        // A second call finds a provider installed already, and that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let telemetry = Arc::new(Telemetry::new().context("cannot set up metrics")?);
        let clock = Clock::default();
        let mut upstreams = Vec::with_capacity(config.upstreams.len());
        for settings in config.upstreams {
            let name = settings.name.clone();
            let upstream = Upstream::new(settings, telemetry.upstream_seconds(&name))
                .with_context(|| {
                    format!(
                        "cannot make a client for upstream {name} (are CA certificates installed?)"
                    )
                })?;
            upstreams.push(Arc::new(upstream));
        }
        // Last, so that nothing that can fail comes after it: an open tier wants to be closed.
        let evictions = Arc::clone(&telemetry);
        let tier = LocalTier::open(
            config.local,
            clock.clone(),
            Box::new(telemetry.foyer_registry()),
            move || evictions.evicted(),
        )
        .await?;
        let budget = Budget::new(config.server.buffered_bytes_max);
        Ok(Arc::new(App {
            flights: Flights::new(config.flights, Arc::clone(&budget)),
            server: config.server,
            policies: config.policies,
            tenants: config.tenants,
            upstreams,
            tier,
            memo: Memo::new(config.memo_bytes_max),
            fill_timeout: config.fill_timeout,
            fills: TaskTracker::new(),
            budget,
            telemetry,
            clock: clock.clone(),
            draining: CancellationToken::new(),
            connections_open: AtomicUsize::new(0),
            started: clock.instant(),
        }))
    }

    /// Waits for the fills under way, at most until `deadline`, then closes the tiers.
    pub async fn tear_down(&self, deadline: tokio::time::Instant) {
        self.fills.close();
        if tokio::time::timeout_at(deadline, self.fills.wait()).await.is_err() {
            tracing::warn!(fills = self.fills.len(), "fills were cut off at the drain deadline");
        }
        // A little longer even past the deadline: what is queued for the disk is worth it.
        let grace = tokio::time::Instant::now() + Duration::from_secs(2);
        if tokio::time::timeout_at(deadline.max(grace), self.tier.close()).await.is_err() {
            tracing::warn!("the disk tier did not close in time");
        }
    }

    /// What is measured when asked.
    #[must_use]
    pub fn levels(&self) -> Levels {
        Levels {
            flights_open: self.flights.open_count(),
            buffered_bytes: self.budget.held(),
            connections_open: self.connections_open.load(Ordering::Relaxed),
            memory_bytes: self.tier.memory_bytes(),
            memory_entries: self.tier.memory_entries(),
        }
    }
}
