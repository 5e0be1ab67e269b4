//! The fields of an answer that tell a time: `Date`, `Expires`, `Last-Modified` and `Age`.
//!
//! All three forms of an HTTP-date are read (RFC 9110 section 5.6.7), and to the letter, though in
//! any case (RFC 9111 section 4.2): what is in no form is no date. Times before 1970 are none
//! either.

use std::io::Write as _;

use http::header::{AGE, DATE, EXPIRES, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED};
use httpdate::HttpDate;

use super::cache_control::whole_number;
use crate::clock::Timestamp;

const WEEKDAYS: [&[u8]; 7] =
    [b"Sunday", b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday"];
const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// When the answer was made. Without a `Date`, or with one that is none, that is when it was
/// `received` (RFC 9110 section 6.6.1); of several the earliest, as it makes the answer oldest.
#[must_use]
pub fn date(fields: &HeaderMap, received: Timestamp) -> Timestamp {
    let dates = fields.get_all(DATE).iter();
    dates.filter_map(|value| parse(value.as_bytes(), received)).min().unwrap_or(received)
}

/// Says when the answer came, if it does not say when it was made (RFC 9110 section 6.6.1).
pub fn date_if_none(fields: &mut HeaderMap, received: Timestamp) {
    let written = || HeaderValue::from_str(&httpdate::fmt_http_date(received.as_system_time()));
    if !fields.contains_key(DATE) {
        fields.extend(written().ok().map(|date| (DATE, date)));
    }
}

/// When the answer expires, if it says so. A date that is none, and several dates, mean that it
/// has expired already (RFC 9111 section 5.3): the epoch.
#[must_use]
pub fn expires(fields: &HeaderMap, received: Timestamp) -> Option<Timestamp> {
    let is_said = fields.contains_key(EXPIRES);
    let date = single(fields, EXPIRES).and_then(|value| parse(value.as_bytes(), received));
    is_said.then(|| date.unwrap_or(Timestamp(0)))
}

/// When what the answer shows was last changed.
#[must_use]
pub fn last_modified(fields: &HeaderMap, received: Timestamp) -> Option<Timestamp> {
    parse(single(fields, LAST_MODIFIED)?.as_bytes(), received)
}

/// How old the answer was when it came, in seconds, by its `Age`: the first number of the list,
/// at most 2^31 (RFC 9111 section 5.1). Passing over what is no number makes it older, not
/// younger, than the RFC has it.
#[must_use]
pub fn age_s(fields: &HeaderMap) -> u32 {
    let lines = fields.get_all(AGE).iter().map(HeaderValue::as_bytes);
    let members = lines.flat_map(|line| line.split(|byte| *byte == b','));
    let age = members.map(<[u8]>::trim_ascii).find_map(whole_number).unwrap_or(0);
    u32::try_from(age).unwrap_or(u32::MAX)
}

/// The one value of a field; nothing if there are several.
pub(super) fn single(fields: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = fields.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// The time as an HTTP-date of the usual form, of which that is the only way to write it. Times from the
/// year 10000 on are written as the last second before.
#[must_use]
pub fn written(at: Timestamp) -> [u8; 29] {
    let mut text = [0; 29];
    // It is as long as that, whatever the time.
    let _ = write!(&mut text[..], "{}", HttpDate::from(at.as_system_time()));
    text
}

/// Reads an HTTP-date. `now` tells the century of a year of two digits: it is the last one that
/// does not put the date more than 50 years ahead.
#[must_use]
pub fn parse(text: &[u8], now: Timestamp) -> Option<Timestamp> {
    let text = text.trim_ascii();
    fixdate(text).or_else(|| rfc850(text, now)).or_else(|| asctime(text))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn fixdate(text: &[u8]) -> Option<Timestamp> {
    let (weekday, rest) = text.split_at_checked(3)?;
    let rest = in_gmt(rest.strip_prefix(b", ")?)?;
    let [day, month, year, time] = parts(rest, [2, 3, 4, 8], b"   ")?;
    let date = Date { year: whole_number(year)?, month: month_of(month)?, day: whole_number(day)? };
    date.at(time).filter(|_| is_weekday(weekday, 3))
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(text: &[u8], now: Timestamp) -> Option<Timestamp> {
    let comma = text.iter().position(|byte| *byte == b',')?;
    let (weekday, rest) = text.split_at(comma);
    let rest = in_gmt(rest.strip_prefix(b", ")?)?;
    let [day, month, year, time] = parts(rest, [2, 3, 2, 8], b"-- ")?;
    let (day, month, year) = (whole_number(day)?, month_of(month)?, whole_number(year)?);
    let limit = now.0.min(YEAR_10000_MS).saturating_add(50 * YEAR_MS);
    let latest = 1970 + limit / YEAR_MS + 1;
    let latest = latest - (latest - year) % 100;
    let dates = [latest, latest - 100].map(|year| Date { year, month, day });
    let mut near = dates.iter().filter_map(|date| date.at(time));
    let at = near.find(|at| at.0 <= limit)?;
    is_weekday(weekday, usize::MAX).then_some(at)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &[u8]) -> Option<Timestamp> {
    let [weekday, month, day, time, year] = parts(text, [3, 3, 2, 8, 4], b"    ")?;
    let day = whole_number(day.strip_prefix(b" ").unwrap_or(day))?;
    let date = Date { year: whole_number(year)?, month: month_of(month)?, day };
    date.at(time).filter(|_| is_weekday(weekday, 3))
}

/// What stands before ` GMT`. No other zone is one (RFC 9111 section 4.2).
fn in_gmt(text: &[u8]) -> Option<&[u8]> {
    let (rest, zone) = text.split_last_chunk::<4>()?;
    zone.eq_ignore_ascii_case(b" GMT").then_some(rest)
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// A year of the calendar, on average.
const YEAR_MS: u64 = 31_556_952 * 1000;
/// Clocks are taken to be before the year 10,000.
const YEAR_10000_MS: u64 = 253_402_300_800_000;

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Date {
    year: u64,
    /// From 0 for January.
    month: usize,
    /// From 1.
    day: u64,
}

impl Date {
    /// The time of this day in the form `08:49:37`; nothing if there is no such day or time.
    fn at(self, time: &[u8]) -> Option<Timestamp> {
        let [hour, minute, second] = parts(time, [2, 2, 2], b"::")?;
        let (hour, minute, second) =
            (whole_number(hour)?, whole_number(minute)?, whole_number(second)?);
        let is_day = self.year >= 1970 && (1..=days_in(self.year, self.month)).contains(&self.day);
        // A leap second is the 60th.
        let is_time = hour < 24 && minute < 60 && second <= 60;
        let seconds = (hour * 60 + minute) * 60 + second;
        (is_day && is_time).then(|| Timestamp(self.days() * DAY_MS + seconds * 1000))
    }

    /// Days since the epoch.
    fn days(self) -> u64 {
        let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
        let years = (self.year - 1970) * 365 + leap_days(self.year - 1) - leap_days(1969);
        let months: u64 = (0..self.month).map(|month| days_in(self.year, month)).sum();
        years + months + self.day - 1
    }
}

/// Whether this is the name of a weekday, or so many letters of one. Which one is not looked at: it adds
/// nothing to the date, and some who write dates get it wrong (RFC 9110 section 5.6.7).
fn is_weekday(name: &[u8], letters: usize) -> bool {
    WEEKDAYS.iter().any(|day| day[..letters.min(day.len())].eq_ignore_ascii_case(name))
}

fn days_in(year: u64, month: usize) -> u64 {
    const DAYS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    DAYS[month] + u64::from(is_leap && month == 1)
}

fn month_of(name: &[u8]) -> Option<usize> {
    MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))
}

/// The parts of a text that have these lengths and stand between these separators.
fn parts<'t, const N: usize>(
    text: &'t [u8],
    lengths: [usize; N],
    separators: &[u8],
) -> Option<[&'t [u8]; N]> {
    let mut rest = text;
    let mut found = [&b""[..]; N];
    for (index, length) in lengths.into_iter().enumerate() {
        (found[index], rest) = rest.split_at_checked(length)?;
        if let Some(separator) = separators.get(index) {
            rest = rest.strip_prefix(&[*separator])?;
        }
    }
    rest.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOV_1994: Timestamp = Timestamp(784_111_777_000);
    /// Mon, 02 Nov 2026 00:00:00 GMT.
    const NOW: Timestamp = Timestamp(1_793_577_600_000);

    fn fields(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
        let values = lines.iter().map(|(name, value)| (name.clone(), *value));
        values.map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
    }

    fn read(text: &str) -> Option<Timestamp> {
        parse(text.as_bytes(), NOW)
    }

    // RFC 9110 section 5.6.7.
    #[test]
    fn all_three_forms_of_a_date_are_read() {
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(NOV_1994));
        assert_eq!(read("Sunday, 06-Nov-94 08:49:37 GMT"), Some(NOV_1994));
        assert_eq!(read("Sun Nov  6 08:49:37 1994"), Some(NOV_1994));
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Timestamp(0)));
        assert_eq!(read("Mon Nov  6 08:49:37 1994"), Some(NOV_1994), "any weekday will do");
        assert_eq!(read("Fri, 31 Dec 9999 23:59:59 GMT"), Some(Timestamp(YEAR_10000_MS - 1000)));
    }

    #[test]
    fn what_is_in_no_form_is_no_date() {
        for text in [
            "0",
            "",
            "-1",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 EST",
            "Sun, 06 Nov 1994 08:49:37GMT",
            "Day, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Wed, 31 Nov 1994 08:49:37 GMT",
            "Wed, 00 Nov 1994 08:49:37 GMT",
            "Wed, 29 Feb 2023 00:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT x",
            "Sun,  06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sun Nov 06 08:49:37 1994 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    // RFC 9111 section 4.2.
    #[test]
    fn a_date_is_read_in_any_case() {
        for text in [
            "sun, 06 nov 1994 08:49:37 gmt",
            "SUNDAY, 06-NOV-94 08:49:37 Gmt",
            "sUN nOV  6 08:49:37 1994",
        ] {
            assert_eq!(read(text), Some(NOV_1994), "{text}");
        }
    }

    #[test]
    fn a_leap_day_is_a_day_and_a_leap_second_is_the_next_minute() {
        assert!(read("Thu, 29 Feb 2024 00:00:00 GMT").is_some());
        assert!(read("Tue, 29 Feb 2000 00:00:00 GMT").is_some());
        let (leap, next) = ("Sat, 31 Dec 2016 23:59:60 GMT", "Sun, 01 Jan 2017 00:00:00 GMT");
        assert_eq!(read(leap), read(next));
    }

    // RFC 9110 section 5.6.7: more than 50 years ahead is a year of the past.
    #[test]
    fn a_year_of_two_digits_is_at_most_fifty_years_ahead() {
        assert_eq!(read("Thursday, 01-Oct-76 00:00:00 GMT"), read("Thu, 01 Oct 2076 00:00:00 GMT"));
        assert_eq!(read("Saturday, 01-Jan-77 00:00:00 GMT"), read("Sat, 01 Jan 1977 00:00:00 GMT"));
        assert_eq!(read("Friday, 31-Dec-99 23:59:59 GMT"), read("Fri, 31 Dec 1999 23:59:59 GMT"));
    }

    // RFC 9111 section 5.3.
    #[test]
    fn an_expires_that_is_no_date_or_stands_twice_has_passed() {
        let later = "Tue, 02 Nov 2027 00:00:00 GMT";
        assert_eq!(expires(&fields(&[]), NOW), None);
        assert_eq!(expires(&fields(&[(EXPIRES, later)]), NOW), read(later));
        for invalid in [vec!["0"], vec![""], vec![later, later], vec!["-1", later]] {
            let lines: Vec<_> = invalid.iter().map(|value| (EXPIRES, *value)).collect();
            assert_eq!(expires(&fields(&lines), NOW), Some(Timestamp(0)), "{invalid:?}");
        }
    }

    // RFC 9110 section 6.6.1.
    #[test]
    fn an_answer_without_a_valid_date_was_made_when_it_came() {
        let (early, late) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:37 GMT");
        assert_eq!(date(&fields(&[]), NOW), NOW);
        assert_eq!(date(&fields(&[(DATE, "today")]), NOW), NOW);
        assert_eq!(date(&fields(&[(DATE, early)]), NOW), NOV_1994);
        assert_eq!(date(&fields(&[(DATE, late), (DATE, early)]), NOW), NOV_1994);
    }

    // RFC 9110 section 6.6.1.
    #[test]
    fn an_answer_without_a_date_gets_the_time_that_it_came_and_no_other_is_touched() {
        let mut none = fields(&[]);
        date_if_none(&mut none, NOV_1994.plus(Duration::from_millis(999)));
        assert_eq!(none, fields(&[(DATE, "Sun, 06 Nov 1994 08:49:37 GMT")]));
        let mut some = fields(&[(DATE, "today")]);
        date_if_none(&mut some, NOV_1994);
        assert_eq!(some, fields(&[(DATE, "today")]));
    }

    // RFC 9111 section 5.1.
    #[test]
    fn age_is_the_first_number_of_its_list() {
        let age = |values: &[&'static str]| {
            age_s(&fields(&values.iter().map(|value| (AGE, *value)).collect::<Vec<_>>()))
        };
        assert_eq!(age(&[]), 0);
        assert_eq!(age(&["600"]), 600);
        assert_eq!(age(&["600, 7"]), 600);
        assert_eq!(age(&["0", "600"]), 0);
        assert_eq!(age(&["abc, 600"]), 600);
        assert_eq!(age(&["-3"]), 0);
        assert_eq!(age(&["1.5"]), 0);
        assert_eq!(age(&["99999999999999999999999"]), 1 << 31);
    }

    #[test]
    fn a_date_is_written_up_to_the_last_second_of_the_year_9999() {
        assert_eq!(&written(NOV_1994), b"Sun, 06 Nov 1994 08:49:37 GMT");
        let last = b"Fri, 31 Dec 9999 23:59:59 GMT";
        assert_eq!(
            [YEAR_10000_MS - 1, YEAR_10000_MS, u64::MAX].map(|at| written(Timestamp(at))),
            [*last; 3]
        );
    }

    proptest! {
        #[test]
        fn a_written_date_is_read_back(seconds in 0_u64..YEAR_10000_MS / 1000) {
            let written = written(Timestamp(seconds * 1000 + 999));
            prop_assert_eq!(parse(&written, NOW), Some(Timestamp(seconds * 1000)));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), now in any::<u64>()) {
            let _ = parse(&bytes, Timestamp(now));
        }

        #[test]
        fn a_date_with_some_bytes_changed_never_panics(
            form in 0..3_usize, at in 0..24_usize, byte in any::<u8>(), now in any::<u64>(),
        ) {
            let forms = [
                "Sun, 06 Nov 1994 08:49:37 GMT",
                "Sunday, 06-Nov-94 08:49:37 GMT",
                "Sun Nov  6 08:49:37 1994",
            ];
            let mut text = forms[form].as_bytes().to_vec();
            text[at] = byte;
            let _ = parse(&text, Timestamp(now));
        }
    }
}
