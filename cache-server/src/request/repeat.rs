//! Repeat: the short ways of a request that came before, byte for byte, on any connection.
//!
//! - [`answer`] is asked before HTTP is even parsed, with the bytes of one request of HTTP/1.1. If they
//!   are known, and a fresh entry in memory answers, the answer's bytes go out at once.
//! - [`recognise`] does the same with a request that was parsed, by all its fields and its body: one of
//!   HTTP/2, or one that came in pieces.
//!
//! Whatever is not as plain as that goes the long way, which alone decides what a request means: it
//! remembers it here when it has answered from memory. Guards that are asked at the door have to be
//! asked here as well.
//!
//! What a request means depends on its bytes and on the settings alone. What else could change its
//! answer is looked at each time: whether the entry is there, fresh, not purged, and not due for a
//! refresh, and whether the upstream refuses the credential; and while an operator has pulled a lever,
//! or requests are traced, nothing goes a short way.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use super::body::AnswerBody;
use super::conditions::Conditions;
use super::key::{self, Body, Collected, Keyed};
use super::lookup::{self, Hit};
use super::rejection::Rejection;
use super::respond::{self, Written};
use crate::app::App;
use crate::cache::freshness::RequestDirectives;
use crate::cache::repeats::{REQUEST_BYTES_MAX, Repeat};
use crate::clock::Timestamp;
use crate::config::ServerSettings;
use crate::telemetry::TierName;

/// The bytes of a request of HTTP/1.1 as they came, header and body: an extension of the request.
#[derive(Clone, Debug)]
pub struct Raw(pub Bytes);

/// The answer to a request of which these are all the bytes, if it came before and a fresh entry in
/// memory answers it.
#[must_use]
pub fn answer(app: &App, request: &[u8]) -> Option<Written> {
    let received = app.clock.instant();
    let now = app.clock.now();
    let (repeat, hit) = find(app, request, now)?;
    respond::repeated(app, &repeat, &hit, received, now)
}

/// What a request is that was parsed.
pub enum Recognised {
    /// It came before, and this answers it.
    Answered(Response<AnswerBody>),
    /// It goes the long way.
    New {
        /// The request; its body may have been read.
        request: Request<Body>,
        /// What it is known by when it comes again, if it may be.
        known_by: Option<KnownBy>,
    },
}

/// What a request is known by when it comes again.
#[derive(Debug)]
pub enum KnownBy {
    /// All its bytes.
    Raw(Bytes),
    /// All that its header says, spelled out, and its body.
    Head(Vec<u8>),
}

/// Answers a request that came before, if a fresh entry in memory does. For that its body is read, if
/// one with the same header was keyed before: then the long way would read it just so.
///
/// # Errors
/// When the body does not come in time, or there is no room.
pub async fn recognise(
    app: &App,
    request: Request<Incoming>,
    received: Instant,
) -> Result<Recognised, Rejection> {
    let (mut parts, body) = request.into_parts();
    let raw = parts.extensions.remove::<Raw>();
    let new = |parts, body, known_by| {
        Ok(Recognised::New { request: Request::from_parts(parts, body), known_by })
    };
    if !is_plain(&parts) || !all_is_plain(app) {
        return new(parts, Body::Coming(body), None);
    }
    // Its bytes were looked for already.
    if let Some(Raw(raw)) = raw {
        return new(parts, Body::Coming(body), Some(KnownBy::Raw(raw)));
    }
    let settings = app.settings();
    let server = &settings.server;
    if parts.headers.len() > server.headers_max || !is_small(server, &body) {
        return new(parts, Body::Coming(body), None);
    }
    let head = spelled_out(&parts);
    if !app.repeats.is_head_known(&head, settings.generation) {
        return new(parts, Body::Coming(body), Some(KnownBy::Head(head)));
    }
    let (body, reservation) = match key::collect(app, server, body).await? {
        Collected::Whole(body, reservation) => (body, reservation),
        past @ Collected::Past(..) => return new(parts, Body::Read(past), None),
    };
    let found = find(app, &with_body(&head, &body), app.clock.now());
    if let Some((repeat, hit)) = found.filter(|(_, hit)| hit.entry.trailers.is_empty()) {
        return Ok(Recognised::Answered(respond::hit_again(app, &repeat, &hit, received)));
    }
    let read = Body::Read(Collected::Whole(body, reservation));
    new(parts, read, Some(KnownBy::Head(head)))
}

/// Whether a body may be one that requests are known by, and that is keyed; over HTTP/2 it need not say
/// how long it is.
fn is_small(server: &ServerSettings, body: &Incoming) -> bool {
    let most = server.key_body_bytes_max.min(REQUEST_BYTES_MAX) as u64;
    body.size_hint().exact().is_none_or(|bytes| bytes <= most.min(server.body_bytes_max))
}

/// What a request that is known by this means, and the entry that answers it.
fn find(app: &App, known_by: &[u8], now: Timestamp) -> Option<(Arc<Repeat>, Hit)> {
    let repeat = app.repeats.find(known_by)?;
    let is_as_before = repeat.settings == app.settings_generation() && all_is_plain(app);
    if !is_as_before || is_suspended(app, &repeat) {
        return None;
    }
    let hit = lookup::of_repeat(app, &repeat, now)?;
    Some((repeat, hit))
}

fn is_suspended(app: &App, repeat: &Repeat) -> bool {
    !app.suspensions.is_empty()
        && repeat.credential.as_ref().is_some_and(|shown| app.suspensions.since(shown).is_some())
}

/// All that the header of a request says but its length, each piece behind its length. It begins as no
/// bytes of HTTP/1.1 do.
fn spelled_out(parts: &Parts) -> Vec<u8> {
    let uri = &parts.uri;
    let version = if parts.version == Version::HTTP_2 { 2 } else { 1 };
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(&[0, version]);
    let mut put = |piece: &[u8]| {
        out.extend_from_slice(&(piece.len() as u64).to_le_bytes());
        out.extend_from_slice(piece);
    };
    put(parts.method.as_str().as_bytes());
    put(uri.scheme_str().unwrap_or_default().as_bytes());
    put(uri.authority().map_or("", |authority| authority.as_str()).as_bytes());
    put(uri.path_and_query().map_or("", |target| target.as_str()).as_bytes());
    for (name, value) in parts.headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
        put(name.as_str().as_bytes());
        put(value.as_bytes());
    }
    out
}

/// The same with the body behind it: an empty piece, which no name is, ends the header.
fn with_body(head: &[u8], body: &[u8]) -> Vec<u8> {
    [head, &0_u64.to_le_bytes(), body].concat()
}

/// Whether the answer to a request depends on nothing but its bytes and an entry.
fn all_is_plain(app: &App) -> bool {
    app.overrides.is_empty() && !app.traces.are_on() && !app.draining.is_cancelled()
}

/// Whether a request says nothing of its connection but that it stays open, so that the next one may
/// come behind its answer.
fn is_plain(parts: &Parts) -> bool {
    const OF_CONNECTIONS: [HeaderName; 4] = [EXPECT, TE, TRANSFER_ENCODING, UPGRADE];
    let stays_open = |headers: &HeaderMap| {
        let mut said = headers.get_all(CONNECTION).iter();
        said.all(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
    };
    matches!(parts.version, Version::HTTP_11 | Version::HTTP_2)
        && matches!(parts.method, Method::GET | Method::POST)
        && !OF_CONNECTIONS.iter().any(|name| parts.headers.contains_key(name))
        && stays_open(&parts.headers)
}

/// Remembers a request that an entry in memory has answered, if it may be known again and its answer
/// is as plain as can be.
pub fn remember(app: &App, known_by: Option<KnownBy>, keyed: &Keyed, hit: &Hit) {
    let Some(known_by) = known_by else { return };
    let settings = &keyed.asked.settings;
    let is_plain = hit.tier == TierName::Memory
        && keyed.place == keyed.key
        && keyed.asked.directives == RequestDirectives::default()
        && Conditions::of(keyed).are_none()
        && settings.server.request_timeout.is_none()
        && all_is_plain(app);
    // What the short way would have to leave to the long one again and again is not worth its room.
    let is_answered_shortly = match known_by {
        KnownBy::Raw(_) => respond::can_be_written(&hit.entry),
        KnownBy::Head(_) => hit.entry.trailers.is_empty(),
    };
    if !is_plain || !is_answered_shortly {
        return;
    }
    let request = match known_by {
        KnownBy::Raw(raw) => raw,
        KnownBy::Head(head) => {
            app.repeats.remember_head(&head, settings.generation);
            with_body(&head, &keyed.body).into()
        }
    };
    app.repeats.remember(&request, |request| Repeat {
        request,
        settings: settings.generation,
        key: keyed.key,
        route: keyed.spec.route(),
        model: keyed.model().map(Into::into),
        credential: keyed.asked.credential(),
        refresh_ahead: keyed.policy.refresh_ahead,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spelled(method: &str, uri: &str, fields: &[(String, String)], body: &str) -> Vec<u8> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let head = spelled_out(&request.body(()).unwrap().into_parts().0);
        with_body(&head, body.as_bytes())
    }

    fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
        prop::collection::vec(("[ab]{1,2}", "[ab]{0,2}"), 0..3)
    }

    proptest! {
        #[test]
        fn no_two_requests_are_known_by_the_same(
            (one, other) in prop::array::uniform2(fields()).prop_map(|[a, b]| (a, b)),
            (target, another) in ("/[ab]{0,2}", "/[ab]{0,2}"),
            (body, different) in ("[ab]{0,2}", "[ab]{0,2}"),
        ) {
            let map = |fields: &[(String, String)]| {
                let mut map = HeaderMap::new();
                for (name, value) in fields {
                    map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
                }
                map
            };
            let are_same = spelled("GET", &target, &one, &body) == spelled("GET", &another, &other, &different);
            let are_equal = map(&one) == map(&other) && target == another && body == different;
            prop_assert!(!are_same || are_equal);
            prop_assert!(spelled("GET", &target, &one, &body) != spelled("POST", &target, &one, &body));
        }
    }
}
