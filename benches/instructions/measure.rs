//! The counting: a subject's server is warmed up, and then counted while it is asked.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::asked::{Caller, PROMPTS, Requests};
use crate::counted::{Counted, Settings};
use crate::shared::process::{self, Server};
use crate::subject::{Place, Subject};

/// Requests before the counting, so that what is made once is there.
const UNCOUNTED: u64 = 500;
/// Requests that are counted: enough for what happens now and then to be in all counts alike.
const COUNTED: u64 = 2_000;

/// What a subject takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) subject: Subject,
    /// Instructions a request.
    pub(crate) instructions: u64,
}

/// How it was counted, in a sentence.
pub(crate) fn how() -> String {
    format!(
        "Instructions in user space that the server takes for a request, counted by valgrind over \
         {COUNTED} requests after {UNCOUNTED}: one caller on one connection, 2 KB asked and 2.8 KB \
         answered, one worker thread."
    )
}

/// Counts everything, or these subjects alone; keeps what valgrind writes in a folder, if there is one.
pub(crate) async fn all(
    only: &[Subject],
    server: &Path,
    profiles: Option<&Path>,
) -> anyhow::Result<Vec<Count>> {
    // It ends when it is dropped.
    let upstream = Server::start("the upstream", process::ourselves("upstream")?, None).await?;
    let stage = Stage { server, upstream: upstream.address, profiles };
    let mut counts = Vec::new();
    for subject in Subject::value_variants() {
        if !only.is_empty() && !only.contains(subject) {
            continue;
        }
        eprintln!("counting {} …", subject.name());
        let count = stage.count(*subject).await;
        counts.push(count.with_context(|| format!("while counting {}", subject.name()))?);
    }
    Ok(counts)
}

/// What all subjects have in common.
#[derive(Clone, Copy, Debug)]
struct Stage<'a> {
    server: &'a Path,
    upstream: SocketAddr,
    profiles: Option<&'a Path>,
}

impl Stage<'_> {
    async fn count(self, subject: Subject) -> anyhow::Result<Count> {
        let folder = TempDir::new().context("cannot make a temporary folder")?;
        let settings = Settings {
            binary: self.server,
            folder: folder.path(),
            upstream: self.upstream,
            is_on_disk: subject.place() == Place::Disk,
        };
        let requests = Requests::of(subject)?;
        if settings.is_on_disk {
            // After a restart nothing answers from a write queue: it is the disk or nothing.
            let server = settings.start().await?;
            fill(&requests, subject, server.address).await.with_context(|| server.state())?;
            server.stop().await?;
        }
        let server = settings.start_counted().await?;
        if subject.place() == Place::Memory {
            fill(&requests, subject, server.address()).await.with_context(|| server.state())?;
        }
        let total = asked(&requests, subject, &server).await.with_context(|| server.state())?;
        if let Some(profiles) = self.profiles {
            server.keep_profile(&profiles.join(subject.option()))?;
        }
        server.stop().await?;
        Ok(Count { subject, instructions: total / COUNTED })
    }
}

async fn fill(requests: &Requests, subject: Subject, address: SocketAddr) -> anyhow::Result<()> {
    let mut caller = Caller::connect(subject, address).await?;
    for number in 0..PROMPTS {
        let answer = caller.ask(requests.filling(number)?).await?;
        requests.check(&answer, number)?;
        ensure!(answer.cache_status.contains("; stored"), "not stored: {}", answer.cache_status);
    }
    Ok(())
}

/// What the server takes to be asked.
async fn asked(requests: &Requests, subject: Subject, server: &Counted) -> anyhow::Result<u64> {
    let mut caller = Caller::connect(subject, server.address()).await?;
    for number in 0..UNCOUNTED + COUNTED {
        if number == UNCOUNTED {
            server.begin().await?;
        }
        let answer = caller.ask(requests.counted(number)?).await?;
        requests.check(&answer, number)?;
        subject.check(&answer.cache_status)?;
    }
    server.count().await
}
