//! What goes wrong in an exchange with an upstream, as the HTTP library tells it.

use std::error::Error;
use std::io;

use hyper_util::client::legacy;

use super::ended::NotEnded;
use super::silence::Silent;
use crate::telemetry::upstream::ExchangeEnd;

/// There is no answer, or not all of it. None of these names the URL: its query may carry a
/// credential.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The URL is too long, or has a character that none may have.
    #[error("the URL cannot be asked for")]
    Target(#[from] http::Error),
    /// No connection, or it broke before the headers.
    #[error("the request failed")]
    Request(#[from] legacy::Error),
    /// The connection broke in the body.
    #[error("the answer broke off")]
    Answer(#[from] hyper::Error),
    /// Nothing came for as long as an upstream may be silent.
    #[error("the upstream was silent")]
    Silent(#[from] Silent),
    /// The body ended before its end.
    #[error("the answer ended early")]
    NotEnded(#[from] NotEnded),
}

/// No connection stood in time, TLS included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no connection in time")]
pub(super) struct NotConnected;

impl ExchangeError {
    /// Whether no connection came about.
    pub(super) fn is_connect(&self) -> bool {
        matches!(self, ExchangeError::Request(error) if error.is_connect())
    }

    /// Whether a bound of ours passed, or one of the system's.
    pub(super) fn is_timeout(&self) -> bool {
        self.causes().any(|cause| {
            let by_system = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
            cause.is::<Silent>()
                || cause.is::<NotConnected>()
                || cause.downcast_ref().is_some_and(hyper::Error::is_timeout)
                || cause.downcast_ref().is_some_and(by_system)
        })
    }

    /// How the exchange went; nothing if that says nothing about the upstream: a caller may break off its own
    /// body.
    pub(super) fn end(&self) -> Option<ExchangeEnd> {
        match self {
            _ if self.is_the_callers() => None,
            _ if self.is_connect() => Some(ExchangeEnd::Unreachable),
            _ if self.is_timeout() => Some(ExchangeEnd::TimedOut),
            _ => Some(ExchangeEnd::Broken),
        }
    }

    /// Whether the exchange ended because the request's body did.
    fn is_the_callers(&self) -> bool {
        self.causes().any(|cause| cause.downcast_ref().is_some_and(hyper::Error::is_user))
    }

    /// The innermost cause, as a text. All that is around it only says that there is one.
    pub(super) fn innermost(&self) -> String {
        self.causes().last().map_or_else(|| self.to_string(), ToString::to_string)
    }

    /// What is behind it, from the outside in.
    fn causes(&self) -> impl Iterator<Item = &(dyn Error + 'static)> {
        std::iter::successors(self.source(), |cause| (*cause).source())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_a_timeout_and_an_early_end_is_not() {
        let silent = ExchangeError::from(Silent);
        assert!(silent.is_timeout() && !silent.is_connect() && !silent.is_the_callers());
        let early = ExchangeError::from(NotEnded);
        assert!(!early.is_timeout() && !early.is_connect() && !early.is_the_callers());
    }

    #[test]
    fn the_innermost_cause_is_told() {
        let early = ExchangeError::from(NotEnded);
        assert_eq!(early.innermost(), NotEnded.to_string());
        let bad = http::Uri::try_from("http://u/ secret").unwrap_err();
        let target = ExchangeError::from(http::Error::from(bad));
        assert_eq!(target.innermost(), "invalid uri character");
    }
}
