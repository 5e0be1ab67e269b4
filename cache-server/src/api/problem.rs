//! What the admin listener refuses, as RFC 9457 has it. Its statuses are chosen here.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::config::admin_token;
use crate::request::respond::problem_document;
use crate::telemetry::log::{BadDirectives, DIRECTIVES_BYTES_MAX};

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
    BodyTooLarge,
    /// The body did not come in time.
    BodyTimeout,
    /// The body broke off.
    BodyBroken,
}

impl Refused {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Refused::TokenNeeded => (StatusCode::FORBIDDEN, "admin-token-needed"),
            Refused::TokenWrong => (StatusCode::UNAUTHORIZED, "admin-token-wrong"),
            Refused::HostNotLocal => (StatusCode::FORBIDDEN, "admin-host-not-local"),
            Refused::FromBrowser => (StatusCode::FORBIDDEN, "admin-from-browser"),
            Refused::BadDirectives(_) => (StatusCode::BAD_REQUEST, "bad-directives"),
            Refused::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large"),
            Refused::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body-timeout"),
            Refused::BodyBroken => (StatusCode::BAD_REQUEST, "body-broken"),
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
            Refused::BodyTooLarge => format!("the body may have {DIRECTIVES_BYTES_MAX} bytes"),
            Refused::BodyTimeout => "the body did not come within server.body_timeout".into(),
            Refused::BodyBroken => "the body broke off".into(),
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
