//! What a route emits, onto fields as upstreams send them.

use super::*;
use http::header::{CONTENT_TYPE, ETAG};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(784_111_777_000);
const AT_NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const MINUTE: Duration = Duration::from_secs(60);

fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(*name, HeaderValue::from_str(value).unwrap());
    }
    fields
}

fn emission(cdn_fields: &[CdnField]) -> Emission {
    let cdn =
        Lifetime { fresh: 60 * MINUTE, stale_while_revalidate: MINUTE, stale_if_error: 2 * MINUTE };
    let lifetimes = Lifetimes {
        browser: Lifetime::fresh_for(MINUTE),
        cdn: Some(Cdn { lifetime: cdn, fields: cdn_fields.into() }),
    };
    Emission { lifetimes: Some(lifetimes), ..Emission::default() }
}

const FRESH: Kept<'_> =
    Kept { is_fresh: true, must_revalidate: false, negative_for: None, tags: &[] };

fn out(emission: &Emission, kept: Option<Kept<'_>>, lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut fields = fields(lines);
    emission.put_onto(&mut fields, true, kept, NOW);
    fields
}

/// The same of an answer that is not for all.
fn out_of_a_tenants(
    emission: &Emission,
    kept: Option<Kept<'_>>,
    lines: &[(&'static str, &str)],
) -> HeaderMap {
    let mut fields = fields(lines);
    emission.put_onto(&mut fields, false, kept, NOW);
    fields
}

const OF_UPSTREAM: &[(&str, &str)] = &[
    ("age", "500"),
    ("cache-control", "max-age=600, s-maxage=900, public"),
    ("cdn-cache-control", "max-age=9"),
    ("content-type", "a/b"),
    ("date", "Sun, 06 Nov 1994 08:00:00 GMT"),
    ("etag", "\"v\""),
    ("expires", AT_NOW),
    ("surrogate-control", "max-age=8"),
];

#[test]
fn a_public_answer_begins_anew_with_the_routes_lifetimes_and_none_of_the_upstreams() {
    let emitted = out(&emission(&CdnField::ALL), Some(FRESH), OF_UPSTREAM);
    let windows = "max-age=3600, stale-while-revalidate=60, stale-if-error=120";
    let expected = fields(&[
        ("age", "0"),
        ("cache-control", "public, max-age=60, s-maxage=3600"),
        ("cdn-cache-control", windows),
        ("cache-server-cache-control", windows),
        ("surrogate-control", windows),
        ("content-type", "a/b"),
        ("date", AT_NOW),
        ("etag", "\"v\""),
    ]);
    assert_eq!(emitted, expected);
}

#[test]
fn what_not_all_share_is_private_to_browsers_and_stored_by_no_cache_in_front() {
    let kept = Kept { tags: &["a".into()], ..FRESH };
    let mut emission = emission(&CdnField::ALL);
    emission.tag_fields = TagField::ALL.into();
    let emitted = out_of_a_tenants(&emission, Some(kept), OF_UPSTREAM);
    assert_eq!(emitted[CACHE_CONTROL], "private, max-age=60");
    for field in &CdnField::ALL[1..] {
        assert_eq!(emitted[field.name()], "no-store");
    }
    assert!(TagField::ALL.iter().all(|field| !emitted.contains_key(field.name())));
}

#[test]
fn what_is_stale_here_is_stale_for_all_and_may_still_bridge() {
    let kept = Kept { is_fresh: false, ..FRESH };
    let emitted = out(&emission(&CdnField::ALL[..2]), Some(kept), OF_UPSTREAM);
    assert_eq!(emitted[CACHE_CONTROL], "public, max-age=0, s-maxage=0");
    let windows = "max-age=0, stale-while-revalidate=60, stale-if-error=120";
    assert_eq!(emitted["cdn-cache-control"], windows);
}

#[test]
fn that_there_is_nothing_is_kept_elsewhere_no_longer_than_here() {
    let kept = Kept { negative_for: Some(MINUTE / 4), ..FRESH };
    let emitted = out(&emission(&CdnField::ALL[..2]), Some(kept), OF_UPSTREAM);
    assert_eq!(emitted[CACHE_CONTROL], "public, max-age=15, s-maxage=15");
    assert_eq!(emitted["cdn-cache-control"], "max-age=15");
}

#[test]
fn what_must_be_revalidated_never_answers_stale_anywhere() {
    let kept = Kept { must_revalidate: true, ..FRESH };
    let emitted = out(&emission(&CdnField::ALL[1..2]), Some(kept), OF_UPSTREAM);
    assert_eq!(emitted[CACHE_CONTROL], "public, max-age=60, must-revalidate");
    assert_eq!(emitted["cdn-cache-control"], "max-age=3600, must-revalidate");
}

#[test]
fn what_is_not_stored_goes_on_as_it_came_but_for_what_is_stripped() {
    let strip = [HeaderName::from_static("surrogate-control")];
    let emission = Emission {
        strip: strip.into(),
        vary: [CONTENT_TYPE].into(),
        tag_fields: TagField::ALL.into(),
        ..emission(&CdnField::ALL)
    };
    let mut expected = fields(OF_UPSTREAM);
    expected.remove("surrogate-control");
    assert_eq!(out(&emission, None, OF_UPSTREAM), expected);
}

#[test]
fn what_is_not_stored_and_not_for_all_is_forbidden_to_a_cache_in_front_where_nothing_is_said() {
    let silent = out_of_a_tenants(&emission(&CdnField::ALL), None, &[("etag", "\"v\"")]);
    assert_eq!(silent[CACHE_CONTROL], "private");
    for field in &CdnField::ALL[1..] {
        assert_eq!(silent[field.name()], "no-store");
    }
    let said = out_of_a_tenants(&emission(&[]), None, &[("cache-control", "max-age=5")]);
    assert_eq!(said, fields(&[("cache-control", "max-age=5")]));
}

#[test]
fn no_transform_outlives_the_upstreams_lifetimes() {
    let says = [("cache-control", "max-age=5"), ("cache-control", "x, No-Transform")];
    let emitted = out(&emission(&[]), Some(FRESH), &says);
    assert_eq!(emitted[CACHE_CONTROL], "public, max-age=60, no-transform");
}

#[test]
fn tags_stand_in_each_field_in_its_form_and_one_that_does_not_fit_is_left_out() {
    let tags: [Box<str>; 3] = ["a".into(), "b c".into(), "d,e".into()];
    let emission = Emission { tag_fields: TagField::ALL.into(), ..Emission::default() };
    let kept = Kept { tags: &tags, ..FRESH };
    let emitted = out(&emission, Some(kept), &[("surrogate-key", "old"), ("cache-tag", "old")]);
    assert_eq!(emitted["surrogate-key"], "a d,e");
    assert_eq!(emitted["cache-tag"], "a,b c");
    assert_eq!(emitted.len(), 2, "without lifetimes nothing else is said");
    let none = out(&emission, Some(FRESH), &[("surrogate-key", "old")]);
    assert!(none.is_empty(), "no tag is no field");
}

#[test]
fn vary_gets_what_it_does_not_name_already() {
    let emission = Emission { vary: [CONTENT_TYPE, ETAG].into(), ..Emission::default() };
    let vary = |lines: &[(&'static str, &str)]| {
        let emitted = out(&emission, Some(FRESH), lines);
        let lines: Vec<_> =
            emitted.get_all(VARY).iter().map(|value| value.to_str().unwrap().to_owned()).collect();
        lines.join(" | ")
    };
    assert_eq!(vary(&[]), "content-type, etag");
    assert_eq!(vary(&[("vary", "Accept, ETag")]), "Accept, ETag | content-type");
    assert_eq!(vary(&[("vary", "etag, content-type")]), "etag, content-type");
    assert_eq!(vary(&[("vary", "*")]), "*");
}

proptest! {
    #[test]
    fn nothing_that_is_not_public_is_ever_said_to_be(
        is_fresh in any::<bool>(), must_revalidate in any::<bool>(), age in 0_u32..1000,
        says in "(public|s-maxage=[0-9]{1,3}|max-age=[0-9]{1,3}|private|,| ){0,6}",
    ) {
        let kept = Kept { is_fresh, must_revalidate, ..FRESH };
        let age = age.to_string();
        let lines = [("cache-control", &*says), ("age", &*age), ("surrogate-control", &*says)];
        let emitted = out_of_a_tenants(&emission(&CdnField::ALL), Some(kept), &lines);
        let control = emitted[CACHE_CONTROL].to_str().unwrap();
        prop_assert!(control.starts_with("private, ") && !control.contains("public"));
        prop_assert!(!control.contains("s-maxage"));
        prop_assert_eq!(&emitted["surrogate-control"], "no-store");
    }
}
