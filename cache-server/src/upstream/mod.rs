//! The upstreams: where they are mounted, how they are asked, and whether an answer is whole.

pub mod answer;
pub mod body;
pub mod cache_status;
pub mod client;
mod ended;
pub mod exchange;
pub mod fields;
pub mod framing;
pub mod head;
pub mod health;
pub mod loops;
pub mod mount;
mod noted;
mod silence;
pub mod trailers;

/// The upstream did not give a complete answer. An upstream's own error status is an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// No connection: refused, unresolved, no TLS, or not within the connect timeout.
    #[error("upstream {upstream} cannot be reached: {why}")]
    Unreachable {
        /// The upstream's name.
        upstream: String,
        /// What the system said.
        why: String,
    },
    /// Silence for longer than the read timeout, or no end within the fill timeout.
    #[error("upstream {upstream} did not answer in time: {why}")]
    TimedOut {
        /// The upstream's name.
        upstream: String,
        /// Which deadline passed.
        why: String,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("upstream {upstream} broke off its answer: {why}")]
    Broken {
        /// The upstream's name.
        upstream: String,
        /// What the system said.
        why: String,
    },
}

impl UpstreamError {
    /// A short word for it, for spans.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            UpstreamError::Unreachable { .. } => "unreachable",
            UpstreamError::TimedOut { .. } => "timed-out",
            UpstreamError::Broken { .. } => "broken",
        }
    }
}
