//! Figures by model: how often it was asked for, how often an entry answered, which tokens were
//! saved.
//!
//! A model's name is a caller's text, so it is never a label of a metric, and it enters the table
//! only with an answer that was stored or hit: nobody fills the table with names that no upstream
//! answers to. The table holds [`MODELS_MAX`] names; all others count as [`OTHER`]. It is read
//! and counted without a lock.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rapidhash::quality::RandomState;
use serde::Serialize;

use super::Outcome;
use super::requests::Ended;

/// Models that are told apart.
pub const MODELS_MAX: usize = 64;
/// What stands for all others.
pub const OTHER: &str = "(other)";
/// Longer names count as [`OTHER`].
const NAME_BYTES_MAX: usize = 256;
/// Half of the slots stay empty, so that a name that is not there is soon known not to be.
const SLOTS: usize = 2 * MODELS_MAX;

/// Counts by model.
#[derive(Debug)]
pub struct Models {
    /// Open addressing; a slot that is filled stays so.
    slots: Box<[OnceLock<Model>]>,
    entered: AtomicUsize,
    other: Counts,
    /// Seeded anew in each process, so that nobody can aim at a slot.
    hasher: RandomState,
}

#[derive(Debug)]
struct Model {
    name: Box<str>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    asked: AtomicU64,
    hits: AtomicU64,
    tokens_saved: AtomicU64,
}

/// What `/stats` shows of one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelFigures {
    /// Requests that named it, since it is in the table.
    pub asked: u64,
    /// Those of them that an entry answered, fresh or stale.
    pub hits: u64,
    /// Tokens, input and output, that those and the followers of a stored answer saved.
    pub tokens_saved: u64,
}

impl Default for Models {
    fn default() -> Models {
        Models {
            slots: (0..SLOTS).map(|_| OnceLock::new()).collect(),
            entered: AtomicUsize::new(0),
            other: Counts::default(),
            hasher: RandomState::new(),
        }
    }
}

impl Models {
    /// Counts a request that has ended; one that names no model is not counted.
    pub fn count(&self, ended: &Ended<'_>) {
        let Some(name) = ended.model else { return };
        let from_entry = matches!(ended.outcome, Outcome::Hit | Outcome::Stale);
        let counts = self.find(name, from_entry || ended.stored).unwrap_or(&self.other);
        counts.asked.fetch_add(1, Ordering::Relaxed);
        if from_entry {
            counts.hits.fetch_add(1, Ordering::Relaxed);
        }
        if (from_entry || (ended.outcome == Outcome::Collapsed && ended.stored))
            && let Some(usage) = ended.usage
        {
            let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
            counts.tokens_saved.fetch_add(tokens, Ordering::Relaxed);
        }
    }

    /// The figures of every model in the table, and of all others together if there are any.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<String, ModelFigures> {
        let known = self.slots.iter().filter_map(OnceLock::get);
        let mut figures: BTreeMap<String, ModelFigures> =
            known.map(|model| (model.name.to_string(), model.counts.figures())).collect();
        let other = self.other.figures();
        if other != ModelFigures::default() {
            figures.insert(OTHER.to_owned(), other);
        }
        figures
    }

    /// The counts of a name; one that is not there is entered if it may be and there is room.
    fn find(&self, name: &str, may_enter: bool) -> Option<&Counts> {
        if name.len() > NAME_BYTES_MAX || name == OTHER {
            return None;
        }
        // Cut on purpose: any bits of a good hash do.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        let first = self.hasher.hash_one(name) as usize;
        for step in 0..SLOTS {
            let slot = &self.slots[first.wrapping_add(step) % SLOTS];
            let model = match slot.get() {
                Some(model) => model,
                None if may_enter => self.enter(slot, name)?,
                None => return None,
            };
            if *model.name == *name {
                return Some(&model.counts);
            }
        }
        None
    }

    /// Fills an empty slot, unless the table is full; gives what is in it, which may be another
    /// model that came first.
    fn enter<'s>(&self, slot: &'s OnceLock<Model>, name: &str) -> Option<&'s Model> {
        let room = |entered: usize| (entered < MODELS_MAX).then_some(entered + 1);
        self.entered.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        let model = Model { name: name.into(), counts: Counts::default() };
        if slot.set(model).is_err() {
            self.entered.fetch_sub(1, Ordering::Relaxed);
        }
        slot.get()
    }
}

impl Counts {
    fn figures(&self) -> ModelFigures {
        ModelFigures {
            asked: self.asked.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            tokens_saved: self.tokens_saved.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::Usage;

    fn ended(model: &str, outcome: Outcome, stored: bool) -> Ended<'_> {
        let usage = Some(Usage { input_tokens: 3, output_tokens: 5 });
        Ended { model: Some(model), stored, usage, ..Ended::new(outcome) }
    }

    #[test]
    fn a_model_enters_with_an_answer_that_was_stored() {
        let models = Models::default();
        models.count(&ended("m", Outcome::Bypass, false));
        models.count(&ended("m", Outcome::Miss, false));
        assert_eq!(models.figures()[OTHER].asked, 2);
        models.count(&ended("m", Outcome::Miss, true));
        models.count(&ended("m", Outcome::Bypass, false));
        models.count(&ended("m", Outcome::Hit, false));
        models.count(&ended("m", Outcome::Collapsed, true));
        let expected = ModelFigures { asked: 4, hits: 1, tokens_saved: 16 };
        assert_eq!(models.figures()["m"], expected);
    }

    #[test]
    fn names_without_an_answer_never_fill_the_table() {
        let models = Models::default();
        for number in 0..10_000 {
            models.count(&ended(&format!("unheard-of-{number}"), Outcome::Failed, false));
        }
        models.count(&ended("real", Outcome::Hit, false));
        let names: Vec<String> = models.figures().into_keys().collect();
        assert_eq!(names, [OTHER, "real"]);
    }

    #[test]
    fn beyond_the_bound_models_are_counted_together() {
        let models = Models::default();
        for number in 0..MODELS_MAX + 10 {
            models.count(&ended(&format!("model-{number}"), Outcome::Miss, true));
        }
        let figures = models.figures();
        assert_eq!(figures.len(), MODELS_MAX + 1);
        assert_eq!(figures[OTHER].asked, 10);
        models.count(&ended("model-0", Outcome::Hit, false));
        assert_eq!(models.figures()["model-0"].asked, 2, "who is in the table stays in it");
    }

    #[test]
    fn a_name_that_is_too_long_or_taken_by_us_is_another() {
        let models = Models::default();
        models.count(&ended(&"x".repeat(NAME_BYTES_MAX + 1), Outcome::Miss, true));
        models.count(&ended(OTHER, Outcome::Miss, true));
        assert_eq!(models.figures()[OTHER].asked, 2);
        assert_eq!(models.figures().len(), 1);
    }

    #[test]
    fn many_who_enter_at_once_are_all_counted_and_none_twice() {
        let models = Models::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..2 * MODELS_MAX {
                        models.count(&ended(&format!("model-{number}"), Outcome::Hit, false));
                    }
                });
            }
        });
        let figures = models.figures();
        assert!(figures.len() <= MODELS_MAX + 1, "{} models", figures.len());
        assert_eq!(figures.values().map(|model| model.asked).sum::<u64>(), 16 * MODELS_MAX as u64);
    }
}
