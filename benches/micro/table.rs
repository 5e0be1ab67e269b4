//! The table: what criterion measured in this run, a line a benchmark.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;

use crate::samples;

/// Prints the median, and what the quickest sample took, of what was measured since `began`; of nothing
/// where criterion was only to list or to test.
pub(crate) fn print(estimates: &Path, began: SystemTime) -> anyhow::Result<()> {
    println!("{:<45} {:>12} {:>12}", "", "median ns", "quickest ns");
    for group in folders(estimates)? {
        for directory in all_below(&group)? {
            let is_new = fs::metadata(directory.join("new/sample.json"))
                .and_then(|file| file.modified())
                .is_ok_and(|written| written >= began);
            let Some(samples) = samples::read(&directory).filter(|_| is_new) else { continue };
            let name = directory.strip_prefix(estimates)?.display().to_string();
            println!("{name:<45} {:>12.1} {:>12.1}", samples.median, samples.quickest);
        }
    }
    Ok(())
}

/// Those of functions, and of functions with a parameter.
fn all_below(group: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for function in folders(group)? {
        let parameters = folders(&function)?;
        all.push(function);
        all.extend(parameters);
    }
    Ok(all)
}

/// The folders in a folder, by name; none if it is not there.
fn folders(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Ok(found) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let found = found.map(|entry| Ok(entry.context("a folder cannot be read")?.path()));
    let mut folders: Vec<PathBuf> = found.collect::<anyhow::Result<_>>()?;
    folders.retain(|path| path.is_dir());
    folders.sort();
    Ok(folders)
}
