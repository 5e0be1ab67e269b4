//! Store: decides whether a fetched answer becomes an entry, and makes it one.
//!
//! Only a complete, verified answer is stored; when in doubt it is not. Every refusal has a
//! short word that stands in `Cache-Status` and in the metrics.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AGE, CACHE_CONTROL, DATE, ETAG, EXPIRES};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::lookup;
use super::order::Order;
use super::respond::is_failure;
use crate::app::App;
use crate::cache::entry::{Entry, Selector, Usage};
use crate::cache::freshness::negative::Negative;
use crate::cache::freshness::store::{self as rules, Heuristic, HttpPolicy, NotStored, Storing};
use crate::cache::freshness::update::stored_fields;
use crate::cache::freshness::vary::{self, Vary};
use crate::cache::freshness::{Ends, Lifetime, RequestDirectives, early, targeted, validate};
use crate::cache::purge::{Manner, Target as Purged};
use crate::cache::tags::Tags;
use crate::cache::variants::{Variants, variant_key};
use crate::clock::Timestamp;
use crate::config::policy::Policy;
use crate::config::tagging::TagField;
use crate::telemetry::PurgedBy;
use crate::upstream::answer::{Exchange, Report, Unstorable, examine};
use crate::upstream::fields;
use crate::upstream::head::{AnswerHead, ByHttp};

/// Why a whole answer is not stored that is larger than what is.
pub const TOO_LARGE: &str = "too-large";
/// Why one is not stored that there was no room to keep.
pub const BUFFERS_FULL: &str = "buffers-full";
/// Why one is not stored that memory has no place for, while the disk takes none.
pub const DISK_FULL: &str = "disk-full";
/// Why one is not stored while which a later fetch began.
pub const SUPERSEDED: &str = "superseded";

/// Notes at the headers what decides on storing and sharing.
pub fn weigh(app: &App, order: &Order, head: &mut AnswerHead) {
    head.purge_sequence = order.purge_sequence;
    head.is_for_several_tenants = order.is_shared;
    if order.spec.is_generic() {
        let by_http = by_http(app, order, head);
        let says = targeted::deciding(&head.all_fields);
        head.shared_fields = stored_fields(&head.all_fields, &says);
        // What the headers forbid is known before the body is there.
        head.stored = by_http.storing.as_ref().err().map(|not| Err(not.code()));
        head.by_http = Some(by_http);
    }
    let (tags, origin) = (tags(order, head, None), order.target.origin());
    let of_answer = tags.selectors(&origin);
    head.selectors = order.asked_selectors.iter().copied().chain(of_answer).collect();
    head.tags = tags.into_kept().into();
}

/// Purges the entry that was asked about, where the upstream has another answer by now and that is
/// not to be stored: the older one would go on answering, as fresh, stale, or if the upstream fails.
pub fn drop_refuted(app: &App, order: &Order, head: &AnswerHead) {
    let Some(refuted) = &order.validates else { return };
    let is_stored = head.by_http.as_ref().is_none_or(|by_http| by_http.storing.is_ok());
    if !is_stored && rules::says_what_there_is(head.status) {
        drop_entry(app, refuted);
    }
}

/// The same where that shows only as the body comes; also where the entry was confirmed and is not stored
/// again, as it has too many tags: those of all who had it confirmed stay with it, so that it would be
/// confirmed in vain for as long as it is kept. What there was no room for this time may find some the next.
pub fn drop_unkept(app: &App, order: &Order, head: &AnswerHead, reason: &'static str) {
    let Some(before) = &order.validates else { return };
    let is_for_good = !matches!(reason, BUFFERS_FULL | DISK_FULL | SUPERSEDED);
    // What the headers forbade was dropped when they came.
    let was_to_be_stored = head.by_http.as_ref().is_some_and(|by_http| by_http.storing.is_ok());
    if is_for_good && was_to_be_stored && rules::says_what_there_is(head.status) {
        drop_entry(app, before);
    }
}

/// Purges this entry.
pub fn drop_entry(app: &App, entry: &Entry) {
    let key = Purged::Selector(Selector::key(&entry.key));
    app.purge_soon(&[key], Manner::Hard, PurgedBy::Invalidation);
}

/// What a route says to the rules of HTTP; `negative_for` is how long the answer that there is
/// nothing holds this time.
#[must_use]
pub fn http_policy(policy: &Policy, negative_for: Duration) -> HttpPolicy {
    HttpPolicy {
        obey_upstream: policy.obey_upstream,
        lifetime: (!policy.obey_upstream).then_some(policy.lifetime),
        heuristic: policy.heuristic_fresh_max.map(|cap| Heuristic { share_percent: 10, cap }),
        negative: Negative {
            statuses: policy.negative_statuses,
            lifetime: negative_for,
            longest: policy.negative_for,
        },
    }
}

fn by_http(app: &App, order: &Order, head: &AnswerHead) -> ByHttp {
    let policy = &order.policy;
    let answered = app.clock.now();
    let exchange = rules::Exchange {
        // A QUERY is keyed by its content, and as good as a GET (RFC 10008).
        method: &Method::GET,
        request: &order.directives,
        has_authorization: order.has_authorization,
        status: head.status,
        fields: &head.all_fields,
        asked: order.began,
        answered,
    };
    let negative_for = app.negatives.next(&order.place, answered, policy.negative_for);
    let rules = http_policy(policy, negative_for);
    // What varies with anything at all is not stored, and shared with nobody.
    let mut varies_with = match vary::parse(&head.all_fields) {
        Vary::Names(names) => names,
        Vary::Any | Vary::TooMany => Vec::new(),
    };
    // Upstreams forget to say so, and who cannot read it would be given it.
    if !head.is_identity_encoded() && !varies_with.contains(&ACCEPT_ENCODING) {
        varies_with.push(ACCEPT_ENCODING);
    }
    let selecting = vary::selecting(&varies_with, &order.fields, &policy.vary_normalize);
    // The way to have nothing of it stored.
    let is_off = !policy.obey_upstream && policy.lifetime.is_none();
    let storing = if is_off {
        Err(NotStored::NoLifetime)
    } else if is_failure(head.status) && has_something_to_lose(order) {
        Err(NotStored::Status)
    } else {
        rules::storing(&exchange, &rules)
    };
    let answers_others = storing.is_ok_and(|storing| storing.answers_others(answered));
    ByHttp { storing, answers_others, varies_with, selecting }
}

/// Whether a failure that were stored would take the place of an answer that may stand in for it.
fn has_something_to_lose(order: &Order) -> bool {
    order.validates.as_ref().is_some_and(|entry| !entry.negative)
}

/// The tags of an answer: what the upstream says, what the route says, what the request says.
fn tags(order: &Order, head: &AnswerHead, answered_by: Option<&str>) -> Tags {
    let mut tags = Tags::default();
    // What is confirmed has what it had: it may have been tagged by another request.
    if head.answered == StatusCode::NOT_MODIFIED {
        let confirmed = order.validates.iter().flat_map(|entry| &entry.tags);
        confirmed.for_each(|tag| tags.add(tag));
    }
    tags.add_of_upstream(&head.all_fields);
    let value = |field: &TagField| match field {
        TagField::Route => Some(order.spec.name().to_owned()),
        TagField::Model => order.asked_model.as_deref().map(Into::into),
        TagField::AnsweredBy => answered_by.map(Into::into),
        TagField::Tool => order.tool.as_deref().map(Into::into),
        TagField::Header(name) => {
            Some(str::from_utf8(order.fields.get(name)?.as_bytes()).ok()?.to_owned())
        }
        TagField::Query(name) => {
            let mut pairs = url::form_urlencoded::parse(order.target.query()?.as_bytes());
            pairs.find(|(known, _)| **known == **name).map(|(_, value)| value.into_owned())
        }
    };
    for template in &*order.policy.tags {
        template.fill(value).iter().for_each(|tag| tags.add(tag));
    }
    if order.policy.tags_from_request {
        tags.add_of_request(&order.fields);
    }
    tags
}

/// Stores the answer and says what it cost, or why it is not stored. Where there is no body to
/// store, `body` says why.
pub fn store(
    app: &App,
    order: &Order,
    head: &AnswerHead,
    body: Result<Bytes, &'static str>,
) -> Result<Usage, &'static str> {
    let mut span = order.trace.store();
    if head.status.is_success() {
        app.negatives.clear(&order.place);
    }
    let stored = try_store(app, order, head, body);
    match stored {
        Ok(_) => app.telemetry.stored(),
        Err(reason) => {
            app.telemetry.not_stored(order.spec.route(), reason);
            drop_unkept(app, order, head, reason);
            span.note_reason(reason);
        }
    }
    let _ = head.settled.stored.set(stored.map(|_| ()));
    stored
}

fn try_store(
    app: &App,
    order: &Order,
    head: &AnswerHead,
    body: Result<Bytes, &'static str>,
) -> Result<Usage, &'static str> {
    let storing = storing(app, order, head)?;
    let body = body?;
    let exchange = Exchange {
        route: order.spec.route(),
        event_stream: head.is_event_stream(),
        json: head.is_json(),
        names_token_limit: order.names_token_limit,
    };
    let report = if storing.negative { Report::faultless() } else { examine(&exchange, &body) };
    let _ = head.settled.usage.set(report.usage);
    report.verdict.map_err(Unstorable::code)?;
    let tags = tags(order, head, report.model.as_deref());
    // It would outlive a purge by one of those.
    if tags.left_out() > 0 {
        return Err("too-many-tags");
    }
    let entry = entry(app, order, head, body, &report, tags, storing);
    if place(app, order, head, entry) { Ok(report.usage) } else { Err(no_place(app)) }
}

/// Why no local tier has taken an entry: the disk takes none now, or it is larger than memory takes.
fn no_place(app: &App) -> &'static str {
    if app.tiers.local.fault().is_some() { DISK_FULL } else { TOO_LARGE }
}

/// What the head alone decides.
fn storing(app: &App, order: &Order, head: &AnswerHead) -> Result<Storing, &'static str> {
    if let Some(by_http) = &head.by_http {
        let storing = by_http.storing.map_err(NotStored::code)?;
        return if head.has_a_verifiable_end() { Ok(storing) } else { Err("no-verifiable-end") };
    }
    if !head.is_identity_encoded() {
        return Err("encoded-answer");
    }
    if !head.has_a_verifiable_end() {
        return Err("no-verifiable-end");
    }
    let now = app.clock.now();
    if head.status != StatusCode::OK {
        return negative(app, order, head, now).ok_or("status");
    }
    if order.policy.obey_upstream {
        return obeying(order, head, now).ok_or("upstream-forbids");
    }
    let initial_age_s = head.age_s();
    let generated = now.minus(Duration::from_secs(u64::from(initial_age_s)));
    let ends = Ends::of(generated, order.policy.lifetime);
    Ok(Storing { ends, generated, initial_age_s, must_revalidate: false, negative: false })
}

/// How the answer of a model route is stored that says that there is nothing, where its route has
/// that. It may be about who asks: what callers of several tenants share is never one.
fn negative(app: &App, order: &Order, head: &AnswerHead, now: Timestamp) -> Option<Storing> {
    let longest = order.policy.negative_for;
    let may_be = order.policy.negative_statuses.has(head.status) && !order.is_shared;
    if !may_be || longest.is_zero() || (is_failure(head.status) && has_something_to_lose(order)) {
        return None;
    }
    let lifetime = Lifetime::fresh_for(app.negatives.next(&order.place, now, longest));
    let ends = Ends::of(now, lifetime);
    Some(Storing { ends, generated: now, initial_age_s: 0, must_revalidate: false, negative: true })
}

/// How an answer is stored that the upstream decides on; not at all if it may not, or is never
/// fresh: nobody validates the answers of model routes.
fn obeying(order: &Order, head: &AnswerHead, now: Timestamp) -> Option<Storing> {
    let exchange = rules::Exchange {
        // The key tells what was asked, of whom and by whom, so that a question is as good as GET
        // and whoever has the key may have the answer.
        method: &Method::GET,
        has_authorization: false,
        // A request that forbids it has no key.
        request: &RequestDirectives::default(),
        status: head.status,
        fields: &lifetime_fields(&head.all_fields),
        asked: order.began,
        answered: now,
    };
    let policy = HttpPolicy {
        obey_upstream: true,
        lifetime: Some(order.policy.lifetime),
        heuristic: None,
        negative: Negative::AS_SAID,
    };
    let is_ever_fresh = |storing: &Storing| storing.ends.fresh > storing.generated;
    rules::storing(&exchange, &policy).ok().filter(is_ever_fresh)
}

/// The fields that speak of lifetimes. Of the others, cookies above all, providers send what they
/// have: they make no answer of a model private.
fn lifetime_fields(fields: &HeaderMap) -> HeaderMap {
    const OF_LIFETIMES: [HeaderName; 4] = [AGE, CACHE_CONTROL, DATE, EXPIRES];
    let speaks = |name| OF_LIFETIMES.contains(name) || targeted::may_decide(name);
    let kept = fields.iter().filter(|(name, _)| speaks(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn entry(
    app: &App,
    order: &Order,
    head: &AnswerHead,
    body: Bytes,
    report: &Report,
    tags: Tags,
    storing: Storing,
) -> Entry {
    let (headers, tag_is_ours) = tagged(order, head, &body);
    let mut selectors = order.asked_selectors.clone();
    selectors.extend(report.model.as_deref().map(Selector::model));
    selectors.extend(tags.selectors(&order.target.origin()));
    let mut entry = Entry {
        key: order.place,
        tenant: (&*order.tenant).into(),
        route: order.spec.name().into(),
        model: report.model.as_deref().map(Into::into),
        status: head.status,
        headers,
        tag_is_ours,
        body,
        trailers: head.settled.trailers.get().cloned().unwrap_or_default(),
        stored: app.clock.now(),
        generated: storing.generated,
        initial_age_s: storing.initial_age_s,
        ends: spread(app, order, &storing),
        must_revalidate: storing.must_revalidate,
        negative: storing.negative,
        is_variants: false,
        url: order.target.masked().into(),
        tags: tags.into_kept(),
        selectors: selectors.into_boxed_slice(),
        purge_sequence: order.purge_sequence,
        upstream_request_id: fields::request_id(&head.all_fields),
        upstream_time_ms: u32::try_from(order.asked.elapsed().as_millis()).unwrap_or(u32::MAX),
        usage: report.usage,
        encoding: 0,
        key_id: 0,
    };
    if let Some(asked) = changed_model(app, order, report) {
        entry.purge_sequence = app.purge_older(&entry, asked, Manner::Soft, PurgedBy::ModelChange);
        tracing::info!(route = order.spec.name(), "another model answers; older entries are stale");
    }
    entry
}

/// The fields of an entry, with a tag made from its bytes where its route wants one and the upstream
/// gives none; and whether the tag that they have was made so.
fn tagged(order: &Order, head: &AnswerHead, body: &[u8]) -> (HeaderMap, bool) {
    let mut headers = head.shared_fields.clone();
    if headers.contains_key(ETAG) {
        let confirmed = order.validates.as_ref();
        let is_ours = confirmed.is_some_and(|entry| entry.has_our_tag_still(&headers));
        return (headers, is_ours);
    }
    let wants_one = order.policy.emission.as_ref().is_some_and(|emission| emission.etag);
    if !wants_one || head.status != StatusCode::OK {
        return (headers, false);
    }
    let tag = validate::tag_of(&headers, body);
    // For those who have asked and do not have its header yet.
    let _ = head.settled.tag.set(tag.clone());
    headers.insert(ETAG, tag);
    (headers, true)
}

/// The ends of an entry, of which the fresh one comes a little sooner if it is one of a batch: what
/// is fetched together should not have to be fetched together again.
fn spread(app: &App, order: &Order, storing: &Storing) -> Ends {
    let percent = order.policy.lifetime_jitter_percent;
    if storing.negative || percent == 0 || !app.batches.note(app.clock.now()) {
        return storing.ends;
    }
    early::spread(storing.ends, storing.generated, &order.place, percent)
}

/// The model that was asked for, where another one answers than before, and what the one before has
/// answered is to become stale.
fn changed_model(app: &App, order: &Order, report: &Report) -> Option<Selector> {
    let (asked, answered) = (order.asked_model.as_ref()?, report.model.as_ref()?);
    let asked = Selector::asked_model(order.upstream.identity(), asked);
    let has_changed = order.policy.soft_purge_on_model_change && app.aliases.note(asked, answered);
    has_changed.then_some(asked)
}

/// Puts an entry in its place: among the variants under its key, if there are any. Says whether it
/// found room.
fn place(app: &App, order: &Order, head: &AnswerHead, mut entry: Entry) -> bool {
    let varies_with = head.by_http.as_ref().map_or(&[][..], |by_http| &by_http.varies_with);
    if (!varies_with.is_empty() || order.place != order.key)
        && !place_among_variants(app, order, varies_with, &mut entry)
    {
        return false;
    }
    if !entry.negative {
        return app.tiers.put(Arc::new(entry), order.fence.clone());
    }
    if order.effects.negative_off {
        return false;
    }
    // It lives in memory alone: what it takes the place of must not come back from disk. Only what
    // is there wants an order, or any caller could give so many that all is purged.
    if order.validates.as_ref().is_some_and(|replaced| !replaced.negative) {
        let key = Selector::key(&entry.key);
        entry.purge_sequence = app.purge_older(&entry, key, Manner::Hard, PurgedBy::Invalidation);
    }
    // Under the key that the next who ask look under: a variant has its own.
    app.negatives.note(entry.key, app.clock.now(), order.policy.negative_for);
    app.tiers.local.put_in_memory(&entry)
}

/// Notes the variant in the record under the key, and gives the entry its key.
fn place_among_variants(
    app: &App,
    order: &Order,
    varies_with: &[HeaderName],
    entry: &mut Entry,
) -> bool {
    app.tiers.replace(&order.key, |before| {
        let is_alive = |record: &&Arc<Entry>| record.is_variants && !lookup::is_dead(app, record);
        let before = before.filter(is_alive);
        let mut variants =
            before.and_then(|record| Variants::decode(&record.body)).unwrap_or_default();
        let names = variants.names_with(varies_with)?;
        let normalised = &order.policy.vary_normalize;
        let selecting = vary::selecting(&names, &order.fields, normalised);
        variants.add(names, selecting);
        entry.key = variant_key(&order.key, &selecting);
        if !entry.selectors.contains(&Selector::key(&entry.key)) {
            let more = entry.selectors.iter().copied().chain([Selector::key(&entry.key)]);
            entry.selectors = more.collect();
        }
        let before = before.map(|record| &**record);
        let of_one = [order.place, entry.key].map(|place| Selector::key(&place));
        let of_all = Selector::key(&order.key);
        let is_of_all = |one: &Selector| *one == of_all || !of_one.contains(one);
        let of_all = order.asked_selectors.iter().copied().filter(is_of_all).collect();
        let record = entry.record_of_variants(order.key, of_all, variants.encode(), before);
        Some(Arc::new(record))
    })
}
