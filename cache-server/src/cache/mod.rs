//! What is kept and for how long: the entry's stored form, freshness, flights and tiers, which
//! entries were purged and whose are withheld, what keeps a request from an upstream for now, and
//! the levers that an operator pulls for a while.

pub mod aliases;
pub mod back_off;
pub mod batches;
pub mod budget;
#[cfg(test)]
mod budget_tests;
pub mod coherence;
pub mod cool_down;
pub mod entry;
pub mod fill_times;
pub mod flight;
pub mod freshness;
pub mod groups;
pub mod leases;
pub mod memo;
pub mod negatives;
pub mod overrides;
pub mod packed;
pub mod purge;
pub mod recent;
pub mod repeats;
pub mod structured;
pub mod suspension;
mod sync;
pub mod tags;
pub mod tiers;
pub mod unshared;
pub mod variants;
