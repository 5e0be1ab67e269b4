//! Flights: one fill under way for one key, and everybody who reads along.
//!
//! A flight is an append-only list of chunks with a watched state. Its [`Writer`] belongs to a
//! detached task, never to a caller's connection, so a caller that hangs up harms nobody. A
//! [`Reader`] starts at the first byte whenever it joins and then runs live. A writer that goes
//! away without saying how it ended leaves a failed flight, never one that looks complete.
//!
//! Bounds. While the answer fits into `recorded_bytes_max` and the budget has room, every chunk
//! is kept for late joiners and for storing. Beyond that the flight stops recording: it leaves
//! the table (nobody joins any more, nothing is stored), keeps a window of `window_bytes`, and
//! is paced by its slowest reader. A reader that does not move for `slow_reader_timeout` is
//! dropped from the window and gets an error. Nobody boards a flight older than `age_max`.
//!
//! The table knows neither HTTP nor upstreams: `H` is what is known at the headers, `E` why a
//! fill failed.

#[cfg(test)]
mod model;
mod reader;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use super::{budget, sync};

pub use reader::{Next, Reader};
pub use state::Failure;
pub use table::{Flights, Joined, Limits};
pub use writer::{NobodyListens, Writer};
