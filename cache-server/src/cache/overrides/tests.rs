//! The table of overrides: what each does, for whom, how long, and what is left after a crash.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::cache::freshness::{Freshness, Lifetime, judge};

const START: Timestamp = Timestamp(1_700_000_000_123);

fn wanted(lever: Lever) -> Wanted {
    Wanted {
        lever,
        selects: Selects::default(),
        lasts: Duration::from_secs(60),
        who: "kim".into(),
        why: "the upstream answers nonsense".into(),
    }
}

fn for_model(lever: Lever, model: &str) -> Wanted {
    let selects = Selects { model: Some(model.into()), ..Selects::default() };
    Wanted { selects, ..wanted(lever) }
}

fn in_memory() -> (Clock, Overrides) {
    let clock = Clock::standing_at(START);
    (clock.clone(), Overrides::open(None, clock))
}

fn effects(overrides: &Overrides, model: &str) -> Effects {
    overrides.effects("openai.embeddings", Some(model), Some("team"), overrides.clock.now())
}

#[test]
fn a_lever_works_until_its_time_is_over_and_reverts_by_itself() {
    let (clock, overrides) = in_memory();
    assert!(overrides.is_empty());
    assert_eq!(effects(&overrides, "m"), Effects::default());
    let added = overrides.add(wanted(Lever::Bypass)).unwrap();
    assert_eq!((added.since, added.until), (START, START.plus(Duration::from_secs(60))));
    assert_eq!(effects(&overrides, "m"), Effects { bypass: true, ..Effects::default() });
    clock.advance(Duration::from_millis(59_999));
    assert!(effects(&overrides, "m").bypass);
    clock.advance(Duration::from_millis(1));
    assert_eq!(effects(&overrides, "m"), Effects::default());
    assert_eq!(overrides.list(), []);
}

#[test]
fn each_lever_has_its_own_effect_and_of_lifetimes_the_most_recent_wins() {
    let (_, overrides) = in_memory();
    for lever in [Lever::StaleOnly, Lever::Lifetimes(4.0), Lever::NegativeOff] {
        overrides.add(wanted(lever)).unwrap();
    }
    let last = overrides.add(wanted(Lever::Lifetimes(0.5))).unwrap();
    let expected =
        Effects { bypass: false, lifetimes: Some(0.5), stale_only: true, negative_off: true };
    assert_eq!(effects(&overrides, "m"), expected);
    overrides.remove(last.id).unwrap();
    assert_eq!(effects(&overrides, "m").lifetimes, Some(4.0));
}

#[test]
fn an_override_is_for_those_requests_alone_that_fit_all_that_it_names() {
    let (_, overrides) = in_memory();
    let selects = Selects {
        route: Some("openai.embeddings".into()),
        model: Some("gpt-4*".into()),
        tenant: Some("team".into()),
    };
    overrides.add(Wanted { selects, ..wanted(Lever::Bypass) }).unwrap();
    let is_bypassed = |route, model, tenant| {
        overrides.effects(route, model, tenant, overrides.clock.now()).bypass
    };
    assert!(is_bypassed("openai.embeddings", Some("gpt-4"), Some("team")));
    assert!(is_bypassed("openai.embeddings", Some("gpt-4o-mini"), Some("team")));
    assert!(!is_bypassed("openai.moderations", Some("gpt-4"), Some("team")));
    assert!(!is_bypassed("openai.embeddings", Some("gpt-3"), Some("team")));
    assert!(!is_bypassed("openai.embeddings", None, Some("team")));
    assert!(!is_bypassed("openai.embeddings", Some("gpt-4"), Some("another")));
    assert!(!is_bypassed("openai.embeddings", Some("gpt-4"), None));
    overrides.add(for_model(Lever::StaleOnly, "m")).unwrap();
    assert!(effects(&overrides, "m").stale_only);
    assert!(!effects(&overrides, "m-large").stale_only, "without a * the name is exact");
}

#[test]
fn what_may_not_be_asked_for_is_refused_by_the_name_of_its_field() {
    let (_, overrides) = in_memory();
    let fine = wanted(Lever::Bypass);
    let named = |route: &str| Selects { route: Some(route.into()), ..Selects::default() };
    let long = |bytes: usize| "x".repeat(bytes);
    for (bad, field) in [
        (wanted(Lever::Lifetimes(0.0)), "factor"),
        (wanted(Lever::Lifetimes(-1.0)), "factor"),
        (wanted(Lever::Lifetimes(f64::NAN)), "factor"),
        (wanted(Lever::Lifetimes(1000.1)), "factor"),
        (for_model(Lever::Bypass, "g*t"), "model"),
        (for_model(Lever::Bypass, "gpt**"), "model"),
        (for_model(Lever::Bypass, ""), "model"),
        (Wanted { selects: named(&long(NAME_BYTES_MAX + 1)), ..fine.clone() }, "route"),
        (Wanted { selects: named("a\u{1b}[31m"), ..fine.clone() }, "route"),
        (Wanted { lasts: Duration::from_millis(999), ..fine.clone() }, "for"),
        (Wanted { lasts: LASTS_MAX + Duration::from_millis(1), ..fine.clone() }, "for"),
        (Wanted { who: String::new(), ..fine.clone() }, "who"),
        (Wanted { who: long(WHO_BYTES_MAX + 1), ..fine.clone() }, "who"),
        (Wanted { why: " ".into(), ..fine.clone() }, "why"),
        (Wanted { why: long(WHY_BYTES_MAX + 1), ..fine.clone() }, "why"),
    ] {
        let refused = overrides.add(bad.clone());
        let named = matches!(&refused, Err(NotAdded::Bad(bad)) if bad.field == field);
        assert!(named, "{bad:?}: {refused:?}");
    }
    assert!(overrides.is_empty());
    let largest = Wanted {
        lever: Lever::Lifetimes(FACTOR_MAX),
        selects: named(&long(NAME_BYTES_MAX)),
        lasts: LASTS_MAX,
        who: long(WHO_BYTES_MAX),
        why: long(WHY_BYTES_MAX),
    };
    overrides.add(largest).unwrap();
}

#[test]
fn levers_have_the_names_that_they_are_typed_by() {
    for name in Lever::NAMES {
        let factor = (name == "lifetimes").then_some(3.0);
        let lever = Lever::named(name, factor).unwrap();
        assert_eq!(lever.name(), name);
        assert_eq!(serde_json::to_value(lever).unwrap()["lever"], name);
    }
    assert_eq!(Lever::named("lifetimes", None).unwrap_err().field, "factor");
    assert_eq!(Lever::named("bypass", Some(1.0)).unwrap_err().field, "factor");
    assert_eq!(Lever::named("off", Some(1.0)).unwrap_err().field, "lever");
}

#[test]
fn at_the_bound_one_more_is_refused_until_one_is_removed_or_over() {
    let (clock, overrides) = in_memory();
    let first = overrides.add(wanted(Lever::Bypass)).unwrap();
    clock.advance(Duration::from_secs(1));
    for _ in 1..COUNT_MAX {
        overrides.add(wanted(Lever::Bypass)).unwrap();
    }
    let refuses = || matches!(overrides.add(wanted(Lever::Bypass)), Err(NotAdded::Full));
    assert!(refuses());
    assert_eq!(overrides.remove(first.id).unwrap(), Some(first.clone()));
    assert_eq!(overrides.remove(first.id).unwrap(), None);
    assert!(!refuses() && refuses());
    clock.advance(Duration::from_secs(59));
    assert!(refuses());
    clock.advance(Duration::from_secs(1));
    assert!(!refuses());
}

fn in_folder(folder: &TempDir) -> PathBuf {
    folder.path().join("data").join("overrides.json")
}

#[test]
fn an_override_is_durable_before_it_is_acknowledged_and_so_is_its_removal() {
    let folder = TempDir::new().unwrap();
    let path = in_folder(&folder);
    let clock = Clock::standing_at(START);
    let open = || Overrides::open(Some(path.clone()), clock.clone());
    let overrides = open();
    let first = overrides.add(for_model(Lever::Lifetimes(2.5), "gpt \"4\"*")).unwrap();
    assert_eq!(open().list(), overrides.list(), "as after a crash");
    assert_eq!(overrides.list().len(), 1);
    assert_eq!(effects(&open(), "gpt \"4\"o").lifetimes, Some(2.5));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = overrides.add(wanted(Lever::Bypass)).unwrap();
    overrides.remove(second.id).unwrap();
    assert_eq!(open().list(), [first]);
    let third = open().add(wanted(Lever::Bypass)).unwrap();
    assert!(third.id > second.id, "no number is given twice");
}

#[test]
fn what_is_over_leaves_the_file_at_the_next_change() {
    let folder = TempDir::new().unwrap();
    let path = in_folder(&folder);
    let clock = Clock::standing_at(START);
    let overrides = Overrides::open(Some(path.clone()), clock.clone());
    overrides.add(Wanted { who: "early".into(), ..wanted(Lever::Bypass) }).unwrap();
    clock.advance(Duration::from_secs(60));
    assert!(std::fs::read_to_string(&path).unwrap().contains("early"));
    overrides.add(wanted(Lever::Bypass)).unwrap();
    assert!(!std::fs::read_to_string(&path).unwrap().contains("early"));
}

#[test]
fn what_cannot_be_written_is_not_in_force() {
    let folder = TempDir::new().unwrap();
    let path = in_folder(&folder);
    let overrides = Overrides::open(Some(path.clone()), Clock::standing_at(START));
    let kept = overrides.add(wanted(Lever::Bypass)).unwrap();
    // Nothing can be written beside the file: a folder stands there.
    std::fs::create_dir_all(folder.path().join("data/overrides.json.new/full")).unwrap();
    let refused = overrides.add(wanted(Lever::StaleOnly));
    assert!(matches!(refused, Err(NotAdded::NotWritten(_))), "{refused:?}");
    assert!(overrides.remove(kept.id).is_err());
    assert_eq!(overrides.list(), [kept]);
}

#[test]
fn a_damaged_file_is_set_aside_and_the_table_starts_empty() {
    let folder = TempDir::new().unwrap();
    let path = in_folder(&folder);
    let clock = Clock::standing_at(START);
    let open = || Overrides::open(Some(path.clone()), clock.clone());
    open().add(wanted(Lever::Bypass)).unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    let aside = folder.path().join("data/overrides.json.damaged");
    for damaged in [
        String::new(),
        whole[..whole.len() / 2].to_owned(),
        whole.replace("\"version\": 1", "\"version\": 2"),
        whole.replace("\"bypass\"", "\"explode\""),
        whole.replace("\"id\": 1", "\"id\": 2"),
        whole.replace("\"next_id\": 2", "\"next_id\": 18446744073709551615"),
        whole.replace("2023-", "1823-"),
        whole.replace("kim", &"k".repeat(WHO_BYTES_MAX + 1)),
        whole.replace("kim", &"k".repeat(2 << 20)),
    ] {
        assert_ne!(damaged, whole);
        std::fs::write(&path, &damaged).unwrap();
        let overrides = open();
        assert!(overrides.is_empty(), "{damaged:.200}");
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), damaged);
        assert!(!path.exists());
        overrides.add(wanted(Lever::Bypass)).unwrap();
        assert_eq!(open().list().len(), 1);
    }
}

#[test]
fn without_a_file_nothing_is_written_and_nothing_is_kept() {
    let (_, overrides) = in_memory();
    let added = overrides.add(wanted(Lever::Bypass)).unwrap();
    assert!(overrides.remove(added.id).unwrap().is_some());
    assert!(overrides.is_empty());
}

#[test]
fn lifetimes_are_stretched_from_when_the_entry_was_generated() {
    let lifetime = Lifetime {
        fresh: Duration::from_secs(10),
        stale_while_revalidate: Duration::from_secs(5),
        stale_if_error: Duration::from_secs(60),
    };
    let ends = Ends::of(START, lifetime);
    let at = |factor, seconds| {
        let effects = Effects { lifetimes: Some(factor), ..Effects::default() };
        judge(&effects.ends(ends, START), START.plus(Duration::from_secs(seconds)))
    };
    assert_eq!(at(3.0, 29), Freshness::Fresh { ttl: Duration::from_secs(1) });
    let stale = |by, while_revalidate| Freshness::Stale {
        by: Duration::from_secs(by),
        while_revalidate,
        if_error: true,
    };
    assert_eq!(at(3.0, 30), stale(0, true));
    assert_eq!(at(3.0, 45), stale(15, false));
    assert_eq!(at(3.0, 210), Freshness::Expired);
    assert_eq!(at(0.5, 5), stale(0, true));
    assert_eq!(at(0.5, 35), Freshness::Expired);
    assert_eq!(Effects::default().ends(ends, START), ends);
}

fn text(bytes_max: usize) -> impl Strategy<Value = String> {
    "\\PC{1,20}".prop_filter("text", move |text| is_text(text, bytes_max))
}

fn levers() -> impl Strategy<Value = Lever> {
    prop_oneof![
        Just(Lever::Bypass),
        // As people write them: of longer ones the last digit may get lost.
        (1..=1_000_000_u32).prop_map(|thousandths| Lever::Lifetimes(f64::from(thousandths) / 1e3)),
        Just(Lever::StaleOnly),
        Just(Lever::NegativeOff),
    ]
}

prop_compose! {
    fn any_wanted()(
        lever in levers(),
        route in proptest::option::of(text(NAME_BYTES_MAX)),
        model in proptest::option::of("[a-z\"\\\\]{0,9}\\*?"),
        tenant in proptest::option::of(text(NAME_BYTES_MAX)),
        lasts_ms in 1000..=30 * 24 * 3_600_000_u64,
        who in text(WHO_BYTES_MAX),
        why in text(WHY_BYTES_MAX),
    ) -> Wanted {
        let model = model.filter(|model| !model.is_empty());
        let selects = Selects { route, model, tenant };
        Wanted { lever, selects, lasts: Duration::from_millis(lasts_ms), who, why }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back_as_it_was(
        all in proptest::collection::vec(any_wanted(), 1..8),
    ) {
        let folder = TempDir::new().unwrap();
        let open = || Overrides::open(Some(in_folder(&folder)), Clock::standing_at(START));
        let overrides = open();
        for wanted in all {
            overrides.add(wanted).unwrap();
        }
        prop_assert_eq!(open().list(), overrides.list());
    }

    #[test]
    fn a_file_of_any_bytes_leaves_a_table_that_works(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("overrides.json");
        std::fs::write(&path, &bytes).unwrap();
        let overrides = Overrides::open(Some(path), Clock::standing_at(START));
        prop_assert!(overrides.add(wanted(Lever::Bypass)).is_ok());
    }

    #[test]
    fn stretching_keeps_the_order_of_ends_and_a_larger_factor_ends_no_earlier(
        generated in any::<u64>(), fresh in any::<u64>(), while_revalidate in any::<u64>(),
        if_error in any::<u64>(), one in 0.000_1..=FACTOR_MAX, other in 0.000_1..=FACTOR_MAX,
    ) {
        let generated = Timestamp(generated);
        let ends = Ends::of(generated, Lifetime {
            fresh: Duration::from_millis(fresh),
            stale_while_revalidate: Duration::from_millis(while_revalidate),
            stale_if_error: Duration::from_millis(if_error),
        });
        let by = |factor| {
            Effects { lifetimes: Some(factor), ..Effects::default() }.ends(ends, generated)
        };
        let (less, more) = (by(one.min(other)), by(one.max(other)));
        prop_assert!(less.fresh <= less.stale_while_revalidate && less.fresh <= less.stale_if_error);
        prop_assert!(generated <= less.fresh);
        prop_assert!(less.fresh <= more.fresh && less.last() <= more.last());
    }
}

mod shared {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::overrides::SharedOverride;

    fn server() -> Overrides {
        let overrides = Overrides::open(None, Clock::standing_at(START));
        overrides.share().unwrap();
        overrides
    }

    fn ids(overrides: &Overrides) -> Vec<u64> {
        overrides.list().iter().map(|pulled| pulled.id).collect()
    }

    #[test]
    fn numbers_of_before_become_such_that_no_other_server_gives_them() {
        let (one, other) = (in_memory().1, in_memory().1);
        for overrides in [&one, &other] {
            overrides.add(wanted(Lever::Bypass)).unwrap();
            overrides.share().unwrap();
        }
        other.add(wanted(Lever::StaleOnly)).unwrap();
        assert!(one.take_over(&other.known()).unwrap());
        assert_eq!(one.list().len(), 3);
        assert!(ids(&one).is_sorted(), "{:?}", ids(&one));
    }

    #[test]
    fn what_was_let_go_is_not_pulled_again_by_a_server_that_was_away() {
        let (one, away) = (server(), server());
        let pulled = one.add(wanted(Lever::Bypass)).unwrap();
        away.take_over(&one.known()).unwrap();
        one.remove(pulled.id).unwrap();
        assert!(!one.take_over(&away.known()).unwrap());
        assert!(away.take_over(&one.known()).unwrap());
        assert!(one.list().is_empty() && away.list().is_empty());
    }

    #[test]
    fn what_was_let_go_is_known_after_a_restart_until_its_time_is_over() {
        let folder = TempDir::new().unwrap();
        let (path, clock) = (in_folder(&folder), Clock::standing_at(START));
        let open = || Overrides::open(Some(path.clone()), clock.clone());
        let overrides = open();
        overrides.share().unwrap();
        let pulled = overrides.add(wanted(Lever::Bypass)).unwrap();
        overrides.remove(pulled.id).unwrap();
        let let_go = SharedOverride::LetGo { id: pulled.id, until: pulled.until };
        assert_eq!(open().known(), [let_go]);
        clock.advance(LASTS_MAX);
        assert_eq!(open().known(), []);
    }

    #[test]
    fn what_may_not_be_asked_for_is_not_taken_over() {
        let (one, other) = (server(), server());
        let pulled = one.add(wanted(Lever::Bypass)).unwrap();
        let bad = Override { who: "k".repeat(WHO_BYTES_MAX + 1), ..pulled.clone() };
        assert!(!other.take_over(&[SharedOverride::Pulled(Box::new(bad))]).unwrap());
        let many: Vec<_> = (1..=COUNT_MAX as u64 + 1)
            .map(|more| Override { id: pulled.id + more, ..pulled.clone() })
            .map(|pulled| SharedOverride::Pulled(Box::new(pulled)))
            .collect();
        other.take_over(&many).unwrap();
        assert_eq!(other.list().len(), COUNT_MAX);
    }

    proptest! {
        #[test]
        fn servers_that_have_heard_of_each_other_agree(
            steps in proptest::collection::vec((0_usize..3, 0_usize..3, 0_usize..4), 1..40),
        ) {
            let servers = [server(), server(), server()];
            for (which, other, step) in steps {
                let overrides = &servers[which];
                match (step, overrides.list().first()) {
                    (0, _) => drop(overrides.add(wanted(Lever::Bypass))),
                    (1, Some(pulled)) => drop(overrides.remove(pulled.id)),
                    _ => drop(overrides.take_over(&servers[other].known())),
                }
            }
            for _ in 0..2 {
                for (one, other) in [(0, 1), (1, 2), (2, 0)] {
                    servers[one].take_over(&servers[other].known()).unwrap();
                }
            }
            prop_assert_eq!(ids(&servers[0]), ids(&servers[1]));
            prop_assert_eq!(ids(&servers[0]), ids(&servers[2]));
        }
    }
}
