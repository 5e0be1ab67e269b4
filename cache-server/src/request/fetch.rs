//! Fetch: asks the upstream for the cache, detached from every caller.

use std::sync::Arc;
use std::time::Duration;

use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;

use super::claim::{self, Turn};
use super::key::Keyed;
use super::landing::{AnswerWriter, Landing, Stopped};
use super::order::{For, Order, may_be_left, prepare};
use super::respond::is_failure;
use super::{hold, store, suspend};
use crate::app::App;
use crate::cache::entry::Entry;
use crate::cache::freshness::date::date_if_none;
use crate::cache::freshness::store::says_what_there_is;
use crate::cache::freshness::surrogate;
use crate::cache::freshness::update::not_modified_confirms;
use crate::telemetry::trace::Step;
use crate::upstream::body::{ReceivedBody, RequestBody};
use crate::upstream::head::{AnswerHead, Arrival};
use crate::upstream::{UpstreamError, fields};

/// What a 304 is that nobody asked for, or that is about another answer.
#[must_use]
pub fn not_modified_of_what(upstream: &str) -> UpstreamError {
    let why = "it said 304 of what is not stored".into();
    UpstreamError::Broken { upstream: upstream.into(), why }
}

/// How a fill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// The upstream gave a whole answer.
    Fetched,
    /// It failed, or answered by an error, or nobody was left to have it.
    Failed,
    /// It was not asked: another server was.
    Shared,
}

/// Fills a flight: the whole life of one fetch for the cache. Detached from every caller.
pub async fn fill(
    app: Arc<App>,
    mut keyed: Box<Keyed>,
    mut writer: AnswerWriter,
    for_whom: For,
) -> Filled {
    hold::wait_out(&app, &keyed.place).await;
    let may_be_left = may_be_left(&keyed.policy, for_whom);
    let turn = tokio::select! {
        turn = claim::take(&app, &mut keyed) => Some(turn),
        () = writer.left_by_all(), if may_be_left => None,
    };
    let (stored, filled) = match turn {
        Some(Turn::Fetch(fence)) => {
            let sequence = writer.sequence();
            let prepared = prepare(&app, keyed, for_whom, sequence, fence);
            return from_upstream(app, prepared, writer).await;
        }
        Some(Turn::Stored(entry)) => (Some(entry), Filled::Shared),
        None => (None, Filled::Failed),
    };
    app.telemetry.flights.ended(writer.joined().saturating_sub(1));
    if let Some(entry) = stored {
        writer.set_head(Arrival::Stored(entry), false);
        writer.finish(None);
    }
    filled
}

async fn from_upstream(
    app: Arc<App>,
    (order, request, mut span): (Order, http::Request<RequestBody>, Step),
    mut writer: AnswerWriter,
) -> Filled {
    let fill_timeout = order.fills.fill_timeout;
    let due = tokio::time::Instant::now() + fill_timeout;
    let ended = run(&app, &order, request, &mut writer, &mut span, due).await;
    app.telemetry.flights.ended(writer.joined().saturating_sub(1));
    match ended {
        Ok(Landed { trailers, is_failure }) => {
            order.upstream.record_end(order.asked.elapsed());
            writer.finish(trailers);
            let (route, upstream) = (order.spec.name(), order.upstream.name());
            app.fill_times.note(route, upstream, order.asked.elapsed());
            return if is_failure { Filled::Failed } else { Filled::Fetched };
        }
        Err(Stopped::Failed(error)) => {
            tracing::warn!(route = order.spec.name(), %error, "a fill failed");
            span.fail(error.kind());
            give_up(&app, &order, writer, error);
        }
        // Nobody is left to be told.
        Err(Stopped::NobodyListens) => {
            span.fail("nobody-listens");
            if order.for_whom == For::Later {
                hold::note_fruitless(&app, &order);
            } else if order.may_be_left && writer.is_recording() {
                order.fence.lease.iter().for_each(|lease| lease.abandoned());
            }
            drop(writer);
        }
        Err(Stopped::Overdue) => {
            span.fail("fill-timeout");
            let within = humantime::format_duration(fill_timeout);
            let why = format!("no end within cache.fill_timeout = {within}");
            let upstream = order.upstream.name().into();
            give_up(&app, &order, writer, UpstreamError::TimedOut { upstream, why });
        }
    }
    Filled::Failed
}

/// Ends a flight as failed. The failure is noted first: who learns of it and asks again finds it.
fn give_up(app: &App, order: &Order, writer: AnswerWriter, error: UpstreamError) {
    hold::note_broken(app, order, &error);
    order.fence.lease.iter().for_each(|lease| lease.unshared());
    writer.fail(error);
}

/// A fill that came to its end.
struct Landed {
    trailers: Option<HeaderMap>,
    /// The upstream answered by an error.
    is_failure: bool,
}

async fn run(
    app: &App,
    order: &Order,
    request: http::Request<RequestBody>,
    writer: &mut AnswerWriter,
    span: &mut Step,
    due: tokio::time::Instant,
) -> Result<Landed, Stopped> {
    let asked = tokio::select! {
        asked = tokio::time::timeout_at(due, ask(app, order, request, span)) => asked,
        () = writer.left_by_all(), if order.may_be_left => return Err(Stopped::NobodyListens),
    };
    let (answer, confirmed) = asked.map_err(|_elapsed| Stopped::Overdue)??;
    let (mut parts, body) = answer.into_parts();
    surrogate::take_in(&mut parts.headers, order.policy.surrogate_control);
    if order.spec.is_generic() {
        date_if_none(&mut parts.headers, app.clock.now());
    }
    let cookies = confirmed.map(|_| cookies_of(&parts.headers));
    let mut head = match confirmed {
        Some(entry) => AnswerHead::confirmed(entry, parts),
        None => AnswerHead::of(parts),
    };
    store::weigh(app, order, &mut head);
    // What is stored has none, and is confirmed as it is: they are for who asked.
    head.all_fields.extend(cookies.into_iter().flatten());
    store::drop_refuted(app, order, &head);
    note_unshared(app, order, &head);
    head.fetch_span = span.context();
    let (is_for_all, status) = (head.may_be_stored(), head.answered);
    if let Some(lease) = &order.fence.lease {
        if is_for_all { lease.landed() } else { lease.unshared() }
    }
    let mut landing = Landing::new(head, writer, order.may_be_left);
    let landed = async {
        let trailers = match confirmed {
            Some(entry) => landing.take_stored(entry).await?,
            None => take_in(app, order, &mut landing, body).await?,
        };
        span.end();
        let stored = landing.settle(|head, body| {
            let stored = store::store(app, order, head, body);
            hold::note_whole(app, order, status, stored.err());
            stored
        });
        Ok((trailers, stored.await?))
    };
    let (trailers, stored) = if is_for_all {
        let landed = tokio::time::timeout_at(due, landed).await;
        landed.map_err(|_elapsed| Stopped::Overdue)??
    } else {
        landed.await?
    };
    if let Ok(usage) = stored {
        let followers = writer.joined().saturating_sub(1);
        app.telemetry.saved(usage.times(followers), Duration::ZERO);
    }
    Ok(Landed { trailers, is_failure: is_failure(status) })
}

fn cookies_of(fields: &HeaderMap) -> HeaderMap {
    fields.get_all(SET_COOKIE).iter().map(|cookie| (SET_COOKIE, cookie.clone())).collect()
}

/// Takes a body in. What nobody reads on and is too large to be kept is another answer than the one
/// before all the same.
async fn take_in(
    app: &App,
    order: &Order,
    landing: &mut Landing<'_>,
    body: ReceivedBody,
) -> Result<Option<HeaderMap>, Stopped> {
    let taken = landing.take_in(order, body).await;
    if matches!(taken, Err(Stopped::NobodyListens)) && landing.is_too_large() {
        store::drop_unkept(app, order, landing.head(), store::TOO_LARGE);
    }
    taken
}

/// Asks the upstream. Gives its answer, and the stored one if that is confirmed. What says 304 of
/// something else than what is stored is no answer (RFC 9111 section 4.3.4): a question without a
/// body is put once more, without conditions, or the entry would be in its own way for as long as
/// it is kept.
async fn ask<'o>(
    app: &App,
    order: &'o Order,
    request: http::Request<RequestBody>,
    span: &mut Step,
) -> Result<(http::Response<ReceivedBody>, Option<&'o Arc<Entry>>), Stopped> {
    let is_again = order.validates.is_some() && request.body().size_hint().exact() == Some(0);
    let again = is_again.then(|| (request.method().clone(), request.headers().clone()));
    let answer = send(app, order, request, span).await?;
    if !order.spec.is_generic() || answer.status() != StatusCode::NOT_MODIFIED {
        return Ok((answer, None));
    }
    let confirms = |entry: &&Arc<Entry>| not_modified_confirms(&entry.headers, answer.headers());
    if let Some(entry) = order.validates.as_ref().filter(confirms) {
        return Ok((answer, Some(entry)));
    }
    if let Some((method, mut headers)) = again {
        fields::replace_conditions(&mut headers, None);
        let mut request = http::Request::new(RequestBody::empty());
        (*request.method_mut(), *request.headers_mut()) = (method, headers);
        let answer = send(app, order, request, span).await?;
        if answer.status() != StatusCode::NOT_MODIFIED {
            return Ok((answer, None));
        }
    }
    Err(Stopped::Failed(not_modified_of_what(order.upstream.name())))
}

async fn send(
    app: &App,
    order: &Order,
    request: http::Request<RequestBody>,
    span: &mut Step,
) -> Result<http::Response<ReceivedBody>, Stopped> {
    let (parts, body) = request.into_parts();
    let answer = order.upstream.send(parts.method, &order.target, parts.headers, body).await;
    let answer = answer.map_err(Stopped::Failed)?;
    let by_http = order.spec.model_route().is_none();
    suspend::note(app, order.credential.as_ref(), answer.status(), by_http);
    let limited = || order.limited.clone();
    hold::note_answer(app, limited, &order.fills, answer.status(), answer.headers());
    span.note_status(answer.status());
    Ok(answer)
}

/// Remembers whether there is any use in waiting for such an answer. A failure says nothing of that,
/// nor does the refusal of one caller's credential.
fn note_unshared(app: &App, order: &Order, head: &AnswerHead) {
    if head.is_shareable() {
        app.unshared.forget(&order.place);
    } else if says_what_there_is(head.status) && !head.is_refused_to_one() {
        app.unshared.note(order.place, app.clock.now(), order.fills.hit_for_miss_for);
    }
}
