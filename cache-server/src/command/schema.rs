//! `cache-server schema`: the JSON schema of the config file, for editors and for other checks.

use anyhow::Context;
use cache_server::config::schema;

use super::Failure;

pub(crate) fn run() -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&schema::json())
        .context("the schema cannot be written")
        .map_err(Failure::start)?;
    println!("{text}");
    Ok(())
}
