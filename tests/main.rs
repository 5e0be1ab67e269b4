//! Black-box tests of the running server, a file a behaviour.

mod admin;
mod demo;
mod failures;
mod flights;
mod hits;
mod lifecycle;
mod limits;
mod passing;
mod stale;
mod streams;
mod taste;
mod tls_upstream;
