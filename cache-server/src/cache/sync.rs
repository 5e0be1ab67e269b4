//! The primitives that flights and their budget synchronise by.
//!
//! They have a place of their own because the tests compile the same files a second time, on
//! primitives whose order a scheduler decides (`flight/model`). So those files name their neighbours
//! by `super`, and have their tests elsewhere.

pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};
pub(super) use tokio::sync::{Notify, watch};
