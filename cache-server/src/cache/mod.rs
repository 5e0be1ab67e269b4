//! What is kept and for how long: the entry's stored form, freshness, flights and tiers, and whose
//! entries are withheld, and the levers that an operator pulls for a while.

pub mod budget;
pub mod entry;
pub mod flight;
pub mod freshness;
pub mod memo;
pub mod overrides;
pub mod suspension;
pub mod tiers;
