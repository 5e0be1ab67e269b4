//! What came of the turns.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kind::Kind;

/// Unexpected ends that are told one by one; further ones are only counted.
const TOLD_MAX: usize = 20;

/// Counts by kind of caller.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    inner: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Turns, and those of them that ended as they should not, in the order of [`Kind::ALL`].
    by_kind: [(u64, u64); Kind::ALL.len()],
    told: Vec<String>,
}

impl Tally {
    /// Counts a turn.
    pub(crate) fn count(&self, kind: Kind, ended: anyhow::Result<()>) {
        let mut counts = self.held();
        let (turns, unexpected) = &mut counts.by_kind[kind as usize];
        *turns += 1;
        if let Err(why) = ended {
            *unexpected += 1;
            if counts.told.len() < TOLD_MAX {
                counts.told.push(format!("{}: {why:#}", kind.name()));
            }
        }
    }

    /// Turns, all in all, and those that ended as they should not.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let counts = self.held();
        let sum = |(a, b), (c, d): &(u64, u64)| (a + c, b + d);
        counts.by_kind.iter().fold((0, 0), sum)
    }

    /// The kinds that had callers and took no turn.
    pub(crate) fn idle(&self) -> Vec<&'static str> {
        let counts = self.held();
        let idle = |kind: &&Kind| kind.callers() > 0 && counts.by_kind[**kind as usize].0 == 0;
        Kind::ALL.iter().filter(idle).map(|kind| kind.name()).collect()
    }

    /// A row for each kind, and what was unexpected.
    pub(crate) fn table(&self) -> String {
        let counts = self.held();
        let mut text = format!("{:<28}{:>10}{:>12}\n", "callers", "turns", "unexpected");
        for kind in Kind::ALL.into_iter().filter(|kind| kind.callers() > 0) {
            let (turns, unexpected) = counts.by_kind[kind as usize];
            let _ = writeln!(text, "{:<28}{turns:>10}{unexpected:>12}", kind.name());
        }
        for told in &counts.told {
            let _ = writeln!(text, "UNEXPECTED: {told}");
        }
        text
    }

    fn held(&self) -> MutexGuard<'_, Counts> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_count_and_the_first_surprises_are_told() {
        let tally = Tally::default();
        for kind in Kind::ALL {
            tally.count(kind, Ok(()));
        }
        assert_eq!((tally.totals(), tally.idle()), ((10, 0), Vec::new()));
        for _ in 0..TOLD_MAX + 5 {
            tally.count(Kind::Storms, Err(anyhow::anyhow!("lost")));
        }
        assert_eq!(tally.totals(), (35, 25));
        let table = tally.table();
        assert_eq!(table.matches("UNEXPECTED: storms, 24 callers: lost\n").count(), TOLD_MAX);
    }
}
