//! Store: decides whether a fetched answer becomes an entry, and makes it one.
//!
//! Only a complete, verified answer is stored; when in doubt it is not. Every refusal has a
//! short word that stands in `Cache-Status` and in the metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use keyspec::{Key, KeySpec};

use crate::app::App;
use crate::cache::entry::{Entry, Selector, Usage};
use crate::cache::freshness::{Ends, Lifetime, UpstreamSays, upstream_says};
use crate::cache::overrides::Effects;
use crate::cache::suspension::Credential;
use crate::config::policy::Policy;
use crate::telemetry::trace::RequestTrace;
use crate::upstream::answer::{Exchange, Report, Unstorable, examine};
use crate::upstream::client::Upstream;
use crate::upstream::fields;
use crate::upstream::head::AnswerHead;
use crate::upstream::mount::Target;

/// What was asked, as far as the answer's entry needs it; it outlives the request.
#[derive(Debug)]
pub struct Order {
    /// The key to store under.
    pub key: Key,
    /// What of the request is its meaning.
    pub spec: Arc<KeySpec>,
    /// A label for the tenant that gives no credential away.
    pub tenant: Box<str>,
    /// The credential that the upstream is asked with.
    pub credential: Option<Credential>,
    /// For how long to store.
    pub policy: Policy,
    /// What the levers that an operator has pulled do to it.
    pub effects: Effects,
    /// Whether the request named a limit of tokens.
    pub names_token_limit: bool,
    /// Where the answer comes from.
    pub upstream: Arc<Upstream>,
    /// The URL that is asked.
    pub target: Target,
    /// When the fetch began.
    pub asked: Instant,
    /// The trace of the request that began the fetch.
    pub trace: RequestTrace,
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
    let stored = try_store(app, order, head, body);
    match stored {
        Ok(_) => app.telemetry.stored(),
        Err(reason) => {
            app.telemetry.not_stored(order.spec.route(), reason);
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
    let lifetime = storable_head(order, head)?;
    let body = body?;
    let report = examine(
        &Exchange {
            route: order.spec.route(),
            event_stream: head.is_event_stream(),
            json: head.is_json(),
            names_token_limit: order.names_token_limit,
        },
        &body,
    );
    let _ = head.settled.usage.set(report.usage);
    report.verdict.map_err(Unstorable::code)?;
    let entry = entry(app, order, head, body, &report, lifetime);
    if app.tier.put(Arc::new(entry)) { Ok(report.usage) } else { Err("too-large") }
}

/// What the head alone decides.
fn storable_head(order: &Order, head: &AnswerHead) -> Result<Lifetime, &'static str> {
    if head.status != StatusCode::OK {
        return Err("status");
    }
    if !head.is_identity_encoded() {
        return Err("encoded-answer");
    }
    if !head.has_a_verifiable_end() {
        return Err("no-verifiable-end");
    }
    if !order.policy.obey_upstream {
        return Ok(order.policy.lifetime);
    }
    match upstream_says(&head.all_fields) {
        UpstreamSays::DoNotStore => Err("upstream-forbids"),
        UpstreamSays::Use(lifetime) => Ok(lifetime),
        UpstreamSays::Nothing => Ok(order.policy.lifetime),
    }
}

fn entry(
    app: &App,
    order: &Order,
    head: &AnswerHead,
    body: Bytes,
    report: &Report,
    lifetime: Lifetime,
) -> Entry {
    let stored = app.clock.now();
    let initial_age_s = head.age_s();
    let generated = stored.minus(Duration::from_secs(u64::from(initial_age_s)));
    let mut selectors = vec![
        Selector::url(&order.target.masked()),
        Selector::route(order.spec.name()),
        Selector::tenant(&order.tenant),
    ];
    selectors.extend(report.model.as_deref().map(Selector::model));
    Entry {
        key: order.key,
        tenant: order.tenant.clone(),
        route: order.spec.name().into(),
        model: report.model.clone(),
        status: head.status,
        headers: head.shared_fields.clone(),
        body,
        stored,
        generated,
        initial_age_s,
        ends: Ends::of(generated, lifetime),
        selectors: selectors.into_boxed_slice(),
        purge_sequence: 0,
        upstream_request_id: fields::request_id(&head.all_fields),
        upstream_time_ms: u32::try_from(order.asked.elapsed().as_millis()).unwrap_or(u32::MAX),
        usage: report.usage,
        encoding: 0,
        key_id: 0,
    }
}
