//! Arguments → config → app → serve → exit code.
//!
//! Exit codes: 0 after a clean end, 1 when the server cannot start, is not healthy, or refuses what
//! a command asks of it, 2 for wrong usage or an invalid config.

mod command;

use std::process::ExitCode;

use clap::Parser;
use command::{Arguments, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match arguments.command {
        Command::Serve(options) => command::serve::run(&options),
        Command::Demo(options) => command::demo::run(&options),
        Command::Check(options) => command::check::run(&options),
        Command::Schema => command::schema::run(),
        Command::Top(options) => command::top::run(&options),
        Command::Override(options) => command::overrides::run(&options),
        Command::Purge(options) => command::purge::run(&options),
        Command::Inspect(options) => command::inspect::run(&options),
        Command::CredentialDigest => command::digest::run(),
        Command::Health(options) => command::health::run(&options),
        Command::Completions(options) => command::completions::run(&options),
        Command::Man(options) => command::man::run(&options),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("cache-server: {:#}", failure.why);
            ExitCode::from(failure.exit_code)
        }
    }
}
