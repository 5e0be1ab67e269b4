//! Framing: where a message's body ends. The HTTP library reads it by RFC 9112 section 6 and
//! refuses what that refuses; here stands what it reads and another reader might read otherwise.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};

/// A message whose end, or whose bytes, not all readers agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFraming {
    /// The library undoes chunks alone: after any other coding the body would be passed on still
    /// encoded, and no longer said to be (RFC 9112 section 6.1).
    #[error("a Transfer-Encoding other than chunked, once")]
    Coding,
    /// It may have been meant to be read in another way (RFC 9112 section 6.3).
    #[error("both a Transfer-Encoding and a Content-Length")]
    SaidTwice,
    /// Lengths that differ, or are no numbers.
    #[error("a Content-Length that is not one number")]
    Length,
    /// No request asks for it: `Upgrade` is not forwarded.
    #[error("a switch of protocols that nobody asked for")]
    Switched,
}

/// Checks that a message has no transfer coding, or the one that is undone.
///
/// # Errors
/// [`BadFraming::Coding`] where it has another, or chunked more than once.
pub fn check_coding(headers: &HeaderMap) -> Result<(), BadFraming> {
    let values = headers.get_all(TRANSFER_ENCODING).iter();
    let mut codings = values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|coding| !coding.is_empty());
    match (codings.next(), codings.next()) {
        (None, None) => Ok(()),
        (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(BadFraming::Coding),
    }
}

/// Checks an answer's framing, and leaves one length where it is said several times alike.
///
/// # Errors
/// Where the answer must not be passed on.
pub fn settle_answer(status: StatusCode, headers: &mut HeaderMap) -> Result<(), BadFraming> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(BadFraming::Switched);
    }
    check_coding(headers)?;
    if !is_coded_as_read(headers) {
        return Err(BadFraming::Coding);
    }
    let Some(length) = one_length(headers)? else { return Ok(()) };
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(BadFraming::SaidTwice);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(())
}

/// Whether the library undoes the coding of an answer, if it has one: it looks behind the last comma of the
/// last line alone, and takes an answer for one that ends with its connection where `chunked` is not there.
fn is_coded_as_read(headers: &HeaderMap) -> bool {
    let Some(last) = headers.get_all(TRANSFER_ENCODING).iter().next_back() else { return true };
    let last = last.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
    last.trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// The length that all values and all members of their lists agree on (RFC 9110 section 8.6).
fn one_length(headers: &HeaderMap) -> Result<Option<u64>, BadFraming> {
    let values = headers.get_all(CONTENT_LENGTH).iter();
    let mut agreed = None;
    for member in values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let length = parse_length(member.trim_ascii()).ok_or(BadFraming::Length)?;
        if agreed.is_some_and(|agreed| agreed != length) {
            return Err(BadFraming::Length);
        }
        agreed = Some(length);
    }
    Ok(agreed)
}

/// Digits alone: Rust's own parser takes a plus sign, too.
fn parse_length(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn settled(lines: &[(&'static str, &'static str)]) -> Result<Vec<String>, BadFraming> {
        let mut headers: HeaderMap = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        settle_answer(StatusCode::OK, &mut headers)?;
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        Ok(headers.get_all(CONTENT_LENGTH).iter().map(text).collect())
    }

    #[test]
    fn chunked_once_is_the_only_coding() {
        for fine in ["chunked", "Chunked", " chunked", ", chunked"] {
            assert_eq!(settled(&[("transfer-encoding", fine)]), Ok(vec![]), "{fine}");
        }
        for bad in [
            "gzip",
            "gzip, chunked",
            "chunked, chunked",
            "chunked, gzip",
            "identity",
            "chunked,",
            ",",
            "",
        ] {
            let settled = settled(&[("transfer-encoding", bad)]);
            assert_eq!(settled, Err(BadFraming::Coding), "{bad}");
        }
        for second in ["chunked", ""] {
            let twice = [("transfer-encoding", "chunked"), ("transfer-encoding", second)];
            assert_eq!(settled(&twice), Err(BadFraming::Coding), "{second:?}");
        }
    }

    #[test]
    fn equal_lengths_become_one_and_all_others_are_refused() {
        for fine in ["5", "5, 5", "5,05"] {
            assert_eq!(settled(&[("content-length", fine)]), Ok(vec!["5".into()]), "{fine}");
        }
        let twice = [("content-length", "5"), ("content-length", "5")];
        assert_eq!(settled(&twice), Ok(vec!["5".into()]));
        for bad in ["", "+5", "-5", "5, 6", "5,", "5 5", "18446744073709551616"] {
            assert_eq!(settled(&[("content-length", bad)]), Err(BadFraming::Length), "{bad:?}");
        }
    }

    #[test]
    fn a_length_beside_chunks_is_refused() {
        let both = [("content-length", "5"), ("transfer-encoding", "chunked")];
        assert_eq!(settled(&both), Err(BadFraming::SaidTwice));
    }

    #[test]
    fn nobody_switches_protocols_unasked() {
        let switched = settle_answer(StatusCode::SWITCHING_PROTOCOLS, &mut HeaderMap::new());
        assert_eq!(switched, Err(BadFraming::Switched));
    }
}
