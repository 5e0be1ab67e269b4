//! Where settings come from, what `check` says of them, and how they change while the server runs.

use black_box_tests::server::binary;
use black_box_tests::{Answer, Raw, Reply, Server, Setup, Upstream, eventually};
use http::Method;
use serde_json::json;

const EMBEDDINGS: &str = "/v1/embeddings";

fn question(text: &str) -> serde_json::Value {
    json!({"model": "text-embedding-3-small", "input": text})
}

async fn embedding() -> Upstream {
    Upstream::saying(json!({
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }))
    .await
}

/// A config file for one upstream that takes everything, and more lines.
fn in_front_of(upstream: &Upstream, more: &str) -> String {
    let url = upstream.url();
    format!("{more}\n[[upstream]]\nname = \"u\"\nurl = \"{url}\"\nprefix = \"/\"\n")
}

async fn reloads(server: &Server, outcome: &str) -> f64 {
    let series = format!("cache_server_config_reloads_total{{outcome=\"{outcome}\"}}");
    server.metric(&series).await
}

async fn reloaded(server: &Server, outcome: &str, count: f64) {
    eventually(&format!("{count} reloads that are {outcome}"), || async {
        (reloads(server, outcome).await >= count).then_some(())
    })
    .await;
}

/// The line of the log that says this, once it is written.
async fn said(server: &Server, words: &str) -> String {
    eventually(&format!("{words:?} in the log"), || async {
        server.log().lines().find(|line| line.contains(words)).map(Into::into)
    })
    .await
}

#[tokio::test]
async fn the_environment_goes_before_the_file_and_a_flag_before_both() {
    let upstream = embedding().await;
    let lines = in_front_of(&upstream, "[server]\nbody_bytes_max = 10\nheaders_max = 64");
    let body_bytes_max = |setup: Setup| async move {
        let server = Server::start(setup).await;
        let refused = server.client().ask(EMBEDDINGS, &question("x")).await;
        String::from_utf8(refused.body.to_vec()).expect("text")
    };
    let file = || Setup::default().config(&lines);
    let said = body_bytes_max(file()).await;
    assert!(said.contains("may have 10 bytes"), "{said}");
    let variable = || file().variable("CACHE_SERVER_SERVER_BODY_BYTES_MAX", "11");
    let said = body_bytes_max(variable()).await;
    assert!(said.contains("may have 11 bytes"), "{said}");
    let flag = variable().argument("--set").argument("server.body_bytes_max=12");
    let said = body_bytes_max(flag).await;
    assert!(said.contains("may have 12 bytes"), "{said}");
}

#[tokio::test]
async fn an_empty_variable_is_as_good_as_none() {
    let upstream = embedding().await;
    let lines = in_front_of(&upstream, "[server]\nhosts = [\"cache.example\"]\nheaders_max = 64");
    let setup = ["UPSTREAM", "SERVER_HOSTS", "SERVER_HEADERS_MAX", "REUSE"]
        .iter()
        .fold(Setup::default().config(&lines), |setup, name| {
            setup.variable(&format!("CACHE_SERVER_{name}"), " ")
        });
    let server = Server::start(setup).await;
    let elsewhere =
        server.client().post(EMBEDDINGS, &question("x")).header("host", "other.example");
    assert_eq!(Answer::of(elsewhere).await.status, 421);
    let ours = server.client().post(EMBEDDINGS, &question("x")).header("host", "cache.example");
    assert_eq!(Answer::of(ours).await.status, 200);
    assert_eq!(upstream.calls(), 1, "the upstream of the file");
}

#[tokio::test]
async fn to_commands_an_empty_variable_is_as_good_as_none_too() {
    let asked = |command: &str, name: &str| {
        let mut asked = std::process::Command::new(binary("cache-server"));
        asked.arg(command).env(name, "").output().expect("it runs")
    };
    let health = asked("health", "CACHE_SERVER_ADMIN_LISTEN");
    let said = String::from_utf8_lossy(&health.stderr).into_owned();
    // Somebody may be there or not: what is asked is the default.
    assert!(health.status.code() != Some(2) && !said.contains("invalid value"), "{said}");
    let check = asked("check", "CACHE_SERVER_CONFIG");
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stderr));
}

#[tokio::test]
async fn a_variable_that_makes_no_sense_ends_the_start_with_2_and_its_name() {
    for (name, value, allowed) in [
        ("CACHE_SERVER_SERVER_CONNECTIONS_MAX", "many", "a whole number"),
        ("CACHE_SERVER_SERVER_IDLE_TIMEOUT", "0s", "a duration above zero"),
        ("CACHE_SERVER_REUSE", "sometimes", "deterministic, declared or any"),
    ] {
        let (status, said) = Server::run_to_end(Setup::default().variable(name, value)).await;
        assert_eq!(status.code(), Some(2), "{name}: {said}");
        assert!(said.contains(name) && said.contains(allowed), "{name}: {said}");
    }
}

#[tokio::test]
async fn check_says_of_every_value_where_it_comes_from_and_what_it_means() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    let lines = "version = 1\n[server]\nidle_timeout = '1s'\n\
                 [[upstream]]\nname = 'a'\nurl = 'http://u:1'\n";
    std::fs::write(&file, lines).expect("it is written");
    let checked = std::process::Command::new(binary("cache-server"))
        .args(["check", "--listen", "127.0.0.1:1234", "--config"])
        .arg(&file)
        .env("CACHE_SERVER_SERVER_BODY_TIMEOUT", "2s")
        .env("CACHE_SERVER_PORT_80_TCP", "tcp://10.0.0.1:80")
        .output()
        .expect("it runs");
    let said = String::from_utf8(checked.stdout).expect("text");
    assert!(checked.status.success(), "{said}");
    let line_of = |start: &str| {
        let line = said.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("{start} is missing in:\n{said}")).to_owned()
    };
    for (start, origin, meaning) in [
        ("idle_timeout = \"1s\"", "# file:", "Between requests on a connection"),
        ("body_timeout = \"2s\"", "# CACHE_SERVER_SERVER_BODY_TIMEOUT:", "Between two reads"),
        ("listen = \"127.0.0.1:1234\"", "# --listen:", "a change needs a restart"),
        ("headers_max = 128", "# default:", "Fields in a request's header"),
        ("url = \"http://u:1\"", "# file", ""),
        ("protocol = \"auto\"", "# default", ""),
        ("# CACHE_SERVER_PORT_80_TCP", "means nothing", ""),
    ] {
        let line = line_of(start);
        assert!(line.contains(origin) && line.contains(meaning), "{line}");
    }
    assert!(said.ends_with("The config is valid.\n"));
}

#[tokio::test]
async fn a_changed_file_is_taken_over_and_entries_and_connections_stay() {
    let upstream = embedding().await;
    let server = Server::start(Setup::default().config(&in_front_of(&upstream, ""))).await;
    let first = server.client().ask(EMBEDDINGS, &question("kept")).await;
    assert!(first.cache_status().contains("stored"), "{}", first.cache_status());
    let mut open = Raw::open(&server.address).await;
    open.post(EMBEDDINGS, &question("kept").to_string()).await;
    assert!(open.answer().await.head.contains("; hit;"));

    let small = "[server]\nbody_bytes_max = 200\n";
    server.rewrite_config(&in_front_of(&upstream, small));
    reloaded(&server, "applied", 1.0).await;

    open.post(EMBEDDINGS, &question("kept").to_string()).await;
    assert!(open.answer().await.head.contains("; hit;"), "the connection and the entry stay");
    open.post(EMBEDDINGS, &question(&"x".repeat(300)).to_string()).await;
    let refused = open.answer().await;
    assert!(refused.head.starts_with("HTTP/1.1 413"), "the new bound holds: {}", refused.head);
    assert_eq!(upstream.calls(), 1);
    said(&server, "server.body_bytes_max").await;
}

#[tokio::test]
async fn sighup_reads_the_file_anew_and_a_bad_one_changes_nothing_and_says_why() {
    let upstream = embedding().await;
    let good = in_front_of(&upstream, "[server]\nbody_bytes_max = 200\n");
    let server = Server::start(Setup::default().config(&good)).await;
    let refused = || async {
        let answer = server.client().ask(EMBEDDINGS, &question(&"x".repeat(300))).await;
        answer.status == 413
    };
    for (bad, why) in [
        ("[server]\nbody_bytes_max = 'lots'\n", "line 3"),
        ("[server]\nconnections_max = 0\n", "server.connections_max"),
        ("[server]\nunheard_of = 1\n", "unheard_of"),
        ("[server", "line 2"),
    ] {
        let before = reloads(&server, "refused").await;
        server.rewrite_config(&in_front_of(&upstream, bad));
        reloaded(&server, "refused", before + 1.0).await;
        said(&server, why).await;
        assert!(refused().await, "{bad}: the bound of the good file holds");
        assert_eq!(server.metric("cache_server_config_last_reload_successful").await, 0.0);
    }
    server.rewrite_config(&in_front_of(&upstream, ""));
    reloaded(&server, "applied", 1.0).await;
    assert!(!refused().await, "the next good file is taken over");
    assert_eq!(server.metric("cache_server_config_last_reload_successful").await, 1.0);
    server.signal(libc::SIGHUP);
    reloaded(&server, "applied", 2.0).await;
}

#[tokio::test]
async fn an_upstream_can_be_added_moved_and_removed_while_the_server_runs() {
    let (old, new) = (embedding().await, embedding().await);
    let mount = |name: &str, upstream: &Upstream| {
        format!("[[upstream]]\nname = \"{name}\"\nurl = \"{}\"\n", upstream.url())
    };
    let server = Server::start(Setup::default().config(&mount("a", &old))).await;
    let status = |path: &'static str| {
        let client = server.client();
        async move { client.ask(path, &question("x")).await.status.as_u16() }
    };
    assert_eq!((status("/a/v1/embeddings").await, status("/b/v1/embeddings").await), (200, 404));
    server.rewrite_config(&(mount("a", &new) + &mount("b", &old)));
    reloaded(&server, "applied", 1.0).await;
    assert_eq!((status("/a/v1/embeddings").await, status("/b/v1/embeddings").await), (200, 200));
    assert_eq!((old.calls(), new.calls()), (1, 1), "b has what a had cached: it is the same URL");
    server.rewrite_config(&mount("b", &old));
    reloaded(&server, "applied", 2.0).await;
    assert_eq!((status("/a/v1/embeddings").await, status("/b/v1/embeddings").await), (404, 200));
}

#[tokio::test]
async fn what_a_reload_has_replaced_or_removed_is_not_down() {
    let failing = Upstream::start(|_| Reply::bytes("no").status(500)).await;
    let well = embedding().await;
    let mount = |name: &str, upstream: &Upstream| {
        format!("[[upstream]]\nname = \"{name}\"\nurl = \"{}\"\n", upstream.url())
    };
    let config = mount("moved", &failing) + &mount("removed", &failing);
    let server = Server::start(Setup::default().config(&config)).await;
    let up = |name: &str| {
        let series = format!("cache_server_upstream_up{{upstream=\"{name}\"}}");
        let server = &server;
        async move { server.metric(&series).await }
    };
    for path in ["/moved/x", "/removed/x"] {
        for _ in 0..3 {
            assert_eq!(server.client().get(path).await.status, 500);
        }
    }
    assert_eq!((up("moved").await, up("removed").await), (0.0, 0.0));
    server.rewrite_config(&mount("moved", &well));
    reloaded(&server, "applied", 1.0).await;
    assert_eq!((up("moved").await, up("removed").await), (1.0, 1.0));
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_left_as_it_is() {
    let upstream = embedding().await;
    let server = Server::start(Setup::default().config(&in_front_of(&upstream, ""))).await;
    let more = "[server]\nconnections_max = 1\nidle_timeout = \"74s\"\n";
    server.rewrite_config(&in_front_of(&upstream, more));
    reloaded(&server, "applied", 1.0).await;
    let warned = said(&server, "wait for a restart").await;
    assert!(warned.contains("server.connections_max") && !warned.contains("idle"), "{warned}");
    // As it was at the start: nothing waits.
    server.rewrite_config(&in_front_of(&upstream, "[server]\nidle_timeout = \"75s\"\n"));
    reloaded(&server, "applied", 2.0).await;
    assert_eq!(server.log().matches("wait for a restart").count(), 1, "{}", server.log());
}

#[tokio::test]
async fn a_request_keeps_the_settings_that_it_began_with() {
    let (sender, held) = Reply::live("text/event-stream");
    let held = std::sync::Mutex::new(Some(held));
    let upstream = Upstream::start(move |_| {
        let held = held.lock().expect("the reply").take();
        held.unwrap_or_else(|| Reply::json(&json!({})))
    })
    .await;
    let server = Server::start(Setup::default().config(&in_front_of(&upstream, ""))).await;
    let streaming = {
        let client = server.client();
        let body = json!({"model": "m", "stream": true, "messages": []});
        tokio::spawn(async move { Answer::of(client.post("/v1/chat/completions", &body)).await })
    };
    eventually("the call", || async { (upstream.calls() == 1).then_some(()) }).await;
    let other = embedding().await;
    server.rewrite_config(&in_front_of(&other, ""));
    reloaded(&server, "applied", 1.0).await;
    sender.send(Ok("data: [DONE]\n\n".into())).expect("the upstream still sends");
    drop(sender);
    let answer = streaming.await.expect("it ends");
    assert_eq!(&answer.body[..], b"data: [DONE]\n\n");
}

#[tokio::test]
async fn the_schema_is_printed_as_json() {
    let printed =
        std::process::Command::new(binary("cache-server")).arg("schema").output().expect("it runs");
    let schema: serde_json::Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    assert_eq!(schema["title"], "cache-server config");
    assert!(schema["$defs"]["Server"]["properties"]["listen"]["description"].is_string());
}

#[tokio::test]
async fn a_file_that_says_loopback_later_opens_no_admin_listener_that_is_beyond_it() {
    let upstream = embedding().await;
    let listening_on = |address: &str| {
        in_front_of(&upstream, &format!("[server]\nadmin_listen = \"{address}:0\"\n"))
    };
    let server = Server::start(Setup::default().config(&listening_on("0.0.0.0"))).await;
    server.rewrite_config(&listening_on("127.0.0.1"));
    reloaded(&server, "applied", 1.0).await;
    let louder = server.admin_client().request(Method::PUT, "/log").body("debug");
    let answer = Answer::of(louder).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["code"]),
        (403, &json!("admin-token-needed"))
    );
}
