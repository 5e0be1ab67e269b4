//! `keyspec`: the key of a request on the command line, and why it is that one.
//!
//! Exit codes: 0, or 3 where a request has no key or may not be cached, 2 for wrong usage and
//! files that cannot be read, 1 where vectors do not hold or, asked so, two keys differ.

mod arguments;
mod check_spec;
mod explain;
mod key;
mod request;
mod vectors;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

/// Something that the user has to mend: exit code 2.
#[derive(Debug)]
struct Usage(String);

impl Usage {
    fn new(what: impl std::fmt::Display) -> Usage {
        Usage(what.to_string())
    }
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Key(arguments) => key::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Diff(arguments) => explain::run_diff(&arguments),
        Command::CheckSpec(arguments) => check_spec::run(&arguments),
        Command::Vectors(arguments) => vectors::run(&arguments),
    };
    ended.unwrap_or_else(|Usage(what)| {
        eprintln!("keyspec: {what}");
        ExitCode::from(2)
    })
}
