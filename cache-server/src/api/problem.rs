//! What the admin listener refuses, as RFC 9457 has it. Its statuses are chosen here.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::cache::overrides;
use crate::cache::purge::TARGETS_MAX;
use crate::config::admin_token;
use crate::request::respond::problem_document;
use crate::telemetry::log::BadDirectives;

/// Why a request to the admin listener is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It changes state, the listener is not loopback, and no token is configured.
    TokenNeeded,
    /// It does not show the token that is configured.
    TokenWrong,
    /// Without a token, it comes under a name that may be anybody's.
    HostNotLocal,
    /// Without a token, it comes from a page in a browser.
    FromBrowser,
    /// The log's directives are none.
    BadDirectives(BadDirectives),
    /// The body is larger than what is asked for.
    BodyTooLarge {
        /// What it may have.
        bytes_max: usize,
    },
    /// The body did not come in time.
    BodyTimeout,
    /// The body broke off.
    BodyBroken,
    /// It is no key.
    NoKey {
        /// What it is.
        text: String,
    },
    /// It is no URL of an upstream, and no path under a mount.
    NoUrl {
        /// What it is.
        text: String,
    },
    /// A purge order names nothing.
    PurgesNothing,
    /// A purge order names too much.
    PurgesTooMuch,
    /// A purge order is in force and not on disk.
    NotDurable {
        /// What the system said.
        why: String,
    },
    /// Nothing is stored under the key.
    NoSuchEntry,
    /// The body is not the JSON object that is asked for; the text says what is wrong.
    BadBody(String),
    /// The override may not be asked for; the text names the field.
    BadOverride(String),
    /// There are as many overrides as there can be.
    OverridesFull,
    /// A change of the overrides could not be written.
    OverridesNotWritten,
    /// No override has this number.
    NoSuchOverride,
}

impl Refused {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Refused::TokenNeeded => (StatusCode::FORBIDDEN, "admin-token-needed"),
            Refused::TokenWrong => (StatusCode::UNAUTHORIZED, "admin-token-wrong"),
            Refused::HostNotLocal => (StatusCode::FORBIDDEN, "admin-host-not-local"),
            Refused::FromBrowser => (StatusCode::FORBIDDEN, "admin-from-browser"),
            Refused::BadDirectives(_) => (StatusCode::BAD_REQUEST, "bad-directives"),
            Refused::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large"),
            Refused::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body-timeout"),
            Refused::BodyBroken => (StatusCode::BAD_REQUEST, "body-broken"),
            Refused::NoKey { .. } => (StatusCode::BAD_REQUEST, "no-key"),
            Refused::NoUrl { .. } => (StatusCode::BAD_REQUEST, "no-url"),
            Refused::PurgesNothing => (StatusCode::BAD_REQUEST, "purges-nothing"),
            Refused::PurgesTooMuch => (StatusCode::PAYLOAD_TOO_LARGE, "purges-too-much"),
            Refused::NotDurable { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "purge-not-durable"),
            Refused::NoSuchEntry => (StatusCode::NOT_FOUND, "no-such-entry"),
            Refused::BadBody(_) => (StatusCode::BAD_REQUEST, "bad-body"),
            Refused::BadOverride(_) => (StatusCode::BAD_REQUEST, "bad-override"),
            Refused::OverridesFull => (StatusCode::CONFLICT, "overrides-full"),
            Refused::OverridesNotWritten => {
                (StatusCode::INTERNAL_SERVER_ERROR, "overrides-not-written")
            }
            Refused::NoSuchOverride => (StatusCode::NOT_FOUND, "no-such-override"),
        }
    }

    fn detail(&self) -> String {
        match self {
            Refused::TokenNeeded => format!(
                "the admin listener is not on loopback: set server.admin_token_file or {}",
                admin_token::VARIABLE
            ),
            Refused::TokenWrong => {
                "send the admin token as Authorization: Bearer, and no other credential".into()
            }
            Refused::HostNotLocal => {
                "without an admin token, Host must be an address or localhost".into()
            }
            Refused::FromBrowser => {
                "without an admin token, nothing that carries an Origin is taken".into()
            }
            Refused::BadDirectives(error) => error.to_string(),
            Refused::BodyTooLarge { bytes_max } => format!("the body may have {bytes_max} bytes"),
            Refused::BodyTimeout => "the body did not come within server.body_timeout".into(),
            Refused::BodyBroken => "the body broke off".into(),
            Refused::NoKey { text } => {
                format!("{text:?} is no key: write ks1_ and 64 lower-case hex digits")
            }
            Refused::NoUrl { text } => {
                format!("{text:?} is no URL of an upstream, and no path under one of its mounts")
            }
            Refused::PurgesNothing => {
                "name some of keys, tags, urls, routes, tenants, or everything".into()
            }
            Refused::PurgesTooMuch => format!("an order may name {TARGETS_MAX} things"),
            Refused::NotDurable { why } => {
                format!("the purge is in force, but not on disk: {why}")
            }
            Refused::NoSuchEntry => "nothing is stored under this key".into(),
            Refused::BadBody(why) | Refused::BadOverride(why) => why.clone(),
            Refused::OverridesFull => {
                format!("there are {} overrides: remove one", overrides::COUNT_MAX)
            }
            Refused::OverridesNotWritten => {
                "the change could not be written to disk, and is not in force: see the log".into()
            }
            Refused::NoSuchOverride => "no override in force has this number".into(),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let document = problem_document(status, code, &self.detail());
        let mut response = (status, document).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
