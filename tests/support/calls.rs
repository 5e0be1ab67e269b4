//! Calls as the providers' SDKs make them, and the fixtures that answer them.

use std::fs;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::sample::recorded;
use crate::{Client, Received, Reply, Upstream};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

/// Names the fixture that an upstream is to answer with. It is forwarded, as every field is
/// that we do not know, and it is in no key.
pub const FIXTURE_FIELD: &str = "x-test-fixture";

/// A secret of the length that real ones have, one for each place a credential may stand in.
pub const SECRET: &str = "sk-test-4f0c9d1e7b2a4c6d8e0f1a2b3c4d5e6f";

/// One model call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The folder of `fixtures/answers` with the answers to it.
    pub folder: &'static str,
    /// The file of `fixtures/headers` with the fields of the answers.
    pub provider: &'static str,
    /// Whether an event stream answers it.
    pub streams: bool,
    /// Path and query; a `?key=` in it is the credential.
    pub path: &'static str,
    /// The credential and what else the provider's SDK sends.
    pub fields: &'static [(&'static str, &'static str)],
    /// The body, spaced as no serializer here would space it.
    pub body: &'static str,
}

const OPENAI: &[(&str, &str)] = &[
    ("authorization", "Bearer sk-test-4f0c9d1e7b2a4c6d8e0f1a2b3c4d5e6f"),
    ("user-agent", "OpenAI/Python 1.109.1"),
    ("x-stainless-retry-count", "0"),
];
const AZURE: &[(&str, &str)] = &[("api-key", SECRET), ("user-agent", "AzureOpenAI/Python 1.109.1")];
const ANTHROPIC: &[(&str, &str)] = &[
    ("x-api-key", SECRET),
    ("anthropic-version", "2023-06-01"),
    ("user-agent", "Anthropic/Python 0.71.0"),
];
const GEMINI: &[(&str, &str)] =
    &[("x-goog-api-key", SECRET), ("x-goog-api-client", "google-genai-sdk/1.45.0")];
/// The credential is in the path.
const GEMINI_BY_QUERY: &[(&str, &str)] = &[("x-goog-api-client", "google-genai-sdk/1.45.0")];

const fn call(
    (folder, provider): (&'static str, &'static str),
    streams: bool,
    path: &'static str,
    fields: &'static [(&'static str, &'static str)],
    body: &'static str,
) -> Call {
    Call { folder, provider, streams, path, fields, body }
}

/// Every model route, in every form of its answer, with every style of credential.
pub const CALLS: &[Call] = &[
    call(
        ("openai-chat-completions", "openai"),
        false,
        "/v1/chat/completions",
        OPENAI,
        r#"{ "model": "gpt-4o-mini", "temperature": 0, "messages": [{"role": "system", "content": "Be brief."}, {"role":"user","content":"Hi \u00e9"}] }"#,
    ),
    call(
        ("openai-chat-completions", "openai"),
        true,
        "/v1/chat/completions",
        OPENAI,
        r#"{"model":"gpt-4o-mini","seed":7,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hi"}]}"#,
    ),
    call(
        ("openai-chat-completions", "openai"),
        false,
        "/openai/deployments/prod-4o/chat/completions?api-version=2024-10-21",
        AZURE,
        r#"{"messages":[{"role":"user","content":"Hi"}],  "temperature":0.0}"#,
    ),
    call(
        ("openai-completions", "openai"),
        false,
        "/v1/completions",
        OPENAI,
        r#"{"model":"gpt-3.5-turbo-instruct","prompt":"Say hello.","temperature":0}"#,
    ),
    call(
        ("openai-completions", "openai"),
        true,
        "/v1/completions",
        OPENAI,
        r#"{"model":"gpt-3.5-turbo-instruct","prompt":"Say hello.","temperature":0,"stream":true}"#,
    ),
    call(
        ("openai-responses", "openai"),
        false,
        "/v1/responses",
        OPENAI,
        r#"{"model":"gpt-4.1","input":"Hello!","store":false,"temperature":0}"#,
    ),
    call(
        ("openai-responses", "openai"),
        true,
        "/v1/responses",
        OPENAI,
        r#"{"model":"gpt-4.1","input":[{"role":"user","content":"Hello!"}],"store":false,"temperature":0,"stream":true}"#,
    ),
    call(
        ("openai-embeddings", "openai"),
        false,
        "/v1/embeddings",
        OPENAI,
        r#"{"model":"text-embedding-3-small","input":["The food was delicious"],"encoding_format":"float"}"#,
    ),
    call(
        ("openai-embeddings", "openai"),
        false,
        "/openai/deployments/e3/embeddings?api-version=2024-10-21",
        AZURE,
        r#"{"input":"The food was delicious"}"#,
    ),
    call(
        ("openai-moderations", "openai"),
        false,
        "/v1/moderations",
        OPENAI,
        r#"{"model":"omni-moderation-latest","input":"I want to hug them."}"#,
    ),
    call(
        ("anthropic-messages", "anthropic"),
        false,
        "/v1/messages",
        ANTHROPIC,
        "{\n  \"model\": \"claude-sonnet-4-5\",\n  \"max_tokens\": 1024,\n  \"temperature\": 0,\n  \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]\n}\n",
    ),
    call(
        ("anthropic-messages", "anthropic"),
        true,
        "/v1/messages",
        ANTHROPIC,
        r#"{"model":"claude-sonnet-4-5","max_tokens":1024,"temperature":0,"stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"Hello","cache_control":{"type":"ephemeral"}}]}]}"#,
    ),
    call(
        ("anthropic-count-tokens", "anthropic"),
        false,
        "/v1/messages/count_tokens",
        ANTHROPIC,
        r#"{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"Hello"}]}"#,
    ),
    call(
        ("gemini-generate-content", "gemini"),
        false,
        "/v1beta/models/gemini-2.5-flash:generateContent",
        GEMINI,
        r#"{"contents":[{"role":"user","parts":[{"text":"Bonjour"}]}],"generationConfig":{"temperature":0}}"#,
    ),
    call(
        ("gemini-stream-generate-content", "gemini"),
        false,
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        GEMINI,
        r#"{"contents":[{"parts":[{"text":"Bonjour"}]}],"generationConfig":{"seed":11}}"#,
    ),
    call(
        ("gemini-stream-generate-content", "gemini"),
        true,
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        GEMINI,
        r#"{"contents":[{"parts":[{"text":"Bonjour"}]}],"generationConfig":{"temperature":0.0}}"#,
    ),
    call(
        ("gemini-count-tokens", "gemini"),
        false,
        "/v1beta/models/gemini-2.5-flash:countTokens?key=sk-test-4f0c9d1e7b2a4c6d8e0f1a2b3c4d5e6f",
        GEMINI_BY_QUERY,
        r#"{"contents":[{"parts":[{"text":"Bonjour"}]}]}"#,
    ),
    call(
        ("gemini-embed-content", "gemini"),
        false,
        "/v1beta/models/gemini-embedding-001:embedContent",
        GEMINI,
        r#"{"model":"models/gemini-embedding-001","content":{"parts":[{"text":"Bonjour"}]}}"#,
    ),
    call(
        ("gemini-batch-embed-contents", "gemini"),
        false,
        "/v1beta/models/gemini-embedding-001:batchEmbedContents",
        GEMINI,
        r#"{"requests":[{"model":"models/gemini-embedding-001","content":{"parts":[{"text":"Bonjour"}]}}]}"#,
    ),
];

impl Call {
    /// The call to this folder's route that is answered by this fixture's form.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn answered_by(fixture: &Fixture) -> &'static Call {
        let answers =
            |call: &&Call| call.folder == fixture.folder && call.streams == fixture.is_stream();
        CALLS.iter().find(answers).unwrap_or_else(|| panic!("no call gets {}", fixture.path()))
    }

    /// The whole answer to it.
    #[must_use]
    pub fn whole_answer(&self) -> Fixture {
        let form = if self.streams { "sse" } else { "json" };
        Fixture::at(&format!("{}/whole.{form}", self.folder))
    }

    /// The request for it, to be answered with `fixture`, under `base` in front of the path.
    pub fn request(&self, client: &Client, base: &str, fixture: &Fixture) -> RequestBuilder {
        let request = client
            .request(Method::POST, &format!("{base}{}", self.path))
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .header(FIXTURE_FIELD, fixture.path())
            .body(self.body);
        self.fields.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    /// The body, to be changed by the test.
    ///
    /// # Panics
    /// Never: all bodies here are JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.body).expect("a call's body is JSON")
    }
}

/// An answer in `fixtures/answers`.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// The folder: its route.
    pub folder: String,
    /// The file's name without its form.
    pub case: String,
    /// `json` or `sse`.
    pub form: String,
}

impl Fixture {
    /// The fixture at `folder/case.form`.
    ///
    /// # Panics
    /// When the path is none.
    #[must_use]
    pub fn at(path: &str) -> Fixture {
        let (folder, file) = path.split_once('/').expect("folder/file");
        let (case, form) = file.split_once('.').expect("case.form");
        Fixture { folder: folder.into(), case: case.into(), form: form.into() }
    }

    /// Every fixture, in order.
    ///
    /// # Panics
    /// When the folder cannot be read.
    #[must_use]
    pub fn all() -> Vec<Fixture> {
        let answers = format!("{FIXTURES}/answers");
        let mut paths = Vec::new();
        for folder in names_in(&answers) {
            for file in names_in(&format!("{answers}/{folder}")) {
                paths.push(format!("{folder}/{file}"));
            }
        }
        paths.sort();
        paths.iter().map(|path| Fixture::at(path)).collect()
    }

    /// `folder/case.form`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}.{}", self.folder, self.case, self.form)
    }

    /// Whether it is an event stream.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.form == "sse"
    }

    /// Its bytes.
    ///
    /// # Panics
    /// When there is no such file.
    #[must_use]
    pub fn body(&self) -> Bytes {
        recorded(&self.path())
    }

    /// The answer as the provider would send it: with its fields, and a stream without a length.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let block = header_block(Call::answered_by(self).provider, self.is_stream());
        let reply = Reply::bytes(self.body()).with_block(&block);
        if self.is_stream() { reply.without_length() } else { reply }
    }
}

/// The fields of a provider's answer, as a block of `Name: value` lines. Only the type of what
/// follows differs between an answer and a stream.
///
/// # Panics
/// When there is no such file.
#[must_use]
pub fn header_block(provider: &str, is_stream: bool) -> String {
    let path = format!("{FIXTURES}/headers/{provider}.txt");
    let block = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let is_type = |line: &&str| line.to_ascii_lowercase().starts_with("content-type:");
    let lines = block.lines().map(|line| match is_stream && is_type(&line) {
        true => "Content-Type: text/event-stream",
        false => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Upstream {
    /// Starts one that answers with the fixture that each request's [`FIXTURE_FIELD`] names.
    pub async fn of_fixtures() -> Upstream {
        Upstream::start(|received| Fixture::named_in(received).reply()).await
    }

    /// Starts one that gives every model call the whole answer of its route, as a stream where
    /// one is asked for, and every other request a little JSON.
    pub async fn of_whole_answers() -> Upstream {
        Upstream::start(|received| match whole_answer_to(received) {
            Some(fixture) => fixture.reply(),
            None => Reply::json(&json!({"object": "list", "data": []})),
        })
        .await
    }
}

impl Fixture {
    fn named_in(received: &Received) -> Fixture {
        let name = received.headers.get(FIXTURE_FIELD).expect("a fixture is named");
        Fixture::at(name.to_str().expect("text"))
    }
}

/// The route is told by the end of the path, and a stream by the query or the body.
fn whole_answer_to(received: &Received) -> Option<Fixture> {
    const ENDS: [(&str, &str); 12] = [
        ("/chat/completions", "openai-chat-completions"),
        ("/completions", "openai-completions"),
        ("/responses", "openai-responses"),
        ("/embeddings", "openai-embeddings"),
        ("/moderations", "openai-moderations"),
        ("/messages", "anthropic-messages"),
        ("/count_tokens", "anthropic-count-tokens"),
        (":generateContent", "gemini-generate-content"),
        (":streamGenerateContent", "gemini-stream-generate-content"),
        (":countTokens", "gemini-count-tokens"),
        (":embedContent", "gemini-embed-content"),
        (":batchEmbedContents", "gemini-batch-embed-contents"),
    ];
    let (_, folder) = ENDS.iter().find(|(end, _)| received.uri.path().ends_with(end))?;
    let by_query = received.uri.query().is_some_and(|query| query.contains("alt=sse"));
    let body: Value = serde_json::from_slice(&received.body).unwrap_or_default();
    let form = if by_query || body["stream"] == true { "sse" } else { "json" };
    Some(Fixture::at(&format!("{folder}/whole.{form}")))
}

fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("a plain name");
    entries.map(|entry| name(entry.expect("an entry"))).collect()
}
