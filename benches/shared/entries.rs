//! Entries as the cache writes them: those of chat completions, with the fields, names and purge
//! selectors that such an entry has. Each carries its number, so that another's is noticed.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use cache_server::cache::entry::{Entry, Selector, Usage};
use cache_server::cache::freshness::{Ends, Lifetime};
use cache_server::clock::Timestamp;
use fastrand::Rng;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use keyspec::Key;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Digits of a number, in a body and at the end of a key: as many as `redis-benchmark` writes in
/// the place of its mark.
const NUMBER_DIGITS: usize = 12;
/// What `redis-benchmark` writes numbers in the place of.
const MARK: &str = "__rand_int__";
const KEY_DIGITS: usize = 64;
const HOUR: Duration = Duration::from_secs(3600);
const URL: &str = "https://api.openai.example/v1/chat/completions";
const MODEL: &str = "gpt-4o-mini-2024-07-18";

/// Words of English prose, the common ones first: those are drawn more often.
const WORDS: [&str; 96] = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "it",
    "was",
    "for",
    "on",
    "with",
    "as",
    "be",
    "at",
    "by",
    "this",
    "have",
    "from",
    "or",
    "one",
    "had",
    "not",
    "but",
    "what",
    "all",
    "were",
    "when",
    "we",
    "there",
    "can",
    "an",
    "your",
    "which",
    "their",
    "said",
    "if",
    "will",
    "each",
    "about",
    "how",
    "up",
    "out",
    "them",
    "then",
    "she",
    "many",
    "some",
    "so",
    "these",
    "would",
    "other",
    "into",
    "has",
    "more",
    "two",
    "like",
    "him",
    "see",
    "time",
    "could",
    "make",
    "than",
    "first",
    "been",
    "its",
    "who",
    "now",
    "people",
    "made",
    "over",
    "down",
    "only",
    "way",
    "find",
    "use",
    "water",
    "long",
    "little",
    "very",
    "after",
    "called",
    "just",
    "where",
    "most",
    "know",
    "because",
    "storage",
    "engine",
    "review",
    "change",
    "transaction",
    "however",
    "requirement",
    "compaction",
];

/// What bodies are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Bodies {
    /// The same letters in all but for the number at both ends: little work to make and to check.
    Plain,
    /// A chat completion in JSON whose words are drawn by its number.
    Chat,
}

impl Bodies {
    /// The body of this number, of so many bytes.
    pub(crate) fn body(self, number: u32, bytes: usize) -> Vec<u8> {
        match self {
            Bodies::Plain => plain(number, bytes),
            Bodies::Chat => chat(number, bytes),
        }
    }
}

/// The key of a number: its digits, which are hexadecimal ones, too.
pub(crate) fn key(number: u32) -> Key {
    let digits = format!("{number:0KEY_DIGITS$}");
    let mut bytes = [0; KEY_DIGITS / 2];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = (pair[0] - b'0') << 4 | (pair[1] - b'0');
    }
    Key::from_bytes(bytes)
}

/// The names of all keys for `redis-benchmark`, by the name of one.
pub(crate) fn marked(name: &str) -> anyhow::Result<String> {
    let at = name.len().checked_sub(KEY_DIGITS).context("a name without a key")?;
    let prefix = name.get(..at).context("a name without a key")?;
    let zeros = KEY_DIGITS - NUMBER_DIGITS;
    Ok(format!("{prefix}{:0zeros$}{MARK}", 0))
}

/// The entry of a number.
pub(crate) fn entry(number: u32, body: Vec<u8>, now: Timestamp) -> Entry {
    let lifetime =
        Lifetime { fresh: 24 * HOUR, stale_while_revalidate: HOUR, stale_if_error: 7 * 24 * HOUR };
    let key = key(number);
    let selectors = [
        Selector::key(&key),
        Selector::url(URL),
        Selector::route("openai.chat_completions"),
        Selector::tenant("team-a"),
        Selector::model(MODEL),
        Selector::asked_model(URL, "gpt-4o-mini"),
    ];
    Entry {
        key,
        tenant: "team-a".into(),
        route: "openai.chat_completions".into(),
        model: Some(MODEL.into()),
        status: StatusCode::OK,
        headers: fields(),
        tag_is_ours: true,
        body: Bytes::from(body),
        trailers: HeaderMap::new(),
        stored: now,
        generated: now,
        initial_age_s: 0,
        ends: Ends::of(now, lifetime),
        must_revalidate: false,
        negative: false,
        is_variants: false,
        url: URL.into(),
        tags: Box::default(),
        selectors: selectors.into(),
        purge_sequence: 0,
        upstream_request_id: Some("req_invented_for_the_benchmark".into()),
        upstream_time_ms: 812,
        usage: Usage { input_tokens: 450, output_tokens: 550 },
        encoding: 0,
        key_id: 0,
    }
}

fn fields() -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert("openai-version", HeaderValue::from_static("2020-10-01"));
    fields.insert("openai-processing-ms", HeaderValue::from_static("812"));
    fields.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    fields.insert("etag", HeaderValue::from_static("\"00112233445566778899aabbccddeeff\""));
    fields
}

/// Whether this is the entry of the number, by its key, its length and both its ends. That nothing in
/// between has changed is what the tier has checked.
pub(crate) fn check(entry: &Entry, number: u32, bytes: usize) -> anyhow::Result<()> {
    let digits = digits(number);
    let is_its = entry.body.len() == bytes
        && entry.body.starts_with(digits.as_bytes())
        && entry.body.ends_with(digits.as_bytes());
    ensure!(entry.key == key(number) && is_its, "an answer of another key, or a damaged one");
    Ok(())
}

fn digits(number: u32) -> String {
    format!("{number:0NUMBER_DIGITS$}")
}

fn plain(number: u32, bytes: usize) -> Vec<u8> {
    let digits = digits(number);
    let mut body = digits.clone().into_bytes();
    let letters = (b'a'..=b'z').cycle().take(bytes.saturating_sub(2 * NUMBER_DIGITS));
    body.extend(letters);
    body.extend_from_slice(digits.as_bytes());
    body
}

fn chat(number: u32, bytes: usize) -> Vec<u8> {
    let body = |content: &str| {
        let message = json!({"role": "assistant", "content": content, "refusal": null});
        let choice =
            json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
        let body = json!({
            "id": format!("chatcmpl-Invented{}", digits(number)),
            "object": "chat.completion",
            "created": 1_763_923_456,
            "model": MODEL,
            "choices": [choice],
            "usage": {"prompt_tokens": 450, "completion_tokens": 550, "total_tokens": 1000},
            "system_fingerprint": "fp_51db84afab",
        });
        body.to_string().into_bytes()
    };
    let room = bytes.saturating_sub(body("").len());
    body(&words(number, room))
}

/// Prose of so many bytes.
fn words(number: u32, bytes: usize) -> String {
    let mut rng = Rng::with_seed(u64::from(number));
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        let rank = rng.usize(..WORDS.len()).min(rng.usize(..WORDS.len()));
        text.push_str(WORDS[rank]);
        text.push_str(if rng.u8(..12) == 0 { ". " } else { " " });
    }
    text.truncate(bytes);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_number_and_redis_benchmark_names_the_same() {
        let name = format!("prefix:{}", key(90_210));
        assert!(name.ends_with("000090210"), "{name}");
        let marked = marked(&name).unwrap();
        assert_eq!(marked.replace(MARK, "000000090210"), name);
        assert!(super::marked("short").is_err());
    }

    #[test]
    fn bodies_have_their_size_and_carry_their_number() {
        for bytes in [512, 2800, 16 << 10] {
            assert_eq!(Bodies::Chat.body(7, bytes).len(), bytes);
            let body = Bodies::Plain.body(7, bytes);
            let entry = entry(7, body, Timestamp(1_000_000));
            assert!(check(&entry, 7, bytes).is_ok());
            assert!(check(&entry, 8, bytes).is_err() && check(&entry, 7, bytes + 1).is_err());
        }
        assert_ne!(Bodies::Chat.body(7, 512), Bodies::Chat.body(8, 512));
        let body = Bodies::Chat.body(7, 2800);
        assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
    }
}
