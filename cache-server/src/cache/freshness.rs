//! Freshness: given an entry's times and now, may it answer? Pure; reads no clock.
//!
//! On model routes the operator's policy sets the lifetimes, not the upstream's `Cache-Control`,
//! unless a route says `obey_upstream = true`. An entry has three ends, each an absolute time:
//! until the first it is fresh, until the second it may answer while a refresh runs behind it
//! (RFC 5861 section 3), until the third it may answer when the upstream fails (section 4).

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

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

/// The ends of an entry's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Fresh before this time.
    pub fresh: Timestamp,
    /// Usable while revalidating before this time.
    pub stale_while_revalidate: Timestamp,
    /// Usable when the upstream fails before this time.
    pub stale_if_error: Timestamp,
}

impl Ends {
    /// The ends of an answer generated at `generated` with this lifetime.
    #[must_use]
    pub fn of(generated: Timestamp, lifetime: Lifetime) -> Ends {
        let fresh = generated.plus(lifetime.fresh);
        Ends {
            fresh,
            stale_while_revalidate: fresh.plus(lifetime.stale_while_revalidate),
            stale_if_error: fresh.plus(lifetime.stale_if_error),
        }
    }

    /// The time from which the entry is of no use to anyone.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.fresh.max(self.stale_while_revalidate).max(self.stale_if_error)
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

/// Decides what an entry with these ends is good for at `now`.
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

/// What the caller asks of the cache in `Cache-Control` (RFC 9111 section 5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// Do not answer from the cache without asking the upstream.
    pub no_cache: bool,
    /// Keep nothing of this exchange.
    pub no_store: bool,
    /// Answer from the cache or not at all.
    pub only_if_cached: bool,
}

impl RequestDirectives {
    /// Reads all `Cache-Control` fields of a request; unknown directives are ignored.
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> RequestDirectives {
        let mut directives = RequestDirectives::default();
        for (name, _) in each_directive(headers) {
            match name.as_str() {
                "no-cache" => directives.no_cache = true,
                "no-store" => directives.no_store = true,
                "only-if-cached" => directives.only_if_cached = true,
                _ => {}
            }
        }
        directives
    }
}

/// What an upstream's `Cache-Control` says to a route that obeys it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamSays {
    /// It must not be stored (`no-store`, `no-cache`, `private`), or is stale at once.
    DoNotStore,
    /// It may be used so long: `s-maxage` before `max-age` (RFC 9111 section 5.2.2.10), and stale
    /// only as it says itself (RFC 5861), never against `must-revalidate` and its kin.
    Use(Lifetime),
    /// It says nothing about a lifetime.
    Nothing,
}

/// Reads the upstream's `Cache-Control` as a shared cache must (RFC 9111 section 5.2.2).
#[must_use]
pub fn upstream_says(headers: &HeaderMap) -> UpstreamSays {
    let (mut max_age, mut s_maxage) = (None, None);
    let (mut stale_while_revalidate, mut stale_if_error) = (Duration::ZERO, Duration::ZERO);
    let mut must_revalidate = false;
    for (name, value) in each_directive(headers) {
        match name.as_str() {
            "no-store" | "no-cache" | "private" => return UpstreamSays::DoNotStore,
            "max-age" => max_age = max_age.or(Some(delta_seconds(&value))),
            "s-maxage" => s_maxage = s_maxage.or(Some(delta_seconds(&value))),
            "stale-while-revalidate" => stale_while_revalidate = delta_seconds(&value),
            "stale-if-error" => stale_if_error = delta_seconds(&value),
            "must-revalidate" | "proxy-revalidate" => must_revalidate = true,
            _ => {}
        }
    }
    if must_revalidate || s_maxage.is_some() {
        (stale_while_revalidate, stale_if_error) = (Duration::ZERO, Duration::ZERO);
    }
    match s_maxage.or(max_age) {
        Some(Duration::ZERO) => UpstreamSays::DoNotStore,
        Some(fresh) => {
            UpstreamSays::Use(Lifetime { fresh, stale_while_revalidate, stale_if_error })
        }
        None => UpstreamSays::Nothing,
    }
}

/// Seconds as RFC 9111 section 1.2.2 has them: huge values saturate at 2^31, and what is not a
/// number means "stale at once" (section 4.2.1).
fn delta_seconds(value: &str) -> Duration {
    let value = value.trim_matches('"');
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Duration::ZERO;
    }
    Duration::from_secs(value.parse::<u64>().unwrap_or(u64::MAX).min(1 << 31))
}

/// Every directive as lower-case name and raw value; a field that is not text is passed over.
fn each_directive(headers: &HeaderMap) -> impl Iterator<Item = (String, String)> + '_ {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','))
        .map(|directive| {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            (name.trim().to_ascii_lowercase(), value.trim().to_owned())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const LIFETIME: Lifetime = Lifetime {
        fresh: Duration::from_secs(10),
        stale_while_revalidate: Duration::from_secs(5),
        stale_if_error: Duration::from_secs(60),
    };

    fn at(seconds: u64) -> Freshness {
        judge(&Ends::of(Timestamp(0), LIFETIME), Timestamp(seconds * 1000))
    }

    fn cache_control(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(value))])
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
    fn request_directives_are_found_in_any_case_and_among_others() {
        let found =
            RequestDirectives::parse(&cache_control("max-age=3, No-Cache , only-if-cached"));
        assert!(found.no_cache && found.only_if_cached && !found.no_store);
    }

    #[test]
    fn s_maxage_goes_before_max_age_and_private_forbids() {
        let says = |value| upstream_says(&cache_control(value));
        let with_stale = |fresh, stale| {
            UpstreamSays::Use(Lifetime {
                fresh: Duration::from_secs(fresh),
                stale_while_revalidate: Duration::from_secs(stale),
                stale_if_error: Duration::from_secs(stale),
            })
        };
        assert_eq!(says("max-age=5, s-maxage=7"), with_stale(7, 0));
        assert_eq!(says("max-age=\"5\""), with_stale(5, 0));
        assert_eq!(says("max-age=-1"), UpstreamSays::DoNotStore);
        assert_eq!(says("max-age=99999999999999999999"), with_stale(1 << 31, 0));
        let stale = "stale-while-revalidate=3, stale-if-error=3";
        let joined = |start| {
            HeaderMap::from_iter([
                (CACHE_CONTROL, start),
                (CACHE_CONTROL, HeaderValue::from_static(stale)),
            ])
        };
        let says_with_stale = |start| upstream_says(&joined(HeaderValue::from_static(start)));
        assert_eq!(says_with_stale("max-age=5"), with_stale(5, 3));
        assert_eq!(says_with_stale("max-age=5, must-revalidate"), with_stale(5, 0));
        assert_eq!(says_with_stale("s-maxage=5"), with_stale(5, 0));
        assert_eq!(says("private, max-age=5"), UpstreamSays::DoNotStore);
        assert_eq!(says("immutable"), UpstreamSays::Nothing);
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
