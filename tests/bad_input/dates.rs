//! Dates in every wrong form: what is no date makes nothing fresh, and meets no condition.

use black_box_tests::plain::text;
use black_box_tests::wire::answer;
use black_box_tests::{Raw, RawAnswer, Server, Wire};

use super::{get, get_raw, in_front_of_each, in_front_of_wire, is_raw_hit, stored};

/// What is no HTTP-date (RFC 9110 section 5.6.7), though some reader may take it for one. `#` stands
/// for the last two digits of a year of this century, in which its 24 November is a Sunday or not.
const NO_DATES: &[&str] = &[
    // Other zones, and none.
    "Sun, 24 Nov 20# 00:00:00",
    "Sun, 24 Nov 20# 00:00:00 UTC",
    "Sun, 24 Nov 20# 00:00:00 UT",
    "Sun, 24 Nov 20# 00:00:00 Z",
    "Sun, 24 Nov 20# 00:00:00 EST",
    "Sun, 24 Nov 20# 00:00:00 PST",
    "Sun, 24 Nov 20# 00:00:00 CET",
    "Sun, 24 Nov 20# 00:00:00 +0000",
    "Sun, 24 Nov 20# 00:00:00 -0800",
    "Sun, 24 Nov 20# 00:00:00 GMT+1",
    "Sun, 24 Nov 20# 00:00:00 GMT GMT",
    "Sun, 24 Nov 20# 00:00:00GMT",
    // Days and times that there are not.
    "Sun, 31 Feb 20# 00:00:00 GMT",
    "Sun, 30 Feb 20# 00:00:00 GMT",
    "Sun, 31 Nov 20# 00:00:00 GMT",
    "Sun, 00 Nov 20# 00:00:00 GMT",
    "Sun, 32 Dec 20# 00:00:00 GMT",
    "Sun, -1 Nov 20# 00:00:00 GMT",
    "Sun, 24 Nov 20# 24:00:00 GMT",
    "Sun, 24 Nov 20# 00:60:00 GMT",
    "Sun, 24 Nov 20# 00:00:61 GMT",
    "Sun, 24 Nov 20# 00:00:-1 GMT",
    "Sun, 24 Nov 20# 00:00 GMT",
    "Sun, 24 Nov 20# 00:00:00.5 GMT",
    "Sun, 24 Nov 20# 00:00:00 PM GMT",
    // Years that are none here.
    "Sun, 24 Nov 0000 00:00:00 GMT",
    "Sun, 24 Nov 0001 00:00:00 GMT",
    "Sun, 24 Nov 1969 23:59:59 GMT",
    "Sun, 24 Nov 10000 00:00:00 GMT",
    "Sun, 24 Nov 99999 00:00:00 GMT",
    "Sun, 24 Nov 020# 00:00:00 GMT",
    "Sun, 24 Nov # 00:00:00 GMT",
    "Sun, 24 Nov +20# 00:00:00 GMT",
    "Sun, 24 Nov -20# 00:00:00 GMT",
    "Sun, 24 Nov 0x# 00:00:00 GMT",
    "Sunday, 24-Nov-20# 00:00:00 GMT",
    // Other spaces, other marks.
    "Sun,  24 Nov 20# 00:00:00 GMT",
    "Sun, 24  Nov 20# 00:00:00 GMT",
    "Sun, 24 Nov  20# 00:00:00 GMT",
    "Sun, 24 Nov 20#  00:00:00 GMT",
    "Sun, 24 Nov 20# 00:00:00  GMT",
    "Sun,24 Nov 20# 00:00:00 GMT",
    "Sun , 24 Nov 20# 00:00:00 GMT",
    "Sun, 24\tNov 20# 00:00:00 GMT",
    "Sun, 24-Nov-20# 00:00:00 GMT",
    "Sun, 24/Nov/20# 00:00:00 GMT",
    "Sun, 24 Nov 20# 00-00-00 GMT",
    "Sun, 24 Nov 20# 0:00:00 GMT",
    "24 Nov 20# 00:00:00 GMT",
    "Sun 24 Nov 20# 00:00:00 GMT",
    "Sun, Nov 24 20# 00:00:00 GMT",
    "Sun, 24 11 20# 00:00:00 GMT",
    "Sunday, 24 Nov 20# 00:00:00 GMT",
    "Sun, 24 November 20# 00:00:00 GMT",
    "Sun Nov 24 00:00:00 20# GMT",
    "Sun Nov 24 00:00:00 GMT 20#",
    "Sun Nov 24 20# 00:00:00",
    // More than a date.
    "Sun, 24 Nov 20# 00:00:00 GMT x",
    "Sun, 24 Nov 20# 00:00:00 GMT; length=5",
    "Sun, 24 Nov 20# 00:00:00 GMT,",
    "Sun, 24 Nov 20# 00:00:00 GMT, Sun, 24 Nov 20# 00:00:00 GMT",
    "x Sun, 24 Nov 20# 00:00:00 GMT",
    "\"Sun, 24 Nov 20# 00:00:00 GMT\"",
    "Sun, 24 Nov 20# 00:00:00 GMT\u{a0}",
    // Other languages, other alphabets.
    "So, 24 Nov 20# 00:00:00 GMT",
    "dim., 24 nov. 20# 00:00:00 GMT",
    "Sun, 24 Okt 20# 00:00:00 GMT",
    "Sun, 24 Dez 20# 00:00:00 GMT",
    "Sun, 24 D\u{e9}c 20# 00:00:00 GMT",
    "Sun, \u{ff12}\u{ff14} Nov 20# 00:00:00 GMT",
    "\u{65e5}, 24 Nov 20# 00:00:00 GMT",
    // Other forms.
    "20#-11-24T00:00:00Z",
    "20#-11-24T00:00:00+00:00",
    "20#-11-24 00:00:00",
    "20#1124T000000Z",
    "20#-W47-7",
    "24.11.20#",
    "11/24/20#",
    "4070908800",
    "@4070908800",
    "3900000000",
    "1000000000000",
    "-1",
    "0",
    "1",
    "",
    " ",
    "never",
    "tomorrow",
    "NaN",
    "%a, %d %b %Y %H:%M:%S GMT",
    "Sun, 24 Nov 20",
];

/// The same in all forms that there are, in any case; the day of the week says nothing.
const DATES: &[&str] = &[
    "Sun, 24 Nov 20# 00:00:00 GMT",
    "sun, 24 nov 20# 00:00:00 gmt",
    "SUN, 24 NOV 20# 00:00:00 GMT",
    "Mon, 24 Nov 20# 00:00:00 GMT",
    "Sun Nov 24 00:00:00 20#",
    "Sun, 24 Nov 20# 00:00:60 GMT",
];

const ONLY_STORED: &str = "cache-control: only-if-cached\r\n";

/// Each of them, with this year.
fn of_year(forms: &[&str], year: u8) -> Vec<String> {
    forms.iter().map(|form| form.replace('#', &year.to_string())).collect()
}

/// Whether what these fields come with answers without its upstream.
async fn kept(config: &str, lines: Vec<String>) -> (Wire, Server, Vec<bool>) {
    let count = lines.len();
    let (upstream, server) = in_front_of_each(config, lines).await;
    let mut kept = Vec::new();
    let mut caller = Raw::open(&server.address).await;
    for index in 0..count {
        let path = format!("/{index}");
        get_raw(&mut caller, &path, "").await;
        kept.push(is_raw_hit(&get_raw(&mut caller, &path, ONLY_STORED).await));
    }
    (upstream, server, kept)
}

#[tokio::test]
async fn what_is_no_date_is_never_a_time_until_which_an_answer_is_fresh() {
    for directive in ["", "cache-control: public, max-age\r\n"] {
        for (forms, expected) in [(NO_DATES, false), (DATES, !directive.contains("max-age"))] {
            // A year to come that is also one of two digits to come.
            let dates = of_year(forms, 60);
            let line = |date: &String| format!("{directive}expires: {date}\r\n");
            let (_upstream, _server, kept) = kept("", dates.iter().map(line).collect()).await;
            for (date, kept) in dates.iter().zip(kept) {
                assert_eq!(kept, expected, "{directive:?} {date:?}");
            }
        }
    }
    let twice = "expires: Sun, 24 Nov 2060 00:00:00 GMT\r\n".repeat(2);
    let (_upstream, _server, kept) = kept("", vec![twice]).await;
    assert_eq!(kept, [false]);
}

#[tokio::test]
async fn what_is_no_date_is_no_change_to_guess_a_lifetime_by() {
    let config = "[[route]]\nendpoint = \"http\"\nheuristic_fresh_max = \"1h\"";
    for (forms, expected) in [(NO_DATES, false), (DATES, true)] {
        let dates = of_year(forms, 20);
        let line = |date: &String| format!("last-modified: {date}\r\n");
        let (_upstream, _server, kept) = kept(config, dates.iter().map(line).collect()).await;
        for (date, kept) in dates.iter().zip(kept) {
            assert_eq!(kept, expected, "{date:?}");
        }
    }
}

/// A `Date` that is none is as if there were none: the answer was made when it came. One of the past
/// makes it old, and one of the future no younger.
#[tokio::test]
async fn no_date_of_an_answer_makes_it_fresh_for_longer_than_it_says() {
    let (past, future) = (of_year(DATES, 20), of_year(DATES, 60));
    let none = [of_year(NO_DATES, 20), of_year(NO_DATES, 60)].concat();
    for (dates, is_old) in [(past, true), (future, false), (none, false)] {
        let line = |date: &String| format!("cache-control: max-age=600\r\ndate: {date}\r\n");
        let lines: Vec<_> = dates.iter().map(line).collect();
        let (_upstream, server, kept) = kept("", lines).await;
        let mut caller = Raw::open(&server.address).await;
        for (index, (date, kept)) in dates.iter().zip(kept).enumerate() {
            assert_eq!(kept, !is_old, "{date:?}");
            let head = get_raw(&mut caller, &format!("/{index}"), ONLY_STORED).await.head;
            let ttl = head.split_once("hit; ttl=").and_then(|(_, ttl)| ttl.split(';').next());
            let ttl: Option<u64> = ttl.map(|ttl| ttl.parse().expect("a number"));
            assert!(ttl.is_none_or(|ttl| ttl <= 600), "{date:?}: {head}");
        }
    }
}

#[tokio::test]
async fn the_earlier_of_two_dates_makes_an_answer_old() {
    let of = |first: &str, second: &str| {
        format!("cache-control: max-age=600\r\ndate: {first}\r\ndate: {second}\r\n")
    };
    let (past, future) = (&of_year(DATES, 20)[0], &of_year(DATES, 60)[0]);
    let lines = vec![of(past, future), of(future, past), of("x", past), of(past, "x")];
    let (_upstream, _server, kept) = kept("", lines).await;
    assert_eq!(kept, [false; 4]);
}

/// A server that has a page stored that was last changed in 2020.
async fn with_a_page_of_2020() -> (Wire, Server) {
    let (upstream, server) = in_front_of_wire("", |request| {
        let conditions = ["if-unmodified-since", "if-match"].map(|name| request.fields(name));
        let seen = conditions.concat().join(" and ");
        let fields =
            "cache-control: max-age=600\r\nlast-modified: Tue, 24 Nov 2020 00:00:00 GMT\r\n";
        if seen.is_empty() {
            answer("200 OK", fields, "page")
        } else {
            answer("412 Precondition Failed", "", &seen)
        }
    })
    .await;
    get(&server, "/page", &[]).await;
    (upstream, server)
}

async fn ask(caller: &mut Raw, fields: &str) -> RawAnswer {
    let target = "GET /page HTTP/1.1\r\nhost: cache\r\n";
    caller.send(format!("{target}{fields}\r\n")).await;
    let head = caller.head().await;
    if head.starts_with("HTTP/1.1 304 ") {
        return RawAnswer { head, body: Vec::new() };
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|length| length.parse().ok()).expect("a length");
    let body = caller.exactly(length).await;
    RawAnswer { head, body }
}

#[tokio::test]
async fn what_is_no_date_tells_nobody_that_nothing_was_modified() {
    let (_upstream, server) = with_a_page_of_2020().await;
    let mut caller = Raw::open(&server.address).await;
    for (forms, expected) in [(NO_DATES, "HTTP/1.1 200 "), (DATES, "HTTP/1.1 304 ")] {
        for date in of_year(forms, 21) {
            let answer = ask(&mut caller, &format!("if-modified-since: {date}\r\n")).await;
            assert!(answer.head.starts_with(expected), "{date:?}: {}", answer.head);
        }
    }
    let twice = "if-modified-since: Wed, 24 Nov 2021 00:00:00 GMT\r\n".repeat(2);
    assert!(ask(&mut caller, &twice).await.head.starts_with("HTTP/1.1 200 "));
    let with_a_tag = "if-modified-since: Wed, 24 Nov 2021 00:00:00 GMT\r\nif-none-match: \"x\"\r\n";
    assert!(ask(&mut caller, with_a_tag).await.head.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn what_is_no_date_gets_no_part() {
    let (_upstream, server) = in_front_of_wire("", |_| {
        let fields = "cache-control: max-age=600\r\ndate: Thu, 24 Nov 2022 00:00:00 GMT\r\n\
                      cdn-cache-control: max-age=600000000\r\n\
                      last-modified: Tue, 24 Nov 2020 00:00:00 GMT\r\n";
        answer("200 OK", fields, "page")
    })
    .await;
    get(&server, "/page", &[]).await;
    let mut caller = Raw::open(&server.address).await;
    // The last form tells of another second.
    for (forms, expected) in [(NO_DATES, "HTTP/1.1 200 "), (&DATES[..5], "HTTP/1.1 206 ")] {
        for date in of_year(forms, 20) {
            let fields = format!("range: bytes=0-1\r\nif-range: {date}\r\n");
            let answer = ask(&mut caller, &fields).await;
            assert!(is_raw_hit(&answer), "{date:?}: {}", answer.head);
            // An empty condition is none that is met.
            assert!(answer.head.starts_with(expected), "{date:?}: {}", answer.head);
        }
    }
}

/// `If-Unmodified-Since` is for the upstream, whatever it says: it gets it as it came.
#[tokio::test]
async fn a_condition_for_the_upstream_reaches_it_in_whatever_form() {
    let (upstream, server) = with_a_page_of_2020().await;
    let mut caller = Raw::open(&server.address).await;
    for date in of_year(NO_DATES, 21) {
        let before = upstream.calls();
        let fields = format!("if-unmodified-since: {date}\r\n");
        let answer = get_raw(&mut caller, "/page", &fields).await;
        assert_eq!(upstream.calls(), before + 1, "{date:?}: {}", answer.head);
        let asked = upstream.requests().pop().expect("a request");
        assert_eq!(asked.fields("if-unmodified-since"), [date.trim_matches(' ')], "{date:?}");
    }
    assert_eq!(text(&stored(&server, "/page").await), "page");
}
