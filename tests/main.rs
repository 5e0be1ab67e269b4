//! Black-box tests of the running server, a file a behaviour.

mod admin;
mod command;
mod configuration;
mod demo;
mod failures;
mod flights;
mod hits;
mod hostile;
mod keys;
mod lifecycle;
mod limits;
mod mounts;
mod never_stored;
mod packaging;
mod passing;
mod providers;
mod reuse;
mod stale;
mod streams;
mod taste;
mod tenants;
mod terminal;
mod tls_upstream;
mod top;
mod tracing;
mod tunnels;
