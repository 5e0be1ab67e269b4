//! What is kept and for how long: the entry's stored form, freshness, flights and tiers.

pub mod budget;
pub mod entry;
pub mod flight;
pub mod freshness;
pub mod memo;
pub mod tiers;
