//! Answers of routes that the config declares, of which nothing is known but HTTP: whole when
//! their HTTP message is, and when what is called JSON is JSON.

use serde::de::IgnoredAny;

use super::{Exchange, Report, Unstorable};

/// Examines an answer. An event stream may be cut between two events and end cleanly all the
/// same; where its end is not known it is not stored.
pub(super) fn examine(exchange: &Exchange, body: &[u8]) -> Report {
    if exchange.event_stream {
        return Report::unstorable(Unstorable::UnknownStream);
    }
    if exchange.json && serde_json::from_slice::<IgnoredAny>(body).is_err() {
        return Report::unstorable(Unstorable::Malformed);
    }
    Report::faultless()
}
