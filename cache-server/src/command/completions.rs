//! `cache-server completions`: a completion script for a shell.

use clap::CommandFactory;

use super::{Arguments, CompletionsOptions, Failure, print};

pub(crate) fn run(options: &CompletionsOptions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Arguments::command(), "cache-server", &mut script);
    print(&script)
}
