//! A server's life: how it starts, how it ends when asked and when killed, and what it finds of
//! its own when it starts again.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::Gate;
use black_box_tests::{Raw, Reading, Reply, Server, Setup, Upstream, eventually};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

/// An upstream whose answer is held until the gate opens.
async fn held_upstream() -> (Arc<Gate>, Upstream) {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let reply = move |_: &_| Reply::json(&embedding(0.25)).held_by(&holds);
    (gate, Upstream::start(reply).await)
}

/// The answer to a numbered question tells its number, padded so that it spans disk pages.
fn numbered(number: usize) -> Value {
    let mut answer = embedding(0.25);
    answer["padding"] = format!("<{number}>").repeat(2_000).into();
    answer
}

async fn numbering_upstream() -> Upstream {
    Upstream::start(|request| {
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        let number = body["input"].as_str().expect("text").parse().expect("a number");
        Reply::json(&numbered(number))
    })
    .await
}

async fn ask_upstream_calls(upstream: &Upstream, calls: usize) {
    let arrived = || async { (upstream.calls() == calls).then_some(()) };
    eventually("the request is upstream", arrived).await;
}

/// Waits until nobody can connect any more.
async fn refuses_connections(server: &Server) {
    let refused = || async { TcpStream::connect(&server.address).await.err().map(|_| ()) };
    eventually("connections are refused", refused).await;
}

#[tokio::test]
async fn its_memory_comes_in_small_pages() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    assert_eq!(server.process_status("THP_enabled"), "0");
}

#[tokio::test]
async fn either_signal_ends_it_cleanly() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut server = Server::start(Setup::in_front_of(&upstream)).await;
        server.client().ask(EMBEDDINGS, &question("before")).await;
        server.signal(signal);
        let status = server.ended().await;
        assert_eq!(status.code(), Some(0), "signal {signal}: {}", server.log());
    }
}

#[tokio::test]
async fn while_it_drains_it_takes_nothing_new_and_finishes_what_it_has_begun() {
    let (gate, upstream) = held_upstream().await;
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    let mut passing = Raw::open(&server.address).await;
    passing.send("GET /v1/files HTTP/1.1\r\nhost: cache\r\n\r\n").await;
    let mut cached = Raw::open(&server.address).await;
    cached.post(EMBEDDINGS, &question("under way").to_string()).await;
    ask_upstream_calls(&upstream, 2).await;
    let idle = Raw::open(&server.address);

    assert_eq!(server.admin_client().get("/readyz").await.status, 200);
    let mut idle = idle.await;
    server.signal(libc::SIGTERM);
    refuses_connections(&server).await;
    let ready = server.admin_client().get("/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.body.as_ref()), (503, &b"draining\n"[..]));
    assert_eq!(server.admin_client().get("/healthz").await.status, 200);
    assert_eq!(idle.rest().await, b"", "a connection that idles is closed");

    gate.open();
    for caller in [&mut passing, &mut cached] {
        let answer = caller.answer().await;
        assert!(answer.head.starts_with("HTTP/1.1 200 "), "{}", answer.head);
        assert_eq!(answer.text(), embedding(0.25).to_string());
    }
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.log());
}

#[tokio::test]
async fn a_stream_under_way_arrives_whole_while_it_drains() {
    let (live, reply) = Reply::live("text/event-stream");
    let reply = std::sync::Mutex::new(Some(reply));
    let upstream =
        Upstream::start(move |_| reply.lock().expect("the reply").take().expect("asked once"));
    let upstream = upstream.await;
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    live.send(Ok("data: 1\n\n".into())).expect("the upstream reads");
    let mut caller = Reading::of(server.client().post(EMBEDDINGS, &question("stream"))).await;
    caller.expect(b"data: 1\n\n").await;
    server.signal(libc::SIGTERM);
    refuses_connections(&server).await;
    live.send(Ok("data: 2\n\n".into())).expect("the upstream reads");
    caller.expect(b"data: 2\n\n").await;
    drop(live);
    assert_eq!(caller.rest().await.expect("a clean end"), "");
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.log());
}

#[tokio::test]
async fn a_fill_without_readers_finishes_while_it_drains_and_is_found_after_the_restart() {
    let (gate, upstream) = held_upstream().await;
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    let mut caller = Raw::open(&server.address).await;
    caller.post(EMBEDDINGS, &question("left").to_string()).await;
    ask_upstream_calls(&upstream, 1).await;
    drop(caller);
    server.signal(libc::SIGTERM);
    refuses_connections(&server).await;
    gate.open();
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.log());

    let server = server.start_again().await;
    let found = server.client().ask(EMBEDDINGS, &question("left")).await;
    assert!(found.is_hit(), "{}", found.cache_status());
    assert_eq!((found.json(), upstream.calls()), (embedding(0.25), 1));
}

#[tokio::test]
async fn the_drain_deadline_cuts_what_does_not_finish() {
    let (_gate, upstream) = held_upstream().await;
    for path in [EMBEDDINGS, "/v1/files"] {
        let setup = Setup::in_front_of(&upstream).config("[server]\ndrain_timeout = \"300ms\"");
        let mut server = Server::start(setup).await;
        let mut caller = Raw::open(&server.address).await;
        let calls = upstream.calls();
        caller.post(path, &question("never").to_string()).await;
        ask_upstream_calls(&upstream, calls + 1).await;
        server.signal(libc::SIGTERM);
        assert_eq!(server.ended().await.code(), Some(0), "{path}: {}", server.log());
        assert_eq!(caller.rest().await, b"", "{path}: nothing that looks like an answer");
        let said =
            || async { server.log().contains("cut off at the drain deadline").then_some(()) };
        eventually("a word of it in the log", said).await;
    }
}

#[tokio::test]
async fn a_killed_server_starts_again_and_serves_what_it_had_written() {
    let upstream = numbering_upstream().await;
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    // What is queued for the disk dies with the process: one round may lose all of it, but no
    // round may lose what an earlier one left on disk.
    let mut found = 0;
    for round in 0..20 {
        let client = server.client();
        for number in 0..20 {
            let answer = client.ask(EMBEDDINGS, &question(&number.to_string())).await;
            assert_eq!(answer.json(), numbered(number), "round {round}");
        }
        let hits = server.stats().await["hits_by_tier"]["disk"].as_u64().unwrap_or(0);
        assert!(hits >= found, "round {round}: {hits} of {found} entries are left");
        found = hits;
        if found > 0 && round >= 2 {
            return;
        }
        server.kill().await;
        server = server.start_again().await;
    }
    panic!("nothing was ever found on disk");
}

#[tokio::test]
async fn damaged_files_never_make_a_wrong_answer() {
    const COUNT: usize = 40;
    let upstream = numbering_upstream().await;
    for (case, stride) in [
        ("a byte in every page", 4096),
        ("a byte in most entries", 12_289),
        ("a byte here and there", 50_021),
        ("everything", 1),
    ] {
        let mut server = Server::start(Setup::in_front_of(&upstream)).await;
        let client = server.client();
        for number in 0..COUNT {
            client.ask(EMBEDDINGS, &question(&number.to_string())).await;
        }
        server.stop().await;
        let damaged = damage(&server.data_dir(), stride);
        assert!(damaged > 0, "{case}: nothing was damaged");

        let calls = upstream.calls();
        let server = server.start_again().await;
        let client = server.client();
        let mut fetched = 0;
        for number in 0..COUNT {
            let answer = client.ask(EMBEDDINGS, &question(&number.to_string())).await;
            assert!(answer.json() == numbered(number), "{case}: a wrong answer to {number}");
            fetched += usize::from(!answer.is_hit());
        }
        assert_eq!(upstream.calls() - calls, fetched, "{case}: what is no hit was fetched");
        assert!(fetched > 0, "{case}: the damage met no entry");
    }
}

/// Flips a bit in every `stride`th byte that is written in the files under `folder`; gives the
/// number of bytes that it changed.
fn damage(folder: &Path, stride: usize) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            damaged += damage(&path, stride);
            continue;
        }
        let mut bytes = std::fs::read(&path).expect("a file");
        let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { continue };
        for byte in bytes[..=last].iter_mut().skip(stride / 2).step_by(stride) {
            *byte ^= 0x10;
            damaged += 1;
        }
        std::fs::write(&path, bytes).expect("the file is written");
    }
    damaged
}

#[tokio::test]
async fn a_data_folder_in_use_is_refused_by_name() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let second = server.run_beside().await;
    assert_eq!(second.status.code(), Some(1), "{}", second.stderr);
    let folder = server.data_dir().display().to_string();
    assert!(second.stderr.contains(&folder), "{} lacks {folder}", second.stderr);
    assert_eq!(server.client().ask(EMBEDDINGS, &question("still")).await.status, 200);
}

#[tokio::test]
async fn a_killed_servers_data_folder_is_free_again() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    server.kill().await;
    let server = server.start_again().await;
    assert_eq!(server.client().ask(EMBEDDINGS, &question("again")).await.status, 200);
}

#[tokio::test]
async fn the_data_folder_is_its_owners_alone() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let folder = std::fs::metadata(server.data_dir()).expect("the data folder");
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn an_address_in_use_is_said_clearly() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let setup = Setup::in_front_of(&upstream).listening_on(&address);
    let (status, said) = Server::run_to_end(setup).await;
    assert_eq!(status.code(), Some(1), "{said}");
    for word in [address.as_str(), "server.listen", "in use"] {
        assert!(said.contains(word), "{word:?} is missing in {said}");
    }
}

#[tokio::test]
async fn an_invalid_config_ends_it_with_2_and_names_the_field() {
    for (config, names) in [
        ("[server]\nidle_timeout = \"0s\"", &["server.idle_timeout", "above zero"][..]),
        ("[server]\nlisten_adress = \"x\"", &["listen_adress", "admin_listen"]),
        ("[cache]\nreuse = \"often\"", &["cache.reuse", "often", "deterministic"]),
        ("[[upstream]]\nname = \"a\"\nurl = \"ftp://x\"", &["upstream[0].url", "ftp://x"]),
        ("[[route]]\nendpoint = \"chat\"", &["route[0].endpoint", "openai.chat_completions"]),
        ("[server", &["config.toml"]),
    ] {
        let (status, said) = Server::run_to_end(Setup::default().config(config)).await;
        assert_eq!(status.code(), Some(2), "{config}: {said}");
        for name in names {
            assert!(said.contains(name), "{config}: {name:?} is missing in {said}");
        }
    }
}
