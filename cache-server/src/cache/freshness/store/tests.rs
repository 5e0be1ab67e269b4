//! Tests of storing.

use http::header::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

/// Sun, 06 Nov 1994 08:49:37 GMT.
const ANSWERED: Timestamp = Timestamp(784_111_777_000);
const DATE: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
const TAG: (&str, &str) = ("etag", "\"a\"");

const OBEYING: HttpPolicy = HttpPolicy {
    obey_upstream: true,
    lifetime: None,
    heuristic: None,
    negative: Negative::AS_SAID,
};

const SECOND: Duration = Duration::from_secs(1);

fn negative(longest: Duration) -> Negative {
    Negative { lifetime: longest, longest, ..Negative::AS_SAID }
}

/// An exchange as the tests tell of it.
struct Told {
    method: Method,
    status: u16,
    has_authorization: bool,
    request: RequestDirectives,
    fields: HeaderMap,
    took: Duration,
}

fn told(lines: &[(&'static str, &str)]) -> Told {
    let fields = lines.iter().map(|(name, value)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    });
    Told {
        method: Method::GET,
        status: 200,
        has_authorization: false,
        request: RequestDirectives::default(),
        fields: fields.collect(),
        took: Duration::ZERO,
    }
}

fn says(cache_control: &str) -> Told {
    told(&[("cache-control", cache_control)])
}

impl Told {
    fn status(self, status: u16) -> Told {
        Told { status, ..self }
    }

    fn with(mut self, (name, value): (&'static str, &'static str)) -> Told {
        self.fields.append(name, HeaderValue::from_static(value));
        self
    }

    fn by(&self, policy: &HttpPolicy) -> Result<Storing, NotStored> {
        let exchange = Exchange {
            method: &self.method,
            request: &self.request,
            has_authorization: self.has_authorization,
            status: StatusCode::from_u16(self.status).unwrap(),
            fields: &self.fields,
            asked: ANSWERED.minus(self.took),
            answered: ANSWERED,
        };
        storing(&exchange, policy)
    }

    fn obeyed(&self) -> Result<Storing, NotStored> {
        self.by(&OBEYING)
    }

    /// For how many seconds it is fresh.
    fn fresh_s(&self) -> Result<u64, NotStored> {
        self.obeyed().map(|storing| storing.ends.fresh.since(ANSWERED).as_secs())
    }
}

// RFC 9111 section 3.
#[test]
fn only_what_get_and_head_get_is_stored() {
    for (method, expected) in [
        (Method::GET, Ok(5)),
        (Method::HEAD, Ok(5)),
        (Method::POST, Err(NotStored::Method)),
        (Method::PUT, Err(NotStored::Method)),
        (Method::OPTIONS, Err(NotStored::Method)),
    ] {
        assert_eq!(Told { method, ..says("max-age=5") }.fresh_s(), expected);
    }
}

// RFC 9111 sections 3 and 3.3, and the reasons of ours.
#[test]
fn answers_about_one_request_and_failures_are_never_stored() {
    for status in [
        100, 103, 206, 304, 400, 401, 405, 407, 408, 411, 412, 413, 415, 416, 417, 421, 425, 426,
        428, 429, 431, 500, 502, 503, 504, 511,
    ] {
        let exchange = says("public, max-age=5").status(status);
        assert_eq!(exchange.obeyed(), Err(NotStored::Status), "{status}");
        let policy = HttpPolicy { lifetime: Some(Lifetime::fresh_for(SECOND)), ..OBEYING };
        assert_eq!(exchange.by(&policy), Err(NotStored::Status), "{status}");
    }
    for status in [200, 203, 204, 299, 301, 302, 307, 403, 404, 410, 414, 501, 599] {
        assert_eq!(says("max-age=5").status(status).fresh_s(), Ok(5), "{status}");
    }
}

// RFC 9111 sections 5.2.1.5, 5.2.2.5 and 5.2.2.7.
#[test]
fn what_either_side_forbids_is_not_stored() {
    let request = RequestDirectives { no_store: true, ..RequestDirectives::default() };
    let forbidden = Told { request, ..says("max-age=5") };
    assert_eq!(forbidden.obeyed(), Err(NotStored::RequestNoStore));
    assert_eq!(says("max-age=5, no-store").obeyed(), Err(NotStored::NoStore));
    assert_eq!(says("max-age=5, private").obeyed(), Err(NotStored::Private));
    assert_eq!(says("max-age=5, private=\"x\"").fresh_s(), Ok(5), "but for that field");
}

// RFC 9111 section 5.2.2.3.
#[test]
fn must_understand_stands_in_for_no_store_where_the_status_is_understood() {
    let exchange = || says("must-understand, no-store, max-age=5");
    assert_eq!(exchange().fresh_s(), Ok(5));
    assert_eq!(exchange().status(302).fresh_s(), Ok(5));
    assert_eq!(exchange().status(299).obeyed(), Err(NotStored::Status));
    assert_eq!(says("must-understand, max-age=5").status(403).obeyed(), Err(NotStored::Status));
}

// RFC 9111 section 3.5.
#[test]
fn an_answer_to_authorization_needs_a_permission() {
    let authorized = |line: &str| Told { has_authorization: true, ..says(line) };
    assert_eq!(authorized("max-age=5").obeyed(), Err(NotStored::Authorization));
    assert_eq!(authorized("max-age=5, proxy-revalidate").obeyed(), Err(NotStored::Authorization));
    for permits in ["public", "s-maxage=5", "must-revalidate"] {
        assert_eq!(authorized(&format!("max-age=5, {permits}")).fresh_s(), Ok(5), "{permits}");
    }
    let operators =
        HttpPolicy { obey_upstream: false, lifetime: Some(Lifetime::fresh_for(SECOND)), ..OBEYING };
    assert_eq!(authorized("no-cache").by(&operators), Err(NotStored::Authorization));
    assert!(authorized("public, no-cache").by(&operators).is_ok());
}

#[test]
fn an_answer_with_a_cookie_is_stored_only_if_it_is_public() {
    let cookie = ("set-cookie", "a=b");
    for line in ["max-age=5", "s-maxage=5", "max-age=5, immutable"] {
        assert_eq!(says(line).with(cookie).obeyed(), Err(NotStored::SetCookie), "{line}");
    }
    assert_eq!(says("max-age=5, public").with(cookie).fresh_s(), Ok(5));
}

// RFC 9111 section 4.1.
#[test]
fn an_answer_that_no_request_can_be_known_to_choose_is_not_stored() {
    let varying = |vary: &str| told(&[("cache-control", "max-age=5"), ("vary", vary)]);
    assert_eq!(varying("accept, *").obeyed(), Err(NotStored::VaryAny));
    let many: Vec<_> = (0..=vary::NAMES_MAX).map(|number| format!("n{number}")).collect();
    assert_eq!(varying(&many.join(",")).obeyed(), Err(NotStored::VaryTooMany));
    assert_eq!(varying("accept").fresh_s(), Ok(5));
}

// RFC 9111 section 4.2.1.
#[test]
fn the_first_lifetime_that_is_said_counts() {
    let later = ("expires", "Sun, 06 Nov 1994 08:49:47 GMT");
    assert_eq!(says("s-maxage=7, max-age=5").with(later).fresh_s(), Ok(7));
    assert_eq!(says("max-age=5").with(later).fresh_s(), Ok(5));
    assert_eq!(told(&[later, DATE]).fresh_s(), Ok(10));
    assert_eq!(told(&[later]).fresh_s(), Ok(10), "from when it came");
    assert_eq!(told(&[]).obeyed(), Err(NotStored::NoLifetime));
    assert_eq!(told(&[("expires", "0")]).obeyed(), Err(NotStored::Expired));
    assert_eq!(told(&[later, later]).obeyed(), Err(NotStored::Expired));
    assert_eq!(says("max-age=x").with(later).obeyed(), Err(NotStored::Expired));
    assert_eq!(says("public").obeyed(), Err(NotStored::NoLifetime));
}

// RFC 9111 section 5.2.2.4.
#[test]
fn no_cache_is_stored_only_to_be_validated() {
    assert_eq!(says("no-cache, max-age=5").obeyed(), Err(NotStored::NoCache));
    let line = "no-cache, max-age=5, stale-if-error=9, stale-while-revalidate=9";
    let storing = says(line).with(TAG).obeyed().unwrap();
    let kept = Lifetime::fresh_for(Duration::ZERO);
    assert_eq!(storing.ends, Ends::of(ANSWERED, kept).kept_beyond(KEPT_TO_VALIDATE));
    assert_eq!(storing.ends.fresh, storing.generated);
    assert!(storing.must_revalidate);
    // RFC 9111 section 3: not even then, if the status alone does not allow it.
    assert_eq!(says("no-cache").status(307).with(TAG).obeyed(), Err(NotStored::NoLifetime));
    assert!(says("no-cache, public").status(307).with(TAG).obeyed().is_ok());
    let qualified = says("no-cache=\"x\", max-age=5").obeyed().unwrap();
    assert!(!qualified.must_revalidate && qualified.ends.fresh == ANSWERED.plus(5 * SECOND));
}

// RFC 9111 sections 4 and 5.2.2.4.
#[test]
fn what_is_to_be_validated_before_each_use_answers_nobody_else() {
    let answers_others = |line: &str, age: &'static str| {
        let storing = says(line).with(TAG).with(("age", age)).obeyed().unwrap();
        storing.answers_others(ANSWERED)
    };
    assert!(answers_others("max-age=5", "4"));
    assert!(answers_others("max-age=0, stale-while-revalidate=5", "0"));
    assert!(!answers_others("no-cache, max-age=5, stale-while-revalidate=5", "0"));
    assert!(!answers_others("max-age=0", "0"));
    assert!(!answers_others("max-age=5", "5"), "it was stale when it came");
    assert!(!answers_others("max-age=0, must-revalidate, stale-while-revalidate=5", "0"));
}

// RFC 5861, RFC 9111 sections 5.2.2.2, 5.2.2.8 and 5.2.2.10.
#[test]
fn stale_windows_are_the_upstreams_and_never_against_revalidation() {
    const WINDOWS: &str = "stale-while-revalidate=3, stale-if-error=4";
    let ends = |line: &str| says(&format!("{line}, {WINDOWS}")).obeyed().unwrap();
    let fresh = ANSWERED.plus(5 * SECOND);
    let allowed = ends("max-age=5");
    assert_eq!(allowed.ends.stale_while_revalidate, fresh.plus(3 * SECOND));
    assert_eq!(allowed.ends.stale_if_error, fresh.plus(4 * SECOND));
    assert!(!allowed.must_revalidate);
    for line in ["max-age=5, must-revalidate", "max-age=5, proxy-revalidate", "s-maxage=5"] {
        let bound = ends(line);
        assert_eq!(bound.ends, Ends::of(ANSWERED, Lifetime::fresh_for(5 * SECOND)), "{line}");
        assert!(bound.must_revalidate, "{line}");
    }
    assert!(says("max-age=0, stale-while-revalidate=3").obeyed().is_ok(), "it is of some use");
}

#[test]
fn an_entry_with_a_validator_is_kept_to_be_validated() {
    let changed = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    for validator in [TAG, changed] {
        let storing = says("max-age=0").with(validator).obeyed().unwrap();
        assert_eq!(storing.ends.validate, ANSWERED.plus(KEPT_TO_VALIDATE));
        assert_eq!(storing.ends.stale_if_error, ANSWERED);
    }
    assert_eq!(says("max-age=0").obeyed(), Err(NotStored::Expired));
}

#[test]
fn an_entry_without_a_validator_is_kept_a_while_for_who_takes_it_stale() {
    let kept = |line: &str| says(line).obeyed().unwrap().ends.validate;
    let fresh_end = ANSWERED.plus(5 * SECOND);
    assert_eq!(kept("max-age=5, stale-if-error=4"), fresh_end.plus(KEPT_FOR_WHO_TAKES_IT_STALE));
    assert_eq!(kept("max-age=5, stale-if-error=900"), fresh_end.plus(900 * SECOND));
    for line in ["max-age=5, must-revalidate", "s-maxage=5", "max-age=5, proxy-revalidate"] {
        assert_eq!(kept(line), fresh_end, "{line}");
    }
}

// RFC 9111 section 4.2.2.
#[test]
fn a_lifetime_is_guessed_only_where_that_is_on_and_the_status_allows_it() {
    let cap = Duration::from_secs(50);
    let guessing = HttpPolicy { heuristic: Some(Heuristic { share_percent: 10, cap }), ..OBEYING };
    let changed = |ago_s: u64| {
        let at = httpdate::fmt_http_date(
            std::time::UNIX_EPOCH + Duration::from_secs(ANSWERED.0 / 1000 - ago_s),
        );
        told(&[DATE, ("last-modified", &at)])
    };
    let fresh_s = |exchange: &Told| {
        let storing = exchange.by(&guessing)?;
        Ok(storing.ends.fresh.since(ANSWERED).as_secs())
    };
    assert_eq!(fresh_s(&changed(100)), Ok(10));
    assert_eq!(fresh_s(&changed(100_000)), Ok(50), "no longer than the cap");
    assert_eq!(changed(100).obeyed(), Err(NotStored::NoLifetime), "off by default");
    assert_eq!(fresh_s(&changed(100).status(302)), Err(NotStored::NoLifetime));
    let public = changed(100).status(302).with(("cache-control", "public"));
    assert_eq!(fresh_s(&public), Ok(10));
    assert_eq!(fresh_s(&changed(100).with(("cache-control", "max-age=3"))), Ok(3));
    assert_eq!(fresh_s(&told(&[DATE])), Err(NotStored::NoLifetime));
}

#[test]
fn what_is_not_found_is_remembered_for_as_long_as_the_operator_says() {
    let brief = HttpPolicy { negative: negative(3 * SECOND), ..OBEYING };
    for status in [404, 410] {
        let last_s = |line: &str, policy: &HttpPolicy| {
            let storing = says(line).status(status).with(TAG).by(policy)?;
            assert!(storing.negative, "{status} {line}");
            Ok(storing.ends.last().since(ANSWERED).as_secs())
        };
        assert_eq!(last_s("", &OBEYING), Err(NotStored::NoLifetime));
        assert_eq!(last_s("", &brief), Ok(3));
        assert_eq!(last_s("max-age=2", &brief), Ok(3), "fresh for 2, then to be validated");
        assert_eq!(last_s("max-age=9, stale-if-error=9", &brief), Ok(3));
        assert_eq!(last_s("no-store", &brief), Err(NotStored::NoStore));
        let obeyed = says("max-age=9").status(status).obeyed().unwrap();
        assert!(obeyed.negative && obeyed.ends.last() == ANSWERED.plus(9 * SECOND));
        let ours = HttpPolicy { obey_upstream: false, ..brief };
        assert_eq!(last_s("max-age=9", &ours), Ok(3));
    }
    assert!(!says("max-age=5").by(&brief).unwrap().negative);
}

#[test]
fn an_operators_lifetime_stands_in_for_an_upstream_that_is_not_obeyed_or_says_nothing() {
    let lifetime = Lifetime {
        fresh: 7 * SECOND,
        stale_while_revalidate: 2 * SECOND,
        stale_if_error: 3 * SECOND,
    };
    let silent = HttpPolicy { lifetime: Some(lifetime), ..OBEYING };
    let deaf = HttpPolicy { obey_upstream: false, ..silent };
    let stored = |line, policy| says(line).by(policy).map(|storing| storing.ends);
    let operators = Ok(Ends::of(ANSWERED, lifetime));
    for line in ["no-store", "private", "no-cache", "max-age=0", "s-maxage=5, must-revalidate", ""]
    {
        assert_eq!(stored(line, &deaf), operators, "{line}");
        assert!(!says(line).by(&deaf).unwrap().must_revalidate);
    }
    let kept = operators.map(|ends| ends.kept_beyond(KEPT_FOR_WHO_TAKES_IT_STALE));
    assert_eq!(stored("", &silent), kept);
    assert_eq!(stored("immutable, stale-if-error=9", &silent), kept);
    assert_eq!(stored("no-store", &silent), Err(NotStored::NoStore));
    let said = Ends::of(ANSWERED, Lifetime::fresh_for(5 * SECOND));
    assert_eq!(stored("max-age=5", &silent), Ok(said.kept_beyond(KEPT_FOR_WHO_TAKES_IT_STALE)));
    let strict = Ok(Ends::of(ANSWERED, Lifetime::fresh_for(lifetime.fresh)));
    assert_eq!(stored("must-revalidate", &silent), strict, "that is something said");
    assert_eq!(says("").status(302).by(&deaf), Err(NotStored::Status));
    assert_eq!(says("").status(302).by(&silent), Err(NotStored::NoLifetime));
    let nothing = HttpPolicy { lifetime: None, ..deaf };
    assert_eq!(stored("max-age=5", &nothing), Err(NotStored::NoLifetime));
}

// RFC 9111 section 4.2.3.
#[test]
fn age_is_by_date_or_by_age_and_delay_whichever_is_more() {
    let earlier = ("date", "Sun, 06 Nov 1994 08:49:27 GMT");
    let ahead = ("date", "Sun, 06 Nov 1994 08:59:27 GMT");
    let age = |lines: &[(&'static str, &'static str)], took_ms| {
        let mut exchange = says("max-age=600");
        exchange.took = Duration::from_millis(took_ms);
        let storing = lines.iter().fold(exchange, |told, line| told.with(*line)).obeyed().unwrap();
        (storing.initial_age_s, ANSWERED.since(storing.generated).as_millis())
    };
    assert_eq!(age(&[], 0), (0, 0));
    assert_eq!(age(&[earlier], 0), (10, 10_000));
    assert_eq!(age(&[ahead], 0), (0, 0), "a clock that is ahead makes nothing younger");
    assert_eq!(age(&[("age", "7")], 2500), (9, 9500));
    assert_eq!(age(&[("age", "7"), earlier], 2500), (10, 10_000));
    assert_eq!(age(&[("age", "8"), earlier], 2500), (10, 10_500));
}

#[test]
fn an_answer_that_is_too_old_when_it_comes_is_not_stored() {
    assert_eq!(says("max-age=5").with(("age", "5")).obeyed(), Err(NotStored::Expired));
    assert_eq!(says("max-age=5").with(("age", "4")).fresh_s(), Ok(1));
    assert_eq!(
        says("max-age=2147483648").with(("age", "2147483648")).obeyed(),
        Err(NotStored::Expired)
    );
    assert!(says("max-age=5").with(("age", "5")).with(TAG).obeyed().is_ok());
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    use NotStored::*;
    let all = [
        Method,
        Status,
        RequestNoStore,
        NoStore,
        Private,
        Authorization,
        SetCookie,
        VaryAny,
        VaryTooMany,
        NoCache,
        NoLifetime,
        Expired,
    ];
    let words: std::collections::BTreeSet<_> = all.iter().map(|reason| reason.code()).collect();
    assert_eq!(words.len(), all.len());
}

// RFC 9213 section 2.2.
#[test]
fn a_targeted_lifetime_goes_before_every_other() {
    const CDN: &str = "cdn-cache-control";
    let past = ("expires", "Sun, 06 Nov 1994 08:49:36 GMT");
    let later = ("expires", "Sun, 06 Nov 1994 09:49:37 GMT");
    let fresh = |told: Told| told.obeyed().map(|storing| storing.ends.fresh.since(ANSWERED));
    let beside = |targeted, other| fresh(told(&[DATE, (CDN, targeted), other]));
    assert_eq!(beside("max-age=60", past), Ok(60 * SECOND));
    assert_eq!(beside("max-age=60", ("cache-control", "no-store, private")), Ok(60 * SECOND));
    assert_eq!(beside("max-age=0", later), Err(NotStored::Expired));
    assert_eq!(beside("none", later), Err(NotStored::NoLifetime));
    assert_eq!(beside("no-store", ("cache-control", "max-age=60")), Err(NotStored::NoStore));
    assert_eq!(beside("private", ("cache-control", "max-age=60")), Err(NotStored::Private));
    assert_eq!(beside("max-age=60", ("age", "61")), Err(NotStored::Expired));
    assert_eq!(beside("&&&", later), Ok(3600 * SECOND), "what is invalid is not there");
    let wrong_type = beside("max-age=\"10000\"", ("cache-control", "no-store"));
    assert_eq!(wrong_type, Err(NotStored::Expired));
}

// RFC 9111 section 3.5, RFC 9213 section 2.2.
#[test]
fn the_field_that_decides_gives_the_permission_too() {
    let asked = |targeted, cache_control| {
        let lines = [("cdn-cache-control", targeted), ("cache-control", cache_control)];
        Told { has_authorization: true, ..told(&lines) }.obeyed().map(|_| ())
    };
    assert_eq!(asked("max-age=60", "public"), Err(NotStored::Authorization));
    assert_eq!(asked("max-age=60, public", "max-age=60"), Ok(()));
    assert_eq!(asked("max-age=60, must-revalidate", "max-age=60"), Ok(()));
    let in_doubt = asked("max-age=60, must-revalidate=5", "max-age=60");
    assert_eq!(in_doubt, Err(NotStored::Authorization));
    let cookie = ("set-cookie", "a=b");
    let sets = |targeted| told(&[("cdn-cache-control", targeted), cookie]).obeyed().map(|_| ());
    assert_eq!(sets("max-age=60"), Err(NotStored::SetCookie));
    assert_eq!(sets("max-age=60, public"), Ok(()));
}

proptest! {
    #[test]
    fn what_is_stored_is_of_use_and_no_younger_than_it_says(
        max_age in 0..100_u64, age in 0..100_u64, date_s in -100_i64..100, took_ms in 0..60_000_u64,
        is_kept in any::<bool>(),
    ) {
        let date_at = ANSWERED.0.checked_add_signed(date_s * 1000).unwrap();
        let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_millis(date_at));
        let (max_age, age_field) = (format!("max-age={max_age}"), age.to_string());
        let mut lines = vec![("cache-control", &*max_age), ("age", &*age_field), ("date", &*date)];
        if is_kept {
            lines.push(TAG);
        }
        let exchange = Told { took: Duration::from_millis(took_ms), ..told(&lines) };
        match exchange.obeyed() {
            Err(reason) => prop_assert!(reason == NotStored::Expired && !is_kept),
            Ok(storing) => {
                prop_assert!(storing.ends.last() > ANSWERED);
                prop_assert!(storing.generated <= ANSWERED);
                prop_assert!(u64::from(storing.initial_age_s) >= age);
                prop_assert!(i64::from(storing.initial_age_s) >= -date_s);
                let held_ms = ANSWERED.since(storing.generated).as_millis();
                prop_assert_eq!(u128::from(storing.initial_age_s), held_ms / 1000);
                prop_assert!(held_ms >= u128::from(took_ms));
            }
        }
    }

    #[test]
    fn hostile_fields_never_panic(
        lines in proptest::collection::vec((0..9_usize, proptest::collection::vec(any::<u8>(), 0..50)), 0..8),
        status in 100..1000_u16, asked in any::<u64>(), answered in any::<u64>(),
    ) {
        const NAMES: [&str; 9] = [
            "cache-control", "age", "date", "expires", "last-modified", "vary", "etag", "set-cookie",
            "cdn-cache-control",
        ];
        let fields: HeaderMap = lines.iter().filter_map(|(name, value)| {
            let value = HeaderValue::from_bytes(value).ok()?;
            Some((HeaderName::from_static(NAMES[*name]), value))
        }).collect();
        let exchange = Exchange {
            method: &Method::GET,
            request: &RequestDirectives::default(),
            has_authorization: false,
            status: StatusCode::from_u16(status).unwrap(),
            fields: &fields,
            asked: Timestamp(asked),
            answered: Timestamp(answered),
        };
        let heuristic = Some(Heuristic { share_percent: u32::MAX, cap: Duration::MAX });
        let _ = storing(&exchange, &HttpPolicy { heuristic, negative: negative(SECOND), ..OBEYING });
    }
}
