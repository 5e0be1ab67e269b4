//! The verdict: which outcomes say something, and how many rules of a section each cache keeps.
//! Pure.

use std::collections::{BTreeMap, HashMap};

use crate::rule::{Kind, Rule, Section};
use crate::run::Outcome;

/// How many rules of one section and kind there are, and how many of them a cache keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) kept: usize,
    pub(crate) broken: usize,
    pub(crate) not_shown: usize,
}

impl Count {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Kept => self.kept += 1,
            Outcome::Broken(_) => self.broken += 1,
            Outcome::NotShown(_) => self.not_shown += 1,
        }
    }
}

/// The section that a rule is counted under: two numbers deep.
pub(crate) fn heading(section: &Section) -> Section {
    Section { rfc: section.rfc, number: section.number.iter().copied().take(2).collect() }
}

/// A rule shows nothing where one that it needs is not kept, or shows nothing itself.
pub(crate) fn settle(rules: &[Rule], mut outcomes: Vec<Outcome>) -> Vec<Outcome> {
    let at: HashMap<&str, usize> =
        rules.iter().enumerate().map(|(index, rule)| (rule.id.as_str(), index)).collect();
    // Each pass settles at least one more, or nothing and then all are.
    loop {
        let mut changed = false;
        for (index, rule) in rules.iter().enumerate() {
            if matches!(outcomes[index], Outcome::NotShown(_)) {
                continue;
            }
            let is_missing = |id: &&&str| outcomes.get(at[**id]) != Some(&Outcome::Kept);
            if let Some(id) = rule.given.iter().find(is_missing) {
                outcomes[index] = Outcome::NotShown(format!("needs: {id}"));
                changed = true;
            }
        }
        if !changed {
            return outcomes;
        }
    }
}

/// The counts by section and kind.
pub(crate) fn counts(rules: &[Rule], outcomes: &[Outcome]) -> BTreeMap<(Section, Kind), Count> {
    let mut counts = BTreeMap::<_, Count>::new();
    for (rule, outcome) in rules.iter().zip(outcomes) {
        counts.entry((heading(&rule.section), rule.kind)).or_default().add(outcome);
    }
    counts
}

/// The rules of a kind that are broken, with what happened.
pub(crate) fn broken<'a>(
    rules: &'a [Rule],
    outcomes: &'a [Outcome],
    kind: Kind,
) -> impl Iterator<Item = (&'a Rule, &'a str)> {
    let of_kind = rules.iter().zip(outcomes).filter(move |(rule, _)| rule.kind == kind);
    of_kind.filter_map(|(rule, outcome)| match outcome {
        Outcome::Broken(wrong) => Some((rule, wrong.as_str())),
        Outcome::Kept | Outcome::NotShown(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{may, must};

    fn rules() -> [Rule; 3] {
        [
            must("9111 4.2.1", "third").given("second"),
            must("9111 4.2", "second").given("first"),
            may("9111 3", "first"),
        ]
    }

    #[test]
    fn a_rule_shows_nothing_where_one_that_it_needs_shows_nothing() {
        let wrong = || Outcome::Broken("wrong".into());
        let settled = settle(&rules(), vec![Outcome::Kept, wrong(), wrong()]);
        assert!(matches!(settled[0], Outcome::NotShown(_)));
        assert!(matches!(settled[1], Outcome::NotShown(_)));
        assert_eq!(settled[2], wrong());
    }

    #[test]
    fn rules_that_need_what_is_kept_are_judged() {
        let wrong = Outcome::Broken("wrong".into());
        let outcomes = vec![wrong.clone(), Outcome::Kept, Outcome::Kept];
        assert_eq!(settle(&rules(), outcomes.clone()), outcomes);
        let rules = rules();
        let broken: Vec<_> = broken(&rules, &outcomes, Kind::Must).collect();
        assert_eq!(broken.len(), 1);
        assert_eq!((broken[0].0.id.as_str(), broken[0].1), ("third", "wrong"));
    }

    #[test]
    fn rules_are_counted_by_section_and_kind() {
        let outcomes = [Outcome::Kept, Outcome::Broken(String::new()), Outcome::Kept];
        let counts = counts(&rules(), &outcomes);
        let of =
            |number: &[u16], kind| counts[&(Section { rfc: 9111, number: number.to_vec() }, kind)];
        assert_eq!(of(&[4, 2], Kind::Must), Count { kept: 1, broken: 1, not_shown: 0 });
        assert_eq!(of(&[3], Kind::May), Count { kept: 1, broken: 0, not_shown: 0 });
    }
}
