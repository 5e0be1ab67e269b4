//! `Cache-Control`, read as what it is: text from strangers (RFC 9111 section 5.2).
//!
//! Where it can be read in two ways, the reading that forbids wins: a malformed directive is
//! passed over, unless its name forbids; a lifetime that is no number is zero; of repeated
//! lifetimes the smaller counts (section 4.2.1). `no-transform` and `immutable` need nothing:
//! bodies are never changed, and what is fresh is not asked for anyway.

use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, PRAGMA};

/// Directives that are looked at, over all lines of one message. A message with more counts as
/// `no-store`.
pub const DIRECTIVES_MAX: usize = 64;

/// Names that are kept of a qualified `no-cache` or `private`. With more it counts as unqualified.
pub const FIELD_NAMES_MAX: usize = 64;

/// Where a number of seconds saturates (RFC 9111 section 1.2.2).
pub const DELTA_SECONDS_MAX: u64 = 1 << 31;

/// The longest name that is known; a longer one needs no look.
const NAME_BYTES_MAX: usize = "stale-while-revalidate".len();

/// What a caller asks of a cache (RFC 9111 section 5.2.1, RFC 5861 section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// Do not answer from the cache without asking the upstream.
    pub no_cache: bool,
    /// Keep nothing of this exchange.
    pub no_store: bool,
    /// Change nothing of the content, not even to find what is stored of it (RFC 10008 section 2.7).
    pub no_transform: bool,
    /// Answer from the cache or not at all.
    pub only_if_cached: bool,
    /// The oldest answer that is wanted.
    pub max_age: Option<Duration>,
    /// By how much an answer may be stale; [`Duration::MAX`] if by any time.
    pub max_stale: Option<Duration>,
    /// For how long yet an answer must be fresh.
    pub min_fresh: Option<Duration>,
    /// By how much an answer may be stale if the upstream fails.
    pub stale_if_error: Option<Duration>,
}

impl RequestDirectives {
    /// Reads all `Cache-Control` fields of a request; without any, `Pragma: no-cache` counts as
    /// `no-cache` (RFC 9111 section 5.4).
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> RequestDirectives {
        let mut directives = RequestDirectives::default();
        if !headers.contains_key(CACHE_CONTROL) {
            let mut pragmas = each_directive(headers, PRAGMA).take(DIRECTIVES_MAX);
            directives.no_cache = pragmas.any(|found| found.is("no-cache"));
            return directives;
        }
        for (count, directive) in each_directive(headers, CACHE_CONTROL).enumerate() {
            if count == DIRECTIVES_MAX {
                directives.no_store = true;
                return directives;
            }
            directives.take(&directive);
        }
        directives
    }

    fn take(&mut self, directive: &Directive<'_>) {
        let seconds = directive.seconds();
        match directive.lower_case_name(&mut [0; NAME_BYTES_MAX]) {
            b"no-cache" => self.no_cache = true,
            b"no-store" => self.no_store = true,
            b"no-transform" => self.no_transform = true,
            b"only-if-cached" => self.only_if_cached = true,
            b"max-age" => keep_smaller(&mut self.max_age, seconds.unwrap_or_default()),
            b"max-stale" => {
                let is_any = directive.argument == Argument::Absent;
                if let Some(bound) = seconds.or(is_any.then_some(Duration::MAX)) {
                    keep_smaller(&mut self.max_stale, bound);
                }
            }
            // The one bound that is stricter the larger it is.
            b"min-fresh" => self.min_fresh = self.min_fresh.max(seconds),
            b"stale-if-error" => {
                if let Some(bound) = seconds {
                    keep_smaller(&mut self.stale_if_error, bound);
                }
            }
            _ => {}
        }
    }
}

/// How far a `no-cache` or `private` goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// It was not said.
    #[default]
    Nothing,
    /// It holds for these fields of the answer, at most [`FIELD_NAMES_MAX`].
    Fields(Vec<HeaderName>),
    /// It holds for the answer.
    Everything,
}

impl Reach {
    /// Whether it holds for this field.
    #[must_use]
    pub fn names(&self, field: &HeaderName) -> bool {
        matches!(self, Reach::Fields(names) if names.contains(field))
    }

    /// Takes one more such directive in. Only a list in quotes narrows it: all else is in doubt.
    fn widen(&mut self, argument: Argument<'_>) {
        let Argument::Quoted(list) = argument else {
            *self = Reach::Everything;
            return;
        };
        match (&mut *self, field_names(&unescaped(list))) {
            (Reach::Everything, _) => {}
            (Reach::Nothing, Some(names)) => *self = Reach::Fields(names),
            (Reach::Fields(known), Some(names)) if known.len() + names.len() <= FIELD_NAMES_MAX => {
                known.extend(names);
            }
            (Reach::Nothing | Reach::Fields(_), _) => *self = Reach::Everything,
        }
    }
}

/// What an upstream says of its answer (RFC 9111 section 5.2.2, RFC 5861).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// How long it is fresh.
    pub max_age: Option<Duration>,
    /// The same for a shared cache; goes before `max_age`.
    pub s_maxage: Option<Duration>,
    /// How long it may answer while a refresh runs behind it.
    pub stale_while_revalidate: Option<Duration>,
    /// How long it may answer when the upstream fails.
    pub stale_if_error: Option<Duration>,
    /// It is not to be used without asking the upstream.
    pub no_cache: Reach,
    /// It is for one caller.
    pub private: Reach,
    /// It is not to be stored.
    pub no_store: bool,
    /// It may be stored even where that is not the rule.
    pub public: bool,
    /// Once stale it is not to be used without asking the upstream.
    pub must_revalidate: bool,
    /// The same for a shared cache.
    pub proxy_revalidate: bool,
    /// It is to be stored only by who understands its status, and by those despite `no_store`.
    pub must_understand: bool,
    /// It is said in a field that is for us, so that `Expires` says nothing (RFC 9213 section 2.2).
    pub is_targeted: bool,
}

impl ResponseDirectives {
    /// Reads all `Cache-Control` fields of an answer. `Pragma` says nothing in one (RFC 9111
    /// section 5.4).
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> ResponseDirectives {
        let mut directives = ResponseDirectives::default();
        for (count, directive) in each_directive(headers, CACHE_CONTROL).enumerate() {
            if count == DIRECTIVES_MAX {
                directives.no_store = true;
                // It would have the other passed over.
                directives.must_understand = false;
                return directives;
            }
            directives.take(&directive);
        }
        directives
    }

    fn take(&mut self, directive: &Directive<'_>) {
        let seconds = directive.seconds();
        let is_bare = directive.argument == Argument::Absent;
        match directive.lower_case_name(&mut [0; NAME_BYTES_MAX]) {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache.widen(directive.argument),
            b"private" => self.private.widen(directive.argument),
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"public" => self.public |= is_bare,
            b"must-understand" => self.must_understand |= is_bare,
            // Invalid freshness is stale (RFC 9111 section 4.2.1).
            b"max-age" => keep_smaller(&mut self.max_age, seconds.unwrap_or_default()),
            b"s-maxage" => keep_smaller(&mut self.s_maxage, seconds.unwrap_or_default()),
            b"stale-while-revalidate" => {
                keep_smaller(&mut self.stale_while_revalidate, seconds.unwrap_or_default());
            }
            b"stale-if-error" => {
                keep_smaller(&mut self.stale_if_error, seconds.unwrap_or_default());
            }
            _ => {}
        }
    }
}

fn keep_smaller(kept: &mut Option<Duration>, said: Duration) {
    *kept = Some(kept.map_or(said, |kept| kept.min(said)));
}

/// The names in a list; nothing if there is none, one is no name, or they are too many.
pub(super) fn field_names(list: &[u8]) -> Option<Vec<HeaderName>> {
    let members = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let mut names = Vec::new();
    for member in members.filter(|member| !member.is_empty()) {
        if names.len() == FIELD_NAMES_MAX {
            return None;
        }
        names.push(HeaderName::from_bytes(member).ok()?);
    }
    (!names.is_empty()).then_some(names)
}

/// The text of a quoted string, its escapes undone (RFC 9110 section 5.6.4).
fn unescaped(quoted: &[u8]) -> Vec<u8> {
    let mut bytes = quoted.iter().copied();
    let mut text = Vec::with_capacity(quoted.len());
    while let Some(byte) = bytes.next() {
        text.extend(if byte == b'\\' { bytes.next() } else { Some(byte) });
    }
    text
}

/// One directive as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Directive<'a> {
    name: &'a [u8],
    argument: Argument<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument<'a> {
    Absent,
    Token(&'a [u8]),
    /// What is between the quotes, escapes as they are.
    Quoted(&'a [u8]),
    /// The directive is not in the form of one, but for its name.
    Malformed,
}

impl<'a> Directive<'a> {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The name in lower case, written to `room`; empty if it is longer than any that is known.
    fn lower_case_name<'r>(&self, room: &'r mut [u8; NAME_BYTES_MAX]) -> &'r [u8] {
        let Some(lower) = room.get_mut(..self.name.len()) else { return b"" };
        lower.copy_from_slice(self.name);
        lower.make_ascii_lowercase();
        lower
    }

    /// The argument as a number of seconds, in quotes or not (RFC 9111 section 1.2.2).
    fn seconds(&self) -> Option<Duration> {
        match self.argument {
            Argument::Token(digits) | Argument::Quoted(digits) => {
                whole_number(digits).map(Duration::from_secs)
            }
            Argument::Absent | Argument::Malformed => None,
        }
    }
}

/// A whole number that saturates at [`DELTA_SECONDS_MAX`]; nothing if it is none.
pub(super) fn whole_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |seconds, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some((seconds * 10 + digit).min(DELTA_SECONDS_MAX))
    })
}

/// Every directive of all lines of a field. Lines are read one by one: a quote that is not closed
/// in one must not swallow what the next one says.
fn each_directive(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = Directive<'_>> {
    let lines = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    lines.flat_map(|line| Directives { rest: line, in_doubt: false })
}

/// The directives of one line.
struct Directives<'a> {
    rest: &'a [u8],
    /// What is before the next comma is part of something malformed.
    in_doubt: bool,
}

impl<'a> Iterator for Directives<'a> {
    type Item = Directive<'a>;

    fn next(&mut self) -> Option<Directive<'a>> {
        let start = self.rest.iter().position(|byte| !is_between(*byte))?;
        self.in_doubt &= !self.rest[..start].contains(&b',');
        let (name, after) = token(&self.rest[start..]);
        match argument(after) {
            Some((argument, rest)) if !self.in_doubt => {
                self.rest = rest;
                Some(Directive { name, argument })
            }
            // It may have been meant as several: each is looked at, for names that forbid.
            _ => {
                self.in_doubt = true;
                let end = after.iter().position(|byte| is_between(*byte)).unwrap_or(after.len());
                self.rest = &after[end..];
                Some(Directive { name, argument: Argument::Malformed })
            }
        }
    }
}

/// What may stand between directives. A semicolon may not, and often does.
fn is_between(byte: u8) -> bool {
    matches!(byte, b',' | b';' | b' ' | b'\t')
}

/// The argument behind a name, and what follows the directive; nothing if it is malformed.
fn argument(after: &[u8]) -> Option<(Argument<'_>, &[u8])> {
    let (argument, rest) = match after {
        [b'=', b'"', text @ ..] => quoted(text)?,
        [b'=', text @ ..] => match token(text) {
            ([], _) => return None,
            (token, rest) => (Argument::Token(token), rest),
        },
        _ => (Argument::Absent, after),
    };
    let next = rest.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
    next.is_none_or(|byte| *byte == b',').then_some((argument, rest))
}

/// The rest of a string whose quote is open; nothing if it is not closed.
fn quoted(text: &[u8]) -> Option<(Argument<'_>, &[u8])> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some((Argument::Quoted(&text[..at]), &text[at + 1..])),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The token that a text begins with (RFC 9110 section 5.6.2), and the rest.
fn token(text: &[u8]) -> (&[u8], &[u8]) {
    const MARKS: &[u8] = b"!#$%&'*+-.^_`|~";
    let is_in = |byte: &u8| byte.is_ascii_alphanumeric() || MARKS.contains(byte);
    let end = text.iter().position(|byte| !is_in(byte)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests;
