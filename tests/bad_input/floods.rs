//! Floods: of variants, tags, keys, ranges, conditions and fields. What is kept of them is bounded, and
//! what others have stays right.

use black_box_tests::plain::{field, text};
use black_box_tests::wire::answer;
use black_box_tests::{Answer, Client, Raw, Received, Reply, Server, Setup, Upstream, Wire};
use futures_util::future::join_all;
use http::Method;
use serde_json::json;

use super::{KEPT, get, get_raw, in_front_of_wire, is_raw_hit, stored};

/// Asks for all of them on a few connections, a batch at a time, and shows each answer's body.
async fn ask_all(server: &Server, requests: &[String], each: impl Fn(usize, &str)) {
    const CONNECTIONS: usize = 8;
    const BATCH: usize = 25;
    let batches: Vec<_> = requests.chunks(BATCH).enumerate().collect();
    let share = async |connection: usize| {
        let mut caller = Raw::open(&server.address).await;
        for (number, batch) in batches.iter().skip(connection).step_by(CONNECTIONS) {
            caller.send(batch.concat()).await;
            for index in 0..batch.len() {
                let answer = caller.answer().await;
                assert!(answer.head.starts_with("HTTP/1.1 200 "), "{}", answer.head);
                each(number * BATCH + index, &answer.text());
            }
        }
    };
    join_all((0..CONNECTIONS).map(share)).await;
}

#[tokio::test]
async fn an_answer_that_varies_with_a_flood_of_fields_is_for_its_caller_alone() {
    let (upstream, server) = in_front_of_wire("", |request| {
        let count = request.target().trim_start_matches('/').parse().unwrap_or(0);
        let names: Vec<_> = (0..count).map(|index| format!("x-{index}")).collect();
        let vary =
            if count == 0 { String::new() } else { format!("vary: {}\r\n", names.join(", ")) };
        answer("200 OK", &format!("{KEPT}{vary}"), &request.fields("x-0").concat())
    })
    .await;
    get(&server, "/other", &[]).await;
    for (count, is_kept) in [(16, true), (17, false), (1000, false)] {
        let path = format!("/{count}");
        for value in ["a", "b"] {
            get(&server, &path, &[("x-0", value)]).await;
            let again = get(&server, &path, &[("x-0", value)]).await;
            assert_eq!((text(&again), again.is_hit()), (value, is_kept), "{count}");
            assert!(is_kept || again.cache_status().contains("detail=vary-too-many"));
        }
        assert!(stored(&server, "/other").await.is_hit());
    }
    assert_eq!(upstream.calls(), 1 + 2 + 4 + 4);
}

/// An answer whose fields to vary with change each time never has more of them counted than its bound.
#[tokio::test]
async fn fields_to_vary_with_that_change_each_time_add_up_to_a_bound() {
    let (_upstream, server) = in_front_of_wire("", |request| {
        let name = request.fields("x-says").concat();
        answer("200 OK", &format!("{KEPT}vary: {name}\r\n"), &request.fields(&name).concat())
    })
    .await;
    for index in 0..40 {
        let name = format!("x-{index}");
        let fields = [("x-says", name.as_str()), (&name, "mine"), ("cache-control", "no-cache")];
        get(&server, "/page", &fields).await;
        let other = get(&server, "/page", &[("x-says", &name), (&name, "other")]).await;
        assert_eq!(text(&other), "other", "{name}");
    }
}

#[tokio::test]
async fn a_flood_of_values_of_a_varied_field_leaves_others_their_own() {
    const FLOOD: usize = 10_000;
    let (_upstream, server) = in_front_of_wire("", |request| {
        let language = request.fields("accept-language").concat();
        answer("200 OK", &format!("{KEPT}vary: accept-language\r\n"), &language)
    })
    .await;
    let victim = [("accept-language", "victim")];
    get(&server, "/page", &victim).await;
    get(&server, "/other", &victim).await;
    let request = |index: usize| {
        format!("GET /page HTTP/1.1\r\nhost: cache\r\naccept-language: l{index}\r\n\r\n")
    };
    let requests: Vec<_> = (0..FLOOD).map(request).collect();
    ask_all(&server, &requests[..FLOOD / 10], |_, _| ()).await;
    let held = server.process_bytes("VmRSS");
    ask_all(&server, &requests[FLOOD / 10..], |index, body| {
        assert_eq!(body, format!("l{}", index + FLOOD / 10));
    })
    .await;
    let grown = server.process_bytes("VmRSS").saturating_sub(held);
    assert!(grown < 64 << 20, "{grown} bytes more are held");
    assert_eq!(text(&get(&server, "/page", &victim).await), "victim");
    assert!(get(&server, "/other", &victim).await.is_hit());
    let mut variants = 0;
    let mut caller = Raw::open(&server.address).await;
    for index in FLOOD - 200..FLOOD {
        let fields = format!("accept-language: l{index}\r\ncache-control: only-if-cached\r\n");
        variants += usize::from(is_raw_hit(&get_raw(&mut caller, "/page", &fields).await));
    }
    assert!(variants <= 64, "{variants} variants of one key");
}

/// An upstream whose answers have these lines of fields.
async fn tagging(lines: Vec<Vec<u8>>) -> (Wire, Server) {
    in_front_of_wire("", move |request| {
        let number: usize = request.target().trim_start_matches('/').parse().expect("a number");
        let head = format!("HTTP/1.1 200 OK\r\n{KEPT}content-length: 4\r\n");
        [head.as_bytes(), &lines[number], b"\r\n\r\npage"].concat()
    })
    .await
}

/// What an answer with tags beyond a bound does is documented: it is not stored. Whatever is stored
/// is reached by a purge of each of its tags.
#[tokio::test]
async fn a_flood_of_tags_is_not_stored_or_purged_by_each_of_them() {
    let list = |count: usize, separator: &str| {
        (0..count).map(|index| format!("t{index}")).collect::<Vec<_>>().join(separator)
    };
    let groups = |count: usize| {
        (0..count).map(|index| format!("\"t{index}\"")).collect::<Vec<_>>().join(", ")
    };
    let long = "t".repeat(300);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (format!("surrogate-key: {}", list(64, " ")).into(), "t63"),
        (format!("surrogate-key: {}", list(65, " ")).into(), "t64"),
        (format!("cache-tag: {}", list(65, ",")).into(), "t64"),
        (format!("surrogate-key: {}", list(20_000, " ")).into(), "t19999"),
        (format!("cache-tag: {}", list(20_000, ",")).into(), "t19999"),
        (format!("cache-groups: {}", groups(64)).into(), "t63"),
        (format!("cache-groups: {}", groups(65)).into(), "t64"),
        (format!("cache-groups: {}", groups(10_000)).into(), "t9999"),
        (format!("surrogate-key: {long} t1").into(), "t1"),
        (format!("surrogate-key: {long}").into(), &long),
        (format!("surrogate-key: {}", "\t ".repeat(5000) + "t1").into(), "t1"),
        (format!("cache-tag: {}", ",".repeat(50_000) + "t1").into(), "t1"),
        ("surrogate-key: caf\u{e9} t1".into(), "t1"),
        ("surrogate-key: caf\u{e9} t1".into(), "caf\u{e9}"),
        ("cache-tag: \u{65e5}\u{672c}, t1".into(), "\u{65e5}\u{672c}"),
        (b"surrogate-key: t1 caf\xe9".into(), "t1"),
        (b"cache-tag: t1, \xff\xfe".into(), "t1"),
        (b"surrogate-key: a\x01b t1".into(), "t1"),
        (b"surrogate-key: a\x00b t1".into(), "t1"),
        (b"surrogate-key: a\tb t1".into(), "b"),
        (b"surrogate-key: t0\r\nsurrogate-key: t1\r\ncache-tag: t2".into(), "t1"),
    ];
    let (_upstream, server) = tagging(cases.iter().map(|(line, _)| line.clone()).collect()).await;
    for (index, (line, tag)) in cases.iter().enumerate() {
        let path = format!("/{index}");
        let shown: String = String::from_utf8_lossy(line).chars().take(60).collect();
        let first = get(&server, &path, &[]).await;
        assert!(matches!(first.status.as_u16(), 200 | 502), "{shown}: {}", first.cache_status());
        let order = json!({ "tags": [tag] });
        let purged = Answer::of(server.admin_client().post("/purge", &order)).await;
        let is_refused = purged.status.as_u16() != 200;
        let is_stored = stored(&server, &path).await.is_hit();
        assert!(!is_stored, "{shown} outlives a purge by {tag:?} (refused: {is_refused})");
    }
}

#[tokio::test]
async fn a_flood_of_groups_to_invalidate_reaches_what_is_of_them() {
    let names = |count: usize| (0..count).map(|index| format!("\"g{index}\"")).collect::<Vec<_>>();
    let (_upstream, server) = in_front_of_wire("", move |request| {
        if request.head.starts_with(b"POST ") {
            let list = names(4000).join(", ");
            return answer("200 OK", &format!("cache-group-invalidation: {list}\r\n"), "done");
        }
        answer("200 OK", &format!("{KEPT}cache-groups: \"g3999\"\r\n"), "page")
    })
    .await;
    get(&server, "/page", &[]).await;
    assert!(stored(&server, "/page").await.is_hit());
    Answer::of(server.client().request(Method::POST, "/change")).await;
    assert!(!stored(&server, "/page").await.is_hit());
}

/// 10,000 URLs of one page by query parameters that mean nothing.
#[tokio::test]
async fn a_flood_of_keys_holds_no_more_than_its_bound_and_leaves_what_is_asked_for_right() {
    const FLOOD: usize = 10_000;
    let cache = "[cache]\nmemory_bytes_max = \"8MiB\"\ndisk_bytes_max = 0";
    let (upstream, server) = in_front_of_wire(cache, |request| {
        let body = format!("{:<2048}", request.target());
        answer("200 OK", KEPT, &body)
    })
    .await;
    let request = |index: usize| match index % 50 {
        0 => "GET /hot HTTP/1.1\r\nhost: cache\r\n\r\n".to_owned(),
        _ => format!("GET /page?utm={index} HTTP/1.1\r\nhost: cache\r\n\r\n"),
    };
    let requests: Vec<_> = (0..FLOOD).map(request).collect();
    // By then the memory has been filled once.
    ask_all(&server, &requests[..FLOOD / 2], |_, _| ()).await;
    let held = server.process_bytes("VmRSS");
    ask_all(&server, &requests[FLOOD / 2..], |index, body| match index % 50 {
        0 => assert_eq!(body.trim_end(), "/hot"),
        _ => assert_eq!(body.trim_end(), format!("/page?utm={}", index + FLOOD / 2)),
    })
    .await;
    let grown = server.process_bytes("VmRSS").saturating_sub(held);
    assert!(grown < 16 << 20, "{grown} bytes more are held");
    let hot = upstream.requests().iter().filter(|request| request.target() == "/hot").count();
    assert!(hot <= FLOOD / 50 / 4, "what is asked for often was fetched {hot} times");
}

#[tokio::test]
async fn a_range_bomb_over_http2_gets_no_more_than_the_whole_and_a_little() {
    const WHOLE: usize = (8 << 20) - 1024;
    let upstream = Upstream::start(|_| {
        Reply::bytes(vec![b'x'; WHOLE]).with("cache-control", "max-age=600").with("etag", "\"1\"")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = Client::h2c(&server.address);
    let get = async |range: &str| {
        let request = client.request(Method::GET, "/page");
        let request = if range.is_empty() { request } else { request.header("range", range) };
        Answer::of(request).await
    };
    get("").await;
    let apart = |count: usize, bytes: usize| {
        let step = WHOLE / count;
        (0..count).map(|at| format!("{}-{}", at * step, at * step + bytes - 1)).collect::<Vec<_>>()
    };
    let overlapping: Vec<_> = (0..16).map(|at| format!("{at}-")).collect();
    let backwards: Vec<_> = apart(16, WHOLE / 16).into_iter().rev().collect();
    for parts in [
        apart(16, 1),
        apart(16, WHOLE / 16),
        backwards,
        overlapping,
        vec!["-8000000".to_owned(); 16],
        vec!["0-".to_owned(); 16],
        apart(17, WHOLE / 17),
        apart(2000, 1),
        vec!["0-0".to_owned(); 10_000],
    ] {
        let asked = parts.len();
        let answer = get(&format!("bytes={}", parts.join(","))).await;
        assert!(matches!(answer.status.as_u16(), 200 | 206), "{asked}");
        assert!(answer.is_hit(), "{asked}: {}", answer.cache_status());
        let overhead = 16 * 256;
        assert!(answer.body.len() <= WHOLE + overhead, "{asked}: {}", answer.body.len());
        assert_eq!(answer.field("content-length"), answer.body.len().to_string());
    }
    assert_eq!(upstream.calls(), 1);
}

/// What is in memory is cut and given without a copy for each caller.
#[tokio::test]
async fn a_crowd_of_range_bombs_holds_no_copy_for_each() {
    const WHOLE: usize = (8 << 20) - 1024;
    const CROWD: usize = 32;
    // So much that an entry of this size has a place in memory.
    let cache = "[cache]\nmemory_bytes_max = \"8GiB\"\ndisk_bytes_max = 0";
    let upstream =
        Upstream::start(|_| Reply::bytes(vec![b'x'; WHOLE]).with("cache-control", "max-age=600"))
            .await;
    let server = Server::start(Setup::in_front_of(&upstream).config(cache)).await;
    get(&server, "/page", &[]).await;
    let again = get(&server, "/page", &[]).await;
    assert!(again.is_hit(), "{}", again.cache_status());
    let before = server.process_bytes("VmRSS");
    let mut callers = Vec::new();
    for _ in 0..CROWD {
        let mut caller = Raw::open(&server.address).await;
        let range = "bytes=0-2000000,3000000-5000000,6000000-";
        caller.send(format!("GET /page HTTP/1.1\r\nhost: cache\r\nrange: {range}\r\n\r\n")).await;
        // It has begun, and is not read any further.
        assert!(caller.head().await.starts_with("HTTP/1.1 206 "));
        callers.push(caller);
    }
    let grown = server.process_bytes("VmRSS").saturating_sub(before);
    assert!(grown < (CROWD * WHOLE / 4) as u64, "{grown} bytes are held for {CROWD} callers");
}

/// What is too large for memory is read from disk for each caller, as far as there is room.
#[tokio::test]
async fn callers_who_take_nothing_hold_no_more_copies_from_disk_than_there_is_room_for() {
    const WHOLE: usize = (8 << 20) - 8192;
    const CROWD: usize = 24;
    let upstream =
        Upstream::start(|_| Reply::bytes(vec![b'x'; WHOLE]).with("cache-control", "max-age=600"))
            .await;
    let bound = "[server]\nbuffered_bytes_max = \"34MiB\"";
    let server = Server::start(Setup::in_front_of(&upstream).config(bound)).await;
    get(&server, "/page", &[]).await;
    let from_disk = async || {
        let again = get(&server, "/page", &[]).await;
        again.cache_status().ends_with("detail=disk").then_some(())
    };
    black_box_tests::eventually("it is on disk", from_disk).await;
    let before = server.process_bytes("VmRSS");
    let mut callers = Vec::new();
    for _ in 0..CROWD {
        let mut caller = Raw::open(&server.address).await;
        caller.send("GET /page HTTP/1.1\r\nhost: cache\r\nrange: bytes=1-\r\n\r\n").await;
        // It has begun, and is not read any further.
        assert!(caller.head().await.starts_with("HTTP/1.1 20"));
        callers.push(caller);
    }
    let grown = server.process_bytes("VmRSS").saturating_sub(before);
    assert!(grown < (CROWD * WHOLE / 2) as u64, "{grown} bytes are held for {CROWD} callers");
    let errors = "cache_server_tier_errors_total{tier=\"disk\",kind=\"buffers-full\"}";
    assert!(server.metric(errors).await > 0.0, "the others went past it");
    drop(callers);
    black_box_tests::eventually("there is room again", from_disk).await;
}

#[tokio::test]
async fn a_bomb_of_ranges_on_what_is_not_stored_is_the_upstreams_to_refuse() {
    let upstream = Upstream::start(|received: &Received| match field(received, "range") {
        "" => Reply::bytes(vec![b'x'; 1 << 20]).with("cache-control", "max-age=600"),
        _ => Reply::bytes("").status(416),
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for range in [
        format!("bytes={}", vec!["0-"; 1000].join(",")),
        "bytes=0-0".to_owned(),
        "bytes=9-1".to_owned(),
        "lines=1-2".to_owned(),
        "bytes=".to_owned(),
    ] {
        let answer = get(&server, "/page", &[("range", &range)]).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (416, 0), "{range}");
    }
    let asked = upstream.received();
    assert!(asked.iter().all(|asked| !field(asked, "range").is_empty()), "never widened");
}

/// So many tags are looked at; behind them none is found, and the whole is the answer.
#[tokio::test]
async fn a_flood_of_tags_that_a_caller_has_gets_the_whole_or_is_refused() {
    let large = "[server]\nheader_bytes_max = \"2MiB\"";
    for (config, is_read) in [(large, true), ("", false)] {
        let (_upstream, server) = in_front_of_wire(config, |_| {
            answer("200 OK", &format!("{KEPT}etag: \"mine\"\r\n"), "page")
        })
        .await;
        get(&server, "/page", &[]).await;
        let flood = vec!["\"x\""; 100_000].join(",");
        for (tags, status) in [
            (format!("\"mine\",{flood}"), "304"),
            (format!("W/\"mine\",{flood}"), "304"),
            (format!("{flood},\"mine\""), "200"),
            (flood, "200"),
        ] {
            let mut caller = Raw::open(&server.address).await;
            let fields = format!("if-none-match: {tags}\r\nconnection: close\r\n");
            let request = format!("GET /page HTTP/1.1\r\nhost: cache\r\n{fields}\r\n");
            let _ = caller.try_send(request).await;
            let told = String::from_utf8_lossy(&caller.rest().await).into_owned();
            // Who is refused while it still sends may be told so or cut off.
            let expected =
                if is_read { format!("HTTP/1.1 {status} ") } else { "HTTP/1.1 431 ".into() };
            let is_cut = !is_read && told.is_empty();
            assert!(told.starts_with(&expected) || is_cut, "{tags:.20}: {told:.80}");
        }
        assert!(stored(&server, "/page").await.is_hit());
    }
}

#[tokio::test]
async fn what_a_flood_of_directives_hides_still_forbids() {
    let many = |directive: &str, count: usize| vec![directive; count].join(",");
    let hidden: Vec<(String, bool)> = vec![
        (format!("cache-control: max-age=600, {}\r\n", many("x", 10_000)), false),
        (
            format!(
                "cache-control: {}, no-store\r\ncache-control: max-age=600\r\n",
                many("a=1", 9000)
            ),
            false,
        ),
        (format!("cache-control: {}, private\r\n", many("max-age=600", 5000)), false),
        (format!("cache-control: {}, max-age=600\r\n", many("", 10_000)), true),
        (
            format!("cache-control: max-age=600, x=\"{}\", no-store\r\n", many("public", 9000)),
            false,
        ),
        (format!("cache-control: max-age=600, private=\"{}\"\r\n", many("x-a", 10_000)), false),
        (format!("cache-control: max-age=600, no-cache=\"{}\"\r\n", many("x-a", 10_000)), false),
        (
            format!(
                "cache-control: no-store\r\ncdn-cache-control: max-age=600, x=\"{}\"\r\n",
                many("y", 50_000)
            ),
            false,
        ),
        (
            format!(
                "cache-control: no-store\r\ncdn-cache-control: {}\r\n",
                many("max-age=600", 9000)
            ),
            false,
        ),
        (
            format!(
                "cache-control: private\r\ncdn-cache-control: max-age=600{}\r\n",
                ";a".repeat(50_000)
            ),
            false,
        ),
        (
            format!(
                "cache-control: private\r\nsurrogate-control: max-age=600{}\r\n",
                ";a".repeat(50_000)
            ),
            false,
        ),
    ];
    let lines: Vec<_> = hidden.iter().map(|(lines, _)| lines.clone()).collect();
    let (_upstream, server) = super::in_front_of_each("", lines).await;
    for (index, (lines, may_be_stored)) in hidden.iter().enumerate() {
        let path = format!("/{index}");
        let first = get(&server, &path, &[]).await;
        assert!(matches!(first.status.as_u16(), 200 | 502), "{lines:.60}");
        let is_stored = stored(&server, &path).await.is_hit();
        assert!(*may_be_stored || !is_stored, "{lines:.60}");
    }
}

#[tokio::test]
async fn what_a_flood_of_a_callers_directives_hides_still_counts() {
    let (upstream, server) = in_front_of_wire("", |_| answer("200 OK", KEPT, "page")).await;
    get(&server, "/page", &[]).await;
    let flood = vec!["a"; 10_000].join(",");
    for directive in ["no-store", "no-cache", "max-age=0"] {
        let before = upstream.calls();
        let value = format!("{flood},{directive}");
        let answer = get(&server, "/page", &[("cache-control", &value)]).await;
        assert!(!answer.is_hit(), "{directive}: {}", answer.cache_status());
        assert_eq!(upstream.calls(), before + 1);
    }
    assert!(stored(&server, "/page").await.is_hit());
}

#[tokio::test]
async fn a_flood_of_anothers_cache_status_goes_before_our_own() {
    let line = "cache-status: cache-server; hit; ttl=99999; key=\"evil\"\r\n";
    let (_upstream, server) = in_front_of_wire("", move |request| {
        let count: usize = request.target().trim_start_matches('/').parse().expect("a number");
        let joined = "cache-server; hit, ".repeat(count);
        let fields = format!("{KEPT}{}cache-status: {joined}x\r\n", line.repeat(count.min(90)));
        answer("200 OK", &fields, "page")
    })
    .await;
    for count in [1, 90, 1000] {
        let path = format!("/{count}");
        for round in 0..2 {
            let answer = get(&server, &path, &[]).await;
            assert_eq!(answer.status.as_u16(), 200, "{count}");
            assert_eq!(answer.is_hit(), round == 1, "{count}: {}", answer.cache_status());
            assert!(!answer.cache_status().contains("evil"));
        }
    }
    let (_upstream, server) = in_front_of_wire("", move |_| {
        answer("200 OK", &format!("{KEPT}{}", line.repeat(1000)), "page")
    })
    .await;
    let answer = get(&server, "/page", &[]).await;
    assert!(matches!(answer.status.as_u16(), 200 | 502), "whole or not at all");
    assert!(!answer.is_hit() && !answer.cache_status().contains("evil"));
}

#[tokio::test]
async fn a_flood_of_hops_passes_within_the_bounds_of_a_head_and_is_in_no_key() {
    let (upstream, server) = in_front_of_wire("", |_| answer("200 OK", KEPT, "page")).await;
    get(&server, "/page", &[]).await;
    for name in ["via", "cdn-loop", "x-forwarded-for", "forwarded"] {
        for (count, is_taken) in [(100, true), (200, false)] {
            let lines = format!("{name}: 1.1 hop\r\n").repeat(count);
            let mut caller = Raw::open(&server.address).await;
            let answer = get_raw(&mut caller, "/page", &lines).await;
            assert_eq!(is_raw_hit(&answer), is_taken, "{name}: {}", answer.head);
            assert!(is_taken || answer.head.starts_with("HTTP/1.1 431 "), "{}", answer.head);
        }
        let long = vec!["1.1 hop"; 5000].join(", ");
        let mut caller = Raw::open(&server.address).await;
        let lines = format!("{name}: {long}\r\ncache-control: no-store\r\n");
        let answer = get_raw(&mut caller, "/page", &lines).await;
        assert!(answer.head.starts_with("HTTP/1.1 200 "), "{name}: {}", answer.head);
        let asked = upstream.requests().pop().expect("a request");
        assert_eq!(asked.fields(name)[0], long);
        assert!(asked.fields("via").iter().any(|hop| hop.contains("cache-server")));
    }
}
