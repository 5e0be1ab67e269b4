//! Keeps a core awake. One that has nothing to do is put to sleep, and under a hypervisor it takes
//! longer to wake than a read takes: what is then measured is the machine. So a process of the lowest
//! priority spins on each core; it gives way to whoever wants to run.

use std::io::Read;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use tokio::process::Child;

use crate::shared::cores::{self, Cores};
use crate::shared::process;

/// The lowest priority (setpriority(2)).
const LOWEST: i32 = 19;

/// Spins until standard input ends.
pub(crate) fn spin() -> anyhow::Result<()> {
    rustix::process::setpriority_process(None, LOWEST).context("cannot give way to others")?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::stdin().read(&mut [0]);
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    });
    Ok(())
}

/// Cores that are kept awake until this is dropped.
#[derive(Debug)]
pub(crate) struct Awake {
    _spinners: Vec<Child>,
}

impl Awake {
    /// Starts a process on each core that is pinned to.
    pub(crate) fn keep(cores: Cores) -> anyhow::Result<Awake> {
        let spinners = [cores.servers, cores.load].into_iter().flatten().map(|core| {
            let mut command = process::ourselves("awake")?;
            command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
            cores::spawn_on(&mut command, Some(core)).context("a core cannot be kept awake")
        });
        Ok(Awake { _spinners: spinners.collect::<anyhow::Result<_>>()? })
    }
}
