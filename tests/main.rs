//! Black-box tests of the running server, a file a behaviour.

mod hits;
