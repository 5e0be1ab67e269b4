//! What is kept and for how long: the entry's stored form, freshness, flights and tiers, and whose
//! entries are withheld.

pub mod budget;
pub mod entry;
pub mod flight;
pub mod freshness;
pub mod memo;
pub mod suspension;
pub mod tiers;
