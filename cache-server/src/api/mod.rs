//! What is ours to answer: the admin listener's addresses.

pub mod admin;
pub mod authorization;
pub mod log;
pub mod problem;
