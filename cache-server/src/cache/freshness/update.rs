//! Updating: what is stored of an answer's header, and what a later answer changes in it (RFC 9111
//! sections 3.1, 3.2 and 4.3.5).

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, LAST_MODIFIED, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TRAILER, VARY,
};

use super::cache_control::ResponseDirectives;
use super::date::single;
use super::targeted::deciding;
use super::validate::entity_tag;

/// Never stored: what is between us and a neighbour (RFC 9111 section 3.1), what is reckoned anew
/// for each answer, the names of trailers, which those that are stored tell, and cookies, which are
/// for who asked even where the rest is for all (section 7.3).
const NEVER_STORED: [HeaderName; 7] = [
    AGE,
    CONTENT_LENGTH,
    PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    PROXY_AUTHORIZATION,
    SET_COOKIE,
    TRAILER,
];

/// Never changed by a confirmation: what tells how the stored bytes are to be read, digests of them,
/// and `Vary`, under which the entry is filed.
const NEVER_UPDATED: [HeaderName; 8] = [
    CONTENT_ENCODING,
    CONTENT_RANGE,
    CONTENT_TYPE,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
    VARY,
];

/// What is stored of an answer's fields on a generic route: all but those that are never stored,
/// and those that it says not to store. Fields that concern one connection are gone already. The
/// values are copied, as they outlive the buffer of the connection that they were read from.
#[must_use]
pub fn stored_fields(fields: &HeaderMap, says: &ResponseDirectives) -> HeaderMap {
    let kept = fields.iter().filter(|(name, _)| is_stored(name, says));
    kept.filter_map(|(name, value)| Some((name.clone(), copied(value)?))).collect()
}

/// Whether among these fields of an answer are some for who asked alone, which stand beside what is for all:
/// cookies, and what the answer says not to keep.
#[must_use]
pub fn has_fields_for_one(fields: &HeaderMap) -> bool {
    let says = deciding(fields);
    let is_for_one = |name: &HeaderName| says.no_cache.names(name) || says.private.names(name);
    fields.contains_key(SET_COOKIE) || fields.keys().any(is_for_one)
}

/// The stored fields once a 304, or the answer to HEAD, has confirmed them: each field that it has
/// stands in for the stored ones of that name (RFC 9111 section 3.2), but for what the stored
/// bytes depend on.
#[must_use]
pub fn freshened(stored: &HeaderMap, confirming: &HeaderMap) -> HeaderMap {
    let mut fields = stored.clone();
    for name in confirming.keys().filter(|name| !NEVER_UPDATED.contains(name)) {
        fields.remove(name);
        for value in confirming.get_all(name) {
            fields.append(name.clone(), value.clone());
        }
    }
    // The whole says what may be kept: the field that decides may be one that did not change.
    let says = deciding(&fields);
    stored_fields(&fields, &says)
}

/// Whether a 304 is about this entry (RFC 9111 section 4.3.4): a strong tag that it has decides
/// alone, and is the entry's own, which a weak one is not; of weak validators none may speak
/// against it. One that has none is about what was asked about.
#[must_use]
pub fn not_modified_confirms(stored: &HeaderMap, not_modified: &HeaderMap) -> bool {
    match entity_tag(not_modified) {
        Some(strong) if !strong.is_weak => entity_tag(stored) == Some(strong),
        _ => agreement(stored, not_modified) != Some(false),
    }
}

/// Whether an answer has another strong tag than what is stored, and so is of another representation.
#[must_use]
pub fn has_another_tag(stored: &HeaderMap, received: &HeaderMap) -> bool {
    let strong = |fields| entity_tag(fields).filter(|tag| !tag.is_weak);
    matches!((strong(stored), strong(received)), (Some(held), Some(tag)) if held != tag)
}

/// Whether the answer to HEAD, with status 200, says that the entry of GET is what there still is:
/// the validators and the length that it has are those of the entry, whose body has `body_bytes`
/// (RFC 9111 section 4.3.5). If it has none of them it confirms nothing.
#[must_use]
pub fn head_confirms(stored: &HeaderMap, body_bytes: u64, head: &HeaderMap) -> bool {
    let length = head.contains_key(CONTENT_LENGTH).then(|| {
        let length = single(head, CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        length.and_then(|length| length.parse().ok()) == Some(body_bytes)
    });
    match (agreement(stored, head), length) {
        (None, None) => false,
        (validators, length) => validators != Some(false) && length != Some(false),
    }
}

/// Whether the validators that were received are those that are stored; nothing if there are none.
fn agreement(stored: &HeaderMap, received: &HeaderMap) -> Option<bool> {
    let tags = entity_tag(received)
        .map(|tag| entity_tag(stored).is_some_and(|held| held.matches_weakly(&tag)));
    let dates = single(received, LAST_MODIFIED)
        .map(|date| single(stored, LAST_MODIFIED).is_some_and(|held| held == date));
    match (tags, dates) {
        (Some(tags), Some(dates)) => Some(tags && dates),
        (one, other) => one.or(other),
    }
}

fn is_stored(name: &HeaderName, says: &ResponseDirectives) -> bool {
    !NEVER_STORED.contains(name) && !says.no_cache.names(name) && !says.private.names(name)
}

fn copied(value: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{CACHE_CONTROL, ETAG};

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let values = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        values.collect()
    }

    fn stored(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields(lines);
        stored_fields(&fields, &deciding(&fields))
    }

    // RFC 9111 section 3.1.
    #[test]
    fn what_is_between_neighbours_is_not_stored_and_all_else_is() {
        let kept = [("content-type", "a/b"), ("x-many", "1"), ("x-many", "2"), ("via", "1.1 x")];
        let mut all = kept.to_vec();
        for name in [
            "age",
            "content-length",
            "proxy-authenticate",
            "proxy-authentication-info",
            "proxy-authorization",
            "trailer",
        ] {
            all.push((name, "1"));
        }
        assert_eq!(stored(&all), fields(&kept));
    }

    // RFC 9111 sections 5.2.2.4 and 5.2.2.7.
    #[test]
    fn fields_that_the_answer_keeps_to_itself_are_not_stored() {
        let says =
            ("cache-control", "max-age=5, private=\"X-One\", no-cache=\"x-two, Set-Cookie\"");
        let all = [says, ("x-one", "1"), ("x-two", "2"), ("set-cookie", "a=b"), ("x-three", "3")];
        assert_eq!(stored(&all), fields(&[says, ("x-three", "3")]));
    }

    #[test]
    fn stored_values_keep_no_connections_buffer_alive() {
        let buffer = bytes::Bytes::from(vec![b'x'; 1000]);
        let value = || HeaderValue::from_maybe_shared(buffer.slice(..5)).unwrap();
        let received = HeaderMap::from_iter([(ETAG, value())]);
        let kept = stored_fields(&received, &ResponseDirectives::default());
        let updated = freshened(&HeaderMap::new(), &received);
        assert_eq!((&kept[ETAG], &updated[ETAG]), (&value(), &value()));
        drop(received);
        assert!(buffer.is_unique(), "the buffer is ours alone again");
    }

    // RFC 9111 section 3.2.
    #[test]
    fn a_confirmation_changes_fields_but_not_those_that_the_bytes_depend_on() {
        let held = fields(&[
            ("cache-control", "max-age=5"),
            ("content-encoding", "gzip"),
            ("content-type", "a/b"),
            ("vary", "accept"),
            ("x-many", "1"),
            ("x-many", "2"),
            ("x-kept", "old"),
        ]);
        let confirming = fields(&[
            ("age", "3"),
            ("cache-control", "max-age=9, private=\"x-own\""),
            ("content-encoding", "br"),
            ("content-length", "0"),
            ("content-range", "bytes 0-1/2"),
            ("content-type", "c/d"),
            ("set-cookie", "a=b"),
            ("vary", "*"),
            ("x-many", "3"),
            ("x-new", "new"),
            ("x-own", "1"),
        ]);
        let expected = fields(&[
            ("cache-control", "max-age=9, private=\"x-own\""),
            ("content-encoding", "gzip"),
            ("content-type", "a/b"),
            ("vary", "accept"),
            ("x-many", "3"),
            ("x-kept", "old"),
            ("x-new", "new"),
        ]);
        assert_eq!(freshened(&held, &confirming), expected);
        assert_eq!(freshened(&held, &HeaderMap::new())[CACHE_CONTROL], "max-age=5");
    }

    // RFC 9111 section 3.2, RFC 9213 section 2.2.
    #[test]
    fn the_updated_whole_says_which_fields_are_kept() {
        let targeted = ("cdn-cache-control", "max-age=5, private=\"x-own\"");
        let held = fields(&[targeted, ("x-own", "1")]);
        let confirming = fields(&[("cache-control", "max-age=9"), ("x-own", "2")]);
        let expected = fields(&[targeted, ("cache-control", "max-age=9")]);
        assert_eq!(freshened(&held, &confirming), expected);
        let says_no_more = fields(&[("cdn-cache-control", "max-age=5"), ("x-own", "2")]);
        assert_eq!(freshened(&held, &says_no_more), says_no_more);
        let says_so_now = fields(&[("cache-control", "private=\"x-own\"")]);
        assert_eq!(freshened(&fields(&[("x-own", "1")]), &says_so_now), says_so_now);
    }

    // RFC 9111 section 4.3.4.
    #[test]
    fn a_304_with_another_validator_is_about_something_else() {
        let held = fields(&[("etag", "\"a\""), ("last-modified", "then")]);
        let confirms = |lines| not_modified_confirms(&held, &fields(lines));
        assert!(confirms(&[]));
        assert!(confirms(&[("etag", "W/\"a\"")]));
        assert!(confirms(&[("last-modified", "then")]));
        assert!(!confirms(&[("etag", "\"b\"")]));
        assert!(!confirms(&[("last-modified", "later")]));
        assert!(!confirms(&[("etag", "W/\"a\""), ("last-modified", "later")]));
        assert!(!not_modified_confirms(&HeaderMap::new(), &held));
    }

    // RFC 9111 section 4.3.4.
    #[test]
    fn a_strong_tag_of_a_304_decides_alone_and_is_not_that_of_a_weak_entry() {
        let strong = fields(&[("etag", "\"a\""), ("last-modified", "later")]);
        let held = |tag| fields(&[("etag", tag), ("last-modified", "then")]);
        assert!(not_modified_confirms(&held("\"a\""), &strong), "touched, and the same");
        assert!(!not_modified_confirms(&held("W/\"a\""), &strong));
        assert!(!not_modified_confirms(&held("\"b\""), &strong));
    }

    // RFC 9111 section 4.3.5.
    #[test]
    fn an_answer_to_head_confirms_by_every_validator_and_length_that_it_has() {
        let held = fields(&[("etag", "\"a\""), ("last-modified", "then")]);
        let confirms = |lines| head_confirms(&held, 7, &fields(lines));
        assert!(confirms(&[("etag", "\"a\""), ("last-modified", "then"), ("content-length", "7")]));
        assert!(confirms(&[("etag", "\"a\"")]));
        assert!(confirms(&[("content-length", "7")]));
        assert!(!confirms(&[("etag", "\"a\""), ("content-length", "8")]));
        assert!(!confirms(&[("etag", "\"b\""), ("content-length", "7")]));
        assert!(!confirms(&[("last-modified", "later"), ("content-length", "7")]));
        assert!(!confirms(&[("etag", "\"a\""), ("content-length", "seven")]));
        assert!(!confirms(&[]), "what says nothing confirms nothing");
    }
}
