//! The specs of the model routes with what `[[route]]`s change of them: members that are left out of keys, and
//! members that are kept in them.
//!
//! Each of the two is decided by the most specific route that sets it, so that two routes may make a spec
//! together. All that can come of the routes are made once: what remembers what a body means compares
//! specs by where they are.

use std::collections::HashMap;
use std::sync::Arc;

use keyspec::{KeySpec, ModelRoute};

use super::{Asked, Rule};

/// Which rules decide: on what is left out, and on what is kept.
type Deciding = (Option<usize>, Option<usize>);

/// The changed specs, by the rules that decide.
#[derive(Clone, Debug)]
pub(super) struct ChangedSpecs(HashMap<Deciding, Vec<Arc<KeySpec>>>);

impl ChangedSpecs {
    /// Those of these rules, which stay in this order.
    pub(super) fn of(rules: &[Rule]) -> ChangedSpecs {
        let all_that = |sets: fn(&Rule) -> bool| {
            let indexes = (0..rules.len()).filter(move |index| sets(&rules[*index]));
            indexes.map(Some).chain([None])
        };
        let mut changed = HashMap::new();
        for ignoring in all_that(|rule| rule.ignored_members.is_some()) {
            for keeping in all_that(|rule| rule.kept_members.is_some()) {
                let [one, other] = [ignoring, keeping].map(|index| index.map(|at| &rules[at]));
                if may_decide_together(one, other) {
                    changed.insert((ignoring, keeping), specs(one, other));
                }
            }
        }
        ChangedSpecs(changed)
    }

    /// What this spec is for what was asked, if a rule changes it.
    pub(super) fn find(
        &self,
        rules: &[Rule],
        spec: &KeySpec,
        asked: &Asked<'_>,
    ) -> Option<&Arc<KeySpec>> {
        if self.0.is_empty() {
            return None;
        }
        let first = |sets: fn(&Rule) -> bool| {
            rules.iter().position(|rule| sets(rule) && rule.selects.matches(asked))
        };
        let ignoring = first(|rule| rule.ignored_members.is_some());
        let keeping = first(|rule| rule.kept_members.is_some());
        let specs = self.0.get(&(ignoring, keeping))?;
        specs.iter().find(|changed| changed.model_route() == spec.model_route())
    }
}

fn may_decide_together(ignoring: Option<&Rule>, keeping: Option<&Rule>) -> bool {
    match (ignoring, keeping) {
        (Some(one), Some(other)) => one.selects.may_meet(&other.selects),
        (None, None) => false,
        _ => true,
    }
}

/// For each model route that both may select, its spec. What both name is kept: at worst a hit is missed.
fn specs(ignoring: Option<&Rule>, keeping: Option<&Rule>) -> Vec<Arc<KeySpec>> {
    let ignored = ignoring.and_then(|rule| rule.ignored_members.as_deref()).unwrap_or_default();
    let kept = keeping.and_then(|rule| rule.kept_members.as_deref()).unwrap_or_default();
    let is_selected = |route: &ModelRoute| {
        let mut endpoints = ignoring.iter().chain(&keeping).map(|rule| &rule.selects.endpoint);
        endpoints.all(|endpoint| endpoint.as_deref().is_none_or(|name| name == route.name()))
    };
    let spec = |route| Arc::new(KeySpec::preset(route).ignoring(ignored).keeping(kept));
    ModelRoute::ALL.into_iter().filter(is_selected).map(spec).collect()
}
