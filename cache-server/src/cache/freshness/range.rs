//! Ranges: which part of a stored answer a request wants (RFC 9110 section 14).
//!
//! Parts are cut out of complete entries alone. A `Range` that is in no form we read, names another
//! unit than bytes, or asks for more parts than [`PARTS_MAX`] counts as not said, and the whole is the
//! answer (section 14.2): that is never more than a request without it would get. Parts that overlap,
//! or lie so close that what stands between them is shorter than a part's own header, become one.

use std::ops::Range;

use http::header::{
    ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, IF_RANGE, RANGE,
};
use http::{Method, StatusCode};

use super::date::{self, single};
use super::validate::{EntityTag, entity_tag};
use crate::clock::Timestamp;

/// Most parts that a request may name.
pub const PARTS_MAX: usize = 16;

/// Bytes between two parts that are rather sent than a part's own header (section 15.3.7.2).
const GAP_BYTES_MAX: u64 = 80;

/// What a request wants of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// These parts, in the order in which they were named; none is empty, and none overlaps another.
    Parts(Vec<Range<u64>>),
    /// Parts of which none is there.
    Nothing,
}

/// Whether a request asks for parts. Of other methods than these nobody has said what a part is
/// (RFC 9110 section 14.2, RFC 10008 section 2.8).
#[must_use]
pub fn asks_for_parts(method: &Method, request: &HeaderMap) -> bool {
    (*method == Method::GET || method.as_str() == "QUERY") && request.contains_key(RANGE)
}

/// What a request wants of an entry with this status, these fields and so many bytes. `now` is for
/// dates whose year has two digits.
#[must_use]
pub fn wanted(
    request: &HeaderMap,
    method: &Method,
    status: StatusCode,
    entry_headers: &HeaderMap,
    body_bytes: u64,
    now: Timestamp,
) -> Wanted {
    let may_be_cut = status == StatusCode::OK && body_bytes > 0;
    if !may_be_cut || !asks_for_parts(method, request) || refuses_parts(entry_headers) {
        return Wanted::Whole;
    }
    let specs = single(request, RANGE).and_then(|value| specs(value.as_bytes()));
    let Some(specs) = specs.filter(|_| is_of_what_the_caller_has(request, entry_headers, now))
    else {
        return Wanted::Whole;
    };
    let parts: Vec<_> = specs.iter().filter_map(|spec| spec.within(body_bytes)).collect();
    if parts.is_empty() { Wanted::Nothing } else { Wanted::Parts(joined(parts)) }
}

/// The field that says which part of how many bytes a body is (RFC 9110 section 14.4).
#[must_use]
pub fn content_range(part: &Range<u64>, body_bytes: u64) -> HeaderValue {
    let text = format!("bytes {}-{}/{body_bytes}", part.start, part.end.saturating_sub(1));
    HeaderValue::from_str(&text).expect("made of digits")
}

/// The same where no part is there.
#[must_use]
pub fn content_range_of_nothing(body_bytes: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("bytes */{body_bytes}")).expect("made of digits")
}

/// What stands before a part of several (RFC 9110 section 14.6).
#[must_use]
pub fn part_header(
    boundary: &str,
    entry_headers: &HeaderMap,
    part: &Range<u64>,
    body_bytes: u64,
) -> Vec<u8> {
    let mut header = format!("\r\n--{boundary}\r\n").into_bytes();
    let media_type = entry_headers.get(CONTENT_TYPE).map(|value| (CONTENT_TYPE, value.clone()));
    let range = (CONTENT_RANGE, content_range(part, body_bytes));
    for (name, value) in media_type.into_iter().chain([range]) {
        header.extend_from_slice(name.as_str().as_bytes());
        header.extend_from_slice(b": ");
        header.extend_from_slice(value.as_bytes());
        header.extend_from_slice(b"\r\n");
    }
    header.extend_from_slice(b"\r\n");
    header
}

/// An upstream that says so of an answer knows why.
fn refuses_parts(entry_headers: &HeaderMap) -> bool {
    let is_cut_already = entry_headers.contains_key(CONTENT_RANGE);
    let units = single(entry_headers, ACCEPT_RANGES).map(|value| value.as_bytes().trim_ascii());
    is_cut_already || units.is_some_and(|units| units.eq_ignore_ascii_case(b"none"))
}

/// Whether the entry is what the caller has a part of already: always where it does not say what
/// that is, else by a strong validator alone (RFC 9110 section 13.1.5).
fn is_of_what_the_caller_has(
    request: &HeaderMap,
    entry_headers: &HeaderMap,
    now: Timestamp,
) -> bool {
    if !request.contains_key(IF_RANGE) {
        return true;
    }
    let Some(condition) = single(request, IF_RANGE).map(HeaderValue::as_bytes) else {
        return false;
    };
    match EntityTag::parse(condition) {
        Some(tag) => !tag.is_weak && entity_tag(entry_headers) == Some(tag),
        None => is_strong_date(condition, entry_headers, now),
    }
}

/// Whether this is the date of the last change, and stands for one version alone: the answer was made
/// at least a second later (RFC 9110 section 8.8.2.2).
fn is_strong_date(condition: &[u8], entry_headers: &HeaderMap, now: Timestamp) -> bool {
    let Some(changed) = date::last_modified(entry_headers, now) else { return false };
    let made = single(entry_headers, DATE).and_then(|value| date::parse(value.as_bytes(), now));
    date::parse(condition, now) == Some(changed)
        && made.is_some_and(|made| made.0 >= changed.0.saturating_add(1000))
}

/// One part as it is named: `first-`, `first-last` or `-suffix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix { bytes: u64 },
}

impl Spec {
    fn parse(text: &[u8]) -> Option<Spec> {
        let dash = text.iter().position(|byte| *byte == b'-')?;
        let (first, last) = (&text[..dash], &text[dash + 1..]);
        match (first, last) {
            ([], suffix) => Some(Spec::Suffix { bytes: number(suffix)? }),
            (first, []) => Some(Spec::From { first: number(first)?, last: None }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Spec::From { first, last: Some(last) })
            }
        }
    }

    /// The bytes that it names of so many; nothing if none of them is there.
    fn within(self, body_bytes: u64) -> Option<Range<u64>> {
        let part = match self {
            Spec::From { first, last } => {
                let end = last.map_or(body_bytes, |last| last.saturating_add(1).min(body_bytes));
                first..end
            }
            Spec::Suffix { bytes } => body_bytes.saturating_sub(bytes)..body_bytes,
        };
        (part.start < part.end).then_some(part)
    }
}

/// A whole number, as large as there are any if it is larger; nothing if it is none.
fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(digits).ok().filter(|_| is_number)?;
    Some(text.parse().unwrap_or(u64::MAX))
}

/// The parts that a `Range` names; nothing if it is in no form that is read.
fn specs(value: &[u8]) -> Option<Vec<Spec>> {
    let equals = value.iter().position(|byte| *byte == b'=')?;
    let (unit, set) = (&value[..equals], &value[equals + 1..]);
    if !unit.trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let members = set.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let mut specs = Vec::new();
    for member in members.filter(|member| !member.is_empty()) {
        if specs.len() == PARTS_MAX {
            return None;
        }
        specs.push(Spec::parse(member)?);
    }
    (!specs.is_empty()).then_some(specs)
}

/// The same bytes in parts that neither overlap nor nearly touch. Each takes in those before it that
/// it meets, until none is left.
fn joined(parts: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let meets = |one: &Range<u64>, other: &Range<u64>| {
        one.start <= other.end.saturating_add(GAP_BYTES_MAX)
            && other.start <= one.end.saturating_add(GAP_BYTES_MAX)
    };
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(parts.len());
    for mut part in parts {
        let mut place = joined.len();
        while let Some(met) = joined.iter().position(|other| meets(other, &part)) {
            let other = joined.remove(met);
            part = part.start.min(other.start)..part.end.max(other.end);
            place = place.min(met);
        }
        joined.insert(place, part);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use http::header::{ETAG, LAST_MODIFIED};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_793_577_600_000);
    const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let value = |value: &str| HeaderValue::from_str(value).unwrap();
        let mut fields = HeaderMap::new();
        for (name, text) in lines {
            fields.append(name, value(text));
        }
        fields
    }

    fn of_ten(range: &str) -> Wanted {
        of(&[(RANGE, range)], &[], 10)
    }

    fn of(request: &[(HeaderName, &str)], entry: &[(HeaderName, &str)], bytes: u64) -> Wanted {
        wanted(&fields(request), &Method::GET, StatusCode::OK, &fields(entry), bytes, NOW)
    }

    fn part(part: Range<u64>) -> Wanted {
        Wanted::Parts(vec![part])
    }

    // RFC 9110 sections 14.1.1 and 14.1.2.
    #[test]
    fn a_part_is_named_by_its_ends_by_its_beginning_or_by_how_much_is_left() {
        for (range, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-4", 2..5),
            ("bytes=2-", 2..10),
            ("bytes=9-99", 9..10),
            ("bytes=-3", 7..10),
            ("bytes=-99", 0..10),
            ("Bytes= , 0-18446744073709551615 ,", 0..10),
            ("bytes=1-99999999999999999999999", 1..10),
        ] {
            assert_eq!(of_ten(range), part(expected), "{range}");
        }
    }

    // RFC 9110 section 14.2.
    #[test]
    fn a_range_that_is_in_no_form_counts_as_not_said() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=4-2",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=1 - 2",
            "bytes=0-1,x",
            "items=0-1",
            "bytes 0-1",
            "bytes=0x1-2",
        ] {
            assert_eq!(of_ten(range), Wanted::Whole, "{range}");
        }
        let twice = [(RANGE, "bytes=0-1"), (RANGE, "bytes=0-1")];
        assert_eq!(of(&twice, &[], 10), Wanted::Whole);
    }

    // RFC 9110 section 15.5.17.
    #[test]
    fn parts_beyond_the_end_are_nothing_unless_one_is_there() {
        for range in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=10-,99-"] {
            assert_eq!(of_ten(range), Wanted::Nothing, "{range}");
        }
        assert_eq!(of_ten("bytes=99-,0-1"), part(0..2));
        assert_eq!(of(&[(RANGE, "bytes=0-")], &[], 0), Wanted::Whole, "nothing can be cut");
    }

    // RFC 9110 section 15.3.7.2.
    #[test]
    fn parts_keep_the_order_in_which_they_are_named_and_become_one_where_they_meet() {
        let of = |range| of(&[(RANGE, range)], &[], 1000);
        assert_eq!(of("bytes=500-509,0-9"), Wanted::Parts(vec![500..510, 0..10]));
        assert_eq!(of("bytes=0-9,5-20"), part(0..21));
        assert_eq!(of("bytes=0-9,90-99"), part(0..100), "80 bytes are no gap");
        assert_eq!(of("bytes=0-9,91-99"), Wanted::Parts(vec![0..10, 91..100]));
        assert_eq!(of("bytes=900-,300-309,0-9,-999"), part(0..1000));
    }

    #[test]
    fn who_names_more_parts_than_are_looked_at_gets_the_whole() {
        let named = |count: usize| {
            let list: Vec<String> = (0..count).map(|at| format!("{0}-{0}", at * 1000)).collect();
            of(&[(RANGE, &format!("bytes={}", list.join(",")))], &[], 1 << 20)
        };
        assert!(matches!(named(PARTS_MAX), Wanted::Parts(parts) if parts.len() == PARTS_MAX));
        assert_eq!(named(PARTS_MAX + 1), Wanted::Whole);
    }

    // RFC 9110 section 13.1.5.
    #[test]
    fn a_part_is_given_only_of_what_the_caller_has_a_part_of() {
        let if_range = |condition, entry: &[(HeaderName, &str)]| {
            of(&[(RANGE, "bytes=0-1"), (IF_RANGE, condition)], entry, 10) == part(0..2)
        };
        assert!(if_range("\"a\"", &[(ETAG, "\"a\"")]));
        for (condition, tag) in [("\"a\"", "\"b\""), ("W/\"a\"", "W/\"a\""), ("\"a\"", "W/\"a\"")] {
            assert!(!if_range(condition, &[(ETAG, tag)]), "{condition} {tag}");
        }
        assert!(!if_range("\"a\"", &[]));
        assert!(if_range(EARLY, &[(LAST_MODIFIED, EARLY), (DATE, LATER)]));
        assert!(!if_range(EARLY, &[(LAST_MODIFIED, EARLY), (DATE, EARLY)]), "a weak date");
        assert!(!if_range(EARLY, &[(LAST_MODIFIED, EARLY)]));
        assert!(!if_range(LATER, &[(LAST_MODIFIED, EARLY), (DATE, LATER)]), "to the second");
        assert!(!if_range("yesterday", &[(LAST_MODIFIED, EARLY), (DATE, LATER)]));
    }

    #[test]
    fn only_a_whole_answer_to_get_or_query_is_cut() {
        let request = fields(&[(RANGE, "bytes=0-1")]);
        let cut = |method: &[u8], status, entry: &[(HeaderName, &str)]| {
            let method = Method::from_bytes(method).unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            wanted(&request, &method, status, &fields(entry), 10, NOW) != Wanted::Whole
        };
        assert!(cut(b"GET", 200, &[]) && cut(b"QUERY", 200, &[]));
        assert!(!cut(b"HEAD", 200, &[]) && !cut(b"POST", 200, &[]));
        assert!(!cut(b"GET", 404, &[]) && !cut(b"GET", 203, &[]));
        assert!(!cut(b"GET", 200, &[(ACCEPT_RANGES, "none")]));
        assert!(cut(b"GET", 200, &[(ACCEPT_RANGES, "bytes")]));
    }

    proptest! {
        #[test]
        fn parts_are_within_the_body_and_apart_and_no_more_than_the_whole(
            named in proptest::collection::vec((any::<u64>(), any::<u64>(), 0..4), 1..20),
            body_bytes in 1_u64..5000,
        ) {
            let written = named.iter().map(|(first, length, form)| match form {
                0 => format!("{}-", first % 6000),
                1 => format!("-{}", length % 6000),
                2 => format!("{first}-{}", first.saturating_add(*length)),
                _ => format!("{}-{}", first % 6000, first % 6000 + length % 100),
            });
            let range = format!("bytes={}", written.collect::<Vec<_>>().join(","));
            if let Wanted::Parts(parts) = of(&[(RANGE, &range)], &[], body_bytes) {
                prop_assert!(!parts.is_empty() && parts.len() <= PARTS_MAX);
                let sum: u64 = parts.iter().map(|part| part.end - part.start).sum();
                prop_assert!(sum <= body_bytes);
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= body_bytes));
                let mut sorted = parts.clone();
                sorted.sort_by_key(|part| part.start);
                prop_assert!(sorted.windows(2).all(|two| two[0].end + GAP_BYTES_MAX < two[1].start));
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = specs(&bytes);
            let with_unit = [b"bytes=", &bytes[..]].concat();
            let _ = specs(&with_unit);
        }
    }
}
