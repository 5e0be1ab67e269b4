//! Storing: may an answer become an entry, and until when may that be used (RFC 9111 section 3)?
//!
//! What is stored is less than the RFC allows, for four reasons of ours:
//! - Some statuses are about one request, its form, its credential or its rate, and not about the
//!   resource. One caller's odd request must not make the answer of all others.
//! - A failure that stale-if-error bridges must not take the place of the entry that bridges it.
//! - A cookie is for one caller, unless the upstream says `public`.
//! - An error answers for others only where the upstream gives it a lifetime, or the operator does
//!   so for what is not found.

use std::time::Duration;

use http::header::{HeaderMap, SET_COOKIE};
use http::{Method, StatusCode};

use super::cache_control::{Reach, RequestDirectives, ResponseDirectives};
use super::negative::{Negative, NegativeStatuses};
use super::serve::{Decision, Stored, decide};
use super::{Ends, Lifetime, date, targeted, validate, vary};
use crate::clock::Timestamp;

/// How long beyond its fresh end an entry with a validator is kept, to be validated.
pub const KEPT_TO_VALIDATE: Duration = Duration::from_hours(7 * 24);

/// How long beyond its fresh end any other entry is kept, for requests that take it stale (`max-stale`,
/// `stale-if-error`); not so if it must be revalidated.
pub const KEPT_FOR_WHO_TAKES_IT_STALE: Duration = Duration::from_mins(10);

/// A question and the head of its answer.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The method that was asked with.
    pub method: &'a Method,
    /// What the caller asked of a cache.
    pub request: &'a RequestDirectives,
    /// Whether the request had `Authorization`, in a way that its key does not tell.
    pub has_authorization: bool,
    /// The status of the answer.
    pub status: StatusCode,
    /// The end-to-end fields of the answer.
    pub fields: &'a HeaderMap,
    /// When the upstream was asked.
    pub asked: Timestamp,
    /// When its answer came.
    pub answered: Timestamp,
}

/// What the operator says of storing.
#[derive(Clone, Copy, Debug)]
pub struct HttpPolicy {
    /// Whether the upstream's lifetimes and prohibitions count. Where they do not, a permission
    /// is still needed for what has `Authorization` or a cookie.
    pub obey_upstream: bool,
    /// The lifetime where the upstream is not obeyed, or says nothing.
    pub lifetime: Option<Lifetime>,
    /// Whether a lifetime may be guessed, and how.
    pub heuristic: Option<Heuristic>,
    /// Which answers are negative, and how long they answer.
    pub negative: Negative,
}

/// A lifetime guessed from how long ago the resource was changed (RFC 9111 section 4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heuristic {
    /// The share of the time since `Last-Modified`, in percent.
    pub share_percent: u32,
    /// The longest that is guessed.
    pub cap: Duration,
}

/// How an answer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storing {
    /// Until when it may be used, and how.
    pub ends: Ends,
    /// When the upstream made it, as well as that is known.
    pub generated: Timestamp,
    /// Its age when it came, in whole seconds (RFC 9111 section 4.2.3).
    pub initial_age_s: u32,
    /// Once stale, it answers nobody before the upstream has confirmed it.
    pub must_revalidate: bool,
    /// It says that there is nothing; kept in memory only.
    pub negative: bool,
}

impl Storing {
    /// What decides on the use of the entry that is made of it.
    #[must_use]
    pub fn facts(&self) -> Stored {
        let Storing { ends, generated, initial_age_s, must_revalidate, negative: _ } = *self;
        Stored { ends, generated, initial_age_s, must_revalidate }
    }

    /// Whether it may answer others at `now`, who ask for nothing in particular, without being
    /// validated first (RFC 9111 section 4).
    #[must_use]
    pub fn answers_others(&self, now: Timestamp) -> bool {
        let decision = decide(&self.facts(), &RequestDirectives::default(), now);
        matches!(decision, Decision::Fresh { .. } | Decision::WhileRevalidate { .. })
    }
}

/// Why an answer is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// Only what GET and HEAD get is stored.
    Method,
    /// Its status is none that is stored.
    Status,
    /// The request forbids it.
    RequestNoStore,
    /// The upstream forbids it.
    NoStore,
    /// It is for one caller.
    Private,
    /// The request had `Authorization`, and nothing says that others may have the answer.
    Authorization,
    /// It brings a cookie, and is not `public`.
    SetCookie,
    /// It depends on what no request shows.
    VaryAny,
    /// It depends on more fields than are looked at.
    VaryTooMany,
    /// It would have to be validated before every use, and has no validator.
    NoCache,
    /// Nobody says how long it may be used.
    NoLifetime,
    /// It was of no use any more when it came.
    Expired,
}

impl NotStored {
    /// A short word for it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            NotStored::Method => "method",
            NotStored::Status => "status",
            NotStored::RequestNoStore => "request-no-store",
            NotStored::NoStore => "no-store",
            NotStored::Private => "private",
            NotStored::Authorization => "authorization",
            NotStored::SetCookie => "set-cookie",
            NotStored::VaryAny => "vary-any",
            NotStored::VaryTooMany => "vary-too-many",
            NotStored::NoCache => "no-cache",
            NotStored::NoLifetime => "no-lifetime",
            NotStored::Expired => "expired",
        }
    }
}

/// Whether an answer of this status says what there is now, so that an older one is of the past
/// even where this one is not stored. What is about one request or a failure says nothing of that.
#[must_use]
pub fn says_what_there_is(status: StatusCode) -> bool {
    let is_whole = !matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED);
    is_whole && (status.is_success() || status.is_redirection() || is_nothing_there(status))
}

/// Decides whether the answer of this exchange is stored, and how.
///
/// # Errors
/// Why it is not.
pub fn storing(exchange: &Exchange<'_>, policy: &HttpPolicy) -> Result<Storing, NotStored> {
    is_of_a_kind_that_is_stored(exchange, policy)?;
    let says = targeted::deciding(exchange.fields);
    if policy.obey_upstream {
        is_allowed(exchange.status, &says)?;
    }
    is_for_all(exchange, &says)?;
    let (lifetime, must_revalidate) = if policy.obey_upstream {
        obeyed_lifetime(exchange, &says, policy)?
    } else {
        (operators_lifetime(exchange.status, policy)?, false)
    };
    let initial_age = initial_age(exchange);
    // Before the epoch there is no time to count from.
    if initial_age > exchange.answered.since(Timestamp(0)) {
        return Err(NotStored::Expired);
    }
    let generated = exchange.answered.minus(initial_age);
    let negative = policy.negative.statuses.has(exchange.status);
    let mut ends = Ends::of(generated, lifetime);
    if validate::has_validator(exchange.fields) {
        ends = ends.kept_beyond(KEPT_TO_VALIDATE);
    } else if policy.obey_upstream
        && !must_revalidate
        && !negative
        && ends.fresh > exchange.answered
    {
        ends = ends.kept_beyond(KEPT_FOR_WHO_TAKES_IT_STALE);
    }
    if negative && !policy.negative.longest.is_zero() {
        ends = ends.at_most(generated.plus(policy.negative.longest));
    }
    if ends.last() <= exchange.answered {
        return Err(NotStored::Expired);
    }
    let initial_age_s = u32::try_from(initial_age.as_secs()).unwrap_or(u32::MAX);
    Ok(Storing { ends, generated, initial_age_s, must_revalidate, negative })
}

/// Method, status, the request's own will, and `Vary`.
fn is_of_a_kind_that_is_stored(
    exchange: &Exchange<'_>,
    policy: &HttpPolicy,
) -> Result<(), NotStored> {
    if !matches!(*exchange.method, Method::GET | Method::HEAD) {
        return Err(NotStored::Method);
    }
    if is_never_stored(exchange.status) && !policy.negative.statuses.has(exchange.status) {
        return Err(NotStored::Status);
    }
    if exchange.request.no_store {
        return Err(NotStored::RequestNoStore);
    }
    match vary::parse(exchange.fields) {
        vary::Vary::Names(_) => Ok(()),
        vary::Vary::Any => Err(NotStored::VaryAny),
        vary::Vary::TooMany => Err(NotStored::VaryTooMany),
    }
}

/// Whether answers of this status are not stored, whatever they say, unless as negative: those that are no final
/// or no whole answer (RFC 9111 section 3), those about one request alone, and failures
/// (RFC 5861 section 4).
fn is_never_stored(status: StatusCode) -> bool {
    let code = status.as_u16();
    let is_no_whole_answer = matches!(code, ..200 | 206 | 304);
    let is_about_its_form = matches!(code, 400 | 405 | 408 | 411..=413 | 415..=417 | 431);
    let is_about_who_asks = matches!(code, 401 | 407 | 421 | 425 | 426 | 428..=430 | 511);
    let is_failure = matches!(code, 500 | 502..=504);
    is_no_whole_answer || is_about_its_form || is_about_who_asks || is_failure
}

/// The upstream's prohibitions (RFC 9111 sections 5.2.2.3, 5.2.2.5 and 5.2.2.7).
fn is_allowed(status: StatusCode, says: &ResponseDirectives) -> Result<(), NotStored> {
    if says.must_understand {
        // Then `no-store` is for those who do not understand it.
        if !is_understood(status) {
            return Err(NotStored::Status);
        }
    } else if says.no_store {
        return Err(NotStored::NoStore);
    }
    if says.private == Reach::Everything {
        return Err(NotStored::Private);
    }
    Ok(())
}

/// The statuses whose meaning for a cache is known here (RFC 9110 section 15).
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300..=303 | 307 | 308 | 404 | 410 | 414 | 501)
}

/// Whether what is for one caller may be given to others (RFC 9111 section 3.5, and cookies).
fn is_for_all(exchange: &Exchange<'_>, says: &ResponseDirectives) -> Result<(), NotStored> {
    let is_permitted = says.public || says.s_maxage.is_some() || says.must_revalidate;
    if exchange.has_authorization && !is_permitted {
        return Err(NotStored::Authorization);
    }
    if exchange.fields.contains_key(SET_COOKIE) && !says.public {
        return Err(NotStored::SetCookie);
    }
    Ok(())
}

fn is_nothing_there(status: StatusCode) -> bool {
    NegativeStatuses::NOTHING_THERE.has(status)
}

/// Statuses that are stored without a word of the upstream (RFC 9110 section 15.1), but for
/// errors.
fn is_stored_by_default(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308)
}

/// The lifetime of an answer whose upstream is not asked about it.
fn operators_lifetime(status: StatusCode, policy: &HttpPolicy) -> Result<Lifetime, NotStored> {
    if policy.negative.statuses.has(status) {
        return negative_lifetime(policy);
    }
    if !is_stored_by_default(status) {
        return Err(NotStored::Status);
    }
    policy.lifetime.ok_or(NotStored::NoLifetime)
}

fn negative_lifetime(policy: &HttpPolicy) -> Result<Lifetime, NotStored> {
    let lifetime = policy.negative.lifetime;
    (!lifetime.is_zero()).then(|| Lifetime::fresh_for(lifetime)).ok_or(NotStored::NoLifetime)
}

/// The lifetime by what the upstream says, and whether it must be revalidated once stale.
fn obeyed_lifetime(
    exchange: &Exchange<'_>,
    says: &ResponseDirectives,
    policy: &HttpPolicy,
) -> Result<(Lifetime, bool), NotStored> {
    if says.no_cache == Reach::Everything {
        let is_storable = explicit(exchange, says).is_some()
            || says.public
            || is_stored_by_default(exchange.status)
            || is_nothing_there(exchange.status);
        let never_fresh = Lifetime::fresh_for(Duration::ZERO);
        return match (is_storable, validate::has_validator(exchange.fields)) {
            (false, _) => Err(NotStored::NoLifetime),
            (true, false) => Err(NotStored::NoCache),
            (true, true) => Ok((never_fresh, true)),
        };
    }
    // `s-maxage` has the meaning of `proxy-revalidate` (RFC 9111 section 5.2.2.10).
    let must_revalidate = says.must_revalidate || says.proxy_revalidate || says.s_maxage.is_some();
    let mut lifetime = said_lifetime(exchange, says, policy)?;
    if must_revalidate {
        lifetime = Lifetime::fresh_for(lifetime.fresh);
    }
    Ok((lifetime, must_revalidate))
}

/// The first lifetime that there is: said, for what is not found, the operator's, guessed.
fn said_lifetime(
    exchange: &Exchange<'_>,
    says: &ResponseDirectives,
    policy: &HttpPolicy,
) -> Result<Lifetime, NotStored> {
    let with_its_windows = |fresh| Lifetime {
        fresh,
        stale_while_revalidate: says.stale_while_revalidate.unwrap_or_default(),
        stale_if_error: says.stale_if_error.unwrap_or_default(),
    };
    if let Some(fresh) = explicit(exchange, says) {
        return Ok(with_its_windows(fresh));
    }
    if policy.negative.statuses.has(exchange.status) {
        return negative_lifetime(policy);
    }
    if !is_stored_by_default(exchange.status) && !says.public {
        return Err(NotStored::NoLifetime);
    }
    if let Some(lifetime) = policy.lifetime {
        return Ok(lifetime);
    }
    guessed(exchange, policy).map(with_its_windows).ok_or(NotStored::NoLifetime)
}

/// The lifetime that the upstream names (RFC 9111 section 4.2.1, RFC 9213 section 2.2).
fn explicit(exchange: &Exchange<'_>, says: &ResponseDirectives) -> Option<Duration> {
    let said = says.s_maxage.or(says.max_age);
    if says.is_targeted {
        return said;
    }
    said.or_else(|| {
        let expires = date::expires(exchange.fields, exchange.answered)?;
        Some(expires.since(date::date(exchange.fields, exchange.answered)))
    })
}

/// A guess by the time since the last change (RFC 9111 section 4.2.2), if guessing is on.
fn guessed(exchange: &Exchange<'_>, policy: &HttpPolicy) -> Option<Duration> {
    let heuristic = policy.heuristic?;
    let changed = date::last_modified(exchange.fields, exchange.answered)?;
    let unchanged_for = date::date(exchange.fields, exchange.answered).since(changed);
    Some((unchanged_for.saturating_mul(heuristic.share_percent) / 100).min(heuristic.cap))
}

/// How old the answer was when it came (RFC 9111 section 4.2.3): by its date or by its age and
/// the time on the way, whichever is more. A `Date` has whole seconds, so that the apparent age
/// has no finer ones.
fn initial_age(exchange: &Exchange<'_>) -> Duration {
    let date = date::date(exchange.fields, exchange.answered);
    let apparent_s = (exchange.answered.0 / 1000).saturating_sub(date.0 / 1000);
    let response_delay = exchange.answered.since(exchange.asked);
    let age = Duration::from_secs(u64::from(date::age_s(exchange.fields)));
    Duration::from_secs(apparent_s).max(age.saturating_add(response_delay))
}

#[cfg(test)]
mod tests;
