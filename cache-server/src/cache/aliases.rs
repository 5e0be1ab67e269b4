//! Aliases: which model answered last for a model that was asked for.
//!
//! Providers move a name such as `gpt-4o` from one dated model to the next. Where a route says so,
//! what the older one answered becomes stale then. The table is bounded: at the bound the alias
//! that was learned first is forgotten, and its next answer is no change.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::cache::entry::Selector;

/// Most aliases that are remembered.
pub const ALIASES_MAX: usize = 10_000;

/// Who answers for whom.
#[derive(Debug, Default)]
pub struct Aliases {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    answered_by: HashMap<Selector, Box<str>>,
    order: VecDeque<Selector>,
}

impl Aliases {
    /// Notes that `model` answered for what is asked as `asked`. Says whether another one did so
    /// before.
    pub fn note(&self, asked: Selector, model: &str) -> bool {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = table.answered_by.get_mut(&asked) {
            let has_changed = **before != *model;
            if has_changed {
                *before = model.into();
            }
            return has_changed;
        }
        if table.order.len() == ALIASES_MAX
            && let Some(oldest) = table.order.pop_front()
        {
            table.answered_by.remove(&oldest);
        }
        table.order.push_back(asked);
        table.answered_by.insert(asked, model.into());
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_changes_when_another_model_answers_for_it() {
        let aliases = Aliases::default();
        let asked = Selector::model("gpt-4o");
        assert!(!aliases.note(asked, "gpt-4o-2024-05-13"), "the first is no change");
        assert!(!aliases.note(asked, "gpt-4o-2024-05-13"));
        assert!(aliases.note(asked, "gpt-4o-2024-08-06"));
        assert!(!aliases.note(asked, "gpt-4o-2024-08-06"));
    }

    #[test]
    fn at_the_bound_the_alias_learned_first_is_forgotten() {
        let aliases = Aliases::default();
        let asked = |index: usize| Selector::model(&index.to_string());
        (0..=ALIASES_MAX).for_each(|index| assert!(!aliases.note(asked(index), "a")));
        assert!(!aliases.note(asked(0), "b"), "it was forgotten");
        assert!(aliases.note(asked(ALIASES_MAX), "b"));
    }
}
