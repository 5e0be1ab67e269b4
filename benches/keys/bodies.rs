//! Bodies as the SDKs send them: members in the order of the SDK, no white space, text with
//! some escapes and some characters beyond ASCII. The same at every run.

use std::fmt::Write as _;

use keyspec::{KeySpec, ModelRoute};

/// A body, and the spec that reads it.
pub(crate) struct Body {
    pub(crate) name: &'static str,
    pub(crate) spec: KeySpec,
    pub(crate) bytes: Vec<u8>,
    /// Whether its canonical form is that of RFC 8785: nothing is left out of it, and it has no
    /// schema.
    pub(crate) is_rfc8785: bool,
}

impl Body {
    /// All bodies that are measured, from the shortest to the longest.
    pub(crate) fn all() -> Vec<Body> {
        use ModelRoute::{OpenAiChatCompletions, OpenAiEmbeddings};
        vec![
            Body::new("chat", OpenAiChatCompletions, chat(), false),
            Body::new("agent", OpenAiChatCompletions, agent(), false),
            Body::new("embeddings", OpenAiEmbeddings, embeddings(), true),
        ]
    }

    fn new(name: &'static str, route: ModelRoute, body: String, is_rfc8785: bool) -> Body {
        Body { name, spec: KeySpec::preset(route), bytes: body.into_bytes(), is_rfc8785 }
    }
}

/// Four messages and the usual settings: 2 KB.
fn chat() -> String {
    let mut writer = Writer::new(1);
    let messages = [
        ("system", writer.text(500)),
        ("user", writer.text(300)),
        ("assistant", writer.text(600)),
        ("user", writer.text(350)),
    ]
    .map(|(role, text)| format!(r#"{{"role":"{role}","content":"{text}"}}"#))
    .join(",");
    format!(
        r#"{{"messages":[{messages}],"model":"gpt-4o-2024-08-06","max_tokens":512,"seed":42,"stream":false,"temperature":0.7,"top_p":1.0,"user":"user-1234"}}"#
    )
}

/// Turns of calls and results after a list of tools with their schemas: 50 KB.
fn agent() -> String {
    let mut writer = Writer::new(2);
    let mut messages = vec![format!(r#"{{"role":"system","content":"{}"}}"#, writer.text(2_000))];
    for turn in 0..20 {
        messages.push(format!(r#"{{"role":"user","content":"{}"}}"#, writer.text(200)));
        messages.push(format!(
            r#"{{"role":"assistant","content":null,"tool_calls":[{{"id":"call_{turn:024}","type":"function","function":{{"name":"search_{}","arguments":"{{\"query\":\"{}\",\"limit\":{turn}}}"}}}}]}}"#,
            turn % 16,
            writer.words(30),
        ));
        messages.push(format!(
            r#"{{"role":"tool","tool_call_id":"call_{turn:024}","content":"{}"}}"#,
            writer.text(800),
        ));
        messages.push(format!(
            r#"{{"role":"assistant","content":[{{"type":"text","text":"{}"}}]}}"#,
            writer.text(300),
        ));
    }
    let tools: Vec<String> = (0..16).map(|index| tool(index, &mut writer)).collect();
    format!(
        r#"{{"messages":[{}],"model":"gpt-4o-2024-08-06","parallel_tool_calls":true,"temperature":0.2,"tool_choice":"auto","tools":[{}]}}"#,
        messages.join(","),
        tools.join(","),
    )
}

fn tool(index: usize, writer: &mut Writer) -> String {
    let properties: Vec<String> = ["query", "filter", "limit", "since", "order"]
        .into_iter()
        .map(|name| {
            let about = writer.words(60);
            match name {
                "limit" => format!(
                    r#""limit":{{"type":"integer","description":"{about}","minimum":1,"maximum":100,"default":10}}"#
                ),
                "order" => format!(
                    r#""order":{{"type":"string","enum":["ascending","descending"],"description":"{about}"}}"#
                ),
                name => format!(r#""{name}":{{"type":"string","description":"{about}"}}"#),
            }
        })
        .collect();
    format!(
        r#"{{"type":"function","function":{{"name":"search_{index}","description":"{}","parameters":{{"type":"object","properties":{{{}}},"required":["query"],"additionalProperties":false}},"strict":true}}}}"#,
        writer.text(250),
        properties.join(","),
    )
}

/// A batch of texts: 1 MB.
fn embeddings() -> String {
    let mut writer = Writer::new(3);
    let texts: Vec<String> =
        (0..2_000).map(|index| format!(r#""{}""#, writer.text(300 + index % 7 * 75))).collect();
    format!(
        r#"{{"input":[{}],"model":"text-embedding-3-small","dimensions":512,"encoding_format":"base64"}}"#,
        texts.join(",")
    )
}

/// Writes prose as it stands in a JSON string.
struct Writer {
    random: fastrand::Rng,
}

impl Writer {
    fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed) }
    }

    /// Paragraphs of about this many bytes: a line break now and then, a quotation, a dash, a
    /// letter with an accent, a figure, and as some encoders write it an escaped character.
    fn text(&mut self, bytes: usize) -> String {
        let mut text = String::new();
        while text.len() < bytes {
            let sentence = self.words(60);
            match self.random.u8(..12) {
                0 => write!(text, "{sentence}.\\n\\n"),
                1 => write!(text, "\\\"{sentence}\\\". "),
                2 => write!(text, "{sentence} — {}. ", self.words(20)),
                3 => write!(text, "{sentence}, naïve café. "),
                4 => write!(text, "{sentence} {:.2}. ", self.random.f64() * 100.0),
                5 if self.random.u8(..4) == 0 => write!(text, "{sentence}\\u2019s. "),
                _ => write!(text, "{sentence}. "),
            }
            .expect("a string takes all that is written");
        }
        text
    }

    /// Words of about this many bytes together.
    fn words(&mut self, bytes: usize) -> String {
        const WORDS: [&str; 16] = [
            "the",
            "request",
            "of",
            "a",
            "cached",
            "answer",
            "is",
            "meaning",
            "without",
            "model",
            "in",
            "canonical",
            "form",
            "and",
            "tokens",
            "between",
        ];
        let mut words = String::from("What");
        while words.len() < bytes {
            words.push(' ');
            words.push_str(self.random.choice(WORDS).expect("there are words"));
        }
        words
    }
}
