//! Bodies on model routes that parsers could read differently: passed through byte for byte,
//! never cached, and `Cache-Status` says why.

use black_box_tests::sample::{CHAT, EMBEDDINGS, embedding};
use black_box_tests::{Answer, RawAnswer};
use reqwest::Method;

use super::Stage;

/// Bodies with the word that stands for what is wrong with them.
type Cases = &'static [(&'static [u8], &'static str)];

impl Stage {
    /// Asked twice, the upstream is asked twice, for the very bytes; and the reason is named.
    pub(super) async fn assert_passes(
        &self,
        path: &str,
        body: &[u8],
        fields: &[(&str, &str)],
        code: &str,
    ) {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        for turn in ["first", "second"] {
            let before = self.upstream.calls();
            let request = self.server.client().request(Method::POST, path).body(body.to_vec());
            let request =
                fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let answer = Answer::of(request).await;
            assert_eq!(
                answer.cache_status(),
                format!("cache-server; fwd=bypass; fwd-status=200; detail={code}"),
                "{turn}: {shown}"
            );
            assert_eq!(answer.json(), embedding(0.25), "{turn}: {shown}");
            let mut asked = self.upstream.requests().split_off(before);
            assert_eq!(asked.len(), 1, "{turn}: {shown}");
            let request = asked.pop().expect("it was asked");
            assert!(request.body == body, "{turn}: {shown}: the upstream got other bytes");
            for (name, value) in fields {
                assert_eq!(request.fields(name), [*value], "{turn}: {shown}");
            }
        }
    }

    async fn assert_all_pass(&self, cases: Cases) {
        for (body, code) in cases {
            self.assert_passes(EMBEDDINGS, body, &[("content-type", "application/json")], code)
                .await;
        }
        self.assert_well().await;
    }
}

#[tokio::test]
async fn json_that_is_cut_off_anywhere_has_no_key() {
    let stage = Stage::start().await;
    let whole = r#"{"model":"m","input":["\u00e9",true,-1.5e3,null],"user":{"a":[]}}"#;
    for end in (1..whole.len()).step_by(3) {
        stage.assert_passes(EMBEDDINGS, &whole.as_bytes()[..end], &[], "malformed-json").await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn json_with_anything_behind_it_has_no_key() {
    let behind: Cases = &[
        (b"{\"input\":\"x\"}}", "trailing-bytes"),
        (b"{\"input\":\"x\"},", "trailing-bytes"),
        (b"{\"input\":\"x\"}{\"input\":\"y\"}", "trailing-bytes"),
        (b"{\"input\":\"x\"}\n{\"input\":\"y\"}\n", "trailing-bytes"),
        (b"{\"input\":\"x\"}\0", "trailing-bytes"),
        (b"{\"input\":\"x\"}\x1a", "trailing-bytes"),
        (b"{\"input\":\"x\"} // why not", "trailing-bytes"),
        (b"{\"input\":\"x\"}GET /smuggled HTTP/1.1\r\n\r\n", "trailing-bytes"),
    ];
    Stage::start().await.assert_all_pass(behind).await;
}

#[tokio::test]
async fn json_as_lenient_parsers_take_it_has_no_key() {
    let lenient: Cases = &[
        (b"{\"input\":NaN}", "malformed-json"),
        (b"{\"input\":Infinity}", "malformed-json"),
        (b"{\"input\":-Infinity}", "malformed-json"),
        (b"{'input':'x'}", "malformed-json"),
        (b"{input:\"x\"}", "malformed-json"),
        (b"{\"input\":\"x\",}", "malformed-json"),
        (b"{\"input\":[1,]}", "malformed-json"),
        (b"{\"input\":[,1]}", "malformed-json"),
        (b"{\"input\":[1 2]}", "malformed-json"),
        (b"{\"input\" \"x\"}", "malformed-json"),
        (b"{\"input\"=\"x\"}", "malformed-json"),
        (b"{\"input\":\"x\";\"n\":1}", "malformed-json"),
        (b"{\"input\":/* x */1}", "malformed-json"),
        (b"// x\n{\"input\":1}", "malformed-json"),
        (b"{\"input\":1 # x\n}", "malformed-json"),
        (b"{\"input\":+1}", "malformed-json"),
        (b"{\"input\":01}", "malformed-json"),
        (b"{\"input\":-01}", "malformed-json"),
        (b"{\"input\":.5}", "malformed-json"),
        (b"{\"input\":1.}", "malformed-json"),
        (b"{\"input\":1e}", "malformed-json"),
        (b"{\"input\":0x10}", "malformed-json"),
        (b"{\"input\":1_000}", "malformed-json"),
        (b"{\"input\":True}", "malformed-json"),
        (b"{\"input\":undefined}", "malformed-json"),
        (b"{\"input\":nullx}", "malformed-json"),
        (b"{1:\"x\"}", "malformed-json"),
        (b"{null:\"x\"}", "malformed-json"),
        (b"{\"input\":\"\\x41\"}", "malformed-json"),
        (b"{\"input\":\"\\u{41}\"}", "malformed-json"),
        (b"{\"input\":\"\\u00g1\"}", "malformed-json"),
        (b"{\"input\":\"\\'\"}", "malformed-json"),
        (b"{\"input\":\"a\\\nb\"}", "malformed-json"),
        (b"{\x0b\"input\":1}", "malformed-json"),
        (b"{\x0c\"input\":1}", "malformed-json"),
        (b"{\xc2\xa0\"input\":1}", "malformed-json"),
        (b"input=x&model=m", "malformed-json"),
        (b"<input>x</input>", "malformed-json"),
    ];
    Stage::start().await.assert_all_pass(lenient).await;
}

#[tokio::test]
async fn a_byte_order_mark_and_bytes_that_are_no_utf_8_have_no_key() {
    let encodings: Cases = &[
        (b"\xef\xbb\xbf{\"input\":\"x\"}", "byte-order-mark"),
        (b"{\"input\":\"caf\xe9\"}", "invalid-utf8"),
        (b"{\"input\":\"\x80\"}", "invalid-utf8"),
        (b"{\"input\":\"\xc0\x80\"}", "invalid-utf8"),
        (b"{\"input\":\"\xc1\xa1\"}", "invalid-utf8"),
        (b"{\"input\":\"\xe0\x80\xaf\"}", "invalid-utf8"),
        (b"{\"input\":\"\xed\xa0\x80\"}", "invalid-utf8"),
        (b"{\"input\":\"\xf4\x90\x80\x80\"}", "invalid-utf8"),
        (b"{\"input\":\"\xf8\x88\x80\x80\x80\"}", "invalid-utf8"),
        (b"{\"input\":\"\xe2\x82\"}", "invalid-utf8"),
        (b"{\"caf\xe9\":\"x\"}", "invalid-utf8"),
        (b"{\"input\":\"x\"}\xff", "invalid-utf8"),
        (b"\xff\xfe{\0\"\0i\0\"\0:\x001\0}\0", "invalid-utf8"),
        (b"\0{\0\"\0i\0\"\0:\x001\0}", "malformed-json"),
        (b"\x1f\x8b\x08\0gzip, and not said to be", "invalid-utf8"),
    ];
    Stage::start().await.assert_all_pass(encodings).await;
}

#[tokio::test]
async fn half_a_surrogate_pair_has_no_key() {
    let surrogates: Cases = &[
        (b"{\"input\":\"\\ud800\"}", "lone-surrogate"),
        (b"{\"input\":\"\\uDFFF\"}", "lone-surrogate"),
        (b"{\"input\":\"\\ude00\\ud83d\"}", "lone-surrogate"),
        (b"{\"input\":\"\\ud83d\\ud83d\\ude00\"}", "lone-surrogate"),
        (b"{\"input\":\"\\ud83d\\u0041\"}", "lone-surrogate"),
        (b"{\"input\":\"\\ud83dx\"}", "lone-surrogate"),
        (b"{\"input\":\"\\ud83d\\n\"}", "lone-surrogate"),
        (b"{\"\\udc00\":\"x\"}", "lone-surrogate"),
    ];
    Stage::start().await.assert_all_pass(surrogates).await;
}

#[tokio::test]
async fn a_control_character_in_a_string_has_no_key() {
    let stage = Stage::start().await;
    for control in 0..0x20_u8 {
        let body = [b"{\"input\":\"a", &[control][..], b"b\"}"].concat();
        stage.assert_passes(EMBEDDINGS, &body, &[], "malformed-json").await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn what_is_no_object_has_no_key() {
    let others: Cases = &[
        (b"5", "not-an-object"),
        (b"-0.0e-0", "not-an-object"),
        (b"\"input\"", "not-an-object"),
        (b"null", "not-an-object"),
        (b"true", "not-an-object"),
        (b"[]", "not-an-object"),
        (b"[{\"input\":\"x\"}]", "not-an-object"),
        (b" \r\n\t", "empty-body"),
        (b"", "empty-body"),
    ];
    Stage::start().await.assert_all_pass(others).await;
}

#[tokio::test]
async fn a_number_beyond_all_bounds_has_no_key() {
    let stage = Stage::start().await;
    for number in
        ["1e10000", "-1e-10000", "1E+99999999999999999999", "0e99999999999", "5.5e-123456"]
    {
        let body = format!("{{\"input\":\"x\",\"dimensions\":{number}}}");
        stage.assert_passes(EMBEDDINGS, body.as_bytes(), &[], "number-out-of-range").await;
    }
    for digits in [1025, 1 << 20] {
        let body = format!("{{\"input\":\"x\",\"dimensions\":{}}}", "9".repeat(digits));
        stage.assert_passes(EMBEDDINGS, body.as_bytes(), &[], "number-out-of-range").await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_member_said_twice_has_no_key_in_whatever_spelling() {
    let stage = Stage::start().await;
    for body in [
        r#"{"input":"a","input":"b"}"#,
        r#"{"input":"a","model":"m","input":"a"}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"\u0061":1,"\u0061":2}"#,
        r#"{"input":"a","i\u006eput":"b"}"#,
        r#"{"/":1,"\/":2}"#,
        r#"{"\ud83d\ude00":1,"😀":2}"#,
        r#"{"":1,"":2}"#,
        r#"{"input":"a","o":{"deep":[{"a":1,"b":2,"a":3}]}}"#,
        r#"{"input":"a","user":{"a":1,"a":2}}"#,
        r#"{"input":"a","user":"u","user":"v"}"#,
        r#"{"input":null,"input":null}"#,
    ] {
        stage.assert_passes(EMBEDDINGS, body.as_bytes(), &[], "duplicate-member").await;
    }
    let schema = r#"{"temperature":0,"messages":[],"response_format":{"json_schema":{"schema":{"a":1,"\u0061":2}}}}"#;
    stage.assert_passes(CHAT, schema.as_bytes(), &[], "duplicate-member").await;
    stage.assert_well().await;
}

#[tokio::test]
async fn a_body_shorter_than_it_says_is_refused_and_a_longer_one_ends_where_it_says() {
    let stage = Stage::bounded("body_timeout = \"500ms\"").await;
    let fields = "content-length: 99\r\nconnection: close\r\n";
    let short =
        format!("POST {EMBEDDINGS} HTTP/1.1\r\nhost: cache\r\n{fields}\r\n{{\"input\":\"x\"}}");
    stage.tell(short).await.assert_problem(408, "body-timeout", "shorter");
    assert_eq!(stage.upstream.calls(), 0, "it must not come upstream in part");

    let mut caller = stage.connect().await;
    caller.post(EMBEDDINGS, r#"{"input":"x"}"#).await;
    let RawAnswer { head, .. } = caller.answer().await;
    assert!(head.contains("; stored"), "{head}");
    caller.send("{\"input\":\"y\"} is behind the end\r\n\r\n").await;
    let told = String::from_utf8_lossy(&caller.rest().await).into_owned();
    assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
    assert_eq!(stage.upstream.calls(), 1);
    stage.assert_well().await;
}
