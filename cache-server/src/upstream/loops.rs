//! Loops: a request that comes back to where it has been (RFC 9110 section 7.6.3, RFC 8586).
//!
//! Every request that we forward says so twice: in `Via`, and in `CDN-Loop`, where we add an id of
//! this process. One that carries our id already has been here. One that does not, because what is
//! in between drops it, is known by how many of our kind it has passed.

use http::header::{HeaderMap, HeaderName, HeaderValue, VIA};

use super::fields::OUR_NAME;

/// Names every intermediary that has forwarded a request (RFC 8586).
pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// How many servers of our kind may stand in line before us: more than anyone has on purpose.
pub const PASSES_MAX: usize = 8;

/// What ids are made of.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What tells this process from all others.
#[derive(Debug)]
pub struct LoopMark {
    id: [u8; LoopMark::ID_BYTES],
    /// Our member of `CDN-Loop`.
    member: HeaderValue,
}

impl LoopMark {
    const ID_BYTES: usize = 8;

    /// A new one. Whoever has seen it can have its own requests refused by it, and nothing else.
    #[must_use]
    pub fn random() -> LoopMark {
        LoopMark::of([(); LoopMark::ID_BYTES].map(|()| ALPHABET[fastrand::usize(..ALPHABET.len())]))
    }

    fn of(id: [u8; LoopMark::ID_BYTES]) -> LoopMark {
        let member = [OUR_NAME.as_bytes(), b"; id=", &id].concat();
        let member = HeaderValue::from_bytes(&member).expect("made of letters and digits");
        LoopMark { id, member }
    }

    /// Adds us to those that have forwarded a request. What they have said stays as it is (RFC
    /// 8586 section 2).
    pub fn add_to(&self, headers: &mut HeaderMap) {
        headers.append(CDN_LOOP, self.member.clone());
    }

    /// Whether a request goes in circles: it has been here, or has passed more than
    /// [`PASSES_MAX`] of our kind by the word of `CDN-Loop`, or by that of `Via`.
    #[must_use]
    pub fn is_seen_on(&self, headers: &HeaderMap) -> bool {
        let mut passes = 0;
        for line in headers.get_all(CDN_LOOP) {
            for member in split(line.as_bytes(), b',', quoted_bytes) {
                if let Some(id) = id_of_ours(member) {
                    passes += 1;
                    if id == Some(&self.id) || passes > PASSES_MAX {
                        return true;
                    }
                }
            }
        }
        let lines = headers.get_all(VIA).iter();
        let members = lines.flat_map(|line| split(line.as_bytes(), b',', comment_bytes));
        members.filter(|member| is_received_by_us(member)).nth(PASSES_MAX).is_some()
    }
}

/// Leaves of `CDN-Loop` only what servers of our kind have written, where callers of several tenants
/// share an answer: what one of them can write freely must not become a part of it.
pub fn keep_ours(headers: &mut HeaderMap) {
    let lines = headers.get_all(CDN_LOOP).iter();
    let members = lines.flat_map(|line| split(line.as_bytes(), b',', quoted_bytes));
    let ids = members
        .filter_map(|member| <[u8; LoopMark::ID_BYTES]>::try_from(id_of_ours(member)??).ok());
    let is_of_alphabet =
        |id: &[u8; LoopMark::ID_BYTES]| id.iter().all(|byte| ALPHABET.contains(byte));
    let ours: Vec<_> = ids.filter(is_of_alphabet).take(PASSES_MAX + 1).collect();
    headers.remove(CDN_LOOP);
    ours.into_iter().for_each(|id| LoopMark::of(id).add_to(headers));
}

/// The id that a member of `CDN-Loop` has, if the member is of our kind.
fn id_of_ours(member: &[u8]) -> Option<Option<&[u8]>> {
    let mut parts = split(member, b';', quoted_bytes).map(<[u8]>::trim_ascii);
    if !parts.next()?.eq_ignore_ascii_case(OUR_NAME.as_bytes()) {
        return None;
    }
    Some(parts.find_map(|parameter| {
        let equals = parameter.iter().position(|byte| *byte == b'=')?;
        let (name, value) =
            (parameter[..equals].trim_ascii(), parameter[equals + 1..].trim_ascii());
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        name.eq_ignore_ascii_case(b"id").then_some(unquoted.unwrap_or(value))
    }))
}

/// Whether a member of `Via` is of our kind: a protocol, and our name.
fn is_received_by_us(member: &[u8]) -> bool {
    let mut words = member.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.nth(1).is_some_and(|name| name.eq_ignore_ascii_case(OUR_NAME.as_bytes()))
}

/// A list's members, cut at `separator` where that is not enclosed in anything. `enclosed` gives how
/// many bytes what a text begins with encloses. One that is begun and never ended encloses nothing,
/// nor does any behind it: else it would hide what others have written, and cost a search each.
fn split(
    list: &[u8],
    separator: u8,
    enclosed: fn(&[u8]) -> Enclosed,
) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut is_broken) = (Some(list), false);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut at = 0;
        while at < text.len() && text[at] != separator {
            let found = if is_broken { Enclosed::Nothing } else { enclosed(&text[at..]) };
            is_broken |= matches!(found, Enclosed::Unended);
            at += if let Enclosed::Bytes(count) = found { count } else { 1 };
        }
        rest = text.get(at + 1..);
        Some(&text[..at])
    })
}

/// What a text begins with.
enum Enclosed {
    /// Something that encloses so many bytes, its ends included.
    Bytes(usize),
    /// Something that does not end.
    Unended,
    /// Nothing of the kind.
    Nothing,
}

/// A quoted string (RFC 9110 section 5.6.4).
fn quoted_bytes(text: &[u8]) -> Enclosed {
    enclosed_bytes(text, b'"', b'"')
}

/// A comment, which may hold others (RFC 9110 section 5.6.5).
fn comment_bytes(text: &[u8]) -> Enclosed {
    enclosed_bytes(text, b'(', b')')
}

fn enclosed_bytes(text: &[u8], begin: u8, end: u8) -> Enclosed {
    if text.first() != Some(&begin) {
        return Enclosed::Nothing;
    }
    let (mut depth, mut at) = (1_usize, 1);
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte == b'\\' {
            at += 1;
        } else if byte == end {
            depth -= 1;
            if depth == 0 {
                return Enclosed::Bytes(at);
            }
        } else if byte == begin {
            depth += 1;
        }
    }
    Enclosed::Unended
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark() -> LoopMark {
        LoopMark::of(*b"abcd2345")
    }

    fn is_seen(lines: &[(HeaderName, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        mark().is_seen_on(&headers)
    }

    // RFC 8586 section 2.
    #[test]
    fn our_own_id_is_found_in_every_form_that_a_list_may_have() {
        for seen in [
            "cache-server; id=abcd2345",
            "cache-server;id=\"abcd2345\"",
            "Cache-Server ; v=2 ;\tID = abcd2345",
            "edge.example:8080; a=\"b, c; d\\\" e\",cache-server; id=abcd2345 , last",
            ", ,cache-server; id=abcd2345",
            "edge; broken=\", cache-server; id=abcd2345",
        ] {
            assert!(is_seen(&[(CDN_LOOP, seen)]), "{seen}");
            assert!(is_seen(&[(CDN_LOOP, "edge"), (CDN_LOOP, seen)]), "{seen}");
        }
        for other in [
            "",
            "cache-server",
            "cache-server; id=other234",
            "cache-server; id=abcd23456",
            "cache-server; x=abcd2345",
            "my-cache-server; id=abcd2345",
            "edge; a=\"x, cache-server; id=abcd2345, y\"",
            "edge; id=abcd2345",
        ] {
            assert!(!is_seen(&[(CDN_LOOP, other)]), "{other}");
        }
    }

    #[test]
    fn more_of_our_kind_than_anyone_has_in_line_are_a_loop() {
        let passes = |count: usize| vec![(CDN_LOOP, "cache-server; id=other234, edge"); count];
        assert!(!is_seen(&passes(PASSES_MAX)) && is_seen(&passes(PASSES_MAX + 1)));
        let passes = |count: usize| vec![(VIA, "1.1 cache-server, 1.0 edge (a)"); count];
        assert!(!is_seen(&passes(PASSES_MAX)) && is_seen(&passes(PASSES_MAX + 1)));
    }

    // RFC 9110 section 7.6.3.
    #[test]
    fn via_counts_by_who_received_and_not_by_what_a_comment_says() {
        let many = |member: &str| is_seen(&[(VIA, [member; PASSES_MAX + 1].join(",").as_str())]);
        for ours in
            ["1.1 cache-server", "HTTP/2  Cache-Server (x (y, z))", "1.1 cache-server (\\))"]
        {
            assert!(many(ours), "{ours}");
        }
        for other in
            ["1.1 edge (1.1 cache-server, x, 1.1 cache-server)", "cache-server", "1.1", "("]
        {
            assert!(!many(other), "{other}");
        }
        assert!(is_seen(&[(
            VIA,
            ["x (", &"1.1 cache-server, ".repeat(PASSES_MAX + 2)].concat().as_str()
        )]));
    }

    #[test]
    fn what_is_added_is_found_again_and_hides_nothing_that_was_there() {
        let mut headers = HeaderMap::from_iter([(CDN_LOOP, HeaderValue::from_static("edge"))]);
        assert!(!mark().is_seen_on(&headers));
        mark().add_to(&mut headers);
        let lines: Vec<_> = headers.get_all(CDN_LOOP).iter().collect();
        assert_eq!(lines, ["edge", "cache-server; id=abcd2345"]);
        assert!(mark().is_seen_on(&headers));
        assert!(!LoopMark::of(*b"other234").is_seen_on(&headers));
    }

    #[test]
    fn a_new_mark_is_a_token_of_its_own() {
        let (one, other) = (LoopMark::random(), LoopMark::random());
        assert_ne!(one.id, other.id);
        assert!(one.id.iter().all(u8::is_ascii_alphanumeric));
    }

    #[test]
    fn openers_that_never_end_cost_one_search() {
        let hostile = format!("x {}", "(".repeat(200_000));
        assert!(!is_seen(&[(VIA, hostile.as_str())]));
        let hostile = format!("x; a={}", "\"\\".repeat(100_000));
        assert!(!is_seen(&[(CDN_LOOP, hostile.as_str())]));
    }

    proptest! {
        #[test]
        fn the_pieces_of_a_list_are_the_list(text in r#"[a;," ()\\=]{0,60}"#) {
            for enclosed in [quoted_bytes, comment_bytes] {
                let pieces: Vec<_> = split(text.as_bytes(), b',', enclosed).collect();
                prop_assert_eq!(pieces.join(&b","[..]), text.as_bytes());
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers = HeaderMap::from_iter([(CDN_LOOP, value.clone()), (VIA, value)]);
                let _ = mark().is_seen_on(&headers);
            }
        }
    }
}
