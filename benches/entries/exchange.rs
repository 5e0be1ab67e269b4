//! What is asked and what is answered: a short chat completion, whose answer carries the number of its
//! question and has a length of its own, so that a caller who gets another's notices.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::shared::wire::Answer;

/// What is before the number in a question.
const BEFORE_NUMBER: &str = "Translate line ";
/// What is before the length of the answer in a question.
const BEFORE_BYTES: &str = " at length ";
/// Digits of each.
const DIGITS: usize = 10;
/// What an answer says, over and over.
const PROSE: &str =
    "Whoever asks the same again is given what was said before, and nobody pays twice. ";

/// How long answers are, in bytes: anything in between, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lengths {
    pub(crate) shortest: u64,
    pub(crate) longest: u64,
}

impl Lengths {
    /// Half a kilobyte on the average: a sentence or two.
    pub(crate) const SMALL: Lengths = Lengths { shortest: 350, longest: 650 };
    /// What a model often says at length.
    pub(crate) const USUAL: Lengths = Lengths { shortest: 1400, longest: 4200 };

    /// The length of the answer of this number.
    pub(crate) fn of(self, number: u64) -> u64 {
        // Multiplying by the golden ratio spreads numbers that follow on each other evenly.
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.shortest + spread % (self.longest - self.shortest + 1)
    }

    /// Bytes of the answers of so many numbers from `first` on.
    pub(crate) fn sum(self, first: u64, count: u64) -> u64 {
        (first..first + count).map(|number| self.of(number)).sum()
    }
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Memory,
    Disk,
    Upstream,
}

/// The request of this number, whose answer is to have so many bytes.
pub(crate) fn request(server: SocketAddr, number: u64, bytes: u64) -> Vec<u8> {
    let body = format!(
        "{{\"model\":\"gpt-4o-mini\",\"temperature\":0,\"messages\":[{{\"role\":\"user\",\
         \"content\":\"{BEFORE_NUMBER}{number:0DIGITS$}{BEFORE_BYTES}{bytes:0DIGITS$}\"}}]}}"
    );
    let text = format!(
        "POST /v1/chat/completions HTTP/1.1\r\n\
         host: {server}\r\n\
         authorization: Bearer sk-bench-0123456789abcdef0123456789abcdef\r\n\
         content-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len(),
    );
    text.into_bytes()
}

/// The answer to a question.
pub(crate) fn answer_to(question: &[u8]) -> anyhow::Result<Vec<u8>> {
    let after = |before: &str| -> anyhow::Result<u64> {
        let at = memmem::find(question, before.as_bytes()).context("no question of ours")?;
        let digits = question.get(at + before.len()..).and_then(|rest| rest.get(..DIGITS));
        Ok(std::str::from_utf8(digits.context("a question that is cut")?)?.parse()?)
    };
    answer(after(BEFORE_NUMBER)?, after(BEFORE_BYTES)?)
}

fn answer(number: u64, bytes: u64) -> anyhow::Result<Vec<u8>> {
    let body = |content: &str| {
        let message = json!({"role": "assistant", "content": content, "refusal": null});
        let choice =
            json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
        json!({
            "id": format!("chatcmpl-{number:0DIGITS$}"),
            "object": "chat.completion",
            "created": 1_763_923_456,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [choice],
            "usage": {"prompt_tokens": 45, "completion_tokens": 55, "total_tokens": 100},
        })
        .to_string()
    };
    let room = usize::try_from(bytes)?.saturating_sub(body("").len());
    let content: String = PROSE.chars().cycle().take(room).collect();
    Ok(body(&content).into_bytes())
}

/// Where the answer is from. It is an error if it is not this number's, of this length.
pub(crate) fn check(answer: &Answer<'_>, number: u64, bytes: u64) -> anyhow::Result<Source> {
    ensure!(answer.status == "200", "{} instead of 200", answer.status);
    let id = format!("chatcmpl-{number:0DIGITS$}\"");
    let is_its = answer.body.len() as u64 == bytes
        && memmem::find(answer.body, id.as_bytes()).is_some()
        && answer.body.starts_with(b"{")
        && answer.body.ends_with(b"}");
    ensure!(is_its, "an answer of another question, or a damaged one");
    let said = answer.cache_status.context("the answer is not the cache's")?;
    source(said).with_context(|| format!("an answer from elsewhere: {said}"))
}

fn source(said: &str) -> Option<Source> {
    let said = said.strip_prefix("cache-server; ")?;
    if said.starts_with("fwd=miss;") && said.contains("stored") {
        return Some(Source::Upstream);
    }
    let (_, detail) = said.strip_prefix("hit;")?.split_once("; detail=")?;
    match detail {
        "memory" => Some(Source::Memory),
        "disk" => Some(Source::Disk),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_number_and_the_length_that_were_asked_for() {
        let server = "127.0.0.1:1".parse().unwrap();
        for number in [0, 7, 90_210] {
            let bytes = Lengths::SMALL.of(number);
            let body = answer_to(&request(server, number, bytes)).unwrap();
            let cache_status = Some("cache-server; hit; ttl=10; detail=disk");
            let answer = Answer { status: "200", cache_status, body: &body, arrivals: &[] };
            assert_eq!(check(&answer, number, bytes).unwrap(), Source::Disk);
            assert!(check(&answer, number + 1, bytes).is_err());
            assert!(check(&answer, number, bytes + 1).is_err());
        }
        assert!(answer_to(b"another question").is_err());
    }

    #[test]
    fn lengths_are_spread_over_their_range() {
        let of = Lengths::SMALL;
        let mean = of.sum(1000, 10_000) / 10_000;
        assert!(mean.abs_diff(500) < 5, "{mean}");
        let lengths = || (0..10_000).map(|number| of.of(number));
        assert_eq!((lengths().min(), lengths().max()), (Some(350), Some(650)));
    }

    #[test]
    fn what_was_not_stored_is_no_answer_from_the_upstream() {
        assert_eq!(source("cache-server; fwd=miss; stored"), Some(Source::Upstream));
        assert_eq!(
            source("cache-server; fwd=miss; fwd-status=200; stored"),
            Some(Source::Upstream)
        );
        assert_eq!(source("cache-server; fwd=miss; detail=too-large"), None);
        assert_eq!(source("cache-server; hit; ttl=10; detail=memory"), Some(Source::Memory));
    }
}
