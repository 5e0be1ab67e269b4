//! The preset of the Model Context Protocol: which messages are calls, what of them is keyed,
//! and when an answer is given again.

use http::{HeaderMap, HeaderValue};
use keyspec::{
    Because, BodyFacts, Key, KeySpec, KeySpecs, KeyedRequest, Kind, NeverReason, NotReused,
    ReusePolicy, TenantScope,
};
use serde_json::{Value, json};

fn call(method: &str) -> Value {
    json!({
        "jsonrpc": "2.0", "id": 1, "method": method,
        "params": {"name": "search", "arguments": {"query": "cats"}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "progressToken": "p-1"}}
    })
}

fn facts(body: &Value) -> BodyFacts {
    KeySpec::mcp().read(body.to_string().as_bytes()).expect("keyable").facts
}

fn canonical(body: &Value) -> Vec<u8> {
    KeySpec::mcp().canonical(None, body.to_string().as_bytes()).expect("keyable")
}

fn key(body: &Value, header: Option<(&'static str, &'static str)>) -> Key {
    let headers: HeaderMap = header
        .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)))
        .into_iter()
        .collect();
    let request = KeyedRequest {
        tenant: &TenantScope::Anonymous,
        upstream: "https://tools.example.com",
        method: "POST",
        path: "/mcp",
        query: None,
        headers: &headers,
    };
    let spec = KeySpec::mcp();
    spec.key(&request, &spec.read(body.to_string().as_bytes()).expect("keyable"))
}

/// The request with another value at a JSON pointer.
fn with(body: &Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    let mut body = body.clone();
    body.pointer_mut(parent).expect("the parent is there")[name] = value;
    body
}

#[test]
fn a_post_to_a_path_that_ends_in_mcp_is_of_the_protocol() {
    let specs = KeySpecs::default();
    let is_mcp = |method, path| specs.find(method, path).is_some_and(|found| found.spec.is_mcp());
    for path in ["/mcp", "/v1/mcp", "/teams/a/mcp"] {
        assert!(is_mcp("POST", path), "{path}");
        assert!(!is_mcp("GET", path) && !is_mcp("DELETE", path), "{path}");
    }
    for path in ["/mcp/", "/mcp/x", "/xmcp", "/MCP", "/"] {
        assert!(!is_mcp("POST", path), "{path}");
    }
}

#[test]
fn the_method_decides_what_is_asked_for() {
    let table = [
        ("tools/list", Kind::Listing, None),
        ("prompts/list", Kind::Listing, None),
        ("resources/list", Kind::Listing, None),
        ("resources/templates/list", Kind::Listing, None),
        ("resources/read", Kind::Listing, None),
        ("server/discover", Kind::Listing, None),
        ("tools/call", Kind::ToolCall, None),
        ("prompts/get", Kind::ToolCall, None),
        ("completion/complete", Kind::ToolCall, None),
        ("initialize", Kind::ToolCall, Some(NeverReason::NoCall)),
        ("ping", Kind::ToolCall, Some(NeverReason::NoCall)),
        ("logging/setLevel", Kind::ToolCall, Some(NeverReason::NoCall)),
        ("resources/subscribe", Kind::ToolCall, Some(NeverReason::NoCall)),
        ("subscriptions/listen", Kind::ToolCall, Some(NeverReason::NoCall)),
        ("tasks/get", Kind::ToolCall, Some(NeverReason::NoCall)),
        ("notifications/cancelled", Kind::ToolCall, Some(NeverReason::NoCall)),
        ("Tools/List", Kind::ToolCall, Some(NeverReason::NoCall)),
        ("", Kind::ToolCall, Some(NeverReason::NoCall)),
    ];
    for (method, kind, never) in table {
        let facts = facts(&call(method));
        assert_eq!((facts.kind, facts.never), (kind, never), "{method}");
    }
}

#[test]
fn what_names_no_method_or_has_no_id_is_no_call() {
    let no_id = json!({"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "a"}});
    let no_method = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
    let method_of_another_type = json!({"jsonrpc": "2.0", "id": 1, "method": ["tools/list"]});
    let null_id = with(&call("tools/list"), "/id", json!(null));
    for body in [no_id, null_id, no_method, method_of_another_type, json!({})] {
        assert_eq!(facts(&body).never, Some(NeverReason::NoCall), "{body}");
    }
    for id in [json!(0), json!("a")] {
        assert_eq!(facts(&with(&call("tools/list"), "/id", id.clone())).never, None, "{id}");
    }
}

#[test]
fn calls_that_go_on_with_state_or_run_as_a_task_are_never_reused() {
    let table = [
        ("inputResponses", json!({"a": {"action": "accept"}}), NeverReason::UpstreamState),
        ("requestState", json!("opaque"), NeverReason::UpstreamState),
        ("task", json!({"ttl": 60_000}), NeverReason::Background),
    ];
    for (name, value, never) in table {
        for method in ["tools/call", "prompts/get", "resources/read"] {
            let body = with(&call(method), &format!("/params/{name}"), value.clone());
            assert_eq!(facts(&body).never, Some(never), "{body}");
        }
    }
    // Null is as good as nothing here, and in the arguments of a tool the name is the caller's.
    let null = with(&call("tools/call"), "/params/requestState", json!(null));
    assert_eq!(facts(&null).never, None);
    let own = with(&call("tools/call"), "/params/arguments/requestState", json!("mine"));
    assert_eq!(facts(&own).never, None);
}

#[test]
fn the_tool_is_reported_of_a_tool_call_alone() {
    assert_eq!(facts(&call("tools/call")).tool.as_deref(), Some("search"));
    assert_eq!(facts(&call("prompts/get")).tool, None);
    let named = |name: Value| facts(&with(&call("tools/call"), "/params/name", name)).tool;
    assert_eq!(named(json!("a".repeat(256))).map(|tool| tool.len()), Some(256));
    assert_eq!(named(json!("a".repeat(257))), None);
    assert_eq!(named(json!(7)), None);
    let no_object = json!({"id": 1, "method": "tools/call", "params": ["search"]});
    assert_eq!(facts(&no_object).tool, None);
}

#[test]
fn the_id_and_what_names_a_trace_are_not_keyed() {
    for (pointer, value) in [
        ("/id", json!("another")),
        ("/params/_meta/progressToken", json!(7)),
        ("/params/_meta/traceparent", json!("00-1-2-01")),
        ("/params/_meta/tracestate", json!("a=1")),
        ("/params/_meta/baggage", json!("b=2")),
    ] {
        for method in ["tools/call", "tools/list"] {
            let body = call(method);
            assert_eq!(canonical(&with(&body, pointer, value.clone())), canonical(&body));
        }
    }
}

#[test]
fn all_else_is_keyed() {
    for (pointer, value) in [
        ("/jsonrpc", json!("1.0")),
        ("/method", json!("prompts/get")),
        ("/progressToken", json!(1)),
        ("/params/id", json!(1)),
        ("/params/name", json!("find")),
        ("/params/arguments/query", json!("dogs")),
        ("/params/arguments/id", json!(1)),
        ("/params/arguments/_meta", json!({"progressToken": 1})),
        ("/params/_meta/io.modelcontextprotocol~1protocolVersion", json!("2025-11-25")),
        ("/params/_meta/io.modelcontextprotocol~1protocolVersion ", json!("2025-11-25")),
        ("/params/_meta/com.example~1locale", json!("de")),
        ("/params/_meta/id", json!(1)),
        ("/a_member_of_the_future", json!(null)),
    ] {
        let body = call("tools/call");
        let name = pointer.rsplit_once('/').map(|(parent, name)| (parent, name.replace("~1", "/")));
        let (parent, name) = name.expect("a pointer begins with a slash");
        let mut other = body.clone();
        other.pointer_mut(parent).expect("the parent is there")[&name] = value;
        assert_ne!(canonical(&other), canonical(&body), "{pointer}");
    }
}

#[test]
fn the_order_of_a_tools_arguments_does_not_count() {
    let body = |arguments: &str| {
        let body =
            format!(r#"{{"id":1,"method":"tools/call","params":{{"arguments":{arguments}}}}}"#);
        KeySpec::mcp().canonical(None, body.as_bytes()).expect("keyable")
    };
    assert_eq!(body(r#"{"a":1,"b":{"c":2,"d":3}}"#), body(r#"{"b":{"d":3,"c":2},"a":1}"#));
    assert_ne!(body(r#"{"a":[1,2]}"#), body(r#"{"a":[2,1]}"#));
}

#[test]
fn the_version_and_the_session_in_the_header_count_and_its_copies_of_the_body_do_not() {
    let body = call("tools/call");
    let plain = key(&body, None);
    for name in ["mcp-protocol-version", "mcp-session-id"] {
        let (one, other) = (key(&body, Some((name, "1"))), key(&body, Some((name, "2"))));
        assert!(one != plain && other != plain && one != other, "{name}");
    }
    for name in
        ["mcp-method", "mcp-name", "accept", "last-event-id", "authorization", "traceparent"]
    {
        assert_eq!(key(&body, Some((name, "1"))), plain, "{name}");
    }
}

#[test]
fn a_batch_or_anything_else_that_is_no_object_is_not_keyable() {
    let batch = json!([call("tools/list")]).to_string();
    for body in [batch.as_str(), "[]", "1", "\"tools/list\"", "null"] {
        let error = KeySpec::mcp().read(body.as_bytes()).expect_err(body);
        assert_eq!(error.code(), "not-an-object", "{body}");
    }
}

/// A spec of one's own that lists a tool.
fn listing_search(more: &str) -> KeySpec {
    let text = format!(
        "version = 1\n[[key_spec]]\nname = \"tools\"\nversion = 1\npreset = \"mcp\"\n\
         path = \"/tools\"\ntools = [\"search\", \"look\"]\n{more}"
    );
    let specs = KeySpecs::from_toml(&text).expect("fine");
    KeySpec::clone(specs.find("POST", "/tools").expect("there is one").spec)
}

#[test]
fn policies_tools_and_declarations_decide_on_reuse() {
    use ReusePolicy::{Any, Declared, Deterministic};
    let (preset, listing) = (KeySpec::mcp(), listing_search(""));
    let deterministic = listing_search("deterministic = true");
    let table = [
        // What a server offers changes when it pleases.
        (&preset, "tools/list", Deterministic, Err(NotReused::ListingNotDeclared)),
        (&preset, "resources/read", Deterministic, Err(NotReused::ListingNotDeclared)),
        (&preset, "server/discover", Declared, Err(NotReused::NotDeclared)),
        (&preset, "tools/list", Any, Ok(Because::PolicyAny)),
        (&deterministic, "tools/list", Deterministic, Ok(Because::SpecDeterministic)),
        // A tool may do more than answer, and no policy for all makes its calls repeatable.
        (&preset, "tools/call", Deterministic, Err(NotReused::ToolNotListed)),
        (&preset, "tools/call", Any, Err(NotReused::ToolNotListed)),
        (&preset, "tools/call", Declared, Err(NotReused::NotDeclared)),
        (&preset, "prompts/get", Any, Err(NotReused::ToolNotListed)),
        (&listing, "tools/call", Deterministic, Ok(Because::ToolListed)),
        (&listing, "tools/call", Any, Ok(Because::ToolListed)),
        (&listing, "tools/call", Declared, Err(NotReused::NotDeclared)),
        // A prompt of a listed tool's name is no tool.
        (&listing, "prompts/get", Any, Err(NotReused::ToolNotListed)),
    ];
    for (spec, method, policy, expected) in table {
        let meaning = spec.read(call(method).to_string().as_bytes()).expect("keyable");
        let decide = |declared| spec.reusable("POST", &meaning.facts, policy, declared);
        assert_eq!(decide(false), expected, "{} {method} {policy}", spec.name());
        assert_eq!(decide(true), Ok(Because::Declared), "{} {method} {policy}", spec.name());
    }
}

#[test]
fn a_tool_is_listed_by_its_exact_name() {
    let listing = listing_search("");
    for (name, listed) in [("search", true), ("look", true), ("Search", false), ("search ", false)]
    {
        let body = with(&call("tools/call"), "/params/name", json!(name)).to_string();
        let meaning = listing.read(body.as_bytes()).expect("keyable");
        let decision = listing.reusable("POST", &meaning.facts, ReusePolicy::Deterministic, false);
        assert_eq!(decision.is_ok(), listed, "{name}");
    }
}

#[test]
fn what_is_never_reused_is_not_even_when_it_is_declared_and_listed() {
    let listing = listing_search("deterministic = true");
    let state = with(&call("tools/call"), "/params/requestState", json!("s"));
    for (body, never) in [
        (call("initialize"), NeverReason::NoCall),
        (state, NeverReason::UpstreamState),
        (json!({"method": "notifications/initialized"}), NeverReason::NoCall),
    ] {
        let meaning = listing.read(body.to_string().as_bytes()).expect("keyable");
        for policy in [ReusePolicy::Deterministic, ReusePolicy::Declared, ReusePolicy::Any] {
            let decision = listing.reusable("POST", &meaning.facts, policy, true);
            assert_eq!(decision, Err(NotReused::Never(never)), "{body}");
        }
    }
}
