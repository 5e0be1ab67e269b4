//! Recent: what was noted lately, by key, in a table that is bounded. At the bound what was noted
//! longest ago is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What was noted lately.
#[derive(Debug)]
pub struct Recent<K, V> {
    count_max: usize,
    /// How many there are: who asks looks no further while there are none.
    count: AtomicUsize,
    table: Mutex<Table<K, V>>,
}

#[derive(Debug)]
struct Table<K, V> {
    noted: HashMap<K, (u64, V)>,
    /// The same keys, what was noted longest ago first.
    order: BTreeMap<u64, K>,
    next: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Recent<K, V> {
    /// Nothing yet, and at most `count_max`.
    #[must_use]
    pub fn new(count_max: usize) -> Recent<K, V> {
        let table = Table { noted: HashMap::new(), order: BTreeMap::new(), next: 0 };
        Recent { count_max, count: AtomicUsize::new(0), table: Mutex::new(table) }
    }

    /// Whether there is nothing at all, which is the rule and costs next to nothing to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// What is noted under this key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V> {
        if self.is_empty() {
            return None;
        }
        self.with_table(|table| table.noted.get(key).map(|(_, value)| value.clone()))
    }

    /// Notes what `value` makes of what was noted before.
    pub fn note(&self, key: K, value: impl FnOnce(Option<V>) -> V) {
        self.with_table(|table| {
            let number = table.next;
            table.next += 1;
            let before = table.noted.remove(&key).map(|(number, before)| {
                table.order.remove(&number);
                before
            });
            table.noted.insert(key.clone(), (number, value(before)));
            table.order.insert(number, key);
            while table.noted.len() > self.count_max
                && let Some((_, oldest)) = table.order.pop_first()
            {
                table.noted.remove(&oldest);
            }
        });
    }

    /// Forgets what is noted under this key, and gives it.
    pub fn forget(&self, key: &K) -> Option<V> {
        if self.is_empty() {
            return None;
        }
        self.with_table(|table| {
            let (number, value) = table.noted.remove(key)?;
            table.order.remove(&number);
            Some(value)
        })
    }

    /// Forgets what is noted under this key where that `is_past`.
    pub fn forget_if(&self, key: &K, is_past: impl FnOnce(&V) -> bool) {
        self.with_table(|table| {
            if let Some((number, value)) = table.noted.get(key)
                && is_past(value)
            {
                table.order.remove(number);
                table.noted.remove(key);
            }
        });
    }

    fn with_table<T>(&self, work: impl FnOnce(&mut Table<K, V>) -> T) -> T {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut table);
        self.count.store(table.noted.len(), Ordering::Relaxed);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(recent: &Recent<u32, u32>) -> Vec<u32> {
        (0..10).filter(|key| recent.get(key).is_some()).collect()
    }

    #[test]
    fn what_is_noted_anew_knows_what_was_noted_before() {
        let recent = Recent::new(10);
        let more = |before: Option<u32>| before.unwrap_or(0) + 1;
        recent.note(1, more);
        recent.note(1, more);
        assert_eq!((recent.get(&1), recent.get(&2), recent.count()), (Some(2), None, 1));
        assert_eq!((recent.forget(&1), recent.forget(&1)), (Some(2), None));
        assert!(recent.is_empty());
    }

    #[test]
    fn at_the_bound_what_was_noted_longest_ago_is_forgotten() {
        let recent = Recent::new(3);
        (0..5).for_each(|key| recent.note(key, |_| key));
        assert_eq!(known(&recent), [2, 3, 4]);
        recent.note(2, |_| 0);
        recent.note(5, |_| 0);
        assert_eq!(known(&recent), [2, 4, 5], "what is noted anew is the youngest");
        recent.forget(&4);
        recent.note(6, |_| 0);
        assert_eq!(known(&recent), [2, 5, 6], "what is forgotten leaves its place");
    }

    #[test]
    fn only_what_is_past_is_forgotten_by_those_who_find_it_past() {
        let recent = Recent::new(3);
        recent.note(1, |_| 7);
        recent.forget_if(&1, |value| *value < 7);
        assert_eq!(recent.get(&1), Some(7));
        recent.forget_if(&1, |value| *value == 7);
        assert!(recent.is_empty());
    }

    #[test]
    fn a_table_that_may_hold_nothing_holds_nothing() {
        let recent = Recent::new(0);
        recent.note(1, |_| 1);
        assert!(recent.is_empty());
    }
}
