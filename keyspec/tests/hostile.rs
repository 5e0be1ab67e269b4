//! Whatever is sent, nothing panics, and nothing is keyed that a plain parser refuses.

mod spelling;

use keyspec::{CredentialDigest, Credentials, Key, KeySpec, KeyedRequest, ModelRoute, TenantScope};
use proptest::prelude::*;
use spelling::{Speller, any_object};

/// Bodies that every provider's rules have something to look at in.
const SAMPLE: &str = r#"{"model":"gpt-4o-search-preview","messages":[{"role":"user","content":[{"type":"text","text":"caf\u00e9 \ud83d\ude00","cache_control":{"type":"ephemeral"}}]}],"temperature":0.0,"seed":-1.5e3,"tools":[{"type":"web_search","function":{"parameters":{"b":1,"a":[true,false,null]}},"googleSearch":{}}],"generationConfig":{"temperature":0,"maxOutputTokens":9007199254740993},"store":false,"stream":true,"prompt":{"id":"p"}}"#;

fn edited(body: &[u8], edits: &[(usize, u8, u8)]) -> Vec<u8> {
    let mut body = body.to_vec();
    for (place, kind, byte) in edits {
        let at = place % body.len().max(1);
        match kind % 4 {
            _ if body.is_empty() => body.push(*byte),
            0 => body[at] = *byte,
            1 => drop(body.remove(at)),
            2 => body.insert(at, *byte),
            _ => body.truncate(at),
        }
    }
    body
}

/// Bytes that matter to JSON more often than chance has them.
fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\u0d8eE+-.1 \n".to_vec())]
}

fn any_edits() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
    prop::collection::vec((any::<usize>(), any::<u8>(), any_byte()), 0..4)
}

/// Reads a body with every spec, and checks it against a plain parser.
fn read_everywhere(body: &[u8]) -> Result<(), TestCaseError> {
    let plain: Result<serde_json::Value, _> = serde_json::from_slice(body);
    for route in ModelRoute::ALL {
        match KeySpec::preset(route).read(body) {
            Ok(_) => {
                // A plain parser refuses numbers beyond a double; here they are exact.
                let refused = plain.as_ref().err().map(ToString::to_string).unwrap_or_default();
                let fine = refused.is_empty() || refused.starts_with("number out of range");
                prop_assert!(fine, "keyed, but: {}", refused);
            }
            Err(error) => {
                let strict = ["duplicate-member", "not-an-object", "number-out-of-range"];
                let fine = plain.is_err() || strict.contains(&error.code());
                prop_assert!(fine, "not keyed without need: {}", error);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused(body in prop::collection::vec(any_byte(), 0..200)) {
        read_everywhere(&body)?;
    }

    #[test]
    fn damaged_requests_are_read_or_refused(edits in any_edits()) {
        read_everywhere(&edited(SAMPLE.as_bytes(), &edits))?;
    }

    #[test]
    fn damaged_values_are_read_or_refused(
        value in any_object(), seed in any::<u64>(), edits in any_edits(),
    ) {
        read_everywhere(&edited(Speller::new(seed).spell(&value).as_bytes(), &edits))?;
    }

    #[test]
    fn any_path_matches_or_does_not(
        path in "(/[a-z%:3A]{0,8}){0,4}(/v1|/models|/openai/deployments)?(/[^/]{0,4})?(/messages|:countTokens|/embeddings)?",
    ) {
        if let Some(matched) = ModelRoute::match_request("POST", &path) {
            prop_assert!(matched.model_in_path.is_none_or(|model| path.contains(model)));
        }
    }

    #[test]
    fn any_query_has_credentials_and_a_key(query in "[a-c=&%+2Bkey]{0,40}|.{0,20}") {
        let headers = http::HeaderMap::new();
        let credentials = Credentials::from_request(&headers, Some(&query));
        let tenant = credentials.own_scope();
        prop_assert_eq!(credentials.is_empty(), tenant == TenantScope::Anonymous);
        let spec = KeySpec::preset(ModelRoute::GeminiGenerateContent);
        let meaning = spec.read(b"{}").unwrap();
        let request = KeyedRequest {
            tenant: &tenant,
            upstream: "",
            method: "",
            path: "",
            query: Some(&query),
            headers: &headers,
        };
        prop_assert_eq!(spec.key(&request, &meaning), spec.key(&request, &meaning));
    }

    #[test]
    fn any_text_parses_or_does_not(text in "(ks1_)?[0-9a-fA-F]{60,66}|.{0,80}") {
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(key.to_string(), text.clone());
        }
        if let Ok(digest) = text.parse::<CredentialDigest>() {
            prop_assert_eq!(digest.to_string(), text);
        }
    }
}
