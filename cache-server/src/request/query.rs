//! Query: what of a QUERY is in its key beside what its spec reads of it (RFC 10008 section 2.7).

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use keyspec::Key;

/// What of a QUERY may mean something, and is not in the key that its spec makes.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// All of its fields; those count that describe its content.
    pub fields: &'a HeaderMap,
    /// Its content, byte for byte.
    pub body: &'a [u8],
    /// Whether the bytes count, and not only what they mean to who knows their type.
    pub is_verbatim: bool,
}

/// The key of a QUERY. Its spec's key tells what the content means by its type. All else that
/// describes it, such as `Content-Language`, is mixed in as it is written, where there is any.
#[must_use]
pub fn key_of_query(key: Key, content: Content<'_>) -> Key {
    let mut describing: Vec<(&HeaderName, &HeaderValue)> =
        content.fields.iter().filter(|(name, _)| is_to_be_mixed_in(name, content.body)).collect();
    if describing.is_empty() && !content.is_verbatim {
        return key;
    }
    // Values of one name keep their order.
    describing.sort_by_key(|(name, _)| name.as_str());
    let mut hasher = blake3::Hasher::new_derive_key("cache-server 2026 key of a QUERY v1");
    hasher.update(key.as_bytes());
    let mut put = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    put(&(describing.len() as u64).to_le_bytes());
    for (name, value) in describing {
        put(name.as_str().as_bytes());
        put(value.as_bytes());
    }
    if content.is_verbatim {
        put(content.body);
    }
    Key::from_bytes(*hasher.finalize().as_bytes())
}

/// Whether a field describes the content, and nothing else has it in the key. What has a coding has
/// no key at all.
fn is_to_be_mixed_in(name: &HeaderName, body: &[u8]) -> bool {
    match *name {
        CONTENT_LENGTH | CONTENT_ENCODING => false,
        // The spec has read it, if there was something to read.
        CONTENT_TYPE => body.is_empty(),
        _ => name.as_str().starts_with("content-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::from_bytes([7; 32]);

    fn key(lines: &[(&'static str, &'static str)], body: &[u8], is_verbatim: bool) -> Key {
        let lines = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        key_of_query(KEY, Content { fields: &lines.collect(), body, is_verbatim })
    }

    // RFC 10008 section 2.7.
    #[test]
    fn whatever_describes_the_content_is_in_the_key() {
        let plain = [("content-type", "a/b"), ("content-length", "1"), ("accept", "c/d")];
        assert_eq!(key(&plain, b"x", false), KEY, "its spec has all of that in the key");
        let mut seen = vec![KEY];
        for lines in [
            &[("content-language", "de")][..],
            &[("content-language", "en")],
            &[("content-location", "de")],
            &[("content-language", "de"), ("content-language", "en")],
            &[("content-language", "en"), ("content-language", "de")],
            &[("content-language", "de"), ("content-location", "en")],
        ] {
            let one = key(lines, b"x", false);
            assert!(!seen.contains(&one), "{lines:?}");
            seen.push(one);
        }
        let (one, other) = (("content-language", "a"), ("content-location", "b"));
        assert_eq!(key(&[one, other], b"x", false), key(&[other, one], b"x", false));
    }

    #[test]
    fn an_empty_content_has_a_type() {
        let typed = |value| key(&[("content-type", value)], b"", false);
        assert_ne!(typed("a/b"), typed("c/d"));
        assert_ne!(typed("a/b"), key(&[], b"", false));
    }

    // RFC 10008 section 2.7.
    #[test]
    fn who_wants_no_transformation_is_keyed_by_the_bytes() {
        let bytes = |body| key(&[], body, true);
        assert_ne!(bytes(b"{}"), bytes(b"{ }"));
        assert_ne!(bytes(b"{}"), KEY);
        assert_eq!(bytes(b"{}"), bytes(b"{}"));
    }
}
