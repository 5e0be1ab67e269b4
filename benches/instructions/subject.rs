//! What is counted, and what its answers must say to count.

use anyhow::ensure;
use clap::ValueEnum;

/// A way for a request to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// A chat completion from memory, asked in the same bytes each time
    MemoryHit,
    /// The same, each with another id in its header fields
    NewHead,
    /// The same, each body spelled as none before it
    NewSpelling,
    /// The same over HTTP/2
    Http2Hit,
    /// A page from memory, by GET
    PageHit,
    /// A chat completion from the disk
    DiskHit,
    /// A chat completion that is not reused, each body spelled as none before it, from the upstream
    PassedThrough,
}

/// Where the server keeps what it is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Disk,
    Nowhere,
}

impl Subject {
    /// What it is called in the table and in the record.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Subject::MemoryHit => "memory hit",
            Subject::NewHead => "memory hit, another id in the head",
            Subject::NewSpelling => "memory hit, body spelled anew",
            Subject::Http2Hit => "memory hit over HTTP/2",
            Subject::PageHit => "memory hit of a page by GET",
            Subject::DiskHit => "disk hit",
            Subject::PassedThrough => "passed through",
        }
    }

    /// What it is called on the command line.
    pub(crate) fn option(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// By how many per cent more instructions than recorded are taken for chance: more than twice as many
    /// as runs have differed by, on a busy machine and on a quieter one. On the disk, chance is whether the
    /// worker sleeps already when the thread that reads is done.
    pub(crate) fn tolerance_percent(self) -> f64 {
        match self {
            Subject::DiskHit => 8.0,
            _ => 2.0,
        }
    }

    /// Where its answers are.
    pub(crate) fn place(self) -> Place {
        match self {
            Subject::DiskHit => Place::Disk,
            Subject::PassedThrough => Place::Nowhere,
            _ => Place::Memory,
        }
    }

    /// It is an error if this is not what the cache says of such an answer.
    pub(crate) fn check(self, cache_status: &str) -> anyhow::Result<()> {
        let (start, end) = match self.place() {
            Place::Memory => ("cache-server; hit; ", "; detail=memory"),
            Place::Disk => ("cache-server; hit; ", "; detail=disk"),
            Place::Nowhere => ("cache-server; fwd=bypass; ", ""),
        };
        let is_so = cache_status.starts_with(start) && cache_status.ends_with(end);
        ensure!(is_so, "not a {}, but: {cache_status}", self.name());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_its_own_subject_alone() {
        let from_memory = "cache-server; hit; ttl=10; key=\"ks1_0\"; detail=memory";
        assert!(Subject::MemoryHit.check(from_memory).is_ok());
        assert!(Subject::DiskHit.check(from_memory).is_err());
        assert!(Subject::PassedThrough.check(from_memory).is_err());
        assert!(Subject::MemoryHit.check("cache-server; fwd=miss; stored").is_err());
    }
}
