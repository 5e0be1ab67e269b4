//! A caching server for AI and agent traffic.
//!
//! A request comes in over a connection that [`server`] accepted, and [`request::serve`] takes it
//! along its path: who asks, what the request means, whether an entry answers it, and if not,
//! one fetch for everybody who asks the same. What lives longer than a request is in
//! [`app::App`]. The modules, in reading order:
//!
//! - [`config`]: as written, then as used;
//! - [`clock`]: the only reader of time;
//! - [`cache`]: the entry, freshness, flights, tiers;
//! - [`upstream`]: mounting, asking, and whether an answer is whole;
//! - [`app`]: all long-lived state;
//! - [`request`]: the path of a request, a file a step;
//! - [`api`] and [`routes`]: the addresses that are ours;
//! - [`server`]: listeners, bounds, drain;
//! - [`telemetry`]: every metric;
//! - [`simulation`]: a simulated model API for trying the cache.
//!
//! Imports run one way: `clock, entry → freshness → tiers, upstream → app → request → api,
//! routes → server → main`.

pub mod api;
pub mod app;
pub mod cache;
pub mod clock;
pub mod config;
pub mod request;
pub mod routes;
pub mod server;
pub mod simulation;
pub mod telemetry;
pub mod upstream;
