//! How often reading a body asks for memory.

use keyspec::{KeySpec, ModelRoute};

/// A chat of a few turns with the usual settings, 2 KB of it.
fn chat() -> String {
    let turn = |role: &str, times| {
        let text = r#"What is asked, with a \"quotation\" and a café.\n"#.repeat(times);
        format!(r#"{{"role":"{role}","content":"{text}"}}"#)
    };
    let turns = [turn("system", 10), turn("user", 6), turn("assistant", 12), turn("user", 7)];
    format!(
        r#"{{"messages":[{}],"model":"gpt-4o-2024-08-06","max_tokens":512,"seed":42,"stream":false,"temperature":0.7,"top_p":1.0,"user":"user-1234"}}"#,
        turns.join(",")
    )
}

fn allocations(body: &str) -> u64 {
    let spec = KeySpec::preset(ModelRoute::OpenAiChatCompletions);
    allocation_counter::measure(|| {
        spec.read(body.as_bytes()).expect("keyable");
    })
    .count_total
}

#[test]
fn reading_a_chat_allocates_four_times() {
    assert_eq!(allocations(&chat()), 4);
}

#[test]
fn allocations_do_not_grow_with_the_members() {
    let message = r#"{"role":"user","content":"What is asked.","weight":0.5}"#;
    let body =
        |count| format!(r#"{{"model":"m","messages":[{}]}}"#, vec![message; count].join(","));
    // The lists of values double when the guess at their length was too short.
    assert!(allocations(&body(1_000)) <= allocations(&body(1)) + 4);
}
