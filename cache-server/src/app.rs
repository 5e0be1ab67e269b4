//! The app: all long-lived state, built once, torn down once. What may change meanwhile is in its
//! [`settings`].

mod open;
pub mod settings;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::aliases::Aliases;
use crate::cache::back_off::BackOffs;
use crate::cache::batches::Batches;
use crate::cache::budget::Budget;
use crate::cache::coherence::{Coherence, CoherenceReport};
use crate::cache::cool_down::CoolDowns;
use crate::cache::entry::{Entry, Selector};
use crate::cache::fill_times::FillTimes;
use crate::cache::flight::Flights;
use crate::cache::leases::Leases;
use crate::cache::memo::Memo;
use crate::cache::negatives::Negatives;
use crate::cache::overrides::Overrides;
use crate::cache::purge::{Manner, Purges, Target};
use crate::cache::repeats::Repeats;
use crate::cache::suspension::Suspensions;
use crate::cache::tiers::Tiers;
use crate::cache::tiers::redis::{RedisReport, RedisTier};
use crate::cache::unshared::Unshared;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::certificate::Certificate;
use crate::telemetry::log::LogControl;
use crate::telemetry::requests::RequestLines;
use crate::telemetry::trace::Traces;
use crate::telemetry::{Levels, PurgedBy, Telemetry};
use crate::upstream::UpstreamError;
use crate::upstream::client::Upstream;
use crate::upstream::head::Arrival;
use crate::upstream::health::HealthReport;
use crate::upstream::loops::LoopMark;
use settings::Settings;

/// The flights of this server.
pub type AnswerFlights = Flights<Arrival, UpstreamError>;

/// How long whoever gives a purge order waits for other servers to be told.
const PUBLISH_WAIT: Duration = Duration::from_secs(1);

/// Everything that outlives a request.
#[derive(Debug)]
pub struct App {
    settings: ArcSwap<Settings>,
    /// Where the admin listener is bound, whatever a config that was read anew says.
    pub admin_listen: SocketAddr,
    /// What callers over TLS are shown; without one, they speak cleartext.
    pub certificate: Option<Certificate>,
    /// Where entries live.
    pub tiers: Tiers,
    /// The meaning of bodies that were read before.
    pub memo: Memo,
    /// The meaning of whole requests that came before.
    pub repeats: Repeats,
    /// The fills under way.
    pub flights: Arc<AnswerFlights>,
    /// What tells the requests that we forwarded from all others.
    pub loops: LoopMark,
    /// What was purged.
    pub purges: Arc<Purges>,
    /// What servers tell each other, if they share a Redis.
    pub coherence: Option<Arc<Coherence>>,
    /// By which servers fetch a key once for all of them, if they do.
    pub leases: Option<Arc<Leases>>,
    /// How long fills took of late.
    pub fill_times: FillTimes,
    /// Which model answers for which name.
    pub aliases: Aliases,
    /// Under which keys nobody waits for anybody.
    pub unshared: Unshared,
    /// Upstreams that are not to be asked for a tenant now.
    pub cool_downs: CoolDowns,
    /// Keys that are not to be fetched now.
    pub back_offs: BackOffs<UpstreamError>,
    /// How much is being stored.
    pub batches: Batches,
    /// Under which keys there was nothing lately.
    pub negatives: Negatives,
    /// Credentials that an upstream refuses.
    pub suspensions: Suspensions,
    /// Levers that an operator pulls for a while.
    pub overrides: Arc<Overrides>,
    /// The tunnels, waited for at the end.
    pub tunnels: TaskTracker,
    /// Tunnels open or being opened.
    pub tunnels_open: AtomicUsize,
    /// The tasks of the fills, waited for at the end.
    pub fills: TaskTracker,
    /// The cap on bytes held for requests and fills.
    pub budget: Arc<Budget>,
    /// Every metric.
    pub telemetry: Arc<Telemetry>,
    /// The spans of requests, if they are exported.
    pub traces: Traces,
    /// The log.
    pub log: LogControl,
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
    /// Builds everything: opens the tiers, makes the clients. Opens no listener. `log` is where
    /// requests are told of.
    ///
    /// # Errors
    /// When the data folder is in use or unusable, or a client cannot be made.
    pub async fn build(config: Config, log: LogControl) -> anyhow::Result<Arc<App>> {
        // A second call finds a provider installed already, and that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificate = config.server.certificate.clone().map(Certificate::load).transpose()?;
        let clock = Clock::default();
        let started = clock.instant();
        let lines = RequestLines::new(log.form(), config.log.requests_per_second_max, started);
        let telemetry = Arc::new(Telemetry::new(lines).context("cannot set up metrics")?);
        let traces = Traces::new(config.trace.clone(), &telemetry)?;
        let (local, redis, purge) = (config.local.clone(), config.redis.clone(), config.purge);
        let (flights, memo_bytes_max) = (config.flights, config.memo_bytes_max);
        let suspensions = Suspensions::new(config.suspensions_max);
        let budget = Budget::new(config.server.buffered_bytes_max);
        let admin_listen = config.server.admin_listen;
        let settings = Settings::of(config, &[], &telemetry, &clock)?;
        // Last, so that nothing that can fail comes after it: an open tier wants to be closed.
        let kept = open::kept(local, purge, &clock, &telemetry).await?;
        let shared = open::shared(redis, purge.orders_max, &kept, &clock, &telemetry).await;
        let came_too_late = shared.redis.as_ref().and_then(RedisTier::came_too_late);
        let app = Arc::new(App {
            loops: LoopMark::random(),
            purges: kept.purges,
            coherence: shared.coherence,
            leases: shared.leases,
            fill_times: FillTimes::default(),
            aliases: Aliases::default(),
            unshared: Unshared::default(),
            cool_downs: CoolDowns::default(),
            back_offs: BackOffs::default(),
            batches: Batches::default(),
            negatives: Negatives::default(),
            flights: Flights::new(flights, Arc::clone(&budget)),
            settings: ArcSwap::from_pointee(settings),
            admin_listen,
            certificate,
            tiers: Tiers { local: kept.local, redis: shared.redis },
            memo: Memo::new(memo_bytes_max / 2),
            repeats: Repeats::new(memo_bytes_max / 2),
            suspensions,
            overrides: kept.overrides,
            tunnels: TaskTracker::new(),
            tunnels_open: AtomicUsize::new(0),
            fills: TaskTracker::new(),
            budget,
            telemetry,
            traces,
            log,
            clock,
            draining: CancellationToken::new(),
            connections_open: AtomicUsize::new(0),
            started,
        });
        if let Some(came_too_late) = came_too_late {
            tokio::spawn(open::take_over_later(Arc::downgrade(&app), came_too_late));
        }
        Ok(app)
    }

    /// The settings now. A request takes them once, and keeps them to its end.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Which settings there are now.
    #[must_use]
    pub fn settings_generation(&self) -> u64 {
        self.settings.load().generation
    }

    /// Takes over what of a config may change while the server runs; the rest of it has no effect.
    /// Connections, entries and fills under way stay as they are.
    ///
    /// # Errors
    /// When a client of an upstream cannot be made; then nothing has changed.
    pub fn apply(&self, config: Config) -> anyhow::Result<()> {
        let before = self.settings();
        let settings = Settings::of(config, &before.upstreams, &self.telemetry, &self.clock)?;
        let generation = before.generation + 1;
        // What is not there any more is not down.
        let is_there = |name: &str| settings.upstreams.iter().any(|still| still.name() == name);
        let gone = before.upstreams.iter().filter(|upstream| !is_there(upstream.name()));
        gone.for_each(|upstream| upstream.health().metrics().show(true));
        self.settings.store(Arc::new(Settings { generation, ..settings }));
        Ok(())
    }

    /// Gives a purge order, and counts it by who gives it. Acknowledged once it is durable.
    ///
    /// # Errors
    /// When it is in force, and could not be written.
    pub async fn purge(&self, targets: &[Target], manner: Manner, by: PurgedBy) -> io::Result<u64> {
        self.telemetry.purge_ordered(by);
        let number = self.purges.order(targets, manner).await?;
        if let Some(coherence) = &self.coherence {
            let until = tokio::time::Instant::now() + PUBLISH_WAIT;
            if !coherence.published(number, until).await {
                tracing::warn!("a purge order is in force here, and not told to other servers yet");
            }
        }
        Ok(number)
    }

    /// The same, durable with the next batch: nobody waits for it.
    pub fn purge_soon(&self, targets: &[Target], manner: Manner, by: PurgedBy) -> u64 {
        self.telemetry.purge_ordered(by);
        let number = self.purges.order_soon(targets, manner);
        self.tell_others();
        number
    }

    /// Has everything with this selector purged but an entry that is about to be stored, and gives the
    /// purge number that the entry is to record.
    pub fn purge_older(&self, entry: &Entry, than: Selector, manner: Manner, by: PurgedBy) -> u64 {
        self.telemetry.purge_ordered(by);
        let number = self.purges.order_ahead_of(entry, Target::Selector(than), manner);
        self.tell_others();
        number
    }

    /// How Redis does, if there is one.
    #[must_use]
    pub fn redis_report(&self) -> Option<RedisReport> {
        self.tiers.redis.as_ref().map(RedisTier::report)
    }

    /// How it goes with what servers tell each other, if they share a Redis.
    #[must_use]
    pub fn coherence_report(&self) -> Option<CoherenceReport> {
        self.coherence.as_ref().map(|coherence| coherence.report())
    }

    /// Has other servers told of what has changed here, if there are any.
    pub fn tell_others(&self) {
        self.coherence.iter().for_each(|coherence| coherence.wake());
    }

    /// How each upstream does, by name.
    #[must_use]
    pub fn upstream_health(&self) -> BTreeMap<String, HealthReport> {
        let settings = self.settings();
        let named =
            |upstream: &Arc<Upstream>| (upstream.name().to_owned(), upstream.health().report());
        settings.upstreams.iter().map(named).collect()
    }

    /// Waits for the tunnels and fills under way, at most until `deadline`, then closes the tiers
    /// and exports the last spans.
    pub async fn tear_down(&self, deadline: tokio::time::Instant) {
        self.tunnels.close();
        if tokio::time::timeout_at(deadline, self.tunnels.wait()).await.is_err() {
            tracing::warn!(
                tunnels = self.tunnels.len(),
                "tunnels were cut off at the drain deadline"
            );
        }
        self.fills.close();
        if tokio::time::timeout_at(deadline, self.fills.wait()).await.is_err() {
            tracing::warn!(fills = self.fills.len(), "fills were cut off at the drain deadline");
        }
        if let Some(coherence) = &self.coherence {
            // Who comes back never tells of what it ordered last.
            let told = deadline.min(tokio::time::Instant::now() + PUBLISH_WAIT);
            coherence.published(u64::MAX, told).await;
        }
        // A little longer even past the deadline: what is queued for the disk is worth it.
        let grace = deadline.max(tokio::time::Instant::now() + Duration::from_secs(2));
        if tokio::time::timeout_at(grace, self.purges.close()).await.is_err() {
            tracing::warn!("the purge log did not close in time");
        }
        if tokio::time::timeout_at(grace, self.tiers.close(grace)).await.is_err() {
            tracing::warn!("the disk tier did not close in time");
        }
        self.traces.shut_down(deadline).await;
    }

    /// What is measured when asked.
    #[must_use]
    pub fn levels(&self) -> Levels {
        self.coherence.iter().for_each(|coherence| coherence.show());
        self.settings().upstreams.iter().for_each(|upstream| upstream.health().show());
        Levels {
            flights_open: self.flights.open_count(),
            flight_bytes: self.flights.held_bytes(),
            buffered_bytes: self.budget.held(),
            connections_open: self.connections_open.load(Ordering::Relaxed),
            tunnels_open: self.tunnels_open.load(Ordering::Relaxed),
            suspensions: self.suspensions.count(),
            purge_orders: self.purges.counts().orders,
            memory_bytes: self.tiers.local.memory_bytes(),
            memory_entries: self.tiers.local.memory_entries(),
        }
    }
}
