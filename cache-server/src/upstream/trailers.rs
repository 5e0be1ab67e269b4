//! Trailers: fields behind the content of an answer (RFC 9110 section 6.5). Those that anyone may
//! see are stored beside the header and never become a part of it (RFC 9111 section 3.1).

use http::header::{self, HeaderMap, HeaderName, HeaderValue, TRAILER};

/// How many names of a `Trailer` field are looked at. What is named behind them is not announced to
/// those who read along, and over HTTP/1.1 does not reach them.
pub const NAMES_MAX: usize = 64;

/// Whether a field has its place in the header alone, as it tells how to frame, route, read or
/// keep the message, or who may have it (RFC 9110 section 6.5.1).
#[must_use]
pub fn is_for_the_header_alone(name: &HeaderName) -> bool {
    const ALONE: [HeaderName; 40] = [
        header::ACCEPT_RANGES,
        header::AGE,
        header::AUTHORIZATION,
        HeaderName::from_static("authentication-info"),
        header::CACHE_CONTROL,
        HeaderName::from_static("cache-groups"),
        HeaderName::from_static("cache-server-cache-control"),
        HeaderName::from_static("cache-status"),
        HeaderName::from_static("cache-tag"),
        HeaderName::from_static("cdn-cache-control"),
        HeaderName::from_static("cdn-loop"),
        header::CONNECTION,
        header::COOKIE,
        header::DATE,
        header::EXPECT,
        header::EXPIRES,
        header::HOST,
        HeaderName::from_static("keep-alive"),
        header::LOCATION,
        header::MAX_FORWARDS,
        header::PRAGMA,
        header::PROXY_AUTHENTICATE,
        HeaderName::from_static("proxy-authentication-info"),
        header::PROXY_AUTHORIZATION,
        HeaderName::from_static("proxy-connection"),
        header::RANGE,
        header::RETRY_AFTER,
        header::SET_COOKIE,
        HeaderName::from_static("set-cookie2"),
        header::STRICT_TRANSPORT_SECURITY,
        HeaderName::from_static("surrogate-control"),
        HeaderName::from_static("surrogate-key"),
        header::TE,
        TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::VARY,
        header::VIA,
        header::WARNING,
        header::WWW_AUTHENTICATE,
    ];
    const PREFIXES: [&str; 3] = ["access-control-", "content-", "if-"];
    ALONE.contains(name) || PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

/// What a `Trailer` field says of these trailers; nothing if there are none.
#[must_use]
pub fn announcement(trailers: &HeaderMap) -> Option<HeaderValue> {
    let names: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
    if names.is_empty() {
        return None;
    }
    HeaderValue::from_str(&names.join(", ")).ok()
}

/// The names that the `Trailer` fields of a header list, each with an empty value.
#[must_use]
pub fn announced(headers: &HeaderMap) -> HeaderMap {
    let lines = headers.get_all(TRAILER).iter();
    let names = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
    names.take(NAMES_MAX).map(|name| (name, HeaderValue::from_static(""))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 9110 section 6.5.1.
    #[test]
    fn what_a_message_is_read_by_has_its_place_in_the_header() {
        for alone in [
            "age",
            "authorization",
            "cache-control",
            "cache-status",
            "content-encoding",
            "content-length",
            "content-type",
            "expires",
            "host",
            "if-none-match",
            "location",
            "set-cookie",
            "te",
            "trailer",
            "transfer-encoding",
            "vary",
            "www-authenticate",
        ] {
            assert!(is_for_the_header_alone(&HeaderName::from_static(alone)), "{alone}");
        }
        for other in ["etag", "server-timing", "x-checksum", "digest", "grpc-status"] {
            assert!(!is_for_the_header_alone(&HeaderName::from_static(other)), "{other}");
        }
    }

    // RFC 9110 section 6.6.2.
    #[test]
    fn what_is_announced_is_read_back() {
        let trailers: HeaderMap = ["x-one", "x-two", "x-one"]
            .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")))
            .into_iter()
            .collect();
        let announcement = announcement(&trailers).unwrap();
        assert_eq!(announcement, "x-one, x-two");
        let headers = HeaderMap::from_iter([(TRAILER, announcement)]);
        assert!(announced(&headers).keys().eq(["x-one", "x-two"]));
        assert_eq!(super::announcement(&HeaderMap::new()), None);
    }

    #[test]
    fn names_that_are_none_or_too_many_are_not_looked_at() {
        let lines = [" , x y,X-Good ,\u{e9}", "x-other"];
        let lines = lines.map(|line| (TRAILER, HeaderValue::from_str(line).unwrap()));
        assert!(announced(&HeaderMap::from_iter(lines)).keys().eq(["x-good", "x-other"]));
        let many = (0..100_000).map(|number| format!("x-{number}")).collect::<Vec<_>>().join(",");
        let many = HeaderMap::from_iter([(TRAILER, HeaderValue::from_str(&many).unwrap())]);
        assert_eq!(announced(&many).len(), NAMES_MAX);
    }
}
