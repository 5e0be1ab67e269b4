//! Numbers: one spelling for one value, and never one spelling for two.
//!
//! A number is printed as ECMAScript prints it (RFC 8785, section 3.2.2.3) when that says the
//! same decimal value as the body. It does not for integers beyond 2^53 and for decimals with
//! more digits than a double holds: RFC 8785 rounds those, and two seeds would share a key. They
//! are printed exactly instead, as `[-]DIGITSE[-]EXPONENT`: all significant digits as an
//! integer without leading or trailing zeros, a capital `E`, and the power of ten. ECMAScript
//! writes a small `e` with a sign, so the two forms cannot meet.

use crate::sink::Sink;

/// Longest number that is keyable, in bytes as spelled.
pub(crate) const NUMBER_BYTES_MAX: usize = 1024;

/// Largest magnitude of a written exponent that is keyable.
pub(crate) const EXPONENT_MAX: u32 = 9_999;

/// Numbers with at most this many bytes, sign and point included, have fewer digits than a double
/// can tell apart, so that printing one gives the same digits.
const SHORT_BYTES: usize = 15;

/// With at most this many decimals, ECMAScript prints a number without an exponent.
const SHORT_DECIMALS: usize = 6;

/// Writes a number that the scan has found well-formed and in range.
pub(crate) fn put(spelled: &str, out: &mut impl Sink) {
    if let Some(printed) = short_print(spelled) {
        return out.put(printed.as_bytes());
    }
    let decimal = Decimal::of(spelled);
    if decimal.is_zero() {
        return out.put(b"0");
    }
    let mut buffer = ryu_js::Buffer::new();
    let double = spelled.parse().ok().filter(|double: &f64| double.is_finite());
    let printed = double.map(|double| buffer.format_finite(double));
    match printed.filter(|printed| Decimal::of(printed) == decimal) {
        Some(printed) => out.put(printed.as_bytes()),
        None => decimal.put_exactly(out),
    }
}

/// Whether the number is zero, however spelled.
pub(crate) fn is_zero(spelled: &str) -> bool {
    let mut mantissa = spelled.bytes().take_while(|byte| !matches!(byte, b'e' | b'E'));
    !mantissa.any(|byte| matches!(byte, b'1'..=b'9'))
}

/// Whether a number is spelled as it is printed. Of long or unusual numbers it is not known.
pub(crate) fn is_canonical(spelled: &str) -> bool {
    short_print(spelled).is_some_and(|printed| printed.len() == spelled.len())
}

/// How a short number is printed, which is its spelling up to the zeros at its end.
fn short_print(spelled: &str) -> Option<&str> {
    if spelled.len() > SHORT_BYTES {
        return None;
    }
    let is_mark = |byte| matches!(byte, b'.' | b'e' | b'E');
    let printed = match spelled.bytes().position(is_mark) {
        None => spelled,
        Some(point) => {
            let decimals = spelled[point..].strip_prefix('.')?;
            let is_usual = decimals.len() <= SHORT_DECIMALS && !decimals.bytes().any(is_mark);
            let kept = decimals.bytes().rposition(|byte| byte != b'0');
            spelled.get(..kept.map_or(point, |last| point + 2 + last)).filter(|_| is_usual)?
        }
    };
    (printed != "-0").then_some(printed)
}

/// A decimal value: `digits` as an integer, times ten to the `exponent`.
struct Decimal<'n> {
    negative: bool,
    /// Significant digits, neither beginning nor ending in a zero; a point may be among them.
    digits: &'n str,
    exponent: i64,
}

impl<'n> Decimal<'n> {
    fn of(spelled: &'n str) -> Self {
        let (negative, unsigned) = match spelled.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, spelled),
        };
        let (mantissa, written) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let fraction_digits = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let without_tail = mantissa.trim_end_matches(['0', '.']);
        let tail = &mantissa[without_tail.len()..];
        let tail_zeros = tail.bytes().filter(|byte| *byte == b'0').count();
        let written: i64 = written.parse().expect("the scan bounds the exponent");
        Self {
            negative,
            digits: without_tail.trim_start_matches(['0', '.']),
            exponent: written + signed(tail_zeros) - signed(fraction_digits),
        }
    }

    fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.digits.bytes().filter(|byte| *byte != b'.')
    }

    fn put_exactly(&self, out: &mut impl Sink) {
        if self.negative {
            out.put(b"-");
        }
        for run in self.digits.split('.') {
            out.put(run.as_bytes());
        }
        out.put(format!("E{}", self.exponent).as_bytes());
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.negative == other.negative
            && self.exponent == other.exponent
            && self.digits().eq(other.digits())
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).expect("a number has at most NUMBER_BYTES_MAX bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(spelled: &str) -> String {
        let mut out = Vec::new();
        put(spelled, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_value_has_one_spelling() {
        for one in ["1", "1.0", "1e0", "1E+0", "10e-1", "0.1e1", "0.0001e4", "1.000e-0"] {
            assert_eq!(canonical(one), "1", "{one}");
        }
        for zero in ["0", "-0", "0.0", "-0.0", "0e5", "0E-9999", "0.000e12"] {
            assert_eq!(canonical(zero), "0", "{zero}");
        }
        for large in ["100000000000000000000", "1e20", "1E20", "1000000000000000000.00e2"] {
            assert_eq!(canonical(large), "100000000000000000000", "{large}");
        }
    }

    #[test]
    fn numbers_print_as_ecmascript_prints_them() {
        let pairs = [
            ("0.70", "0.7"),
            ("-1.50", "-1.5"),
            ("1e21", "1e+21"),
            ("1e-7", "1e-7"),
            ("0.000001", "0.000001"),
            ("1e-06", "0.000001"),
            ("9007199254740992", "9007199254740992"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ];
        for (spelled, printed) in pairs {
            assert_eq!(canonical(spelled), printed, "{spelled}");
        }
    }

    #[test]
    fn short_numbers_are_known_to_be_spelled_as_they_are_printed() {
        let wholes = ["0", "7", "10", "-0", "-3", "99999999", "-1234567", "123456789012345"];
        let decimals = ["1", "7", "25", "001", "123456", "000001", "999999", "100009"];
        let pairs = wholes.iter().flat_map(|whole| decimals.map(|d| format!("{whole}.{d}")));
        let numbers = wholes.iter().map(|whole| (*whole).to_owned()).chain(pairs);
        let (known, unknown): (Vec<_>, Vec<_>) = numbers.partition(|number| is_canonical(number));
        assert!(known.len() > unknown.len());
        for number in known {
            let double: f64 = number.parse().unwrap();
            assert_eq!(ryu_js::Buffer::new().format_finite(double), number);
        }
        for unusual in ["-0", "-0.0", "1.0", "1.50", "1e5", "1.5e3", "0.0000001"] {
            assert!(!is_canonical(unusual), "{unusual}");
        }
    }

    #[test]
    fn what_a_double_cannot_hold_stays_exact() {
        let pairs = [
            ("9007199254740993", "9007199254740993E0"),
            ("-9007199254740993", "-9007199254740993E0"),
            ("9007199254740993.0", "9007199254740993E0"),
            ("90071992547409930e-1", "9007199254740993E0"),
            ("18446744073709551615", "18446744073709551615E0"),
            ("1152921504606846976", "1152921504606846976E0"),
            ("1152921504606847000", "1152921504606847000"),
            ("333333333.33333329", "33333333333333329E-8"),
            ("1e400", "1E400"),
            ("-1e-400", "-1E-400"),
        ];
        for (spelled, exact) in pairs {
            assert_eq!(canonical(spelled), exact, "{spelled}");
        }
    }

    #[test]
    fn zero_is_known_in_any_spelling_and_nothing_else_is_zero() {
        assert!(["0", "0.0", "-0", "0e5"].into_iter().all(is_zero));
        assert!(!["1", "0.01", "1e-400", "1e-9999"].into_iter().any(is_zero));
    }
}
