//! Claim: one fetch for all servers that share a Redis. A fill claims its key before it asks the upstream;
//! where another server fetches it already, it waits for what that stores, for as long as most fills of
//! the route take, and then goes alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::key::Keyed;
use super::lookup;
use super::shared::{self, Asking};
use crate::app::App;
use crate::cache::entry::Entry;
use crate::cache::leases::{Claimed, Fence, Wait, WaitOutcome};

/// How long is waited on a route of which too few fills are known.
const WAIT_UNKNOWN: Duration = Duration::from_secs(5);
/// What it may take beyond the fill until its entry is read here.
const HAND_OVER: Duration = Duration::from_millis(100);

/// What a claim came to.
#[derive(Debug)]
pub enum Turn {
    /// The upstream is to be asked.
    Fetch(Fence),
    /// Another server has asked it: this is what it has stored.
    Stored(Arc<Entry>),
}

/// Claims the key of a request that is about to be fetched.
pub async fn take(app: &App, keyed: &mut Keyed) -> Turn {
    let is_for_one = keyed.wants_afresh() || app.unshared.has(&keyed.place, app.clock.now());
    let Some(leases) = app.leases.as_ref().filter(|_| !is_for_one) else {
        return Turn::Fetch(app.tiers.fence());
    };
    let p95 = app.fill_times.p95(keyed.spec.name(), keyed.asked.upstream.name());
    let began = Instant::now();
    let until = began + p95.map_or(WAIT_UNKNOWN, |p95| p95 + HAND_OVER);
    let (mut known, mut waits) = (0, None);
    loop {
        let waiting = match leases.claim(&keyed.place, known, waits.is_some()).await {
            Err(_) => return Turn::Fetch(app.tiers.fence()),
            Ok(Claimed::Won(lease)) => {
                // What was fetched meanwhile may be there, though nobody heard of it.
                let stored = match waits {
                    Some(wait) => {
                        leases.waited(wait);
                        stored(app, keyed).await
                    }
                    None => None,
                };
                return stored.map_or(Turn::Fetch(Fence::of(lease)), Turn::Stored);
            }
            Ok(Claimed::Stored(token)) => {
                if let Some(wait) = waits.take() {
                    leases.waited(Wait { outcome: WaitOutcome::Stored, ..wait });
                }
                if let Some(entry) = stored(app, keyed).await {
                    return Turn::Stored(entry);
                }
                known = token;
                continue;
            }
            Ok(Claimed::Held(waiting)) => waiting,
        };
        let alone = Fence { token: waiting.token, lease: None };
        let wait = waiting.ended(began, until).await;
        let entry = match wait.outcome {
            // One that was renewed meanwhile is waited for again.
            WaitOutcome::Abandoned | WaitOutcome::Expired => {
                waits = Some(wait);
                continue;
            }
            WaitOutcome::Stored => stored(app, keyed).await,
            WaitOutcome::Unshared | WaitOutcome::TimedOut => None,
        };
        leases.waited(wait);
        return entry.map_or(Turn::Fetch(alone), Turn::Stored);
    }
}

/// What another server has stored, if it answers this request. Where it does not, nothing of the request
/// has changed.
async fn stored(app: &App, keyed: &mut Keyed) -> Option<Arc<Entry>> {
    let (place, has_other_variants) = (keyed.place, keyed.has_other_variants);
    let found = shared::find(app, keyed, Asking::Anew).await;
    let is_newer = |entry: &Arc<Entry>| {
        keyed.validates.as_ref().is_none_or(|before| entry.stored > before.stored)
    };
    let answers = found.filter(|entry| is_newer(entry) && lookup::is_fresh(app, keyed, entry));
    (keyed.place, keyed.has_other_variants) = (place, has_other_variants);
    answers
}
