//! Fetch: asks the upstream for the cache, detached from every caller.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;

use super::body::PassingBody;
use super::key::Keyed;
use super::respond::is_failure;
use super::store::{self, Order};
use super::{hold, suspend};
use crate::app::App;
use crate::cache::entry::{Entry, Usage};
use crate::cache::flight::Writer;
use crate::cache::freshness::date::date_if_none;
use crate::cache::freshness::store::says_what_there_is;
use crate::cache::freshness::update::not_modified_confirms;
use crate::cache::freshness::vary;
use crate::config::policy::WhenNobodyReads;
use crate::telemetry::trace::Step;
use crate::upstream::head::AnswerHead;
use crate::upstream::{UpstreamError, fields};

/// How long the head of an answer that is no stream is held back for its body, so that the head
/// can say whether it was stored.
const HEAD_HELD_MAX: Duration = Duration::from_millis(250);

/// What is wrong with a 304 that nobody asked for, or that is about another answer.
const NOT_MODIFIED_OF_WHAT: &str = "it said 304 of what is not stored";

/// A piece of an upstream's answer.
type Received = Result<Frame<Bytes>, reqwest::Error>;

/// The writing end of this server's flights.
type AnswerWriter = Writer<AnswerHead, UpstreamError>;

/// Whom a fill is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Callers who wait for it. Once all have left, it may be broken off.
    Callers,
    /// Those who will ask: nobody waits.
    Later,
}

/// Fills a flight: the whole life of one fetch for the cache. Detached from every caller. Says
/// whether it brought a whole answer that is no failure of the upstream.
pub async fn fill(app: Arc<App>, keyed: Keyed, mut writer: AnswerWriter, for_whom: For) -> bool {
    hold::wait_out(&app, &keyed.place).await;
    let fill_timeout = keyed.asked.settings.fills.fill_timeout;
    let (order, request, mut span) = prepare(&app, keyed, for_whom, writer.sequence());
    let due = tokio::time::Instant::now() + fill_timeout;
    let ended = run(&app, &order, request, &mut writer, &mut span, due).await;
    app.telemetry.flights.ended(writer.joined().saturating_sub(1));
    match ended {
        Ok(Landed { trailers, is_failure }) => {
            order.upstream.record_end(order.asked.elapsed());
            writer.finish(trailers);
            return !is_failure;
        }
        Err(Stopped::Failed(error)) => {
            tracing::warn!(route = order.spec.name(), %error, "a fill failed");
            span.fail(error.kind());
            give_up(&app, &order, writer, error);
        }
        // Nobody is left to be told.
        Err(Stopped::NobodyListens) => {
            span.fail("nobody-listens");
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
    false
}

/// Ends a flight as failed. The failure is noted first: who learns of it and asks again finds it.
fn give_up(app: &App, order: &Order, writer: AnswerWriter, error: UpstreamError) {
    hold::note_end(app, order.place, &order.fills, Err(&error));
    writer.fail(error);
}

/// A fill that came to its end.
struct Landed {
    trailers: Option<HeaderMap>,
    /// The upstream answered by an error.
    is_failure: bool,
}

/// Why a fill ended early.
enum Stopped {
    Failed(UpstreamError),
    NobodyListens,
    /// What others may have must end in time. What is for one caller lasts as long as it is read.
    Overdue,
}

fn prepare(
    app: &App,
    mut keyed: Keyed,
    for_whom: For,
    purge_sequence: u64,
) -> (Order, http::Request<reqwest::Body>, Step) {
    let (credential, limited) = (keyed.asked.credential(), keyed.asked.limited());
    let asked_selectors = store::selectors_of_request(&keyed);
    let mut headers = std::mem::take(&mut keyed.asked.headers);
    let fields = headers.clone();
    if keyed.is_shared {
        let (keyed_headers, by_http) = (keyed.spec.keyed_headers(), keyed.spec.is_generic());
        fields::keep_what_all_callers_share(&mut headers, keyed_headers, by_http);
    }
    fields::prepare_request(&mut headers);
    let span = keyed.asked.trace.fetch(&keyed.asked.call(), &mut headers);
    let asked_model = keyed.model().map(Into::into);
    let (body, reservation, effects) = (keyed.body, keyed.reservation, keyed.effects);
    let Keyed { asked, spec, key, place, validates, meaning, policy, is_shared, .. } = keyed;
    if spec.is_generic() {
        fields::replace_conditions(&mut headers, validates.as_deref());
        if policy.vary_normalize.contains(&ACCEPT_ENCODING) {
            // What compares alike must be asked alike.
            headers.remove(ACCEPT_ENCODING);
            headers.extend(vary::accept_encoding(&fields).map(|taken| (ACCEPT_ENCODING, taken)));
        }
    } else {
        // One stored form for everybody, and one that can be checked for completeness.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let tenant = store::tenant_label(&asked, is_shared);
    let body = PassingBody::buffered(body, reservation);
    let mut request = http::Request::new(reqwest::Body::wrap(body));
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
        may_be_left: for_whom == For::Callers
            && policy.when_nobody_reads == WhenNobodyReads::Cancel,
        policy,
        effects,
        names_token_limit: meaning.names_token_limit,
        tool: meaning.tool.clone(),
        asked_model,
        asked_selectors,
        directives: asked.directives,
        has_authorization: store::has_authorization(&fields, is_shared),
        fields,
        validates,
        purge_sequence,
        began: app.clock.now(),
        upstream: asked.upstream,
        target: asked.target,
        asked: app.clock.instant(),
        trace: asked.trace,
    };
    (order, request, span)
}

async fn run(
    app: &App,
    order: &Order,
    request: http::Request<reqwest::Body>,
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
    if order.spec.is_generic() {
        date_if_none(&mut parts.headers, app.clock.now());
    }
    let mut head = match confirmed {
        Some(entry) => AnswerHead::confirmed(entry, parts),
        None => AnswerHead::of(parts),
    };
    store::weigh(app, order, &mut head);
    store::drop_refuted(app, order, &head);
    note_unshared(app, order, &head);
    head.fetch_span = span.context();
    let (is_for_all, status) = (head.may_be_stored(), head.answered);
    let mut landing = Landing::new(head, writer, order.may_be_left);
    let landed = async {
        let trailers = match confirmed {
            Some(entry) => landing.pass_on(entry.body.clone()).await.map(|()| None)?,
            None => landing.take_in(order, body).await?,
        };
        hold::note_end(app, order.place, &order.fills, Ok(status));
        span.end();
        let stored = landing.settle(|head, body| store::store(app, order, head, body)).await?;
        Ok((trailers, stored))
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

/// Asks the upstream. Gives its answer, and the stored one if that is confirmed. What says 304 of
/// something else than what is stored is no answer (RFC 9111 section 4.3.4): a question without a
/// body is put once more, without conditions, or the entry would be in its own way for as long as
/// it is kept.
async fn ask<'o>(
    app: &App,
    order: &'o Order,
    request: http::Request<reqwest::Body>,
    span: &mut Step,
) -> Result<(http::Response<reqwest::Body>, Option<&'o Arc<Entry>>), Stopped> {
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
        let mut request = http::Request::new(reqwest::Body::default());
        (*request.method_mut(), *request.headers_mut()) = (method, headers);
        let answer = send(app, order, request, span).await?;
        if answer.status() != StatusCode::NOT_MODIFIED {
            return Ok((answer, None));
        }
    }
    let (upstream, why) = (order.upstream.name().into(), NOT_MODIFIED_OF_WHAT.into());
    Err(Stopped::Failed(UpstreamError::Broken { upstream, why }))
}

async fn send(
    app: &App,
    order: &Order,
    request: http::Request<reqwest::Body>,
    span: &mut Step,
) -> Result<http::Response<reqwest::Body>, Stopped> {
    let (parts, body) = request.into_parts();
    let answer = order.upstream.send(parts.method, &order.target, parts.headers, body).await;
    let answer = answer.map_err(Stopped::Failed)?;
    suspend::note(app, order.credential.as_ref(), answer.status());
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
    } else if says_what_there_is(head.status) {
        app.unshared.note(order.place, app.clock.now(), order.fills.hit_for_miss_for);
    }
}

/// Takes an answer in and passes it on. Two things wait for the verdict on storing, so that
/// whoever has seen the end of an answer finds it in the cache: the end itself, and of an answer
/// whose length is known its last chunk. The head of one that is no stream waits with them, for
/// a short while, to tell whether it was stored.
struct Landing<'w> {
    head: AnswerHead,
    writer: &'w mut AnswerWriter,
    /// Whether it ends once nobody reads along, though it is recorded.
    may_be_left: bool,
    head_is_out: bool,
    head_due: tokio::time::Instant,
    received: u64,
    last_chunk: Option<Bytes>,
}

impl<'w> Landing<'w> {
    fn new(head: AnswerHead, writer: &'w mut AnswerWriter, may_be_left: bool) -> Landing<'w> {
        let mut landing = Landing {
            head_due: tokio::time::Instant::now() + HEAD_HELD_MAX,
            head_is_out: false,
            received: 0,
            last_chunk: None,
            head,
            writer,
            may_be_left,
        };
        // Nobody will read it again.
        if !landing.head.may_be_stored() {
            landing.writer.stop_recording();
        }
        if landing.head.is_event_stream() || !landing.head.may_be_stored() {
            landing.let_head_out();
        }
        landing
    }

    fn let_head_out(&mut self) {
        if !self.head_is_out {
            self.head_is_out = true;
            self.writer.set_head(self.head.clone(), self.head.is_shareable());
        }
    }

    /// Reads the body to its end; gives its trailers.
    async fn take_in(
        &mut self,
        order: &Order,
        mut body: reqwest::Body,
    ) -> Result<Option<HeaderMap>, Stopped> {
        let mut trailers = None;
        loop {
            let Some(frame) = self.frame(&mut body).await? else { return Ok(trailers) };
            let frame = frame.map_err(|error| Stopped::Failed(order.upstream.error(&error)))?;
            match frame.into_data() {
                Ok(chunk) => self.pass_on(chunk).await?,
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    trailers.iter_mut().for_each(fields::strip_hop_by_hop);
                }
            }
        }
    }

    /// What comes next of the body, if it has not ended.
    async fn frame(&mut self, body: &mut reqwest::Body) -> Result<Option<Received>, Stopped> {
        let is_left_alone = self.may_be_left || !self.writer.is_recording();
        loop {
            let head_due = async {
                if self.head_is_out {
                    std::future::pending::<()>().await;
                } else {
                    tokio::time::sleep_until(self.head_due).await;
                }
            };
            tokio::select! {
                biased;
                frame = body.frame() => return Ok(frame),
                () = self.writer.left_by_all(), if is_left_alone => {
                    return Err(Stopped::NobodyListens);
                }
                () = head_due => {}
            }
            self.let_head_out();
        }
    }

    async fn pass_on(&mut self, chunk: Bytes) -> Result<(), Stopped> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.received += chunk.len() as u64;
        if self.head.content_length() == Some(self.received) {
            self.last_chunk = Some(chunk);
            return Ok(());
        }
        self.publish(chunk).await
    }

    async fn publish(&mut self, chunk: Bytes) -> Result<(), Stopped> {
        if self.writer.record(&chunk) {
            return Ok(());
        }
        // Its readers must be on their way before they can make room.
        self.let_head_out();
        self.writer.pass(chunk).await.map_err(|_| Stopped::NobodyListens)
    }

    /// Has the answer stored, or not, and lets out what waited for that.
    async fn settle(
        mut self,
        store: impl FnOnce(&AnswerHead, Result<Bytes, &'static str>) -> Result<Usage, &'static str>,
    ) -> Result<Result<Usage, &'static str>, Stopped> {
        let body = self.body();
        let stored = store(&self.head, body);
        self.head.stored = Some(stored.map(|_| ()));
        // Before anyone can have seen its end: who asks after that asks anew, or finds it stored.
        self.writer.close_to_joiners();
        self.let_head_out();
        if let Some(chunk) = self.last_chunk.take() {
            self.publish(chunk).await?;
        }
        Ok(stored)
    }

    /// The body as it is to be stored, or why there is none.
    fn body(&self) -> Result<Bytes, &'static str> {
        let Some(recorded) = self.writer.recorded() else {
            let too_large = self.received > self.writer.recorded_bytes_max() as u64;
            return Err(if too_large { "too-large" } else { "buffers-full" });
        };
        // A fetch that began after this one has its place, and knows better.
        if self.head.is_shareable() && !self.writer.is_current() {
            return Err("superseded");
        }
        // One buffer of its exact size: slices would keep network buffers alive.
        let chunks = || recorded.iter().chain(&self.last_chunk);
        let mut body = BytesMut::with_capacity(chunks().map(Bytes::len).sum());
        for chunk in chunks() {
            body.extend_from_slice(chunk);
        }
        Ok(body.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::AnswerFlights;
    use crate::cache::budget::Budget;
    use crate::cache::flight::{Flights, Joined, Limits, Next, Reader};
    use keyspec::Key;

    type AnswerReader = Reader<AnswerHead, UpstreamError>;

    fn flight() -> (Arc<AnswerFlights>, AnswerWriter, AnswerReader) {
        let limits = Limits {
            flights_max: 10,
            recorded_bytes_max: 100,
            window_bytes: 10,
            slow_reader_timeout: Duration::from_secs(30),
            age_max: Duration::from_secs(600),
        };
        let flights: Arc<AnswerFlights> = Flights::new(limits, Budget::new(1000));
        match flights.join(Key::from_bytes([1; 32]), 0, |_| true, || None::<()>) {
            Joined::Leader(writer, reader) => (flights, writer, reader),
            other => panic!("expected to lead, got {other:?}"),
        }
    }

    fn head(fields: &[(&str, &str)]) -> AnswerHead {
        let mut response = http::Response::builder();
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        AnswerHead::of(response.body(()).unwrap().into_parts().0)
    }

    fn is_waiting(future: impl Future) -> bool {
        use futures_util::FutureExt;
        future.now_or_never().is_none()
    }

    #[tokio::test]
    async fn the_head_and_the_last_chunk_wait_for_the_verdict_on_storing() {
        let (_flights, mut writer, mut reader) = flight();
        let mut landing = Landing::new(head(&[("content-length", "3")]), &mut writer, false);
        assert!(landing.pass_on(Bytes::from_static(b"ab")).await.is_ok());
        assert!(is_waiting(reader.head()), "the head must not be out before the verdict");
        assert!(landing.pass_on(Bytes::from_static(b"c")).await.is_ok());
        assert_eq!(reader.next().await, Next::Chunk(Bytes::from_static(b"ab")));
        assert!(is_waiting(reader.next()), "the last chunk must not be out before the verdict");
        let stored = landing.settle(|_, body| {
            assert_eq!(body.as_deref(), Ok(&b"abc"[..]));
            Err("length")
        });
        assert!(matches!(stored.await, Ok(Err("length"))));
        assert_eq!(reader.head().await.unwrap().stored, Some(Err("length")));
        assert_eq!(reader.next().await, Next::Chunk(Bytes::from_static(b"c")));
    }

    #[tokio::test]
    async fn nobody_joins_once_the_last_chunk_is_out() {
        let (flights, mut writer, mut reader) = flight();
        let mut landing = Landing::new(head(&[("content-length", "1")]), &mut writer, false);
        assert!(landing.pass_on(Bytes::from_static(b"a")).await.is_ok());
        assert!(landing.settle(|_, _| Err("status")).await.is_ok());
        assert_eq!(reader.next().await, Next::Chunk(Bytes::from_static(b"a")));
        assert!(!writer.is_current(), "the fill is not finished, but its end is out");
        assert_eq!(flights.open_count(), 1);
    }

    #[tokio::test]
    async fn an_event_streams_head_and_events_are_never_held_back() {
        let (_flights, mut writer, mut reader) = flight();
        let mut landing =
            Landing::new(head(&[("content-type", "text/event-stream")]), &mut writer, false);
        assert_eq!(reader.head().await.unwrap().stored, None);
        assert!(landing.pass_on(Bytes::from_static(b"data: 1\n\n")).await.is_ok());
        assert_eq!(reader.next().await, Next::Chunk(Bytes::from_static(b"data: 1\n\n")));
    }

    #[tokio::test]
    async fn a_fetch_whose_place_was_taken_stores_nothing() {
        let (flights, mut writer, _reader) = flight();
        let landing = Landing::new(head(&[]), &mut writer, false);
        let _newer = flights.lead_anew::<()>(Key::from_bytes([1; 32]), 0);
        let stored = landing.settle(|_, body| Err(body.expect_err("it must not be stored")));
        assert!(matches!(stored.await, Ok(Err("superseded"))));
    }
}
