//! Freshness: may an answer be stored, may an entry answer, and what of it is sent (RFC 9111 for a
//! shared cache)? Pure: facts, policy and now go in, a decision comes out; reads no clock.
//!
//! On model routes the operator's policy sets the lifetimes, not the upstream's `Cache-Control`,
//! unless a route says `obey_upstream = true`. An entry has four ends, each an absolute time:
//! until the first it is fresh, until the second it may answer while a refresh runs behind it
//! (RFC 5861 section 3), until the third it may answer when the upstream fails (section 4), and
//! until the fourth it is kept, to be validated.
//!
//! An answer comes through [`cache_control`], [`targeted`] or [`surrogate`], [`date`] and [`vary`] to
//! [`store`], and leaves by [`serve`], [`validate`], [`range`] and [`emit`]; [`update`] takes in what the
//! upstream says of it later.

pub mod cache_control;
pub mod date;
pub mod early;
pub mod emit;
pub mod negative;
pub mod range;
pub mod serve;
pub mod store;
pub mod surrogate;
pub mod targeted;
pub mod update;
pub mod validate;
pub mod vary;

#[cfg(test)]
mod differential;

pub use cache_control::RequestDirectives;

use std::time::Duration;

use crate::clock::Timestamp;

/// How long an answer may be used, by the policy of its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// From generation until it is no longer fresh.
    pub fresh: Duration,
    /// After that: how long it may answer while one refresh runs behind it.
    pub stale_while_revalidate: Duration,
    /// After the fresh end: how long it may answer when the upstream fails.
    pub stale_if_error: Duration,
}

impl Lifetime {
    /// Fresh for so long, and of no use once it is stale.
    #[must_use]
    pub fn fresh_for(fresh: Duration) -> Lifetime {
        Lifetime { fresh, stale_while_revalidate: Duration::ZERO, stale_if_error: Duration::ZERO }
    }

    /// Whether it allows no use at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        let Lifetime { fresh, stale_while_revalidate, stale_if_error } = *self;
        fresh.max(stale_while_revalidate).max(stale_if_error).is_zero()
    }
}

/// The ends of an entry's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Fresh before this time.
    pub fresh: Timestamp,
    /// Usable while revalidating before this time.
    pub stale_while_revalidate: Timestamp,
    /// Usable when the upstream fails before this time.
    pub stale_if_error: Timestamp,
    /// Until when it is kept to be validated, or for who takes it stale; never an answer by itself.
    pub validate: Timestamp,
}

impl Ends {
    /// The ends of an answer generated at `generated` with this lifetime, which is kept no longer
    /// than it may answer.
    #[must_use]
    pub fn of(generated: Timestamp, lifetime: Lifetime) -> Ends {
        let fresh = generated.plus(lifetime.fresh);
        let stale_while_revalidate = fresh.plus(lifetime.stale_while_revalidate);
        let stale_if_error = fresh.plus(lifetime.stale_if_error);
        let validate = stale_while_revalidate.max(stale_if_error);
        Ends { fresh, stale_while_revalidate, stale_if_error, validate }
    }

    /// The same, kept for so long beyond the fresh end if that is longer.
    #[must_use]
    pub fn kept_beyond(self, beyond: Duration) -> Ends {
        Ends { validate: self.validate.max(self.fresh.plus(beyond)), ..self }
    }

    /// The same, none of them later than this.
    #[must_use]
    pub fn at_most(self, latest: Timestamp) -> Ends {
        Ends {
            fresh: self.fresh.min(latest),
            stale_while_revalidate: self.stale_while_revalidate.min(latest),
            stale_if_error: self.stale_if_error.min(latest),
            validate: self.validate.min(latest),
        }
    }

    /// The time from which the entry is of no use to anyone.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.fresh.max(self.stale_while_revalidate).max(self.stale_if_error).max(self.validate)
    }
}

/// What an entry is good for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It answers, for this long.
    Fresh {
        /// Time left until it is stale.
        ttl: Duration,
    },
    /// It is past its fresh end by `by`.
    Stale {
        /// Time since it stopped being fresh.
        by: Duration,
        /// It may answer while a refresh runs behind it.
        while_revalidate: bool,
        /// It may answer if the upstream fails.
        if_error: bool,
    },
    /// Past every end: as if it were not there.
    Expired,
}

/// Tells what an entry with these ends is good for at `now`, if nobody wishes for more or less.
#[must_use]
pub fn judge(ends: &Ends, now: Timestamp) -> Freshness {
    if now < ends.fresh {
        return Freshness::Fresh { ttl: ends.fresh.since(now) };
    }
    if now >= ends.last() {
        return Freshness::Expired;
    }
    Freshness::Stale {
        by: now.since(ends.fresh),
        while_revalidate: now < ends.stale_while_revalidate,
        if_error: now < ends.stale_if_error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIFETIME: Lifetime = Lifetime {
        fresh: Duration::from_secs(10),
        stale_while_revalidate: Duration::from_secs(5),
        stale_if_error: Duration::from_secs(60),
    };

    fn at(seconds: u64) -> Freshness {
        judge(&Ends::of(Timestamp(0), LIFETIME), Timestamp(seconds * 1000))
    }

    #[test]
    fn an_entry_passes_from_fresh_to_stale_to_expired() {
        assert_eq!(at(0), Freshness::Fresh { ttl: Duration::from_secs(10) });
        assert_eq!(at(9), Freshness::Fresh { ttl: Duration::from_secs(1) });
        let stale = |by, while_revalidate| Freshness::Stale {
            by: Duration::from_secs(by),
            while_revalidate,
            if_error: true,
        };
        assert_eq!(at(10), stale(0, true));
        assert_eq!(at(15), stale(5, false));
        assert_eq!(at(69), stale(59, false));
        assert_eq!(at(70), Freshness::Expired);
    }

    #[test]
    fn a_zero_lifetime_is_never_fresh() {
        let none = Lifetime {
            fresh: Duration::ZERO,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        };
        assert_eq!(judge(&Ends::of(Timestamp(5), none), Timestamp(5)), Freshness::Expired);
    }

    #[test]
    fn an_entry_is_kept_to_be_validated_beyond_all_other_ends_and_answers_nobody() {
        let ends = Ends::of(Timestamp(0), LIFETIME).kept_beyond(Duration::from_secs(100));
        assert_eq!(ends.last(), Timestamp(110_000));
        let kept = Freshness::Stale {
            by: Duration::from_secs(99),
            while_revalidate: false,
            if_error: false,
        };
        assert_eq!(judge(&ends, Timestamp(109_000)), kept);
        let shorter = Ends::of(Timestamp(0), LIFETIME).kept_beyond(Duration::from_secs(1));
        assert_eq!(shorter, Ends::of(Timestamp(0), LIFETIME), "it is never kept shorter");
    }

    #[test]
    fn no_end_is_later_than_it_may_be() {
        let latest = Timestamp(12_000);
        let ends = Ends::of(Timestamp(0), LIFETIME).at_most(latest);
        assert_eq!((ends.fresh, ends.last()), (Timestamp(10_000), latest));
        assert_eq!(ends.at_most(Timestamp(0)).last(), Timestamp(0));
    }

    proptest! {
        #[test]
        fn an_entry_never_becomes_fresher_with_time(
            generated in any::<u64>(), fresh in any::<u64>(), swr in any::<u64>(),
            sie in any::<u64>(), first in any::<u64>(), later in any::<u64>(),
        ) {
            let rank = |freshness| match freshness {
                Freshness::Fresh { .. } => 0,
                Freshness::Stale { .. } => 1,
                Freshness::Expired => 2,
            };
            let ends = Ends::of(Timestamp(generated), Lifetime {
                fresh: Duration::from_millis(fresh),
                stale_while_revalidate: Duration::from_millis(swr),
                stale_if_error: Duration::from_millis(sie),
            });
            let (first, later) = (first.min(later), first.max(later));
            prop_assert!(
                rank(judge(&ends, Timestamp(first))) <= rank(judge(&ends, Timestamp(later)))
            );
        }
    }
}
