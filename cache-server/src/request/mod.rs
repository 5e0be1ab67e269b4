//! The path of a request, one line a step; each step is a file with that name.
//!
//! ```text
//! identify → key → lookup ─ fresh ─────────────────────────→ respond
//!                    │─ stale, usable ─→ respond, refresh behind it
//!                    └─ absent → hold → coalesce ─ follower ─→ read along → respond
//!                                         └ leader → claim → fetch → store → (all readers) respond
//! ```

pub mod authority;
pub mod body;
pub mod claim;
pub mod coalesce;
pub mod conditions;
pub mod confirm;
pub mod deadline;
pub mod emit;
pub mod fetch;
pub mod hold;
pub mod identify;
pub mod invalidate;
pub mod key;
pub mod landing;
pub mod line;
pub mod lookup;
pub mod order;
pub mod part;
pub mod pass;
pub mod purge;
pub mod query;
pub mod refresh;
pub mod rejection;
pub mod repeat;
pub mod respond;
pub mod shared;
pub mod store;
pub mod suspend;
pub mod traced;
pub mod trailers;
pub mod tunnel;

use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use keyspec::Route;

use crate::app::App;
use crate::telemetry::trace::RequestTrace;
use crate::telemetry::{Outcome, RefreshedAs};
use crate::upstream::framing;
use body::AnswerBody;
use coalesce::Place;
use deadline::Deadline;
use key::{Body, Cause, Keyed, Reading};
use line::{Facts, Line};
use lookup::{Found, Hit};
use rejection::Rejection;
use repeat::{KnownBy, Recognised};

/// Answers one request of the data listener. One that came before, byte for byte, may have been
/// answered without it ([`repeat`]).
pub async fn serve(
    app: &Arc<App>,
    request: Request<Incoming>,
    deadline: Deadline,
) -> Response<AnswerBody> {
    match app.traces.begin(&request) {
        None => answer(app, request, RequestTrace::off(), deadline).await,
        Some(trace) => Box::pin(traced::answer(app, request, trace, deadline)).await,
    }
}

async fn answer(
    app: &Arc<App>,
    request: Request<Incoming>,
    trace: RequestTrace,
    deadline: Deadline,
) -> Response<AnswerBody> {
    let received = app.clock.instant();
    let refused = |route| refused(app, received, route);
    if framing::check_coding(request.headers()).is_err() {
        return respond::reject(refused(None), Rejection::TransferCoding);
    }
    let (request, known_by) = match repeat::recognise(app, request, received).await {
        Ok(Recognised::Answered(response)) => return response,
        Ok(Recognised::New { request, known_by }) => (request, known_by),
        Err(rejection) => return respond::reject(refused(None), rejection),
    };
    // Boxed, so that a repeat does not carry the room that this needs: HTTP/2 moves what a stream's
    // answer needs several times before it begins.
    let by_cache = answer_by_cache(app, request, known_by, trace, received, deadline);
    let answered = Box::pin(by_cache).await;
    match answered {
        Ok(response) => response,
        // What waits for an upstream holds no room but that for waiting: there may be thousands.
        Err(Uncached { keyed, stale }) => Box::pin(ask_upstream(app, keyed, stale)).await,
    }
}

/// A request that the cache has no answer to.
struct Uncached {
    keyed: Box<Keyed>,
    /// What answers it if the upstream fails.
    stale: Option<Hit>,
}

/// The long way, up to where the upstream is to be asked for what can be stored.
async fn answer_by_cache(
    app: &Arc<App>,
    request: Request<Body>,
    known_by: Option<KnownBy>,
    trace: RequestTrace,
    received: Instant,
    deadline: Deadline,
) -> Result<Response<AnswerBody>, Uncached> {
    let refused = |route| refused(app, received, route);
    let asked = match identify::identify(app, request, trace, received, deadline) {
        Ok(asked) => asked,
        Err(rejection) => return Ok(respond::reject(refused(None), rejection)),
    };
    if asked.tunnel.is_some() {
        return Ok(Box::pin(tunnel::open(app, asked)).await);
    }
    if asked.may_purge {
        return Ok(Box::pin(purge::serve(app, &asked)).await);
    }
    let route = asked.route();
    let keyed = match key::read(app, asked).await {
        Ok(Reading::Keyed(keyed)) => keyed,
        Ok(Reading::Unkeyed(unkeyed)) => return Ok(Box::pin(pass::through(app, *unkeyed)).await),
        Err(rejection) => return Ok(respond::reject(refused(route), rejection)),
    };
    if let Some(since) = suspend::since(app, &keyed) {
        return Ok(Box::pin(suspend::serve(app, *keyed, since)).await);
    }
    let mut keyed = keyed;
    let stale = match lookup::lookup(app, &mut keyed).await {
        Found::Fresh(hit) => {
            repeat::remember(app, known_by, &keyed, &hit);
            return Ok(respond::hit(app, &keyed, &hit));
        }
        Found::DueSoon(hit) => {
            let response = respond::hit(app, &keyed, &hit);
            refresh::behind(app, keyed.validating(&hit), RefreshedAs::Ahead);
            return Ok(response);
        }
        Found::InsteadOfUpstream(hit) => {
            return Ok(respond::stale(app, &keyed, &hit, "override-stale-only"));
        }
        Found::Accepted(hit) => return Ok(respond::stale(app, &keyed, &hit, "max-stale")),
        Found::Usable(hit) => {
            let response = match hold::of(app, &keyed) {
                Some(hold) => respond::stale_in_hold(app, &keyed, &hit, hold.reason),
                None => respond::stale(app, &keyed, &hit, "while-revalidate"),
            };
            refresh::behind(app, keyed.validating(&hit), RefreshedAs::Stale);
            return Ok(response);
        }
        Found::Validate { hit, if_error } => {
            keyed.validates = Some(Arc::clone(&hit.entry));
            if_error.then_some(hit)
        }
        Found::Absent => None,
    };
    Err(Uncached { keyed, stale })
}

/// The line of a request that is refused before it has a key.
fn refused(app: &App, received: Instant, route: Option<Route>) -> Line {
    let facts = Facts { received, route, model: None, deadline: Deadline::default() };
    Line::begin(app, facts, Outcome::Refused)
}

/// What is not in the cache comes from the upstream, if that may be asked. Whoever goes another way
/// than the flight takes the room for it then.
async fn ask_upstream(
    app: &Arc<App>,
    keyed: Box<Keyed>,
    stale: Option<Hit>,
) -> Response<AnswerBody> {
    if keyed.asked.directives.only_if_cached {
        let line = Line::begin(app, Facts::of(&keyed), Outcome::Refused);
        return respond::reject(line, Rejection::OnlyIfCached);
    }
    // What a HEAD is told says nothing of the body that a GET would be given.
    if keyed.asked.method == Method::HEAD {
        let cause = Cause::HEAD.forwarded(lookup::why_forwarded(app, &keyed));
        return Box::pin(pass::through(app, keyed.unkeyed(cause))).await;
    }
    if let Some(hold) = hold::of(app, &keyed) {
        if let Some(hit) = stale {
            return respond::stale_in_hold(app, &keyed, &hit, hold.reason);
        }
        if let Some(refusal) = hold.refusal {
            return respond::held(app, &keyed, &refusal);
        }
    }
    if conditions::is_for_parts(&keyed) {
        let forwarded = lookup::why_forwarded(app, &keyed);
        let cause = Cause::RANGE.forwarded(forwarded);
        return Box::pin(part::ask(app, *keyed, cause, stale)).await;
    }
    fetch_together(app, keyed, stale).await
}

/// What is fetched is fetched once for all who ask.
async fn fetch_together(
    app: &Arc<App>,
    keyed: Box<Keyed>,
    stale: Option<Hit>,
) -> Response<AnswerBody> {
    let facts = Facts::of(&keyed);
    match coalesce::join(app, keyed) {
        Place::Leader(reading) => {
            let line = Line::begin(app, facts, Outcome::Miss);
            respond::lead(app, reading, stale, line).await
        }
        Place::Follower(reading) => {
            let line = Line::begin(app, facts, Outcome::Collapsed);
            match respond::follow(app, reading, stale, line).await {
                Ok(response) => response,
                Err(keyed) => Box::pin(go_alone(app, *keyed)).await,
            }
        }
        Place::Found(keyed, hit) => respond::hit(app, &keyed, &hit),
        Place::Alone(unkeyed) => Box::pin(pass::through(app, *unkeyed)).await,
    }
}

/// Whoever waited for what is not for it asks for itself; not so if the upstream has just said when
/// to come back.
async fn go_alone(app: &Arc<App>, keyed: Keyed) -> Response<AnswerBody> {
    if let Some(refusal) = hold::of(app, &keyed).and_then(|hold| hold.refusal) {
        return respond::held(app, &keyed, &refusal);
    }
    let cause = Cause::NOT_SHAREABLE.forwarded(lookup::why_forwarded(app, &keyed));
    pass::through(app, keyed.unkeyed(cause)).await
}
