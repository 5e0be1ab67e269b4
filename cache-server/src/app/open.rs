//! Opens what outlives the process: the local tiers, the purge orders and the overrides; and joins the
//! servers that share a Redis.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc::Receiver;

use super::{App, Telemetry};
use crate::cache::coherence::{Coherence, CoherenceSettings, Shares};
use crate::cache::entry::Entry;
use crate::cache::leases::Leases;
use crate::cache::overrides::Overrides;
use crate::cache::purge::{PurgeSettings, Purges, Verdict};
use crate::cache::tiers::local::{self, LocalSettings, LocalTier};
use crate::cache::tiers::redis::RedisTier;
use crate::cache::tiers::redis::settings::RedisSettings;
use crate::clock::Clock;

/// Where in the data folder the overrides are.
const OVERRIDES_FILE: &str = "overrides.json";
/// How long the start waits to be told what other servers have purged.
const CATCH_UP_WAIT: Duration = Duration::from_secs(2);

/// What is in the data folder.
pub(super) struct Kept {
    pub(super) local: LocalTier,
    pub(super) purges: Arc<Purges>,
    pub(super) overrides: Arc<Overrides>,
}

/// Opens the data folder.
///
/// # Errors
/// When it is in use or unusable; then nothing is left open.
pub(super) async fn kept(
    settings: LocalSettings,
    purge: PurgeSettings,
    clock: &Clock,
    telemetry: &Arc<Telemetry>,
) -> anyhow::Result<Kept> {
    let has_entries = settings.has_entries();
    // Without a disk nothing is written.
    let folder = (settings.disk_bytes_max > 0).then(|| settings.data_dir.clone());
    // Nor what is purged from now on of the entries that lie there: they must not come back.
    if folder.is_none()
        && let Some(_lock) = local::lock_unused(&settings.data_dir)
    {
        Purges::forget(&settings.data_dir);
    }
    let (evictions, registry) = (Arc::clone(telemetry), Box::new(telemetry.foyer_registry()));
    let evicted = move || evictions.evicted();
    let local = LocalTier::open(settings, clock.clone(), registry, evicted).await?;
    // The tier holds the lock on the data folder: nobody else writes there.
    let overrides_file = folder.as_ref().map(|folder| folder.join(OVERRIDES_FILE));
    let overrides = Arc::new(Overrides::open(overrides_file, clock.clone()));
    match Purges::open(folder.as_deref(), purge, clock.clone(), has_entries) {
        Ok(purges) => Ok(Kept { local, purges: Arc::new(purges), overrides }),
        Err(error) => {
            local.close().await;
            Err(error.into())
        }
    }
}

/// What is shared with other servers: nothing without Redis.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) redis: Option<RedisTier>,
    pub(super) coherence: Option<Arc<Coherence>>,
    pub(super) leases: Option<Arc<Leases>>,
}

/// Joins the servers that share a Redis. What they have told is known on return, if they can be heard.
pub(super) async fn shared(
    settings: Option<RedisSettings>,
    orders_max: usize,
    kept: &Kept,
    clock: &Clock,
    telemetry: &Telemetry,
) -> Shared {
    let Some(settings) = settings else { return Shared::default() };
    let (node, lifetime) = (settings.node.clone(), settings.coherence_lifetime);
    let are_flights_shared = settings.shared_flights;
    let (purges, overrides) = (Arc::clone(&kept.purges), Arc::clone(&kept.overrides));
    let redis = RedisTier::start(settings, Arc::clone(&purges), clock.clone(), telemetry.redis());
    let (control, time) = (redis.control(), Arc::clone(redis.time()));
    let lease = || Arc::new(Leases::new(control.clone(), telemetry.leases()));
    let leases = are_flights_shared.then(lease);
    let shares = Shares { control, time, purges, overrides, leases: leases.clone() };
    let settings = CoherenceSettings { node, lifetime, orders_max };
    let coherence = Coherence::new(shares, settings, clock.clone(), telemetry.coherence());
    let coherence = Arc::new(coherence);
    redis.started().await;
    tokio::spawn(Arc::clone(&coherence).keep());
    tokio::spawn(Arc::clone(&coherence).hear());
    if redis.is_up() {
        coherence.started(tokio::time::Instant::now() + CATCH_UP_WAIT).await;
    }
    Shared { redis: Some(redis), coherence: Some(coherence), leases }
}

/// Has this server, too, give what a later fetch of another one has stored, instead of its own entries that
/// came too late for Redis.
pub(super) async fn take_over_later(app: Weak<App>, mut came_too_late: Receiver<Arc<Entry>>) {
    while let Some(own) = came_too_late.recv().await {
        let Some(app) = app.upgrade() else { return };
        let Some(redis) = &app.tiers.redis else { return };
        if let Ok(Some(later)) = redis.get_anew(&own.key).await
            && app.purges.verdict_on(&later) != Verdict::Dead
        {
            let is_own = |before: &Arc<Entry>| before.stored == own.stored;
            app.tiers.local.replace(&own.key, |before| before.is_none_or(is_own).then_some(later));
        }
    }
}
