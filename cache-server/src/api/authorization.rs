//! Who may change state through the admin listener. The rule is here and nowhere else.
//!
//! With a token configured, whoever shows it. Without one, whoever reaches the listener, if that
//! is on loopback: but no page in a browser, be it one that another site sent (it carries an
//! `Origin`) or one whose name was made to point here (DNS rebinding: its `Host` is a name).
//! Without a token and not on loopback, nobody.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Uri};

use super::problem::Refused;
use crate::app::App;
use crate::config::admin_token::AdminToken;

/// Shows that the request may change state: a handler that does takes it as an argument.
#[derive(Debug)]
pub struct Authorized(());

impl FromRequestParts<Arc<App>> for Authorized {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refused> {
        let token = &app.settings().server.admin_token;
        authorize(app.admin_listen.ip(), token.as_ref(), &parts.uri, &parts.headers)
    }
}

fn authorize(
    listener: IpAddr,
    token: Option<&AdminToken>,
    uri: &Uri,
    fields: &HeaderMap,
) -> Result<Authorized, Refused> {
    match token {
        Some(token) if bearer(fields).is_some_and(|shown| token.is(shown)) => Ok(Authorized(())),
        Some(_) => Err(Refused::TokenWrong),
        None if !listener.is_loopback() => Err(Refused::TokenNeeded),
        None if fields.contains_key(ORIGIN) => Err(Refused::FromBrowser),
        None if !names_local_host(uri, fields) => Err(Refused::HostNotLocal),
        None => Ok(Authorized(())),
    }
}

/// The token that a request shows, if it shows exactly one (RFC 6750 section 2.1).
fn bearer(fields: &HeaderMap) -> Option<&[u8]> {
    let mut values = fields.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Whether all that names a host, the target as well as the one `Host`, is an address or
/// `localhost`: names that no other site can have.
fn names_local_host(uri: &Uri, fields: &HeaderMap) -> bool {
    let mut hosts = fields.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    host.is_some_and(|host| is_local(&host)) && uri.authority().is_none_or(is_local)
}

fn is_local(authority: &Authority) -> bool {
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_plain = !authority.as_str().contains('@');
    is_plain && (name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it listens, and its token.
    type Server = (IpAddr, Option<AdminToken>);

    fn server(listener: &str, token: Option<&str>) -> Server {
        (listener.parse().unwrap(), token.and_then(AdminToken::new))
    }

    fn asks((listener, token): &Server, target: &str, fields: &[(&str, &str)]) -> Option<Refused> {
        let mut request = http::Request::put(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        authorize(*listener, token.as_ref(), &parts.uri, &parts.headers).err()
    }

    #[test]
    fn with_a_token_configured_whoever_shows_it_may_and_nobody_else() {
        for listen in ["127.0.0.1", "192.0.2.1"] {
            let server = server(listen, Some("s3cret"));
            let shows = |value: &str| {
                asks(&server, "/log", &[("authorization", value), ("host", "any.example")])
            };
            assert_eq!(shows("Bearer s3cret"), None);
            assert_eq!(shows("bearer  s3cret"), None);
            for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer", "Bearer ", "Basic s3cret", ""]
            {
                assert_eq!(shows(wrong), Some(Refused::TokenWrong), "{wrong:?}");
            }
            assert_eq!(asks(&server, "/log", &[]), Some(Refused::TokenWrong));
            let twice = [("authorization", "Bearer s3cret"), ("authorization", "Bearer other")];
            assert_eq!(asks(&server, "/log", &twice), Some(Refused::TokenWrong));
        }
    }

    #[test]
    fn beyond_loopback_a_token_must_be_configured() {
        for listen in ["0.0.0.0", "::", "192.0.2.1"] {
            let refused = asks(&server(listen, None), "/log", &[("host", "127.0.0.1")]);
            assert_eq!(refused, Some(Refused::TokenNeeded), "{listen}");
        }
    }

    #[test]
    fn on_loopback_the_host_must_be_an_address_or_localhost() {
        let server = server("127.0.0.1", None);
        for host in ["127.0.0.1:8081", "localhost", "LocalHost:8081", "[::1]:8081", "10.1.2.3"] {
            assert_eq!(asks(&server, "/log", &[("host", host)]), None, "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a@localhost", ""]
        {
            let refused = asks(&server, "/log", &[("host", host)]);
            assert_eq!(refused, Some(Refused::HostNotLocal), "{host}");
        }
        assert_eq!(asks(&server, "/log", &[]), Some(Refused::HostNotLocal));
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(asks(&server, "/log", &twice), Some(Refused::HostNotLocal));
    }

    #[test]
    fn a_target_that_names_another_host_is_no_way_around() {
        let server = server("127.0.0.1", None);
        let local = [("host", "localhost")];
        assert_eq!(asks(&server, "http://localhost/log", &local), None);
        let refused = asks(&server, "http://evil.example/log", &local);
        assert_eq!(refused, Some(Refused::HostNotLocal));
    }

    #[test]
    fn on_loopback_nothing_from_a_page_in_a_browser_is_taken() {
        let server = server("127.0.0.1", None);
        for origin in ["https://evil.example", "http://127.0.0.1:8081", "null"] {
            let fields = [("host", "127.0.0.1"), ("origin", origin)];
            assert_eq!(asks(&server, "/log", &fields), Some(Refused::FromBrowser), "{origin}");
        }
    }
}
