//! Positions: how the numbers of this server's orders and those that servers share stand to each other.
//!
//! A shared number is given to an order when it is published, and grows with every publication. An
//! entry that is shared carries a *position*: a shared number that was published before its fill began.
//! It is dead by every order that names it and has a greater one. So nobody must know which orders the
//! fill's server had heard of: only that it asked the upstream after they had been published.
//!
//! On one server an order has a number of its own, in force before it is published. Hence two lists,
//! both short of what changes nothing:
//!
//! - `seen`: from which own number on fills began after a shared number had been published. It gives an
//!   entry that is written its position.
//! - `in_force`: from which own number on orders with a greater shared number hold. It gives an entry
//!   that is read its own number.
//!
//! Both are bounded; what is older than they remember purges more, and never less.

use std::collections::VecDeque;

/// Steps that are remembered.
const STEPS_MAX: usize = 4_096;

/// A shared number and an own one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    shared: u64,
    own: u64,
}

/// How own numbers and shared ones stand to each other. Both lists grow in both numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions {
    seen: VecDeque<Step>,
    in_force: VecDeque<Step>,
    /// Own numbers of orders up to this shared number are forgotten.
    forgotten: u64,
}

impl Positions {
    /// Notes that fills which record `own` or more begin after `shared` was published.
    pub(super) fn note_seen(&mut self, shared: u64, own: u64) {
        if self.newest_seen() >= shared {
            return;
        }
        self.seen.push_back(Step { shared, own });
        if self.seen.len() > STEPS_MAX {
            self.seen.pop_front();
        }
    }

    /// Notes that the order with this shared number holds for entries below `own`.
    pub(super) fn note_order(&mut self, shared: u64, own: u64) {
        let at = self.in_force.partition_point(|step| step.shared < shared);
        // An order with a greater shared number that holds from no greater own one says as much.
        if self.in_force.get(at).is_some_and(|step| step.own <= own) {
            return;
        }
        // And this one says as much as those before it that hold from no lesser own one.
        let kept = self.in_force.iter().take(at).filter(|step| step.own < own).count();
        self.in_force.drain(kept..at);
        self.in_force.insert(kept, Step { shared, own });
        if self.in_force.len() > STEPS_MAX
            && let Some(oldest) = self.in_force.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest.shared);
        }
    }

    /// The greatest shared number that fills begin after now.
    pub(super) fn newest_seen(&self) -> u64 {
        self.seen.back().map_or(0, |step| step.shared)
    }

    /// The position of an entry whose fill recorded this own number; 0 if nobody knows.
    pub(super) fn position(&self, own: u64) -> u64 {
        let after = self.seen.partition_point(|step| step.own <= own);
        after.checked_sub(1).map_or(0, |at| self.seen[at].shared)
    }

    /// The own number of an entry at this position: every order with a greater shared number has a
    /// greater own one, also one that is heard of late. `newest` is the newest own number, and `unshared`
    /// that of the oldest order that has no shared number yet.
    pub(super) fn own_number(&self, position: u64, newest: u64, unshared: Option<u64>) -> u64 {
        if position < self.forgotten {
            return 0;
        }
        let after = self.in_force.partition_point(|step| step.shared <= position);
        let of_shared = self.in_force.get(after).map(|step| step.own);
        // What was published after the position may be heard of later than what was published after that.
        let of_late = self.late_number(position.saturating_add(1));
        let first = of_shared.into_iter().chain(of_late).chain(unshared).min();
        first.map_or(newest, |first| first.saturating_sub(1))
    }

    /// From which own number on an order holds that is heard of late: fills that began after it had
    /// been published are spared. Nothing if there are none.
    pub(super) fn late_number(&self, shared: u64) -> Option<u64> {
        let after = self.seen.partition_point(|step| step.shared < shared);
        self.seen.get(after).map(|step| step.own)
    }
}
