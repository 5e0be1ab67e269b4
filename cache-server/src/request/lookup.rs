//! Lookup: memory, then disk; and what the entry found is good for.

use std::sync::Arc;
use std::time::Duration;

use super::key::Keyed;
use crate::app::App;
use crate::cache::entry::Entry;
use crate::cache::freshness::{Ends, Freshness, judge};
use crate::telemetry::TierName;

/// What is found under a key.
#[derive(Debug)]
pub enum Found {
    /// It answers.
    Fresh(Hit),
    /// It answers, and is to be refreshed behind the answer.
    Usable(Hit),
    /// It answers, however stale: an operator will have no call upstream.
    InsteadOfUpstream(Hit),
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
    let now = app.clock.now();
    let ends = ends(keyed, &entry);
    let hit = |ttl_s| Hit { entry, tier, ttl_s };
    match judge(&ends, now) {
        Freshness::Fresh { ttl } => Found::Fresh(hit(seconds(ttl))),
        _ if keyed.effects.stale_only => {
            Found::InsteadOfUpstream(hit(-overdue(now.since(ends.fresh))))
        }
        Freshness::Stale { by, while_revalidate: true, .. } => Found::Usable(hit(-overdue(by))),
        Freshness::Stale { by, if_error: true, .. } => Found::OnlyOnError(hit(-overdue(by))),
        Freshness::Stale { .. } | Freshness::Expired => Found::Absent,
    }
}

/// A fresh entry in memory: the look of one who is about to fetch.
#[must_use]
pub fn recheck(app: &App, keyed: &Keyed) -> Option<Hit> {
    let entry = app.tier.get_memory(&keyed.key)?;
    match judge(&ends(keyed, &entry), app.clock.now()) {
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
    if let Some(entry) = in_memory.filter(|entry| is_of_use(app, keyed, entry)) {
        return Some((TierName::Memory, entry));
    }
    let asked = app.clock.instant();
    let on_disk = app.tier.get_disk(&keyed.key).await;
    app.telemetry.tier_read(TierName::Disk, asked.elapsed());
    match on_disk {
        Ok(entry) => {
            let entry = entry.filter(|entry| is_of_use(app, keyed, entry));
            entry.map(|entry| (TierName::Disk, entry))
        }
        Err(error) => {
            tracing::debug!(%error, "the disk tier failed; taken as a miss");
            app.telemetry.tier_error(TierName::Disk, error.kind());
            None
        }
    }
}

/// The ends of an entry, with lifetimes as long as they are at the moment.
fn ends(keyed: &Keyed, entry: &Entry) -> Ends {
    keyed.effects.ends(entry.ends, entry.generated)
}

/// Whether an entry may answer at all.
fn is_of_use(app: &App, keyed: &Keyed, entry: &Entry) -> bool {
    let freshness = judge(&ends(keyed, entry), app.clock.now());
    keyed.effects.stale_only || freshness != Freshness::Expired
}

/// At least 1, so that what is stale never looks as if it were not.
fn overdue(by: Duration) -> i64 {
    seconds(by).saturating_add(1)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
