//! What the binaries that measure share: their command line, processes on cores and the machine, the wire, what is asked
//! and answered, rounds and their tables. Each includes it as its own module.

pub(crate) mod command;
pub(crate) mod cores;
pub(crate) mod exchange;
pub(crate) mod listen;
pub(crate) mod machine;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod rounds;
pub(crate) mod spread;
pub(crate) mod wire;

/// The load must cost less than what it loads. The conductor must stay on one thread: its
/// children inherit the core that this thread is pinned to while it starts them.
pub(crate) fn single_thread() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
