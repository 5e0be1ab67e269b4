//! Tests of reading `Cache-Control`.

use proptest::prelude::*;

use super::*;

fn lines(name: &HeaderName, lines: &[&str]) -> HeaderMap {
    let values = lines.iter().map(|line| (name.clone(), HeaderValue::from_str(line).unwrap()));
    values.collect()
}

fn request(line: &str) -> RequestDirectives {
    RequestDirectives::parse(&lines(&CACHE_CONTROL, &[line]))
}

fn response(line: &str) -> ResponseDirectives {
    responses(&[line])
}

fn responses(all: &[&str]) -> ResponseDirectives {
    ResponseDirectives::parse(&lines(&CACHE_CONTROL, all))
}

#[expect(clippy::unnecessary_wraps, reason = "what it is compared with is optional")]
fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn fields(names: &[&'static str]) -> Reach {
    Reach::Fields(names.iter().map(|name| HeaderName::from_static(name)).collect())
}

// RFC 9111 section 5.2.1.
#[test]
fn request_directives_are_found_in_any_case_and_among_others() {
    let found = request("max-age=3, No-Cache , only-if-cached,, MIN-FRESH=\"4\",x=\"a, no-store\"");
    let expected = RequestDirectives {
        no_cache: true,
        only_if_cached: true,
        max_age: seconds(3),
        min_fresh: seconds(4),
        ..RequestDirectives::default()
    };
    assert_eq!(found, expected);
    assert_eq!(request("stale-if-error=5").stale_if_error, seconds(5));
    assert!(request("no-store").no_store);
}

// RFC 9111 section 5.2.1.2.
#[test]
fn max_stale_is_bounded_only_by_a_number() {
    assert_eq!(request("max-stale").max_stale, Some(Duration::MAX));
    assert_eq!(request("max-stale=60").max_stale, seconds(60));
    assert_eq!(request("max-stale, max-stale=60").max_stale, seconds(60));
    for malformed in ["max-stale=", "max-stale=x", "max-stale=-1", "max-stale =5", "max-stale x"] {
        assert_eq!(request(malformed).max_stale, None, "{malformed}");
    }
}

// RFC 9111 section 5.4.
#[test]
fn pragma_counts_in_a_request_without_cache_control_alone() {
    let pragma = |value| lines(&PRAGMA, &[value]);
    assert!(RequestDirectives::parse(&pragma("x, No-Cache")).no_cache);
    assert!(!RequestDirectives::parse(&pragma("x")).no_cache);
    let mut both = pragma("no-cache");
    both.append(CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
    assert!(!RequestDirectives::parse(&both).no_cache);
    let answer = ResponseDirectives::parse(&pragma("no-cache"));
    assert_eq!(answer, ResponseDirectives::default(), "it says nothing in an answer");
}

// RFC 9111 section 5.2.2.
#[test]
fn response_directives_are_read_over_all_lines() {
    let found = responses(&[
        "public, s-maxage=7,max-age=5",
        "must-revalidate, proxy-revalidate, must-understand, no-transform, immutable",
        "stale-while-revalidate=3, stale-if-error=4",
    ]);
    let expected = ResponseDirectives {
        max_age: seconds(5),
        s_maxage: seconds(7),
        stale_while_revalidate: seconds(3),
        stale_if_error: seconds(4),
        public: true,
        must_revalidate: true,
        proxy_revalidate: true,
        must_understand: true,
        ..ResponseDirectives::default()
    };
    assert_eq!(found, expected);
}

// RFC 9111 sections 5.2.2.4 and 5.2.2.7.
#[test]
fn only_a_list_of_names_in_quotes_narrows_no_cache_and_private() {
    assert_eq!(response("private=\"X-A, set-cookie\"").private, fields(&["x-a", "set-cookie"]));
    assert_eq!(response("no-cache=\" ,x\\-a,\"").no_cache, fields(&["x-a"]));
    let joined = responses(&["private=\"a\"", "private=\"b\""]);
    assert_eq!(joined.private, fields(&["a", "b"]));
    for whole in [
        "private",
        "private=",
        "private=x-a",
        "private=\"\"",
        "private=\" , \"",
        "private=\"a b\"",
        "private=\"x-a",
        "private=\"x-a\"junk",
        "private =\"x-a\"",
        "private=\"x-a\", private",
        "private, private=\"x-a\"",
    ] {
        assert_eq!(response(whole).private, Reach::Everything, "{whole}");
    }
}

#[test]
fn more_names_than_are_kept_count_as_the_whole_answer() {
    let list = |count: usize| {
        let names: Vec<_> = (0..count).map(|number| format!("n{number}")).collect();
        format!("private=\"{}\"", names.join(","))
    };
    let names = |reach| match reach {
        Reach::Fields(names) => names.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(names(response(&list(FIELD_NAMES_MAX)).private), FIELD_NAMES_MAX);
    assert_eq!(response(&list(FIELD_NAMES_MAX + 1)).private, Reach::Everything);
    let (most, one) = (list(FIELD_NAMES_MAX), list(1));
    assert_eq!(responses(&[&most, &one]).private, Reach::Everything);
}

// RFC 9111 section 4.2.1.
#[test]
fn of_repeated_directives_the_strictest_counts() {
    assert_eq!(response("max-age=5, max-age=3, max-age=9").max_age, seconds(3));
    assert_eq!(responses(&["s-maxage=5", "s-maxage=x"]).s_maxage, seconds(0));
    assert_eq!(response("stale-if-error=5, stale-if-error=3").stale_if_error, seconds(3));
    assert_eq!(request("max-age=5, max-age=3").max_age, seconds(3));
    assert_eq!(request("min-fresh=5, min-fresh=9, min-fresh=7").min_fresh, seconds(9));
    assert_eq!(request("max-stale=5, max-stale=3").max_stale, seconds(3));
    assert_eq!(request("stale-if-error=5, stale-if-error=3").stale_if_error, seconds(3));
}

// RFC 9111 section 1.2.2.
#[test]
fn seconds_saturate_and_what_is_no_number_is_stale_at_once() {
    assert_eq!(response("max-age=2147483648").max_age, seconds(1 << 31));
    assert_eq!(response("max-age=99999999999999999999999").max_age, seconds(1 << 31));
    assert_eq!(response("max-age=\"007\"").max_age, seconds(7));
    for none in ["", "=", "=-1", "=1.5", "=+1", "=1e3", "=x", "=\"\"", "=\" 5\"", " = 5", "=5 5"] {
        assert_eq!(response(&format!("max-age{none}")).max_age, seconds(0), "{none}");
    }
}

#[test]
fn what_forbids_wins_however_malformed_it_is() {
    for doubtful in [
        "no-store=1",
        "no-store=\"x",
        "no-store x",
        "no-store;max-age=5",
        "max-age=5; no-store",
        "public no-store",
        "x=\"open, no-store",
        "x=\"a, no-store, y=\"b\"",
        "=, no-store",
        "\" no-store",
        "x=\"\\\", no-store",
    ] {
        let found = response(doubtful);
        assert!(found.no_store, "{doubtful}");
        assert!(!found.public, "{doubtful}");
        assert!(request(doubtful).no_store, "{doubtful}");
    }
    assert!(responses(&["x=\"open", "no-store", "y\""]).no_store);
    assert!(response("must-revalidate=1").must_revalidate);
    let bytes = HeaderValue::from_bytes(b"x=\xff\xfe, \xffy, no-store").unwrap();
    assert!(ResponseDirectives::parse(&HeaderMap::from_iter([(CACHE_CONTROL, bytes)])).no_store);
}

#[test]
fn what_allows_is_passed_over_where_it_is_malformed() {
    for malformed in ["public=1", "public x", "x public", "public;", "x y=\"public\""] {
        assert!(!response(malformed).public, "{malformed}");
    }
    assert!(!response("must-understand=1").must_understand);
    assert_eq!(response("x max-age=600").max_age, seconds(0));
    assert!(response("x y, public").public, "the next directive is well again");
}

// RFC 9111 section 5.2.3.
#[test]
fn directives_that_nobody_knows_are_ignored_and_hide_none_that_are_known() {
    for line in
        ["x-new, max-age=5", "max-age=5, x-new=\"a, b\"", "x=1, y=\"\", max-age=5, no-stores"]
    {
        let expected = ResponseDirectives { max_age: seconds(5), ..ResponseDirectives::default() };
        assert_eq!(response(line), expected, "{line}");
        let expected = RequestDirectives { max_age: seconds(5), ..RequestDirectives::default() };
        assert_eq!(request(line), expected, "{line}");
    }
}

#[test]
fn a_string_in_quotes_hides_what_is_in_it() {
    for hidden in ["x=\"no-store\"", "x=\"a, no-store\"", "x=\"\\\", no-store, \\\\\""] {
        assert_eq!(response(hidden), ResponseDirectives::default(), "{hidden}");
    }
}

#[test]
fn more_directives_than_are_looked_at_count_as_no_store() {
    let many = |count: usize| vec!["x"; count].join(",");
    assert!(!response(&many(DIRECTIVES_MAX)).no_store);
    let over = responses(&["must-understand", &many(DIRECTIVES_MAX)]);
    assert!(over.no_store && !over.must_understand);
    assert!(!request(&many(DIRECTIVES_MAX)).no_store);
    assert!(request(&many(DIRECTIVES_MAX + 1)).no_store);
}

/// Writes directives as an upstream would.
fn written(says: &ResponseDirectives) -> String {
    let reach = |name: &str, reach: &Reach| match reach {
        Reach::Nothing => None,
        Reach::Everything => Some(name.to_owned()),
        Reach::Fields(names) => {
            let names: Vec<_> = names.iter().map(HeaderName::as_str).collect();
            Some(format!("{name}=\"{}\"", names.join(", ")))
        }
    };
    let seconds =
        |name: &str, said: Option<Duration>| said.map(|said| format!("{name}={}", said.as_secs()));
    let flag = |name: &str, is_said: bool| is_said.then(|| name.to_owned());
    let all = [
        seconds("max-age", says.max_age),
        seconds("s-maxage", says.s_maxage),
        seconds("stale-while-revalidate", says.stale_while_revalidate),
        seconds("stale-if-error", says.stale_if_error),
        reach("no-cache", &says.no_cache),
        reach("private", &says.private),
        flag("no-store", says.no_store),
        flag("public", says.public),
        flag("must-revalidate", says.must_revalidate),
        flag("proxy-revalidate", says.proxy_revalidate),
        flag("must-understand", says.must_understand),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn any_reach() -> impl Strategy<Value = Reach> {
    let names = proptest::collection::vec("[a-z][a-z-]{0,6}", 1..4);
    let fields = names.prop_map(|names| {
        Reach::Fields(names.iter().map(|name| name.parse().expect("a name")).collect())
    });
    prop_oneof![Just(Reach::Nothing), Just(Reach::Everything), fields]
}

prop_compose! {
    fn any_response()(
        seconds in proptest::array::uniform4(proptest::option::of(0..=DELTA_SECONDS_MAX)),
        no_cache in any_reach(),
        private in any_reach(),
        flags in proptest::array::uniform5(any::<bool>()),
    ) -> ResponseDirectives {
        let [max_age, s_maxage, stale_while_revalidate, stale_if_error] =
            seconds.map(|said| said.map(Duration::from_secs));
        let [no_store, public, must_revalidate, proxy_revalidate, must_understand] = flags;
        ResponseDirectives {
            max_age, s_maxage, stale_while_revalidate, stale_if_error, no_cache, private,
            no_store, public, must_revalidate, proxy_revalidate, must_understand,
            is_targeted: false,
        }
    }
}

proptest! {
    #[test]
    fn directives_that_are_written_are_read_back(says in any_response()) {
        prop_assert_eq!(response(&written(&says)), says);
    }

    #[test]
    fn hostile_bytes_never_panic(all in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..60), 0..4,
    )) {
        let values = all.iter().filter_map(|line| HeaderValue::from_bytes(line).ok());
        let headers: HeaderMap = values.map(|value| (CACHE_CONTROL, value)).collect();
        let _ = RequestDirectives::parse(&headers);
        let _ = ResponseDirectives::parse(&headers);
    }

    #[test]
    fn no_store_between_commas_outside_of_quotes_is_never_lost(
        before in "[a-z=;\\\\ ]{0,12}", after in "[a-z=\";\\\\, ]{0,12}",
    ) {
        let line = format!("{before}, no-store, {after}");
        prop_assert!(response(&line).no_store, "{}", line);
        prop_assert!(request(&line).no_store, "{}", line);
    }
}
