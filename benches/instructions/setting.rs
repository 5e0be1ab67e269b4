//! What the count of instructions depends on beside the code: the compiler, the processor's features,
//! and the version of valgrind.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use memchr::memmem;
use serde::{Deserialize, Serialize};

/// What is before the compiler's version in what it builds.
const COMPILER: &[u8] = b"rustc version ";
/// Such a version is short.
const VERSION_BYTES_MAX: usize = 100;
/// Features that code asks for while it runs, and that valgrind passes on. Others are not there for
/// what runs in it.
const FEATURES: [&str; 9] =
    ["ssse3", "sse4_1", "sse4_2", "avx", "avx2", "bmi2", "f16c", "rdrand", "asimd"];

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// What built the server.
    pub(crate) rustc: String,
    /// What counted.
    pub(crate) valgrind: String,
    /// The kind of processor; counts are the same on others with the same features.
    pub(crate) processor: String,
    /// What it can do.
    pub(crate) features: Vec<String>,
}

impl Setting {
    /// In what this one, which is recorded, differs from the one of today, so that counts may differ
    /// although the code does not.
    pub(crate) fn differences(&self, now: &Setting) -> Vec<String> {
        let said = |what: &str, recorded: &str, now: &str| {
            (recorded != now).then(|| format!("{what} was {recorded}, and is {now}"))
        };
        let differences = [
            said("rustc", &self.rustc, &now.rustc),
            said("valgrind", &self.valgrind, &now.valgrind),
            said("the processor", &self.features.join(" "), &now.features.join(" ")),
        ];
        differences.into_iter().flatten().collect()
    }
}

/// That of this machine and this server.
pub(crate) fn read(server: &Path) -> anyhow::Result<Setting> {
    let binary =
        std::fs::read(server).with_context(|| format!("cannot read {}", server.display()))?;
    let rustc = compiler(&binary).context("the server does not say what built it")?;
    let output = Command::new(valgrind()?).arg("--version").output()?;
    ensure!(output.status.success(), "valgrind does not run: {}", output.status);
    let valgrind =
        String::from_utf8(output.stdout)?.trim().trim_start_matches("valgrind-").to_owned();
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    Ok(Setting {
        rustc,
        valgrind,
        processor: field(&processor, "model name").unwrap_or(std::env::consts::ARCH).to_owned(),
        features: features(&processor),
    })
}

/// Where valgrind is.
pub(crate) fn valgrind() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("valgrind"));
    let missing = "valgrind is missing: `make valgrind` installs it on Debian, as root";
    found.into_iter().find(|file| file.is_file()).context(missing)
}

/// The first version in the binary: the text is there without one, too, where somebody looks for it.
fn compiler(binary: &[u8]) -> Option<String> {
    memmem::find_iter(binary, COMPILER).find_map(|at| {
        let said = &binary[at + COMPILER.len()..];
        let said = &said[..said.len().min(VERSION_BYTES_MAX)];
        let end = said.iter().position(|byte| !matches!(byte, b' '..=b'~'))?;
        let version = std::str::from_utf8(&said[..end]).ok()?;
        version.starts_with(|letter: char| letter.is_ascii_digit()).then(|| version.to_owned())
    })
}

fn features(processor: &str) -> Vec<String> {
    let said = field(processor, "flags").or_else(|| field(processor, "Features")).unwrap_or("");
    let said: Vec<&str> = said.split(' ').collect();
    FEATURES
        .iter()
        .filter(|feature| said.contains(feature))
        .map(|feature| (*feature).to_owned())
        .collect()
}

fn field<'a>(processor: &'a str, name: &str) -> Option<&'a str> {
    processor.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_is_read_from_what_it_built() {
        let binary = b"\x7fELF rustc version \0 rustc version 1.95.0 (59807616e 2026-04-14)\0GCC";
        assert_eq!(compiler(binary).unwrap(), "1.95.0 (59807616e 2026-04-14)");
        assert_eq!(compiler(b"rustc version "), None);
    }

    #[test]
    fn the_processor_is_read_as_linux_tells_of_it() {
        let told = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 sse4_2 avx512f\n";
        assert_eq!(field(told, "model name"), Some("AMD EPYC"));
        assert_eq!(features(told), ["sse4_2", "avx2"]);
        assert!(features("").is_empty());
    }

    #[test]
    fn only_what_counts_depend_on_is_a_difference() {
        let setting = |rustc: &str, processor: &str| Setting {
            rustc: rustc.into(),
            valgrind: "3.19.0".into(),
            processor: processor.into(),
            features: Vec::new(),
        };
        let recorded = setting("1.95.0", "one");
        assert!(recorded.differences(&setting("1.95.0", "another")).is_empty());
        let differences = recorded.differences(&setting("1.96.0", "one"));
        assert_eq!(differences, ["rustc was 1.95.0, and is 1.96.0"]);
    }
}
