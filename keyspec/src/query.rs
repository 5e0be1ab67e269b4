//! Query strings: pairs, split first and percent-decoded after.

use std::borrow::Cow;

/// A name or value of a query.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Component<'q> {
    pub(crate) bytes: Cow<'q, [u8]>,
    /// The bytes are as written, because decoding them could make two queries one: an escape is
    /// malformed, or there is a `+`, which some servers read as a space and others do not.
    pub(crate) verbatim: bool,
}

/// One `name=value` of a query. `name` alone has no value, which is not the empty value.
#[derive(Debug)]
pub(crate) struct Pair<'q> {
    pub(crate) name: Component<'q>,
    pub(crate) value: Option<Component<'q>>,
    written_value: &'q str,
}

impl<'q> Pair<'q> {
    /// The value as it is written; empty where there is none.
    pub(crate) fn written_value(&self) -> &'q str {
        self.written_value
    }

    /// The value decoded for comparing a secret: malformed escapes stand for themselves.
    pub(crate) fn decoded_value(&self) -> Cow<'q, [u8]> {
        percent_decoded(self.written_value).unwrap_or(Cow::Borrowed(self.written_value.as_bytes()))
    }
}

/// The pairs of a query in its order. Empty pieces between two `&` are no pairs. Time and
/// memory are linear in the query, which the HTTP server bounds.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = Pair<'_>> {
    query.split('&').filter(|piece| !piece.is_empty()).map(|piece| {
        let (name, value) = match piece.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (piece, None),
        };
        Pair {
            name: component(name),
            value: value.map(component),
            written_value: value.unwrap_or_default(),
        }
    })
}

fn component(written: &str) -> Component<'_> {
    match percent_decoded(written).filter(|_| !written.contains('+')) {
        Some(bytes) => Component { bytes, verbatim: false },
        None => Component { bytes: Cow::Borrowed(written.as_bytes()), verbatim: true },
    }
}

/// Undoes percent-encoding (RFC 3986, section 2.1), or nothing if an escape is malformed.
#[must_use]
pub fn percent_decoded(written: &str) -> Option<Cow<'_, [u8]>> {
    if !written.contains('%') {
        return Some(Cow::Borrowed(written.as_bytes()));
    }
    let mut pieces = written.split('%');
    let mut decoded = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let [high, low, rest @ ..] = piece.as_bytes() else { return None };
        decoded.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
        decoded.extend_from_slice(rest);
    }
    Some(Cow::Owned(decoded))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(query: &str) -> Pair<'_> {
        let mut pairs = pairs(query);
        let pair = pairs.next().unwrap();
        assert!(pairs.next().is_none(), "{query} should be one pair");
        pair
    }

    #[test]
    fn escapes_are_decoded_after_splitting() {
        let pair = only("a%26b=c%3Dd%C3%A9");
        assert_eq!(&*pair.name.bytes, b"a&b");
        assert_eq!(&*pair.value.unwrap().bytes, "c=dé".as_bytes());
    }

    #[test]
    fn a_plus_is_not_a_space_and_not_its_own_escape() {
        assert_ne!(only("a=1+2").value, only("a=1%202").value);
        assert_ne!(only("a=1+2").value, only("a=1%2B2").value);
        assert_ne!(only("a=1+2%2B3").value, only("a=1%2B2+3").value);
    }

    #[test]
    fn a_malformed_escape_stands_for_itself_alone() {
        for malformed in ["%", "%4", "%zz", "%4g", "a%"] {
            assert!(component(malformed).verbatim, "{malformed}");
        }
        assert_ne!(component("%zz"), component("%25zz"));
    }

    #[test]
    fn a_name_alone_differs_from_an_empty_value() {
        assert!(only("a").value.is_none());
        assert!(only("a=").value.is_some());
        assert_eq!(pairs("&a&&b&").count(), 2);
    }
}
