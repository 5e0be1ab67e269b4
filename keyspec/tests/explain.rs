//! What an explanation of a request says, and what it never shows.

use http::{HeaderMap, HeaderValue};
use keyspec::{
    Explanation, KeySpec, KeySpecs, KeyedRequest, LINES_MAX, Line, ModelRoute, Place, ReusePolicy,
    TenantScope, Treatment,
};

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

fn request<'a>(tenant: &'a TenantScope, headers: &'a HeaderMap) -> KeyedRequest<'a> {
    KeyedRequest {
        tenant,
        upstream: "https://user:pw@api.openai.com",
        method: "POST",
        path: "/v1/chat/completions",
        query: Some("b=2&a=1&key=AIzaSecret&token=abc"),
        headers,
    }
}

fn explain(spec: &KeySpec, content_type: Option<&str>, body: &[u8]) -> Explanation {
    let headers = headers(&[
        ("authorization", "Bearer sk-secret"),
        ("openai-beta", "assistants=v2"),
        ("accept", "*/*"),
    ]);
    let tenant = TenantScope::Credential([0xab; 32]);
    let request = request(&tenant, &headers);
    spec.explain(&request, content_type, body, ReusePolicy::Deterministic, false)
}

fn chat(body: &str) -> Explanation {
    explain(&KeySpec::preset(ModelRoute::OpenAiChatCompletions), None, body.as_bytes())
}

fn declared(toml: &str) -> KeySpec {
    let text =
        format!("version = 1\n[[key_spec]]\nname = \"x\"\nversion = 1\npath = \"/x\"\n{toml}");
    let specs = KeySpecs::from_toml(&text).expect("a spec");
    let found = specs.find("POST", "/x").expect("the spec is for it");
    KeySpec::clone(found.spec)
}

fn line<'e>(explanation: &'e Explanation, at: &str) -> &'e Line {
    let found = explanation.lines.iter().find(|line| line.at == at);
    found.unwrap_or_else(|| panic!("no line for {at} in {:#?}", explanation.lines))
}

fn field<'e>(explanation: &'e Explanation, name: &str) -> &'e str {
    let found = explanation.fields.iter().find(|field| field.name == name);
    &found.unwrap_or_else(|| panic!("no field {name} in {:#?}", explanation.fields)).value
}

#[test]
fn every_field_of_the_key_is_told_in_order() {
    let explanation = chat(r#"{"model":"m","stream":true}"#);
    let names: Vec<_> = explanation.fields.iter().map(|field| &*field.name).collect();
    let expected = [
        "key schema version",
        "spec",
        "tenant",
        "upstream",
        "method",
        "path",
        "query a",
        "query b",
        "query token",
        "header azureml-model-deployment",
        "header extra-parameters",
        "header openai-beta",
        "header x-amzn-bedrock-guardrailidentifier",
        "header x-amzn-bedrock-guardrailversion",
        "stream",
        "body",
    ];
    assert_eq!(names, expected);
    assert_eq!(field(&explanation, "spec"), "openai.chat_completions, version 2");
    assert_eq!(field(&explanation, "tenant"), "a credential, scope digest abababab");
    assert_eq!(field(&explanation, "header openai-beta"), "assistants=v2");
    assert_eq!(field(&explanation, "stream"), "the answer is a stream");
    assert!(field(&explanation, "body").starts_with("JSON, 27 canonical bytes, digest "));
}

#[test]
fn the_key_is_the_one_that_the_spec_makes() {
    let body = br#"{"model":"m"}"#;
    let spec = KeySpec::preset(ModelRoute::OpenAiResponses);
    let (tenant, headers) = (TenantScope::Anonymous, HeaderMap::new());
    let request = request(&tenant, &headers);
    let key = spec.key(&request, &spec.read(body).unwrap());
    let explained = spec.explain(&request, None, body, ReusePolicy::Any, false);
    assert_eq!(explained.key, Some(key.to_string()));
    assert_eq!(field(&explained, "header openai-beta"), "absent");
    assert_eq!((explained.reuse.may, explained.reuse.code), (true, "policy-any"));
}

#[test]
fn members_say_how_they_are_treated() {
    let explanation = chat(
        r#"{"model":"m","user":"u","messages":[{"role":"user","content":"hi"}],
            "tools":[{"function":{"name":"f","parameters":{"b":1,"a":2}}}]}"#,
    );
    assert_eq!(line(&explanation, "model").treatment, Treatment::Keyed);
    assert_eq!(line(&explanation, "model").value.as_deref(), Some("\"m\""));
    let user = line(&explanation, "user");
    assert_eq!(user.treatment, Treatment::LeftOut);
    assert!(user.why.as_deref().unwrap().contains("abuse detection"));
    let schema = line(&explanation, "tools[0].function.parameters");
    assert_eq!(schema.treatment, Treatment::KeyedInOrder);
    assert!(!explanation.lines.iter().any(|line| line.at.starts_with("messages[")));
}

#[test]
fn what_a_declared_spec_does_further_in_has_lines_of_its_own() {
    let spec = declared(
        "ignore_members = [{ path = \"a[].trace\", why = \"traces alone\" }]\n\
         set_members = [\"a[].tags\"]\ndefaults = { limit = 10 }",
    );
    let body = br#"{"limit":10.0,"a":[{"x":1},{"trace":"t","tags":[2,1]}]}"#;
    let explanation = explain(&spec, None, body);
    assert!(explanation.declared_spec);
    assert_eq!(line(&explanation, "limit").treatment, Treatment::SaysDefault);
    assert_eq!(line(&explanation, "a").treatment, Treatment::Keyed);
    assert_eq!(line(&explanation, "a[1].trace").why.as_deref(), Some("traces alone"));
    assert_eq!(line(&explanation, "a[1].tags").treatment, Treatment::KeyedAsSet);
    assert!(!explanation.lines.iter().any(|line| line.at.starts_with("a[0]")));
}

#[test]
fn form_fields_and_parts_are_told_too() {
    let spec = declared("body = \"form\"\nignore_members = [\"t\"]\ndefaults = { n = 1 }");
    let form = Some("application/x-www-form-urlencoded");
    let explanation = explain(&spec, form, b"q=a+b&t=1&n=1&password=hunter2");
    assert_eq!(line(&explanation, "q").value.as_deref(), Some("a b"));
    assert_eq!(line(&explanation, "t").treatment, Treatment::LeftOut);
    assert_eq!(line(&explanation, "n").treatment, Treatment::SaysDefault);
    assert_eq!(line(&explanation, "password").value.as_deref(), Some("(hidden)"));

    let spec = declared("body = \"multipart\"");
    let body = b"--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.wav\"\r\n\
        Content-Type: audio/wav\r\n\r\nRIFF\r\n--b--\r\n";
    let explanation = explain(&spec, Some("multipart/form-data; boundary=b"), body);
    assert_eq!(line(&explanation, "f").value.as_deref(), Some("file a.wav, audio/wav, 4 bytes"));
    assert_eq!(line(&explanation, "f").place, Place::Part);
}

#[test]
fn what_does_not_count_beside_the_body_is_told_with_its_reason() {
    let explanation = chat("{}");
    let key = line(&explanation, "key");
    assert_eq!((key.place, key.value.as_deref()), (Place::Query, Some("(hidden)")));
    assert!(line(&explanation, "authorization").why.as_deref().unwrap().contains("tenant"));
    let accept = line(&explanation, "accept");
    assert_eq!((accept.place, accept.treatment), (Place::Header, Treatment::LeftOut));
    assert!(!explanation.lines.iter().any(|line| line.at == "openai-beta"));
}

#[test]
fn secrets_are_never_shown() {
    let body = r#"{"model":"m","api_key":"hunter2a","safe":"use sk-hunter2b or Bearer hunter2c!",
        "tools":[{"type":"mcp","headers":{"X-Mine":"hunter2d"},"authorization":"hunter2e"}],
        "metadata":{"deep":{"password":["hunter2f"]}},"sk-hunter2g":1,
        "arguments":"{\"access_token\": \"hunter2h and more\"}"}"#;
    let explanation = chat(body);
    for text in [explanation.to_string(), serde_json::to_string(&explanation).unwrap()] {
        let secrets = ["hunter2", "sk-secret", "AIzaSecret", "abc", "pw@", "Bearer sk"];
        for secret in secrets.into_iter().filter(|secret| *secret != "abc") {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert_eq!(field(&explanation, "query token"), "(hidden)");
    assert_eq!(line(&explanation, "api_key").value.as_deref(), Some("(hidden)"));
}

#[test]
fn a_request_without_a_key_is_explained_too() {
    let explanation = chat(r#"{"a":1,"a":2}"#);
    assert_eq!(explanation.key, None);
    assert_eq!(explanation.not_keyable.as_ref().unwrap().code, "duplicate-member");
    assert_eq!((explanation.reuse.may, explanation.reuse.code), (false, "duplicate-member"));
    assert_eq!(explanation.fields.last().unwrap().name, "header x-amzn-bedrock-guardrailversion");
    assert!(explanation.to_string().contains("a member's name is repeated at byte 7"));
}

#[test]
fn whether_it_may_be_cached_is_told_with_advice() {
    let no = chat(r#"{"model":"m"}"#);
    assert_eq!((no.reuse.may, no.reuse.code), (false, "not-deterministic"));
    assert!(no.reuse.sentence.contains("temperature 0"));
    let yes = chat(r#"{"model":"m","temperature":0}"#);
    assert_eq!((yes.reuse.may, yes.reuse.code), (true, "temperature-zero"));
    assert_eq!(yes.reuse.sentence, "The temperature is 0.");
}

#[test]
fn lines_are_bounded_and_the_rest_is_counted() {
    let members: Vec<_> = (0..LINES_MAX + 10).map(|i| format!("\"m{i}\":{i}")).collect();
    let explanation = chat(&format!("{{{}}}", members.join(",")));
    assert_eq!(explanation.lines.len(), LINES_MAX);
    // Two headers and the query's key do not count either.
    assert_eq!(explanation.more_lines, 10 + 3);
    assert!(explanation.to_string().ends_with("  and 13 more\n"));
}

#[test]
fn values_are_short() {
    let long = "word ".repeat(1000);
    let explanation = chat(&format!("{{\"a\":\"{long}\",\"b\":[{}1]}}", "1,".repeat(1000)));
    let shown = line(&explanation, "a").value.clone().unwrap();
    assert!(shown.chars().count() <= 62 && shown.ends_with("…\""), "{shown}");
    assert_eq!(line(&explanation, "b").value.as_deref(), Some("an array of 1001 elements"));
}

#[test]
fn an_explanation_reads_as_plain_words() {
    let spec = KeySpec::preset(ModelRoute::OpenAiChatCompletions);
    let headers = headers(&[("accept", "*/*")]);
    let tenant = TenantScope::Named("acme".into());
    let request = KeyedRequest { query: None, ..request(&tenant, &headers) };
    let body = br#"{"model":"gpt-4o","user":"u1","temperature":0}"#;
    let text = spec.explain(&request, None, body, ReusePolicy::Deterministic, false).to_string();
    let expected = "\
May be cached: yes (temperature-zero). The temperature is 0.

The key is made of:
  key schema version                         1
  spec                                       openai.chat_completions, version 2
  tenant                                     named acme
  upstream                                   https://(hidden)@api.openai.com
  method                                     POST
  path                                       /v1/chat/completions
  header azureml-model-deployment            absent
  header extra-parameters                    absent
  header openai-beta                         absent
  header x-amzn-bedrock-guardrailidentifier  absent
  header x-amzn-bedrock-guardrailversion     absent
  stream                                     the answer is one piece
";
    assert!(text.contains(expected), "{text}");
    let expected = "
In the body, this counts:
  model = \"gpt-4o\"
  temperature = 0

This does not count:
  user = \"u1\": left out, names the end user for abuse detection; the model does not see it
  header accept: left out, only the headers that the spec lists are keyed
";
    assert!(text.ends_with(expected), "{text}");
}
