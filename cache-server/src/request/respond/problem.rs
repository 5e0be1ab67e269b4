//! Errors of our own, as RFC 9457 has them: which status and code each refusal and failure has.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::answer;
use super::cache_status::CacheStatus;
use crate::request::body::AnswerBody;
use crate::request::rejection::{ListenerRejection, Rejection};
use crate::upstream::UpstreamError;
use crate::upstream::loops::PASSES_MAX;

/// An error of our own, as RFC 9457 has it, with a `code` that stays the same.
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) detail: String,
    pub(super) retry_after_s: Option<u64>,
}

impl Problem {
    pub(super) fn into_response(self) -> Response<AnswerBody> {
        let body = problem_document(self.status, self.code, &self.detail);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        // A cache in front may keep errors by itself, and this one concerns this moment alone.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.retry_after_s.map(|wait| (RETRY_AFTER, HeaderValue::from(wait))));
        let mut cache_status = CacheStatus::named();
        cache_status.detail(self.code);
        cache_status.append_to(&mut headers);
        answer(self.status, headers, AnswerBody::whole(Bytes::from(body)))
    }
}

/// The document of a problem (RFC 9457), as JSON.
#[must_use]
pub fn problem_document(status: StatusCode, code: &str, detail: &str) -> String {
    let document = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
    });
    document.to_string()
}

/// Why there is no answer of the upstream.
pub(super) fn upstream_problem(error: &UpstreamError) -> Problem {
    let (status, code) = match error {
        UpstreamError::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "upstream-unreachable"),
        UpstreamError::TimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, "upstream-timeout"),
        UpstreamError::Broken { .. } => (StatusCode::BAD_GATEWAY, "upstream-broken"),
    };
    Problem { status, code, detail: error.to_string(), retry_after_s: None }
}

impl Rejection {
    /// Its status is chosen here, with all others.
    pub(super) fn problem(self) -> Problem {
        let plain =
            |status, code, detail: String| Problem { status, code, detail, retry_after_s: None };
        match self {
            Rejection::NoUpstream { mounts } => plain(
                StatusCode::NOT_FOUND,
                "no-upstream",
                format!("no upstream is mounted here; there are: {}", mounts.join(", ")),
            ),
            Rejection::NoSuchAddress => plain(
                StatusCode::NOT_FOUND,
                "no-such-address",
                "addresses under /_cache are the cache's own, and this is none of them".into(),
            ),
            Rejection::Loop => in_circles(),
            Rejection::NoTunnel => plain(
                StatusCode::NOT_IMPLEMENTED,
                "no-tunnel",
                "CONNECT is not served: upstreams are named by the config alone".into(),
            ),
            Rejection::TransferCoding => plain(
                StatusCode::NOT_IMPLEMENTED,
                "transfer-coding",
                "the one Transfer-Encoding that is understood is chunked, once".into(),
            ),
            Rejection::BadPath { why } => plain(StatusCode::BAD_REQUEST, "bad-path", why),
            Rejection::BadReuse => plain(
                StatusCode::BAD_REQUEST,
                "bad-reuse",
                "Cache-Server-Reuse says one of: yes, no, new".into(),
            ),
            Rejection::OnlyIfCached => plain(
                StatusCode::GATEWAY_TIMEOUT,
                "only-if-cached",
                "the request wants a stored answer, and none is usable".into(),
            ),
            Rejection::Listener(rejection) => rejection.problem(),
            Rejection::BodyTooLarge { bytes_max } => plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                format!("a request's body may have {bytes_max} bytes (server.body_bytes_max)"),
            ),
            Rejection::BodyTimeout { within } => plain(
                StatusCode::REQUEST_TIMEOUT,
                "body-timeout",
                format!(
                    "nothing came of the request's body for {} (server.body_timeout)",
                    humantime::format_duration(within)
                ),
            ),
            Rejection::BodyBroken => plain(
                StatusCode::BAD_REQUEST,
                "body-broken",
                "the request's body broke off or is malformed".into(),
            ),
            Rejection::BuffersFull => full(
                "buffers-full",
                "too many bytes of requests are held (server.buffered_bytes_max)".into(),
            ),
            Rejection::BodyTooSlow { within } => plain(
                StatusCode::REQUEST_TIMEOUT,
                "body-too-slow",
                format!(
                    "the request's body did not come within {} (server.key_body_timeout)",
                    humantime::format_duration(within)
                ),
            ),
            Rejection::TunnelsFull { tunnels_max } => {
                full("tunnels-full", format!("{tunnels_max} tunnels are open (server.tunnels_max)"))
            }
        }
    }
}

impl ListenerRejection {
    pub(super) fn problem(self) -> Problem {
        let plain =
            |status, code, detail: String| Problem { status, code, detail, retry_after_s: None };
        match self {
            ListenerRejection::TooManyConnections => Problem {
                status: StatusCode::SERVICE_UNAVAILABLE,
                code: "connections-per-address",
                detail: "your address has as many connections as it may have \
                         (server.connections_per_address_max)"
                    .into(),
                retry_after_s: Some(1),
            },
            ListenerRejection::TooManyFields { headers_max } => plain(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "too-many-fields",
                format!("a request's header may have {headers_max} fields (server.headers_max)"),
            ),
            ListenerRejection::BadTarget => plain(
                StatusCode::BAD_REQUEST,
                "bad-target",
                "the request's target is neither a path nor an absolute URL".into(),
            ),
            ListenerRejection::BadHost { why } => {
                plain(StatusCode::BAD_REQUEST, "bad-host", why.into())
            }
            ListenerRejection::NotOurHost => plain(
                StatusCode::MISDIRECTED_REQUEST,
                "not-our-host",
                "this server does not answer under that name (server.hosts)".into(),
            ),
            ListenerRejection::RequestTimeout { within } => plain(
                StatusCode::GATEWAY_TIMEOUT,
                "request-timeout",
                format!(
                    "there was no answer within {} (server.request_timeout)",
                    humantime::format_duration(within)
                ),
            ),
        }
    }
}

/// A request that comes back; whoever runs the server is to look where it is sent.
fn in_circles() -> Problem {
    Problem {
        status: StatusCode::LOOP_DETECTED,
        code: "loop",
        detail: format!(
            "the request has been here before, or has passed more than {PASSES_MAX} cache-servers: \
             see whether an upstream's URL leads back here; its fields CDN-Loop and Via tell where \
             it has been"
        ),
        retry_after_s: None,
    }
}

/// A bound of ours that may have room again soon.
fn full(code: &'static str, detail: String) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Problem { status, code, detail, retry_after_s: Some(1) }
}
