//! What a key is made of, beside the body.

use http::{HeaderMap, HeaderValue};
use keyspec::{Key, KeySpec, KeyedRequest, ModelRoute, TenantScope};

const BODY: &[u8] = br#"{"model":"m","messages":[]}"#;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

/// The parts of a request that tests change one at a time.
struct Parts {
    spec: KeySpec,
    tenant: TenantScope,
    upstream: &'static str,
    method: &'static str,
    path: &'static str,
    query: Option<&'static str>,
    headers: HeaderMap,
    body: &'static [u8],
}

fn parts(route: ModelRoute) -> Parts {
    Parts {
        spec: KeySpec::preset(route),
        tenant: TenantScope::Anonymous,
        upstream: "https://api.example.com",
        method: "POST",
        path: "/v1/x",
        query: None,
        headers: HeaderMap::new(),
        body: BODY,
    }
}

impl Parts {
    fn key(&self) -> Key {
        let request = KeyedRequest {
            tenant: &self.tenant,
            upstream: self.upstream,
            method: self.method,
            path: self.path,
            query: self.query,
            headers: &self.headers,
        };
        self.spec.key(&request, &self.spec.read(self.body).expect("keyable"))
    }
}

fn chat() -> Parts {
    parts(ModelRoute::OpenAiChatCompletions)
}

fn with_query(query: &'static str) -> Key {
    Parts { query: Some(query), ..chat() }.key()
}

fn with_headers(route: ModelRoute, pairs: &[(&'static str, &'static str)]) -> Key {
    Parts { headers: headers(pairs), ..parts(route) }.key()
}

fn assert_all_differ(keys: &[Key]) {
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "key {index} repeats another");
    }
}

/// A change of this value orphans every entry that anyone has stored: it wants a new
/// `KEY_SCHEMA_VERSION`, or a new version of the presets.
#[test]
fn a_key_stays_the_same_from_release_to_release() {
    let all = Parts {
        tenant: TenantScope::Named("team-a".into()),
        query: Some("api-version=2024-10-21&key=secret"),
        headers: headers(&[("openai-beta", "assistants=v2"), ("user-agent", "x")]),
        ..chat()
    };
    assert_eq!(
        all.key().to_string(),
        "ks1_47806a70261c0c78517b23ed6baa3e57afddad58dbea042c25d02616de8e6608"
    );
}

#[test]
fn every_field_of_a_request_is_in_its_key() {
    assert_all_differ(&[
        chat().key(),
        parts(ModelRoute::OpenAiCompletions).key(),
        Parts { tenant: TenantScope::Shared, ..chat() }.key(),
        Parts { upstream: "https://api.example.com/", ..chat() }.key(),
        Parts { method: "PUT", ..chat() }.key(),
        Parts { path: "/v1/X", ..chat() }.key(),
        Parts { query: Some("a"), ..chat() }.key(),
        Parts { headers: headers(&[("openai-beta", "a")]), ..chat() }.key(),
        Parts { body: br#"{"model":"m2","messages":[]}"#, ..chat() }.key(),
    ]);
}

#[test]
fn every_route_has_keys_of_its_own() {
    assert_all_differ(&ModelRoute::ALL.map(|route| parts(route).key()));
}

#[test]
fn neighbouring_fields_never_run_together() {
    assert_all_differ(&[
        Parts { upstream: "ab", method: "c", path: "d", ..chat() }.key(),
        Parts { upstream: "a", method: "bc", path: "d", ..chat() }.key(),
        Parts { upstream: "a", method: "b", path: "cd", ..chat() }.key(),
        Parts { upstream: "", method: "abcd", path: "", ..chat() }.key(),
    ]);
}

#[test]
fn a_tenant_of_any_name_is_not_a_tenant_of_another_kind() {
    let tenants = [
        TenantScope::Anonymous,
        TenantScope::Shared,
        TenantScope::Named("anonymous".into()),
        TenantScope::Named("shared".into()),
        TenantScope::Named("".into()),
        TenantScope::Named("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".into()),
        TenantScope::Credential([b'a'; 32]),
        TenantScope::Credential([b'b'; 32]),
    ];
    assert_all_differ(&tenants.map(|tenant| Parts { tenant, ..chat() }.key()));
}

#[test]
fn the_order_of_query_names_and_their_escapes_do_not_count() {
    assert_eq!(with_query("a=1&b=2"), with_query("b=2&a=1"));
    assert_eq!(with_query("a=%31&b"), with_query("b&%61=1"));
    assert_eq!(with_query(""), chat().key());
}

#[test]
fn different_queries_have_different_keys() {
    assert_all_differ(
        &[
            "",
            "a",
            "a=",
            "a=1",
            "A=1",
            "a=1&a=2",
            "a=2&a=1",
            "a=1&a=1",
            "a=1%26a%3D2",
            "a==1",
            "a=1+2",
            "a=1%202",
            "a=1%2B2",
            "a=%zz",
            "a=%25zz",
            "a=1&b",
            "a=1&b=",
            "b=1",
            "keys=1",
        ]
        .map(with_query),
    );
}

#[test]
fn the_credential_in_a_query_is_not_keyed() {
    assert_eq!(with_query("alt=sse&key=secret"), with_query("alt=sse"));
    assert_eq!(with_query("k%65y=secret"), chat().key());
}

#[test]
fn only_the_headers_of_the_provider_are_keyed() {
    let keyed = [
        (
            ModelRoute::OpenAiChatCompletions,
            &[
                "openai-beta",
                "azureml-model-deployment",
                "extra-parameters",
                "x-amzn-bedrock-guardrailidentifier",
                "x-amzn-bedrock-guardrailversion",
            ][..],
        ),
        (
            ModelRoute::AnthropicMessages,
            &[
                "anthropic-version",
                "anthropic-beta",
                "x-amzn-bedrock-guardrailidentifier",
                "x-amzn-bedrock-guardrailversion",
            ][..],
        ),
        (ModelRoute::GeminiGenerateContent, &["x-goog-fieldmask"][..]),
    ];
    let all = [
        "openai-beta",
        "anthropic-version",
        "anthropic-beta",
        "azureml-model-deployment",
        "extra-parameters",
        "x-amzn-bedrock-guardrailidentifier",
        "x-amzn-bedrock-guardrailversion",
        "x-goog-fieldmask",
        "x-goog-api-client",
        "authorization",
        "x-api-key",
        "x-stainless-lang",
        "traceparent",
        "accept",
        "accept-encoding",
        "cookie",
        "user-agent",
        "idempotency-key",
        "cache-server-reuse",
    ];
    for (route, keyed) in keyed {
        for name in all {
            let changed = with_headers(route, &[(name, "1")]) != parts(route).key();
            assert_eq!(changed, keyed.contains(&name), "{name} on {}", route.name());
        }
    }
}

#[test]
fn all_values_of_a_keyed_header_count_and_so_does_their_order() {
    let beta = |values: &[&'static str]| {
        let pairs: Vec<_> = values.iter().map(|value| ("anthropic-beta", *value)).collect();
        with_headers(ModelRoute::AnthropicMessages, &pairs)
    };
    let version = with_headers(ModelRoute::AnthropicMessages, &[("anthropic-version", "a")]);
    let keys =
        [beta(&[]), beta(&["a"]), beta(&["a", "b"]), beta(&["b", "a"]), beta(&["a,b"]), version];
    assert_all_differ(&keys);
}

#[test]
fn a_custom_spec_has_keys_of_its_own_whatever_its_changes_come_to() {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let key = |spec: KeySpec| Parts { spec, ..chat() }.key();
    let preset = || chat().spec;
    assert_all_differ(&[
        key(preset()),
        key(preset().ignoring(&names(&["absent"]))),
        key(preset().keeping(&names(&["absent"]))),
        key(preset().ignoring(&names(&["absent", "other"]))),
        key(preset().ignoring(&names(&["absentother"]))),
        key(preset().ignoring(&names(&["absent"])).keeping(&names(&["other"]))),
    ]);
    assert_eq!(key(preset().ignoring(&[])), key(preset()));
    assert_eq!(
        key(preset().ignoring(&names(&["a", "b", "a"]))),
        key(preset().ignoring(&names(&["b"])).ignoring(&names(&["a"]))),
    );
}

#[test]
fn a_stream_never_shares_a_key_with_a_whole_answer() {
    let spec = chat().spec.ignoring(&["stream".to_owned()]);
    let key = |body| Parts { spec: spec.clone(), body, ..chat() }.key();
    assert_ne!(key(br#"{"stream":true}"#), key(br#"{"stream":false}"#));
}
