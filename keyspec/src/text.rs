//! JSON strings as a body spells them: comparing, unescaping, and writing them one way.
//!
//! A string is a slice of the body, never a copy. The scan records how it is spelled, so that
//! the usual string, one without escapes, is compared and copied as plain bytes.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use crate::sink::Sink;

/// How a string is spelled in the body, from the simplest to the least simple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spelling {
    /// No escapes: the bytes between the quotes are the text.
    Plain,
    /// Only escapes that the canonical form would write the same way.
    Canonical,
    /// At least one escape that the canonical form writes differently.
    Escaped,
}

/// A JSON string that the scan has found well-formed.
#[derive(Clone, Copy)]
pub(crate) struct Text<'d> {
    body: &'d str,
    /// Where the string stands in the body, with its quotation marks.
    start: usize,
    end: usize,
    spelling: Spelling,
}

impl<'d> Text<'d> {
    /// The string that stands at `quoted` in `body`, with its quotation marks.
    #[inline]
    pub(crate) fn new(body: &'d str, quoted: Range<usize>, spelling: Spelling) -> Self {
        Self { body, start: quoted.start, end: quoted.end, spelling }
    }

    fn raw(self) -> &'d str {
        &self.body[self.start + 1..self.end - 1]
    }

    /// The same as bytes, which are cut without a look for the ends of characters.
    #[inline]
    fn raw_bytes(self) -> &'d [u8] {
        &self.body.as_bytes()[self.start + 1..self.end - 1]
    }

    /// As spelled in the body, with its quotation marks.
    pub(crate) fn spelled(self) -> &'d [u8] {
        &self.body.as_bytes()[self.start..self.end]
    }

    /// The bytes of the text, if there are no escapes in it.
    #[inline]
    pub(crate) fn plain_bytes(self) -> Option<&'d [u8]> {
        (self.spelling == Spelling::Plain).then(|| self.raw_bytes())
    }

    /// Length in bytes between the quotation marks. Unescaping never makes a string longer.
    pub(crate) fn raw_len(self) -> usize {
        self.end - self.start - 2
    }

    /// The text itself.
    pub(crate) fn unescaped(self) -> Cow<'d, str> {
        match self.spelling {
            Spelling::Plain => Cow::Borrowed(self.raw()),
            Spelling::Canonical | Spelling::Escaped => Cow::Owned(self.chars().collect()),
        }
    }

    /// Whether the text is `other`.
    #[inline]
    pub(crate) fn is(self, other: &str) -> bool {
        match self.spelling {
            Spelling::Plain => is_same(self.raw_bytes(), other.as_bytes()),
            Spelling::Canonical | Spelling::Escaped => self.chars().eq(other.chars()),
        }
    }

    /// Orders by the UTF-16 code units of the text (RFC 8785, section 3.2.3).
    pub(crate) fn cmp_utf16(self, other: Self) -> Ordering {
        if self.spelling == Spelling::Plain && other.spelling == Spelling::Plain {
            return cmp_plain(self.raw(), other.raw());
        }
        self.chars().flat_map(utf16_units).cmp(other.chars().flat_map(utf16_units))
    }

    /// Its bit among those of other names ([`mark`]). One with escapes may be any.
    #[inline]
    pub(crate) fn marks(self) -> u64 {
        match self.spelling {
            Spelling::Plain => mark(self.raw_bytes()),
            Spelling::Canonical | Spelling::Escaped => u64::MAX,
        }
    }

    /// Whether there are no escapes in it, so that comparing it is cheap.
    pub(crate) fn is_plain(self) -> bool {
        self.spelling == Spelling::Plain
    }

    /// What to sort many names by when some have escapes.
    pub(crate) fn sort_key(self) -> SortKey<'d> {
        SortKey(self.unescaped())
    }

    /// Orders against a name of ours.
    pub(crate) fn cmp_name(self, name: &str) -> Ordering {
        match self.spelling {
            Spelling::Plain => cmp_plain(self.raw(), name),
            Spelling::Canonical | Spelling::Escaped => {
                self.chars().flat_map(utf16_units).cmp(name.encode_utf16())
            }
        }
    }

    /// Writes the string as RFC 8785, section 3.2.2.2, spells it.
    pub(crate) fn put(self, out: &mut impl Sink) {
        if self.spelling != Spelling::Escaped {
            return out.put(self.spelled());
        }
        let bytes = self.spelled();
        // What lies between is spelled one way already, escapes included.
        let (mut run, mut at) = (0, 1);
        while let Some(before) = memchr::memchr(b'\\', &bytes[at..]) {
            let escape = at + before;
            let after = &bytes[escape + 1..];
            if is_canonical_escape(after) {
                at = escape + 2;
                continue;
            }
            out.put(&bytes[run..escape]);
            let (character, length) = decoded_before(after);
            put_char(character, out);
            at = escape + 1 + length;
            run = at;
        }
        out.put(&bytes[run..]);
    }

    fn chars(self) -> Unescaped<'d> {
        Unescaped { rest: self.raw() }
    }
}

/// A bit for a name, by its length and its ends. Most names that are looked up have a mark that
/// none of the known names has: that is seen without a look at any.
#[inline]
pub(crate) fn mark(name: &[u8]) -> u64 {
    let end = |byte: Option<&u8>| byte.map_or(0, |byte| usize::from(*byte));
    1 << ((end(name.first()) + 3 * end(name.last()) + 5 * name.len()) % 64)
}

/// Whether two names are the same. Most of one length differ at once, and are not compared further.
#[inline]
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.first() == other.first() && one == other
}

/// Bytes of UTF-8 sort as code points do. UTF-16 differs in one place: characters beyond
/// U+FFFF (lead bytes F0 to F4) sort before U+E000..U+FFFF (lead bytes EE and EF), so
/// those two lead bytes are ranked last. Continuation bytes are below them all.
fn cmp_plain(left: &str, right: &str) -> Ordering {
    let rank = |byte: &u8| if matches!(byte, 0xEE | 0xEF) { byte + 0x10 } else { *byte };
    let (left_words, _) = left.as_bytes().as_chunks::<8>();
    let (right_words, _) = right.as_bytes().as_chunks::<8>();
    // Long names that begin alike would otherwise make sorting slow.
    let alike = 8 * left_words.iter().zip(right_words).take_while(|(l, r)| l == r).count();
    let (left, right) = (&left.as_bytes()[alike..], &right.as_bytes()[alike..]);
    left.iter().map(rank).cmp(right.iter().map(rank))
}

/// A name unescaped once, for sorting many. Orders as [`Text::cmp_utf16`] does.
#[derive(PartialEq, Eq)]
pub(crate) struct SortKey<'d>(Cow<'d, str>);

impl Ord for SortKey<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        cmp_plain(&self.0, &other.0)
    }
}

impl PartialOrd for SortKey<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn utf16_units(character: char) -> impl Iterator<Item = u16> {
    let mut units = [0_u16; 2];
    let length = character.encode_utf16(&mut units).len();
    units.into_iter().take(length)
}

/// The characters of a string, escapes undone.
struct Unescaped<'d> {
    rest: &'d str,
}

impl Iterator for Unescaped<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let first = self.rest.chars().next()?;
        let (character, length) = match first {
            '\\' => {
                let (character, length) = decoded_before(&self.rest.as_bytes()[1..]);
                (character, 1 + length)
            }
            plain => (plain, plain.len_utf8()),
        };
        self.rest = &self.rest[length..];
        Some(character)
    }
}

fn decoded_before(after_backslash: &[u8]) -> (char, usize) {
    decode_escape(after_backslash).expect("the scan has decoded every escape of a Text once")
}

/// Whether the canonical form, too, writes the escape that follows a backslash so.
#[inline]
pub(crate) fn is_canonical_escape(after_backslash: &[u8]) -> bool {
    matches!(after_backslash.first(), Some(b'n' | b'"' | b'\\' | b't' | b'r' | b'b' | b'f'))
}

/// Why an escape means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EscapeFault {
    /// Not one of the escapes of RFC 8259, section 7.
    Malformed,
    /// Half of a surrogate pair: no character, and parsers differ on what to make of it.
    LoneSurrogate,
}

/// Decodes the escape that follows a backslash: the character, and how many bytes after the
/// backslash it took.
pub(crate) fn decode_escape(bytes: &[u8]) -> Result<(char, usize), EscapeFault> {
    let character = match bytes.first() {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return decode_unicode(&bytes[1..]),
        _ => return Err(EscapeFault::Malformed),
    };
    Ok((character, 1))
}

/// Decodes what follows `\u`: four hex digits, or a surrogate pair in two such escapes.
fn decode_unicode(bytes: &[u8]) -> Result<(char, usize), EscapeFault> {
    let first = hex4(bytes).ok_or(EscapeFault::Malformed)?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, 5));
    }
    let second = bytes[4..]
        .strip_prefix(b"\\u")
        .and_then(hex4)
        .filter(|unit| first < 0xDC00 && (0xDC00..0xE000).contains(unit))
        .ok_or(EscapeFault::LoneSurrogate)?;
    let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    char::from_u32(code).map(|character| (character, 11)).ok_or(EscapeFault::LoneSurrogate)
}

fn hex4(bytes: &[u8]) -> Option<u32> {
    bytes.get(..4)?.iter().try_fold(0, |unit, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(unit * 16 + digit)
    })
}

fn put_char(character: char, out: &mut impl Sink) {
    match character {
        '"' => out.put(b"\\\""),
        '\\' => out.put(b"\\\\"),
        '\u{8}' => out.put(b"\\b"),
        '\t' => out.put(b"\\t"),
        '\n' => out.put(b"\\n"),
        '\u{c}' => out.put(b"\\f"),
        '\r' => out.put(b"\\r"),
        control if control < ' ' => out.put(format!("\\u{:04x}", u32::from(control)).as_bytes()),
        other => out.put(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(quoted: &str) -> Text<'_> {
        Text::new(quoted, 0..quoted.len(), Spelling::Escaped)
    }

    #[test]
    fn every_escape_is_undone() {
        let text = escaped(r#""\"\\\/\b\f\n\r\t\u0041\ud83d\ude00""#);
        assert_eq!(text.unescaped(), "\"\\/\u{8}\u{c}\n\r\tA😀");
    }

    #[test]
    fn strings_are_escaped_again_the_shortest_way() {
        let mut out = Vec::new();
        escaped(r#""\/\u0041\u00e9\u000a\u0001\u001F\u007f\u0022\u005c\ud83d\ude00""#)
            .put(&mut out);
        let expected = "\"/Aé\\n\\u0001\\u001f\u{7f}\\\"\\\\😀\"";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn half_a_surrogate_pair_is_no_character() {
        for half in ["ud800", "udc00", "ud800\\ud800", "ud800x", "udc00\\udc00", "ud800\\u0041"] {
            assert_eq!(decode_escape(half.as_bytes()), Err(EscapeFault::LoneSurrogate), "{half}");
        }
    }

    #[test]
    fn other_escapes_are_malformed() {
        for bad in ["", "x", "u", "u12", "u12g4", "U0041", "u+041", "'"] {
            assert_eq!(decode_escape(bad.as_bytes()), Err(EscapeFault::Malformed), "{bad}");
        }
    }

    #[test]
    fn characters_beyond_the_basic_plane_sort_before_the_private_use_area() {
        let plain = |quoted: &'static str| Text::new(quoted, 0..quoted.len(), Spelling::Plain);
        assert_eq!(plain("\"😀\"").cmp_utf16(plain("\"\u{fb33}\"")), Ordering::Less);
        assert_eq!(escaped(r#""\ud83d\ude00""#).cmp_utf16(plain("\"\u{fb33}\"")), Ordering::Less);
        assert_eq!(plain("\"\u{d7ff}\"").cmp_utf16(plain("\"😀\"")), Ordering::Less);
        let (emoji, private) = (plain("\"eight by😀\""), plain("\"eight by\u{fb33}\""));
        assert_eq!(emoji.cmp_utf16(private), Ordering::Less);
        assert!(emoji.sort_key() < private.sort_key());
    }
}
