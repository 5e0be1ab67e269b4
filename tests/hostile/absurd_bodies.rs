//! Bodies that are JSON and absurd: deep, wide, long, or of other types than anyone expects.
//! Within the bounds they are cached as any other, beyond them passed through.

use std::fmt::Write as _;
use std::io::Write as _;

use black_box_tests::sample::{CHAT, EMBEDDINGS, embedding};
use black_box_tests::{Answer, PATIENCE};
use reqwest::Method;

use super::Stage;

impl Stage {
    /// What `Cache-Status` says when this body is sent.
    async fn said_of(&self, path: &str, body: &str) -> String {
        let request = self.server.client().request(Method::POST, path).body(body.to_owned());
        let answer = tokio::time::timeout(PATIENCE, Answer::of(request)).await;
        let answer = answer.expect("an answer without a long stall");
        assert_eq!(answer.json(), embedding(0.25), "{}", answer.cache_status());
        answer.cache_status().to_owned()
    }

    /// Asked twice, the upstream is asked once.
    async fn assert_cached(&self, path: &str, body: &str, case: &str) {
        let before = self.upstream.calls();
        let (first, second) = (self.said_of(path, body).await, self.said_of(path, body).await);
        assert!(first.contains("; stored"), "{case}: {first}");
        assert!(second.contains("; hit"), "{case}: {second}");
        let mut asked = self.upstream.requests().split_off(before);
        assert_eq!(asked.len(), 1, "{case}");
        assert!(asked.pop().expect("it was asked").body == body.as_bytes(), "{case}: other bytes");
    }
}

#[tokio::test]
async fn nesting_is_cached_to_its_bound_and_passed_through_beyond_it_however_deep() {
    let stage = Stage::start().await;
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{{\"input\":{}1{}}}", open.repeat(depth), close.repeat(depth))
    };
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"\":", "}]")] {
        // The outermost object counts; the third form is two levels each.
        let depth = if open.starts_with("[{") { 63 } else { 127 };
        stage.assert_cached(EMBEDDINGS, &nested(open, close, depth), open).await;
        for depth in [128, 100_000] {
            let body = nested(open, close, depth);
            stage.assert_passes(EMBEDDINGS, body.as_bytes(), &[], "too-deep").await;
        }
        let unended = open.repeat(100_000);
        stage.assert_passes(EMBEDDINGS, unended.as_bytes(), &[], "too-deep").await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn very_many_members_are_cached_to_their_bound_and_passed_through_beyond_it() {
    let stage = Stage::start().await;
    let with_members = |count: usize, name: &str| {
        let mut body = String::from("{\"input\":\"x\"");
        for number in 0..count {
            let _ = write!(body, ",\"{name}{number}\":1");
        }
        body + "}"
    };
    // Escaped names are the dearest to compare.
    for name in ["m", "\\u006e"] {
        let body = with_members(50_000, name);
        stage.assert_cached(EMBEDDINGS, &body, &format!("50,000 of {name:?}")).await;
    }
    let body = with_members(600_000, "m");
    stage.assert_passes(EMBEDDINGS, body.as_bytes(), &[], "too-many-values").await;
    let body = format!("{{\"input\":[{}1]}}", "1,".repeat(1 << 20));
    stage.assert_passes(EMBEDDINGS, body.as_bytes(), &[], "too-many-values").await;
    stage.assert_well().await;
}

#[tokio::test]
async fn very_long_strings_are_read_to_the_last_letter() {
    let stage = Stage::start().await;
    for unit in ["x", "\\\\", "\\u00e9", "é", "\\ud83d\\ude00"] {
        let long = unit.repeat((4 << 20) / unit.len());
        stage.assert_cached(EMBEDDINGS, &format!("{{\"input\":\"{long}\"}}"), unit).await;
        let said = stage.said_of(EMBEDDINGS, &format!("{{\"input\":\"{long}!\"}}")).await;
        assert!(said.contains("; stored"), "{unit}: one letter more is another question: {said}");
    }
    let name = "n".repeat(1 << 20);
    stage.assert_cached(EMBEDDINGS, &format!("{{\"{name}\":1}}"), "a name").await;
    stage.assert_well().await;
}

#[tokio::test]
async fn huge_numbers_are_told_apart_to_the_last_digit() {
    let stage = Stage::start().await;
    let nines = "9".repeat(1000);
    for number in ["1e9999", "1e9998", "1e-9999", "-1e9999", "9007199254740993", "9007199254740992"]
        .into_iter()
        .chain([nines.as_str(), &nines[1..]])
    {
        let body = format!("{{\"input\":\"x\",\"dimensions\":{number}}}");
        stage.assert_cached(EMBEDDINGS, &body, number).await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn other_types_than_the_provider_expects_are_the_upstreams_to_refuse() {
    let stage = Stage::start().await;
    // What is sampled is reused only where a number says that it is not.
    for said in ["\"0\"", "[0]", "{\"value\":0}", "false", "null", "\"zero\"", "\"\""] {
        let body = format!("{{\"messages\":[],\"temperature\":{said}}}");
        stage.assert_passes(CHAT, body.as_bytes(), &[], "not-deterministic").await;
        let body = format!("{{\"messages\":[],\"seed\":{said}}}");
        stage.assert_passes(CHAT, body.as_bytes(), &[], "not-deterministic").await;
    }
    for body in [
        r#"{"temperature":0,"model":5,"messages":{}}"#,
        r#"{"temperature":0,"model":["m"],"messages":"x"}"#,
        r#"{"temperature":0,"stream":"true","stream_options":7}"#,
        r#"{"temperature":0,"tools":5,"tool_choice":[]}"#,
        r#"{"temperature":0,"tools":[1,null,[{"type":{}}]],"functions":{"parameters":0}}"#,
        r#"{"temperature":0,"response_format":["json_schema"],"n":-1}"#,
        r#"{"temperature":0,"max_tokens":"many","user":[{}],"metadata":0}"#,
    ] {
        let said = stage.said_of(CHAT, body).await;
        // The upstream's answer is no chat completion: it is passed on and not kept.
        assert!(said.contains("; fwd=miss; fwd-status=200"), "{body}: {said}");
        assert!(!said.contains("; stored"), "{body}: {said}");
    }
    let embeddings = [
        r#"{"model":5,"input":{}}"#,
        r#"{"model":null,"input":null}"#,
        r#"{"model":{"a":"b"},"input":[[],[[]],{}]}"#,
        r#"{"":"","input":false}"#,
        "{}",
    ];
    for body in embeddings {
        stage.assert_cached(EMBEDDINGS, body, body).await;
    }
    let gemini = "/v1beta/models/m:generateContent";
    for body in [r#"{"generationConfig":[]}"#, r#"{"generationConfig":{"temperature":"0"}}"#, "{}"]
    {
        stage.assert_passes(gemini, body.as_bytes(), &[], "not-deterministic").await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_very_long_model_name_is_no_label_and_no_harm() {
    let stage = Stage::start().await;
    let body = format!(r#"{{"model":"{}\n# HELP x","input":"x"}}"#, "m".repeat(1 << 20));
    stage.assert_cached(EMBEDDINGS, &body, "a long model").await;
    let metrics = stage.server.admin_client().get("/metrics").await.body;
    assert!(metrics.len() < 1 << 20, "{} bytes of metrics", metrics.len());
    stage.assert_well().await;
}

#[tokio::test]
async fn a_content_type_that_lies_passes_on_with_the_very_bytes() {
    let stage = Stage::start().await;
    for (number, content_type) in [
        "text/plain",
        "application/xml",
        "image/png",
        "multipart/form-data; boundary=x",
        "nonsense",
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!("{{\"input\":\"{number}\"}}");
        let request = stage.server.client().request(Method::POST, EMBEDDINGS);
        let request = request.header("content-type", content_type).body(body.clone());
        assert_eq!(Answer::of(request).await.json(), embedding(0.25), "{content_type}");
        let asked = stage.upstream.requests().pop().expect("it was asked");
        assert_eq!(asked.fields("content-type"), [content_type]);
        assert_eq!(asked.body, body.as_bytes(), "{content_type}");
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_charset_that_would_change_the_meaning_has_no_key() {
    let stage = Stage::start().await;
    let body = b"{\"input\":\"x+ACI-,+ACI-model+ACI-:+ACI-m\"}";
    for charset in ["utf-16", "UTF-16LE", "utf-7", "\"iso-8859-1\"", "utf-8; charset=utf-16", ""] {
        let content_type = format!("application/json; charset={charset}");
        stage.assert_passes(EMBEDDINGS, body, &[("content-type", &content_type)], "charset").await;
    }
    let twice = "POST /v1/embeddings HTTP/1.1\r\nhost: cache\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-type: text/x; charset=utf-16\r\n\
                 content-length: 2\r\n\r\n{}";
    let told = stage.tell(twice).await.text();
    assert!(told.contains("; detail=charset"), "{told}");
    for charset in ["utf-8", "UTF-8", "\"utf-8\"", "Utf8"] {
        let content_type = format!("application/json;charset={charset} ; x=y");
        let body = format!("{{\"input\":{}}}", serde_json::json!(charset));
        let request = || {
            let request = stage.server.client().request(Method::POST, EMBEDDINGS);
            request.header("content-type", &content_type).body(body.clone())
        };
        Answer::of(request()).await;
        let again = Answer::of(request()).await;
        assert!(again.is_hit(), "{content_type}: {}", again.cache_status());
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_compressed_body_has_no_key_and_stays_compressed() {
    let stage = Stage::start().await;
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    gzip.write_all(b"not even deflated").expect("a vector takes all");
    for coding in ["gzip", "GZIP", "identity, gzip", "br", "x", "deflate"] {
        let fields = [("content-encoding", coding), ("content-type", "application/json")];
        stage.assert_passes(EMBEDDINGS, &gzip, &fields, "encoded-request").await;
        stage.assert_passes(EMBEDDINGS, br#"{"input":"x"}"#, &fields, "encoded-request").await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_body_on_a_get_passes_as_it_is() {
    let stage = Stage::start().await;
    let body = r#"{"input":"x"}"#;
    for turn in 1..=2 {
        let request = stage.server.client().request(Method::GET, EMBEDDINGS).body(body);
        let answer = Answer::of(request).await;
        assert!(answer.cache_status().contains("; detail=no-lifetime"));
        assert_eq!(stage.upstream.calls(), turn);
        let asked = stage.upstream.requests().pop().expect("it was asked");
        assert_eq!(asked.body, body.as_bytes());
        assert!(asked.head.starts_with(b"GET /v1/embeddings HTTP/1.1\r\n"));
    }
    stage.assert_well().await;
}
