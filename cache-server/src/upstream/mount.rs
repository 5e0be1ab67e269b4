//! From a caller's path to the upstream's URL.
//!
//! Mount check, key and forward all use the one parsed path, so that no spelling means one
//! thing to the key and another to the upstream (CVE-2026-34475). A path whose dot segments
//! lead out of the mount is refused.

use url::Url;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The whole URL.
    pub url: Url,
}

impl Target {
    /// The path as forwarded.
    #[must_use]
    pub fn path(&self) -> &str {
        self.url.path()
    }

    /// The query as forwarded.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.url.query()
    }

    /// The URL with the value of a `key` parameter masked, for logs and selectors.
    #[must_use]
    pub fn masked(&self) -> String {
        let mut text = format!("{}{}", self.url.origin().ascii_serialization(), self.path());
        for (index, pair) in self.query().unwrap_or("").split('&').enumerate() {
            if pair.is_empty() {
                continue;
            }
            text.push(if index == 0 { '?' } else { '&' });
            text.push_str(if is_key_parameter(pair) { "key=…" } else { pair });
        }
        text
    }
}

/// Whether a query pair carries a credential: its name, percent-decoded, is `key`.
fn is_key_parameter(pair: &str) -> bool {
    url::form_urlencoded::parse(pair.as_bytes()).next().is_some_and(|(name, _)| name == "key")
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
    if leaves_its_root(rest) {
        return Err(BadPath::LeavesBase);
    }
    let base_path = base.path().trim_end_matches('/');
    let mut text = String::with_capacity(base.as_str().len() + rest.len() + 64);
    text.push_str(&base[..url::Position::BeforePath]);
    text.push_str(base_path);
    text.push_str(rest);
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    let url = Url::parse(&text).map_err(|_| BadPath::Unparsable)?;
    let under_base = url.origin() == base.origin() && behind(base_path, url.path()).is_some();
    if under_base { Ok(Target { url }) } else { Err(BadPath::LeavesBase) }
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
        target(&Url::parse(base).unwrap(), rest, None).map(|target| target.url.to_string())
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
        let target = target(&base, "/x", Some("a=1&key=secret&k%65y=secret&b=2")).unwrap();
        assert_eq!(target.masked(), "http://u/x?a=1&key=…&key=…&b=2");
    }

    proptest! {
        #[test]
        fn no_path_ever_leaves_its_base(rest in "(/|\\.|%2e|%2E|a|%2f|\\\\|@|:|#|\\?){0,12}") {
            let base = Url::parse("http://upstream/base").unwrap();
            if let Ok(target) = target(&base, &format!("/{rest}"), None) {
                prop_assert_eq!(target.url.host_str(), Some("upstream"));
                prop_assert!(behind("/base", target.path()).is_some(), "{}", target.url);
            }
        }
    }
}
