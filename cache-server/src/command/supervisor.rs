//! What a service manager is told (`sd_notify(3)`): that the server is ready, reloads, stops.
//!
//! Nothing happens where there is none, which is where `NOTIFY_SOCKET` is not set.

use sd_notify::NotifyState;

/// It listens, or has taken a new config.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It has begun to take a new config; [`ready`] is to follow, also when the config is refused.
pub(crate) fn reloading() {
    // The time tells systemd 253 and newer which request to reload this answers.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "there is no monotonic time"),
    }
}

/// It drains.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
