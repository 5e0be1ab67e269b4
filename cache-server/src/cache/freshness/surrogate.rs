//! `Surrogate-Control`: what an upstream says to the surrogates in front of it, where a route heeds
//! it (W3C Note "Edge Architecture Specification" of 4 August 2001).
//!
//! It is read as leniently as it is written, and where it can be read in two ways, the reading that
//! forbids wins. What counts is `no-store`, `max-age=N` and `max-age=N+M`, by which it may be used
//! for M seconds more once it is stale: while it is refreshed, and if the upstream fails. `private`
//! and `no-cache` are not of the Note, are written all the same, and forbid. A directive with a
//! target (`;cache-server`) is for that surrogate alone, and goes before the same one without.
//! `no-store-remote` is for surrogates far from the upstream, which this one is not. `content` names
//! a processing, of which there is none here.
//!
//! A surrogate keeps the field to itself. It is stored all the same, for a later answer may confirm
//! the entry without saying it again: under a name of ours that no answer carries out.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::cache_control::{ResponseDirectives, whole_number};

/// Where the field is kept, once a route has heeded it. Nobody is sent it.
pub const WITHHELD: HeaderName = HeaderName::from_static("cache-server-surrogate-control");

const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// What tells an upstream that there is a surrogate that heeds the field, and its target.
#[must_use]
pub fn capability() -> (HeaderName, HeaderValue) {
    let name = HeaderName::from_static("surrogate-capability");
    (name, HeaderValue::from_static("cache-server=\"Surrogate/1.0\""))
}

/// The target that means us.
const OUR_TARGET: &[u8] = b"cache-server";

/// Directives that are looked at, over all lines. With more, it counts as `no-store`.
const DIRECTIVES_MAX: usize = 64;

/// Takes `Surrogate-Control` out of what an upstream answered, and withholds it, where it is
/// heeded; else it stays as it is. The upstream itself cannot say what is withheld.
pub fn take_in(fields: &mut HeaderMap, is_heeded: bool) {
    fields.remove(WITHHELD);
    if !is_heeded {
        return;
    }
    let lines: Vec<_> = fields.get_all(SURROGATE_CONTROL).iter().cloned().collect();
    fields.remove(SURROGATE_CONTROL);
    for line in lines {
        fields.append(WITHHELD, line);
    }
}

/// What is withheld says of the use of an answer; nothing if it says nothing of that to us.
pub(super) fn read(fields: &HeaderMap) -> Option<ResponseDirectives> {
    let lines = fields.get_all(WITHHELD).into_iter().map(HeaderValue::as_bytes);
    let mut said = Said::default();
    for (count, directive) in lines.flat_map(|line| split(line, b',')).enumerate() {
        if count == DIRECTIVES_MAX {
            said.no_store = true;
            break;
        }
        said.take(directive);
    }
    let age = said.to_us.or(said.to_all);
    if age.is_none() && !said.no_store {
        return None;
    }
    let extension = age.map(|age| age.extension);
    Some(ResponseDirectives {
        max_age: age.map(|age| age.fresh),
        stale_while_revalidate: extension,
        stale_if_error: extension,
        no_store: said.no_store,
        is_targeted: true,
        ..ResponseDirectives::default()
    })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    no_store: bool,
    to_us: Option<Age>,
    to_all: Option<Age>,
}

/// A `max-age`; of two the smaller counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    fresh: Duration,
    extension: Duration,
}

impl Said {
    fn take(&mut self, directive: &[u8]) {
        let mut parts = split(directive, b';').map(<[u8]>::trim_ascii);
        let Some(control) = parts.next() else { return };
        let mut targets = parts.filter(|target| !target.is_empty()).peekable();
        let is_for_all = targets.peek().is_none();
        if !is_for_all && !targets.any(|target| target.eq_ignore_ascii_case(OUR_TARGET)) {
            return;
        }
        let (name, argument) = named(control);
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("max-age") {
            let kept = if is_for_all { &mut self.to_all } else { &mut self.to_us };
            let age = Age::parse(argument);
            *kept = Some(kept.map_or(age, |kept| kept.min(age)));
        }
        self.no_store |= is("no-store") || is("private") || is("no-cache");
    }
}

impl Age {
    /// What is no number is zero: invalid freshness is stale (RFC 9111 section 4.2.1).
    fn parse(argument: &[u8]) -> Age {
        let bare = argument.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        let mut numbers = bare.unwrap_or(argument).splitn(2, |byte| *byte == b'+');
        let mut seconds = || {
            let number = numbers.next().map(<[u8]>::trim_ascii).and_then(whole_number);
            Duration::from_secs(number.unwrap_or(0))
        };
        Age { fresh: seconds(), extension: seconds() }
    }
}

/// The name of a directive, and what is behind its equals sign.
fn named(control: &[u8]) -> (&[u8], &[u8]) {
    let mut halves = control.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
    (halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
}

/// The pieces of a text between separators that are not in quotation marks.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    text.split(move |byte| {
        is_quoted ^= *byte == b'"';
        *byte == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(lines: &[&str]) -> HeaderMap {
        let value = |line: &&str| (SURROGATE_CONTROL, HeaderValue::from_str(line).unwrap());
        let mut fields: HeaderMap = lines.iter().map(value).collect();
        take_in(&mut fields, true);
        fields
    }

    /// Seconds fresh and seconds more, and whether it is not to be stored; nothing if all of it is
    /// for others.
    fn said(line: &str) -> Option<(Option<u64>, u64, bool)> {
        let says = read(&fields(&[line]))?;
        assert!(says.is_targeted, "{line}");
        assert_eq!(says.stale_while_revalidate, says.stale_if_error, "{line}");
        let extension = says.stale_if_error.unwrap_or_default().as_secs();
        Some((says.max_age.map(|age| age.as_secs()), extension, says.no_store))
    }

    #[test]
    fn lifetimes_and_prohibitions_are_read() {
        assert_eq!(said("max-age=3600"), Some((Some(3600), 0, false)));
        assert_eq!(
            said("Max-Age = 3600 + 60 , content=\"ESI/1.0\""),
            Some((Some(3600), 60, false))
        );
        assert_eq!(said("max-age=\"3600\""), Some((Some(3600), 0, false)));
        for forbids in ["no-store", "NO-STORE", "no-store=1", "private", "no-cache=\"a\""] {
            assert_eq!(said(forbids), Some((None, 0, true)), "{forbids}");
        }
        assert_eq!(said("no-store, max-age=5"), Some((Some(5), 0, true)));
        let lines = read(&fields(&["max-age=9", "max-age=5+1"])).unwrap();
        assert_eq!(lines.max_age, Some(Duration::from_secs(5)), "of two the smaller");
    }

    #[test]
    fn what_is_no_number_is_zero() {
        for none in ["max-age", "max-age=", "max-age=x", "max-age=-1", "max-age=+60", "max-age=1.5"]
        {
            let (fresh, _, _) = said(none).unwrap();
            assert_eq!(fresh, Some(0), "{none}");
        }
        assert_eq!(said("max-age=60+"), Some((Some(60), 0, false)));
        assert_eq!(said("max-age=60+x"), Some((Some(60), 0, false)));
        assert_eq!(said("max-age=99999999999+1"), Some((Some(1 << 31), 1, false)));
    }

    #[test]
    fn what_says_nothing_of_use_does_not_decide() {
        for silent in ["", ",;=", "content=\"ESI/1.0, no-store\"", "no-store-remote", "unheard-of"]
        {
            assert_eq!(said(silent), None, "{silent}");
        }
    }

    #[test]
    fn a_directive_is_for_its_target_and_ours_goes_before_that_for_all() {
        assert_eq!(said("max-age=9;other"), None);
        assert_eq!(said("no-store;other, max-age=9"), Some((Some(9), 0, false)));
        assert_eq!(said("max-age=9;cache-server"), Some((Some(9), 0, false)));
        assert_eq!(said("max-age=9;other;Cache-Server"), Some((Some(9), 0, false)));
        assert_eq!(said("max-age=1, max-age=9+2;cache-server"), Some((Some(9), 2, false)));
        assert_eq!(said("max-age=9;cache-server, max-age=1"), Some((Some(9), 0, false)));
        assert_eq!(said("max-age=9, no-store;cache-server"), Some((Some(9), 0, true)));
        let unsaid = said("no-store, max-age=9;cache-server");
        assert_eq!(unsaid, Some((Some(9), 0, true)), "one directive does not take another back");
        assert_eq!(said("content=\"a;cache-server\";other"), None);
    }

    #[test]
    fn directives_beyond_the_bound_are_not_read_and_forbid() {
        let many = |count: usize| said(&vec!["max-age=5"; count].join(","));
        assert_eq!(many(DIRECTIVES_MAX), Some((Some(5), 0, false)));
        assert_eq!(many(DIRECTIVES_MAX + 1), Some((Some(5), 0, true)));
    }

    #[test]
    fn the_field_is_withheld_where_it_is_heeded_and_an_upstream_cannot_say_what_is_withheld() {
        let said = || {
            let line = HeaderValue::from_static("max-age=5");
            let forged = HeaderValue::from_static("max-age=9");
            HeaderMap::from_iter([(SURROGATE_CONTROL, line), (WITHHELD, forged)])
        };
        let mut heeded = said();
        take_in(&mut heeded, true);
        assert_eq!(heeded.len(), 1);
        assert_eq!(heeded[WITHHELD], "max-age=5");
        let mut passed = said();
        take_in(&mut passed, false);
        assert_eq!(passed.len(), 1);
        assert_eq!(passed[SURROGATE_CONTROL], "max-age=5");
        assert_eq!(read(&passed), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(lines in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..60), 0..4,
        )) {
            let values = lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok());
            let _ = read(&values.map(|value| (WITHHELD, value)).collect());
        }

        #[test]
        fn what_is_for_others_changes_nothing(
            ours in "(max-age=[0-9]{1,5}(\\+[0-9]{1,3})?|no-store)",
            others in "(max-age=[0-9]{1,5}|no-store|private);[a-z]{1,8}",
        ) {
            let both = read(&fields(&[&format!("{ours}, {others}")]));
            prop_assert_eq!(both, read(&fields(&[&ours])));
        }
    }
}
