//! Lookup: memory, then disk, then Redis if they have nothing that answers; which variant it is; and
//! what the entry found is good for.

use std::sync::Arc;
use std::time::Duration;

use keyspec::Key;

use super::key::Keyed;
use super::shared::{self, Asking};
use crate::app::App;
use crate::cache::coherence::Coherence;
use crate::cache::entry::Entry;
use crate::cache::freshness::serve::{Decision, Stored, decide};
use crate::cache::freshness::{Ends, RequestDirectives, early, vary};
use crate::cache::overrides::Effects;
use crate::cache::purge::Verdict;
use crate::cache::repeats::Repeat;
use crate::cache::variants::{Selecting, Variants, variant_key};
use crate::clock::Timestamp;
use crate::telemetry::TierName;

/// What is found under a key.
#[derive(Debug)]
pub enum Found {
    /// It answers.
    Fresh(Hit),
    /// It answers, and is to be refreshed behind the answer, ahead of its end.
    DueSoon(Hit),
    /// It answers, and is to be refreshed behind the answer.
    Usable(Hit),
    /// It answers, however stale: an operator will have no call upstream.
    InsteadOfUpstream(Hit),
    /// It is stale, and the request takes it so.
    Accepted(Hit),
    /// The upstream is to be asked first, whether it still holds.
    Validate {
        /// What is asked about.
        hit: Hit,
        /// Whether it answers if the upstream fails.
        if_error: bool,
    },
    /// Nothing that this request may use.
    Absent,
}

impl Found {
    /// The entry, if there is one.
    fn hit(&self) -> Option<&Hit> {
        match self {
            Found::Fresh(hit)
            | Found::DueSoon(hit)
            | Found::Usable(hit)
            | Found::InsteadOfUpstream(hit)
            | Found::Accepted(hit)
            | Found::Validate { hit, .. } => Some(hit),
            Found::Absent => None,
        }
    }

    /// The better of what the local tiers have, which answers nobody, and what is shared.
    fn or(self, shared: Found) -> Found {
        match (&self, &shared) {
            (_, Found::Absent) => self,
            (Found::Validate { hit: own, .. }, Found::Validate { hit, .. })
                if own.entry.stored >= hit.entry.stored =>
            {
                self
            }
            _ => shared,
        }
    }
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

/// Looks for an entry that answers this request. Notes where its answer stands among variants.
pub async fn lookup(app: &App, keyed: &mut Keyed) -> Found {
    // The caller wants it from the upstream; if that fails, so does the request. By the rules of
    // HTTP what is stored may still be validated.
    if keyed.wants_afresh() && !keyed.spec.is_generic() {
        // An answer that there is nothing must know what it would take the place of.
        if !keyed.policy.negative_for.is_zero() {
            let stored = find(app, keyed).await.map(|(_, entry)| entry);
            keyed.validates = stored.filter(|entry| !is_dead(app, entry));
        }
        return Found::Absent;
    }
    let mut span = keyed.asked.trace.lookup();
    let local = find(app, keyed)
        .await
        .map_or(Found::Absent, |(tier, entry)| judge(app, keyed, tier, entry));
    let found = if may_be_better_in_redis(app, keyed, &local) {
        let shared = shared::find(app, keyed, Asking::Together)
            .await
            .map_or(Found::Absent, |entry| judge(app, keyed, TierName::Redis, entry));
        local.or(shared)
    } else {
        local
    };
    if let Some(hit) = found.hit() {
        span.note_tier(hit.tier);
    }
    match found {
        Found::Fresh(hit) if is_due_soon(app, keyed, &hit) => Found::DueSoon(hit),
        found => found,
    }
}

/// Whether Redis is asked: what answers already needs none, nor does a caller who wants the upstream
/// asked and has something to ask about.
fn may_be_better_in_redis(app: &App, keyed: &Keyed, local: &Found) -> bool {
    app.tiers.redis.is_some()
        && match local {
            Found::Absent => true,
            Found::Validate { .. } => !keyed.wants_afresh(),
            _ => false,
        }
}

/// Whether a fresh entry is refreshed now, while it still answers.
fn is_due_soon(app: &App, keyed: &Keyed, hit: &Hit) -> bool {
    let (eagerness, effects) = (keyed.policy.refresh_ahead, &keyed.effects);
    // While an operator will have no call upstream, no entry is due.
    !effects.stale_only
        && (app.repeats.take_due(&keyed.key)
            || is_due(eagerness, effects, &hit.entry, app.clock.now()))
}

fn is_due(eagerness: f64, effects: &Effects, entry: &Entry, now: Timestamp) -> bool {
    if eagerness <= 0.0 || entry.negative {
        return false;
    }
    let ttl = facts(effects, entry).ends.fresh.since(now);
    let fetch_took = Duration::from_millis(entry.upstream_time_ms.into());
    early::may_be_due(ttl, fetch_took, eagerness)
        && early::is_due(ttl, fetch_took, eagerness, fastrand::f64())
}

/// Why a request that nothing stored answers is forwarded, as `Cache-Status` has it (RFC 9211
/// section 2.2). A miss is one of a URI or of a key; where other variants are stored, that is told.
#[must_use]
pub fn why_forwarded(app: &App, keyed: &Keyed) -> &'static str {
    // Nobody has looked whether there is a fresh one.
    if keyed.wants_afresh() && !keyed.spec.is_generic() {
        return "request";
    }
    match &keyed.validates {
        Some(entry) if is_stale(app, keyed, entry) => "stale",
        Some(_) => "request",
        None if keyed.has_other_variants => "vary-miss",
        None => "miss",
    }
}

fn is_stale(app: &App, keyed: &Keyed, entry: &Entry) -> bool {
    app.clock.now() >= facts(&keyed.effects, entry).ends.fresh
        || app.purges.verdict_on(entry) != Verdict::Alive
}

/// Whether an entry that was found has been purged since, while the upstream was asked.
#[must_use]
pub fn is_dead(app: &App, entry: &Entry) -> bool {
    app.purges.verdict_on(entry) == Verdict::Dead
}

/// Whether an entry answers this request, fresh as it is.
#[must_use]
pub fn is_fresh(app: &App, keyed: &Keyed, entry: &Arc<Entry>) -> bool {
    matches!(judge(app, keyed, TierName::Redis, Arc::clone(entry)), Found::Fresh(_))
}

/// How an entry that another server has just stored answers.
#[must_use]
pub fn hit_elsewhere(app: &App, entry: Arc<Entry>) -> Hit {
    let ttl_s = seconds(entry.ends.fresh.since(app.clock.now()));
    Hit { entry, tier: TierName::Redis, ttl_s }
}

/// The same for one who read along: nothing if it is not what its own request would be given.
#[must_use]
pub fn hit_of_follower(app: &App, keyed: &Keyed, entry: Arc<Entry>) -> Option<Hit> {
    if entry.key != keyed.key {
        // Of variants, memory knows which it selects.
        return recheck(app, keyed);
    }
    match judge(app, keyed, TierName::Redis, entry) {
        Found::Fresh(hit) => Some(hit),
        _ => None,
    }
}

/// A fresh entry in memory: the look of one who is about to fetch.
#[must_use]
pub fn recheck(app: &App, keyed: &Keyed) -> Option<Hit> {
    let entry = in_memory(app, keyed)?;
    match judge(app, keyed, TierName::Memory, entry) {
        Found::Fresh(hit) => Some(hit),
        _ => None,
    }
}

/// A fresh entry in memory that answers a request as plain as a repeat is, and needs no refresh.
#[must_use]
pub fn of_repeat(app: &App, repeat: &Repeat, now: Timestamp) -> Option<Hit> {
    let asked = app.clock.instant();
    let in_memory = app.tiers.local.get_memory(&repeat.key);
    let took = asked.elapsed();
    let entry = in_memory.filter(|entry| !entry.is_variants)?;
    let wishes = Wishes { directives: RequestDirectives::default(), effects: Effects::default() };
    match judge_at(app, now, &wishes, TierName::Memory, entry) {
        Found::Fresh(hit) if is_due(repeat.refresh_ahead, &wishes.effects, &hit.entry, now) => {
            app.repeats.note_due(&repeat.key);
            None
        }
        Found::Fresh(hit) => {
            app.telemetry.tier_read(TierName::Memory, took);
            Some(hit)
        }
        // It is looked for again, the long way.
        _ => None,
    }
}

fn in_memory(app: &App, keyed: &Keyed) -> Option<Arc<Entry>> {
    let entry = app.tiers.local.get_memory(&keyed.place)?;
    if !entry.is_variants {
        return Some(entry);
    }
    let selected = selected(app, keyed, &entry)?;
    app.tiers.local.get_memory(&selected.place)
}

/// What the local tiers hold.
async fn find(app: &App, keyed: &mut Keyed) -> Option<(TierName, Arc<Entry>)> {
    let (tier, entry) = read(app, keyed, &keyed.key).await?;
    if !entry.is_variants {
        return Some((tier, entry));
    }
    let selected = selected(app, keyed, &entry)?;
    keyed.place = selected.place;
    keyed.has_other_variants = !selected.is_listed;
    if selected.is_listed { read(app, keyed, &selected.place).await } else { None }
}

/// The variant that a request selects.
pub(super) struct Selected {
    /// The key that it stands under.
    pub(super) place: Key,
    /// A digest of the fields that select it.
    pub(super) selecting: Selecting,
    /// Whether the record knows of it.
    pub(super) is_listed: bool,
}

/// Which of the variants in a record the request selects; nothing if the record was purged.
pub(super) fn selected(app: &App, keyed: &Keyed, record: &Entry) -> Option<Selected> {
    if is_dead(app, record) {
        return None;
    }
    let variants = Variants::decode(&record.body)?;
    let normalised = &keyed.policy.vary_normalize;
    let selecting = vary::selecting(variants.names(), &keyed.asked.headers, normalised);
    let place = variant_key(&keyed.key, &selecting);
    Some(Selected { place, selecting, is_listed: variants.has(&selecting) })
}

async fn read(app: &App, keyed: &Keyed, key: &Key) -> Option<(TierName, Arc<Entry>)> {
    let asked = app.clock.instant();
    let in_memory = app.tiers.local.get_memory(key);
    app.telemetry.tier_read(TierName::Memory, asked.elapsed());
    if let Some(entry) = in_memory.filter(|entry| is_of_use(app, keyed, entry)) {
        return Some((TierName::Memory, entry));
    }
    let asked = app.clock.instant();
    let on_disk = app.tiers.local.get_disk(key).await;
    app.telemetry.tier_read(TierName::Disk, asked.elapsed());
    match on_disk {
        Ok(entry) => {
            let entry = entry.filter(|entry| is_of_use(app, keyed, entry));
            entry
                .and_then(|entry| counted(app, TierName::Disk, entry))
                .map(|entry| (TierName::Disk, entry))
        }
        Err(error) => {
            tracing::debug!(%error, "the disk tier failed; taken as a miss");
            app.telemetry.tier_error(TierName::Disk, error.kind());
            None
        }
    }
}

/// An entry from below memory whose bytes count as held, if nobody else has a part in them: callers who take
/// their time would each hold a copy. A miss if there is no room.
pub(super) fn counted(app: &App, tier: TierName, entry: Arc<Entry>) -> Option<Arc<Entry>> {
    if !app.tiers.local.is_for_disk_alone(&entry) {
        return Some(entry);
    }
    let Some(body) = app.budget.counted(entry.body.clone()) else {
        app.telemetry.tier_error(tier, "buffers-full");
        return None;
    };
    Some(Arc::new(Entry { body, ..Entry::clone(&entry) }))
}

/// What an entry is good for: whether it was purged, then whether it is fresh enough.
fn judge(app: &App, keyed: &Keyed, tier: TierName, entry: Arc<Entry>) -> Found {
    let wishes = Wishes { directives: keyed.asked.directives, effects: keyed.effects };
    judge_at(app, app.clock.now(), &wishes, tier, entry)
}

/// What beside the entry itself decides on its use.
struct Wishes {
    directives: RequestDirectives,
    effects: Effects,
}

fn judge_at(
    app: &App,
    now: Timestamp,
    wishes: &Wishes,
    tier: TierName,
    entry: Arc<Entry>,
) -> Found {
    let Wishes { directives, effects } = wishes;
    let facts = facts(effects, &entry);
    let is_out_of_touch = |coherence: &Arc<Coherence>| coherence.is_out_of_touch(now, entry.stored);
    if (entry.negative && effects.negative_off)
        || app.coherence.as_ref().is_some_and(is_out_of_touch)
    {
        return Found::Absent;
    }
    let decided = decide(&facts, directives, now);
    let decision = match app.purges.verdict_on(&entry) {
        Verdict::Alive => decided,
        Verdict::Stale => if_soft_purged(&facts.ends, directives, decided, now),
        Verdict::Dead => return Found::Absent,
    };
    let overdue_s = overdue(now.since(facts.ends.fresh));
    let hit = |ttl_s| Hit { entry, tier, ttl_s };
    match decision {
        Decision::Fresh { ttl } => Found::Fresh(hit(seconds(ttl))),
        _ if effects.stale_only && !facts.must_revalidate && !directives.no_cache => {
            Found::InsteadOfUpstream(hit(-overdue_s))
        }
        Decision::WhileRevalidate { .. } => Found::Usable(hit(-overdue_s)),
        Decision::StaleAccepted { .. } => Found::Accepted(hit(-overdue_s)),
        Decision::Validate { if_error } => Found::Validate { hit: hit(-overdue_s), if_error },
        Decision::Absent => Found::Absent,
    }
}

/// What decides on an entry, with lifetimes as long as they are at the moment.
fn facts(effects: &Effects, entry: &Entry) -> Stored {
    let ends = effects.ends(entry.ends, entry.generated);
    Stored { ends, ..entry.facts() }
}

/// Whether an entry may be of use: what is past its last end in memory may be younger on disk.
pub(super) fn is_of_use(app: &App, keyed: &Keyed, entry: &Entry) -> bool {
    keyed.effects.stale_only || app.clock.now() < facts(&keyed.effects, entry).ends.last()
}

/// A soft purge makes stale what would be fresh: the entry's own windows decide what it may still
/// be used for. Whoever names an age, and does not say to take what is stale, does not take it.
fn if_soft_purged(
    ends: &Ends,
    request: &RequestDirectives,
    decided: Decision,
    now: Timestamp,
) -> Decision {
    let has_window = |end: Timestamp| end > ends.fresh && now < end;
    let is_taken =
        request.min_fresh.is_none() && (request.max_age.is_none() || request.max_stale.is_some());
    match decided {
        Decision::Fresh { .. } | Decision::StaleAccepted { .. }
            if is_taken && has_window(ends.stale_while_revalidate) =>
        {
            Decision::WhileRevalidate { by: Duration::ZERO }
        }
        Decision::Fresh { .. } | Decision::StaleAccepted { .. } => {
            Decision::Validate { if_error: has_window(ends.stale_if_error) }
        }
        stale => stale,
    }
}

/// At least 1, so that what is stale never looks as if it were not.
fn overdue(by: Duration) -> i64 {
    seconds(by).saturating_add(1)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
