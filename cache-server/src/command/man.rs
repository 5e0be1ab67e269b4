//! `cache-server man`: the man page, or those of all commands.

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;

use super::{Arguments, Failure, ManOptions, print};

pub(crate) fn run(options: &ManOptions) -> Result<(), Failure> {
    // It would name a page of `help`, and there is none.
    let command = Arguments::command().disable_help_subcommand(true);
    if let Some(folder) = &options.dir {
        return clap_mangen::generate_to(command, folder)
            .with_context(|| format!("cannot write to {}", folder.display()))
            .map_err(Failure::start);
    }
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(Failure::start)?;
    print(&page)
}
