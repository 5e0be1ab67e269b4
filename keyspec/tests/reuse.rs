//! What is reused, what never is, and what the user is told.

use keyspec::ModelRoute::{self, *};
use keyspec::NeverReason::{self, *};
use keyspec::{Because, BodyFacts, KeySpec, NotReused, ReusePolicy};

const POLICIES: [ReusePolicy; 3] =
    [ReusePolicy::Deterministic, ReusePolicy::Declared, ReusePolicy::Any];

fn facts(route: ModelRoute, body: &str) -> BodyFacts {
    KeySpec::preset(route).read(body.as_bytes()).expect("keyable").facts
}

fn decide(
    route: ModelRoute,
    body: &str,
    policy: ReusePolicy,
    declared: bool,
) -> Result<Because, NotReused> {
    KeySpec::preset(route).reusable("POST", &facts(route, body), policy, declared)
}

fn by_itself(route: ModelRoute, body: &str) -> Result<Because, NotReused> {
    decide(route, body, ReusePolicy::Deterministic, false)
}

fn assert_never(route: ModelRoute, reason: NeverReason, bodies: &[&str]) {
    for body in bodies {
        for policy in POLICIES {
            let decision = decide(route, body, policy, true);
            assert_eq!(decision, Err(NotReused::Never(reason)), "{body}");
        }
    }
}

fn assert_not_never(route: ModelRoute, bodies: &[&str]) {
    for body in bodies {
        assert_eq!(facts(route, body).never, None, "{body}");
    }
}

#[test]
fn what_is_not_sampled_is_reused() {
    for route in [
        OpenAiEmbeddings,
        OpenAiModerations,
        AnthropicCountTokens,
        GeminiCountTokens,
        GeminiEmbedContent,
        GeminiBatchEmbedContents,
    ] {
        assert_eq!(by_itself(route, "{}"), Ok(Because::NotSampled), "{}", route.name());
    }
}

#[test]
fn temperature_zero_is_reused_in_any_spelling() {
    for zero in ["0", "0.0", "-0", "0e5", "0.000E-3"] {
        let body = format!(r#"{{"temperature":{zero}}}"#);
        for route in [OpenAiChatCompletions, OpenAiCompletions, AnthropicMessages] {
            assert_eq!(by_itself(route, &body), Ok(Because::TemperatureZero), "{body}");
        }
        for config in ["generationConfig", "generation_config"] {
            let body = format!(r#"{{"{config}":{body}}}"#);
            for route in [GeminiGenerateContent, GeminiStreamGenerateContent] {
                assert_eq!(by_itself(route, &body), Ok(Because::TemperatureZero), "{body}");
            }
        }
    }
}

#[test]
fn any_other_temperature_is_not_reused_by_itself() {
    let others = ["1", "0.7", "1e-400", "\"0\"", "null", "false", "[0]"];
    let bodies = others.map(|other| format!(r#"{{"temperature":{other}}}"#));
    for body in bodies.iter().map(String::as_str).chain(["{}", r#"{"x":{"temperature":0}}"#]) {
        for route in [OpenAiChatCompletions, AnthropicMessages] {
            assert_eq!(by_itself(route, body), Err(NotReused::NotDeterministic), "{body}");
        }
    }
    let outside = r#"{"temperature":0,"seed":1}"#;
    assert_eq!(by_itself(GeminiGenerateContent, outside), Err(NotReused::NotDeterministic));
}

#[test]
fn a_seed_is_reused_if_it_is_a_number() {
    assert_eq!(by_itself(OpenAiChatCompletions, r#"{"seed":42}"#), Ok(Because::Seed));
    let gemini = r#"{"generationConfig":{"seed":0,"temperature":1}}"#;
    assert_eq!(by_itself(GeminiGenerateContent, gemini), Ok(Because::Seed));
    for body in [r#"{"seed":null}"#, r#"{"seed":-1}"#, r#"{"seed":"42"}"#] {
        let decision = by_itself(OpenAiChatCompletions, body);
        assert_eq!(decision, Err(NotReused::NotDeterministic), "{body}");
    }
}

#[test]
fn two_gemini_configs_say_nothing_certain() {
    let body = r#"{"generationConfig":{"temperature":0},"generation_config":{"temperature":1}}"#;
    assert_eq!(by_itself(GeminiGenerateContent, body), Err(NotReused::NotDeterministic));
}

#[test]
fn the_policies_differ_in_who_must_say_so() {
    let sampled = r#"{"model":"o3","messages":[]}"#;
    let exact = r#"{"model":"gpt-4o","messages":[],"temperature":0}"#;
    let decide = |body, policy, declared| decide(OpenAiChatCompletions, body, policy, declared);
    for policy in POLICIES {
        assert_eq!(decide(sampled, policy, true), Ok(Because::Declared));
        assert_eq!(decide(exact, policy, true), Ok(Because::Declared));
    }
    assert_eq!(decide(sampled, ReusePolicy::Any, false), Ok(Because::PolicyAny));
    let not_declared = Err(NotReused::NotDeclared);
    assert_eq!(decide(exact, ReusePolicy::Declared, false), not_declared);
    assert_eq!(decide(sampled, ReusePolicy::Declared, false), not_declared);
}

#[test]
fn responses_are_stored_upstream_unless_the_request_forbids_it() {
    let stored = [
        r#"{"temperature":0}"#,
        r#"{"temperature":0,"store":null}"#,
        r#"{"temperature":0,"store":"no"}"#,
    ];
    for body in stored {
        let decide = |policy, declared| decide(OpenAiResponses, body, policy, declared);
        let by_itself = decide(ReusePolicy::Deterministic, false);
        assert_eq!(by_itself, Err(NotReused::StoresByDefault), "{body}");
        assert_eq!(decide(ReusePolicy::Deterministic, true), Ok(Because::Declared), "{body}");
        assert_eq!(decide(ReusePolicy::Any, false), Ok(Because::PolicyAny), "{body}");
        assert_eq!(decide(ReusePolicy::Declared, false), Err(NotReused::NotDeclared), "{body}");
    }
    let not_stored = r#"{"temperature":0,"store":false}"#;
    assert_eq!(by_itself(OpenAiResponses, not_stored), Ok(Because::TemperatureZero));
    let sampled = by_itself(OpenAiResponses, r#"{"store":false}"#);
    assert_eq!(sampled, Err(NotReused::NotDeterministic));
    assert!(!facts(OpenAiChatCompletions, "{}").stores_by_default);
}

#[test]
fn openai_state_background_and_storing_are_never_reused() {
    assert_never(
        OpenAiResponses,
        UpstreamState,
        &[
            r#"{"previous_response_id":"resp_1"}"#,
            r#"{"input":[{"type":"item_reference","id":"msg_1"}]}"#,
            r#"{"\u0070revious_response_id":"resp_1"}"#,
            r#"{"conversation":"conv_1"}"#,
            r#"{"conversation":{"id":"conv_1"}}"#,
            r#"{"prompt":{"id":"pmpt_1"}}"#,
            r#"{"prompt":{"id":"pmpt_1","version":null}}"#,
        ],
    );
    assert_never(OpenAiResponses, Background, &[r#"{"background":true}"#]);
    assert_never(OpenAiResponses, UpstreamStores, &[r#"{"store":true}"#]);
    assert_never(OpenAiChatCompletions, UpstreamStores, &[r#"{"store":true,"temperature":0}"#]);
    assert_not_never(
        OpenAiResponses,
        &[
            r#"{"previous_response_id":null,"conversation":null,"background":false,"store":false}"#,
            r#"{"prompt":{"id":"pmpt_1","version":"2"}}"#,
            r#"{"input":[{"previous_response_id":"resp_1","background":true,"store":true}]}"#,
        ],
    );
    assert_not_never(OpenAiCompletions, &[r#"{"prompt":"Hello"}"#, r#"{"prompt":["Hello"]}"#]);
}

#[test]
fn openai_server_tools_are_never_reused() {
    for kind in [
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
        "file_search",
        "code_interpreter",
        "computer_use_preview",
        "image_generation",
        "mcp",
        "local_shell",
        "shell",
        "x_search",
        "browser_search",
        "of_next_year",
    ] {
        let function = r#"{"type":"function","name":"f","parameters":{}}"#;
        let body = format!(r#"{{"store":false,"tools":[{function},{{"type":"{kind}"}}]}}"#);
        assert_never(OpenAiResponses, ServerTool, &[&body]);
    }
    assert_never(
        OpenAiChatCompletions,
        ServerTool,
        &[
            r#"{"web_search_options":{}}"#,
            r#"{"model":"gpt-4o-search-preview"}"#,
            r#"{"model":"gpt-4o-mini-search-preview-2025-03-11"}"#,
            r#"{"model":"gpt-5-search-api"}"#,
            r#"{"data_sources":[{"type":"azure_search"}]}"#,
            r#"{"search_parameters":{"mode":"auto"}}"#,
            r#"{"plugins":[{"id":"web"}]}"#,
            r#"{"enable_search":true}"#,
            r#"{"tools":[{"googleSearch":{}}]}"#,
            r#"{"model":"openai/gpt-4o:online"}"#,
            r#"{"model":"llama-3.1-sonar-small-128k-online"}"#,
            r#"{"model":"sonar"}"#,
            r#"{"model":"perplexity/sonar-pro"}"#,
            r#"{"model":"groq/compound-mini"}"#,
        ],
    );
    assert_not_never(
        OpenAiResponses,
        &[
            r#"{"model":"offline/no-sonar","tools":[{"name":"f"},{"function":{"name":"f"}}]}"#,
            r#"{"tools":[{"type":"function","name":"web_search"},{"type":"custom"}]}"#,
            r#"{"tools":[]}"#,
            r#"{"tools":null}"#,
            r#"{"tools":[1,null,"mcp",{"type":1}]}"#,
        ],
    );
    assert_not_never(
        OpenAiChatCompletions,
        &[
            r#"{"web_search_options":null,"model":"gpt-4o","data_sources":[]}"#,
            r#"{"search_parameters":null,"plugins":[],"enable_search":false}"#,
        ],
    );
}

#[test]
fn anthropic_server_tools_and_containers_are_never_reused() {
    for kind in
        ["web_search_20250305", "web_fetch_20250910", "code_execution_20250825", "advisor_20270101"]
    {
        let body = format!(r#"{{"tools":[{{"type":"{kind}","name":"t"}}]}}"#);
        assert_never(AnthropicMessages, ServerTool, &[&body]);
        assert_not_never(AnthropicCountTokens, &[&body]);
    }
    let servers = r#"{"mcp_servers":[{"type":"url","url":"https://example.com","name":"x"}]}"#;
    assert_never(AnthropicMessages, ServerTool, &[servers]);
    assert_never(AnthropicCountTokens, ServerTool, &[servers]);
    assert_never(AnthropicMessages, UpstreamState, &[r#"{"container":"container_1"}"#]);
    assert_not_never(
        AnthropicMessages,
        &[
            r#"{"tools":[{"type":"bash_20250124","name":"bash"}]}"#,
            r#"{"tools":[{"type":"text_editor_20250728","name":"e"}]}"#,
            r#"{"tools":[{"type":"computer_20250124","name":"c"}]}"#,
            r#"{"tools":[{"type":"tool_search_tool_regex_20251119","name":"s"}]}"#,
            r#"{"tools":[{"type":"custom","name":"mine"}]}"#,
            r#"{"tools":[{"name":"web_search","input_schema":{"type":"web_search_x"}}]}"#,
            r#"{"mcp_servers":[],"container":null}"#,
        ],
    );
}

#[test]
fn gemini_server_tools_are_never_reused() {
    for name in [
        "googleSearch",
        "google_search",
        "googleSearchRetrieval",
        "google_search_retrieval",
        "codeExecution",
        "code_execution",
        "urlContext",
        "url_context",
        "googleMaps",
        "google_maps",
        "fileSearch",
        "file_search",
        "retrieval",
        "aToolYetUnknown",
    ] {
        let list = format!(r#"{{"tools":[{{"functionDeclarations":[]}},{{"{name}":{{}}}}]}}"#);
        let single = format!(r#"{{"tools":{{"{name}":{{}}}}}}"#);
        assert_never(GeminiGenerateContent, ServerTool, &[&list, &single]);
        assert_never(GeminiStreamGenerateContent, ServerTool, &[&list]);
        assert_not_never(GeminiCountTokens, &[&list]);
    }
    assert_not_never(
        GeminiGenerateContent,
        &[
            r#"{"tools":[{"functionDeclarations":[{"name":"googleSearch"}]}]}"#,
            r#"{"tools":[{"function_declarations":[],"googleSearch":null}]}"#,
            r#"{"tools":[{"computerUse":{"environment":"ENVIRONMENT_BROWSER"}}]}"#,
            r#"{"cachedContent":"cachedContents/abc"}"#,
        ],
    );
}

#[test]
fn the_facts_are_read_from_where_each_provider_has_them() {
    let chat = facts(
        OpenAiChatCompletions,
        r#"{"model":"gpt-4\u006f","stream":true,"max_completion_tokens":5,"seed":1}"#,
    );
    assert_eq!(chat.model.as_deref(), Some("gpt-4o"));
    assert!(chat.stream && chat.names_token_limit && chat.has_seed && !chat.temperature_is_zero);
    for limit in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
        let limited = |value| format!(r#"{{"{limit}":{value}}}"#);
        assert!(facts(OpenAiResponses, &limited("16")).names_token_limit, "{limit}");
        assert!(!facts(OpenAiResponses, &limited("null")).names_token_limit, "{limit}");
    }
    assert!(facts(AnthropicMessages, r#"{"max_tokens":16}"#).names_token_limit);
    for limit in ["maxOutputTokens", "max_output_tokens"] {
        let body = format!(r#"{{"generationConfig":{{"{limit}":16}}}}"#);
        assert!(facts(GeminiGenerateContent, &body).names_token_limit, "{limit}");
    }
    assert!(!facts(OpenAiChatCompletions, r#"{"stream":"true"}"#).stream);
    assert!(facts(GeminiStreamGenerateContent, "{}").stream);
    assert!(!facts(GeminiGenerateContent, "{}").stream);
}

#[test]
fn a_model_name_is_reported_up_to_its_length() {
    let model = |length: usize| {
        let body = format!(r#"{{"model":"{}"}}"#, "m".repeat(length));
        facts(OpenAiChatCompletions, &body).model.map(|model| model.len())
    };
    assert_eq!(model(keyspec::MODEL_BYTES_MAX), Some(keyspec::MODEL_BYTES_MAX));
    assert_eq!(model(keyspec::MODEL_BYTES_MAX + 1), None);
    assert_eq!(facts(OpenAiChatCompletions, r#"{"model":7}"#).model, None);
}

#[test]
fn policies_read_back_as_they_are_written() {
    for policy in POLICIES {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    assert!("Any".parse::<ReusePolicy>().is_err());
}

#[test]
fn the_advice_names_what_to_change() {
    let advice = NotReused::NotDeterministic.advice();
    for part in ["temperature 0", "no temperature", "Cache-Server-Reuse: yes", "reuse = \"any\""] {
        assert!(advice.contains(part), "{part}");
    }
    let all = [
        NotReused::Never(UpstreamState),
        NotReused::Never(Background),
        NotReused::Never(UpstreamStores),
        NotReused::Never(ServerTool),
        NotReused::StoresByDefault,
        NotReused::NotDeterministic,
        NotReused::NotDeclared,
    ];
    for (index, reason) in all.iter().enumerate() {
        assert!(reason.advice().ends_with('.') && !reason.advice().contains("  "));
        assert!(!all[..index].iter().any(|other| other.code() == reason.code()));
    }
}
