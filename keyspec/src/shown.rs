//! How pieces of a request are shown to people: short, on one line, and without secrets.

use std::fmt::Write as _;

use crate::json::{Value, View};
use crate::paths;
use crate::secret::{HIDDEN, hidden_in, is_secret_name};
use crate::text::Text;

/// Most characters of a value that are shown.
pub(crate) const SHOWN_CHARS_MAX: usize = 60;
/// Characters that are shown before the place that matters.
const LEAD_CHARS: usize = 20;

/// A text from its beginning.
pub(crate) fn text(text: &str) -> String {
    text_around(text, 0)
}

/// A text at the byte `at` and a little before it.
pub(crate) fn text_around(text: &str, at: usize) -> String {
    let lead = text[..at].char_indices().rev().take(LEAD_CHARS).last();
    let from = match lead.map_or(0, |(start, _)| start) {
        start if text[..start].chars().take(LEAD_CHARS).count() < LEAD_CHARS => 0,
        start => start,
    };
    let mut out = Line::new(if from > 0 { "…" } else { "" });
    let mut from = from;
    for hidden in hidden_in(text) {
        if hidden.end <= from {
            continue;
        }
        out.put(&text[from..hidden.start.max(from)]);
        out.put(HIDDEN);
        from = hidden.end;
        if out.is_full {
            break;
        }
    }
    out.put(&text[from..]);
    out.finish()
}

/// Bytes that are mostly text.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    text(&String::from_utf8_lossy(bytes))
}

/// A value under this name: a pair of a query, a field or a header.
pub(crate) fn named(name: &str, value: &[u8]) -> String {
    if is_secret_name(name) { HIDDEN.to_owned() } else { bytes(value) }
}

/// A URL or a path of one, without what stands before an `@` in its authority.
pub(crate) fn url(written: &str) -> String {
    let Some((scheme, rest)) = written.split_once("://") else { return text(written) };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => text(&format!("{scheme}://{HIDDEN}@{host}{path}")),
        None => text(written),
    }
}

/// A JSON value: whole if it is short, else its beginning or what it holds.
pub(crate) fn value(value: Value<'_>, is_hidden: bool) -> String {
    if is_hidden {
        return HIDDEN.to_owned();
    }
    match value.view() {
        View::String(string) => format!("\"{}\"", text(&string.unescaped())),
        View::Array(array) => compact(value)
            .unwrap_or_else(|| counted("an array", array.elements().count(), "element")),
        View::Object(object) => compact(value)
            .unwrap_or_else(|| counted("an object", object.members().count(), "member")),
        View::Null | View::Bool(_) | View::Number(_) => {
            compact(value).unwrap_or_else(|| "a long number".to_owned())
        }
    }
}

/// `3 elements`, `1 element`.
pub(crate) fn count(count: usize, of: &str) -> String {
    format!("{count} {of}{}", if count == 1 { "" } else { "s" })
}

fn counted(what: &str, number: usize, of: &str) -> String {
    format!("{what} of {}", count(number, of))
}

/// What kind of value it is, for where kinds differ.
pub(crate) fn kind(value: Value<'_>) -> &'static str {
    match value.view() {
        View::Null => "null",
        View::Bool(_) => "a truth value",
        View::Number(_) => "a number",
        View::String(_) => "a string",
        View::Array(_) => "an array",
        View::Object(_) => "an object",
    }
}

/// Whether all that stands under this name is hidden: it is a secret, or it is the headers of a
/// call elsewhere, in which one is likely.
pub(crate) fn hides(name: &str, value: Value<'_>) -> bool {
    is_secret_name(name)
        || (name.eq_ignore_ascii_case("headers") && matches!(value.view(), View::Object(_)))
}

/// The name of a member as a path spells it.
pub(crate) fn name(name: Text<'_>) -> String {
    let name = text(&name.unescaped());
    if paths::is_plain_name(&name) { name } else { format!("\"{name}\"") }
}

/// The whole value on one line, if that is short.
fn compact(value: Value<'_>) -> Option<String> {
    let mut out = String::new();
    put_compact(value, &mut out)?;
    (out.chars().count() <= SHOWN_CHARS_MAX).then_some(out)
}

/// Nothing once it is too long, so that a large value costs no more than a small one.
fn put_compact(value: Value<'_>, out: &mut String) -> Option<()> {
    if out.len() > 4 * SHOWN_CHARS_MAX {
        return None;
    }
    match value.view() {
        View::Null => out.push_str("null"),
        View::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        View::Number(spelled) => out.push_str(spelled),
        View::String(string) if string.raw_len() > 12 * SHOWN_CHARS_MAX => return None,
        View::String(string) => {
            let _ = write!(out, "\"{}\"", text(&string.unescaped()));
        }
        View::Array(array) => {
            out.push('[');
            for (index, element) in array.elements().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                put_compact(element, out)?;
            }
            out.push(']');
        }
        View::Object(object) => {
            out.push('{');
            for (index, (name, value)) in object.members().enumerate() {
                put_compact_member(index, name, value, out)?;
            }
            out.push('}');
        }
    }
    Some(())
}

fn put_compact_member(
    index: usize,
    name: Text<'_>,
    value: Value<'_>,
    out: &mut String,
) -> Option<()> {
    if name.raw_len() > 12 * SHOWN_CHARS_MAX {
        return None;
    }
    let name = name.unescaped();
    let _ = write!(out, "{}\"{}\": ", if index > 0 { ", " } else { "" }, text(&name));
    if hides(&name, value) {
        out.push_str(HIDDEN);
        return Some(());
    }
    put_compact(value, out)
}

/// One line of bounded length, safe for a terminal.
struct Line {
    out: String,
    left: usize,
    is_full: bool,
}

impl Line {
    fn new(begin: &str) -> Line {
        let left = SHOWN_CHARS_MAX - begin.chars().count();
        Line { out: begin.to_owned(), left, is_full: false }
    }

    fn put(&mut self, text: &str) {
        for character in text.chars() {
            if self.is_full {
                return;
            }
            if is_plain(character) {
                self.put_piece(character.encode_utf8(&mut [0; 4]), 1);
            } else {
                let escape: String = character.escape_default().collect();
                self.put_piece(&escape, escape.len());
            }
        }
    }

    fn put_piece(&mut self, piece: &str, width: usize) {
        if width <= self.left {
            self.out.push_str(piece);
            self.left -= width;
        } else {
            self.is_full = true;
        }
    }

    /// The last character gives way to a sign that there is more.
    fn finish(mut self) -> String {
        if self.is_full {
            if self.left == 0 {
                self.out.pop();
            }
            self.out.push('…');
        }
        self.out
    }
}

/// Whether a character changes nothing but its own place on a line: no control, and none that
/// turns the direction of writing.
fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Document;

    fn json(text: &str) -> String {
        value(Document::scan(text.as_bytes()).unwrap().root(), false)
    }

    #[test]
    fn a_text_is_cut_to_its_length_and_kept_on_one_line() {
        assert_eq!(text("short"), "short");
        assert_eq!(text(&"é".repeat(60)), "é".repeat(60));
        assert_eq!(text(&"é".repeat(61)), format!("{}…", "é".repeat(59)));
        assert_eq!(text("a\nb\u{1b}[2J\u{202e}"), "a\\nb\\u{1b}[2J\\u{202e}");
    }

    #[test]
    fn a_text_is_shown_around_the_place_that_matters() {
        let long = format!("{} here {}", "word ".repeat(50), "more ".repeat(50));
        let shown = text_around(&long, long.find("here").unwrap());
        assert!(
            shown.starts_with('…') && shown.ends_with('…') && shown.contains("here"),
            "{shown}"
        );
        assert_eq!(shown.chars().count(), SHOWN_CHARS_MAX);
    }

    #[test]
    fn a_key_is_hidden_even_where_the_cut_would_go_through_it() {
        let key = format!("{} sk-abcdefghij0123456789", "word ".repeat(10));
        for at in [0, key.len() - 5, key.len()] {
            let shown = text_around(&key, at);
            assert!(!shown.contains("sk-") && !shown.contains("789"), "{shown}");
        }
    }

    #[test]
    fn containers_are_shown_whole_when_short_and_counted_when_long() {
        assert_eq!(json(r#"[1,"a",null]"#), r#"[1, "a", null]"#);
        assert_eq!(json(r#"{"a":{"token":1}}"#), r#"{"a": {"token": (hidden)}}"#);
        assert_eq!(json(r#"{"headers":{"X-Any":"v"}}"#), r#"{"headers": (hidden)}"#);
        let many = format!("[{}1]", "1,".repeat(100));
        assert_eq!(json(&many), "an array of 101 elements");
        assert_eq!(json(&format!("{{\"a\":{many}}}")), "an object of 1 member");
    }

    #[test]
    fn the_user_of_a_url_is_hidden() {
        assert_eq!(url("https://a:b@host/x"), "https://(hidden)@host/x");
        assert_eq!(url("https://host/x@y"), "https://host/x@y");
    }
}
