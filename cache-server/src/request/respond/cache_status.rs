//! Our member of `Cache-Status` (RFC 9211), as it is being written.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue, StatusCode};
use keyspec::Key;

use crate::request::lookup::Hit;
use crate::upstream::cache_status::CACHE_STATUS;
use crate::upstream::fields::OUR_NAME;
use crate::upstream::head::AnswerHead;

/// Our member of `Cache-Status` (RFC 9211), as it is being written.
pub(super) struct CacheStatus(String);

impl CacheStatus {
    pub(super) fn named() -> CacheStatus {
        let mut text = String::with_capacity(160);
        text.push_str(OUR_NAME);
        CacheStatus(text)
    }

    pub(super) fn hit(hit: &Hit) -> CacheStatus {
        CacheStatus::hit_because(hit, hit.tier.name())
    }

    pub(super) fn hit_because(hit: &Hit, detail: &'static str) -> CacheStatus {
        let mut status = CacheStatus::named();
        status.0.push_str("; hit");
        status.ttl(hit);
        status.key(&hit.entry.key);
        status.detail(detail);
        status
    }

    pub(super) fn forwarded(why: &'static str, answered: Option<StatusCode>) -> CacheStatus {
        let mut status = CacheStatus::named();
        let _ = write!(status.0, "; fwd={why}");
        if let Some(answered) = answered {
            let _ = write!(status.0, "; fwd-status={}", answered.as_u16());
        }
        status
    }

    /// In as many digits as an integer may have (RFC 9651 section 3.3.1).
    pub(super) fn ttl(&mut self, hit: &Hit) {
        const LONGEST_S: i64 = 999_999_999_999_999;
        self.0.push_str("; ttl=");
        self.0.push_str(itoa::Buffer::new().format(hit.ttl_s.clamp(-LONGEST_S, LONGEST_S)));
    }

    /// A stream's head goes out before anyone can know; then nothing is said.
    pub(super) fn stored(&mut self, head: &AnswerHead) {
        match head.stored {
            Some(Ok(())) => self.0.push_str("; stored"),
            Some(Err(reason)) => self.detail(reason),
            None => {}
        }
    }

    pub(super) fn key(&mut self, key: &Key) {
        self.0.push_str("; key=\"");
        key.push_onto(&mut self.0);
        self.0.push('"');
    }

    /// `word` is one of ours: a token (RFC 9651 section 3.3.4).
    pub(super) fn detail(&mut self, word: &'static str) {
        self.0.push_str("; detail=");
        self.0.push_str(word);
    }

    /// Says that another request fetched it.
    pub(super) fn collapsed(&mut self) {
        self.0.push_str("; collapsed");
    }

    /// Its bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Appends us after the caches that were nearer to the upstream.
    pub(super) fn append_to(&self, headers: &mut HeaderMap) {
        let value = HeaderValue::from_str(&self.0).expect("made of tokens and hex digits");
        headers.append(CACHE_STATUS, value);
    }
}
