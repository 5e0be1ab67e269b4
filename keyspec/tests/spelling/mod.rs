//! JSON values for property tests, and the many ways of spelling one value.

use proptest::prelude::*;

/// A JSON value whose members have an order and whose numbers have no spelling yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A decimal: digits times ten to a power.
    Number(i64, i8),
    /// A string.
    Text(String),
    /// An array.
    Array(Vec<Json>),
    /// An object; names do not repeat.
    Object(Vec<(String, Json)>),
}

/// Any object with values in it, a few levels deep, members sorted. Names begin with `m` so that none is one
/// that a spec treats in a way of its own.
pub(crate) fn any_object() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        (-1_000_000_000_000_i64..1_000_000_000_000, -8..8_i8).prop_map(|(d, e)| Json::Number(d, e)),
        any_text().prop_map(Json::Text),
    ];
    let value = leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
            members(inner).prop_map(Json::Object),
        ]
    });
    members(value).prop_map(Json::Object)
}

fn members(
    value: impl Strategy<Value = Json> + Clone,
) -> impl Strategy<Value = Vec<(String, Json)>> {
    prop::collection::btree_map(any_text(), value, 0..6).prop_map(|members| {
        members.into_iter().map(|(name, value)| (format!("m{name}"), value)).collect()
    })
}

/// Text with much of what escaping is about: quotes, backslashes, controls, and characters
/// around the surrogates.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{0,3}",
        "[ -~]{0,40}",
        r#"[\\"/\x00-\x1f\x7fé\u{d7ff}\u{e000}\u{fb33}\u{ffff}😀\u{10ffff}]{0,6}"#,
    ]
}

/// Writes one value in one of many ways, chosen by a seed.
pub(crate) struct Speller(u64);

impl Speller {
    /// The speller of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The value spelled with this speller's choices.
    pub(crate) fn spell(&mut self, value: &Json) -> String {
        let mut out = String::new();
        self.value(value, &mut out);
        out
    }

    /// A choice among `count` (an xorshift generator).
    fn pick(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let [.., high, low] = self.0.to_le_bytes();
        usize::from(u16::from_le_bytes([high, low])) % count
    }

    fn value(&mut self, value: &Json, out: &mut String) {
        self.space(out);
        match value {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(digits, exponent) => self.number(*digits, *exponent, out),
            Json::Text(text) => self.text(text, out),
            Json::Array(elements) => {
                out.push('[');
                for (index, element) in elements.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    self.value(element, out);
                }
                self.space(out);
                out.push(']');
            }
            Json::Object(members) => self.object(members.clone(), out),
        }
        self.space(out);
    }

    fn object(&mut self, mut members: Vec<(String, Json)>, out: &mut String) {
        for index in (1..members.len()).rev() {
            let other = self.pick(index + 1);
            members.swap(index, other);
        }
        out.push('{');
        for (index, (name, value)) in members.iter().enumerate() {
            out.push_str(if index > 0 { "," } else { "" });
            self.space(out);
            self.text(name, out);
            self.space(out);
            out.push(':');
            self.value(value, out);
        }
        self.space(out);
        out.push('}');
    }

    fn space(&mut self, out: &mut String) {
        out.push_str(["", "", "", " ", "\n", "\t", "\r\n  "][self.pick(7)]);
    }

    fn number(&mut self, digits: i64, exponent: i8, out: &mut String) {
        let letter = if self.pick(2) == 0 { 'e' } else { 'E' };
        let spelled = match self.pick(4) {
            0 => format!("{digits}{letter}{exponent}"),
            1 => format!("{digits}.00{letter}{exponent:+}"),
            2 => format!("{digits}0{letter}{}", exponent - 1),
            _ if exponent >= 0 => format!("{digits}{}", "0".repeat(exponent.unsigned_abs().into())),
            _ => {
                let places: usize = exponent.unsigned_abs().into();
                let padded = format!("{:0>width$}", digits.unsigned_abs(), width = places + 1);
                let (whole, fraction) = padded.split_at(padded.len() - places);
                format!("{}{whole}.{fraction}", if digits < 0 { "-" } else { "" })
            }
        };
        // Zeros in front of zeros are not JSON, and any zero will do.
        let zero = if self.pick(2) == 0 { "-0.0" } else { "0" };
        out.push_str(if digits == 0 { zero } else { &spelled });
    }

    fn text(&mut self, text: &str, out: &mut String) {
        out.push('"');
        for character in text.chars() {
            let short = match character {
                '"' => Some("\\\""),
                '\\' => Some("\\\\"),
                '/' => Some("\\/"),
                '\n' => Some("\\n"),
                '\t' => Some("\\t"),
                '\r' => Some("\\r"),
                '\u{8}' => Some("\\b"),
                '\u{c}' => Some("\\f"),
                _ => None,
            };
            let may_be_plain = !matches!(character, '"' | '\\') && character >= ' ';
            match (self.pick(3), short) {
                (0 | 1, _) if may_be_plain => out.push(character),
                (_, Some(short)) if self.pick(2) == 0 => out.push_str(short),
                _ => self.unicode_escape(character, out),
            }
        }
        out.push('"');
    }

    fn unicode_escape(&mut self, character: char, out: &mut String) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let escape = match self.pick(2) {
                0 => format!("\\u{unit:04x}"),
                _ => format!("\\u{unit:04X}"),
            };
            out.push_str(&escape);
        }
    }
}
