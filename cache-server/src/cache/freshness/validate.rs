//! Validating: is what someone holds still what there is (RFC 9110 section 13, RFC 9111 section
//! 4.3)? Of the upstream it is asked for entries, of us for what callers hold.

use http::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LOCATION, CONTENT_TYPE, DATE, ETAG, EXPIRES,
    HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, VARY,
};
use http::{Method, StatusCode};

use super::date::{self, single};
use super::targeted::TARGETS;
use crate::clock::Timestamp;

/// Tags of an `If-None-Match` that are looked at. None of those behind them matches.
pub const TAGS_MAX: usize = 64;

/// An entity tag (RFC 9110 section 8.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'a> {
    /// It means the same, and not the same bytes.
    pub is_weak: bool,
    /// What is between its quotes.
    pub opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Reads a tag; nothing if it is none.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<EntityTag<'a>> {
        let (tag, rest) = EntityTag::begin(text.trim_ascii())?;
        rest.is_empty().then_some(tag)
    }

    /// Whether both mean the same (RFC 9110 section 8.8.3.2).
    #[must_use]
    pub fn matches_weakly(&self, other: &EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }

    /// The tag that a text begins with, and the rest.
    fn begin(text: &'a [u8]) -> Option<(EntityTag<'a>, &'a [u8])> {
        let strong = text.strip_prefix(b"W/");
        let rest = strong.unwrap_or(text).strip_prefix(b"\"")?;
        let end = rest.iter().position(|byte| *byte == b'"')?;
        let opaque = &rest[..end];
        let is_tag = opaque.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
        is_tag.then_some((EntityTag { is_weak: strong.is_some(), opaque }, &rest[end + 1..]))
    }
}

/// The tag of an answer; nothing if it has several, or one that is none.
#[must_use]
pub fn entity_tag(fields: &HeaderMap) -> Option<EntityTag<'_>> {
    EntityTag::parse(single(fields, ETAG)?.as_bytes())
}

/// A strong tag made from the bytes of an answer and what says how they are to be read (RFC 9110 section
/// 8.8.3): the same for the same, on every server.
#[must_use]
pub fn tag_of(fields: &HeaderMap, body: &[u8]) -> HeaderValue {
    let mut hasher = blake3::Hasher::new_derive_key("cache-server 2026 entity tag v1");
    for name in [CONTENT_ENCODING, CONTENT_TYPE] {
        let said = fields.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        hasher.update(&(said.len() as u64).to_le_bytes()).update(said);
    }
    let hash = hasher.update(body).finalize().to_hex();
    HeaderValue::from_str(&format!("\"{}\"", &hash[..32])).expect("made of hex digits")
}

/// Whether the upstream could confirm this answer.
#[must_use]
pub fn has_validator(fields: &HeaderMap) -> bool {
    let (tag, date) = conditions_for(fields);
    tag.is_some() || date.is_some()
}

/// What the upstream is asked with to confirm an entry: `If-None-Match` and `If-Modified-Since`,
/// each a copy of what it said itself (RFC 9111 section 4.3.1).
#[must_use]
pub fn conditions_for(entry_headers: &HeaderMap) -> (Option<HeaderValue>, Option<HeaderValue>) {
    let tag = entity_tag(entry_headers).and_then(|_| entry_headers.get(ETAG).cloned());
    let date = single(entry_headers, LAST_MODIFIED).filter(|value| !value.is_empty());
    (tag, date.cloned())
}

/// What a caller's conditions mean for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The caller holds what there is: 304.
    NotModified,
    /// There is no condition, or it asks for the whole answer.
    Proceed,
    /// A condition that only the upstream can look at: the request is passed on.
    PreconditionNotOurs,
}

/// Looks at a request's conditions in the order of RFC 9110 section 13.2.2, as far as a cache may
/// (RFC 9111 section 4.3.2): `If-None-Match` before `If-Modified-Since`, and only of an entry
/// with status 200. What follows in that order, `If-Range`, is looked at in [`range`](super::range). `now` is for dates whose year has two digits.
#[must_use]
pub fn evaluate(
    request: &HeaderMap,
    method: &Method,
    status: StatusCode,
    entry_headers: &HeaderMap,
    now: Timestamp,
) -> Condition {
    const NOT_OURS: [HeaderName; 2] = [IF_MATCH, IF_UNMODIFIED_SINCE];
    if NOT_OURS.iter().any(|name| request.contains_key(name)) {
        return Condition::PreconditionNotOurs;
    }
    // What a QUERY selects is what a GET would of a resource of its own (RFC 10008 section 2.6).
    let is_read = matches!(*method, Method::GET | Method::HEAD | Method::QUERY);
    let holds_what_there_is = if request.contains_key(IF_NONE_MATCH) {
        // For other methods it would be 412, of the state that the upstream has.
        if !is_read {
            return Condition::PreconditionNotOurs;
        }
        lists_the_tag(request, entry_headers)
    } else {
        is_read && is_not_modified_since(request, entry_headers, now)
    };
    if holds_what_there_is && status == StatusCode::OK {
        Condition::NotModified
    } else {
        Condition::Proceed
    }
}

/// Whether `If-None-Match` has the tag of the entry in it, or is `*` (RFC 9110 section 13.1.2).
fn lists_the_tag(request: &HeaderMap, entry_headers: &HeaderMap) -> bool {
    if single(request, IF_NONE_MATCH).is_some_and(|value| value.as_bytes().trim_ascii() == b"*") {
        return true;
    }
    let Some(held) = entity_tag(entry_headers) else { return false };
    let lines = request.get_all(IF_NONE_MATCH).into_iter().map(HeaderValue::as_bytes);
    lines.flat_map(Tags).take(TAGS_MAX).flatten().any(|tag| tag.matches_weakly(&held))
}

/// The members of a list of tags: each a tag, or nothing if it is none. A tag may have commas.
struct Tags<'a>(&'a [u8]);

impl<'a> Iterator for Tags<'a> {
    type Item = Option<EntityTag<'a>>;

    fn next(&mut self) -> Option<Option<EntityTag<'a>>> {
        let start = self.0.iter().position(|byte| !matches!(byte, b',' | b' ' | b'\t'))?;
        let member = &self.0[start..];
        let found = EntityTag::begin(member).filter(|(_, rest)| {
            let next = rest.trim_ascii_start().first();
            next.is_none_or(|byte| *byte == b',')
        });
        let after_comma = || {
            let comma = member.iter().position(|byte| *byte == b',').unwrap_or(member.len());
            &member[comma..]
        };
        self.0 = found.map_or_else(after_comma, |(_, rest)| rest);
        Some(found.map(|(tag, _)| tag))
    }
}

/// Whether `If-Modified-Since` is no earlier than the entry's last change, or than its date if it
/// names none (RFC 9110 section 13.1.3, RFC 9111 section 4.3.2).
fn is_not_modified_since(request: &HeaderMap, entry_headers: &HeaderMap, now: Timestamp) -> bool {
    let read = |value: &HeaderValue| date::parse(value.as_bytes(), now);
    let changed = date::last_modified(entry_headers, now)
        .or_else(|| single(entry_headers, DATE).and_then(read));
    let since = single(request, IF_MODIFIED_SINCE).and_then(read);
    changed.zip(since).is_some_and(|(changed, since)| changed <= since)
}

/// What a 304 carries of an answer's fields (RFC 9110 section 15.4.5), the fields that guide caches
/// behind us like `Cache-Control` (RFC 9213), and its age, without which it would look newer than it
/// is. `Last-Modified` is only for those that have no tag.
#[must_use]
pub fn not_modified_fields(entry_headers: &HeaderMap) -> HeaderMap {
    const CARRIED: [HeaderName; 7] =
        [AGE, CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, VARY];
    let has_tag = entry_headers.contains_key(ETAG);
    let is_carried = |name: &HeaderName| {
        CARRIED.contains(name) || TARGETS.contains(name) || (*name == LAST_MODIFIED && !has_tag)
    };
    let fields = entry_headers.iter().filter(|(name, _)| is_carried(name));
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATE: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const NOW: Timestamp = Timestamp(1_793_577_600_000);

    fn fields(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
        let values = lines.iter().map(|(name, value)| (name.clone(), *value));
        values.map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
    }

    fn asked(
        request: &[(HeaderName, &'static str)],
        entry: &[(HeaderName, &'static str)],
    ) -> Condition {
        evaluate(&fields(request), &Method::GET, StatusCode::OK, &fields(entry), NOW)
    }

    // RFC 9110 section 8.8.3.
    #[test]
    fn a_tag_is_read_to_the_letter() {
        let tag = |text: &'static str| EntityTag::parse(text.as_bytes());
        assert_eq!(tag("\"a,b\""), Some(EntityTag { is_weak: false, opaque: b"a,b" }));
        assert_eq!(tag(" W/\"\" "), Some(EntityTag { is_weak: true, opaque: b"" }));
        for none in ["", "a", "\"", "\"a", "a\"", "w/\"a\"", "W/a", "\"a\" x", "\"a b\"", "*"] {
            assert_eq!(tag(none), None, "{none}");
        }
        assert!(EntityTag::parse(b"\"\xff\"").is_some(), "obs-text may stand in a tag");
        assert_eq!(EntityTag::parse(b"\"\x7f\""), None);
    }

    // RFC 9110 section 13.1.2.
    #[test]
    fn a_caller_that_lists_the_tag_holds_what_there_is() {
        let entry = [(ETAG, "\"a\"")];
        let weak = [(ETAG, "W/\"a\"")];
        for holds in ["\"a\"", "W/\"a\"", "\"x\", \"a\"", "junk, \"a\"", "\"x,\" , W/\"a\",", "*"] {
            assert_eq!(asked(&[(IF_NONE_MATCH, holds)], &entry), Condition::NotModified, "{holds}");
            assert_eq!(asked(&[(IF_NONE_MATCH, holds)], &weak), Condition::NotModified, "{holds}");
        }
        let lines = [(IF_NONE_MATCH, "\"x\""), (IF_NONE_MATCH, "\"a\"")];
        assert_eq!(asked(&lines, &entry), Condition::NotModified);
        for other in ["\"A\"", "a", "\"x, a\"", "\"x\"\"a\"", "", "\"a\", *x, \"b", "*, \"b\""] {
            let expected = if other.starts_with("\"a\"") {
                Condition::NotModified
            } else {
                Condition::Proceed
            };
            assert_eq!(asked(&[(IF_NONE_MATCH, other)], &entry), expected, "{other}");
        }
        assert_eq!(asked(&[(IF_NONE_MATCH, "\"a\"")], &[]), Condition::Proceed);
    }

    #[test]
    fn tags_beyond_the_bound_match_nothing() {
        let list = |before: usize| {
            let tags = format!("{}\"a\"", "\"x\",".repeat(before));
            let value = HeaderValue::from_str(&tags).unwrap();
            let request = HeaderMap::from_iter([(IF_NONE_MATCH, value)]);
            evaluate(&request, &Method::GET, StatusCode::OK, &fields(&[(ETAG, "\"a\"")]), NOW)
        };
        assert_eq!(list(TAGS_MAX - 1), Condition::NotModified);
        assert_eq!(list(TAGS_MAX), Condition::Proceed);
    }

    // RFC 9110 section 13.1.3, RFC 9111 section 4.3.2.
    #[test]
    fn a_date_is_compared_with_the_last_change_or_else_with_the_entrys_date() {
        let since = |value| [(IF_MODIFIED_SINCE, value)];
        for name in [LAST_MODIFIED, DATE] {
            let entry = |value| [(name.clone(), value)];
            assert_eq!(asked(&since(EARLY), &entry(EARLY)), Condition::NotModified);
            assert_eq!(asked(&since(LATE), &entry(EARLY)), Condition::NotModified);
            assert_eq!(asked(&since(EARLY), &entry(LATE)), Condition::Proceed);
            assert_eq!(asked(&since("yesterday"), &entry(EARLY)), Condition::Proceed);
        }
        assert_eq!(asked(&since(LATE), &[]), Condition::Proceed);
        let both = [(LAST_MODIFIED, EARLY), (DATE, LATE)];
        assert_eq!(asked(&since(EARLY), &both), Condition::NotModified);
        let twice = [(IF_MODIFIED_SINCE, LATE), (IF_MODIFIED_SINCE, LATE)];
        assert_eq!(asked(&twice, &both), Condition::Proceed);
    }

    // RFC 9110 section 13.2.2.
    #[test]
    fn a_tag_goes_before_a_date() {
        let request = [(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, LATE)];
        let entry = [(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)];
        assert_eq!(asked(&request, &entry), Condition::Proceed);
        let request = [(IF_NONE_MATCH, "\"a\""), (IF_MODIFIED_SINCE, EARLY)];
        assert_eq!(
            asked(&request, &[(ETAG, "\"a\""), (LAST_MODIFIED, LATE)]),
            Condition::NotModified
        );
    }

    // RFC 9110 section 13.2.1.
    #[test]
    fn only_an_entry_of_status_200_is_not_modified() {
        let request = fields(&[(IF_NONE_MATCH, "*")]);
        for status in [203, 204, 301, 404, 410] {
            let status = StatusCode::from_u16(status).unwrap();
            let condition = evaluate(&request, &Method::GET, status, &HeaderMap::new(), NOW);
            assert_eq!(condition, Condition::Proceed, "{status}");
        }
    }

    #[test]
    fn conditions_that_only_the_upstream_can_look_at_are_not_ours() {
        for name in [IF_MATCH, IF_UNMODIFIED_SINCE] {
            let request = [(name, "*"), (IF_NONE_MATCH, "*")];
            assert_eq!(asked(&request, &[]), Condition::PreconditionNotOurs);
        }
        let post = |name| {
            let request = fields(&[(name, "*")]);
            evaluate(&request, &Method::POST, StatusCode::OK, &HeaderMap::new(), NOW)
        };
        assert_eq!(post(IF_NONE_MATCH), Condition::PreconditionNotOurs);
        assert_eq!(post(IF_MODIFIED_SINCE), Condition::Proceed, "it means nothing there");
    }

    // RFC 10008 section 2.6.
    #[test]
    fn the_conditions_of_a_query_are_looked_at_as_those_of_a_get() {
        let entry = fields(&[(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)]);
        for (name, value) in [(IF_NONE_MATCH, "\"a\""), (IF_MODIFIED_SINCE, EARLY)] {
            let request = fields(&[(name, value)]);
            let condition = evaluate(&request, &Method::QUERY, StatusCode::OK, &entry, NOW);
            assert_eq!(condition, Condition::NotModified);
        }
    }

    // RFC 9111 section 4.3.1.
    #[test]
    fn the_upstream_is_asked_with_its_own_words() {
        let text =
            |value: Option<HeaderValue>| value.map(|value| value.to_str().unwrap().to_owned());
        let conditions = |lines: &[(HeaderName, &'static str)]| {
            let (tag, date) = conditions_for(&fields(lines));
            (text(tag), text(date))
        };
        assert_eq!(conditions(&[]), (None, None));
        let both = conditions(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, EARLY)]);
        assert_eq!(both, (Some("W/\"a\"".into()), Some(EARLY.into())));
        assert_eq!(conditions(&[(ETAG, "a")]), (None, None), "no tag is no validator");
        assert_eq!(conditions(&[(ETAG, "\"a\""), (ETAG, "\"b\"")]), (None, None));
        assert!(has_validator(&fields(&[(LAST_MODIFIED, EARLY)])));
        assert!(!has_validator(&fields(&[(DATE, EARLY)])));
    }

    // RFC 9110 section 15.4.5.
    #[test]
    fn a_304_carries_what_guides_caches_and_nothing_else() {
        let mut entry = vec![
            (AGE, "3"),
            (CACHE_CONTROL, "max-age=5"),
            (TARGETS[0].clone(), "max-age=6"),
            (TARGETS[1].clone(), "max-age=7"),
            (CONTENT_LOCATION, "/x"),
            (DATE, EARLY),
            (ETAG, "\"a\""),
            (EXPIRES, LATE),
            (VARY, "accept"),
        ];
        let carried = fields(&entry);
        entry.push((http::header::CONTENT_TYPE, "text/plain"));
        entry.push((http::header::SET_COOKIE, "a=b"));
        entry.push((LAST_MODIFIED, EARLY));
        assert_eq!(not_modified_fields(&fields(&entry)), carried);
        let without_tag = fields(&[(LAST_MODIFIED, EARLY)]);
        assert_eq!(not_modified_fields(&without_tag), without_tag);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = EntityTag::parse(&bytes);
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let request = HeaderMap::from_iter([(IF_NONE_MATCH, value.clone())]);
                let entry = HeaderMap::from_iter([(ETAG, value)]);
                let _ = evaluate(&request, &Method::GET, StatusCode::OK, &entry, NOW);
            }
        }

        #[test]
        fn a_tag_that_is_written_is_read_back(is_weak in any::<bool>(), opaque in "[!#-~]{0,20}") {
            let written = format!("{}\"{opaque}\"", if is_weak { "W/" } else { "" });
            let tag = EntityTag { is_weak, opaque: opaque.as_bytes() };
            prop_assert_eq!(EntityTag::parse(written.as_bytes()), Some(tag));
        }
    }
}
