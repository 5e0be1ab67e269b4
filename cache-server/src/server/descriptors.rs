//! The limit on open files, which is a limit on connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cache::tiers::local::BLOCK_BYTES;

/// What is open besides callers, their upstreams and the disk's files: the admin listener's
/// connections, those that are turned away, logs.
const BESIDES: u64 = 200;

/// Raises the soft limit on open files to the hard one, and warns if `connections_max` callers
/// and the disk's files would not fit.
pub fn raise_descriptor_limit(connections_max: usize, disk_bytes_max: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
    let allowed = getrlimit(Resource::Nofile).current;
    let needed = needed(connections_max, disk_bytes_max);
    if let Some(allowed) = allowed.filter(|allowed| *allowed < needed) {
        tracing::warn!(
            allowed,
            needed,
            "fewer open files are allowed than server.connections_max and cache.disk_bytes_max \
             need: raise the hard limit (ulimit -Hn) or lower server.connections_max"
        );
    }
}

/// Two for each caller, its connection and the upstream's, and one for each of the disk's files.
fn needed(connections_max: usize, disk_bytes_max: usize) -> u64 {
    let files = disk_bytes_max.div_ceil(BLOCK_BYTES) as u64;
    (connections_max as u64).saturating_mul(2).saturating_add(files).saturating_add(BESIDES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_must_be_room_for_callers_and_upstreams_and_the_disk() {
        assert_eq!(needed(10_000, 4 << 30), 20_456, "docs/deployment.md says so too");
        assert_eq!(needed(10, 0), 220);
        assert_eq!(needed(usize::MAX, usize::MAX), u64::MAX);
    }
}
