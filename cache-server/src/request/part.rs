//! Part: a request for a part of what is not stored, or stale. It is asked of the upstream as it is:
//! never widened to the whole, or a few bytes would cost a long answer (range amplification). What is
//! stale is asked about by the way: a 304 confirms it, and the part is cut out of it.

use std::sync::Arc;

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, Response, StatusCode};

use super::body::AnswerBody;
use super::conditions::{Conditional, Conditions};
use super::confirm::Doubted;
use super::fetch::not_modified_of_what;
use super::key::{Cause, Keyed, Unkeyed};
use super::line::{Facts, Line};
use super::lookup::{self, Hit};
use super::pass::{self, Unanswered};
use super::respond::{self, is_failure};
use crate::app::App;
use crate::cache::entry::Entry;
use crate::telemetry::trace::Step;
use crate::upstream::fields;

/// Asks the upstream for a part. Where it fails, `stale` answers, if there is any.
pub async fn ask(
    app: &Arc<App>,
    keyed: Keyed,
    cause: Cause,
    stale: Option<Hit>,
) -> Response<AnswerBody> {
    let Some(entry) = keyed.validates.clone() else {
        return pass::through(app, keyed.unkeyed(cause)).await;
    };
    let conditional = Conditional::of(&keyed);
    let doubted = Doubted::of(app, &keyed.policy, &keyed.asked, keyed.is_shared, entry);
    let line = Line::past(app, Facts::of(&keyed), &cause);
    let spec = Arc::clone(&keyed.spec);
    let has_content = !keyed.body.is_empty();
    let Unkeyed { mut asked, cause, body, is_shared, .. } = keyed.unkeyed(cause);
    if is_shared {
        // What it says of the entry is said to all.
        keep_what_all_callers_share(&mut asked.headers, spec.keyed_headers(), has_content);
    }
    let is_about_entry = asks_about(&mut asked.headers, doubted.entry());
    let upstream = Arc::clone(&asked.upstream);
    let asking = Asking { app, doubted, conditions: Conditions::kept(&conditional), stale };
    match pass::ask(app, &mut asked, body).await {
        Ok((answer, span)) if is_about_entry && answer.status() == StatusCode::NOT_MODIFIED => {
            asking.not_modified(line, answer.headers(), upstream.name(), span)
        }
        Ok((answer, span)) => match asking.stale() {
            Some(hit) if is_failure(answer.status()) => {
                asking.stale_on_error(line, hit, Some(answer.status()))
            }
            _ => {
                let (status, fields) = (answer.status(), answer.headers());
                asking.doubted.drop_if_refuted(app, status, fields, is_about_entry);
                pass::back(app, &asked, line, &cause, answer, span)
            }
        },
        Err(Unanswered::Caller(rejection)) => respond::reject(line, rejection),
        Err(Unanswered::Upstream(error)) => match asking.stale() {
            Some(hit) => asking.stale_on_error(line, hit, None),
            None => respond::upstream_failed(line, &error),
        },
    }
}

/// Puts the entry's conditions in the place of the caller's, which are answered from the entry if it
/// is confirmed. Says whether there are any.
fn asks_about(headers: &mut HeaderMap, entry: &Entry) -> bool {
    fields::replace_conditions(headers, Some(entry));
    headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE)
}

fn keep_what_all_callers_share(
    headers: &mut HeaderMap,
    keyed: &[http::HeaderName],
    has_content: bool,
) {
    let of_parts = [RANGE, IF_RANGE].map(|name| (name.clone(), headers.get(&name).cloned()));
    fields::keep_what_all_callers_share(headers, keyed, true, has_content);
    headers.extend(of_parts.into_iter().filter_map(|(name, value)| Some((name, value?))));
}

/// A question for a part of a stale entry.
struct Asking<'a> {
    app: &'a App,
    doubted: Doubted,
    conditions: Conditions<'a>,
    stale: Option<Hit>,
}

impl Asking<'_> {
    /// The part of what the upstream has just confirmed.
    fn not_modified(
        &self,
        line: Line,
        fields: &HeaderMap,
        upstream: &str,
        mut span: Step,
    ) -> Response<AnswerBody> {
        span.note_status(StatusCode::NOT_MODIFIED);
        span.end();
        match self.doubted.after_not_modified(self.app, fields) {
            Some(entry) => respond::confirmed(self.app, line, self.conditions, &entry),
            None => respond::upstream_failed(line, &not_modified_of_what(upstream)),
        }
    }

    /// What may stand in for a failing upstream: not what was purged while it was asked.
    fn stale(&self) -> Option<&Hit> {
        self.stale.as_ref().filter(|hit| !lookup::is_dead(self.app, &hit.entry))
    }

    fn stale_on_error(
        &self,
        line: Line,
        hit: &Hit,
        status: Option<StatusCode>,
    ) -> Response<AnswerBody> {
        respond::stale_on_error(self.app, line, self.conditions, hit, status)
    }
}
