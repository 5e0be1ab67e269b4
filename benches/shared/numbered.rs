//! What is asked over HTTP and what is answered: a chat completion by POST, or a page by GET, whose
//! answer carries the number of its question, so that a caller who gets another's notices.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use bytes::Bytes;
use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::shared::exchange::{self, DELAY_FIELD, NUMBER_DIGITS, NUMBER_SLOT, Question, Request};
use crate::shared::wire::Answer;

/// What is before the number in a question.
const BEFORE_NUMBER: &[u8] = b"Review change ";
/// What is before the number in an answer.
const BEFORE_ID: &[u8] = b"\"id\": \"chatcmpl-";

/// Where pages are, each by its number.
pub(crate) const PAGES: &str = "/page/";
/// The field by which a proxy in front may choose a server: it says the number, too.
pub(crate) const AFFINITY_FIELD: &str = "x-cache-affinity";

/// What kind of question it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A chat completion with temperature 0.
    Chat,
    /// A GET of a page, for those who choose by URL alone.
    Page,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    /// Memory or disk of the server that was asked.
    Local,
    /// Redis.
    Redis,
    /// The upstream.
    Upstream,
}

/// Questions to a server, and the check of their answers.
#[derive(Clone, Debug)]
pub(crate) struct Questions {
    request: Request,
    answers: Answers,
}

impl Questions {
    /// To this server; the upstream is asked to think so long.
    pub(crate) fn to(address: SocketAddr, delay_ms: u64) -> anyhow::Result<Questions> {
        Questions::of(Kind::Chat, address, delay_ms)
    }

    /// The same of this kind.
    pub(crate) fn of(kind: Kind, address: SocketAddr, delay_ms: u64) -> anyhow::Result<Questions> {
        let request = match kind {
            Kind::Chat => {
                let question = Question { reusable: true, stream: false, delay_ms };
                let affinity = format!("{AFFINITY_FIELD}: {NUMBER_SLOT}\r\n");
                Request::with_fields(question, address, &affinity)
            }
            Kind::Page => page(address, delay_ms, ""),
        };
        Ok(Questions { request: request?, answers: Answers::new()? })
    }

    /// Pages that are wanted from the cache or not at all (RFC 9111 section 5.2.1.7).
    pub(crate) fn only_if_cached(address: SocketAddr) -> anyhow::Result<Questions> {
        let request = page(address, 0, "cache-control: only-if-cached\r\n")?;
        Ok(Questions { request, answers: Answers::new()? })
    }

    /// The question of this number.
    pub(crate) fn numbered(&mut self, number: u64) -> &[u8] {
        self.request.numbered(number)
    }

    /// It is an error if this is not what the upstream itself says for this number.
    pub(crate) fn check_direct(&self, answer: &Answer<'_>, number: u64) -> anyhow::Result<()> {
        ensure!(answer.status == "200", "{} instead of 200", answer.status);
        ensure!(answer.cache_status.is_none(), "the answer is a cache's");
        ensure!(self.answers.is_of(number, answer.body), "the answer is not the upstream's");
        Ok(())
    }

    /// Where the answer is from. It is an error if it is not this number's, byte for byte.
    pub(crate) fn check(&self, answer: &Answer<'_>, number: u64) -> anyhow::Result<Source> {
        ensure!(answer.status == "200", "{} instead of 200", answer.status);
        ensure!(self.answers.is_of(number, answer.body), "the answer is not the upstream's");
        let said = answer.cache_status.context("the answer is not the cache's")?;
        source(said).with_context(|| format!("an answer from elsewhere: {said}"))
    }
}

fn page(address: SocketAddr, delay_ms: u64, fields: &str) -> anyhow::Result<Request> {
    Request::of(format!(
        "GET {PAGES}{NUMBER_SLOT} HTTP/1.1\r\n\
         host: {address}\r\n\
         {fields}{DELAY_FIELD}: {delay_ms}\r\n\r\n"
    ))
}

fn source(said: &str) -> Option<Source> {
    let said = said.strip_prefix("cache-server; ")?;
    if said.starts_with("fwd=miss;") {
        return Some(Source::Upstream);
    }
    let (_, detail) = said.strip_prefix("hit;")?.split_once("; detail=")?;
    match detail {
        "memory" | "disk" => Some(Source::Local),
        "redis" => Some(Source::Redis),
        _ => None,
    }
}

/// Answers, which differ in their number alone.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    body: Bytes,
    slot: usize,
}

impl Answers {
    /// All of them.
    pub(crate) fn new() -> anyhow::Result<Answers> {
        let body = exchange::answer_body()?;
        let at = memmem::find(&body, BEFORE_ID).context("the answer has no id")?;
        Ok(Answers { body, slot: at + BEFORE_ID.len() })
    }

    /// The answer to the question of this number.
    pub(crate) fn of(&self, number: u64) -> Bytes {
        let mut body = self.body.to_vec();
        body[self.slot..self.slot + NUMBER_DIGITS].copy_from_slice(&digits(number));
        body.into()
    }

    fn is_of(&self, number: u64, body: &[u8]) -> bool {
        let end = self.slot + NUMBER_DIGITS;
        body.len() == self.body.len()
            && body[..self.slot] == self.body[..self.slot]
            && body[self.slot..end] == digits(number)
            && body[end..] == self.body[end..]
    }
}

/// The number of a question, by its body, or by its path.
pub(crate) fn number_in(question: &[u8]) -> Option<u64> {
    let after = |before: &[u8]| Some(memmem::find(question, before)? + before.len());
    let at = after(BEFORE_NUMBER).or_else(|| after(PAGES.as_bytes()))?;
    std::str::from_utf8(question.get(at..at + NUMBER_DIGITS)?).ok()?.parse().ok()
}

fn digits(number: u64) -> [u8; NUMBER_DIGITS] {
    let mut left = number;
    let mut digits = [b'0'; NUMBER_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(left % 10).unwrap_or(0)];
        left /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_carries_the_number_of_its_question() {
        let number = 90_210;
        for kind in [Kind::Chat, Kind::Page] {
            let mut questions = Questions::of(kind, "127.0.0.1:1".parse().unwrap(), 50).unwrap();
            assert_eq!(number_in(questions.numbered(number)), Some(number));
            let affinity = memmem::find(questions.numbered(number), b"affinity: 0000000000090210");
            assert_eq!(affinity.is_some(), kind == Kind::Chat);
        }
        let answers = Answers::new().unwrap();
        let body = answers.of(number);
        assert!(memmem::find(&body, b"chatcmpl-0000000000090210").is_some());
        assert!(answers.is_of(90_210, &body) && !answers.is_of(90_211, &body));
    }

    #[test]
    fn the_cache_says_where_an_answer_is_from() {
        let of = |said| source(said);
        assert_eq!(of("cache-server; hit; ttl=10; detail=redis"), Some(Source::Redis));
        assert_eq!(of("cache-server; hit; ttl=10; detail=memory"), Some(Source::Local));
        assert_eq!(of("cache-server; fwd=miss; stored"), Some(Source::Upstream));
        assert_eq!(of("cache-server; fwd=bypass; detail=reuse"), None);
    }
}
