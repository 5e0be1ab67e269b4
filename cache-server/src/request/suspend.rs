//! Suspend: a credential that an upstream refuses gets no stored answers until the upstream takes
//! it again. While the upstream is down nobody can tell, so that a short grace keeps a caller
//! going whom the upstream refused only because it was about to fail.

use std::sync::Arc;

use http::{Response, StatusCode};

use super::body::AnswerBody;
use super::conditions::{Conditional, Conditions};
use super::key::{Cause, Keyed, Unkeyed};
use super::line::{Facts, Line};
use super::lookup::{self, Found, Hit};
use super::pass::{self, Unanswered};
use super::respond;
use crate::app::App;
use crate::cache::suspension::Credential;
use crate::clock::Timestamp;

/// Takes note of what an upstream's answer says about a credential; `by_http` is whether it is to another
/// request than a model's.
pub fn note(app: &App, credential: Option<&Credential>, status: StatusCode, by_http: bool) {
    let Some(credential) = credential else { return };
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        app.suspensions.suspend(credential.clone(), app.clock.now(), by_http);
    } else if (status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS)
        && !app.suspensions.is_empty()
    {
        app.suspensions.lift(credential, by_http);
    }
}

/// Since when the credential of this request is suspended.
#[must_use]
pub fn since(app: &App, keyed: &Keyed) -> Option<Timestamp> {
    if app.suspensions.is_empty() {
        return None;
    }
    app.suspensions.since(&keyed.asked.credential()?)
}

/// Asks the upstream on behalf of a suspended credential. A stored answer stands in only if the
/// upstream is down and the grace is not over.
pub async fn serve(app: &Arc<App>, mut keyed: Keyed, since: Timestamp) -> Response<AnswerBody> {
    let has_grace = app.clock.now().since(since) < keyed.asked.settings.suspension_grace;
    // Whoever wants no call upstream gets none, and without one nothing can stand in for it.
    let fallback = if has_grace && !keyed.asked.directives.only_if_cached {
        stored(app, &mut keyed).await
    } else {
        None
    };
    let Some(fallback) = fallback else {
        return pass::through(app, keyed.unkeyed(Cause::SUSPENDED)).await;
    };
    let line = Line::past(app, Facts::of(&keyed), &Cause::SUSPENDED);
    let conditional = Conditional::of(&keyed);
    let Unkeyed { mut asked, cause, body, .. } = keyed.unkeyed(Cause::SUSPENDED);
    let conditions = Conditions::kept(&conditional);
    let may_stand_in = || !lookup::is_dead(app, &fallback.entry);
    match pass::ask(app, &mut asked, body).await {
        Ok((answer, _)) if may_stand_in() && respond::is_failure(answer.status()) => {
            respond::stale_on_error(app, line, conditions, &fallback, Some(answer.status()))
        }
        Ok((answer, span)) => pass::back(app, &asked, line, &cause, answer, span),
        Err(Unanswered::Upstream(_)) if may_stand_in() => {
            respond::stale_on_error(app, line, conditions, &fallback, None)
        }
        Err(Unanswered::Upstream(error)) => respond::upstream_failed(line, &error),
        Err(Unanswered::Caller(rejection)) => respond::reject(line, rejection),
    }
}

async fn stored(app: &App, keyed: &mut Keyed) -> Option<Hit> {
    match lookup::lookup(app, keyed).await {
        Found::Fresh(hit)
        | Found::DueSoon(hit)
        | Found::Usable(hit)
        | Found::Accepted(hit)
        | Found::InsteadOfUpstream(hit)
        | Found::Validate { hit, if_error: true } => Some(hit),
        Found::Validate { if_error: false, .. } | Found::Absent => None,
    }
}
