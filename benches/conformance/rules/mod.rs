//! The rules, by topic. A rule that says when something is *not* reused shows nothing of a cache that
//! never reuses it: it names the rule by which it is.

mod cache_status;
mod collapsing;
mod dates;
mod freshness;
mod groups;
mod guessing;
mod interim;
mod invalidation;
mod methods;
mod parsing;
mod query;
mod ranges;
mod requests;
mod stale;
mod statuses;
mod storing;
mod targeted;
mod updating;
mod validation;
mod validators;
mod vary;

use crate::rule::Rule;

/// The rule that most others need.
const FRESH: &str = "an answer with max-age is reused";
const EXPIRES: &str = "an answer with a later Expires is reused";
const S_MAXAGE: &str = "an answer with s-maxage is reused";
const TAGGED: &str = "a stale answer with an entity tag is revalidated";

/// A date long ago, as a `Last-Modified`.
const LONG_AGO: &str = "Wed, 01 Jan 2020 00:00:00 GMT";

/// All rules.
pub(crate) fn all() -> Vec<Rule> {
    let topics = [
        freshness::rules(),
        dates::rules(),
        guessing::rules(),
        parsing::rules(),
        storing::rules(),
        collapsing::rules(),
        validators::rules(),
        validation::rules(),
        updating::rules(),
        vary::rules(),
        requests::rules(),
        invalidation::rules(),
        groups::rules(),
        ranges::rules(),
        targeted::rules(),
        stale::rules(),
        query::rules(),
        methods::rules(),
        statuses::rules(),
        interim::rules(),
        cache_status::rules(),
    ];
    topics.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::rule::Step;

    #[test]
    fn every_rule_has_a_sentence_of_its_own_and_needs_only_what_there_is() {
        let rules = all();
        let ids: HashSet<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids.len(), rules.len());
        for rule in &rules {
            for id in &rule.given {
                assert!(ids.contains(id) && *id != rule.id, "{} needs {id}", rule.id);
            }
        }
    }

    #[test]
    fn every_rule_is_in_a_section_and_expects_something() {
        for rule in all() {
            assert!(rule.section.rfc > 0 && !rule.section.number.is_empty(), "{}", rule.id);
            let expects = |step: &Step| match step {
                Step::Ask(ask) => !ask.expect.is_empty() && !ask.prepares,
                Step::Pause(_) => false,
            };
            assert!(rule.steps.iter().any(expects), "{}", rule.id);
        }
    }
}
