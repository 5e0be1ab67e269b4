//! Order: what is asked of the upstream for the cache. It outlives the request.

use std::sync::Arc;
use std::time::Instant;

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue};
use keyspec::{Credentials, Key, KeySpec};

use super::body::PassingBody;
use super::identify::Asked;
use super::key::Keyed;
use super::lookup;
use crate::app::App;
use crate::cache::cool_down::Limited;
use crate::cache::entry::{Entry, Selector};
use crate::cache::freshness::{RequestDirectives, surrogate, vary};
use crate::cache::leases::Fence;
use crate::cache::overrides::Effects;
use crate::cache::suspension::Credential;
use crate::clock::Timestamp;
use crate::config::FillSettings;
use crate::config::policy::{Policy, WhenNobodyReads};
use crate::telemetry::trace::{RequestTrace, Step};
use crate::upstream::body::RequestBody;
use crate::upstream::client::Upstream;
use crate::upstream::fields;
use crate::upstream::mount::Target;

/// Whom a fill is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Callers who wait for it. Once all have left, it may be broken off.
    Callers,
    /// Those who will ask: nobody waits.
    Later,
}

/// What was asked, as far as the answer's entry needs it; it outlives the request.
#[derive(Debug)]
pub struct Order {
    /// The key of the request.
    pub key: Key,
    /// The key to store under, as far as that is known: its own, or that of a variant.
    pub place: Key,
    /// What of the request is its meaning.
    pub spec: Arc<KeySpec>,
    /// A label for the tenant that gives no credential away.
    pub tenant: Box<str>,
    /// Whether callers of other tenants share its answer.
    pub is_shared: bool,
    /// The credential that the upstream is asked with.
    pub credential: Option<Credential>,
    /// Whom the upstream may limit.
    pub limited: Limited,
    /// How long it may take, and what comes after a failure.
    pub fills: FillSettings,
    /// Whom it is for.
    pub for_whom: For,
    /// Whether it is broken off once all callers have left.
    pub may_be_left: bool,
    /// For how long to store.
    pub policy: Policy,
    /// What the levers that an operator has pulled do to it.
    pub effects: Effects,
    /// Whether the request named a limit of tokens.
    pub names_token_limit: bool,
    /// The tool that it calls.
    pub tool: Option<Box<str>>,
    /// The model that it asks for.
    pub asked_model: Option<Box<str>>,
    /// What a purge order may name of the request.
    pub asked_selectors: Vec<Selector>,
    /// What it asks of a cache.
    pub directives: RequestDirectives,
    /// Its fields as they came.
    pub fields: HeaderMap,
    /// Whether it shows who asks, so that its answer may be for them alone.
    pub has_authorization: bool,
    /// A stale entry that the upstream may confirm.
    pub validates: Option<Arc<Entry>>,
    /// The newest purge order when the fill began.
    pub purge_sequence: u64,
    /// What its answer may take the place of in what servers share.
    pub fence: Fence,
    /// When the fetch began, by the wall clock.
    pub began: Timestamp,
    /// Where the answer comes from.
    pub upstream: Arc<Upstream>,
    /// The URL that is asked.
    pub target: Target,
    /// When the fetch began.
    pub asked: Instant,
    /// The trace of the request that began the fetch.
    pub trace: RequestTrace,
}

/// The order of a request, what is sent to the upstream, and the span of asking it. The fields go to
/// the upstream without what concerns this caller alone where others share the answer.
pub fn prepare(
    app: &App,
    mut keyed: Box<Keyed>,
    for_whom: For,
    purge_sequence: u64,
    fence: Fence,
) -> (Order, http::Request<RequestBody>, Step) {
    // It may have been purged since it was looked up, which a confirmation would undo: what the
    // confirmed entry records is newer than that order.
    keyed.validates = keyed.validates.filter(|entry| !lookup::is_dead(app, entry));
    let (credential, limited) = (keyed.asked.credential(), keyed.asked.limited());
    let asked_selectors = selectors_of_request(&keyed);
    let mut headers = std::mem::take(&mut keyed.asked.headers);
    let fields = headers.clone();
    if keyed.is_shared {
        let (keyed_headers, by_http) = (keyed.spec.keyed_headers(), keyed.spec.is_generic());
        let has_content = !keyed.body.is_empty();
        fields::keep_what_all_callers_share(&mut headers, keyed_headers, by_http, has_content);
    }
    fields::prepare_request(&mut headers, &app.loops);
    let span = keyed.asked.trace.fetch(&keyed.asked.call(), &mut headers);
    let asked_model = keyed.model().map(Into::into);
    let (body, reservation, effects) = (keyed.body, keyed.reservation, keyed.effects);
    let Keyed { asked, spec, key, place, validates, meaning, policy, is_shared, .. } = *keyed;
    if spec.is_generic() {
        fields::replace_conditions(&mut headers, validates.as_deref());
        headers.extend(policy.surrogate_control.then(surrogate::capability));
        // What is fetched for the cache is the whole.
        headers.remove(RANGE);
        headers.remove(IF_RANGE);
        if policy.vary_normalize.contains(&ACCEPT_ENCODING) {
            // What compares alike must be asked alike.
            headers.remove(ACCEPT_ENCODING);
            headers.extend(vary::accept_encoding(&fields).map(|taken| (ACCEPT_ENCODING, taken)));
        }
    } else {
        // One stored form for everybody, and one that can be checked for completeness.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let tenant = tenant_label(&asked, is_shared);
    let body = PassingBody::buffered(body, reservation);
    let mut request = http::Request::new(RequestBody::from(body));
    *request.method_mut() = asked.method;
    *request.headers_mut() = headers;
    let order = Order {
        key,
        place,
        spec,
        tenant,
        is_shared,
        credential,
        limited,
        fills: asked.settings.fills,
        for_whom,
        may_be_left: may_be_left(&policy, for_whom),
        policy,
        effects,
        names_token_limit: meaning.facts.names_token_limit,
        tool: meaning.facts.tool.clone(),
        asked_model,
        asked_selectors,
        directives: asked.directives,
        has_authorization: has_authorization(&fields, is_shared),
        fields,
        validates,
        purge_sequence,
        fence,
        began: app.clock.now(),
        upstream: asked.upstream,
        target: asked.target,
        asked: app.clock.instant(),
        trace: asked.trace,
    };
    (order, request, span)
}

/// Whether a fill is broken off once all callers have left.
pub fn may_be_left(policy: &Policy, for_whom: For) -> bool {
    for_whom == For::Callers && policy.when_nobody_reads == WhenNobodyReads::Cancel
}

/// A label for whom an answer is stored for.
#[must_use]
pub fn tenant_label(asked: &Asked, is_shared: bool) -> Box<str> {
    if is_shared { "(shared)" } else { asked.tenant.label() }.into()
}

/// Whether the answer to a request needs the upstream's permission to be given to others: it has
/// `Authorization` (RFC 9111 section 3.5), or any other credential that its key does not tell.
#[must_use]
pub fn has_authorization(fields: &HeaderMap, is_shared: bool) -> bool {
    let credentials = Credentials::from_request(fields, None).with_cookies();
    let has_any = || !credentials.is_empty() || credentials.has_cookies();
    fields.contains_key(AUTHORIZATION) || (is_shared && has_any())
}

/// What a purge order may name of a request, whatever it is answered.
#[must_use]
pub fn selectors_of_request(keyed: &Keyed) -> Vec<Selector> {
    let Keyed { asked, spec, key, place, is_shared, .. } = keyed;
    let mut selectors = vec![
        Selector::key(key),
        Selector::url(&asked.target.name()),
        Selector::route(spec.name()),
        Selector::tenant(&tenant_label(asked, *is_shared)),
    ];
    selectors.extend((place != key).then(|| Selector::key(place)));
    let upstream = asked.upstream.identity();
    selectors.extend(keyed.model().map(|model| Selector::asked_model(upstream, model)));
    selectors
}
