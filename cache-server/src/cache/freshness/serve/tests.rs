//! Tests of serving.

use proptest::prelude::*;

use super::*;
use crate::cache::freshness::Lifetime;

/// Generated at 100 s, fresh until 110 s, usable until 115 s, on error until 130 s, kept until
/// 200 s.
fn stored() -> Stored {
    let lifetime = Lifetime {
        fresh: Duration::from_secs(10),
        stale_while_revalidate: Duration::from_secs(5),
        stale_if_error: Duration::from_secs(20),
    };
    let generated = Timestamp(100_000);
    let ends = Ends::of(generated, lifetime).kept_beyond(Duration::from_secs(90));
    Stored { ends, generated, initial_age_s: 2, must_revalidate: false }
}

fn request(cache_control: &'static str) -> RequestDirectives {
    let value = http::HeaderValue::from_static(cache_control);
    RequestDirectives::parse(&http::HeaderMap::from_iter([(http::header::CACHE_CONTROL, value)]))
}

fn at(second: u64, cache_control: &'static str) -> Decision {
    decide(&stored(), &request(cache_control), Timestamp(second * 1000))
}

fn fresh(seconds: u64) -> Decision {
    Decision::Fresh { ttl: Duration::from_secs(seconds) }
}

fn while_revalidate(seconds: u64) -> Decision {
    Decision::WhileRevalidate { by: Duration::from_secs(seconds) }
}

fn accepted(seconds: u64) -> Decision {
    Decision::StaleAccepted { by: Duration::from_secs(seconds) }
}

const VALIDATE: Decision = Decision::Validate { if_error: false };
const VALIDATE_OR_BRIDGE: Decision = Decision::Validate { if_error: true };

// RFC 9111 section 4.2, RFC 5861 sections 3 and 4.
#[test]
fn an_entry_passes_through_its_ends() {
    assert_eq!(at(103, ""), fresh(7));
    assert_eq!(at(110, ""), while_revalidate(0));
    assert_eq!(at(114, ""), while_revalidate(4));
    assert_eq!(at(115, ""), VALIDATE_OR_BRIDGE);
    assert_eq!(at(130, ""), VALIDATE);
    assert_eq!(at(199, ""), VALIDATE);
    assert_eq!(at(200, ""), Decision::Absent);
}

// RFC 9111 section 5.2.1.1.
#[test]
fn a_request_sets_the_oldest_answer_that_it_takes() {
    assert_eq!(at(105, "max-age=5"), fresh(5));
    assert_eq!(at(106, "max-age=5"), VALIDATE_OR_BRIDGE);
    assert_eq!(at(101, "max-age=1"), VALIDATE_OR_BRIDGE, "it came two seconds old");
    assert_eq!(at(112, "max-age=60"), VALIDATE_OR_BRIDGE, "nothing stale was asked for");
    assert_eq!(at(112, "max-age=60, max-stale=5"), while_revalidate(2));
    assert_eq!(at(120, "max-age=60, max-stale=10"), accepted(10));
    assert_eq!(at(120, "max-age=15, max-stale=10"), VALIDATE_OR_BRIDGE);
}

#[test]
fn a_request_for_age_zero_is_never_answered_from_the_cache() {
    let young = Stored { initial_age_s: 0, ..stored() };
    let decision = decide(&young, &request("max-age=0"), Timestamp(100_000));
    assert_eq!(decision, VALIDATE_OR_BRIDGE);
}

// RFC 9111 section 5.2.1.3.
#[test]
fn a_request_sets_how_long_an_answer_must_be_fresh_yet() {
    assert_eq!(at(103, "min-fresh=7"), fresh(7));
    assert_eq!(at(103, "min-fresh=8"), VALIDATE_OR_BRIDGE);
    assert_eq!(at(111, "min-fresh=0, max-stale"), VALIDATE_OR_BRIDGE, "it is not fresh at all");
}

// RFC 9111 section 5.2.1.2.
#[test]
fn a_request_accepts_stale_answers_within_its_bound() {
    assert_eq!(at(130, "max-stale=20"), accepted(20));
    assert_eq!(at(131, "max-stale=20"), VALIDATE);
    assert_eq!(at(199, "max-stale"), accepted(89));
    assert_eq!(at(200, "max-stale"), Decision::Absent);
    assert_eq!(at(114, "max-stale=1"), while_revalidate(4), "it never narrows what is allowed");
}

// RFC 9111 sections 5.2.2.2 and 4.2.4.
#[test]
fn what_must_be_revalidated_answers_nobody_once_it_is_stale() {
    let bound = Stored { must_revalidate: true, ..stored() };
    for says in ["", "max-stale", "stale-if-error=60", "max-age=60, max-stale=60"] {
        let decision = decide(&bound, &request(says), Timestamp(112_000));
        assert_eq!(decision, VALIDATE, "{says}");
    }
    assert_eq!(decide(&bound, &request("max-stale"), Timestamp(105_000)), fresh(5));
}

// RFC 9111 section 5.2.1.4, RFC 5861 section 4.
#[test]
fn no_cache_gets_nothing_stored_unless_it_says_for_when_the_upstream_fails() {
    for second in [101, 112, 120] {
        assert_eq!(at(second, "no-cache"), VALIDATE, "{second}");
        assert_eq!(at(second, "no-cache, max-stale"), VALIDATE, "{second}");
        assert_eq!(at(second, "no-cache, stale-if-error=60"), VALIDATE_OR_BRIDGE, "{second}");
    }
}

// RFC 5861 section 4.
#[test]
fn a_requests_stale_if_error_stands_in_for_the_entrys() {
    assert_eq!(at(125, "stale-if-error=15"), VALIDATE_OR_BRIDGE);
    assert_eq!(at(126, "stale-if-error=15"), VALIDATE);
    assert_eq!(at(116, "stale-if-error=0"), VALIDATE);
    assert_eq!(at(150, "stale-if-error=60"), VALIDATE_OR_BRIDGE, "longer than the entry's own");
    assert_eq!(at(200, "stale-if-error=600"), Decision::Absent, "no longer than it is kept");
}

#[test]
fn a_fresh_entry_that_is_passed_over_bridges_a_failure_only_if_someone_said_so() {
    let without = Stored {
        ends: Ends::of(Timestamp(100_000), Lifetime::fresh_for(Duration::from_secs(10))),
        ..stored()
    };
    let says = |line| decide(&without, &request(line), Timestamp(105_000));
    assert_eq!(says("max-age=1"), VALIDATE);
    assert_eq!(says("max-age=1, stale-if-error=1"), VALIDATE_OR_BRIDGE);
}

// RFC 9111 section 4.2.3.
#[test]
fn age_counts_from_when_it_was_made_and_never_falls_below_what_it_came_with() {
    assert_eq!(age_s(&stored(), Timestamp(100_000)), 2);
    assert_eq!(age_s(&stored(), Timestamp(107_999)), 7);
    assert_eq!(age_s(&stored(), Timestamp(1)), 2);
}

prop_compose! {
    fn any_stored()(
        generated in 0..40_000_u64, fresh in 0..40_000_u64, revalidate in 0..40_000_u64,
        error in 0..40_000_u64, kept in 0..90_000_u64, initial_age_s in 0..20_u32,
        must_revalidate in any::<bool>(),
    ) -> Stored {
        let [fresh, stale_while_revalidate, stale_if_error, kept] =
            [fresh, revalidate, error, kept].map(Duration::from_millis);
        let lifetime = Lifetime { fresh, stale_while_revalidate, stale_if_error };
        let ends = Ends::of(Timestamp(generated), lifetime).kept_beyond(kept);
        Stored { ends, generated: Timestamp(generated), initial_age_s, must_revalidate }
    }
}

prop_compose! {
    fn any_request()(
        no_cache in proptest::bool::weighted(0.1),
        bounds in proptest::array::uniform4(proptest::option::of(0..60_u64)),
        any_stale in proptest::bool::weighted(0.1),
    ) -> RequestDirectives {
        let [max_age, max_stale, min_fresh, stale_if_error] =
            bounds.map(|bound| bound.map(Duration::from_secs));
        let max_stale = if any_stale { Some(Duration::MAX) } else { max_stale };
        RequestDirectives {
            no_cache, max_age, max_stale, min_fresh, stale_if_error, ..RequestDirectives::default()
        }
    }
}

/// Whether it answers at once.
fn answers(decision: Decision) -> bool {
    use Decision::{Fresh, StaleAccepted, WhileRevalidate};
    matches!(decision, Fresh { .. } | WhileRevalidate { .. } | StaleAccepted { .. })
}

fn rank(decision: Decision) -> u8 {
    match decision {
        Decision::Fresh { .. } => 0,
        Decision::WhileRevalidate { .. } => 1,
        Decision::StaleAccepted { .. } => 2,
        Decision::Validate { if_error: true } => 3,
        Decision::Validate { if_error: false } => 4,
        Decision::Absent => 5,
    }
}

proptest! {
    #[test]
    fn an_entry_never_becomes_better_with_time(
        stored in any_stored(), request in any_request(), one in 0..200_000_u64, more in 0..99_000_u64,
    ) {
        let first = decide(&stored, &request, Timestamp(one));
        let later = decide(&stored, &request, Timestamp(one + more));
        prop_assert!(rank(first) <= rank(later), "{:?} became {:?}", first, later);
    }

    #[test]
    fn age_never_decreases(stored in any_stored(), one in any::<u64>(), other in any::<u64>()) {
        let (first, later) = (Timestamp(one.min(other)), Timestamp(one.max(other)));
        prop_assert!(age_s(&stored, first) >= u64::from(stored.initial_age_s));
        prop_assert!(age_s(&stored, first) <= age_s(&stored, later));
    }

    #[test]
    fn max_age_and_min_fresh_only_tighten(
        stored in any_stored(), request in any_request(), now in 0..200_000_u64,
    ) {
        let now = Timestamp(now);
        let tight = answers(decide(&stored, &request, now));
        let without_age = RequestDirectives { max_age: None, ..request };
        let without_fresh = RequestDirectives { min_fresh: None, ..request };
        prop_assert!(!tight || answers(decide(&stored, &without_age, now)));
        prop_assert!(!tight || answers(decide(&stored, &without_fresh, now)));
    }

    #[test]
    fn max_stale_only_loosens(
        stored in any_stored(), request in any_request(), now in 0..200_000_u64,
    ) {
        let now = Timestamp(now);
        let without = RequestDirectives { max_stale: None, ..request };
        let (with, without) = (decide(&stored, &request, now), decide(&stored, &without, now));
        prop_assert!(rank(with) <= rank(without));
    }

    #[test]
    fn nothing_stale_that_must_be_revalidated_answers(
        stored in any_stored(), request in any_request(), beyond in 0..200_000_u64,
    ) {
        let stored = Stored { must_revalidate: true, ..stored };
        let now = Timestamp(stored.ends.fresh.0 + beyond);
        let decision = decide(&stored, &request, now);
        prop_assert!(matches!(decision, Decision::Absent | VALIDATE), "{:?}", decision);
    }

    #[test]
    fn nothing_answers_beyond_what_it_is_kept_for(
        stored in any_stored(), request in any_request(), beyond in 0..200_000_u64,
    ) {
        let now = Timestamp(stored.ends.last().0 + beyond);
        prop_assert_eq!(decide(&stored, &request, now), Decision::Absent);
    }
}
