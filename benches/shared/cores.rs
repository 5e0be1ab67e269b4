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

/// Seconds of processor time that a process has used, in all its threads; nothing where the
/// system does not say.
#[cfg(target_os = "linux")]
pub(crate) fn processor_seconds(process: u32) -> anyhow::Result<Option<f64>> {
    let path = format!("/proc/{process}/stat");
    let line = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name before it may hold spaces; proc_pid_stat(5) counts utime as field 14.
    let (_, fields) = line.rsplit_once(") ").context("no process name")?;
    let ticks = |index: usize| -> anyhow::Result<u32> {
        Ok(fields.split(' ').nth(index).context("too few fields")?.parse()?)
    };
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(Some(f64::from(ticks(11)? + ticks(12)?) / f64::from(per_second)))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn processor_seconds(_process: u32) -> anyhow::Result<Option<f64>> {
    Ok(None)
}
