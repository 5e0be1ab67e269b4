//! Redis as it is run: with TLS and users, behind sentinels, and as a cluster.

use std::time::Duration;

use black_box_tests::load::ask;
use black_box_tests::redis::ALLOWED_COMMANDS;
use black_box_tests::{
    Answer, Certified, Client, Cluster, Load, Redis, Sentinels, Server, Setup, Upstream, eventually,
};
use futures_util::future::join_all;
use tempfile::TempDir;

const READY: &str = "ready";

/// Files that a config can name.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(TempDir::new().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Writes a file, and says where it is.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("the file is written");
        path
    }
}

async fn ask_for(server: &Server, start: &str, count: usize) -> Vec<Answer> {
    let client = server.client();
    let mut answers = Vec::new();
    for number in 1..=count {
        answers.push(ask(&client, &format!("{start}/{number}")).await);
    }
    answers
}

fn from_redis(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.cache_status().ends_with("; detail=redis")).count()
}

/// Whether two servers of this setup share what one of them has fetched.
async fn share(setup: impl Fn() -> Setup, redis: &Redis) {
    let one = Server::start(setup()).await;
    assert_eq!(one.readiness().await, READY, "{}", one.log());
    ask_for(&one, "/page", 3).await;
    one.has_written(3).await;
    redis.has_keys(3).await;
    let other = Server::start(setup()).await;
    assert_eq!(from_redis(&ask_for(&other, "/page", 3).await), 3);
}

#[tokio::test]
async fn a_user_of_few_rights_is_enough_over_tls() {
    let (upstream, files, certified) =
        (Upstream::of_pages().await, Files::new(), Certified::make());
    let redis = Redis::over_tls(&certified, None).await;
    let user = ["ACL", "SETUSER", "kim", "on", ">word", "~cache-server:*", "&cache-server:*"];
    redis.call(&[&user[..], &ALLOWED_COMMANDS].concat()).await;
    let authority = files.write("ca.pem", &certified.authority_pem);
    let url = format!("rediss://kim:word@{}", redis.tls_address());
    share(|| Setup::in_front_of(&upstream).sharing(&url).redis("ca_file", &authority), &redis)
        .await;
}

#[tokio::test]
async fn a_redis_whose_certificate_is_by_nobody_known_is_not_talked_to() {
    let (upstream, files, certified) =
        (Upstream::of_pages().await, Files::new(), Certified::make());
    let redis = Redis::over_tls(&certified, None).await;
    let url = format!("rediss://{}", redis.tls_address());
    // Another's authority, and none but the system's.
    let authority = files.write("ca.pem", &Certified::make().authority_pem);
    let setup = || Setup::in_front_of(&upstream).sharing(&url);
    for setup in [setup().redis("ca_file", &authority), setup()] {
        let server = Server::start(setup).await;
        ask_for(&server, "/page", 3).await;
        server.is_ready("ready, degraded: redis is down (connect)").await;
        assert_eq!(from_redis(&ask_for(&server, "/more", 3).await), 0);
    }
    // And the right authority for another name.
    let authority = files.write("ca.pem", &certified.authority_pem);
    let url = url.replace("localhost", "127.0.0.1");
    let setup = Setup::in_front_of(&upstream).sharing(&url).redis("ca_file", &authority);
    let server = Server::start(setup).await;
    server.is_ready("ready, degraded: redis is down (connect)").await;
    redis.has_keys(0).await;
}

#[tokio::test]
async fn a_redis_without_tls_where_tls_is_wanted_is_down_and_so_the_other_way_round() {
    let (upstream, certified) = (Upstream::of_pages().await, Certified::make());
    let redis = Redis::over_tls(&certified, None).await;
    let plain_port = format!("rediss://{}", redis.address());
    let tls_port = format!("redis://{}", redis.tls_address());
    for url in [plain_port, tls_port] {
        let server = Server::start(Setup::in_front_of(&upstream).sharing(&url)).await;
        ask_for(&server, "/page", 3).await;
        eventually("a Redis that is down", || async {
            server.readiness().await.starts_with("ready, degraded: redis is down (").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_redis_that_wants_a_certificate_of_its_clients_gets_it() {
    let (upstream, files) = (Upstream::of_pages().await, Files::new());
    let (certified, clients) = (Certified::make(), Certified::make());
    let redis = Redis::over_tls(&certified, Some(&clients)).await;
    let authority = files.write("ca.pem", &certified.authority_pem);
    let cert = files.write("client.pem", &clients.cert_pem);
    let key = files.write("client.key", &clients.key_pem);
    let url = format!("rediss://{}", redis.tls_address());
    let setup = || Setup::in_front_of(&upstream).sharing(&url).redis("ca_file", &authority);
    let with = || setup().redis("client_cert_file", &cert).redis("client_key_file", &key);
    share(with, &redis).await;
    let without = Server::start(setup()).await;
    ask_for(&without, "/page", 3).await;
    eventually("a Redis that is down", || async {
        without.readiness().await.starts_with("ready, degraded: redis is down (").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_copy_that_sentinels_make_the_master_is_gone_on_with_under_load() {
    let upstream = Upstream::of_pages().await;
    let mut sentinels = Sentinels::start().await;
    let setup = || Setup::in_front_of(&upstream).sharing(&sentinels.url());
    let setup = || setup().redis("deadline", "500ms");
    let server = Server::start(setup()).await;
    let other = Server::start(setup()).await;
    assert_eq!(server.readiness().await, READY, "{}", server.log());
    ask_for(&server, "/page", 20).await;
    server.has_written(20).await;
    sentinels.replica.has_keys(20).await;

    let mut load = Load::on(&server, 4);
    load.goes_on(100).await;
    sentinels.kill_one().await;
    sentinels.master.kill().await;
    eventually("another master", || async { sentinels.replica.is_master().await.then_some(()) })
        .await;
    for server in [&server, &other] {
        server.is_ready(READY).await;
    }
    let written = server.written().await;
    load.goes_on(100).await;
    load.end().await;
    eventually("writes go on", || async { (server.written().await > written).then_some(()) }).await;
    let answers = ask_for(&other, "/page", 20).await;
    assert_eq!(from_redis(&answers), 20, "what the copy had is there");

    // The former master comes back, empty, and takes itself for the master for a while.
    sentinels.master.start_again().await;
    let setup = Setup::in_front_of(&upstream).sharing(&sentinels.url());
    let third = Server::start(setup).await;
    assert_eq!(from_redis(&ask_for(&third, "/page", 20).await), 20);
    ask_for(&third, "/third", 5).await;
    third.has_written(5).await;
    assert_eq!(third.readiness().await, READY);
}

#[tokio::test]
async fn sentinels_have_a_password_of_their_own() {
    let (upstream, files) = (Upstream::of_pages().await, Files::new());
    let sentinels = Sentinels::with_password("watchword").await;
    let setup = || Setup::in_front_of(&upstream).sharing(&sentinels.url());
    let without = Server::start(setup()).await;
    ask_for(&without, "/page", 2).await;
    eventually("a Redis that is down", || async {
        without.readiness().await.starts_with("ready, degraded: redis is down (").then_some(())
    })
    .await;
    let file = files.write("password", "watchword\n");
    let with = || setup().redis("sentinel_password_file", &file);
    share(with, &sentinels.master).await;
}

/// How much of the cluster is left alone.
async fn share_left_alone(server: &Server) -> f64 {
    server.metric("cache_server_redis_breaker_open").await
}

async fn nothing_is_left_alone(server: &Server) {
    eventually("a cluster that is well", || async {
        (share_left_alone(server).await < 0.01).then_some(())
    })
    .await;
}

async fn part_is_left_alone(server: &Server) {
    eventually("a part of the cluster that is left alone", || async {
        (share_left_alone(server).await > 0.01).then_some(())
    })
    .await;
}

async fn ask_page(client: &Client, number: usize) -> Answer {
    ask(client, &format!("/page/{number}")).await
}

/// Stops the middle one of three nodes somehow, and sees that the others go on.
async fn one_node_goes(stop: impl AsyncFnOnce(&mut Redis), again: impl AsyncFnOnce(&mut Redis)) {
    const PAGES: usize = 90;
    let upstream = Upstream::of_pages().await;
    let mut cluster = Cluster::start().await;
    let setup = || Setup::in_front_of(&upstream).sharing(&cluster.url());
    let setup = || setup().redis("deadline", "400ms").redis("write_deadline", "400ms");
    let server = Server::start(setup()).await;
    let other = Server::start(setup()).await;
    assert_eq!(server.readiness().await, READY, "{}", server.log());
    ask_for(&server, "/page", PAGES).await;
    eventually("all pages in the cluster", || async {
        let keys = cluster.keys().await;
        (keys.iter().sum::<usize>() == 90).then_some(())
    })
    .await;
    let keys = cluster.keys().await;
    assert!(keys.iter().all(|count| *count > 5), "{keys:?}");
    assert_eq!(from_redis(&ask_for(&other, "/page", 10).await), 10);

    let mut load = Load::on(&server, 4);
    load.goes_on(50).await;
    stop(&mut cluster.nodes[1]).await;
    load.goes_on(100).await;
    part_is_left_alone(&server).await;
    load.goes_on(100).await;
    // The other server needs to notice for itself, by these.
    let client = other.client();
    let mut answers = Vec::new();
    for numbers in (1..=PAGES).collect::<Vec<_>>().chunks(15) {
        let asked = numbers.iter().map(|number| ask_page(&client, *number));
        answers.extend(join_all(asked).await);
    }
    let (hits, memory) = (from_redis(&answers), 10);
    let elsewhere = keys[0] + keys[2];
    // What is not asked for is in sections, which do not end where a node's slots end.
    let least = elsewhere * 7 / 10 - memory;
    assert!(hits >= least, "{hits} of {elsewhere} keys that others have: {keys:?}");
    assert!(share_left_alone(&other).await < 0.6, "{}", share_left_alone(&other).await);
    load.end().await;

    again(&mut cluster.nodes[1]).await;
    for server in [&server, &other] {
        nothing_is_left_alone(server).await;
        server.is_ready(READY).await;
    }
    let before = cluster.nodes[1].keys().await.len();
    let mut number = 0;
    eventually("writes to the node that has come back", || {
        number += 1;
        let (client, path, node) = (server.client(), format!("/again/{number}"), &cluster.nodes[1]);
        async move {
            ask(&client, &path).await;
            (node.keys().await.len() > before).then_some(())
        }
    })
    .await;
}

#[tokio::test]
async fn when_a_node_of_a_cluster_is_killed_or_stands_still_the_keys_of_the_others_are_still_hits()
{
    let killed =
        one_node_goes(async |node| node.kill().await, async |node| node.start_again().await);
    let still = one_node_goes(async |node| node.freeze(), async |node| node.thaw());
    tokio::join!(killed, still);
}

#[tokio::test]
async fn a_cluster_is_found_by_any_one_of_its_nodes() {
    let upstream = Upstream::of_pages().await;
    let cluster = Cluster::start().await;
    let [first, .., last] = &cluster.nodes[..] else { panic!("three nodes") };
    let by = |node: &Redis| format!("redis+cluster://{}", node.address());
    let gone = black_box_tests::programs::lasting_port();
    let with_one_gone = format!("redis+cluster://127.0.0.1:{gone},{}", last.address());
    let one = Server::start(Setup::in_front_of(&upstream).sharing(&by(first))).await;
    ask_for(&one, "/page", 30).await;
    one.has_written(30).await;
    assert!(cluster.keys().await.iter().all(|count| *count > 0));
    for url in [by(last), with_one_gone] {
        let other = Server::start(Setup::in_front_of(&upstream).sharing(&url)).await;
        other.is_ready(READY).await;
        assert_eq!(from_redis(&ask_for(&other, "/page", 30).await), 30, "{url}");
    }
    assert_eq!(upstream.calls(), 30);
}

#[tokio::test]
async fn a_cluster_that_is_not_there_yet_is_taken_when_it_comes() {
    let upstream = Upstream::of_pages().await;
    let mut cluster = Cluster::start().await;
    for node in &mut cluster.nodes {
        node.kill().await;
    }
    let server = Server::start(Setup::in_front_of(&upstream).sharing(&cluster.url())).await;
    ask_for(&server, "/page", 5).await;
    assert!(server.readiness().await.starts_with("ready, degraded: redis is down ("));
    for node in &mut cluster.nodes {
        node.start_again().await;
    }
    server.is_ready(READY).await;
    tokio::time::timeout(Duration::from_secs(20), server.has_written(5)).await.expect("in time");
}
