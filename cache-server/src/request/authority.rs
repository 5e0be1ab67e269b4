//! Under which name a caller asks: `Host`, `:authority`, or the authority of an absolute target
//! (RFC 9112 section 3.2, RFC 9113 section 8.3.1).

use std::net::Ipv6Addr;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Version};

use super::rejection::ListenerRejection;

/// A name and, where it was said, a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// A registered name, an IPv4 address, or an IPv6 address in brackets; as it was written.
    pub host: &'a str,
    /// The port.
    pub port: Option<u16>,
}

impl Authority<'_> {
    /// Whether this is the name, in any case of its letters.
    #[must_use]
    pub fn is_host(&self, name: &str) -> bool {
        self.host.eq_ignore_ascii_case(name)
    }
}

/// The authority that a request names; nothing if it is HTTP/1.0 and names none.
///
/// # Errors
/// `bad-host` when HTTP/1.1 or HTTP/2 names none, `Host` stands there twice, an authority is
/// malformed, or HTTP/2 says two that differ.
pub fn of(parts: &Parts) -> Result<Option<Authority<'_>>, ListenerRejection> {
    let field = host_field(&parts.headers)?;
    let target = match parts.uri.authority() {
        None => None,
        Some(authority) => Some(parse(authority.as_str()).ok_or(MALFORMED)?),
    };
    match (parts.version, target, field) {
        (Version::HTTP_2, Some(target), Some(field)) if !is_same(target, field) => {
            Err(bad(":authority and Host differ"))
        }
        // The target goes before the field (RFC 9112 section 3.2.2), but it must be there.
        (Version::HTTP_11, _, None) => Err(bad("HTTP/1.1 needs a Host field")),
        (Version::HTTP_2, None, None) => Err(bad("HTTP/2 needs an :authority")),
        (_, Some(target), _) => Ok(Some(target)),
        (_, None, field) => Ok(field),
    }
}

const MALFORMED: ListenerRejection = bad("the host is malformed");

const fn bad(why: &'static str) -> ListenerRejection {
    ListenerRejection::BadHost { why }
}

fn host_field(headers: &HeaderMap) -> Result<Option<Authority<'_>>, ListenerRejection> {
    let mut values = headers.get_all(HOST).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad("there is more than one Host field"));
    }
    let text = value.to_str().map_err(|_| MALFORMED)?;
    parse(text).map(Some).ok_or(MALFORMED)
}

fn is_same(one: Authority<'_>, other: Authority<'_>) -> bool {
    one.is_host(other.host) && one.port == other.port
}

/// `uri-host [ ":" port ]` (RFC 3986 section 3.2, without user information).
fn parse(text: &str) -> Option<Authority<'_>> {
    let host_end = match text.strip_prefix('[') {
        Some(rest) => 1 + rest.find(']')? + 1,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(host_end);
    // An empty port is the default one (RFC 3986 section 3.2.3).
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        None => return None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().ok()?)
        }
        Some(_) => return None,
    };
    is_host(host).then_some(Authority { host, port })
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(is_name_byte),
    }
}

/// `reg-name` of RFC 3986 section 3.2.2: unreserved, percent-encoded and sub-delims.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    /// What a request with this target and these `Host` fields names.
    fn named(
        version: Version,
        target: &str,
        hosts: &[&str],
    ) -> Result<Option<String>, &'static str> {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        match of(&parts) {
            Ok(authority) => Ok(authority.map(|authority| match authority.port {
                Some(port) => format!("{}:{port}", authority.host),
                None => authority.host.to_owned(),
            })),
            Err(ListenerRejection::BadHost { why }) => Err(why),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn http1_1_needs_exactly_one_valid_host() {
        let host = |hosts: &[&str]| named(Version::HTTP_11, "/x", hosts);
        for good in ["cache", "Cache.Example.com:8080", "127.0.0.1:1", "[::1]:80", "[::1]", "a_b"] {
            assert_eq!(host(&[good]), Ok(Some(good.to_owned())));
        }
        assert_eq!(host(&["cache:"]), Ok(Some("cache".to_owned())));
        assert_eq!(host(&[]), Err("HTTP/1.1 needs a Host field"));
        assert_eq!(host(&["a", "a"]), Err("there is more than one Host field"));
        for bad in [
            "", "a b", "a/b", "user@a", "a:b", "a:70000", "a:-1", "a:+1", "::1", "[::1", "[x]",
            "[::1]x", "a,b c", "a?b", "a#b", ":80", "a\\b",
        ] {
            assert_eq!(host(&[bad]), Err("the host is malformed"), "{bad:?}");
        }
    }

    #[test]
    fn an_absolute_targets_authority_goes_before_host_and_needs_it_all_the_same() {
        let target = "http://Target:81/x";
        assert_eq!(named(Version::HTTP_11, target, &["other"]), Ok(Some("Target:81".into())));
        assert_eq!(named(Version::HTTP_11, target, &[]), Err("HTTP/1.1 needs a Host field"));
        assert_eq!(named(Version::HTTP_11, target, &["a b"]), Err("the host is malformed"));
        let user = "http://user@target/x";
        assert_eq!(named(Version::HTTP_11, user, &["a"]), Err("the host is malformed"));
    }

    #[test]
    fn http1_0_may_leave_it_out() {
        assert_eq!(named(Version::HTTP_10, "/x", &[]), Ok(None));
        assert_eq!(named(Version::HTTP_10, "/x", &["cache"]), Ok(Some("cache".into())));
        assert!(named(Version::HTTP_10, "/x", &["a", "b"]).is_err());
    }

    #[test]
    fn http2_names_it_in_its_authority_or_in_host_and_not_two() {
        let target = "http://cache:80/x";
        assert_eq!(named(Version::HTTP_2, target, &[]), Ok(Some("cache:80".into())));
        assert_eq!(named(Version::HTTP_2, target, &["CACHE:80"]), Ok(Some("cache:80".into())));
        assert_eq!(named(Version::HTTP_2, target, &["x"]), Err(":authority and Host differ"));
        assert_eq!(named(Version::HTTP_2, "/x", &["cache"]), Ok(Some("cache".into())));
        assert_eq!(named(Version::HTTP_2, "/x", &[]), Err("HTTP/2 needs an :authority"));
    }

    proptest! {
        #[test]
        fn hostile_hosts_never_panic(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_taken_for_a_host_is_one(text in "[a-z0-9.:@/\\[\\]-]{0,12}") {
            if let Some(authority) = parse(&text) {
                let shown = text.parse::<http::uri::Authority>();
                prop_assert!(shown.is_ok_and(|shown| shown.host() == authority.host), "{}", text);
            }
        }
    }
}
