//! For the shell: completion scripts and man pages.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::Arguments;

/// Prints a completion script.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "warm", &mut script);
    print(&script)
}

/// Prints the man page, or writes those of all commands into a folder.
pub(crate) fn man(folder: Option<&Path>) -> anyhow::Result<()> {
    // It would name a page of `help`, and there is none.
    let command = Arguments::command().disable_help_subcommand(true);
    if let Some(folder) = folder {
        return clap_mangen::generate_to(command, folder)
            .with_context(|| format!("cannot write to {}", folder.display()));
    }
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    print(&page)
}

fn print(text: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).context("cannot write to standard output")
}
