//! Dates: which are read, and which are none (RFC 9110 section 5.6.7, RFC 9111 sections 4.2 and 5.3).

use super::{EXPIRES, FRESH};
use crate::rule::{Rule, must, ok, should};

/// Dates that are none in any of the three forms.
const INVALID: [(&str, &str); 9] = [
    ("0", "0"),
    ("a negative number", "-1"),
    ("a word", "tomorrow"),
    ("nothing", ""),
    ("a date without its comma", "Thu 18 Aug 2050 02:01:18 GMT"),
    ("a date with dashes and a long year", "Thu, 18-Aug-2050 02:01:18 GMT"),
    ("a date with points in its time", "Thu, 18 Aug 2050 02.01.18 GMT"),
    ("a date whose hour has one digit", "Thu, 18 Aug 2050 2:01:18 GMT"),
    ("a date whose year has two digits", "Thu, 18 Aug 50 02:01:18 GMT"),
];

pub(super) fn rules() -> Vec<Rule> {
    let expires = |value: &str| ok().with("expires", value);
    let mut rules = vec![
        must("9110 5.6.7", "a date as the RFC writes it is read")
            .given(EXPIRES)
            .hits(expires("Thu, 18 Aug 2050 02:01:18 GMT")),
        must("9110 5.6.7", "a date as RFC 850 wrote it is read")
            .given(EXPIRES)
            .hits(expires("Thursday, 18-Aug-50 02:01:18 GMT")),
        must("9110 5.6.7", "a date as asctime writes it is read")
            .given(EXPIRES)
            .hits(expires("Mon Aug  8 02:01:18 2050")),
        must("9110 5.6.7", "a date beyond 2^32 seconds is read")
            .given(EXPIRES)
            .hits(expires("Sun, 21 Nov 2286 04:46:39 GMT")),
        should("9110 5.6.7", "a date whose weekday is wrong is read")
            .given(EXPIRES)
            .hits(expires("Thu Aug  8 02:01:18 2050")),
        should("9111 4.2", "a date is read in any case of its weekday")
            .given(EXPIRES)
            .hits(expires("THU, 18 Aug 2050 02:01:18 GMT")),
        should("9111 4.2", "a date is read in any case of its month")
            .given(EXPIRES)
            .hits(expires("Thu, 18 AUG 2050 02:01:18 GMT")),
        should("9111 4.2", "a date is read in any case of its zone")
            .given(EXPIRES)
            .hits(expires("Thu, 18 Aug 2050 02:01:18 gmt")),
        should("9111 4.2", "a date in UTC by that name has passed")
            .given(EXPIRES)
            .misses(expires("Thu, 18 Aug 2050 02:01:18 UTC")),
        should("9111 4.2", "a date in another zone has passed")
            .given(EXPIRES)
            .misses(expires("Thu, 18 Aug 2050 02:01:18 AEST")),
        should(
            "9111 4.2.1",
            "an answer that expires more than once is stale where both are no dates",
        )
        .given(EXPIRES)
        .misses(expires("0").with("expires", "1")),
        must("9111 5.3", "a Date that is no date does no harm to max-age")
            .given(FRESH)
            .hits(ok().with("cache-control", "max-age=3600").with("date", "today")),
    ];
    rules.extend(INVALID.map(|(what, value)| {
        must("9111 5.3", format!("an Expires of {what} has passed"))
            .given(EXPIRES)
            .misses(expires(value))
    }));
    rules
}
