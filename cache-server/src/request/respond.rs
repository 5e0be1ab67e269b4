//! Respond: every answer leaves through here. HTTP statuses of our own refusals and failures
//! are chosen here and in `problem` alone, and so is what `Cache-Status` (RFC 9211) says.

mod cache_status;
mod parts;
mod problem;
mod written;

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::header::{
    AGE, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, RETRY_AFTER, SET_COOKIE, TRAILER, VIA,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{Either, Empty};
use keyspec::Route;

use super::body::{AnswerBody, BoxError, PassingAnswer};
use super::coalesce::{AnswerReader, OnBoard};
use super::conditions::Conditions;
use super::hold::{Refusal, Why};
use super::key::{Cause, Keyed};
use super::line::{Facts, Line, Told, tell_hit};
use super::lookup::{self, Hit};
use super::rejection::{ListenerRejection, Rejection};
use super::traced::told;
use crate::app::App;
use crate::cache::entry::Entry;
use crate::cache::flight::{Failure, Next};
use crate::cache::freshness::range::Wanted;
use crate::cache::freshness::surrogate::WITHHELD;
use crate::cache::freshness::validate::not_modified_fields;
use crate::cache::freshness::vary;
use crate::cache::purge::Verdict;
use crate::cache::repeats::Repeat;
use crate::clock::Timestamp;
use crate::telemetry::trace::Step;
use crate::telemetry::{Outcome, STALE_IF_ERROR};
use crate::upstream::body::ReceivedBody;
use crate::upstream::cache_status::CACHE_STATUS;
use crate::upstream::head::{AnswerHead, Arrival, Settled};
use crate::upstream::{UpstreamError, fields};
use cache_status::CacheStatus;
pub use problem::problem_document;
use problem::{Problem, upstream_problem};
pub use written::Written;

/// Answers with a fresh entry.
pub fn hit(app: &App, keyed: &Keyed, hit: &Hit) -> Response<AnswerBody> {
    hit_told(app, Told::of(keyed), Conditions::of(keyed), hit)
}

/// Answers a request that came before with a fresh entry.
#[must_use]
pub fn hit_again(app: &App, repeat: &Repeat, hit: &Hit, received: Instant) -> Response<AnswerBody> {
    app.telemetry.repeat();
    hit_told(app, Told::again(repeat, received), Conditions::none(), hit)
}

fn hit_told(
    app: &App,
    told_of: Told<'_>,
    conditions: Conditions<'_>,
    hit: &Hit,
) -> Response<AnswerBody> {
    let now = app.clock.now();
    let age_s = hit.entry.age_s(now);
    app.telemetry.hit(told_of.route, hit.tier, age_s, hit.entry.negative);
    let response = from_entry(app, now, conditions, &hit.entry, &CacheStatus::hit(hit));
    tell_hit(app, told_of, hit, Outcome::Hit, hit.tier.name());
    told(app.traces.are_on(), response, Outcome::Hit, "", Some(hit.tier))
}

/// Whether the answer of an entry is as plain as what is written in the bytes of HTTP/1.1 at once.
#[must_use]
pub fn can_be_written(entry: &Entry) -> bool {
    let is_without_body = matches!(entry.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    !is_without_body && entry.trailers.is_empty() && !fields::is_event_stream(&entry.headers)
}

/// The same in the bytes of HTTP/1.1; or not, if the answer is not as plain as that.
#[must_use]
pub fn repeated(
    app: &App,
    repeat: &Repeat,
    hit: &Hit,
    received: Instant,
    now: Timestamp,
) -> Option<Written> {
    let entry = &hit.entry;
    if !can_be_written(entry) {
        return None;
    }
    let age_s = entry.age_s(now);
    let mut written = Written::new(entry.status, &entry.body);
    written.fields(&entry.headers, now);
    written.number(AGE.as_str(), age_s);
    written.field(CACHE_STATUS.as_str(), CacheStatus::hit(hit).as_bytes());
    written.field(VIA.as_str(), fields::OUR_VIA.as_bytes());
    written.body(&entry.body);
    app.telemetry.repeat();
    app.telemetry.hit(repeat.route, hit.tier, age_s, entry.negative);
    app.telemetry.saved(entry.usage, Duration::from_millis(u64::from(entry.upstream_time_ms)));
    app.telemetry.served_from_cache(entry.body.len() as u64);
    tell_hit(app, Told::again(repeat, received), hit, Outcome::Hit, hit.tier.name());
    Some(written)
}

/// Answers with a stale entry; the reason says why it may be.
pub fn stale(app: &App, keyed: &Keyed, hit: &Hit, reason: &'static str) -> Response<AnswerBody> {
    told_stale(app, keyed, hit, reason, &CacheStatus::hit(hit))
}

/// Answers with a stale entry because the upstream is not to be asked now, and says so.
pub fn stale_in_hold(
    app: &App,
    keyed: &Keyed,
    hit: &Hit,
    reason: &'static str,
) -> Response<AnswerBody> {
    told_stale(app, keyed, hit, reason, &CacheStatus::hit_because(hit, reason))
}

fn told_stale(
    app: &App,
    keyed: &Keyed,
    hit: &Hit,
    reason: &'static str,
    cache_status: &CacheStatus,
) -> Response<AnswerBody> {
    app.telemetry.request(Some(keyed.spec.route()), Outcome::Stale, reason);
    let response =
        from_entry(app, app.clock.now(), Conditions::of(keyed), &hit.entry, cache_status);
    tell_hit(app, Told::of(keyed), hit, Outcome::Stale, reason);
    told(app.traces.are_on(), response, Outcome::Stale, reason, Some(hit.tier))
}

/// Answers with a stored entry because the upstream failed (RFC 5861 section 4).
pub fn stale_on_error(
    app: &App,
    mut line: Line,
    conditions: Conditions<'_>,
    hit: &Hit,
    status: Option<StatusCode>,
) -> Response<AnswerBody> {
    let reason = STALE_IF_ERROR;
    line.answered(Outcome::Stale, reason, hit.entry.status);
    line.answered_by(hit);
    let mut cache_status = CacheStatus::forwarded("stale", status);
    cache_status.ttl(hit);
    cache_status.key(&hit.entry.key);
    cache_status.detail("stale-if-error");
    let response = from_entry(app, app.clock.now(), conditions, &hit.entry, &cache_status);
    told(app.traces.are_on(), response, Outcome::Stale, reason, Some(hit.tier))
}

/// Answers with an entry that the upstream has just confirmed, past any flight.
pub fn confirmed(
    app: &App,
    mut line: Line,
    conditions: Conditions<'_>,
    entry: &Arc<Entry>,
) -> Response<AnswerBody> {
    let now = app.clock.now();
    line.answered(Outcome::Bypass, "confirmed", entry.status);
    line.whole();
    let mut cache_status = CacheStatus::forwarded("stale", Some(StatusCode::NOT_MODIFIED));
    cache_status.key(&entry.key);
    let response = from_entry(app, now, conditions, entry, &cache_status);
    told(line.is_traced(), response, Outcome::Bypass, "confirmed", None)
}

/// Answers with what another server's fetch has stored.
fn found(
    app: &App,
    mut line: Line,
    route: Route,
    conditions: Conditions<'_>,
    hit: &Hit,
) -> Response<AnswerBody> {
    let now = app.clock.now();
    line.found(route, hit, hit.entry.age_s(now));
    let response = from_entry(app, now, conditions, &hit.entry, &CacheStatus::hit(hit));
    told(line.is_traced(), response, Outcome::Hit, "", Some(hit.tier))
}

fn from_entry(
    app: &App,
    now: Timestamp,
    conditions: Conditions<'_>,
    entry: &Entry,
    cache_status: &CacheStatus,
) -> Response<AnswerBody> {
    let saved = Duration::from_millis(u64::from(entry.upstream_time_ms));
    app.telemetry.saved(entry.usage, saved);
    let age = HeaderValue::from(entry.age_s(now));
    if conditions.are_met_by(entry.status, &entry.headers, now) {
        let mut headers = unmodified(&entry.headers);
        headers.insert(AGE, age);
        emit_of_entry(app, conditions, &mut headers, entry, now);
        return signed(StatusCode::NOT_MODIFIED, headers, cache_status, AnswerBody::none());
    }
    let body_bytes = entry.body.len() as u64;
    let wanted = conditions.wanted(entry.status, &entry.headers, body_bytes, now);
    app.telemetry.served_from_cache(parts::bytes(&wanted, body_bytes));
    let mut headers = HeaderMap::with_capacity(entry.headers.len() + 4);
    headers.extend(entry.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    headers.insert(AGE, age);
    emit_of_entry(app, conditions, &mut headers, entry, now);
    if wanted != Wanted::Whole {
        let (status, body) = parts::cut(&wanted, &entry.body, &mut headers);
        return signed(status, headers, cache_status, body);
    }
    let body = if fields::is_event_stream(&headers) {
        AnswerBody::events(entry.body.clone())
    } else {
        AnswerBody::whole(entry.body.clone())
    };
    let body = match entry.trailers.is_empty() {
        true => body,
        false => conditions.takes().behind(body, entry, &mut headers),
    };
    signed(entry.status, headers, cache_status, body)
}

fn emit_of_entry(
    app: &App,
    conditions: Conditions<'_>,
    headers: &mut HeaderMap,
    entry: &Entry,
    now: Timestamp,
) {
    if let Some(emitting) = conditions.emitting() {
        let is_fresh = now < entry.ends.fresh && app.purges.verdict_on(entry) == Verdict::Alive;
        emitting.of_entry(headers, entry, is_fresh, now);
    }
}

fn emit_of_head(
    conditions: Conditions<'_>,
    headers: &mut HeaderMap,
    head: &AnswerHead,
    now: Timestamp,
) {
    if let Some(emitting) = conditions.emitting() {
        emitting.of_head(headers, head, now);
    }
}

/// Answers the leader of a flight, who alone sees cookies, ids and rate limits.
pub async fn lead(
    app: &App,
    mut board: OnBoard,
    stale: Option<Hit>,
    line: Line,
) -> Response<AnswerBody> {
    match board.head().await {
        Ok(Arrival::Answer(head)) => lead_answer(app, board, stale.as_ref(), line, Ok(head)),
        Ok(Arrival::Stored(entry)) => {
            let hit = lookup::hit_elsewhere(app, entry);
            found(app, line, board.route, Conditions::kept(&board.conditional), &hit)
        }
        Err(failure) => lead_answer(app, board, stale.as_ref(), line, Err(failure)),
    }
}

fn lead_answer(
    app: &App,
    board: OnBoard,
    stale: Option<&Hit>,
    line: Line,
    landed: Result<Arc<AnswerHead>, Failure<UpstreamError>>,
) -> Response<AnswerBody> {
    let OnBoard { reader, key, forwarded, conditional, .. } = board;
    let conditions = Conditions::kept(&conditional);
    let (head, mut line) = match or_stale(app, line, landed, conditions, stale) {
        Ok(landed) => landed,
        Err(response) => return *response,
    };
    let (reason, is_traced) = (stored_reason(&head), line.is_traced());
    line.landed(Outcome::Miss, reason, &head);
    let mut cache_status = CacheStatus::forwarded(forwarded, Some(head.answered));
    cache_status.stored(&head);
    cache_status.key(&key);
    let (now, mut headers) = (app.clock.now(), head.all_fields.clone());
    headers.extend(head.settled.tag.get().map(|tag| (ETAG, tag.clone())));
    let is_met = head.may_be_stored() && conditions.are_met_by(head.status, &headers, now);
    emit_of_head(conditions, &mut headers, &head, now);
    if is_met {
        let response = not_modified(line, &headers, &cache_status);
        return told(is_traced, response, Outcome::Miss, reason, None);
    }
    conditions.takes().fit(&mut headers);
    let body = from_flight(reader, line, None);
    let response = signed(head.status, headers, &cache_status, body);
    told(is_traced, response, Outcome::Miss, reason, None)
}

/// Answers a follower, who gets what anyone may see; or gives its request back, to go its own way.
pub async fn follow(
    app: &App,
    mut board: OnBoard,
    stale: Option<Hit>,
    line: Line,
) -> Result<Response<AnswerBody>, Box<Keyed>> {
    let boarded = app.clock.instant();
    let landed = board.head().await;
    app.telemetry.flights.waited(boarded.elapsed());
    match landed {
        Ok(Arrival::Answer(head)) => follow_answer(app, board, stale.as_ref(), line, Ok(head)),
        Ok(Arrival::Stored(entry)) => follow_stored(app, board, line, entry),
        Err(failure) => follow_answer(app, board, stale.as_ref(), line, Err(failure)),
    }
}

fn follow_stored(
    app: &App,
    board: OnBoard,
    line: Line,
    entry: Arc<Entry>,
) -> Result<Response<AnswerBody>, Box<Keyed>> {
    let OnBoard { keyed, route, conditional, .. } = board;
    let hit = match keyed {
        None => lookup::hit_elsewhere(app, entry),
        Some(keyed) => match lookup::hit_of_follower(app, &keyed, entry) {
            Some(hit) => hit,
            None => {
                line.dismiss();
                return Err(keyed);
            }
        },
    };
    Ok(found(app, line, route, Conditions::kept(&conditional), &hit))
}

fn follow_answer(
    app: &App,
    board: OnBoard,
    stale: Option<&Hit>,
    line: Line,
    landed: Result<Arc<AnswerHead>, Failure<UpstreamError>>,
) -> Result<Response<AnswerBody>, Box<Keyed>> {
    let OnBoard { reader, key, keyed, forwarded, conditional, mut span, .. } = board;
    let conditions = Conditions::kept(&conditional);
    span.link(landed.as_ref().ok().and_then(|head| head.fetch_span.as_ref()));
    let (head, mut line) = match or_stale(app, line, landed, conditions, stale) {
        Ok(landed) => landed,
        Err(response) => return Ok(*response),
    };
    if let Some(keyed) = keyed
        && !is_for_follower(app, &keyed, &head)
    {
        line.dismiss();
        return Err(keyed);
    }
    line.landed(Outcome::Collapsed, "", &head);
    app.telemetry.coalesced();
    let mut cache_status = CacheStatus::forwarded(forwarded, Some(head.answered));
    cache_status.collapsed();
    cache_status.stored(&head);
    cache_status.key(&key);
    let is_traced = line.is_traced();
    let now = app.clock.now();
    let (length, age) = (head.content_length(), head.stored_age_s(now));
    let announcement = head.shared_announcement();
    let mut headers = head.shared_fields.clone();
    headers.extend(head.settled.tag.get().map(|tag| (ETAG, tag.clone())));
    // It was not asked for this request (RFC 9111 section 4).
    headers.extend(age.map(|age| (AGE, HeaderValue::from(age))));
    if is_failure(head.status) {
        // Whoever waited for it is to come back no earlier than its leader.
        let wait = head.all_fields.get(RETRY_AFTER);
        headers.extend(wait.map(|wait| (RETRY_AFTER, wait.clone())));
    }
    let is_met = conditions.are_met_by(head.status, &headers, now);
    emit_of_head(conditions, &mut headers, &head, now);
    if is_met {
        let response = not_modified(line, &headers, &cache_status);
        return Ok(told(is_traced, response, Outcome::Collapsed, "", None));
    }
    headers.extend(length.map(|length| (CONTENT_LENGTH, HeaderValue::from(length))));
    headers.extend(announcement.map(|names| (TRAILER, names)));
    conditions.takes().fit(&mut headers);
    let body = from_flight(reader, line, Some(Arc::clone(&head.settled)));
    let response = signed(head.status, headers, &cache_status, body);
    Ok(told(is_traced, response, Outcome::Collapsed, "", None))
}

/// Whether a follower may have what the leader's request was answered: it may be shared, nothing
/// of it was purged meanwhile, it is as fresh as the follower wants it, and its fields select the same variant.
fn is_for_follower(app: &App, keyed: &Keyed, head: &AnswerHead) -> bool {
    let is_alive = app.purges.verdict(&head.selectors, head.purge_sequence) == Verdict::Alive;
    let is_as_young_as_wanted =
        head.by_http.as_ref().and_then(|by_http| by_http.storing.ok()).is_none_or(|storing| {
            let (wants, now) = (&keyed.asked.directives, app.clock.now());
            // As the upstream tells it: how long it took to answer is what all who wait for it have waited.
            let age = Duration::from_secs(head.age_s().into());
            wants.max_age.is_none_or(|most| age <= most)
                && wants.min_fresh.is_none_or(|least| storing.ends.fresh.since(now) >= least)
        });
    let is_its_variant = head.by_http.as_ref().is_none_or(|by_http| {
        let normalised = &keyed.policy.vary_normalize;
        let fields = &keyed.asked.headers;
        vary::selecting(&by_http.varies_with, fields, normalised) == by_http.selecting
    });
    head.is_shareable() && is_alive && is_as_young_as_wanted && is_its_variant
}

/// Tells a caller that what it has is what it would be given. The flight goes on without it.
fn not_modified(
    mut line: Line,
    fields: &HeaderMap,
    cache_status: &CacheStatus,
) -> Response<AnswerBody> {
    line.whole();
    signed(StatusCode::NOT_MODIFIED, unmodified(fields), cache_status, AnswerBody::none())
}

/// The fields of a 304, with what caches nearer to the upstream say of the answer that it stands for
/// (RFC 9211 section 2), and the cookies of who asked for it.
fn unmodified(fields: &HeaderMap) -> HeaderMap {
    let mut headers = not_modified_fields(fields);
    for name in [CACHE_STATUS, SET_COOKIE] {
        headers.extend(fields.get_all(&name).iter().map(|line| (name.clone(), line.clone())));
    }
    headers
}

/// The head of a flight that landed; or, if it failed, the stale entry or the failure.
fn or_stale(
    app: &App,
    line: Line,
    landed: Result<Arc<AnswerHead>, Failure<UpstreamError>>,
    conditions: Conditions<'_>,
    stale: Option<&Hit>,
) -> Result<(Arc<AnswerHead>, Line), Box<Response<AnswerBody>>> {
    let stale = stale.filter(|hit| !lookup::is_dead(app, &hit.entry));
    match (landed, stale) {
        (Ok(head), Some(hit)) if is_failure(head.status) => {
            Err(Box::new(stale_on_error(app, line, conditions, hit, Some(head.status))))
        }
        (Ok(head), _) => Ok((head, line)),
        (Err(_), Some(hit)) => Err(Box::new(stale_on_error(app, line, conditions, hit, None))),
        (Err(Failure::Fill(error)), None) => Err(Box::new(upstream_failed(line, &error))),
        (Err(Failure::Abandoned | Failure::TooSlow), None) => {
            let problem = Problem {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                code: "fill-abandoned",
                detail: "the fetch of this answer was broken off inside the server".into(),
                retry_after_s: None,
            };
            Err(Box::new(told_problem(line, problem, Outcome::Failed)))
        }
    }
}

/// Whether a stored entry may be served instead of an answer of this status.
#[must_use]
pub fn is_failure(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

fn stored_reason(head: &AnswerHead) -> &'static str {
    match head.stored {
        Some(Ok(())) => "stored",
        Some(Err(reason)) => reason,
        None => "streamed",
    }
}

/// The rest of a flight as a body: one that fails cuts the caller's connection, and never ends
/// it cleanly. Whoever reads along has the trailers that are `shared`.
fn from_flight(reader: AnswerReader, line: Line, shared: Option<Arc<Settled>>) -> AnswerBody {
    let frames = stream::unfold(Some((reader, line, shared)), move |reading| async move {
        let (mut reader, mut line, shared) = reading?;
        match reader.next().await {
            Next::Chunk(chunk) => {
                line.sent(chunk.len() as u64);
                Some((Ok(Frame::data(chunk)), Some((reader, line, shared))))
            }
            Next::Done(trailers) => {
                line.whole();
                let trailers = match shared {
                    Some(settled) => settled.trailers.get().cloned(),
                    None => trailers.filter(|trailers| !trailers.is_empty()),
                }?;
                Some((Ok(Frame::trailers(trailers)), None))
            }
            Next::Failed(failure) => {
                // A reader that was too slow broke off by itself.
                if failure != Failure::TooSlow {
                    line.broken();
                }
                Some((Err(cut(failure)), None))
            }
        }
    });
    AnswerBody::Flight(Box::pin(frames))
}

fn cut(failure: Failure<UpstreamError>) -> BoxError {
    match failure {
        Failure::Fill(error) => error.into(),
        Failure::Abandoned => "the fetch was broken off".into(),
        Failure::TooSlow => "this reader was too slow".into(),
    }
}

/// Answers with what an upstream said to a request that went past the cache.
pub fn passed(
    mut line: Line,
    cause: &Cause,
    upstream: Response<ReceivedBody>,
    mut span: Step,
) -> Response<AnswerBody> {
    let (mut parts, body) = upstream.into_parts();
    let is_traced = line.is_traced();
    span.note_status(parts.status);
    line.answered(Outcome::Bypass, cause.code, parts.status);
    line.expect(body.size_hint().exact());
    fields::strip_hop_by_hop(&mut parts.headers);
    let mut cache_status = CacheStatus::forwarded(cause.forwarded, Some(parts.status));
    cache_status.detail(cause.code);
    let body = AnswerBody::Passing(Box::new(PassingAnswer::new(body, line, span)));
    let response = signed(parts.status, parts.headers, &cache_status, body);
    told(is_traced, response, Outcome::Bypass, cause.code, None)
}

/// Answers a PURGE: with the number of the order, or that it is in force and not durable.
pub fn purged(line: Line, ordered: io::Result<u64>) -> Response<AnswerBody> {
    match ordered {
        Ok(sequence) => {
            let mut line = line;
            line.answered(Outcome::Bypass, "purged", StatusCode::OK);
            line.whole();
            let body = serde_json::json!({ "sequence": sequence }).to_string();
            let json = HeaderValue::from_static("application/json");
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
            answer(StatusCode::OK, headers, AnswerBody::whole(Bytes::from(body)))
        }
        Err(error) => {
            let problem = Problem {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                code: "purge-not-durable",
                detail: format!("the purge is in force, but not on disk: {error}"),
                retry_after_s: None,
            };
            told_problem(line, problem, Outcome::Refused)
        }
    }
}

/// Answers that the upstream gave no answer.
pub fn upstream_failed(line: Line, error: &UpstreamError) -> Response<AnswerBody> {
    told_problem(line, upstream_problem(error), Outcome::Failed)
}

/// Answers that the upstream is not asked now, and when it will be.
pub fn held(app: &App, keyed: &Keyed, refusal: &Refusal) -> Response<AnswerBody> {
    let line = Line::begin(app, Facts::of(keyed), Outcome::Refused);
    let upstream = keyed.asked.upstream.name();
    let wait_ms = refusal.until.since(app.clock.now()).as_millis();
    // Never earlier than it helps to come back.
    let wait_s = u64::try_from(wait_ms.div_ceil(1000)).unwrap_or(u64::MAX).max(1);
    let (mut problem, outcome) = match &refusal.why {
        Why::CoolDown(status) => {
            let detail = format!("upstream {upstream} said {} a moment ago", status.as_u16());
            let problem =
                Problem { status: *status, code: "cool-down", detail, retry_after_s: None };
            (problem, Outcome::Refused)
        }
        Why::BackOff(error) => (upstream_problem(error), Outcome::Failed),
    };
    let _ = write!(problem.detail, "; it is asked again in {wait_s} s");
    problem.retry_after_s = Some(wait_s);
    told_problem(line, problem, outcome)
}

/// What a connection is told that has no place, instead of an answer to what it may ask.
#[must_use]
pub fn too_many_connections() -> Response<AnswerBody> {
    ListenerRejection::TooManyConnections.problem().into_response()
}

/// Refuses a request.
pub fn reject(line: Line, rejection: Rejection) -> Response<AnswerBody> {
    let ends_connection = rejection == Rejection::TransferCoding;
    let mut response = told_problem(line, rejection.problem(), Outcome::Refused);
    if ends_connection {
        // What comes next may have been meant as a part of this request.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A problem, with word of it for the request's line and span.
fn told_problem(mut line: Line, problem: Problem, outcome: Outcome) -> Response<AnswerBody> {
    let code = problem.code;
    line.answered(outcome, code, problem.status);
    line.whole();
    told(line.is_traced(), problem.into_response(), outcome, code, None)
}

/// What of an answer is told to a HEAD: its length and no body. Of HTTP/1.1 the server would see to
/// that, but in HTTP/2 a body breaks the stream (RFC 9113 section 8.1.1).
pub fn without_body<B: Body>(mut response: Response<B>) -> Response<Either<B, Empty<Bytes>>> {
    if response.body().is_end_stream() {
        return response.map(Either::Left);
    }
    if let Some(bytes) = response.body().size_hint().exact() {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from(bytes));
    }
    response.map(|_| Either::Right(Empty::new()))
}

/// An answer of an upstream, new or stored, that says how it came by here, without what the
/// upstream said to surrogates.
fn signed(
    status: StatusCode,
    mut headers: HeaderMap,
    cache_status: &CacheStatus,
    body: AnswerBody,
) -> Response<AnswerBody> {
    headers.remove(WITHHELD);
    cache_status.append_to(&mut headers);
    fields::add_via(&mut headers);
    answer(status, headers, body)
}

fn answer(status: StatusCode, mut headers: HeaderMap, body: AnswerBody) -> Response<AnswerBody> {
    // Upstreams say 0, and may not (RFC 9110 section 8.6).
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
