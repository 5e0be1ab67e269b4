//! Where entries live: memory in front of disk, both local to this server, and behind them a Redis
//! that servers share, if there is one.
//!
//! No fault of a tier reaches a caller: it becomes a miss and a metric.

pub mod local;
pub mod redis;
mod room;

use std::io;
use std::sync::Arc;

use keyspec::Key;
use tokio::time::Instant;

use self::redis::RedisTier;
use super::entry::Entry;
use super::leases::Fence;
use crate::clock::Timestamp;
use local::LocalTier;

/// All tiers of a server. What is stored is stored in all.
#[derive(Debug)]
pub struct Tiers {
    /// Memory in front of disk.
    pub local: LocalTier,
    /// What servers share.
    pub redis: Option<RedisTier>,
}

impl Tiers {
    /// Of a fetch without a lease that begins now.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.redis.as_ref().map(|redis| Fence::now(redis.time())).unwrap_or_default()
    }

    /// Stores an entry of a fetch. One over `entry_bytes_max` is not stored, nor one that no local tier has room
    /// for, and that is said.
    #[must_use]
    pub fn put(&self, entry: Arc<Entry>, fence: Fence) -> bool {
        let is_stored = self.local.put(&entry);
        if is_stored {
            self.put_in_redis(entry, fence);
        }
        is_stored
    }

    /// Stores an entry likewise that an answer has brought up to date, which was stored `before`: unless
    /// another has taken its place since then.
    #[must_use]
    pub fn put_again(&self, entry: Arc<Entry>, before: Timestamp, fence: Fence) -> bool {
        let is_stored = self.local.put_unless_newer(&entry, before);
        if is_stored {
            self.put_in_redis(entry, fence);
        }
        is_stored
    }

    fn put_in_redis(&self, entry: Arc<Entry>, fence: Fence) {
        if let Some(redis) = &self.redis {
            redis.put_soon(entry, fence);
        }
    }

    /// Puts what `make` makes of the entry in memory in all tiers, if there is one; nobody else
    /// changes that meanwhile. Says whether it was put.
    pub fn replace(
        &self,
        key: &Key,
        make: impl FnOnce(Option<&Arc<Entry>>) -> Option<Arc<Entry>>,
    ) -> bool {
        let put = self.local.replace(key, make);
        let is_put = put.is_some();
        if let Some(entry) = put {
            self.put_in_redis(entry, self.fence());
        }
        is_put
    }

    /// Writes what waits and closes them, both at once. Redis has until `deadline`; the disk takes as
    /// long as it takes.
    pub async fn close(&self, deadline: Instant) {
        let redis = async {
            if let Some(redis) = &self.redis {
                redis.close(deadline).await;
            }
        };
        tokio::join!(redis, self.local.close());
    }
}

/// What goes wrong inside a tier. It never leaves the tier's callers but as a metric's label.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TierError {
    /// It did not answer within its deadline.
    #[error("the tier did not answer within its deadline")]
    Deadline,
    /// It was slow or failed a moment ago and is left alone for a while.
    #[error("the tier is resting after a fault")]
    Resting,
    /// It could not be read, or what it held is damaged.
    #[error("the tier could not be read: {0}")]
    Read(String),
    /// As many reads are under way as there may be, and none ended within the deadline.
    #[error("too many reads at once")]
    Busy,
    /// It says that it cannot, or nothing more.
    #[error("{said}")]
    Fault {
        /// A word of this program.
        kind: &'static str,
        /// What it said.
        said: String,
    },
}

impl TierError {
    /// A short word for a metric's label.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            TierError::Deadline => "deadline",
            TierError::Resting => "resting",
            TierError::Read(_) => "read",
            TierError::Busy => "busy",
            TierError::Fault { kind, .. } => kind,
        }
    }
}

/// Why the tiers cannot be opened; the operator has to act.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the data folder.
    #[error(
        "the data folder {folder} is in use by another process: stop it, or choose another \
         folder with --data-dir"
    )]
    InUse {
        /// The folder as configured.
        folder: String,
    },
    /// The folder cannot be made or used.
    #[error("the data folder {folder} cannot be used")]
    Folder {
        /// The folder as configured.
        folder: String,
        /// What the system said.
        source: io::Error,
    },
    /// The storage engine would not start.
    #[error("the disk tier in {folder} cannot be opened: {why}")]
    Engine {
        /// The folder as configured.
        folder: String,
        /// What the engine said.
        why: String,
    },
}
