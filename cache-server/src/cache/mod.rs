//! What is kept and for how long: the entry's stored form, freshness, flights and tiers, which
//! entries were purged and whose are withheld, and the levers that an operator pulls for a while.

pub mod aliases;
pub mod budget;
pub mod entry;
pub mod flight;
pub mod freshness;
pub mod memo;
pub mod overrides;
pub mod purge;
pub mod recent;
pub mod suspension;
pub mod tags;
pub mod tiers;
pub mod unshared;
pub mod variants;
