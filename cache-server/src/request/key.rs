//! Key: reads the body, and says what the request means or why it has no key.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{
    CONTENT_ENCODING, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    RANGE,
};
use http::{HeaderMap, HeaderName, Method};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use keyspec::{BodyFacts, BodyForm, Key, KeySpec, KeyedRequest, Meaning, NotKeyable, TenantScope};

use super::body::PassingBody;
use super::emit::Emitting;
use super::identify::{Asked, Reuse};
use super::lookup::Hit;
use super::query::{Content, key_of_query};
use super::rejection::Rejection;
use crate::app::App;
use crate::cache::budget::Reservation;
use crate::cache::entry::Entry;
use crate::cache::memo;
use crate::cache::overrides::Effects;
use crate::config::ServerSettings;
use crate::config::policy::{Policy, Scope};
use crate::upstream::fields;
use crate::upstream::mount::{self, Target};

/// A request that has a key and may be answered from the cache.
#[derive(Debug)]
pub struct Keyed {
    /// The request; its body is taken out.
    pub asked: Asked,
    /// What of it is its meaning.
    pub spec: Arc<KeySpec>,
    /// Its key.
    pub key: Key,
    /// The key that its answer stands under: its own, or that of a variant.
    pub place: Key,
    /// A stale entry that the upstream may confirm.
    pub validates: Option<Arc<Entry>>,
    /// Whether other variants are stored under its key, and none that its fields select.
    pub has_other_variants: bool,
    /// What its body says.
    pub meaning: Arc<Meaning>,
    /// What is reused, and for how long.
    pub policy: Policy,
    /// Whether callers of other tenants share its answer.
    pub is_shared: bool,
    /// What others are told of its answer.
    pub emitting: Option<Emitting>,
    /// What the levers that an operator has pulled do to it.
    pub effects: Effects,
    /// Its body, byte for byte.
    pub body: Bytes,
    /// The body's share of the budget.
    pub reservation: Reservation,
}

impl Keyed {
    /// The model that it asks for.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.meaning.facts.model.as_deref().or(self.asked.model_in_path())
    }

    /// Whether it wants to hear from the upstream even if there is a fresh entry.
    #[must_use]
    pub fn wants_afresh(&self) -> bool {
        self.asked.directives.no_cache
    }

    /// The same, to be fetched behind an answer that this entry gave.
    #[must_use]
    pub fn validating(mut self: Box<Self>, hit: &Hit) -> Box<Keyed> {
        self.validates = Some(Arc::clone(&hit.entry));
        self
    }

    /// Gives the key up and passes the request through.
    #[must_use]
    pub fn unkeyed(self, cause: Cause) -> Unkeyed {
        let model = self.model().map(Into::into);
        let body = PassingBody::buffered(self.body, self.reservation);
        let is_shared = self.is_shared;
        Unkeyed { asked: self.asked, model, cause, body, stored: self.validates, is_shared }
    }
}

/// A request that goes past the cache.
#[derive(Debug)]
pub struct Unkeyed {
    /// The request; its body is taken out.
    pub asked: Asked,
    /// The model that it asks for, as far as it was read.
    pub model: Option<Box<str>>,
    /// Why.
    pub cause: Cause,
    /// Its body, as far as it was read, and the rest.
    pub body: PassingBody,
    /// What is stored, which a HEAD may confirm or put in doubt.
    pub stored: Option<Arc<Entry>>,
    /// Whether callers of other tenants share what is stored.
    pub is_shared: bool,
}

impl Unkeyed {
    /// One that nobody has looked for in the cache.
    fn of_nothing_stored(
        asked: Asked,
        model: Option<Box<str>>,
        cause: Cause,
        body: PassingBody,
    ) -> Unkeyed {
        Unkeyed { asked, model, cause, body, stored: None, is_shared: false }
    }
}

/// Why a request goes past the cache.
#[derive(Clone, Copy, Debug)]
pub struct Cause {
    /// A short word, for `Cache-Status` and metrics.
    pub code: &'static str,
    /// Why it is forwarded, as `Cache-Status` has it (RFC 9211 section 2.2).
    pub forwarded: &'static str,
    /// What would change it, in one sentence for the operator.
    pub advice: &'static str,
}

impl Cause {
    const fn ours(code: &'static str, advice: &'static str) -> Cause {
        Cause { code, forwarded: "bypass", advice }
    }

    const fn callers(code: &'static str, advice: &'static str) -> Cause {
        Cause { code, forwarded: "request", advice }
    }

    /// The same, where what is stored tells more of why it is forwarded.
    #[must_use]
    pub fn forwarded(self, forwarded: &'static str) -> Cause {
        Cause { forwarded, ..self }
    }

    /// The answer that was waited for is for its leader alone.
    pub const NOT_SHAREABLE: Cause =
        Cause::ours("not-shareable", "The answer that was waited for concerned another caller.");

    /// The upstream refused the caller's credential, and has not taken it since.
    pub const SUSPENDED: Cause = Cause::ours(
        "credential-suspended",
        "The upstream refused this credential; stored answers come back once it takes it again.",
    );

    /// An operator has pulled a lever.
    pub const OVERRIDDEN: Cause = Cause::ours(
        "override-bypass",
        "An operator's override sends it past the cache; `cache-server override list` shows it.",
    );
    /// It is a HEAD that no stored answer is for.
    pub const HEAD: Cause =
        Cause::ours("head", "A HEAD is answered from what a GET has stored, or passed through.");

    /// It asks for a part of what is not stored.
    pub const RANGE: Cause = Cause::ours(
        "range",
        "A part is cut out of what is stored whole; else it is asked of the upstream, as a part.",
    );

    /// It is a WebSocket.
    pub const TUNNEL: Cause = Cause::ours("tunnel", "What a WebSocket carries is not cached.");

    /// Every flight's place is taken.
    pub const FLIGHTS_FULL: Cause =
        Cause::ours("flights-full", "Raise cache.flights_max, or ask less at once.");
}

/// What reading a request gave.
#[derive(Debug)]
pub enum Reading {
    /// It has a key.
    Keyed(Box<Keyed>),
    /// It passes through.
    Unkeyed(Box<Unkeyed>),
}

/// Reads the body and makes the key.
///
/// # Errors
/// When the body is too large to be passed on, does not come in time, or there is no room.
pub async fn read(app: &App, mut asked: Asked) -> Result<Reading, Rejection> {
    let _span = asked.trace.key();
    let Some(body) = asked.body.take() else { return Err(Rejection::BodyBroken) };
    let declared = body.declared();
    let bytes_max = asked.settings.server.body_bytes_max;
    if declared.is_some_and(|bytes| bytes > bytes_max) {
        return Err(Rejection::BodyTooLarge { bytes_max });
    }
    let Some((spec, _)) = &asked.spec else {
        let advice = "Declare the route in a [[key_spec]], if its answers can be reused.";
        let cause = Cause::ours("not-a-model-route", advice);
        // By the rules of HTTP it is its method that nothing stored answers.
        let cause = if asked.is_generic { cause.forwarded("method") } else { cause };
        return Ok(unread(asked, cause, body));
    };
    let spec = Arc::clone(spec);
    if let Some(cause) = cause_in_header(&asked, &spec) {
        return Ok(unread(asked, cause, body));
    }
    if declared.is_some_and(|bytes| bytes > asked.settings.server.key_body_bytes_max as u64) {
        return Ok(unread(asked, TOO_LARGE_FOR_A_KEY, body));
    }
    let collected = match body {
        Body::Coming(body) => collect(app, &asked.settings.server, body).await?,
        Body::Read(collected) => collected,
    };
    match collected {
        Collected::Whole(body, reservation) => {
            let question = asked.policy_question(&spec, None);
            let spec = Arc::clone(asked.settings.policies.changed(&spec, &question));
            let read = read_body(app, &asked, &spec, &body, reservation).await;
            let (read, reservation) = read.ok_or(Rejection::BodyBroken)?;
            Ok(interpret(app, asked, spec, read, body, reservation))
        }
        Collected::Past(cause, body) => {
            let model = asked.model_in_path().map(Into::into);
            let unkeyed = Unkeyed::of_nothing_stored(asked, model, cause, *body);
            Ok(Reading::Unkeyed(Box::new(unkeyed)))
        }
    }
}

const TOO_LARGE_FOR_A_KEY: Cause =
    Cause::ours("body-too-large", "Bodies above server.key_body_bytes_max are passed through.");

const TRAILERS: Cause =
    Cause::ours("request-trailers", "Send what is in the body's trailers in the header instead.");

fn unread(asked: Asked, cause: Cause, body: Body) -> Reading {
    let server = &asked.settings.server;
    let body = match body {
        Body::Coming(body) => {
            PassingBody::streamed(body, server.body_timeout, server.body_bytes_max)
        }
        Body::Read(Collected::Whole(bytes, reservation)) => {
            PassingBody::buffered(bytes, reservation)
        }
        Body::Read(Collected::Past(_, body)) => *body,
    };
    let model = asked.model_in_path().map(Into::into);
    Reading::Unkeyed(Box::new(Unkeyed::of_nothing_stored(asked, model, cause, body)))
}

/// What in the header alone keeps a request from the cache.
fn cause_in_header(asked: &Asked, spec: &KeySpec) -> Option<Cause> {
    const CONDITIONAL: [HeaderName; 6] =
        [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE];
    if asked.reuse == Reuse::No {
        return Some(Cause::callers("reuse-no", "The request says Cache-Server-Reuse: no."));
    }
    if asked.directives.no_store {
        return Some(Cause::callers("no-store", "The request says Cache-Control: no-store."));
    }
    const FOR_AN_ORIGIN: [HeaderName; 2] = [IF_MATCH, IF_UNMODIFIED_SINCE];
    let not_ours = if spec.is_generic() { &FOR_AN_ORIGIN[..] } else { &CONDITIONAL[..] };
    if not_ours.iter().any(|name| asked.headers.contains_key(name)) {
        let advice = "Conditions that only the upstream can look at are passed through.";
        return Some(Cause::callers("conditional", advice));
    }
    if spec.is_generic() && fields::accepts_event_stream(&asked.headers) {
        let advice = "A stream that may never end is passed through.";
        return Some(Cause::ours("event-stream", advice));
    }
    if is_encoded(&asked.headers) {
        let advice = "Send the request's body without Content-Encoding.";
        return Some(Cause::ours("encoded-request", advice));
    }
    if spec.body_form() == BodyForm::Json && fields::has_another_charset(&asked.headers) {
        return Some(Cause::ours("charset", "Send the request's body in UTF-8, as JSON is."));
    }
    None
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity")
}

/// A request's body.
#[derive(Debug)]
pub enum Body {
    /// It is still to be read.
    Coming(Incoming),
    /// It was read.
    Read(Collected),
}

impl Body {
    /// How long it is, if that is known.
    fn declared(&self) -> Option<u64> {
        match self {
            Body::Coming(body) => body.size_hint().exact(),
            Body::Read(Collected::Whole(bytes, _)) => Some(bytes.len() as u64),
            Body::Read(Collected::Past(..)) => None,
        }
    }
}

/// What of a body was read.
#[derive(Debug)]
pub enum Collected {
    /// All of it.
    Whole(Bytes, Reservation),
    /// It cannot be keyed, and goes on as it came.
    Past(Cause, Box<PassingBody>),
}

/// Reads a body into one buffer of its exact size, within its bounds and deadlines.
///
/// # Errors
/// When it is too large, does not come in time, or there is no room.
pub(super) async fn collect(
    app: &App,
    server: &ServerSettings,
    mut body: Incoming,
) -> Result<Collected, Rejection> {
    let due = tokio::time::Instant::now() + server.key_body_timeout;
    let mut reservation = app.budget.open();
    let mut read = Joined::default();
    let total_max = server.body_bytes_max;
    loop {
        let data = match next_frame(&mut body, server, due).await? {
            None => return Ok(Collected::Whole(read.into_bytes(), reservation)),
            Some(frame) => match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let body = PassingBody::buffered(read.into_bytes(), reservation);
                    return Ok(Collected::Past(TRAILERS, Box::new(body.with_trailers(trailers))));
                }
            },
        };
        if !reservation.grow(data.len()) {
            return Err(Rejection::BuffersFull);
        }
        let so_far = read.len() + data.len();
        if so_far as u64 > total_max {
            return Err(Rejection::BodyTooLarge { bytes_max: total_max });
        }
        read.add(data, body.size_hint().lower());
        if so_far > server.key_body_bytes_max {
            let read = read.into_bytes();
            let timeout = server.body_timeout;
            let body = PassingBody::begun(read, reservation, body, timeout, total_max);
            return Ok(Collected::Past(TOO_LARGE_FOR_A_KEY, Box::new(body)));
        }
    }
}

/// The frames of a body, joined. One frame is the common case, and is not copied.
#[derive(Debug, Default)]
struct Joined {
    first: Option<Bytes>,
    all: BytesMut,
}

impl Joined {
    fn len(&self) -> usize {
        self.first.as_ref().map_or(self.all.len(), Bytes::len)
    }

    fn add(&mut self, frame: Bytes, expected: u64) {
        match self.first.take() {
            None if self.all.is_empty() => self.first = Some(frame),
            None => self.all.extend_from_slice(&frame),
            Some(before) => {
                // A caller's word is worth so much room at once, and no more.
                const TRUSTED: u64 = 1 << 20;
                let expected = usize::try_from(expected.min(TRUSTED)).unwrap_or(0);
                self.all.reserve(before.len() + frame.len() + expected);
                self.all.extend_from_slice(&before);
                self.all.extend_from_slice(&frame);
            }
        }
    }

    fn into_bytes(self) -> Bytes {
        self.first.unwrap_or_else(|| self.all.freeze())
    }
}

/// The next piece of the body, or its trailers; within the bound on silence and by the time that
/// the whole is due.
async fn next_frame(
    body: &mut Incoming,
    server: &ServerSettings,
    due: tokio::time::Instant,
) -> Result<Option<Frame<Bytes>>, Rejection> {
    let silence = tokio::time::Instant::now() + server.body_timeout;
    match tokio::time::timeout_at(silence.min(due), body.frame()).await {
        Err(_elapsed) if due < silence => {
            Err(Rejection::BodyTooSlow { within: server.key_body_timeout })
        }
        Err(_elapsed) => Err(Rejection::BodyTimeout { within: server.body_timeout }),
        Ok(None) => Ok(None),
        Ok(Some(frame)) => frame.map(Some).map_err(|_| Rejection::BodyBroken),
    }
}

/// What reading a body came to: its meaning, and what is reused, or why nothing is.
type Read = memo::Read<Policy, Cause>;

/// Reads what a body says, and its digest if that is wanted; a large one aside, where it holds up
/// nobody else. Its reservation goes along, so that a body whose caller has hung up counts until it
/// is read. Nothing comes back if the server is being stopped.
async fn read_body(
    app: &App,
    asked: &Asked,
    spec: &Arc<KeySpec>,
    body: &Bytes,
    reservation: Reservation,
) -> Option<(Result<Read, NotKeyable>, Reservation)> {
    const READ_IN_PLACE_BYTES_MAX: usize = 256 << 10;
    let wants = |facts: &BodyFacts| reused(asked, spec, facts);
    let is_short = body.len() <= READ_IN_PLACE_BYTES_MAX;
    if is_short && spec.body_form() == BodyForm::Json {
        return Some((app.memo.read(&asked.tenant.scope, spec, body, wants), reservation));
    }
    let content_type = match spec.content_type(&asked.headers) {
        Ok(content_type) => content_type,
        Err(not_keyable) => return Some((Err(not_keyable), reservation)),
    };
    if is_short {
        return Some((Read::anew(spec, content_type, body, wants), reservation));
    }
    let (its_spec, body) = (Arc::clone(spec), body.clone());
    let content_type = content_type.map(str::to_owned);
    let reading = tokio::task::spawn_blocking(move || {
        (its_spec.read_as(content_type.as_deref(), &body), reservation)
    });
    let (meaning, reservation) = reading.await.ok()?;
    Some((meaning.map(|meaning| Read::again(Arc::new(meaning), wants)), reservation))
}

/// What is reused of the answers to a request whose body says this, or why nothing is.
fn reused(asked: &Asked, spec: &KeySpec, facts: &BodyFacts) -> Result<Policy, Cause> {
    let model = facts.model.as_deref().or(asked.model_in_path());
    let policy = asked.settings.policies.policy(&asked.policy_question(spec, model));
    let declared = asked.reuse.is_declared();
    match spec.reusable(asked.method.as_str(), facts, policy.reuse, declared) {
        Ok(_because) => Ok(policy),
        Err(not_reused) => Err(Cause::ours(not_reused.code(), not_reused.advice())),
    }
}

/// Makes the key, or says why the request goes past the cache.
fn interpret(
    app: &App,
    asked: Asked,
    spec: Arc<KeySpec>,
    read: Result<Read, NotKeyable>,
    body: Bytes,
    reservation: Reservation,
) -> Reading {
    let past = |asked, model, cause, body, reservation| {
        let body = PassingBody::buffered(body, reservation);
        Reading::Unkeyed(Box::new(Unkeyed::of_nothing_stored(asked, model, cause, body)))
    };
    let (meaning, policy) = match read {
        Ok(Read::Wanted(meaning, policy)) => (meaning, policy),
        Ok(Read::Unwanted(facts, cause)) => {
            let model = facts.model.or(asked.model_in_path().map(Into::into));
            asked.trace.note_model(model.as_deref());
            return past(asked, model, cause, body, reservation);
        }
        Err(not_keyable) => {
            let advice = "The body has no canonical form; it is passed through as it is.";
            let cause = Cause::ours(not_keyable.code(), advice);
            let model = asked.model_in_path().map(Into::into);
            return past(asked, model, cause, body, reservation);
        }
    };
    let model = meaning.facts.model.as_deref().or(asked.model_in_path());
    asked.trace.note_model(model);
    let effects = effects(app, &asked, &spec, model);
    if effects.bypass {
        let model = model.map(Into::into);
        return past(asked, model, Cause::OVERRIDDEN, body, reservation);
    }
    let is_shared = match policy.scope {
        Scope::Tenant => false,
        // A key leaves out what may be a credential; of any URL but a model's it is a part like all others.
        _ if spec.is_http() && asked.target.has_key_parameter() => false,
        Scope::NamedCallers => asked.tenant.name.is_some(),
        Scope::AllCallers => true,
    };
    let request = KeyedRequest {
        tenant: if is_shared { &TenantScope::Shared } else { &asked.tenant.scope },
        upstream: asked.upstream.identity(),
        method: asked.method.as_str(),
        path: asked.target.path(),
        query: asked.target.query(),
        headers: &asked.headers,
    };
    let key = with_spelling(spec.key(&request, &meaning), &spec, &asked, &body);
    Reading::Keyed(Box::new(Keyed {
        asked,
        spec,
        key,
        place: key,
        validates: None,
        has_other_variants: false,
        meaning,
        emitting: Emitting::by(&policy, is_shared),
        policy,
        is_shared,
        effects,
        body,
        reservation,
    }))
}

/// The key of a request, by its meaning and, to HTTP, by its spelling.
fn with_spelling(key: Key, spec: &KeySpec, asked: &Asked, body: &[u8]) -> Key {
    match spec.is_http() {
        true if spec.is_generic() => key_of_http(key, asked, body),
        true => key_of_credential_in_query(key, &asked.target),
        false => key,
    }
}

/// The key of a generic request, by what the rules of HTTP have in it beside its spec.
fn key_of_http(key: Key, asked: &Asked, body: &[u8]) -> Key {
    let key = key_of_uri(key, &asked.target);
    if asked.method != Method::QUERY {
        return key;
    }
    let is_verbatim = asked.directives.no_transform;
    key_of_query(key, Content { fields: &asked.headers, body, is_verbatim })
}

/// The key by the URI. A spec's key tells what a query means, whatever its order and its
/// escapes; to HTTP that is another URI, whose answer may be another (RFC 9111 section 4). So where
/// the query is not in its plain form, sorted and without escapes, its spelling is a part of the key.
///
/// An empty query is not none. A credential in the query is in the key as the tenant; so its value
/// does not count here, but where it stands does, and where it is one of several, empty or escaped,
/// how it is written.
fn key_of_uri(key: Key, target: &Target) -> Key {
    fn name(piece: &str) -> &str {
        piece.split_once('=').map_or(piece, |(name, _)| name)
    }
    let the_tenant = the_tenant(target);
    let is_plain = |piece: &str| {
        let is_in_key = !mount::is_key_parameter(piece) || Some(piece) == the_tenant;
        is_in_key && !piece.is_empty() && !piece.contains('%')
    };
    if pieces(target).all(is_plain) && pieces(target).map(name).is_sorted() {
        return key;
    }
    let mut hasher = blake3::Hasher::new_derive_key("cache-server 2026 key of a URI v1");
    hasher.update(key.as_bytes());
    for piece in pieces(target) {
        if Some(piece) == the_tenant {
            // No piece is as long as that.
            hasher.update(&u64::MAX.to_le_bytes());
        } else {
            hasher.update(&(piece.len() as u64).to_le_bytes()).update(piece.as_bytes());
        }
    }
    Key::from_bytes(*hasher.finalize().as_bytes())
}

/// The key of a request that a spec was declared for: what may be a credential counts as the tenant
/// alone, which is told by its meaning. Where that leaves open how it was written, its spelling is a
/// part of the key.
fn key_of_credential_in_query(key: Key, target: &Target) -> Key {
    let the_tenant = the_tenant(target);
    let is_open = |piece: &&str| mount::is_key_parameter(piece) && Some(*piece) != the_tenant;
    if !pieces(target).any(|piece| is_open(&piece)) {
        return key;
    }
    let mut hasher = blake3::Hasher::new_derive_key("cache-server 2026 key of a credential v1");
    hasher.update(key.as_bytes());
    for piece in pieces(target).filter(is_open) {
        hasher.update(&(piece.len() as u64).to_le_bytes()).update(piece.as_bytes());
    }
    Key::from_bytes(*hasher.finalize().as_bytes())
}

/// What a query is made of.
fn pieces(target: &Target) -> impl Iterator<Item = &str> {
    target.query().into_iter().flat_map(|query| query.split('&'))
}

/// The credential of a query, where its value says all that there is to say of it.
fn the_tenant(target: &Target) -> Option<&str> {
    let mut shown = pieces(target).filter(|piece| mount::is_key_parameter(piece));
    let piece = shown.next().filter(|_| shown.next().is_none())?;
    let value = piece.strip_prefix("key=").unwrap_or_default();
    (!value.is_empty() && !value.contains('%')).then_some(piece)
}

/// What the levers that an operator has pulled do to a request.
fn effects(app: &App, asked: &Asked, spec: &KeySpec, model: Option<&str>) -> Effects {
    if app.overrides.is_empty() {
        return Effects::default();
    }
    app.overrides.effects(spec.name(), model, Some(asked.tenant.label()), app.clock.now())
}
