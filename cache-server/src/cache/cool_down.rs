//! Cool-down: an upstream that is limited or overloaded says when to come back (429 or 503 with
//! `Retry-After`). Until then it is not asked again for the tenant that it said it to.
//!
//! The table is bounded; at the bound the cool-down that was noted longest ago is forgotten, so
//! that the upstream says so once more.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, StatusCode};
use keyspec::TenantScope;

use super::freshness::date;
use super::recent::Recent;
use crate::clock::{Period, Timestamp};

/// Most tenants and upstreams that are remembered.
pub const COUNT_MAX: usize = 10_000;

/// What providers of models say beside `Retry-After`, for waits below a second.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// A tenant at an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limited {
    /// The upstream's identity, as in keys.
    pub upstream: Box<str>,
    /// The tenant.
    pub tenant: TenantScope,
}

/// What an upstream said, and until when it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoolDown {
    /// What it said: 429 or 503.
    pub status: StatusCode,
    /// How long it is not asked.
    pub period: Period,
}

impl CoolDown {
    /// Whether it lasts longer than one that begins now.
    fn is_longer(&self, other: &CoolDown) -> bool {
        self.period.has(other.period.from) && self.period.until > other.period.until
    }
}

/// The cool-downs that are known.
#[derive(Debug)]
pub struct CoolDowns {
    noted: Recent<Limited, CoolDown>,
}

impl Default for CoolDowns {
    fn default() -> CoolDowns {
        CoolDowns { noted: Recent::new(COUNT_MAX) }
    }
}

impl CoolDowns {
    /// Whether there are none at all, which is the rule and costs next to nothing to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// Notes one. Of two that hold, the one that ends later stays: an answer that took its time
    /// must not end what a younger one began.
    pub fn note(&self, limited: Limited, cool_down: CoolDown) {
        self.noted.note(limited, |before| match before {
            Some(before) if before.is_longer(&cool_down) => before,
            _ => cool_down,
        });
    }

    /// The one that holds at `now`. One that is over is forgotten.
    #[must_use]
    pub fn of(&self, limited: &Limited, now: Timestamp) -> Option<CoolDown> {
        let noted = self.noted.get(limited)?;
        if noted.period.has(now) {
            return Some(noted);
        }
        self.noted.forget_if(limited, |noted| !noted.period.has(now));
        None
    }
}

/// The cool-down that an answer begins, at most `longest`: 429 and 503 that say when to come back
/// (RFC 6585 section 4, RFC 9110 sections 15.6.4 and 10.2.3).
#[must_use]
pub fn begun_by(
    status: StatusCode,
    fields: &HeaderMap,
    now: Timestamp,
    longest: Duration,
) -> Option<CoolDown> {
    let says = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let wait = if says { retry_after(fields, now)?.min(longest) } else { Duration::ZERO };
    (!wait.is_zero()).then(|| CoolDown { status, period: Period::of(now, wait) })
}

/// When to come back: seconds or a date; or milliseconds, which are the more exact.
fn retry_after(fields: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let number = |name: &HeaderName| {
        let text = fields.get(name)?.to_str().ok()?.trim();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // What is too large for a number is long all the same.
        is_number.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let by_date = || {
        let date = date::parse(fields.get(RETRY_AFTER)?.as_bytes().trim_ascii(), now)?;
        // By the upstream's own clock, where it shows one.
        Some(date.since(date::date(fields, now)))
    };
    let milliseconds = number(&RETRY_AFTER_MS).map(Duration::from_millis);
    milliseconds.or_else(|| number(&RETRY_AFTER).map(Duration::from_secs)).or_else(by_date)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const LONGEST: Duration = Duration::from_secs(60);

    fn begun(status: u16, fields: &[(&'static str, &str)]) -> Option<Duration> {
        let fields = fields.iter().map(|(name, value)| {
            (HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap())
        });
        let status = StatusCode::from_u16(status).unwrap();
        let begun = begun_by(status, &fields.collect(), NOW, LONGEST)?;
        Some(begun.period.until.since(NOW))
    }

    #[test]
    fn it_begins_with_an_answer_that_says_when_to_come_back() {
        let seconds = |count| Some(Duration::from_secs(count));
        assert_eq!(begun(429, &[("retry-after", "7")]), seconds(7));
        assert_eq!(begun(503, &[("retry-after", " 7 ")]), seconds(7));
        assert_eq!(begun(429, &[("retry-after", "Tue, 14 Nov 2023 22:13:50 GMT")]), seconds(30));
        let both = [("retry-after", "1"), ("retry-after-ms", "250")];
        assert_eq!(begun(429, &both), Some(Duration::from_millis(250)));
        let by_its_clock = [
            ("retry-after", "Tue, 14 Nov 2000 22:13:50 GMT"),
            ("date", "Tue, 14 Nov 2000 22:13:40 GMT"),
        ];
        assert_eq!(begun(429, &by_its_clock), seconds(10));
    }

    #[test]
    fn it_begins_with_nothing_else() {
        for said in ["", "soon", "-3", "1.5", "0", "Tue, 14 Nov 2000 22:13:50 GMT"] {
            assert_eq!(begun(429, &[("retry-after", said)]), None, "{said}");
        }
        assert_eq!(begun(429, &[]), None);
        assert_eq!(begun(500, &[("retry-after", "7")]), None);
        assert_eq!(begun(200, &[("retry-after", "7")]), None);
    }

    #[test]
    fn it_lasts_no_longer_than_it_may() {
        for said in ["61", "99999999999999999999999999", "Tue, 14 Nov 2028 22:13:50 GMT"] {
            assert_eq!(begun(503, &[("retry-after", said)]), Some(LONGEST), "{said}");
        }
    }

    fn limited(tenant: u8) -> Limited {
        Limited { upstream: "u".into(), tenant: TenantScope::Credential([tenant; 32]) }
    }

    #[test]
    fn it_holds_for_one_tenant_at_one_upstream_until_its_end() {
        let cool_downs = CoolDowns::default();
        let until = |wait_ms| CoolDown {
            status: StatusCode::TOO_MANY_REQUESTS,
            period: Period::of(NOW, Duration::from_millis(wait_ms)),
        };
        cool_downs.note(limited(1), until(5));
        cool_downs.note(limited(1), until(3));
        assert_eq!(cool_downs.of(&limited(1), NOW), Some(until(5)), "the longer one stays");
        let elsewhere = Limited { upstream: "other".into(), ..limited(1) };
        assert_eq!(cool_downs.of(&elsewhere, NOW), None);
        assert_eq!(cool_downs.of(&limited(2), NOW), None);
        let set_back = NOW.minus(Duration::from_millis(1));
        assert_eq!(cool_downs.of(&limited(1), set_back), None, "it would last longer");
        cool_downs.note(limited(1), until(5));
        assert_eq!(cool_downs.of(&limited(1), until(5).period.until), None);
        assert!(cool_downs.is_empty(), "what is over is forgotten");
    }
}
