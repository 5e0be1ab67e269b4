//! What is ours to answer: the admin listener's addresses.

pub mod admin;
