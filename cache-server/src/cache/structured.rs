//! Structured fields (RFC 9651): all lines of a field as the one value that is parsed.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

/// A field is longer than it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// The value of a field: its lines, joined by commas (RFC 9651 section 4.2). Nothing where there is
/// no such field.
///
/// # Errors
/// When it has more than so many bytes.
pub fn value<'f>(
    fields: &'f HeaderMap,
    name: &HeaderName,
    bytes_max: usize,
) -> Result<Option<Cow<'f, [u8]>>, TooLong> {
    const BETWEEN: &[u8] = b", ";
    let lines = || fields.get_all(name).into_iter().map(HeaderValue::as_bytes);
    let bytes: usize = lines().map(|line| line.len() + BETWEEN.len()).sum();
    if bytes.saturating_sub(BETWEEN.len()) > bytes_max {
        return Err(TooLong);
    }
    let mut all = lines();
    Ok(match (all.next(), all.next()) {
        (None, _) => None,
        (Some(line), None) => Some(Cow::Borrowed(line)),
        (Some(_), Some(_)) => Some(Cow::Owned(lines().collect::<Vec<_>>().join(BETWEEN))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: HeaderName = HeaderName::from_static("cache-groups");

    fn read(lines: &[&'static str], bytes_max: usize) -> Result<Option<String>, TooLong> {
        let lines = lines.iter().map(|line| (NAME, HeaderValue::from_static(line)));
        let fields: HeaderMap = lines.collect();
        let value = value(&fields, &NAME, bytes_max)?;
        Ok(value.map(|bytes| String::from_utf8(bytes.into_owned()).unwrap()))
    }

    // RFC 9651 section 4.2.
    #[test]
    fn the_lines_of_a_field_are_one_value() {
        assert_eq!(read(&[], 9), Ok(None));
        assert_eq!(read(&[""], 9), Ok(Some(String::new())));
        assert_eq!(read(&["a"], 9), Ok(Some("a".into())));
        assert_eq!(read(&["a", "b=\"c", "d\""], 20), Ok(Some("a, b=\"c, d\"".into())));
    }

    #[test]
    fn a_value_is_bounded_over_all_its_lines() {
        assert_eq!(read(&["abcd"], 4), Ok(Some("abcd".into())));
        assert_eq!(read(&["abcde"], 4), Err(TooLong));
        assert_eq!(read(&["a", "b"], 4), Ok(Some("a, b".into())));
        assert_eq!(read(&["a", "bc"], 4), Err(TooLong));
    }
}
