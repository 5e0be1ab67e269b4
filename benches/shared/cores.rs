//! Which core a process has: the servers share one, the load has another, so that no server is
//! measured against its own load.

use anyhow::Context;
use tokio::process::{Child, Command};

/// The cores of this run; none where there are too few, or where there is no pinning.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cores {
    /// For the servers.
    pub(crate) servers: Option<usize>,
    /// For the load.
    pub(crate) load: Option<usize>,
}

impl Cores {
    /// Says it in a sentence.
    pub(crate) fn describe(self) -> String {
        match (self.servers, self.load) {
            (Some(servers), Some(load)) => format!(
                "All servers were pinned to core {servers} and the load to core {load}; of the \
                 servers, only the one in question was busy (a miss needs the upstream too)."
            ),
            _ => "NOTHING WAS PINNED: fewer than two cores, or no pinning on this system. The \
                  servers shared their cores with the load."
                .into(),
        }
    }
}

/// Starts a process on a core.
///
/// It inherits the core from the thread that starts it, so that its runtime sees one core from
/// the beginning and makes one worker.
#[cfg(target_os = "linux")]
pub(crate) fn spawn_on(command: &mut Command, core: Option<usize>) -> anyhow::Result<Child> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let Some(core) = core else { return Ok(command.spawn()?) };
    let ours = sched_getaffinity(None).context("cannot read the affinity")?;
    let mut theirs = CpuSet::new();
    theirs.set(core);
    sched_setaffinity(None, &theirs).with_context(|| format!("cannot pin to core {core}"))?;
    let child = command.spawn();
    sched_setaffinity(None, &ours).context("cannot unpin")?;
    Ok(child?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn spawn_on(command: &mut Command, _core: Option<usize>) -> anyhow::Result<Child> {
    command.spawn().context("cannot start a process")
}

/// The first two cores that this process may use.
#[cfg(target_os = "linux")]
pub(crate) fn choose() -> anyhow::Result<Cores> {
    use rustix::thread::{CpuSet, sched_getaffinity};

    let ours = sched_getaffinity(None).context("cannot read the affinity")?;
    let mut usable = (0..CpuSet::MAX_CPU).filter(|core| ours.is_set(*core));
    Ok(match (usable.next(), usable.next()) {
        (Some(servers), Some(load)) => Cores { servers: Some(servers), load: Some(load) },
        _ => Cores::default(),
    })
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn choose() -> anyhow::Result<Cores> {
    Ok(Cores::default())
}

/// Seconds of processor time that a process and its children have used, in all their threads;
/// nothing where the system does not say. Of some servers the children do the work.
#[cfg(target_os = "linux")]
pub(crate) fn processor_seconds(process: u32) -> anyhow::Result<Option<f64>> {
    let mut ticks = stat(process)?.ticks;
    for entry in std::fs::read_dir("/proc")? {
        let Some(other) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has just ended is nobody's child.
        ticks +=
            stat(other).ok().filter(|stat| stat.parent == process).map_or(0, |stat| stat.ticks);
    }
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(Some(f64::from(ticks) / f64::from(per_second)))
}

/// What the system says of a process.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Clock ticks that it has run.
    ticks: u32,
}

#[cfg(target_os = "linux")]
fn stat(process: u32) -> anyhow::Result<Stat> {
    let path = format!("/proc/{process}/stat");
    let line = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_stat(&line).with_context(|| format!("{path} cannot be read: {line}"))
}

#[cfg(target_os = "linux")]
fn parse_stat(line: &str) -> Option<Stat> {
    // The name before it may hold spaces; proc_pid_stat(5) counts ppid as field 4, utime as 14.
    let (_, fields) = line.rsplit_once(") ")?;
    let field = |index: usize| fields.split(' ').nth(index)?.parse::<u32>().ok();
    Some(Stat { parent: field(1)?, ticks: field(11)? + field(12)? })
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn processor_seconds(_process: u32) -> anyhow::Result<Option<f64>> {
    Ok(None)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_parent_and_ticks_are_read_behind_the_name() {
        let line = "7 (a ) b) S 3 7 7 0 -1 4194304 1 2 3 4 50 6 0 0 20 0 1 0 9 0 0";
        assert_eq!(parse_stat(line), Some(Stat { parent: 3, ticks: 56 }));
        assert_eq!(parse_stat("7 (a"), None);
    }
}
