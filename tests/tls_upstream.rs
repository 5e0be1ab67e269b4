//! Upstreams over TLS: HTTP/2 where both can, trust only where it is due.

use black_box_tests::{Server, Setup, TlsFront, Upstream, sample};
use http::Version;
use tempfile::TempDir;

async fn server_before(front: &TlsFront, folder: &TempDir, more: &str) -> Server {
    let authority = folder.path().join("authority.pem");
    front.write_authority(&authority);
    Server::start(Setup::default().config(&format!(
        "[[upstream]]\nname = \"secure\"\nprefix = \"/\"\nurl = \"{}\"\nca_file = {authority:?}\n{more}",
        front.url()
    )))
    .await
}

#[tokio::test]
async fn http2_is_spoken_where_tls_negotiates_it() {
    let upstream = Upstream::saying(sample::embedding(0.25)).await;
    let front = TlsFront::of(&upstream).await;
    let folder = TempDir::new().expect("a folder");
    let server = server_before(&front, &folder, "").await;
    let client = server.client();

    let fetched = client.ask("/v1/embeddings", &sample::question("a")).await;
    assert_eq!(fetched.status, 200);
    assert!(client.ask("/v1/embeddings", &sample::question("a")).await.is_hit());
    assert_eq!(client.get("/v1/models").await.status, 200);
    let versions: Vec<Version> = upstream.received().iter().map(|seen| seen.version).collect();
    assert_eq!(versions, [Version::HTTP_2, Version::HTTP_2]);
}

#[tokio::test]
async fn http1_is_spoken_where_the_config_says_so() {
    let upstream = Upstream::saying(sample::embedding(0.25)).await;
    let front = TlsFront::of(&upstream).await;
    let folder = TempDir::new().expect("a folder");
    let server = server_before(&front, &folder, "protocol = \"http1\"\n").await;
    assert_eq!(server.client().ask("/v1/embeddings", &sample::question("a")).await.status, 200);
    assert_eq!(upstream.received()[0].version, Version::HTTP_11);
}

#[tokio::test]
async fn an_upstream_that_is_not_trusted_is_never_asked() {
    let upstream = Upstream::saying(sample::embedding(0.25)).await;
    let front = TlsFront::of(&upstream).await;
    let stranger = TlsFront::of(&upstream).await;
    let folder = TempDir::new().expect("a folder");
    // The authority that the config names is another one's.
    let authority = folder.path().join("authority.pem");
    stranger.write_authority(&authority);
    let server = Server::start(Setup::default().config(&format!(
        "[[upstream]]\nname = \"secure\"\nprefix = \"/\"\nurl = \"{}\"\nca_file = {authority:?}\n",
        front.url()
    )))
    .await;
    let answer = server.client().ask("/v1/embeddings", &sample::question("a")).await;
    assert_eq!(answer.status, 502);
    let problem = answer.json();
    assert_eq!(problem["code"], "upstream-unreachable");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("certificate")));
    assert_eq!(upstream.calls(), 0);
}
