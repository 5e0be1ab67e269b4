//! Why a request is refused. What that looks like from outside is chosen in `respond`.

use std::time::Duration;

use super::body::BodyFault;
use crate::config::ServerSettings;

/// Why we refuse a request: the caller's mistake, or a bound of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No upstream is mounted there.
    NoUpstream {
        /// Where upstreams are mounted.
        mounts: Vec<String>,
    },
    /// The address is in our part of the path, and we have nothing there.
    NoSuchAddress,
    /// It has been here before, or has passed more servers of our kind than anyone has in line.
    Loop,
    /// It wants a tunnel, which would be a way past everything.
    NoTunnel,
    /// The body has a transfer coding that we do not undo.
    TransferCoding,
    /// The path cannot be forwarded.
    BadPath {
        /// What is wrong with it.
        why: String,
    },
    /// `Cache-Server-Reuse` says what we do not understand.
    BadReuse,
    /// The body is larger than is ever passed on.
    BodyTooLarge {
        /// The bound.
        bytes_max: u64,
    },
    /// The body stopped coming.
    BodyTimeout {
        /// How long nothing came.
        within: Duration,
    },
    /// The body came, but not fast enough to be held that long.
    BodyTooSlow {
        /// How long it may take altogether.
        within: Duration,
    },
    /// The body broke off.
    BodyBroken,
    /// Every tunnel's place is taken.
    TunnelsFull {
        /// The bound.
        tunnels_max: usize,
    },
    /// There is no room to hold the body.
    BuffersFull,
    /// The caller wants it from the cache alone, and it is not there.
    OnlyIfCached,
    /// Before anyone looked at what it wants.
    Listener(ListenerRejection),
}

/// Why a connection or a request is refused whatever it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerRejection {
    /// Its address has as many connections as it may have.
    TooManyConnections,
    /// Its header has too many fields.
    TooManyFields {
        /// The bound.
        headers_max: usize,
    },
    /// Its target is neither a path nor a URL.
    BadTarget,
    /// It names no host, or more than one, or one that is none.
    BadHost {
        /// What is wrong.
        why: &'static str,
    },
    /// It is for another host.
    NotOurHost,
    /// The exchange took too long.
    RequestTimeout {
        /// The bound.
        within: Duration,
    },
}

impl From<ListenerRejection> for Rejection {
    fn from(rejection: ListenerRejection) -> Rejection {
        Rejection::Listener(rejection)
    }
}

impl Rejection {
    /// The rejection for what went wrong with a body that was being passed on.
    #[must_use]
    pub fn from_fault(fault: BodyFault, server: &ServerSettings) -> Rejection {
        match fault {
            BodyFault::TimedOut => Rejection::BodyTimeout { within: server.body_timeout },
            BodyFault::TooLarge => Rejection::BodyTooLarge { bytes_max: server.body_bytes_max },
            BodyFault::Broken => Rejection::BodyBroken,
        }
    }
}
