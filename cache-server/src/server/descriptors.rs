//! The limit on open files, which is a limit on connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is open besides callers' connections: upstream connections, the disk tier's files, logs.
const BESIDES: u64 = 1024;

/// Raises the soft limit on open files to the hard one, and warns if `connections_max` callers
/// would not fit.
pub fn raise_descriptor_limit(connections_max: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
    let allowed = getrlimit(Resource::Nofile).current;
    if let Some(allowed) = allowed.filter(|allowed| !is_enough(*allowed, connections_max)) {
        tracing::warn!(
            allowed,
            connections_max,
            "fewer open files are allowed than server.connections_max and {BESIDES} more: \
             raise the hard limit (ulimit -Hn) or lower server.connections_max"
        );
    }
}

fn is_enough(allowed: u64, connections_max: usize) -> bool {
    allowed >= (connections_max as u64).saturating_add(BESIDES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_must_be_room_for_more_than_the_connections() {
        assert!(is_enough(11_024, 10_000));
        assert!(!is_enough(11_023, 10_000));
        assert!(!is_enough(u64::MAX - 1, usize::MAX));
    }
}
