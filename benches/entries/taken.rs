//! What a server takes of the machine.

use std::path::Path;

use anyhow::Context;
use rustix::process::Pid;

/// Memory of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) rss_bytes: f64,
    /// The most that ever was.
    pub(crate) peak_bytes: f64,
}

/// What the system says of a process.
pub(crate) fn memory(process: Pid) -> anyhow::Result<Memory> {
    let path = format!("/proc/{}/status", process.as_raw_nonzero());
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let bytes = |name| bytes_of(&status, name).with_context(|| format!("{path} has no {name}"));
    Ok(Memory { rss_bytes: bytes("VmRSS:")?, peak_bytes: bytes("VmHWM:")? })
}

fn bytes_of(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0)
}

/// Bytes of disk that the files of a folder and those below it take: of sparse ones what is written.
#[cfg(unix)]
pub(crate) fn disk_bytes(folder: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;

    /// As `st_blocks` counts them.
    const BLOCK_BYTES: u64 = 512;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += match metadata.is_dir() {
            true => disk_bytes(&entry.path())?,
            false => metadata.blocks() * BLOCK_BYTES,
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(bytes_of(status, "VmRSS:"), Some(1_048_576.0));
        assert_eq!(bytes_of(status, "VmSwap:"), None);
    }

    #[test]
    fn a_sparse_file_takes_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::File::create(inner.join("sparse")).unwrap().set_len(1 << 30).unwrap();
        std::fs::write(folder.path().join("written"), [1; 10_000]).unwrap();
        assert!(disk_bytes(folder.path()).unwrap() < 1 << 20);
    }
}
