//! Lookup: memory, then disk; and what the entry found is good for.

use std::sync::Arc;
use std::time::Duration;

use super::key::Keyed;
use crate::app::App;
use crate::cache::entry::Entry;
use crate::cache::freshness::{Freshness, judge};
use crate::telemetry::TierName;

/// What is found under a key.
#[derive(Debug)]
pub enum Found {
    /// It answers.
    Fresh(Hit),
    /// It answers, and is to be refreshed behind the answer.
    Usable(Hit),
    /// It answers only if the upstream fails.
    OnlyOnError(Hit),
    /// Nothing that this request may use.
    Absent,
}

/// An entry that was found.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The entry.
    pub entry: Arc<Entry>,
    /// Where it was.
    pub tier: TierName,
    /// How long it is still fresh in seconds; negative if it is stale.
    pub ttl_s: i64,
}

/// Looks for an entry that answers this request.
pub async fn lookup(app: &App, keyed: &Keyed) -> Found {
    // The caller wants it from the upstream; if that fails, so does the request.
    if keyed.wants_afresh() {
        return Found::Absent;
    }
    let mut span = keyed.asked.trace.lookup();
    let Some((tier, entry)) = read(app, keyed).await else { return Found::Absent };
    span.note_tier(tier);
    let freshness = judge(&entry.ends, app.clock.now());
    let hit = |ttl_s| Hit { entry, tier, ttl_s };
    match freshness {
        Freshness::Fresh { ttl } => Found::Fresh(hit(seconds(ttl))),
        Freshness::Stale { by, while_revalidate: true, .. } => Found::Usable(hit(-overdue(by))),
        Freshness::Stale { by, if_error: true, .. } => Found::OnlyOnError(hit(-overdue(by))),
        Freshness::Stale { .. } | Freshness::Expired => Found::Absent,
    }
}

/// A fresh entry in memory: the look of one who is about to fetch.
#[must_use]
pub fn recheck(app: &App, keyed: &Keyed) -> Option<Hit> {
    let entry = app.tier.get_memory(&keyed.key)?;
    match judge(&entry.ends, app.clock.now()) {
        Freshness::Fresh { ttl } => {
            Some(Hit { entry, tier: TierName::Memory, ttl_s: seconds(ttl) })
        }
        _ => None,
    }
}

async fn read(app: &App, keyed: &Keyed) -> Option<(TierName, Arc<Entry>)> {
    let asked = app.clock.instant();
    let in_memory = app.tier.get_memory(&keyed.key);
    app.telemetry.tier_read(TierName::Memory, asked.elapsed());
    if let Some(entry) = in_memory {
        return Some((TierName::Memory, entry));
    }
    let asked = app.clock.instant();
    let on_disk = app.tier.get_disk(&keyed.key).await;
    app.telemetry.tier_read(TierName::Disk, asked.elapsed());
    match on_disk {
        Ok(entry) => entry.map(|entry| (TierName::Disk, entry)),
        Err(error) => {
            tracing::debug!(%error, "the disk tier failed; taken as a miss");
            app.telemetry.tier_error(TierName::Disk, error.kind());
            None
        }
    }
}

/// At least 1, so that what is stale never looks as if it were not.
fn overdue(by: Duration) -> i64 {
    seconds(by).saturating_add(1)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
