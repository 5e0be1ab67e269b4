//! What is ours to answer: the admin listener's addresses.

pub mod admin;
pub mod authorization;
pub mod body;
pub mod inspect;
pub mod log;
pub mod overrides;
pub mod problem;
pub mod purge;
