//! `keyspec check-spec`: whether a file of specs can be meant, and what each is for.

use std::process::ExitCode;

use keyspec::{KeySpecs, Overlap, SpecFile};
use serde_json::json;

use crate::Usage;
use crate::arguments::CheckSpecArguments;
use crate::request;

pub(crate) fn run(arguments: &CheckSpecArguments) -> Result<ExitCode, Usage> {
    let file = &arguments.file;
    let refused = |error| Usage::new(format!("{}: {error}", file.display()));
    let text = request::text(file)?;
    let written = SpecFile::parse(&text).map_err(refused)?;
    let specs = KeySpecs::declare(&written.key_spec).map_err(refused)?;
    let overlaps = specs.overlaps();
    if arguments.json {
        println!("{}", json!({ "key_specs": written.key_spec, "overlaps": overlaps }));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} key spec(s):", written.key_spec.len());
    for spec in &written.key_spec {
        let methods = match &spec.methods[..] {
            [] => "POST".to_owned(),
            methods => methods.join(", "),
        };
        println!("  {} version {}: {methods} {}", spec.name, spec.version, spec.path);
    }
    for Overlap { taken, over, path } in &overlaps {
        println!("{path} is for {taken} and also for {over}: it is read by {taken}");
    }
    println!("The file is valid.");
    Ok(ExitCode::SUCCESS)
}
