//! Which header fields pass through, in which direction, and which are ever stored.

use http::header::{
    self, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE, VIA,
};

use super::loops::{self, CDN_LOOP, LoopMark};
use crate::cache::entry::Entry;
use crate::cache::freshness::validate::conditions_for;
use crate::cache::tags;

/// What a caller says about the reuse of an answer; ours alone, never forwarded.
pub const CACHE_SERVER_REUSE: HeaderName = HeaderName::from_static("cache-server-reuse");

/// Our name in `Via` and `Cache-Status`.
pub const OUR_NAME: &str = "cache-server";

/// What we add to `Via`.
pub const OUR_VIA: &str = "1.1 cache-server";

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Removes what concerns one connection only (RFC 9110 section 7.6.1): the fields named by
/// `Connection`, and those known to be so. `Host` is no such field, whoever names it, and neither
/// is `CDN-Loop`, which nobody may take off (RFC 8586 section 2).
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| ![header::HOST, CDN_LOOP].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    const KNOWN: [HeaderName; 7] =
        [CONNECTION, HTTP2_SETTINGS, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE];
    for name in KNOWN {
        headers.remove(name);
    }
}

/// Whether a request asks for a WebSocket (RFC 6455 section 4.1). No other protocol is tunnelled:
/// h2c, above all, would carry requests that nobody looks at.
#[must_use]
pub fn asks_for_websocket(parts: &http::request::Parts) -> bool {
    let lists = |name: HeaderName, token: &str| {
        let values = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let mut tokens = values.flat_map(|value| value.split(','));
        tokens.any(|listed| listed.trim().eq_ignore_ascii_case(token))
    };
    parts.method == http::Method::GET && lists(UPGRADE, "websocket") && lists(CONNECTION, "upgrade")
}

/// What a request for a WebSocket, or the answer that grants it, says about the connection.
pub fn upgrade_to_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Leaves out whatever might change an answer without being in its key, where callers of several
/// tenants share it: the leader's fields must not reach the followers' answer. What stays names
/// the caller, the form of the body, or is in the key (`keyed`). By the rules of HTTP cookies stay
/// too, whose answers need a permission to be stored, and what negotiates, which upstreams name in
/// `Vary`. What proxies add, such as `X-Forwarded-Host`, does not: many reflect it, and few name it;
/// but for which servers of our kind it has passed, without which nobody would see it go in circles.
/// Nor does the type of no content, which is in no key.
pub fn keep_what_all_callers_share(
    headers: &mut HeaderMap,
    keyed: &[HeaderName],
    by_http: bool,
    has_content: bool,
) {
    const BY_HTTP: [HeaderName; 6] = [
        header::ACCEPT,
        header::ACCEPT_CHARSET,
        header::ACCEPT_ENCODING,
        header::ACCEPT_LANGUAGE,
        header::COOKIE,
        header::ORIGIN,
    ];
    const KEPT: [HeaderName; 6] = [
        header::CONTENT_TYPE,
        header::USER_AGENT,
        HeaderName::from_static("baggage"),
        CDN_LOOP,
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("tracestate"),
    ];
    let is_kept = |name: &HeaderName| {
        let is_of_nothing = *name == header::CONTENT_TYPE && !has_content;
        let is_listed = KEPT.contains(name)
            || keyspec::is_credential(name)
            || (by_http && BY_HTTP.contains(name));
        keyed.contains(name) || (is_listed && !is_of_nothing)
    };
    let kept = headers
        .iter()
        .filter(|(name, _)| is_kept(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    *headers = kept;
    loops::keep_ours(headers);
}

/// Makes one `Cookie` field of several, as HTTP/2 may send them and nobody else expects them
/// (RFC 9113 section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let crumbs: Vec<&[u8]> =
        [first, second].into_iter().chain(crumbs).map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
    headers.insert(header::COOKIE, joined.expect("values joined by what a value may hold"));
}

/// Adds us to `Via` (RFC 9110 section 7.6.3).
pub fn add_via(headers: &mut HeaderMap) {
    headers.append(VIA, HeaderValue::from_static(OUR_VIA));
}

/// What a request carries upstream: all that the caller sent, less what ends here, and word of where
/// it has been.
pub fn prepare_request(headers: &mut HeaderMap, ours: &LoopMark) {
    headers.remove(CACHE_SERVER_REUSE);
    headers.remove(tags::CACHE_SERVER_TAGS);
    // The client sets these from the URL and the body that it really sends.
    headers.remove(header::HOST);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::EXPECT);
    add_via(headers);
    ours.add_to(headers);
}

/// Puts what we have in the place of what the caller has: its conditions are answered here, from
/// the whole answer (RFC 9111 section 4.3.1). A tag that we made says nothing to the upstream.
pub fn replace_conditions(headers: &mut HeaderMap, stored: Option<&Entry>) {
    headers.remove(header::IF_NONE_MATCH);
    headers.remove(header::IF_MODIFIED_SINCE);
    let Some(entry) = stored else { return };
    let (tag, date) = conditions_for(&entry.headers);
    let tag = tag.filter(|_| !entry.tag_is_ours);
    headers.extend(tag.map(|tag| (header::IF_NONE_MATCH, tag)));
    headers.extend(date.map(|date| (header::IF_MODIFIED_SINCE, date)));
}

/// Whether a field of an answer is for the caller who caused it alone: cookies, ids of the
/// exchange, rate limits, and what an edge in front of the provider adds. Never stored, never
/// given to a follower, and no reason to treat an answer as private.
#[must_use]
pub fn is_for_the_leader_alone(name: &HeaderName) -> bool {
    const EXACT: [&str; 26] = [
        "age",
        "alt-svc",
        "anthropic-organization-id",
        "apim-request-id",
        "cache-status",
        "content-length",
        "nel",
        "openai-organization",
        "openai-processing-ms",
        "openai-project",
        "ratelimit",
        "ratelimit-policy",
        "report-to",
        "reporting-endpoints",
        "request-id",
        "retry-after",
        "server-timing",
        "set-cookie",
        "set-cookie2",
        "strict-transport-security",
        "trailer",
        "via",
        "x-ms-client-request-id",
        "x-ms-region",
        "x-request-id",
        "x-should-retry",
    ];
    const PREFIXES: [&str; 7] = [
        "anthropic-ratelimit-",
        "cf-",
        "ratelimit-",
        "x-amzn-",
        "x-envoy-",
        "x-ratelimit-",
        "x-served-",
    ];
    let name = name.as_str();
    EXACT.binary_search(&name).is_ok() || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The fields of an answer that anyone who may have the answer may see. They outlive the answer in
/// an entry, so that their values are copied: a value as it was read is a slice of the connection's
/// buffer, and keeps all of it alive.
#[must_use]
pub fn shared_fields(headers: &HeaderMap) -> HeaderMap {
    let copied = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes());
    headers
        .iter()
        .filter(|(name, _)| !is_for_the_leader_alone(name))
        .filter_map(|(name, value)| Some((name.clone(), copied(value).ok()?)))
        .collect()
}

/// Whether these are the fields of an event stream: by the media type alone, without parameters.
#[must_use]
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    media_type(headers).eq_ignore_ascii_case(b"text/event-stream")
}

/// Whether a request asks for an event stream.
#[must_use]
pub fn accepts_event_stream(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().flat_map(|value| {
        value.as_bytes().split(|byte| matches!(byte, b',' | b';')).map(<[u8]>::trim_ascii)
    });
    accepted.any(|part| part.eq_ignore_ascii_case(b"text/event-stream"))
}

/// Whether these are the fields of JSON, in any of its media types (RFC 6839 section 3.1).
#[must_use]
pub fn is_json(headers: &HeaderMap) -> bool {
    let media_type = media_type(headers).to_ascii_lowercase();
    media_type == b"application/json" || media_type.ends_with(b"+json")
}

fn media_type(headers: &HeaderMap) -> &[u8] {
    let written = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    written.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Whether a body is said to be in another encoding than UTF-8: then the same bytes may mean
/// something else upstream than here.
#[must_use]
pub fn has_another_charset(headers: &HeaderMap) -> bool {
    let types = headers.get_all(CONTENT_TYPE).iter();
    let parameters = types.flat_map(|value| value.as_bytes().split(|byte| *byte == b';').skip(1));
    let is_utf_8 =
        |name: &[u8]| name.eq_ignore_ascii_case(b"utf-8") || name.eq_ignore_ascii_case(b"utf8");
    parameters.filter_map(charset).any(|name| !is_utf_8(name))
}

/// The value of a media type's parameter, if that is the charset.
fn charset(parameter: &[u8]) -> Option<&[u8]> {
    let equals = parameter.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (parameter[..equals].trim_ascii(), parameter[equals + 1..].trim_ascii());
    let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    name.eq_ignore_ascii_case(b"charset").then_some(unquoted.unwrap_or(value))
}

/// The upstream's own id of the exchange, for operators.
#[must_use]
pub fn request_id(headers: &HeaderMap) -> Option<Box<str>> {
    const ID_BYTES_MAX: usize = 128;
    ["x-request-id", "request-id", "apim-request-id"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok())
        .filter(|id| id.len() <= ID_BYTES_MAX)
        .map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn fields_named_by_connection_go_and_all_others_stay() {
        let mut headers = fields(&[
            ("connection", "close, X-Hop"),
            ("connection", "x-other"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("authorization", "Bearer k"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, fields(&[("authorization", "Bearer k")]));
    }

    #[test]
    fn cookies_in_crumbs_become_one_field() {
        let mut headers = fields(&[("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")]);
        join_cookies(&mut headers);
        assert_eq!(headers, fields(&[("cookie", "a=1; b=2; c=3; d=4")]));
        for untouched in [fields(&[]), fields(&[("cookie", "a=1"), ("x-many", "1")])] {
            let mut headers = untouched.clone();
            join_cookies(&mut headers);
            assert_eq!(headers, untouched);
        }
    }

    #[test]
    fn shared_values_keep_no_connections_buffer_alive() {
        let buffer = bytes::Bytes::from(vec![b'x'; 1000]);
        let value = HeaderValue::from_maybe_shared(buffer.slice(..5)).unwrap();
        let headers = HeaderMap::from_iter([(header::ETAG, value)]);
        let shared = shared_fields(&headers);
        assert_eq!(shared[header::ETAG], "xxxxx");
        drop(headers);
        assert!(buffer.is_unique(), "the buffer is ours alone again");
    }

    #[test]
    fn provider_noise_is_never_shared_and_content_fields_are() {
        let recorded = fields(&[
            ("content-type", "application/json"),
            ("set-cookie", "__cf_bm=secret; path=/"),
            ("x-request-id", "req_1"),
            ("x-ratelimit-remaining-tokens", "10"),
            ("anthropic-ratelimit-requests-limit", "5"),
            ("cf-ray", "8f"),
            ("openai-organization", "org-1"),
            ("openai-version", "2020-10-01"),
        ]);
        let shared = shared_fields(&recorded);
        assert_eq!(
            shared,
            fields(&[("content-type", "application/json"), ("openai-version", "2020-10-01")])
        );
    }

    #[test]
    fn a_body_is_utf_8_unless_its_type_says_otherwise() {
        for same in [
            "application/json",
            "application/json; charset=utf-8",
            "a/b;CHARSET = \"UTF-8\" ; x=y",
            "a/b; charset",
            "a/b; x=charset",
        ] {
            assert!(!has_another_charset(&fields(&[("content-type", same)])), "{same}");
        }
        assert!(!has_another_charset(&fields(&[])));
        for other in ["a/b; charset=utf-16", "a/b;charset=utf-8;charset=utf-7", "a/b; charset="] {
            assert!(has_another_charset(&fields(&[("content-type", other)])), "{other}");
        }
        let twice = [("content-type", "a/b"), ("content-type", "a/b; charset=latin1")];
        assert!(has_another_charset(&fields(&twice)));
    }

    #[test]
    fn a_forwarded_request_keeps_credentials_and_loses_what_is_ours() {
        let mut headers = fields(&[
            ("authorization", "Bearer k"),
            ("cache-server-reuse", "yes"),
            ("host", "cache.local"),
            ("via", "1.0 before"),
        ]);
        let ours = LoopMark::random();
        prepare_request(&mut headers, &ours);
        assert!(ours.is_seen_on(&headers));
        headers.remove(CDN_LOOP);
        let expected = fields(&[
            ("authorization", "Bearer k"),
            ("via", "1.0 before"),
            ("via", "1.1 cache-server"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn of_where_a_request_has_been_only_what_we_wrote_is_told_where_answers_are_shared() {
        let ours = [("cdn-loop", "cache-server; id=abcdefgh")];
        let mut headers = fields(&[
            ("via", "1.1 evil"),
            ("cdn-loop", "evil, cache-server;id=\"abcdefgh\";evil, cache-server; id=evil"),
            ("cdn-loop", "cache-server; id=<script>, cache-server; id=EVILEVIL"),
        ]);
        headers.insert(CONNECTION, HeaderValue::from_static("cdn-loop, x-hop"));
        headers.insert("x-hop", HeaderValue::from_static("1"));
        headers.insert("x-forwarded-host", HeaderValue::from_static("evil"));
        strip_hop_by_hop(&mut headers);
        for by_http in [true, false] {
            keep_what_all_callers_share(&mut headers, &[], by_http, false);
            assert_eq!(headers, fields(&ours));
        }
    }

    // RFC 9111 section 4.3.1.
    #[test]
    fn the_upstream_is_not_asked_with_a_tag_that_it_did_not_give() {
        let mut entry = crate::cache::entry::tests::sample([1; 32], b"");
        entry.headers.insert(header::ETAG, HeaderValue::from_static("\"a\""));
        entry.headers.insert(header::LAST_MODIFIED, HeaderValue::from_static("then"));
        let asked = |entry: &Entry| {
            let mut headers = fields(&[("if-none-match", "*"), ("if-modified-since", "now")]);
            replace_conditions(&mut headers, Some(entry));
            headers
        };
        entry.tag_is_ours = true;
        assert_eq!(asked(&entry), fields(&[("if-modified-since", "then")]));
        entry.tag_is_ours = false;
        let both = [("if-none-match", "\"a\""), ("if-modified-since", "then")];
        assert_eq!(asked(&entry), fields(&both));
    }
}
