//! An answer's first line: what Redis may say to a call that asks for a value (RESP2: a bulk string, a
//! null one, an error).

/// Bytes of a first line at most, its end included: an error's words, for a length takes few.
pub(super) const LINE_BYTES_MAX: usize = 1024;
/// Digits of a length at most.
const DIGITS_MAX: usize = 10;

/// What a first line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A value of so many bytes follows, and its end.
    Value(usize),
    /// There is no value.
    Absent,
    /// It is an error.
    Error,
}

/// Reads the first line of what has come, and how many bytes it takes; nothing while more must come.
/// A value may have this many bytes at most.
///
/// # Errors
/// Says why it is none of the three. More bytes do not mend that.
pub(super) fn first_line(
    come: &[u8],
    value_bytes_max: usize,
) -> Result<Option<(Said, usize)>, &'static str> {
    match come.first() {
        None => return Ok(None),
        Some(b'$' | b'-') => {}
        Some(_) => return Err("an answer of another kind"),
    }
    let within = &come[..come.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if within.len() < LINE_BYTES_MAX { Ok(None) } else { Err("a line without an end") };
    };
    let line = within[..end].strip_suffix(b"\r").ok_or("a line with another end")?;
    let said = match line {
        [b'-', ..] => Said::Error,
        b"$-1" => Said::Absent,
        [b'$', digits @ ..] => Said::Value(length(digits, value_bytes_max)?),
        _ => return Err("an answer of another kind"),
    };
    Ok(Some((said, end + 1)))
}

fn length(digits: &[u8], value_bytes_max: usize) -> Result<usize, &'static str> {
    if !(1..=DIGITS_MAX).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err("a length that is no number");
    }
    let length = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    let length = usize::try_from(length).ok().filter(|length| *length <= value_bytes_max);
    length.ok_or("a value longer than was asked for")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 5000;

    #[test]
    fn each_kind_of_answer_is_known_by_its_first_line() {
        for (come, said, bytes) in [
            (&b"$0\r\n\r\n"[..], Said::Value(0), 4),
            (b"$5000\r\nxyz", Said::Value(5000), 7),
            (b"$-1\r\n", Said::Absent, 5),
            (b"-LOADING Redis is loading\r\n", Said::Error, 27),
        ] {
            assert_eq!(first_line(come, MAX), Ok(Some((said, bytes))));
        }
    }

    #[test]
    fn what_is_no_answer_to_a_read_is_refused() {
        for come in [
            &b"+OK\r\n"[..],
            b":5\r\n",
            b"*1\r\n",
            b"_\r\n",
            b">2\r\n",
            b"\r\n",
            b"$\r\n",
            b"$-2\r\n",
            b"$+5\r\n",
            b"$ 5\r\n",
            b"$5 \r\n",
            b"$5\n",
            b"$5001\r\n",
            b"$00000000005\r\n",
            b"$99999999999999999999\r\n",
        ] {
            assert!(first_line(come, MAX).is_err(), "{}", come.escape_ascii());
        }
    }

    #[test]
    fn a_line_has_a_bound() {
        let line = |bytes: usize| format!("-{}\r\n", "x".repeat(bytes - 3)).into_bytes();
        let longest = line(LINE_BYTES_MAX);
        assert_eq!(first_line(&longest, MAX), Ok(Some((Said::Error, LINE_BYTES_MAX))));
        assert_eq!(first_line(&longest[..LINE_BYTES_MAX - 1], MAX), Ok(None));
        assert!(first_line(&line(LINE_BYTES_MAX + 1), MAX).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(come in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(Some((said, bytes))) = first_line(&come, MAX) {
                prop_assert!(bytes <= come.len() && come[..bytes].ends_with(b"\r\n"));
                prop_assert!(!matches!(said, Said::Value(length) if length > MAX));
            }
        }

        #[test]
        fn what_was_read_or_refused_stays_so_when_more_comes(
            start in "[$+-]?[0-9-]{0,12}(\r\n)?",
            more in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let before = first_line(start.as_bytes(), MAX);
            if before != Ok(None) {
                let all = [start.as_bytes(), &more].concat();
                prop_assert_eq!(before, first_line(&all, MAX));
            }
        }
    }
}
