//! What a failed call of Redis says: a word for metrics, and what is to be done about it.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::cache::tiers::TierError;

/// What a failure means for the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// They are of no use any more.
    Reconnect,
    /// The call failed; whether the next one does is not known.
    Counted,
    /// Writes are refused, and will be for a while. Reads may go on.
    PauseWrites,
    /// It is about this key alone.
    Nothing,
}

/// The word and the consequence of a call's error.
#[must_use]
pub(super) fn of_call(error: &RedisError) -> (&'static str, Consequence) {
    match error.kind() {
        ErrorKind::AuthenticationFailed => ("auth", Consequence::Reconnect),
        ErrorKind::Io if error.is_timeout() => ("deadline", Consequence::Counted),
        ErrorKind::Io | ErrorKind::Parse => ("broken", Consequence::Reconnect),
        ErrorKind::ClusterConnectionNotFound => ("cluster-down", Consequence::Counted),
        ErrorKind::Server(kind) => of_answer(kind),
        _ => of_code(error.code()),
    }
}

fn of_answer(kind: ServerErrorKind) -> (&'static str, Consequence) {
    match kind {
        ServerErrorKind::BusyLoading => ("loading", Consequence::Counted),
        ServerErrorKind::ReadOnly => ("read-only", Consequence::PauseWrites),
        ServerErrorKind::NoPerm => ("no-permission", Consequence::PauseWrites),
        // The library follows a key that has moved; here it gave up.
        ServerErrorKind::ClusterDown
        | ServerErrorKind::MasterDown
        | ServerErrorKind::TryAgain
        | ServerErrorKind::Moved
        | ServerErrorKind::Ask => ("cluster-down", Consequence::Counted),
        _ => ("refused", Consequence::PauseWrites),
    }
}

/// Codes that the library has no name for.
fn of_code(code: Option<&str>) -> (&'static str, Consequence) {
    match code {
        Some("NOAUTH" | "WRONGPASS") => ("auth", Consequence::Reconnect),
        // Something of another kind stands under the name.
        Some("WRONGTYPE") => ("foreign", Consequence::Nothing),
        Some("OOM") => ("full", Consequence::PauseWrites),
        _ => ("refused", Consequence::PauseWrites),
    }
}

/// What a call's error is to the tier, and the consequence.
#[must_use]
pub(super) fn failed(error: &RedisError) -> (TierError, Consequence) {
    let (kind, consequence) = of_call(error);
    (TierError::Fault { kind, said: error.to_string() }, consequence)
}

/// The same for an attempt to connect, of which only the word counts.
#[must_use]
pub(super) fn of_connecting(error: &RedisError) -> TierError {
    let kind = match of_call(error).0 {
        "broken" | "deadline" | "refused" => "connect",
        kind => kind,
    };
    TierError::Fault { kind, said: error.to_string() }
}
