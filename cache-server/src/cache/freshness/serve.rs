//! Serving: what is a stored answer good for, by its times and the request's wishes (RFC 9111
//! section 4.2 and 5.2.1, RFC 5861)?
//!
//! `max-age` and `min-fresh` only tighten, `max-stale` only loosens: it widens what the entry
//! allows by itself and never narrows it. A request's `stale-if-error` stands in for the entry's,
//! for that request (RFC 5861 section 4): it may be longer, as far as the entry is kept, or
//! shorter, down to zero. What must be revalidated answers nobody once it is stale, whatever a
//! request accepts. Whoever asks for `no-cache` gets an error rather than what is stored, unless
//! the same request says `stale-if-error`.

use std::time::Duration;

use super::cache_control::RequestDirectives;
use super::{Ends, Freshness, judge};
use crate::clock::Timestamp;

/// What of an entry decides on its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Until when it may be used, and how.
    pub ends: Ends,
    /// When the upstream made it, as well as that is known.
    pub generated: Timestamp,
    /// Its age when it came, in seconds.
    pub initial_age_s: u32,
    /// Once stale, it answers nobody before the upstream has confirmed it.
    pub must_revalidate: bool,
}

/// What becomes of a request that an entry was found for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It answers.
    Fresh {
        /// Time left until it is stale.
        ttl: Duration,
    },
    /// It answers while one refresh runs behind it (RFC 5861 section 3).
    WhileRevalidate {
        /// Time since it stopped being fresh.
        by: Duration,
    },
    /// It answers because the request accepts it so (`max-stale`).
    StaleAccepted {
        /// Time since it stopped being fresh.
        by: Duration,
    },
    /// The upstream is asked first.
    Validate {
        /// If the upstream fails, it may answer.
        if_error: bool,
    },
    /// As if it were not there.
    Absent,
}

/// Decides what an entry does for a request at `now`. `only-if-cached` is for the caller to
/// look at.
#[must_use]
pub fn decide(stored: &Stored, request: &RequestDirectives, now: Timestamp) -> Decision {
    match judge(&stored.ends, now) {
        Freshness::Fresh { ttl } if is_fresh_enough(stored, request, ttl, now) => {
            Decision::Fresh { ttl }
        }
        Freshness::Fresh { .. } => {
            let has_grace = stored.ends.stale_if_error > stored.ends.fresh;
            Decision::Validate { if_error: may_bridge(stored, request, Duration::ZERO, has_grace) }
        }
        Freshness::Stale { by, while_revalidate, if_error } => {
            if may_answer_stale(stored, request, now) {
                let is_accepted = request.max_stale.is_some_and(|bound| by <= bound);
                // Whoever names an age and no `max-stale` wants nothing stale (section 5.2.1.1).
                if while_revalidate && (request.max_age.is_none() || is_accepted) {
                    return Decision::WhileRevalidate { by };
                }
                if is_accepted {
                    return Decision::StaleAccepted { by };
                }
            }
            Decision::Validate { if_error: may_bridge(stored, request, by, if_error) }
        }
        Freshness::Expired => Decision::Absent,
    }
}

/// Seconds since the upstream made it, never less than when it came: a clock that steps back
/// makes nothing younger (RFC 9111 section 4.2.3).
#[must_use]
pub fn age_s(stored: &Stored, now: Timestamp) -> u64 {
    now.since(stored.generated).as_secs().max(u64::from(stored.initial_age_s))
}

/// Whether a fresh entry is fresh enough for the request.
fn is_fresh_enough(
    stored: &Stored,
    request: &RequestDirectives,
    ttl: Duration,
    now: Timestamp,
) -> bool {
    !request.no_cache
        && request.min_fresh.is_none_or(|least| ttl >= least)
        && is_young_enough(stored, request, now)
}

/// Whether a request takes stale answers at all, and this one gives itself so.
fn may_answer_stale(stored: &Stored, request: &RequestDirectives, now: Timestamp) -> bool {
    !stored.must_revalidate
        && !request.no_cache
        && request.min_fresh.is_none()
        && is_young_enough(stored, request, now)
}

/// The request's `max-age`. Whoever asks for zero wants to hear from the upstream, even within the
/// first moment of an entry.
fn is_young_enough(stored: &Stored, request: &RequestDirectives, now: Timestamp) -> bool {
    let age = now.since(stored.generated).max(Duration::from_secs(u64::from(stored.initial_age_s)));
    request.max_age.is_none_or(|oldest| !oldest.is_zero() && age <= oldest)
}

/// Whether it may answer if the upstream fails: by the request's word if it has one, else by the
/// entry's own, which does not go against `no-cache`.
fn may_bridge(
    stored: &Stored,
    request: &RequestDirectives,
    by: Duration,
    entry_allows: bool,
) -> bool {
    let is_wanted = match request.stale_if_error {
        Some(bound) => !bound.is_zero() && by <= bound,
        None => entry_allows && !request.no_cache,
    };
    is_wanted && !stored.must_revalidate
}

#[cfg(test)]
mod tests;
