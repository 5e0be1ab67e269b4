//! From a caller's path to the upstream's URL.
//!
//! Mount check, key and forward all use the one parsed path, so that no spelling means one
//! thing to the key and another to the upstream (CVE-2026-34475). A path whose dot segments
//! lead out of the mount is refused.

use bytes::Bytes;
use http::uri::{InvalidUri, PathAndQuery};
use url::{Url, form_urlencoded};

/// Where a request goes: under which upstream, and the path and query there. The URL is put
/// together only when it is needed: a hit needs none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The base's scheme and authority.
    origin: Url,
    path: String,
    query: Option<String>,
}

impl Target {
    /// The target that this URL is, if it is of a kind that upstreams have.
    #[must_use]
    pub fn of(url: &Url) -> Option<Target> {
        let has_host = matches!(url.scheme(), "http" | "https") && url.has_host();
        has_host.then(|| Target {
            origin: url.clone(),
            path: url.path().into(),
            query: url.query().map(Into::into),
        })
    }

    /// The origin (RFC 9110 section 4.3.1), as a text.
    #[must_use]
    pub fn origin(&self) -> String {
        self.origin.origin().ascii_serialization()
    }

    /// The path as forwarded.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query as forwarded.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Whether the query has a `key` parameter, in any spelling.
    #[must_use]
    pub fn has_key_parameter(&self) -> bool {
        self.query().unwrap_or_default().split('&').any(is_key_parameter)
    }

    /// The path and the query, as the HTTP library has them: nothing is parsed anew.
    ///
    /// # Errors
    /// When they are longer than a URL may be there, or have a character that none may have.
    pub fn path_and_query(&self) -> Result<PathAndQuery, InvalidUri> {
        let query = self.query().unwrap_or_default();
        let mut text = String::with_capacity(self.path.len() + 1 + query.len());
        text.push_str(&self.path);
        if self.query.is_some() {
            text.push('?');
            text.push_str(query);
        }
        PathAndQuery::from_maybe_shared(Bytes::from(text))
    }

    /// The whole URL.
    #[must_use]
    pub fn url(&self) -> Url {
        let mut url = self.origin.clone();
        url.set_path(&self.path);
        url.set_query(self.query());
        url
    }

    /// What a reference in an answer leads to, if that is on the same origin.
    #[must_use]
    pub fn on_same_origin(&self, reference: &str) -> Option<Target> {
        let url = self.url().join(reference).ok()?;
        if url.origin() == self.origin.origin() { Target::of(&url) } else { None }
    }

    /// The URL as purge orders name it. Whatever has one key has one name, or an order would not
    /// reach what a request for its very URL is answered with: keys count neither the order of a
    /// query's pairs nor how they are escaped. Names that are alike purge too much at worst.
    #[must_use]
    pub fn name(&self) -> String {
        let query = self.query().unwrap_or_default();
        let mut pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        // A credential is no part of the name: nobody who orders a purge has all of them.
        pairs.iter_mut().filter(|(name, _)| name == "key").for_each(|(_, value)| {
            *value = "".into();
        });
        pairs.sort_unstable();
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        format!("{}{}?{query}", self.origin(), self.path)
    }

    /// The URL with the values of parameters masked that may be credentials, for logs and people.
    #[must_use]
    pub fn masked(&self) -> String {
        let mut text = format!("{}{}", self.origin(), self.path);
        for (index, pair) in self.query().unwrap_or("").split('&').enumerate() {
            if pair.is_empty() {
                continue;
            }
            text.push(if index == 0 { '?' } else { '&' });
            match secret_name(pair) {
                Some(name) => text.extend([name, "=…"]),
                None => text.push_str(pair),
            }
        }
        text
    }
}

/// Whether a query pair carries a credential: its name, percent-decoded, is `key`.
#[must_use]
pub fn is_key_parameter(pair: &str) -> bool {
    form_urlencoded::parse(pair.as_bytes()).next().is_some_and(|(name, _)| name == "key")
}

/// The name of a query pair as it is written, if its value may be a credential.
fn secret_name(pair: &str) -> Option<&str> {
    let (name, _) = form_urlencoded::parse(pair.as_bytes()).next()?;
    let is_secret = name == "key" || keyspec::is_secret_name(&name);
    is_secret.then(|| pair.split('=').next().unwrap_or_default())
}

/// The path cannot be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Its dot segments lead out of the upstream's base.
    #[error("the path's dot segments lead out of the upstream's base")]
    LeavesBase,
    /// It cannot be parsed together with the upstream's base.
    #[error("the path cannot be parsed")]
    Unparsable,
}

/// The part of `path` behind `prefix`, if the prefix covers whole segments of it. A prefix
/// starts with a slash and does not end with one; the empty prefix covers everything.
#[must_use]
pub fn behind<'p>(prefix: &str, path: &'p str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// The URL of `rest` under `base`.
///
/// # Errors
/// [`BadPath`] where the result would not lie under the base.
pub fn target(base: &Url, rest: &str, query: Option<&str>) -> Result<Target, BadPath> {
    let base_path = base.path().trim_end_matches('/');
    let origin = || base.clone();
    if is_plain_path(rest) && query.is_none_or(is_plain_query) {
        let path = if rest.is_empty() && base_path.is_empty() { "/" } else { rest };
        let path = format!("{base_path}{path}");
        return Ok(Target { origin: origin(), path, query: query.map(Into::into) });
    }
    if leaves_its_root(rest) {
        return Err(BadPath::LeavesBase);
    }
    let mut text = format!("{}{base_path}{rest}", &base[..url::Position::BeforePath]);
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    let url = Url::parse(&text).map_err(|_| BadPath::Unparsable)?;
    let under_base = url.origin() == base.origin() && behind(base_path, url.path()).is_some();
    if !under_base {
        return Err(BadPath::LeavesBase);
    }
    Ok(Target { origin: origin(), path: url.path().into(), query: url.query().map(Into::into) })
}

/// Whether a URL parser leaves this path as it is: plain characters only, and no segment that
/// begins with a dot.
fn is_plain_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~!$&()*+,;=:@/.".contains(&byte);
    path.bytes().all(plain) && !path.contains("/.")
}

/// Whether a URL parser leaves this query as it is.
fn is_plain_query(query: &str) -> bool {
    query.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"#<>'".contains(&byte))
}

/// Whether `..` segments, in any spelling that a URL parser resolves, climb above the start.
fn leaves_its_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for segment in path.split(['/', '\\']).skip(1) {
        if is_dot(segment) {
            continue;
        }
        if is_dot_dot(segment) {
            match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return true,
            }
        } else {
            depth += 1;
        }
    }
    false
}

fn is_dot(segment: &str) -> bool {
    segment == "." || segment.eq_ignore_ascii_case("%2e")
}

fn is_dot_dot(segment: &str) -> bool {
    ["..", ".%2e", "%2e.", "%2e%2e"].iter().any(|dots| segment.eq_ignore_ascii_case(dots))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn under(base: &str, rest: &str) -> Result<String, BadPath> {
        target(&Url::parse(base).unwrap(), rest, None).map(|target| target.url().to_string())
    }

    #[test]
    fn a_prefix_covers_whole_segments() {
        assert_eq!(behind("/openai", "/openai/v1/models"), Some("/v1/models"));
        assert_eq!(behind("/openai", "/openai"), Some(""));
        assert_eq!(behind("/openai", "/openaix/v1"), None);
        assert_eq!(behind("", "/v1"), Some("/v1"));
    }

    #[test]
    fn the_rest_is_put_behind_the_base() {
        assert_eq!(under("http://u/base/", "/v1/x").unwrap(), "http://u/base/v1/x");
        assert_eq!(under("http://u", "/v1/x").unwrap(), "http://u/v1/x");
        assert_eq!(under("http://u/base", "").unwrap(), "http://u/base");
        assert_eq!(under("http://u/base", "/a/./b/../c").unwrap(), "http://u/base/a/c");
        assert_eq!(under("http://u/base", "/a%2Fb//c").unwrap(), "http://u/base/a%2Fb//c");
    }

    #[test]
    fn a_path_that_leaves_the_base_is_refused_in_every_spelling() {
        for rest in ["/..", "/../x", "/a/../../x", "/%2e%2E/x", "/.%2e/x", "/a/%2e/../../x"] {
            assert_eq!(under("http://u/base", rest), Err(BadPath::LeavesBase), "{rest}");
            assert_eq!(under("http://u", rest), Err(BadPath::LeavesBase), "{rest} at the root");
        }
        assert_eq!(under("http://u/base", "\\..\\x"), Err(BadPath::LeavesBase));
    }

    #[test]
    fn a_query_credential_is_masked_in_any_spelling() {
        let base = Url::parse("http://u").unwrap();
        let target =
            target(&base, "/x", Some("a=1&key=secret&k%65y=secret&access_token=t&b=2")).unwrap();
        assert_eq!(target.masked(), "http://u/x?a=1&key=…&k%65y=…&access_token=…&b=2");
    }

    #[test]
    fn a_url_has_one_name_however_its_query_is_written() {
        let base = Url::parse("http://u").unwrap();
        let name = |query| target(&base, "/x", Some(query)).unwrap().name();
        for (one, other) in [
            ("a=1&b=2", "b=2&a=1"),
            ("a=%41%2f", "%61=A/"),
            ("&a=1&&", "a=1"),
            ("a=1&key=one", "k%65y=other&a=1"),
            ("", "&"),
        ] {
            assert_eq!(name(one), name(other), "{one} {other}");
        }
        for (one, other) in [("a=1", "a=2"), ("a=1&b", "a=1%26b"), ("a=b=c", "a=b=d")] {
            assert_ne!(name(one), name(other), "{one} {other}");
        }
        let without = target(&base, "/x", None).unwrap();
        assert_eq!(without.name(), name(""));
        assert_ne!(target(&base, "/x&a=1", None).unwrap().name(), name("&a=1"));
    }

    proptest! {
        #[test]
        fn no_path_ever_leaves_its_base(rest in "(/|\\.|%2e|%2E|a|%2f|\\\\|@|:|#|\\?){0,12}") {
            let base = Url::parse("http://upstream/base").unwrap();
            if let Ok(target) = target(&base, &format!("/{rest}"), None) {
                let url = target.url();
                prop_assert_eq!(url.host_str(), Some("upstream"));
                prop_assert!(behind("/base", url.path()).is_some(), "{}", url);
            }
        }

        #[test]
        fn what_is_keyed_is_what_is_forwarded(
            rest in "(/|\\.|~|:|a|%41|%|;|\\||'|\"|<| |é){0,9}", query in "(a|=|&|%26|\\+|'|\"|<|é|\\?){0,9}",
        ) {
            let base = Url::parse("http://upstream/base/").unwrap();
            let rest = format!("/{rest}");
            let Ok(target) = target(&base, &rest, Some(&query)) else { return Ok(()) };
            let url = target.url();
            prop_assert_eq!(url.path(), target.path());
            prop_assert_eq!(url.query().unwrap_or(""), target.query().unwrap_or(""));
            let asked = target.path_and_query().unwrap();
            prop_assert_eq!(asked.as_str(), &url[url::Position::BeforePath..]);
            let parsed = Url::parse(&format!("http://upstream/base{rest}?{query}")).unwrap();
            prop_assert_eq!(url, parsed);
        }
    }
}
