//! Where entries live: memory in front of disk, both local to this server.
//!
//! No fault of a tier reaches a caller: it becomes a miss and a metric.

pub mod local;

use std::io;

/// What goes wrong inside a tier. It never leaves the tier's callers but as a metric's label.
#[derive(Debug, thiserror::Error)]
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
}

impl TierError {
    /// A short word for a metric's label.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            TierError::Deadline => "deadline",
            TierError::Resting => "resting",
            TierError::Read(_) => "read",
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
