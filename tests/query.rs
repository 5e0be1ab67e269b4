//! QUERY (RFC 10008): a question whose content is in its key, and is asked and answered as a GET is.

use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::plain::{self, field, text, with};
use black_box_tests::{Answer, Received, Reply, Server, Setup, Upstream};
use http::Method;

const JSON: &str = "application/json";
const SQL: &str = "application/sql";

/// A server in front of an upstream that counts its answers in their bodies.
async fn start() -> (Upstream, Server) {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |received: &Received| {
        let count = calls.fetch_add(1, Ordering::Relaxed);
        if received.method == Method::QUERY && !received.headers.contains_key("content-type") {
            return Reply::bytes("what is it?").status(400).with("cache-control", "max-age=600");
        }
        let reply = Reply::bytes(format!("answer {count}")).with("cache-control", "max-age=600");
        reply.with("etag", "\"a\"").with("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    (upstream, server)
}

async fn query(server: &Server, fields: &[(&str, &str)], body: &'static str) -> Answer {
    let request = server.client().request(Method::QUERY, "/contacts").body(body);
    let request =
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::of(request).await
}

async fn typed(server: &Server, content_type: &str, body: &'static str) -> Answer {
    query(server, &[("content-type", content_type)], body).await
}

#[tokio::test]
async fn a_query_is_answered_from_what_one_of_the_same_content_has_stored() {
    let (upstream, server) = start().await;
    let first = typed(&server, SQL, "select 1").await;
    assert!(first.cache_status().contains("; stored"), "{}", first.cache_status());
    let second = typed(&server, SQL, "select 1").await;
    assert!(second.is_hit(), "{}", second.cache_status());
    assert!(!typed(&server, SQL, "select 2").await.is_hit());
    let received = upstream.received();
    let asked = received.last().unwrap();
    assert_eq!((asked.method.as_str(), &asked.body[..]), ("QUERY", &b"select 2"[..]));
}

#[tokio::test]
async fn whatever_describes_the_content_of_a_query_is_in_its_key() {
    let (upstream, server) = start().await;
    let typed = |value: &'static str| ("content-type", value);
    let questions = [
        (&[typed(JSON)][..], "{}"),
        (&[typed("application/json;profile=a")], "{}"),
        (&[typed("application/json;profile=b")], "{}"),
        (&[typed("application/json;charset=utf-16")], "{}"),
        (&[typed("application/vnd.a+json")], "{}"),
        (&[typed(JSON), ("content-language", "de")], "{}"),
        (&[typed(JSON), ("content-language", "en")], "{}"),
        (&[typed(JSON), ("content-location", "/a")], "{}"),
        (&[typed("application/x-www-form-urlencoded")], "a=b"),
        (&[typed("application/x-www-form-urlencoded;v=2")], "a=b"),
        (&[typed(SQL)], ""),
        (&[typed(JSON)], ""),
    ];
    for round in 0..2 {
        for (index, (fields, body)) in questions.iter().enumerate() {
            let answer = query(&server, fields, body).await;
            assert_eq!(text(&answer), format!("answer {index}"), "{fields:?} {body:?}");
            assert_eq!(answer.is_hit(), round == 1, "{fields:?}: {}", answer.cache_status());
        }
    }
    assert_eq!(upstream.calls(), questions.len());
}

#[tokio::test]
async fn a_query_whose_content_is_coded_passes() {
    let (_upstream, server) = start().await;
    for _ in 0..2 {
        let fields = [("content-type", JSON), ("content-encoding", "gzip")];
        let answer = query(&server, &fields, "not really").await;
        let status = answer.cache_status();
        assert!(status.contains("detail=encoded-request"), "{status}");
    }
}

#[tokio::test]
async fn a_query_is_found_by_what_its_content_means_unless_it_wants_no_transformation() {
    let (upstream, server) = start().await;
    let first = typed(&server, JSON, "{\"a\":1,\"b\":2}").await;
    let alike = typed(&server, "Application/JSON; charset=UTF-8", "{ \"b\": 2, \"a\": 1 }").await;
    assert!(alike.is_hit(), "{}", alike.cache_status());
    assert_eq!(text(&first), text(&alike));
    let verbatim = [("content-type", JSON), ("cache-control", "no-transform")];
    for body in ["{\"a\":1,\"b\":2}", "{ \"b\": 2, \"a\": 1 }"] {
        assert!(!query(&server, &verbatim, body).await.is_hit());
        assert!(query(&server, &verbatim, body).await.is_hit(), "it is found by its bytes");
        let received = upstream.received();
        assert_eq!(&received.last().unwrap().body[..], body.as_bytes(), "it is sent as it came");
    }
}

#[tokio::test]
async fn the_refusal_of_a_query_without_a_type_reaches_those_alone_who_ask_so() {
    let (_upstream, server) = start().await;
    for _ in 0..2 {
        let refused = query(&server, &[], "select 1").await;
        assert_eq!((refused.status.as_u16(), refused.is_hit()), (400, false));
    }
    assert_eq!(typed(&server, SQL, "select 1").await.status.as_u16(), 200);
    assert_eq!(query(&server, &[], "select 1").await.status.as_u16(), 400);
}

#[tokio::test]
async fn a_query_and_a_get_of_one_url_are_two_questions() {
    let (_upstream, server) = start().await;
    assert_eq!(text(&typed(&server, SQL, "").await), "answer 0");
    let of_sql = [("content-type", SQL)];
    let get = plain::ask(&server.client(), Method::GET, "/contacts", &of_sql).await;
    assert_eq!(text(&get), "answer 1");
    let head = plain::ask(&server.client(), Method::HEAD, "/contacts", &[]).await;
    assert!(head.is_hit(), "a HEAD is answered from what the GET has stored");
    assert_eq!(text(&typed(&server, SQL, "").await), "answer 0");
}

#[tokio::test]
async fn the_conditions_of_a_query_are_met_from_its_answer() {
    let (upstream, server) = start().await;
    let since = ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT");
    for condition in [("if-none-match", "\"a\""), since] {
        for body in ["select 1", "select 2"] {
            let fields = [("content-type", SQL), condition];
            let answer = query(&server, &fields, body).await;
            assert_eq!(answer.status.as_u16(), 304, "{condition:?}: {}", answer.cache_status());
            assert_eq!(answer.field("etag"), "\"a\"");
        }
    }
    assert_eq!(upstream.calls(), 2, "the whole was fetched and stored");
    let other =
        query(&server, &[("content-type", SQL), ("if-none-match", "\"b\"")], "select 1").await;
    assert!(other.status.as_u16() == 200 && other.is_hit(), "{}", other.cache_status());
}

#[tokio::test]
async fn a_range_of_a_query_passes() {
    let (_upstream, server) = start().await;
    typed(&server, SQL, "select 1").await;
    let fields = [("content-type", SQL), ("range", "bytes=0-1"), ("if-match", "\"a\"")];
    let answer = query(&server, &fields, "select 1").await;
    assert!(answer.cache_status().contains("detail=conditional"), "{}", answer.cache_status());
}

#[tokio::test]
async fn a_stale_answer_to_a_query_is_validated_with_its_content() {
    let upstream = Upstream::start(|received: &Received| {
        assert_eq!(&received.body[..], b"select 1");
        let is_known = !field(received, "if-none-match").is_empty();
        let reply = Reply::bytes(if is_known { "" } else { "the rows" });
        let reply = reply.with("etag", "\"a\"").with("cache-control", "no-cache");
        if is_known { reply.status(304) } else { reply }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for _ in 0..2 {
        let answer = typed(&server, SQL, "select 1").await;
        assert_eq!((answer.status.as_u16(), text(&answer)), (200, "the rows"));
    }
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn an_unsafe_request_invalidates_the_queries_of_its_url_and_a_query_nothing() {
    let (_upstream, server) = start().await;
    typed(&server, SQL, "select 1").await;
    typed(&server, SQL, "select 2").await;
    plain::ask(&server.client(), Method::GET, "/contacts", &[]).await;
    typed(&server, SQL, "select 3").await;
    assert!(plain::ask(&server.client(), Method::GET, "/contacts", &[]).await.is_hit());
    for body in ["select 1", "select 2"] {
        assert!(typed(&server, SQL, body).await.is_hit());
    }
    plain::ask(&server.client(), Method::PUT, "/contacts", &[]).await;
    for body in ["select 1", "select 2"] {
        assert!(!typed(&server, SQL, body).await.is_hit(), "{body}");
    }
}

#[tokio::test]
async fn what_a_query_names_elsewhere_is_passed_on_and_not_taken_for_an_answer_there() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_: &Received| {
        let count = calls.fetch_add(1, Ordering::Relaxed);
        with(
            Reply::bytes(format!("answer {count}")),
            &[
                ("cache-control", "max-age=600"),
                ("content-location", "/contacts/results/17"),
                ("location", "/contacts/queries/42"),
                ("accept-query", "application/sql"),
            ],
        )
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    typed(&server, SQL, "select 1").await;
    let hit = typed(&server, SQL, "select 1").await;
    assert!(hit.is_hit());
    assert_eq!(hit.field("location"), "/contacts/queries/42");
    assert_eq!(hit.field("accept-query"), "application/sql");
    for (index, path) in ["/contacts/results/17", "/contacts/queries/42"].iter().enumerate() {
        let answer = plain::ask(&server.client(), Method::GET, path, &[]).await;
        assert_eq!(text(&answer), format!("answer {}", index + 1), "{path}");
    }
}

#[tokio::test]
async fn what_a_post_is_answered_answers_no_get() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |received: &Received| {
        let count = calls.fetch_add(1, Ordering::Relaxed);
        let reply = Reply::bytes(format!("answer {count} to {}", received.method));
        reply.with("cache-control", "max-age=600").with("content-location", "/page")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    plain::ask(&server.client(), Method::POST, "/page", &[]).await;
    let get = plain::ask(&server.client(), Method::GET, "/page", &[]).await;
    assert_eq!(text(&get), "answer 1 to GET");
}
