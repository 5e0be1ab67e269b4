//! Key: reads the body, and says what the request means or why it has no key.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{
    CONTENT_ENCODING, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    RANGE,
};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use keyspec::{Key, KeySpec, KeyedRequest, Meaning, ModelRoute, NotKeyable, TenantScope};

use super::body::PassingBody;
use super::identify::{Asked, Reuse};
use super::rejection::Rejection;
use crate::app::App;
use crate::cache::budget::Reservation;
use crate::config::policy::Policy;

/// A request that has a key and may be answered from the cache.
#[derive(Debug)]
pub struct Keyed {
    /// The request; its body is taken out.
    pub asked: Asked,
    /// Its model route.
    pub route: ModelRoute,
    /// Its key.
    pub key: Key,
    /// What its body says.
    pub meaning: Arc<Meaning>,
    /// What is reused, and for how long.
    pub policy: Policy,
    /// Its body, byte for byte.
    pub body: Bytes,
    /// The body's share of the budget.
    pub reservation: Reservation,
}

impl Keyed {
    /// Whether it wants to hear from the upstream even if there is a fresh entry.
    #[must_use]
    pub fn wants_afresh(&self) -> bool {
        self.asked.reuse == Reuse::New || self.asked.directives.no_cache
    }

    /// Gives the key up and passes the request through.
    #[must_use]
    pub fn unkeyed(self, cause: Cause) -> Unkeyed {
        let body = PassingBody::buffered(self.body, self.reservation);
        Unkeyed { asked: self.asked, cause, body }
    }
}

/// A request that goes past the cache.
#[derive(Debug)]
pub struct Unkeyed {
    /// The request; its body is taken out.
    pub asked: Asked,
    /// Why.
    pub cause: Cause,
    /// Its body, as far as it was read, and the rest.
    pub body: PassingBody,
}

/// Why a request goes past the cache.
#[derive(Clone, Copy, Debug)]
pub struct Cause {
    /// A short word, for `Cache-Status` and metrics.
    pub code: &'static str,
    /// Whether the request itself asked for it (RFC 9211 section 2.2, `fwd=request`).
    pub by_request: bool,
    /// What would change it, in one sentence for the operator.
    pub advice: &'static str,
}

impl Cause {
    const fn ours(code: &'static str, advice: &'static str) -> Cause {
        Cause { code, by_request: false, advice }
    }

    const fn callers(code: &'static str, advice: &'static str) -> Cause {
        Cause { code, by_request: true, advice }
    }

    /// The answer that was waited for is for its leader alone.
    pub const NOT_SHAREABLE: Cause =
        Cause::ours("not-shareable", "The answer that was waited for concerned another caller.");

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
    let Some(body) = asked.body.take() else { return Err(Rejection::BodyBroken) };
    let declared = body.size_hint().exact();
    if declared.is_some_and(|bytes| bytes > app.server.body_bytes_max) {
        return Err(Rejection::BodyTooLarge { bytes_max: app.server.body_bytes_max });
    }
    let Some(route) = asked.route() else {
        let cause = Cause::ours("not-a-model-route", "Only model routes are cached.");
        return Ok(unread(app, asked, cause, body));
    };
    if let Some(cause) = cause_in_header(&asked) {
        return Ok(unread(app, asked, cause, body));
    }
    if declared.is_some_and(|bytes| bytes > app.server.key_body_bytes_max as u64) {
        return Ok(unread(app, asked, TOO_LARGE_FOR_A_KEY, body));
    }
    match collect(app, body).await? {
        Collected::Whole(body, reservation) => {
            let spec = Arc::clone(app.policies.spec(&asked.policy_question(route, None)));
            let read = read_meaning(app, &asked.tenant.scope, &spec, &body, reservation).await;
            let (meaning, reservation) = read.ok_or(Rejection::BodyBroken)?;
            Ok(interpret(app, asked, &spec, meaning, body, reservation))
        }
        Collected::Overlong(body) => {
            let cause = TOO_LARGE_FOR_A_KEY;
            Ok(Reading::Unkeyed(Box::new(Unkeyed { asked, cause, body })))
        }
    }
}

const TOO_LARGE_FOR_A_KEY: Cause =
    Cause::ours("body-too-large", "Bodies above server.key_body_bytes_max are passed through.");

fn unread(app: &App, asked: Asked, cause: Cause, body: Incoming) -> Reading {
    let body = PassingBody::streamed(body, app.server.body_timeout, app.server.body_bytes_max);
    Reading::Unkeyed(Box::new(Unkeyed { asked, cause, body }))
}

/// What in the header alone keeps a model route's request from the cache.
fn cause_in_header(asked: &Asked) -> Option<Cause> {
    const CONDITIONAL: [http::HeaderName; 6] =
        [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE];
    if asked.reuse == Reuse::No {
        return Some(Cause::callers("reuse-no", "The request says Cache-Server-Reuse: no."));
    }
    if asked.directives.no_store {
        return Some(Cause::callers("no-store", "The request says Cache-Control: no-store."));
    }
    if CONDITIONAL.iter().any(|name| asked.headers.contains_key(name)) {
        let advice = "Conditional and range requests are passed through on model routes.";
        return Some(Cause::callers("conditional", advice));
    }
    if is_encoded(&asked.headers) {
        let advice = "Send the request's body without Content-Encoding.";
        return Some(Cause::ours("encoded-request", advice));
    }
    None
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity")
}

enum Collected {
    Whole(Bytes, Reservation),
    Overlong(PassingBody),
}

/// Reads a body into one buffer of its exact size, within its bounds and deadlines.
async fn collect(app: &App, mut body: Incoming) -> Result<Collected, Rejection> {
    let bytes_max = app.server.key_body_bytes_max;
    let mut reservation = app.budget.open();
    let mut first: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    let total_max = app.server.body_bytes_max;
    while let Some(frame) = next_frame(&mut body, app.server.body_timeout).await? {
        if !reservation.grow(frame.len()) {
            return Err(Rejection::BuffersFull);
        }
        let so_far = first.as_ref().map_or(joined.len(), Bytes::len);
        if (so_far + frame.len()) as u64 > total_max {
            return Err(Rejection::BodyTooLarge { bytes_max: total_max });
        }
        let overlong = so_far + frame.len() > bytes_max;
        // One frame is the common case, and needs no copy.
        match first.take() {
            None if joined.is_empty() => first = Some(frame),
            None => joined.extend_from_slice(&frame),
            Some(before) => {
                // A caller's word is worth so much room at once, and no more.
                const TRUSTED: u64 = 1 << 20;
                let expected = body.size_hint().lower().min(TRUSTED);
                let expected = usize::try_from(expected).unwrap_or(0);
                joined.reserve(before.len() + frame.len() + expected);
                joined.extend_from_slice(&before);
                joined.extend_from_slice(&frame);
            }
        }
        if overlong {
            let read = first.unwrap_or_else(|| joined.freeze());
            let timeout = app.server.body_timeout;
            let body = PassingBody::begun(read, reservation, body, timeout, total_max);
            return Ok(Collected::Overlong(body));
        }
    }
    Ok(Collected::Whole(first.unwrap_or_else(|| joined.freeze()), reservation))
}

/// The next piece of the body; trailers of a request are read over.
async fn next_frame(body: &mut Incoming, within: Duration) -> Result<Option<Bytes>, Rejection> {
    loop {
        match tokio::time::timeout(within, body.frame()).await {
            Err(_elapsed) => return Err(Rejection::BodyTimeout { within }),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Rejection::BodyBroken),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Reads what a body says; a large one aside, where it holds up nobody else. Its reservation goes
/// along, so that a body whose caller has hung up counts until it is read. Nothing comes back if
/// the server is being stopped.
async fn read_meaning(
    app: &App,
    tenant: &TenantScope,
    spec: &Arc<KeySpec>,
    body: &Bytes,
    reservation: Reservation,
) -> Option<(Result<Arc<Meaning>, NotKeyable>, Reservation)> {
    const READ_IN_PLACE_BYTES_MAX: usize = 256 << 10;
    if body.len() <= READ_IN_PLACE_BYTES_MAX {
        return Some((app.memo.read(tenant, spec, body), reservation));
    }
    let (spec, body) = (Arc::clone(spec), body.clone());
    let reading =
        tokio::task::spawn_blocking(move || (spec.read(&body).map(Arc::new), reservation));
    reading.await.ok()
}

/// Makes the key, or says why the request goes past the cache.
fn interpret(
    app: &App,
    asked: Asked,
    spec: &KeySpec,
    meaning: Result<Arc<Meaning>, NotKeyable>,
    body: Bytes,
    reservation: Reservation,
) -> Reading {
    let past = |asked, cause, body, reservation| {
        let body = PassingBody::buffered(body, reservation);
        Reading::Unkeyed(Box::new(Unkeyed { asked, cause, body }))
    };
    let route = spec.route();
    let meaning = match meaning {
        Ok(meaning) => meaning,
        Err(not_keyable) => {
            let advice = "The body has no canonical form; it is passed through as it is.";
            return past(asked, Cause::ours(not_keyable.code(), advice), body, reservation);
        }
    };
    let in_path = asked.model_route.as_ref().and_then(|(_, model)| model.as_deref());
    let model = meaning.model.as_deref().or(in_path);
    let policy = app.policies.policy(&asked.policy_question(route, model));
    let declared = asked.reuse.is_declared();
    if let Err(not_reused) = keyspec::reusable(route, &meaning, policy.reuse, declared) {
        let cause = Cause::ours(not_reused.code(), not_reused.advice());
        return past(asked, cause, body, reservation);
    }
    let request = KeyedRequest {
        tenant: &asked.tenant.scope,
        upstream: asked.upstream.identity(),
        method: asked.method.as_str(),
        path: asked.target.path(),
        query: asked.target.query(),
        headers: &asked.headers,
    };
    let key = spec.key(&request, &meaning);
    Reading::Keyed(Box::new(Keyed { asked, route, key, meaning, policy, body, reservation }))
}
