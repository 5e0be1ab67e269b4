//! The command line that the binaries which measure have in common.

use std::fmt::Debug;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::report::Report;

/// How much is measured, of what, and where it goes.
#[derive(Debug, Args)]
pub(crate) struct Options<S: ValueEnum + Send + Sync + 'static> {
    /// A smoke run: few and short rounds, figures of little worth
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rounds to take the medians of
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: Option<u16>,
    /// Measure this alone. Repeatable
    #[arg(long, value_name = "SUBJECT", value_enum)]
    pub(crate) only: Vec<S>,
    /// Write the table as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The server under test [default: cache-server beside this binary]
    #[arg(long, value_name = "FILE")]
    pub(crate) server: Option<PathBuf>,
}

impl<S: ValueEnum + Send + Sync + 'static> Options<S> {
    /// Prints what was measured, and writes it where it is wanted.
    pub(crate) fn show(&self, report: &Report) -> anyhow::Result<()> {
        print!("{}", report.table());
        if let Some(path) = &self.json {
            report.write_json(path)?;
        }
        Ok(())
    }
}

/// How a binary of this name ends.
pub(crate) fn ended(name: &str, played: anyhow::Result<()>) -> ExitCode {
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{name}: {why:#}");
            ExitCode::FAILURE
        }
    }
}
