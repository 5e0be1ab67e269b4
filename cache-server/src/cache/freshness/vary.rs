//! `Vary`: which fields of a request chose an answer, and which requests chose alike (RFC 9111
//! section 4.1, RFC 9110 section 12.5.5).
//!
//! Values are compared as they are, but for white space around the members of a list and for how
//! they are spread over lines. Fields that are named as `normalised` are compared by meaning;
//! then the upstream must be asked with the meaning alone, or an answer may show what the digest
//! does not tell: see [`accept_encoding`].

use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, VARY};

/// The most names that are looked at. An answer that names more is not stored.
pub const NAMES_MAX: usize = 16;

/// The codings that tell requests apart where `Accept-Encoding` is normalised, in the order in
/// which they are written.
const CODINGS: [&str; 4] = ["br", "gzip", "identity", "zstd"];

/// What an answer says of the fields that chose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// These, sorted, each once, at most [`NAMES_MAX`]. None at all is the rule.
    Names(Vec<HeaderName>),
    /// Something that no request shows; no request can be known to choose it (`*`).
    Any,
    /// More than are looked at.
    TooMany,
}

/// Reads all `Vary` fields of an answer. A name that is none means [`Vary::Any`].
#[must_use]
pub fn parse(fields: &HeaderMap) -> Vary {
    let mut names: Vec<HeaderName> = Vec::new();
    for line in fields.get_all(VARY) {
        let members = line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        for member in members.filter(|member| !member.is_empty()) {
            if member == b"*" {
                return Vary::Any;
            }
            let Ok(name) = HeaderName::from_bytes(member) else { return Vary::Any };
            if !names.contains(&name) {
                if names.len() == NAMES_MAX {
                    return Vary::TooMany;
                }
                names.push(name);
            }
        }
    }
    names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    Vary::Names(names)
}

/// A digest of what a request says in the fields that chose an answer: alike for requests that
/// choose alike. A field that is missing is unlike one that is empty.
#[must_use]
pub fn selecting(names: &[HeaderName], request: &HeaderMap, normalised: &[HeaderName]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("cache-server 2026 selecting fields v1");
    for name in names {
        put(&mut hasher, name.as_str().as_bytes());
        let is_there = request.contains_key(name);
        hasher.update(&[u8::from(is_there)]);
        if is_there {
            let is_normalised = normalised.contains(name);
            put(&mut hasher, &value_of(name, request, is_normalised));
        }
    }
    let mut digest = [0; 16];
    hasher.finalize_xof().fill(&mut digest);
    digest
}

fn put(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}

fn value_of(name: &HeaderName, request: &HeaderMap, is_normalised: bool) -> Vec<u8> {
    let lines = request.get_all(name).into_iter().map(HeaderValue::as_bytes);
    let members = lines.flat_map(members);
    if !is_normalised {
        return members.collect::<Vec<_>>().join(&b","[..]);
    }
    if *name == ACCEPT_ENCODING
        && let Some(codings) = accept_encoding(request)
    {
        return codings.as_bytes().to_vec();
    }
    let mut members: Vec<_> = members.map(<[u8]>::to_ascii_lowercase).collect();
    members.sort_unstable();
    members.join(&b","[..])
}

/// A request's `Accept-Encoding`, reduced to those of gzip, br, zstd and identity that it takes at
/// all (RFC 9110 section 12.5.3): what is compared where the field is normalised, and what the
/// upstream is then asked with. Nothing if the field is missing, or takes none of them.
#[must_use]
pub fn accept_encoding(request: &HeaderMap) -> Option<HeaderValue> {
    if !request.contains_key(ACCEPT_ENCODING) {
        return None;
    }
    let lines = request.get_all(ACCEPT_ENCODING).into_iter().map(HeaderValue::as_bytes);
    let mut any_other = None;
    let mut said = [None; CODINGS.len()];
    for (coding, is_taken) in lines.flat_map(members).map(coding) {
        let alias = if coding.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { coding };
        let known = |name: &&str| alias.eq_ignore_ascii_case(name.as_bytes());
        match CODINGS.iter().position(known) {
            Some(index) => said[index] = Some(is_taken),
            None if coding == b"*" => any_other = Some(is_taken),
            None => {}
        }
    }
    // What is not listed is not taken, but for the identity.
    let takes =
        |(index, name): (usize, &&str)| said[index].or(any_other).unwrap_or(*name == "identity");
    let taken = CODINGS.iter().enumerate().filter(|(index, name)| takes((*index, name)));
    let taken: Vec<_> = taken.map(|(_, name)| *name).collect();
    let reduced = HeaderValue::from_str(&taken.join(","));
    reduced.ok().filter(|reduced| !reduced.is_empty())
}

/// The coding that a member names, and whether it is taken: by its weight, which is none if it is
/// no weight.
fn coding(member: &[u8]) -> (&[u8], bool) {
    let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let coding = parts.next().unwrap_or_default();
    let is_taken = parts.next().is_none_or(|weight| match weight {
        [b'q' | b'Q', b'=', b'1', ..] => true,
        [b'q' | b'Q', b'=', b'0', b'.', digits @ ..] => {
            digits.iter().any(|digit| (b'1'..=b'9').contains(digit))
        }
        _ => false,
    });
    (coding, is_taken)
}

/// The members of a list, without the white space around them. A comma between quotes separates
/// nothing.
fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let separates = move |byte: &u8| {
        let is_literal = is_escaped;
        is_escaped = is_quoted && *byte == b'\\' && !is_literal;
        is_quoted ^= *byte == b'"' && !is_literal;
        *byte == b',' && !is_quoted
    };
    line.split(separates).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(name: &HeaderName, lines: &[&'static str]) -> HeaderMap {
        let values = lines.iter().map(|line| (name.clone(), HeaderValue::from_static(line)));
        values.collect()
    }

    fn names(lines: &[&'static str]) -> Vec<String> {
        match parse(&fields(&VARY, lines)) {
            Vary::Names(names) => names.iter().map(ToString::to_string).collect(),
            other => panic!("{lines:?}: {other:?}"),
        }
    }

    fn x() -> HeaderName {
        HeaderName::from_static("x")
    }

    fn digest(lines: &[&'static str]) -> [u8; 16] {
        selecting(&[x()], &fields(&x(), lines), &[])
    }

    // RFC 9110 section 12.5.5.
    #[test]
    fn names_are_found_on_all_lines_in_any_case_and_once() {
        assert_eq!(names(&[]), [""; 0]);
        assert_eq!(names(&["", " , "]), [""; 0]);
        assert_eq!(names(&["B-b, a", "A,,b-B ,c"]), ["a", "b-b", "c"]);
    }

    #[test]
    fn a_star_and_what_is_no_name_mean_anything() {
        for line in ["*", "a, *", "a b", "a;b", "\"a\"", "a=b"] {
            assert_eq!(parse(&fields(&VARY, &[line])), Vary::Any, "{line}");
        }
        let bytes = HeaderValue::from_bytes(b"a, \xff").unwrap();
        assert_eq!(parse(&HeaderMap::from_iter([(VARY, bytes)])), Vary::Any);
    }

    #[test]
    fn more_names_than_are_looked_at_are_too_many_and_repeats_are_not() {
        let line = |count: usize| {
            let names: Vec<_> = (0..count).map(|number| format!("n{number}")).collect();
            let twice = [names.join(","), names.join(",")].join(",");
            HeaderMap::from_iter([(VARY, HeaderValue::from_str(&twice).unwrap())])
        };
        assert!(matches!(parse(&line(NAMES_MAX)), Vary::Names(names) if names.len() == NAMES_MAX));
        assert_eq!(parse(&line(NAMES_MAX + 1)), Vary::TooMany);
    }

    // RFC 9111 section 4.1.
    #[test]
    fn requests_choose_alike_however_a_list_is_spread_and_spaced() {
        for alike in [vec!["a,b"], vec!["a , b"], vec!["a", "b"], vec!["  a,\tb "]] {
            assert_eq!(digest(&alike), digest(&["a, b"]), "{alike:?}");
        }
    }

    #[test]
    fn requests_that_differ_in_more_than_space_choose_differently() {
        let all: [&[&'static str]; 9] =
            [&[], &[""], &["a"], &["A"], &["a,b"], &["b,a"], &["a b"], &["\"a, b\""], &["\"a,b\""]];
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                assert_ne!(digest(one), digest(other), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_quote_within_quotes_ends_nothing() {
        assert_ne!(digest(&["\"a\\\", b\""]), digest(&["\"a\\\",b\""]));
        assert_eq!(digest(&["\"a\\\\\", b"]), digest(&["\"a\\\\\",b"]));
    }

    #[test]
    fn names_and_values_never_run_together() {
        let names = [HeaderName::from_static("a"), HeaderName::from_static("b")];
        let request = |a: &str, b: &str| {
            let values = [a, b].map(|value| HeaderValue::from_str(value).unwrap());
            names.iter().cloned().zip(values).collect::<HeaderMap>()
        };
        let digest = |request: &HeaderMap| selecting(&names, request, &[]);
        assert_ne!(digest(&request("xy", "z")), digest(&request("x", "yz")));
        assert_ne!(digest(&request("1", "2")), digest(&request("2", "1")));
        let only = |name: usize| {
            HeaderMap::from_iter([(names[name].clone(), HeaderValue::from_static("1"))])
        };
        assert_ne!(digest(&only(0)), digest(&only(1)));
    }

    #[test]
    fn a_normalised_field_counts_neither_case_nor_order() {
        let digest = |lines: &[&'static str]| selecting(&[x()], &fields(&x(), lines), &[x()]);
        assert_eq!(digest(&["De, en;q=0.5"]), digest(&["EN;q=0.5", "de"]));
        assert_ne!(digest(&["de"]), digest(&["en"]));
        assert_ne!(digest(&[]), digest(&[""]));
    }

    // RFC 9110 section 12.5.3.
    #[test]
    fn a_normalised_accept_encoding_is_the_codings_that_are_taken() {
        let reduced = |line| {
            let reduced = accept_encoding(&fields(&ACCEPT_ENCODING, &[line]));
            reduced.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        assert_eq!(reduced("gzip, deflate, br, zstd"), "br,gzip,identity,zstd");
        assert_eq!(reduced("GZIP;q=0.5 , br;q=1.0"), "br,gzip,identity");
        assert_eq!(reduced("x-gzip"), "gzip,identity");
        assert_eq!(reduced("gzip;q=0, br;q=0.000, zstd;q=0.001"), "identity,zstd");
        assert_eq!(reduced("*"), "br,gzip,identity,zstd");
        assert_eq!(reduced("*;q=0, gzip"), "gzip");
        assert_eq!(reduced("br;q=high, gzip;level=9"), "identity", "no weight is none");
        assert_eq!(reduced(""), "identity");
        assert_eq!(reduced("identity;q=0"), "", "nothing is left to ask with");
        assert_eq!(accept_encoding(&HeaderMap::new()), None);
        let digest = |line| {
            let request = fields(&ACCEPT_ENCODING, &[line]);
            selecting(&[ACCEPT_ENCODING], &request, &[ACCEPT_ENCODING])
        };
        assert_eq!(digest("gzip, deflate, br"), digest("br, gzip;q=0.8"));
        assert_ne!(digest("gzip"), digest("br"));
        assert_ne!(digest("identity;q=0"), digest("*;q=0"));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = parse(&HeaderMap::from_iter([(VARY, value.clone())]));
                let request = HeaderMap::from_iter([(ACCEPT_ENCODING, value)]);
                let _ = selecting(&[ACCEPT_ENCODING], &request, &[ACCEPT_ENCODING]);
                let _ = selecting(&[ACCEPT_ENCODING], &request, &[]);
            }
        }

        #[test]
        fn names_that_are_written_are_read_back(names in proptest::collection::btree_set("[a-z]{1,8}", 0..=NAMES_MAX)) {
            let written = names.iter().cloned().collect::<Vec<_>>().join(", ");
            let fields = HeaderMap::from_iter([(VARY, HeaderValue::from_str(&written).unwrap())]);
            let Vary::Names(read) = parse(&fields) else { panic!("{written}") };
            prop_assert!(read.iter().map(HeaderName::as_str).eq(names.iter().map(String::as_str)));
        }
    }
}
