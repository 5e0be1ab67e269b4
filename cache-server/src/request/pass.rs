//! Pass: takes a request past the cache, as a stream both ways.

use std::sync::Arc;

use http::Response;
use http_body::Body as _;

use super::body::{AnswerBody, PassingBody};
use super::identify::Asked;
use super::invalidate::Aftermath;
use super::key::{Cause, Unkeyed};
use super::line::{Facts, Line};
use super::rejection::Rejection;
use super::{emit, hold, respond, suspend};
use crate::app::App;
use crate::telemetry::trace::Step;
use crate::upstream::body::{ReceivedBody, RequestBody};
use crate::upstream::{UpstreamError, fields};

/// Passes a request through, past the cache; its end is the caller's end.
pub async fn through(app: &Arc<App>, unkeyed: Unkeyed) -> Response<AnswerBody> {
    let Unkeyed { mut asked, model, cause, body, stored, is_shared } = unkeyed;
    let aftermath = Aftermath::of(app, &asked, stored, is_shared);
    if is_shared && aftermath.is_of_an_entry() {
        say_what_all_callers_share(&mut asked, &body);
    }
    let line = Line::past(app, Facts::of_unkeyed(&asked, model), &cause);
    if asked.directives.only_if_cached {
        return respond::reject(line, Rejection::OnlyIfCached);
    }
    match ask(app, &mut asked, body).await {
        Ok((answer, span)) => {
            aftermath.settle(app, answer.status(), answer.headers()).await;
            back(app, &asked, line, &cause, answer, span)
        }
        Err(Unanswered::Caller(rejection)) => respond::reject(line, rejection),
        Err(Unanswered::Upstream(error)) => respond::upstream_failed(line, &error),
    }
}

/// What a HEAD is told of an entry is told to all who share that.
fn say_what_all_callers_share(asked: &mut Asked, body: &PassingBody) {
    let keyed = asked.spec.as_ref().map_or(&[][..], |(spec, _)| spec.keyed_headers());
    fields::keep_what_all_callers_share(&mut asked.headers, keyed, true, !body.is_end_stream());
}

/// Passes on what the upstream said, less what its route does not let out.
pub fn back(
    app: &App,
    asked: &Asked,
    line: Line,
    cause: &Cause,
    mut answer: Response<ReceivedBody>,
    span: Step,
) -> Response<AnswerBody> {
    emit::past(asked, answer.headers_mut(), app.clock.now());
    respond::passed(line, cause, answer, span)
}

/// Why there is no answer from the upstream.
#[derive(Debug)]
pub enum Unanswered {
    /// The caller's body did not come as it should.
    Caller(Rejection),
    /// The upstream failed.
    Upstream(UpstreamError),
}

/// Sends a request on as it came, and returns at the headers of the answer, with the span that
/// lasts until its end.
///
/// # Errors
/// When there is no answer; an error status is an answer.
pub async fn ask(
    app: &App,
    asked: &mut Asked,
    body: PassingBody,
) -> Result<(Response<ReceivedBody>, Step), Unanswered> {
    let (fault, credential) = (body.fault(), asked.credential());
    let mut headers = std::mem::take(&mut asked.headers);
    fields::prepare_request(&mut headers, &app.loops);
    // Where the body was not read.
    asked.trace.note_model(asked.model_in_path());
    let mut span = asked.trace.fetch(&asked.call(), &mut headers);
    let body = RequestBody::from(body);
    let answer = asked.upstream.send(asked.method.clone(), &asked.target, headers, body).await;
    if let Some(fault) = fault.get() {
        span.fail("request-broken");
        let rejection = Rejection::from_fault(fault, &asked.settings.server);
        return Err(Unanswered::Caller(rejection));
    }
    let answer = answer.map_err(|error| {
        span.fail(error.kind());
        Unanswered::Upstream(error)
    })?;
    suspend::note(app, credential.as_ref(), answer.status(), !asked.is_of_a_model());
    let fills = &asked.settings.fills;
    hold::note_answer(app, || asked.limited(), fills, answer.status(), answer.headers());
    Ok((answer, span))
}
