//! What the server says of its requests, on a terminal and elsewhere, and how loud it is.

use std::sync::Arc;
use std::time::Instant;

use black_box_tests::calls::SECRET;
use black_box_tests::frames::RST_STREAM;
use black_box_tests::sample::{CHAT, EMBEDDINGS, chat, embedding, question, recorded};
use black_box_tests::upstream::{Gate, cut};
use black_box_tests::{Answer, Frames, Raw, Reading, Reply, Server, Setup, Upstream, eventually};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

/// Answers embeddings, chats and, with an error, everything else.
async fn upstream() -> Upstream {
    let chat = recorded("openai-chat-completions/whole.json");
    Upstream::start(move |request| match request.uri.path() {
        EMBEDDINGS => Reply::json(&embedding(0.25)),
        CHAT => Reply::bytes(chat.clone()).with("content-type", "application/json"),
        _ => Reply::bytes("{}").status(404),
    })
    .await
}

fn sampled() -> Value {
    let mut sampled = chat(false);
    sampled["temperature"] = json!(1);
    sampled
}

/// A hit, a miss, a bypass, a request beside the model routes and a refusal.
async fn ask_in_every_way(server: &Server) {
    let client = server.client();
    client.ask(EMBEDDINGS, &question("once")).await;
    client.ask(EMBEDDINGS, &question("once")).await;
    client.ask(CHAT, &sampled()).await;
    client.ask("/v1/files?key=in-the-query", &json!({})).await;
    client.get("/_cache/v1/nothing").await;
}

/// Every line of a log in JSON that is on a request, once there are so many.
async fn request_events(server: &Server, count: usize) -> Vec<Value> {
    eventually(&format!("{count} lines on requests"), || async {
        let log = server.log();
        let events = log.lines().map(|line| serde_json::from_str(line).expect(line));
        let events: Vec<Value> = events.filter(|e: &Value| e["target"] == "requests").collect();
        (events.len() >= count).then_some(events)
    })
    .await
}

/// Every line on a request of a log in text, without its time of day, once there are so many.
async fn request_lines(server: &Server, count: usize) -> Vec<String> {
    let of_request = |line: &str| {
        let (time, rest) = line.split_at_checked("00:00:00 ".len())?;
        let is_time = time.bytes().all(|b| b.is_ascii_digit() || b == b':' || b == b' ');
        is_time.then(|| rest.to_owned())
    };
    eventually(&format!("{count} lines on requests"), || async {
        let log = server.log();
        // The last line may still be being written.
        let whole = &log[..log.rfind('\n')? + 1];
        let lines: Vec<String> = whole.lines().filter_map(of_request).collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

/// Replaces how loud the log is.
async fn set_level(server: &Server, directives: &str) -> Answer {
    let asked = server.admin_client().request(Method::PUT, "/log");
    Answer::of(asked.body(directives.to_owned())).await
}

#[tokio::test]
async fn elsewhere_every_line_is_a_json_object_and_each_request_has_one() {
    let upstream = upstream().await;
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    ask_in_every_way(&server).await;
    let events = request_events(&server, 5).await;
    let embeddings = json!({
        "level": "INFO", "target": "requests", "message": "request", "status": 200,
        "route": "openai.embeddings", "model": "text-embedding-3-small",
        "input_tokens": 6, "output_tokens": 0,
    });
    let mut miss = embeddings.clone();
    miss["outcome"] = json!("miss");
    miss["reason"] = json!("stored");
    let mut hit = embeddings;
    hit["outcome"] = json!("hit");
    hit["reason"] = json!("memory");
    let file = json!({
        "level": "INFO", "target": "requests", "message": "request", "outcome": "bypass",
        "route": "other", "status": 404, "reason": "not-a-model-route",
        "advice": "Declare the route in a [[key_spec]], if its answers can be reused.",
    });
    let refused = json!({
        "level": "INFO", "target": "requests", "message": "request", "outcome": "refused",
        "route": "other", "status": 404, "reason": "no-such-address",
    });
    for (event, expected) in [(0, miss), (1, hit), (3, file), (4, refused)] {
        let mut event = events[event].clone();
        let members = event.as_object_mut().expect("an object");
        let time = members.remove("timestamp").expect("its time");
        assert!(time.as_str().is_some_and(|time| time.ends_with('Z')), "{time}");
        assert!(members.remove("took_us").is_some_and(|took| took.is_u64()), "{event}");
        assert_eq!(event, expected);
    }
    let bypass = &events[2];
    assert_eq!((&bypass["outcome"], &bypass["model"]), (&json!("bypass"), &json!("gpt-4o-mini")));
    assert!(bypass["advice"].as_str().is_some_and(|advice| advice.contains("temperature 0")));
    server.stop().await;
    let log = server.log();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).expect(line);
        assert!(event["message"].is_string() && event["timestamp"].is_string(), "{line}");
    }
    for said in ["Listening on http://", "draining", "stopped"] {
        assert!(log.contains(said), "{said} is not in the log:\n{log}");
    }
}

#[tokio::test]
async fn on_a_terminal_each_request_is_one_short_line() {
    let upstream = upstream().await;
    let setup = Setup::in_front_of(&upstream).on_a_terminal();
    let server = Server::start(setup).await;
    ask_in_every_way(&server).await;
    let lines = request_lines(&server, 5).await;
    let words: Vec<Vec<&str>> =
        lines.iter().map(|l| l.split("  ").map(str::trim).collect()).collect();
    let words: Vec<Vec<&str>> =
        words.into_iter().map(|w| w.into_iter().filter(|w| !w.is_empty()).collect()).collect();
    let asked = ["text-embedding-3-small", "openai.embeddings"];
    for (line, outcome, reason) in [(&words[0], "miss", "stored"), (&words[1], "hit", "memory")] {
        assert_eq!((line[0], [line[1], line[2]]), (outcome, asked));
        assert!(line[3].ends_with(" µs") || line[3].ends_with(" ms") || line[3].ends_with(" s"));
        assert_eq!(line[4..], ["6→0 tokens", reason], "{lines:#?}");
    }
    assert_eq!((words[3][0], words[3][1], words[3][3]), ("bypass", "other", "404"), "{lines:#?}");
    assert_eq!(words[4][..2], ["refused", "other"]);
    assert_eq!(words[4][3..], ["404", "no-such-address"]);
    let log = server.log();
    assert!(log.contains("\nListening on http://127.0.0.1:"), "{log}");
    assert!(!log.contains('{') && !log.contains("in-the-query"), "{log}");
}

#[tokio::test]
async fn advice_is_given_once_and_the_reason_always() {
    let upstream = upstream().await;
    let setup = Setup::in_front_of(&upstream).on_a_terminal();
    let server = Server::start(setup).await;
    let started = Instant::now();
    for _ in 0..3 {
        server.client().ask(CHAT, &sampled()).await;
    }
    let lines = request_lines(&server, 3).await;
    assert!(lines[0].contains("  not-deterministic: Send temperature 0"), "{lines:#?}");
    // On a machine that takes so long, it is due once more.
    if started.elapsed().as_secs() < 10 {
        for line in &lines[1..] {
            assert!(line.starts_with("bypass") && line.ends_with("  not-deterministic"), "{line}");
        }
    }
}

#[tokio::test]
async fn beyond_the_bound_requests_are_counted_and_none_is_forgotten() {
    let upstream = upstream().await;
    let setup = Setup::in_front_of(&upstream).config("[log]\nrequests_per_second_max = 3");
    let mut server = Server::start(setup).await;
    let client = server.client();
    let started = Instant::now();
    for _ in 0..200 {
        client.ask(EMBEDDINGS, &question("again")).await;
    }
    let seconds = usize::try_from(started.elapsed().as_secs()).expect("few") + 2;
    server.stop().await;
    // Its last words may be read a moment after its end.
    let told = |events: &[Value]| -> u64 {
        events.iter().map(|event| event["rest"].as_u64().unwrap_or(1)).sum()
    };
    let events = eventually("all 200 requests", || async {
        let events = request_events(&server, 1).await;
        (told(&events) >= 200).then_some(events)
    })
    .await;
    assert_eq!(told(&events), 200);
    let (lines, rests): (Vec<_>, Vec<_>) = events.iter().partition(|e| e["message"] == "request");
    assert!(lines.len() <= 3 * seconds, "{} lines in {seconds} seconds", lines.len());
    for event in rests {
        let message = event["message"].as_str().expect("text");
        assert_eq!(message, format!("… and {} more requests", event["rest"]));
        assert!(event["outcomes"].as_str().is_some_and(|by| by.ends_with(" hit")), "{event}");
    }
}

#[tokio::test]
async fn on_a_terminal_the_requests_beyond_the_bound_are_one_line() {
    let upstream = upstream().await;
    let setup = Setup::in_front_of(&upstream).config("[log]\nrequests_per_second_max = 0");
    let mut server = Server::start(setup.on_a_terminal()).await;
    for text in ["one", "one", "two"] {
        server.client().ask(EMBEDDINGS, &question(text)).await;
    }
    server.client().get("/_cache/v1/x").await;
    server.stop().await;
    let lines = request_lines(&server, 1).await;
    let mut counted = 0;
    for line in &lines {
        let (count, outcomes) = line
            .strip_prefix("… and ")
            .and_then(|rest| rest.split_once(" more requests: "))
            .unwrap_or_else(|| panic!("{line}"));
        let count: u32 = count.parse().expect("a count");
        let each =
            outcomes.split(", ").filter_map(|part| part.split(' ').next()?.parse::<u32>().ok());
        assert_eq!(count, each.sum::<u32>(), "{line}");
        counted += count;
    }
    assert_eq!(counted, 4, "{lines:#?}");
}

#[tokio::test]
async fn an_answer_that_was_cut_off_says_by_whom() {
    let (first, reply) = Reply::live("text/event-stream");
    let (second, other) = Reply::live("text/event-stream");
    let (third, past) = Reply::live("text/plain");
    let replies = std::sync::Mutex::new(vec![past, other, reply]);
    let next = move |_: &_| replies.lock().expect("replies").pop().expect("one more");
    let upstream = Upstream::start(next).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    let event = b"data: {}\n\n";

    let mut leaves = Reading::of(client.post(CHAT, &chat(true))).await;
    first.send(Ok(Bytes::from_static(event))).expect("it is read");
    leaves.expect(event).await;
    drop(leaves);
    request_events(&server, 1).await;

    let mut body = chat(true);
    body["seed"] = json!(2);
    let mut is_left = Reading::of(client.post(CHAT, &body)).await;
    second.send(Ok(Bytes::from_static(event))).expect("it is read");
    is_left.expect(event).await;
    second.send(cut()).expect("it is read");
    assert!(is_left.rest().await.is_err());
    request_events(&server, 2).await;

    let mut passed = Reading::of(client.request(Method::POST, "/v1/files")).await;
    third.send(Ok(Bytes::from_static(b"half"))).expect("it is read");
    passed.expect(b"half").await;
    third.send(cut()).expect("it is read");
    assert!(passed.rest().await.is_err());
    let events = request_events(&server, 3).await;
    let told: Vec<_> = events.iter().map(|e| (&e["outcome"], &e["cut_off_by"])).collect();
    let expected = [("miss", "caller"), ("miss", "upstream"), ("bypass", "upstream")]
        .map(|(o, c)| (json!(o), json!(c)));
    assert_eq!(told, expected.iter().map(|(o, c)| (o, c)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_answer_is_told_of() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| Reply::json(&embedding(0.25)).held_by(&holds)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for (number, request) in [
        server.client().post(EMBEDDINGS, &question("held")),
        server.client().request(Method::GET, "/v1/files"),
    ]
    .into_iter()
    .enumerate()
    {
        let waiting = tokio::spawn(request.send());
        let asked = || async { (upstream.calls() == number + 1).then_some(()) };
        eventually("the upstream is asked", asked).await;
        waiting.abort();
        let events = request_events(&server, number + 1).await;
        assert_eq!(events[number]["cut_off_by"], "caller", "{events:#?}");
        assert_eq!(events[number].get("status"), None, "there was no answer: {events:#?}");
    }
    gate.open();
}

#[tokio::test]
async fn a_request_over_its_time_has_one_line_and_its_caller_is_not_blamed() {
    let (live, begun) = Reply::live("text/event-stream");
    let begun = std::sync::Mutex::new(Some(begun));
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |request| match request.uri.path() {
        CHAT => begun.lock().expect("the reply").take().expect("asked once"),
        _ => Reply::json(&embedding(0.25)).held_by(&holds),
    });
    let upstream = upstream.await;
    let bound = "[server]\nrequest_timeout = \"500ms\"";
    let server = Server::start(Setup::in_front_of(&upstream).config(bound)).await;
    for (number, request) in [
        server.client().post(EMBEDDINGS, &question("held")),
        server.client().request(Method::GET, "/v1/files"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(Answer::of(request).await.status, 504);
        let event = request_events(&server, number + 1).await.pop().expect("a line");
        assert_eq!((&event["outcome"], &event["status"]), (&json!("refused"), &json!(504)));
        assert_eq!(event["reason"], "request-timeout");
        assert_eq!(event.get("cut_off_by"), None, "{event}");
    }
    live.send(Ok(Bytes::from_static(b"data: {}\n\n"))).expect("it is read");
    let cut = Reading::of(server.client().post(CHAT, &chat(true))).await;
    assert!(cut.rest().await.is_err());
    let events = request_events(&server, 3).await;
    assert_eq!(events.len(), 3, "one line for each request: {events:#?}");
    assert_eq!(
        (&events[0]["model"], &events[0]["route"]),
        (&json!("text-embedding-3-small"), &json!("openai.embeddings"))
    );
    assert_eq!(
        (&events[2]["outcome"], &events[2]["cut_off_by"]),
        (&json!("miss"), &json!("timeout"))
    );
    assert_eq!(server.stats().await["requests"], json!({"miss": 1, "refused": 2}));
    gate.open();
}

#[tokio::test]
async fn whole_answers_of_every_form_are_not_called_cut() {
    let stream = recorded("openai-chat-completions/whole.sse");
    let upstream = Upstream::start(move |request| match request.uri.path() {
        CHAT => Reply::events(stream.clone()),
        "/empty" => Reply::bytes("").status(204),
        "/chunked" => Reply::bytes("in chunks").without_length(),
        _ => Reply::bytes("declared"),
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    for (method, path) in [
        (Method::GET, "/declared"),
        (Method::HEAD, "/declared"),
        (Method::GET, "/chunked"),
        (Method::GET, "/empty"),
    ] {
        Answer::of(client.request(method, path)).await;
    }
    client.ask(CHAT, &chat(true)).await;
    client.ask(CHAT, &chat(true)).await;
    let events = request_events(&server, 6).await;
    for event in &events {
        assert_eq!(event.get("cut_off_by"), None, "{event}");
    }
    assert_eq!((&events[4]["outcome"], &events[4]["reason"]), (&json!("miss"), &json!("stored")));
    assert_eq!(events[5]["outcome"], "hit");
}

#[tokio::test]
async fn no_line_tells_a_credential_or_a_prompt_however_loud_the_log_is() {
    const PROMPT: &str = "a very private question";
    for on_a_terminal in [false, true] {
        let upstream = upstream().await;
        let setup = Setup::in_front_of(&upstream).argument("--log-level").argument("trace");
        let setup = if on_a_terminal { setup.on_a_terminal() } else { setup };
        let mut server = Server::start(setup).await;
        let client = server.client();
        let mut private = chat(false);
        private["messages"][0]["content"] = PROMPT.into();
        for field in ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"] {
            for (path, body) in [(EMBEDDINGS, question(PROMPT)), (CHAT, private.clone())] {
                let path = format!("{path}?key={SECRET}");
                let asked = client.request(Method::POST, &path).header(field, SECRET);
                Answer::of(asked.body(body.to_string())).await;
            }
        }
        client.get(&format!("/v1/files/{SECRET}?key={SECRET}")).await;
        client.get(&format!("/_cache/{SECRET}")).await;
        // Malformed, so that it is the HTTP library that has something to say.
        let mut caller = Frames::open(&server.address, &[]).await;
        caller.get(1, &format!("/v1/a file?key={SECRET}"), &[("x-api-key", SECRET)]).await;
        caller.expect(RST_STREAM, 1).await;
        // The last of what was asked is in the log, so that there is something to search.
        let said = || async { server.log().contains("no-such-address").then_some(()) };
        eventually("the last line", said).await;
        server.stop().await;
        for secret in [SECRET, PROMPT] {
            assert!(!server.log().contains(secret), "{secret:?} is in:\n{}", server.log());
        }
    }
}

#[tokio::test]
async fn a_models_name_is_shown_without_what_a_terminal_would_obey() {
    let upstream = upstream().await;
    let setup = Setup::in_front_of(&upstream).on_a_terminal();
    let server = Server::start(setup).await;
    let mut hostile = sampled();
    hostile["model"] = json!(format!("m\u{1b}[2J\u{7}\r\n12:00:00 hit\u{202e}{}", "x".repeat(150)));
    server.client().ask(CHAT, &hostile).await;
    server.client().get("/_cache/v1/last").await;
    let lines = request_lines(&server, 2).await;
    assert!(lines[0].starts_with("bypass     m\\u{1b}[2J\\u{7}\\r\\n12:00:00 hit"), "{lines:#?}");
    assert!(!lines[0].contains("xxxxxxxxxx") && lines[0].contains('…'), "{lines:#?}");
    assert!(lines[1].starts_with("refused"), "{lines:#?}");
    // Warnings of the start may be in colours.
    let log = server.log();
    let (_, log) = log.split_once("Listening on").expect("it listens");
    for character in ['\u{1b}', '\u{7}', '\u{202e}'] {
        assert!(!log.contains(character), "{character:?} is in {log:?}");
    }
}

#[tokio::test]
async fn how_loud_the_log_is_changes_while_it_runs() {
    let upstream = upstream().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let admin = server.admin_client();
    let before = "info,foyer=warn,foyer_storage=warn,foyer_memory=warn\n";
    assert_eq!(admin.get("/log").await.body, before);
    server.client().ask(EMBEDDINGS, &question("heard")).await;
    request_events(&server, 1).await;

    let quiet = set_level(&server, "info,requests=off").await;
    assert_eq!((quiet.status.as_u16(), quiet.body.as_ref()), (200, &b"info,requests=off\n"[..]));
    assert_eq!(admin.get("/log").await.body, "info,requests=off\n");
    server.client().get("/_cache/v1/unheard").await;
    set_level(&server, " debug , requests = info\n").await;
    server.client().ask(EMBEDDINGS, &question("heard again")).await;
    let events = request_events(&server, 2).await;
    let reasons: Vec<_> = events.iter().map(|event| &event["outcome"]).collect();
    assert_eq!(reasons, ["miss", "miss"], "the refusal between them is not logged");
    // A connection that ends badly is told of at debug, and only there.
    Raw::open(&server.address).await.send("no request\r\n\r\n").await;
    let said = || async { server.log().contains("\"level\":\"DEBUG\"").then_some(()) };
    eventually("a line at debug", said).await;
}

#[tokio::test]
async fn directives_that_are_none_are_named_and_change_nothing() {
    let upstream = upstream().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let before = server.admin_client().get("/log").await.body;
    let too_long = "info,".repeat(300);
    for (directives, status, code, named) in [
        ("info,foyer=loud", 400, "bad-directives", "\"foyer=loud\""),
        ("inof", 400, "bad-directives", "\"inof\""),
        ("", 400, "bad-directives", "\"\""),
        ("info,requests[span]=off", 400, "bad-directives", "requests[span]=off"),
        (too_long.as_str(), 413, "body-too-large", "1024 bytes"),
    ] {
        let answer = set_level(&server, directives).await;
        assert_eq!(answer.status, status, "{directives}");
        assert_eq!(answer.field("content-type"), "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{directives}");
        assert!(problem["detail"].as_str().is_some_and(|d| d.contains(named)), "{problem}");
    }
    let invalid = server.admin_client().request(Method::PUT, "/log").body(vec![b'i', 0xff]);
    assert_eq!(Answer::of(invalid).await.json()["code"], "bad-directives");
    let posted = server.admin_client().request(Method::POST, "/log").body("off");
    assert_eq!(Answer::of(posted).await.status, 405, "a form of another site could post");
    assert_eq!(server.admin_client().get("/log").await.body, before);
}

#[tokio::test]
async fn the_level_comes_from_the_flag_then_the_environment_then_the_file() {
    let upstream = upstream().await;
    let file = || {
        let setup = Setup::in_front_of(&upstream).variable("RUST_LOG", "off");
        setup.config("[log]\nlevel = \"info,from_file=warn\"")
    };
    let variable = || file().variable("CACHE_SERVER_LOG_LEVEL", "info,from_variable=warn");
    let flag = variable().argument("--log-level").argument("info,from_flag=warn");
    for (setup, from) in [(file(), "from_file"), (variable(), "from_variable"), (flag, "from_flag")]
    {
        let server = Server::start(setup).await;
        let level = server.admin_client().get("/log").await.body;
        assert_eq!(level, format!("info,{from}=warn\n"));
        server.client().get("/_cache/v1/x").await;
        request_events(&server, 1).await;
    }
    let (status, said) = Server::run_to_end(file().argument("--log-level").argument("loud")).await;
    assert_eq!(status.code(), Some(2));
    assert!(said.contains("(log.level): loud"), "{said}");
}

#[tokio::test]
async fn with_an_admin_token_only_who_shows_it_changes_state() {
    const TOKEN: &str = "an-admin-token";
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("token");
    std::fs::write(&path, format!("{TOKEN}\n")).expect("it is written");
    let upstream = upstream().await;
    let in_file = format!("[server]\nadmin_token_file = \"{}\"", path.display());
    let from_file = Setup::in_front_of(&upstream).config(&in_file);
    let wrong_file = in_file.replace("/token", "/none");
    let from_variable = Setup::in_front_of(&upstream).variable("CACHE_SERVER_ADMIN_TOKEN", TOKEN);
    for setup in [from_file, from_variable.admin_listening_on("0.0.0.0:0")] {
        let mut server = Server::start(setup.argument("--log-level").argument("trace")).await;
        let put = |value: Option<&str>| {
            let asked = server.admin_client().request(Method::PUT, "/log").body("trace,a=warn");
            let asked = value.into_iter().fold(asked, |asked, v| asked.header("authorization", v));
            Answer::of(asked)
        };
        for wrong in [None, Some("Bearer another"), Some("Bearer "), Some(TOKEN)] {
            let answer = put(wrong).await;
            assert_eq!(answer.status, 401, "{wrong:?}");
            assert_eq!(answer.json()["code"], "admin-token-wrong");
            assert_eq!(answer.field("www-authenticate"), "Bearer");
        }
        assert_eq!(server.admin_client().get("/log").await.body, "trace\n", "reading is open");
        assert_eq!(put(Some(&format!("Bearer {TOKEN}"))).await.body, "trace,a=warn\n");
        server.stop().await;
        assert!(!server.log().contains(TOKEN), "{}", server.log());
    }
    let checked = Server::check(&wrong_file).await;
    assert_eq!(checked.status.code(), Some(2));
    assert!(checked.stderr.contains("server.admin_token_file"), "{}", checked.stderr);
}

#[tokio::test]
async fn without_an_admin_token_only_loopback_changes_state_and_no_browser() {
    let upstream = upstream().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let port = server.admin.rsplit(':').next().expect("a port");
    let put = |server: &Server, name: &'static str, value: String| {
        let asked = server.admin_client().request(Method::PUT, "/log").header(name, value);
        Answer::of(asked.body("info"))
    };
    for (name, value, code) in [
        ("host", format!("rebound.example:{port}"), "admin-host-not-local"),
        ("origin", "https://other.example".to_owned(), "admin-from-browser"),
        ("origin", "null".to_owned(), "admin-from-browser"),
    ] {
        let answer = put(&server, name, value).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (403, &json!(code)));
    }
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        assert_eq!(put(&server, "host", format!("{host}:{port}")).await.status, 200, "{host}");
    }
    let open = Setup::in_front_of(&upstream).admin_listening_on("0.0.0.0:0");
    let open = Server::start(open).await;
    let answer = put(&open, "host", "127.0.0.1".to_owned()).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["code"]),
        (403, &json!("admin-token-needed"))
    );
}
