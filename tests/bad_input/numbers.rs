//! Numbers in every wrong form: nothing is fresher for them than the strictest reading allows, and
//! nothing ends.

use black_box_tests::plain::text;
use black_box_tests::wire::answer;
use black_box_tests::{Answer, Raw};

use super::{get, get_raw, in_front_of_each, in_front_of_wire, is_raw_hit, stored};

/// Where a number of seconds saturates (RFC 9111 section 1.2.2).
const MOST: i64 = 1 << 31;

/// Ways to write a number of seconds, and the most that each may stand for.
const SECONDS: &[(&str, i64)] = &[
    ("60", 60),
    ("060", 60),
    ("000000000000000000000000000000000000000060", 60),
    ("\"60\"", 60),
    ("0", 0),
    ("-0", 0),
    ("-1", 0),
    ("-2147483649", 0),
    ("+60", 0),
    ("2147483647", MOST),
    ("2147483648", MOST),
    ("4294967295", MOST),
    ("4294967296", MOST),
    ("4294967356", MOST),
    ("9223372036854775807", MOST),
    ("9223372036854775808", MOST),
    ("18446744073709551615", MOST),
    ("18446744073709551616", MOST),
    ("18446744073709551676", MOST),
    ("9999999999999999999999999999999999999999", MOST),
    ("1e9", 0),
    ("1.5", 0),
    ("60.0", 0),
    ("0x3c", 0),
    ("3c", 0),
    ("60s", 0),
    ("60;x", 0),
    ("6 0", 0),
    ("60 60", 0),
    ("6\t0", 0),
    ("6_0", 0),
    ("6'0", 0),
    ("", 0),
    ("\"\"", 0),
    ("\"60", 0),
    ("60\"", 0),
    ("'60'", 0),
    ("\" 60\"", 0),
    ("\"-60\"", 0),
    ("\u{ff16}\u{ff10}", 0),
    ("\u{0666}\u{0660}", 0),
    ("NaN", 0),
    ("Infinity", 0),
    ("true", 0),
    ("?1", 0),
    ("60, max-age=0, s-maxage=0", 0),
];

/// For how long what stands under a path is fresh yet, at most: 0 if it is not.
async fn fresh_for(caller: &mut Raw, path: &str) -> i64 {
    get_raw(caller, path, "").await;
    let answer = get_raw(caller, path, "cache-control: only-if-cached\r\n").await;
    let ttl = answer
        .head
        .split_once("cache-server; hit; ttl=")
        .and_then(|(_, ttl)| ttl.split(';').next());
    ttl.map_or(0, |ttl| ttl.parse::<i64>().expect("a number").max(0))
}

/// Each line of fields, with a number in the place of `#`, gives an answer this lifetime at most; a
/// plain 60 gives it 60 seconds.
async fn assert_never_fresher(config: &str, line: &str, numbers: &[(&str, i64)]) {
    let of = |number: &str| format!("{}\r\n", line.replace('#', number));
    let lines = numbers.iter().map(|(number, _)| of(number)).collect();
    let (_upstream, server) = in_front_of_each(config, lines).await;
    let mut caller = Raw::open(&server.address).await;
    for (index, (number, most)) in numbers.iter().enumerate() {
        let fresh = fresh_for(&mut caller, &format!("/{index}")).await;
        assert!(fresh <= *most, "{line} with {number:?} is fresh for {fresh}");
        assert!(*number != "60" || fresh >= 50, "{line} with a plain 60 is fresh for {fresh}");
    }
}

#[tokio::test]
async fn a_lifetime_that_is_no_number_makes_nothing_fresh() {
    for line in [
        "cache-control: max-age=#",
        "cache-control: s-maxage=#",
        "cache-control: public, s-maxage=#, max-age=600",
        "cache-control: max-age=#\r\nexpires: Sun, 24 Nov 2086 00:00:00 GMT",
        "cache-control: MAX-AGE=#",
    ] {
        assert_never_fresher("", line, SECONDS).await;
    }
}

#[tokio::test]
async fn a_lifetime_with_space_around_its_sign_makes_nothing_fresher() {
    for line in ["cache-control: max-age =#", "cache-control: max-age= #"] {
        let numbers = SECONDS.iter().filter(|(number, _)| *number != "60").copied();
        assert_never_fresher("", line, &numbers.collect::<Vec<_>>()).await;
    }
}

#[tokio::test]
async fn a_lifetime_for_us_that_is_no_number_makes_nothing_fresh() {
    for line in [
        "cdn-cache-control: max-age=#",
        "cache-server-cache-control: max-age=#",
        "cdn-cache-control: s-maxage=#\r\nexpires: Thu, 01 Jan 1970 00:00:00 GMT",
        "cache-server-cache-control: max-age=0\r\ncdn-cache-control: max-age=600, x=#",
    ] {
        let numbers: Vec<_> = match line.starts_with("cache-server-cache-control: max-age=0") {
            true => SECONDS.iter().map(|(number, _)| (*number, 0)).collect(),
            false => SECONDS.to_vec(),
        };
        // Parameters of a number mean nothing (RFC 9213 section 2.1).
        let is_asserted =
            |(number, most): &(&str, i64)| !(*number == "60" && *most == 0) && *number != "60;x";
        let numbers: Vec<_> = numbers.into_iter().filter(is_asserted).collect();
        assert_never_fresher("", line, &numbers).await;
    }
}

#[tokio::test]
async fn a_lifetime_for_surrogates_that_is_no_number_makes_nothing_fresh() {
    let config = "[[route]]\nendpoint = \"http\"\nsurrogate_control = true";
    // Its numbers may be in quotes, with space around them.
    let numbers = SECONDS.iter().filter(|(number, _)| *number != "\" 60\"").copied();
    let numbers: Vec<_> = numbers.collect();
    assert_never_fresher(config, "surrogate-control: max-age=#", &numbers).await;
    let line = "surrogate-control: max-age=#\r\ncache-control: max-age=0";
    assert_never_fresher(config, line, &numbers).await;
}

/// An invalid `Age` is as if there were none (RFC 9111 section 5.1), and leaves the lifetime as it is.
#[tokio::test]
async fn no_age_makes_an_answer_younger_than_it_came() {
    let ages = [
        ("0", 600),
        ("60", 540),
        ("060", 540),
        ("600", 0),
        ("601", 0),
        ("2147483647", 0),
        ("2147483648", 0),
        ("4294967296", 0),
        ("4294967297", 0),
        ("9223372036854775808", 0),
        ("18446744073709551615", 0),
        ("18446744073709551616", 0),
        ("18446744073709551617", 0),
        ("9999999999999999999999999999999999999999", 0),
        ("700, 5", 0),
        ("700,5", 0),
        ("x, 700", 0),
        (", 700", 0),
        ("700\r\nage: 0", 0),
        ("-700", 600),
        ("+700", 600),
        ("7e2", 600),
        ("700.0", 600),
        ("0x700", 600),
        ("\"700\"", 600),
        ("", 600),
        ("\u{ff17}\u{ff10}\u{ff10}", 600),
        ("-9223372036854775809", 600),
    ];
    let line = |age: &str| format!("cache-control: max-age=600\r\nage: {age}\r\n");
    let lines = ages.iter().map(|(age, _)| line(age)).collect();
    let (_upstream, server) = in_front_of_each("", lines).await;
    let mut caller = Raw::open(&server.address).await;
    for (index, (age, most)) in ages.iter().enumerate() {
        let fresh = fresh_for(&mut caller, &format!("/{index}")).await;
        assert!(fresh <= *most, "{age:?} leaves it fresh for {fresh}");
    }
}

/// How an answer that came a second too old is given: as stale, or from the upstream.
#[tokio::test]
async fn a_stale_window_that_is_no_number_is_none() {
    for name in ["stale-while-revalidate", "stale-if-error"] {
        let line = |number: &str| {
            format!("cache-control: max-age=60, {name}={number}\r\nage: 61\r\netag: \"1\"\r\n")
        };
        let lines: Vec<_> = SECONDS.iter().map(|(number, _)| line(number)).collect();
        let (_upstream, server) = in_front_of_wire("", move |request| {
            let number: usize = request.target()[1..].parse().expect("a number");
            match request.fields("if-none-match").is_empty() {
                true => answer("200 OK", &lines[number], "page"),
                false => answer("500 Internal Server Error", "", "down"),
            }
        })
        .await;
        let mut caller = Raw::open(&server.address).await;
        for (index, (number, most)) in SECONDS.iter().enumerate() {
            let path = format!("/{index}");
            get_raw(&mut caller, &path, "").await;
            let answer = get_raw(&mut caller, &path, "").await;
            let is_stale = answer.text() == "page";
            assert!(*most > 1 || !is_stale, "{name}={number}: {}", answer.head);
            assert!(*number != "60" || is_stale, "{name}: {}", answer.head);
        }
    }
}

#[tokio::test]
async fn no_number_in_a_request_ends_anything_or_gets_what_is_too_old() {
    let lines = vec!["cache-control: max-age=600\r\nage: 61\r\n".to_owned()];
    let (_upstream, server) = in_front_of_each("", lines).await;
    let mut caller = Raw::open(&server.address).await;
    get_raw(&mut caller, "/0", "").await;
    for (number, most) in SECONDS {
        let mut ask = async |directive: &str| {
            let fields = format!("cache-control: only-if-cached, {directive}={number}\r\n");
            get_raw(&mut caller, "/0", &fields).await
        };
        let by_age = ask("max-age").await;
        assert!(*most > 61 || !is_raw_hit(&by_age), "max-age={number}: {}", by_age.head);
        let by_fresh = ask("min-fresh").await;
        assert!(*most <= 539 || !is_raw_hit(&by_fresh), "min-fresh={number}: {}", by_fresh.head);
        for other in ["max-stale", "stale-if-error", "s-maxage"] {
            let head = ask(other).await.head;
            let is_lawful =
                ["HTTP/1.1 200 ", "HTTP/1.1 504 "].iter().any(|line| head.starts_with(line));
            assert!(is_lawful, "{other}={number}: {head}");
        }
    }
    assert!(stored(&server, "/0").await.is_hit());
}

#[tokio::test]
async fn a_range_of_absurd_numbers_gets_bytes_that_are_there_or_none() {
    let (_upstream, server) =
        in_front_of_wire("", |_| answer("200 OK", "cache-control: max-age=600\r\n", "0123456789"))
            .await;
    get(&server, "/page", &[]).await;
    let huge = "9".repeat(40);
    for (range, expected) in [
        ("bytes=0-18446744073709551614".to_owned(), Some("0123456789")),
        ("bytes=0-18446744073709551615".to_owned(), Some("0123456789")),
        ("bytes=0-18446744073709551616".to_owned(), Some("0123456789")),
        (format!("bytes=8-{huge}"), Some("89")),
        (format!("bytes=-{huge}"), Some("0123456789")),
        (format!("bytes={huge}-{huge}"), None),
        (format!("bytes={huge}-"), None),
        ("bytes=18446744073709551615-18446744073709551615".to_owned(), None),
        ("bytes=18446744073709551616-".to_owned(), None),
        ("bytes=-0".to_owned(), None),
        ("bytes=10-".to_owned(), None),
        ("bytes=00-0000000000000000000000001".to_owned(), Some("01")),
    ] {
        let answer = get(&server, "/page", &[("range", &range)]).await;
        assert!(answer.is_hit(), "{range}: {}", answer.cache_status());
        match expected {
            Some(bytes) => {
                assert_eq!((answer.status.as_u16(), text(&answer)), (206, bytes), "{range}");
            }
            None => assert_eq!((answer.status.as_u16(), text(&answer)), (416, ""), "{range}"),
        }
    }
    for none in [
        "bytes=0x0-1",
        "bytes=+0-1",
        "bytes=0-+1",
        "bytes=-1-",
        "bytes=--1",
        "bytes=0-1e1",
        "bytes=0.0-1",
        "bytes=\"0\"-1",
        "bytes=0 -1",
        "bytes=0- 1",
        "bytes=- 1",
        "bytes=1-0",
        "bytes=,",
        "bytes=-",
        "bytes=\u{ff10}-1",
        "bytes =0-1,x",
        "bytes=0-1;q=1",
        "BYTES",
        "=0-1",
    ] {
        let value = http::HeaderValue::from_bytes(none.as_bytes()).expect("a value");
        let request = server.client().request(http::Method::GET, "/page").header("range", value);
        let answer = Answer::of(request).await;
        assert_eq!((answer.status.as_u16(), text(&answer)), (200, "0123456789"), "{none}");
    }
}

/// What says when to come back in no whole number of seconds holds nobody back, or for a minute at most.
#[tokio::test]
async fn no_retry_after_holds_anybody_back_for_longer_than_its_bound() {
    let lines: Vec<_> =
        SECONDS.iter().map(|(number, _)| format!("retry-after: {number}\r\n")).collect();
    let (_upstream, server) = in_front_of_wire("", move |request| {
        let number: usize = request.target()[1..].parse().expect("a number");
        answer("503 Service Unavailable", &lines[number], "later")
    })
    .await;
    let mut caller = Raw::open(&server.address).await;
    for (index, (number, most)) in SECONDS.iter().enumerate() {
        let path = format!("/{index}");
        let tenant = |name: &str| format!("x-api-key: {name} {index}\r\n");
        get_raw(&mut caller, &path, &tenant("one")).await;
        let held = get_raw(&mut caller, &path, &tenant("one")).await;
        assert!(held.head.starts_with("HTTP/1.1 503 "), "{}", held.head);
        if held.text() != "later" {
            assert!(*most > 0, "{number:?} holds back: {}", held.head);
            let waits = held.head.lines().find_map(|line| line.strip_prefix("retry-after: "));
            let waits: u64 = waits.and_then(|waits| waits.parse().ok()).expect("when to come back");
            assert!(waits <= 60, "{number:?} holds back for {waits}");
        }
        let other = get_raw(&mut caller, &path, &tenant("other")).await;
        assert_eq!(other.text(), "later", "another tenant is held back by {number:?}");
    }
}
