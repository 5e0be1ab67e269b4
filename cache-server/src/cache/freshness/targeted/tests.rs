//! Tests of targeted fields.

use http::HeaderValue;
use http::header::CACHE_CONTROL;
use proptest::prelude::*;

use super::*;

const OURS: &str = "cache-server-cache-control";
const CDN: &str = "cdn-cache-control";

fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let value = |text| HeaderValue::from_str(text).unwrap();
    let lines = lines.iter().map(|(name, text)| (HeaderName::from_static(name), value(text)));
    lines.collect()
}

/// What one targeted field says beside a `Cache-Control` that is not to be listened to.
fn said(text: &str) -> ResponseDirectives {
    let says = deciding(&fields(&[(CDN, text), ("cache-control", "no-store, s-maxage=7")]));
    assert!(says.is_targeted, "{text}");
    says
}

fn is_invalid(text: &str) -> bool {
    !deciding(&fields(&[(CDN, text)])).is_targeted
}

fn of_seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn nothing_said() -> ResponseDirectives {
    ResponseDirectives { is_targeted: true, ..ResponseDirectives::default() }
}

// RFC 9213 section 2.2.
#[test]
fn the_first_field_that_is_valid_and_not_empty_decides_alone() {
    let max_age = |lines: &[(&'static str, &str)]| {
        let says = deciding(&fields(lines));
        (says.max_age, says.no_store, says.is_targeted)
    };
    let cache_control = ("cache-control", "no-store, max-age=1");
    let (ours, cdn) = ((OURS, "max-age=3"), (CDN, "max-age=2"));
    assert_eq!(max_age(&[cache_control, cdn, ours]), (of_seconds(3), false, true));
    assert_eq!(max_age(&[cache_control, cdn]), (of_seconds(2), false, true));
    for invalid in ["", " ", "max-age=3,", "max-age =3", "Max-Age=3", "&&&"] {
        let said = max_age(&[cache_control, (OURS, invalid), cdn]);
        assert_eq!(said, (of_seconds(2), false, true), "{invalid:?}");
    }
    assert_eq!(max_age(&[cache_control, (OURS, "max-age"), cdn]).0, of_seconds(0), "it is valid");
    assert_eq!(max_age(&[cache_control, (CDN, "&&&")]), (of_seconds(1), true, false));
    assert_eq!(max_age(&[cache_control, (CDN, "none")]), (None, false, true));
    assert!(!max_age(&[cache_control, ("other-cache-control", "max-age=9")]).2, "not for us");
}

// RFC 9213 section 2.2.
#[test]
fn a_targeted_field_has_the_directives_of_cache_control() {
    let says = said(
        "max-age=1, s-maxage=2, stale-while-revalidate=3, stale-if-error=4, no-store, no-cache, \
         private, public, must-revalidate, proxy-revalidate, must-understand, no-transform, \
         immutable, unheard-of=(1 2)",
    );
    let expected = ResponseDirectives {
        max_age: of_seconds(1),
        s_maxage: of_seconds(2),
        stale_while_revalidate: of_seconds(3),
        stale_if_error: of_seconds(4),
        no_cache: Reach::Everything,
        private: Reach::Everything,
        no_store: true,
        public: true,
        must_revalidate: true,
        proxy_revalidate: true,
        must_understand: true,
        is_targeted: true,
    };
    assert_eq!(says, expected);
    let names = |list: &[&'static str]| {
        Reach::Fields(list.iter().map(|name| HeaderName::from_static(name)).collect())
    };
    let says = said("no-cache=\"X-One, x-two\", private=\"set-cookie\"");
    assert_eq!((says.no_cache, says.private), (names(&["x-one", "x-two"]), names(&["set-cookie"])));
}

// RFC 9213 section 2.1: parameters are ignored. RFC 9651 section 3.2: of one name the last counts.
#[test]
fn parameters_mean_nothing_and_the_last_of_one_name_counts() {
    assert_eq!(said("max-age=5;x=1;no-store").max_age, of_seconds(5));
    assert!(said("no-store;x").no_store);
    assert_eq!(said("max-age=5, max-age=9").max_age, of_seconds(9));
}

// RFC 9651 section 4.2.
#[test]
fn several_lines_are_one_value() {
    let says = deciding(&fields(&[(CDN, "max-age=5"), (CDN, "no-cache=\"x"), (CDN, "y\"")]));
    let names = ["x", "y"].map(HeaderName::from_static);
    assert_eq!(
        says,
        ResponseDirectives {
            max_age: of_seconds(5),
            no_cache: Reach::Fields(names.to_vec()),
            ..nothing_said()
        }
    );
    let broken = deciding(&fields(&[(CDN, "max-age=5"), (CDN, "&&&")]));
    assert!(!broken.is_targeted, "one line that cannot be read spoils all");
}

// RFC 9213 section 2.1: values that are not of the type of their directive are not to be consumed.
#[test]
fn a_value_of_a_wrong_type_is_taken_in_the_way_that_forbids() {
    for text in ["\"10\"", "1.5", "ten", "?1", "(10)", "?0", ":MTA=:", "-5", "@10"] {
        for name in ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"] {
            let says = said(&format!("{name}={text}"));
            let lifetimes =
                [says.max_age, says.s_maxage, says.stale_while_revalidate, says.stale_if_error];
            let said: Vec<_> = lifetimes.into_iter().flatten().collect();
            assert_eq!(said, [Duration::ZERO], "{name}={text}");
        }
    }
    for text in ["5", "?0", "\"\"", "(1)", "no"] {
        let forbids = format!("no-store={text}, no-cache={text}, private={text}");
        let expected = ResponseDirectives {
            no_store: true,
            no_cache: Reach::Everything,
            private: Reach::Everything,
            ..nothing_said()
        };
        assert_eq!(said(&forbids), expected, "{text}");
        let permits = format!("public={text}, must-understand={text}");
        assert_eq!(said(&permits), nothing_said(), "{text}");
        let says = said(&format!("must-revalidate={text}"));
        assert_eq!((says.must_revalidate, says.proxy_revalidate), (false, true), "{text}");
    }
}

#[test]
fn a_number_saturates() {
    let largest = of_seconds(DELTA_SECONDS_MAX);
    assert_eq!(said("max-age=2147483648").max_age, largest);
    assert_eq!(said("max-age=999999999999999").max_age, largest);
    assert!(is_invalid("max-age=1000000000000000"), "sixteen digits are no Integer");
}

#[test]
fn a_field_beyond_its_bounds_is_as_if_it_were_not_there() {
    let members = |count: usize| {
        let all: Vec<_> = (0..count).map(|index| format!("x{index}")).collect();
        all.join(", ")
    };
    assert!(!is_invalid(&members(MEMBERS_MAX)));
    assert!(is_invalid(&members(MEMBERS_MAX + 1)));
    let long = |bytes: usize| format!("x=\"{}\"", "a".repeat(bytes - 4));
    assert!(!is_invalid(&long(VALUE_BYTES_MAX)));
    assert!(is_invalid(&long(VALUE_BYTES_MAX + 1)));
}

proptest! {
    // RFC 9213 section 2.2.
    #[test]
    fn a_valid_targeted_field_decides_whatever_cache_control_says(
        name in prop_oneof![Just(OURS), Just(CDN)],
        members in proptest::collection::vec(
            "(max-age|s-maxage|stale-if-error|no-store|no-cache|private|public|x)(=[0-9]{1,15})?(;a)?",
            1..6,
        ),
        cache_control in "[ -~]{0,60}",
    ) {
        let targeted = members.join(", ");
        let alone = deciding(&fields(&[(name, &targeted)]));
        let beside = deciding(&fields(&[("cache-control", &cache_control), (name, &targeted)]));
        prop_assert!(alone.is_targeted);
        prop_assert_eq!(alone, beside);
    }

    // RFC 9213 section 2.1.
    #[test]
    fn an_invalid_targeted_field_changes_nothing(
        name in prop_oneof![Just(OURS), Just(CDN)],
        before in "(max-age=[0-9]{1,5}, )?", fault in "(&|=|,|A|\"|max-age =1|a b|\\(|\u{e9})",
        cache_control in "[ -~]{0,60}",
    ) {
        let with = fields(&[("cache-control", &cache_control), (name, &format!("{before}{fault}"))]);
        let without = fields(&[("cache-control", &cache_control)]);
        prop_assert_eq!(deciding(&with), ResponseDirectives::parse(&without));
    }

    #[test]
    fn hostile_bytes_never_panic(
        ours in proptest::collection::vec(any::<u8>(), 0..80),
        cdn in "[a-z\"=;,().?0-9@:% -]{0,80}",
    ) {
        let mut all = fields(&[(CDN, &cdn)]);
        if let Ok(value) = HeaderValue::from_bytes(&ours) {
            all.insert(CACHE_SERVER_CACHE_CONTROL, value.clone());
            all.insert(CACHE_CONTROL, value);
        }
        let _ = deciding(&all);
    }
}
