//! Shared: what other servers have stored in Redis.
//!
//! What is read there becomes an entry of the local tiers.

use std::sync::Arc;

use keyspec::Key;

use super::key::Keyed;
use super::lookup::{counted, is_dead, is_of_use, selected};
use crate::app::App;
use crate::cache::entry::Entry;
use crate::cache::tiers::TierError;
use crate::cache::tiers::redis::RedisTier;
use crate::cache::variants::{Selecting, Variants};
use crate::telemetry::TierName;

/// How Redis is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// Together with others: what they were about to be told is good enough.
    Together,
    /// For what is there by now.
    Anew,
}

/// Asks Redis for the entry that a request selects. Notes where its answer stands among variants.
pub async fn find(app: &App, keyed: &mut Keyed, asking: Asking) -> Option<Arc<Entry>> {
    let record = match read(app, keyed, &keyed.key, asking).await.ok()? {
        Some(entry) if !entry.is_variants => return Some(entry),
        Some(record) => record,
        // Redis may have lost the record and kept the variant.
        None => app.tiers.local.get_memory(&keyed.key).filter(|entry| entry.is_variants)?,
    };
    let selected = selected(app, keyed, &record)?;
    keyed.place = selected.place;
    keyed.has_other_variants = !selected.is_listed;
    // Servers that store at the same time overwrite each other's records: it may be there all the same.
    let entry = read(app, keyed, &selected.place, asking).await.ok()??;
    list(app, keyed, &selected.selecting);
    keyed.has_other_variants = false;
    Some(entry)
}

/// Whether a server may have refreshed what is stale here.
#[must_use]
pub fn may_be_newer(app: &App) -> bool {
    app.tiers.redis.as_ref().is_some_and(RedisTier::is_up)
}

/// Whether a server has refreshed it: then it is in the local tiers now.
pub async fn has_newer(app: &App, keyed: &mut Keyed) -> bool {
    let before = keyed.validates.clone();
    let Some(found) = find(app, keyed, Asking::Together).await else { return false };
    let now = app.clock.now();
    before.is_none_or(|before| found.stored > before.stored) && now < found.ends.fresh
}

/// Reads one key, and keeps what is of use in the local tiers.
async fn read(
    app: &App,
    keyed: &Keyed,
    key: &Key,
    asking: Asking,
) -> Result<Option<Arc<Entry>>, TierError> {
    let Some(redis) = &app.tiers.redis else { return Ok(None) };
    let asked = app.clock.instant();
    let read = match asking {
        Asking::Together => redis.get(key).await,
        Asking::Anew => redis.get_anew(key).await,
    };
    if !matches!(read, Err(TierError::Resting)) {
        app.telemetry.tier_read(TierName::Redis, asked.elapsed());
    }
    let read = read.inspect_err(|error| {
        tracing::debug!(%error, "redis failed; taken as a miss");
    })?;
    Ok(read.and_then(|entry| adopt(app, keyed, entry)))
}

/// What Redis holds under a key, for operators: nothing is changed by it.
pub async fn inspect(app: &App, key: &Key) -> Option<Arc<Entry>> {
    app.tiers.redis.as_ref()?.get(key).await.ok()?
}

/// Takes over what was read, unless it was purged or is past all use.
fn adopt(app: &App, keyed: &Keyed, entry: Arc<Entry>) -> Option<Arc<Entry>> {
    if is_dead(app, &entry) || !is_of_use(app, keyed, &entry) {
        return None;
    }
    app.tiers.local.adopt(&entry);
    counted(app, TierName::Redis, entry)
}

/// Lists a variant that was found in the record in memory, so that it is found there from now on.
fn list(app: &App, keyed: &Keyed, selecting: &Selecting) {
    app.tiers.local.replace(&keyed.key, |record| {
        let record = record.filter(|record| record.is_variants)?;
        let mut variants = Variants::decode(&record.body)?;
        if variants.has(selecting) {
            return None;
        }
        variants.add(variants.names().to_vec(), *selecting);
        Some(Arc::new(Entry { body: variants.encode(), ..Entry::clone(record) }))
    });
}
