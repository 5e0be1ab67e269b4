//! Where two texts differ, and what the differing pieces look like: a time, an id, a number.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// Longest word that is looked at.
const WORD_BYTES_MAX: usize = 256;
/// Most words of a differing stretch that are looked at one by one.
const WORDS_MAX: usize = 10_000;

/// What pieces that differ look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Look {
    /// A date and a time, as of RFC 3339.
    Timestamp,
    /// Seconds since 1970.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMillis,
    /// A date.
    Date,
    /// A time of the day.
    ClockTime,
    /// A UUID.
    Uuid,
    /// A ULID.
    Ulid,
    /// Many hexadecimal digits.
    HexId,
    /// Letters and digits in no order.
    RandomId,
    /// A number or a counter.
    Number,
    /// The texts are the same but for white space.
    WhiteSpace,
    /// The texts are the same but for the case of letters.
    LetterCase,
}

impl Look {
    /// Whether it is likely another one in every request.
    pub const fn is_fleeting(self) -> bool {
        !matches!(self, Look::Number | Look::WhiteSpace | Look::LetterCase)
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Look::Timestamp => "a timestamp",
            Look::UnixSeconds => "a time in seconds since 1970",
            Look::UnixMillis => "a time in milliseconds since 1970",
            Look::Date => "a date",
            Look::ClockTime => "a time of the day",
            Look::Uuid => "a UUID",
            Look::Ulid => "a ULID",
            Look::HexId => "a hexadecimal id",
            Look::RandomId => "a random id",
            Look::Number => "a number or a counter",
            Look::WhiteSpace => "white space alone",
            Look::LetterCase => "the case of letters alone",
        })
    }
}

/// What lies between the common beginning and the common end of two texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Bytes of the first text; of the whole word where that looks like something.
    pub(crate) first: Range<usize>,
    pub(crate) second: Range<usize>,
    pub(crate) look: Option<Look>,
    /// How many bytes differ.
    pub(crate) apart: usize,
}

/// Compares two texts in linear time.
pub(crate) fn change(first: &str, second: &str) -> Change {
    let (one, other) = middles(first, second);
    let apart = one.len().max(other.len());
    let plain = |look| Change { first: one.clone(), second: other.clone(), look, apart };
    if let Some(look) = alike_but_for(&first[one.clone()], &second[other.clone()]) {
        return plain(Some(look));
    }
    let widths: [fn(char) -> bool; 2] = [is_of_word, |character| character.is_ascii_digit()];
    for is_of_word in widths {
        let (Some(one), Some(other)) =
            (widened(first, &one, is_of_word), widened(second, &other, is_of_word))
        else {
            continue;
        };
        if let Some(look) = common_look(&first[one.clone()], &second[other.clone()]) {
            let (one, look) = with_date(first, one, look);
            let (other, look) = with_date(second, other, look);
            return Change { first: one, second: other, look: Some(look), apart };
        }
    }
    plain(None)
}

/// How many bytes differ between the common beginning and the common end.
pub(crate) fn bytes_apart(first: &[u8], second: &[u8]) -> usize {
    let before = first.iter().zip(second).take_while(|(one, other)| one == other).count();
    let (first, second) = (&first[before..], &second[before..]);
    let ends = first.iter().rev().zip(second.iter().rev());
    first.len().max(second.len()) - ends.take_while(|(one, other)| one == other).count()
}

/// The differing middles, cut between characters.
fn middles(first: &str, second: &str) -> (Range<usize>, Range<usize>) {
    let (one, other) = (first.as_bytes(), second.as_bytes());
    let mut before = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    while !first.is_char_boundary(before) || !second.is_char_boundary(before) {
        before -= 1;
    }
    let rest = one.len().min(other.len()) - before;
    let ends = one.iter().rev().zip(other.iter().rev()).take(rest);
    let mut after = ends.take_while(|(one, other)| one == other).count();
    while !first.is_char_boundary(one.len() - after)
        || !second.is_char_boundary(other.len() - after)
    {
        after -= 1;
    }
    (before..one.len() - after, before..other.len() - after)
}

fn alike_but_for(first: &str, second: &str) -> Option<Look> {
    fn dense(text: &str) -> impl Iterator<Item = char> {
        text.chars().filter(|character| !character.is_whitespace())
    }
    fn lower(text: &str) -> impl Iterator<Item = char> {
        text.chars().flat_map(char::to_lowercase)
    }
    if dense(first).eq(dense(second)) {
        return Some(Look::WhiteSpace);
    }
    lower(first).eq(lower(second)).then_some(Look::LetterCase)
}

fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-:.+_/".contains(character)
}

/// The range up to the ends of the words that it cuts; nothing if they are too long.
fn widened(text: &str, range: &Range<usize>, is_of_word: fn(char) -> bool) -> Option<Range<usize>> {
    let before = text[..range.start].bytes().rev();
    let after = text[range.end..].bytes();
    let is_in = |byte: &u8| is_of_word(char::from(*byte)) && byte.is_ascii();
    let left = before.take(WORD_BYTES_MAX).take_while(is_in).count();
    let right = after.take(WORD_BYTES_MAX).take_while(is_in).count();
    if left == WORD_BYTES_MAX || right == WORD_BYTES_MAX {
        return None;
    }
    let (start, end) = (range.start - left, range.end + right);
    let word = text[start..end].trim_matches(['-', ':', '.', '+', '_', '/']);
    let start = start + text[start..end].find(word)?;
    let trimmed = start..start + word.len();
    // What was trimmed must not be what differs.
    (trimmed.start <= range.start && trimmed.end >= range.end).then_some(trimmed)
}

/// What two stretches both look like: as a whole, or in each word that differs.
fn common_look(first: &str, second: &str) -> Option<Look> {
    if let Some(look) = both(first, second) {
        return Some(look);
    }
    let (one, other) = (first.split_whitespace(), second.split_whitespace());
    if one.clone().take(WORDS_MAX).count() != other.clone().take(WORDS_MAX).count() {
        return None;
    }
    let mut found = None;
    for (one, other) in one.zip(other).take(WORDS_MAX).filter(|(one, other)| one != other) {
        let look = both(trimmed(one), trimmed(other))?;
        if *found.get_or_insert(look) != look {
            return None;
        }
    }
    found
}

fn trimmed(word: &str) -> &str {
    word.trim_matches(|character: char| !character.is_ascii_alphanumeric())
}

fn both(first: &str, second: &str) -> Option<Look> {
    match (look(first)?, look(second)?) {
        (one, other) if one == other => Some(one),
        // A random id may happen to be of hexadecimal digits alone.
        (Look::HexId | Look::RandomId | Look::Ulid, Look::HexId | Look::RandomId | Look::Ulid) => {
            Some(Look::RandomId)
        }
        (
            Look::Number | Look::UnixSeconds | Look::UnixMillis,
            Look::Number | Look::UnixSeconds | Look::UnixMillis,
        ) => Some(Look::Number),
        _ => None,
    }
}

/// A clock time behind a date and a space is a timestamp.
fn with_date(text: &str, range: Range<usize>, look: Look) -> (Range<usize>, Look) {
    const DATE_BYTES: usize = "2026-01-01 ".len();
    let date = range.start.checked_sub(DATE_BYTES).and_then(|start| text.get(start..range.start));
    match date.and_then(|date| date.strip_suffix(' ')) {
        Some(date) if look == Look::ClockTime && is_date(date) => {
            (range.start - DATE_BYTES..range.end, Look::Timestamp)
        }
        _ => (range, look),
    }
}

/// What a word looks like.
fn look(word: &str) -> Option<Look> {
    if word.is_empty() || word.len() > WORD_BYTES_MAX || !word.is_ascii() {
        return None;
    }
    type Check = (fn(&str) -> bool, Look);
    let checks: [Check; 10] = [
        (is_timestamp, Look::Timestamp),
        (is_date, Look::Date),
        (is_clock_time, Look::ClockTime),
        (is_uuid, Look::Uuid),
        (is_unix_seconds, Look::UnixSeconds),
        (is_unix_millis, Look::UnixMillis),
        (is_number, Look::Number),
        (is_hex_id, Look::HexId),
        (is_ulid, Look::Ulid),
        (is_random_id, Look::RandomId),
    ];
    checks.into_iter().find_map(|(is, look)| is(word).then_some(look))
}

/// Whether a word has this shape: `0` stands for a digit, anything else for itself.
fn has_shape(word: &str, shape: &str) -> bool {
    word.len() == shape.len()
        && word.bytes().zip(shape.bytes()).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        })
}

fn is_date(word: &str) -> bool {
    ["0000-00-00", "0000/00/00", "00/00/0000", "00.00.0000"]
        .iter()
        .any(|shape| has_shape(word, shape))
}

fn is_clock_time(word: &str) -> bool {
    let (clock, fraction) = word.split_once('.').unwrap_or((word, "0"));
    (has_shape(clock, "00:00:00") || (has_shape(clock, "00:00") && !word.contains('.')))
        && is_digits(fraction)
}

/// RFC 3339, section 5.6, with or without a zone; and without any marks between digits.
fn is_timestamp(word: &str) -> bool {
    let compact = word.strip_suffix('Z').unwrap_or(word);
    if has_shape(compact, "00000000T000000") {
        return true;
    }
    let Some((date, time)) = word.split_at_checked(10) else { return false };
    let Some(time) = time.strip_prefix(['T', 't', ' ', '_']) else { return false };
    let zone = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at(zone);
    let zones = ["", "Z", "z", "+00:00", "-00:00", "+0000", "-0000"];
    has_shape(date, "0000-00-00")
        && is_clock_time(time)
        && zones.iter().any(|shape| has_shape(zone, shape))
}

fn is_uuid(word: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    word.split('-').count() == lengths.len()
        && word
            .split('-')
            .zip(lengths)
            .all(|(piece, length)| piece.len() == length && is_hex(piece))
}

/// 26 characters of Crockford's base 32, the first at most 7.
fn is_ulid(word: &str) -> bool {
    word.len() == 26
        && word.starts_with(|first| ('0'..='7').contains(&first))
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() && !b"ILOUilou".contains(&byte))
}

fn is_hex_id(word: &str) -> bool {
    word.len() >= 12 && is_hex(word) && word.bytes().any(|byte| byte.is_ascii_digit())
}

fn is_hex(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Years 2001 to 2039.
fn is_unix_seconds(word: &str) -> bool {
    let (whole, fraction) = word.split_once('.').unwrap_or((word, "0"));
    whole.len() == 10
        && is_digits(whole)
        && is_digits(fraction)
        && whole < "2200000000"
        && !whole.starts_with('0')
}

fn is_unix_millis(word: &str) -> bool {
    word.len() == 13 && is_digits(word) && is_unix_seconds(&word[..10])
}

fn is_number(word: &str) -> bool {
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    is_digits(whole) && is_digits(fraction)
}

fn is_digits(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// A run of letters and digits that change places often.
fn is_random_id(word: &str) -> bool {
    let is_random = |run: &str| {
        let kinds: Vec<bool> = run.bytes().map(|byte| byte.is_ascii_digit()).collect();
        run.len() >= 8 && kinds.windows(2).filter(|pair| pair[0] != pair[1]).count() >= 3
    };
    word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        && word.split(['-', '_']).any(is_random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_known_by_their_looks() {
        let pairs = [
            ("2026-07-28T10:00:01Z", Look::Timestamp),
            ("2026-07-28 10:00:01.123+02:00", Look::Timestamp),
            ("20260728T100001Z", Look::Timestamp),
            ("1785232800", Look::UnixSeconds),
            ("1785232800.25", Look::UnixSeconds),
            ("1785232800123", Look::UnixMillis),
            ("2026-07-28", Look::Date),
            ("10:00", Look::ClockTime),
            ("6fa459ea-ee8a-3ca4-894e-db77e160355e", Look::Uuid),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAV", Look::Ulid),
            ("0123456789abcdef", Look::HexId),
            ("req_8f3k2j9d", Look::RandomId),
            ("-17.5", Look::Number),
        ];
        for (word, expected) in pairs {
            assert_eq!(look(word), Some(expected), "{word}");
        }
        for word in ["hello", "gpt-4o-mini", "claude-sonnet-4-20250514", "", "a:b", "é1"] {
            assert_eq!(look(word), None, "{word}");
        }
    }

    #[test]
    fn a_change_is_widened_to_the_word_that_it_cuts() {
        let change = change("at 2026-07-28T10:00:01Z.", "at 2026-07-28T10:00:02Z.");
        assert_eq!(change.first, 3..23);
        assert_eq!((change.look, change.apart), (Some(Look::Timestamp), 1));
    }

    #[test]
    fn a_time_behind_a_date_is_one_timestamp() {
        let change = change("it is 2026-07-28 10:00:01 now", "it is 2026-07-28 10:05:01 now");
        assert_eq!((change.first, change.look), (6..25, Some(Look::Timestamp)));
    }

    #[test]
    fn two_ids_far_apart_still_look_like_ids() {
        let ids = [
            "a 6fa459ea-ee8a-3ca4-894e-db77e160355e b 7fa459ea-ee8a-3ca4-894e-db77e160355e c",
            "a 1fa459ea-ee8a-3ca4-894e-db77e160355f b 2fa459ea-ee8a-3ca4-894e-db77e160355f c",
        ];
        assert_eq!(change(ids[0], ids[1]).look, Some(Look::Uuid));
    }

    #[test]
    fn texts_alike_but_for_space_or_case_are_told_so() {
        assert_eq!(change("a b", "a  b").look, Some(Look::WhiteSpace));
        assert_eq!(change("Hello", "hELLO").look, Some(Look::LetterCase));
        assert_eq!(change("Hello", "Hallo").look, None);
        assert_eq!(change("item-17x", "item-18x").look, Some(Look::Number));
    }

    #[test]
    fn a_change_is_cut_between_characters() {
        // The two share their first byte, and two others their last.
        for (one, other) in [("é", "è"), ("aéb", "aèb"), ("\u{e9}", "\u{129}"), ("éé", "é")]
        {
            let change = change(one, other);
            assert!(one.get(change.first.clone()).is_some(), "{one} {other}");
            assert!(other.get(change.second.clone()).is_some(), "{one} {other}");
        }
        assert_eq!(bytes_apart(b"abcd", b"abxd"), 1);
        assert_eq!(bytes_apart(b"aa", b"aaa"), 1);
    }
}
