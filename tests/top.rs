//! `cache-server top`: what a running server does, at a glance.

use black_box_tests::sample::{CHAT, EMBEDDINGS, chat, embedding, question};
use black_box_tests::server::{end_of, top};
use black_box_tests::{PATIENCE, Reply, Server, Setup, Terminal, Upstream, eventually};
use serde_json::{Value, json};

/// One miss, three hits and one bypass.
async fn used_server() -> (Upstream, Server) {
    let upstream = Upstream::start(|_| Reply::json(&embedding(0.25))).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for _ in 0..4 {
        server.client().ask(EMBEDDINGS, &question("often")).await;
    }
    let mut sampled = chat(false);
    sampled["temperature"] = json!(1);
    server.client().ask(CHAT, &sampled).await;
    (upstream, server)
}

#[tokio::test]
async fn stats_tell_latencies_models_and_what_became_of_misses() {
    let (_upstream, server) = used_server().await;
    // A request is counted for its model at its end, which its caller may see before.
    let stats = eventually("the bypass's end", || async {
        let stats = server.stats().await;
        stats.pointer("/models/(other)").is_some().then_some(stats)
    })
    .await;
    assert_eq!(stats["miss_reasons"], json!({"stored": 1}));
    let model = json!({"asked": 4, "hits": 3, "tokens_saved": 18});
    assert_eq!(stats["models"]["text-embedding-3-small"], model);
    assert_eq!(stats["models"]["(other)"], json!({"asked": 1, "hits": 0, "tokens_saved": 0}));
    let hits = &stats["latency"]["hit"];
    assert_eq!((&hits["count"], &stats["latency"]["miss"]["count"]), (&json!(3), &json!(1)));
    let counted = hits["buckets"].as_array().expect("buckets").iter();
    assert_eq!(counted.map(|bucket| bucket[1].as_u64().expect("a count")).sum::<u64>(), 3);
    let percentile = |name: &str| hits[name].as_u64().expect("microseconds");
    assert!(percentile("p50_us") <= percentile("p99_us") && percentile("p50_us") > 0, "{hits}");
    assert_eq!(stats["log_lines_dropped"], 0);
    let count = server.metric("cache_server_request_seconds_count{outcome=\"hit\"}").await;
    assert!((count - 3.0).abs() < 0.5, "{count}");
}

#[tokio::test]
async fn a_flood_of_models_that_nobody_answers_fills_no_table() {
    let upstream = Upstream::start(|_| Reply::json(&json!({"error": {}})).status(404)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for number in 0..100 {
        let mut asked = question("x");
        asked["model"] = format!("unheard-of-{number}").into();
        server.client().ask(EMBEDDINGS, &asked).await;
    }
    let models = eventually("the last one's end", || async {
        let models = server.stats().await["models"].take();
        (models["(other)"]["asked"] == 100).then_some(models)
    })
    .await;
    assert_eq!(models.as_object().map(serde_json::Map::len), Some(1), "{models}");
}

fn assert_shows_figures(table: &str) {
    let words = |name: &str| -> Vec<&str> {
        let line = table.lines().find(|line| line.trim_start().starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{table}")).split_whitespace().collect()
    };
    assert!(table.contains("hit ratio 75.0 %"), "{table}");
    for outcome in ["hit ", "miss ", "bypass "] {
        let line = words(outcome);
        assert!(line[1] != "0.0" && line[2] != "–", "{line:?} in\n{table}");
    }
    assert_eq!(words("stale ")[1..], ["0.0", "–", "–", "–"]);
    assert_eq!(words("openai.embeddings")[2..], ["75.0", "%"]);
    assert_eq!(words("text-embedding-3-small")[2..], ["75.0", "%", "18"]);
    words("not-deterministic");
}

#[tokio::test]
async fn on_a_pipe_it_prints_one_plain_table_and_ends() {
    let (_upstream, server) = used_server().await;
    for arguments in [&[][..], &["--once"][..]] {
        let ended = server.top(arguments).await;
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        assert_shows_figures(&ended.stdout);
        assert!(!ended.stdout.contains('\u{1b}'), "{}", ended.stdout);
    }
}

#[tokio::test]
async fn once_ends_with_1_and_says_so_where_no_server_is() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let ended = end_of(top(&nobody, &["--once"])).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains(&format!("no figures from http://{nobody}/stats")));
    assert_eq!(ended.stderr.matches("/stats").count(), 1, "{}", ended.stderr);
}

#[tokio::test]
async fn on_a_terminal_it_follows_the_server_until_it_is_stopped() {
    let (_upstream, mut server) = used_server().await;
    let terminal = Terminal::open();
    let mut command = top(&server.admin, &["--interval", "100ms"]);
    let mut child = command.stdout(terminal.other_end()).spawn().expect("it starts");
    let shows = |what: &'static str| {
        let text = terminal.text();
        async move { text.contains(what).then_some(()) }
    };
    eventually("the first table", || shows("since its start")).await;
    eventually("a table of an interval", || shows("in the last")).await;
    assert!(terminal.text().contains("text-embedding-3-small"), "{}", terminal.text());
    server.kill().await;
    eventually("that the server is away", || shows("Trying again every 100 ms")).await;
    let id = child.id().expect("it runs").to_string();
    let sent = std::process::Command::new("kill").args(["-2", &id]).status();
    assert!(sent.expect("kill runs").success());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends");
    assert!(status.expect("it ran").success());
    eventually("the cursor", || async { terminal.text().ends_with("\u{1b}[?25h").then_some(()) })
        .await;
}

#[tokio::test]
async fn what_is_no_server_of_ours_is_said() {
    let upstream = Upstream::saying(Value::String("hello".into())).await;
    let address = upstream.url().trim_start_matches("http://").to_owned();
    let ended = end_of(top(&address, &["--once"])).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("it answers with something else"), "{}", ended.stderr);
}
