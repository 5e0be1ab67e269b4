//! Black-box tests of the running server, a file a behaviour.

mod demo;
mod hits;
mod taste;
mod tls_upstream;
