//! What is said of the settings of Redis: where one is wrong, what is allowed instead, and never a
//! password.

use black_box_tests::server::Ended;
use black_box_tests::{Redis, Server, Setup, Upstream};

const SECRET: &str = "hunter2-of-redis";

async fn check(lines: &str) -> Ended {
    Server::check(&format!("[redis]\n{lines}\n")).await
}

#[tokio::test]
async fn a_url_that_makes_no_sense_is_refused_with_its_field_and_what_is_allowed() {
    for url in [
        "http://localhost:6379",
        "localhost:6379",
        "redis:",
        "redis://",
        "redis://localhost:0",
        "redis://localhost:70000",
        "redis://localhost/three",
        "redis://localhost/-1",
        "redis+sentinel://localhost:26379",
        "redis+sentinel://localhost:26379/",
        "redis+cluster://localhost:7000/3",
        "redis+cluster://",
        "redis+unix:///var/run/redis.sock",
        "",
    ] {
        let ended = check(&format!("url = \"{url}\"")).await;
        assert_eq!(ended.status.code(), Some(2), "{url}: {}", ended.stderr);
        assert!(ended.stderr.contains("redis.url"), "{url}: {}", ended.stderr);
        assert!(ended.stderr.contains("redis://"), "{url} says what is allowed: {}", ended.stderr);
    }
}

#[tokio::test]
async fn every_form_of_url_is_taken() {
    for url in [
        "redis://localhost",
        "redis://localhost:6379",
        "redis://localhost:6379/",
        "redis://[::1]:6379/3",
        "redis://kim:word@localhost",
        "redis://:word@localhost/0",
        "rediss://cache.example:6380",
        "redis+sentinel://one:26379,two:26379,three/answers",
        "redis+sentinel://kim:word@one:26379,[::1]:26379/answers/3",
        "rediss+sentinel://one/answers",
        "redis+cluster://one:7000,two:7001",
        "rediss+cluster://kim:word@one:7000",
    ] {
        let ended = check(&format!("url = \"{url}\"")).await;
        assert!(ended.status.success(), "{url}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_value_that_makes_no_sense_is_refused_with_its_field() {
    for (line, field) in [
        ("deadline = \"0s\"", "redis.deadline"),
        ("write_deadline = \"0s\"", "redis.write_deadline"),
        ("connections = 0", "redis.connections"),
        ("prefix = \"\"", "redis.prefix"),
        ("prefix = \"a b\"", "redis.prefix"),
        ("value_bytes_max = \"100GiB\"", "redis.value_bytes_max"),
        ("write_queue_entries_max = 0", "redis.write_queue_entries_max"),
        ("password_file = \"/none/such\"", "redis.password_file"),
        ("ca_file = \"/none/such\"", "redis.ca_file"),
        ("client_cert_file = \"/none/such\"", "redis.client_"),
    ] {
        let scheme = if line.contains("_file") { "rediss" } else { "redis" };
        let ended = check(&format!("url = \"{scheme}://localhost\"\n{line}")).await;
        assert_eq!(ended.status.code(), Some(2), "{line}: {}{}", ended.stdout, ended.stderr);
        // What is of another type is said by its name alone.
        let name = field.strip_prefix("redis.").expect("a field of redis");
        assert!(ended.stderr.contains(name), "{line}: {}", ended.stderr);
    }
    let ended = check("speed = 3").await;
    assert!(ended.stderr.contains("unknown field `speed`"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let certified = black_box_tests::Certified::make();
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    certified.write_to(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (cert, key) = (path("tls.crt"), path("tls.key"));
    let url = "url = \"rediss://localhost\"";
    for line in [format!("client_cert_file = \"{cert}\""), format!("client_key_file = \"{key}\"")] {
        let ended = check(&format!("{url}\n{line}")).await;
        assert_eq!(ended.status.code(), Some(2), "{line}: {}", ended.stdout);
        assert!(ended.stderr.contains("redis.client_"), "{line}: {}", ended.stderr);
    }
    let both = format!("{url}\nclient_cert_file = \"{cert}\"\nclient_key_file = \"{key}\"");
    let ended = check(&both).await;
    assert!(ended.status.success(), "{}", ended.stderr);
    // What is there and is no certificate.
    let ended = check(&format!("{url}\nca_file = \"{key}\"")).await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stdout);
    assert!(ended.stderr.contains("redis.ca_file"), "{}", ended.stderr);
}

#[tokio::test]
async fn no_password_is_shown_by_check_an_error_or_the_log() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), SECRET).expect("it is written");
    let path = file.path().display().to_string();
    let mut shown = Vec::new();
    for lines in [
        format!("url = \"redis://kim:{SECRET}@localhost\""),
        format!("url = \"redis://:{SECRET}@localhost:6379/3\""),
        format!("url = \"redis+sentinel://kim:{SECRET}@one:1,two:2/answers\""),
        format!("url = \"redis+cluster://kim:{SECRET}@one:1\""),
        format!("url = \"redis://localhost\"\npassword_file = \"{path}\""),
        format!("url = \"redis+sentinel://one/answers\"\nsentinel_password_file = \"{path}\""),
        // And those that are refused.
        format!("url = \"http://kim:{SECRET}@localhost\""),
        format!("url = \"redis://kim:{SECRET}@localhost/three\""),
        format!("url = \"redis://kim:{SECRET}@localhost:port\""),
        format!("url = \"redis://kim:{SECRET}\""),
        format!("url = \"{SECRET}@localhost\""),
        format!("url = \"redis+cluster://kim:{SECRET}@\""),
    ] {
        let ended = check(&lines).await;
        let said = ended.stdout + &ended.stderr;
        if said.contains(SECRET) {
            shown.push((lines, said));
        }
    }
    assert!(shown.is_empty(), "{shown:#?}");
    let ended = check("url = \"redis://kim:word@cache.example:6380/3\"").await;
    assert!(ended.stdout.contains("cache.example:6380"), "the rest is shown: {}", ended.stdout);

    // Of one that is there, one that refuses it, and one that is not there.
    let upstream = Upstream::of_pages().await;
    let redis = Redis::with_password(SECRET).await;
    let refusing = Redis::with_password("another").await;
    let gone = black_box_tests::programs::lasting_port();
    for port in [redis.port, refusing.port, gone] {
        let url = format!("redis://:{SECRET}@127.0.0.1:{port}");
        let debug = Setup::in_front_of(&upstream).sharing(&url).variable("RUST_LOG", "debug");
        let server = Server::start(debug).await;
        black_box_tests::load::ask(&server.client(), "/page").await;
        let said = server.log() + &server.stats().await.to_string() + &server.readiness().await;
        assert!(!said.contains(SECRET), "{said}");
        for page in ["/metrics", "/stats", "/config"] {
            let said = server.admin_client().get(page).await.body;
            assert!(!String::from_utf8_lossy(&said).contains(SECRET), "{page}");
        }
    }
    let setup =
        Setup::default().variable("CACHE_SERVER_REDIS", &format!("http://kim:{SECRET}@localhost"));
    let (status, said) = Server::run_to_end(setup).await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("CACHE_SERVER_REDIS") && !said.contains(SECRET), "{said}");
}

#[tokio::test]
async fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let upstream = Upstream::of_pages().await;
    let redis = [Redis::start().await, Redis::start().await, Redis::start().await];
    let [by_file, by_variable, by_flag] = [0, 1, 2].map(|number: usize| redis[number].url());
    let file = format!("[redis]\nurl = \"{by_file}\"\n");
    let setup = || Setup::in_front_of(&upstream).config(&file);
    let variable = || setup().variable("CACHE_SERVER_REDIS", &by_variable);
    let flag = || variable().argument("--redis").argument(&by_flag);
    for (setup, redis) in [setup(), variable(), flag()].into_iter().zip(&redis) {
        let server = Server::start(setup.redis("deadline", "3s")).await;
        black_box_tests::load::ask(&server.client(), "/page").await;
        redis.has_keys(1).await;
    }
}
