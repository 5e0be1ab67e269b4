//! A guard against regress: how many instructions the server takes for a hit, and for what is beside
//! it, compared with those that are recorded in this repository.
//!
//! The real server runs in valgrind, which counts what it executes in user space while a caller asks
//! it. Time depends on the machine and on what else that does. Instructions do not: they depend on the
//! code, on the compiler, and on the features of the processor, and those are recorded beside them.
//! They say nothing about time spent in the kernel, or waiting.
//!
//! - [`subject`]: what is counted; [`asked`]: the requests, and who asks them;
//! - [`exchange`], [`upstream`]: what is asked and answered, and by whom;
//! - [`counted`]: a server in valgrind; [`measure`]: what comes of it;
//! - [`setting`], [`recorded`]: the record; [`table`]: how that and the run compare.

mod asked;
mod counted;
#[expect(dead_code, reason = "where answers are from is finer here")]
#[path = "../shared/numbered.rs"]
mod exchange;
mod measure;
mod recorded;
mod setting;
#[expect(dead_code, reason = "rounds and their tables are for others")]
#[path = "../shared/mod.rs"]
mod shared;
mod subject;
mod table;
#[path = "../shared/numbered_upstream.rs"]
mod upstream;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};

use recorded::Recorded;
use shared::command::ended;
use shared::{listen, process, single_thread};
use subject::Subject;

/// Counts the instructions that the server takes for a request, and compares them with the record.
#[derive(Debug, Parser)]
struct Arguments {
    /// Write the record instead of comparing with it
    #[arg(long, conflicts_with = "only")]
    record: bool,
    /// Count this alone. Repeatable
    #[arg(long, value_name = "SUBJECT", value_enum)]
    only: Vec<Subject>,
    /// Keep what valgrind writes, for callgrind_annotate, in this folder
    #[arg(long, value_name = "FOLDER")]
    profiles: Option<PathBuf>,
    /// The record
    #[arg(long, value_name = "FILE", default_value = RECORD)]
    recorded: PathBuf,
    /// The server under test [default: cache-server beside this binary]
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The parts that this binary plays in processes of their own.
#[derive(Clone, Copy, Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Upstream,
}

/// Where the record is, from the root of the repository.
const RECORD: &str = "benches/instructions/recorded.json";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    ended("instructions", play(&arguments))
}

fn play(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.part {
        Some(Part::Upstream) => listen::runtime()?.block_on(upstream::run()),
        None => conduct(arguments),
    }
}

fn conduct(arguments: &Arguments) -> anyhow::Result<()> {
    let server = process::binary(arguments.server.as_deref(), "bench-check")?;
    let setting = setting::read(&server)?;
    let before = if arguments.record { None } else { Some(Recorded::load(&arguments.recorded)?) };
    if let Some(folder) = &arguments.profiles {
        make_folder(folder)?;
    }
    let counts = single_thread()?.block_on(measure::all(
        &arguments.only,
        &server,
        arguments.profiles.as_deref(),
    ))?;
    let Some(before) = before else {
        return Recorded::new(setting, &counts).save(&arguments.recorded);
    };
    let rows = recorded::compare(&before, &counts);
    print!("{}", table::text(&rows, &before.setting, &setting));
    let worse = recorded::worse(&rows);
    ensure!(worse.is_empty(), "more instructions than recorded for {}", worse.join(", "));
    Ok(())
}

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}
