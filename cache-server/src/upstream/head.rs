//! What is known of an answer at its headers: enough for every reader to begin.

use std::sync::{Arc, OnceLock};

use http::header::{AGE, CONTENT_ENCODING, CONTENT_LENGTH, DATE, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, response};
use opentelemetry::trace::SpanContext;

use super::{fields, trailers};
use crate::cache::entry::{Entry, Selector, Usage};
use crate::cache::freshness::serve::age_s;
use crate::cache::freshness::store::{NotStored, Storing};
use crate::cache::freshness::targeted;
use crate::cache::freshness::update::{freshened, stored_fields};
use crate::cache::variants::Selecting;
use crate::clock::Timestamp;

/// What a flight brings.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// The head of the upstream's answer. Shared: a thousand may read along.
    Answer(Arc<AnswerHead>),
    /// What another server's fetch has stored: the whole answer.
    Stored(Arc<Entry>),
}

/// The head of an upstream's answer, as a flight carries it.
#[derive(Clone, Debug)]
pub struct AnswerHead {
    /// The status.
    pub status: StatusCode,
    /// Every end-to-end field, for the leader.
    pub all_fields: HeaderMap,
    /// Those fields that any reader may see.
    pub shared_fields: HeaderMap,
    /// What became of storing it, once that is known; an event stream's head goes out before.
    pub stored: Option<Result<(), &'static str>>,
    /// What the upstream said: 304 of an answer that it confirmed.
    pub answered: StatusCode,
    /// What the rules of HTTP say of it, where they decide.
    pub by_http: Option<ByHttp>,
    /// Whether callers of several tenants ask for it, by the credential of one.
    pub is_for_several_tenants: bool,
    /// Its tags, as far as they are known at the headers.
    pub tags: Arc<[Box<str>]>,
    /// What a purge order may name of it, as far as that is known at the headers.
    pub selectors: Arc<[Selector]>,
    /// The newest purge order when it was asked for.
    pub purge_sequence: u64,
    /// The span of the fetch, which followers link to; none if it is not exported.
    pub fetch_span: Option<SpanContext>,
    /// What its end brings, for all who read along.
    pub settled: Arc<Settled>,
    version: Version,
    chunked: bool,
}

/// What the rules of HTTP say of an answer.
#[derive(Clone, Debug)]
pub struct ByHttp {
    /// Whether it is stored, and for how long.
    pub storing: Result<Storing, NotStored>,
    /// Whether it may answer others without being validated first.
    pub answers_others: bool,
    /// The request fields that it varies with.
    pub varies_with: Vec<HeaderName>,
    /// Those of the request that it answers.
    pub selecting: Selecting,
}

/// What is known of an answer only at its end. Set by its fill before its end is let out.
#[derive(Debug, Default)]
pub struct Settled {
    /// What the upstream charged, once the answer was read.
    pub usage: OnceLock<Usage>,
    /// The tag that was made for it, where it has none of its own.
    pub tag: OnceLock<HeaderValue>,
    /// What became of storing it.
    pub stored: OnceLock<Result<(), &'static str>>,
    /// Its trailers, as far as any reader may see them; unset where there are none.
    pub trailers: OnceLock<HeaderMap>,
}

impl AnswerHead {
    /// Takes the head of an answer, without the fields that concern one connection.
    #[must_use]
    pub fn of(mut parts: response::Parts) -> AnswerHead {
        let chunked = parts.headers.contains_key(TRANSFER_ENCODING);
        fields::strip_hop_by_hop(&mut parts.headers);
        AnswerHead {
            status: parts.status,
            answered: parts.status,
            by_http: None,
            is_for_several_tenants: false,
            tags: Arc::default(),
            selectors: Arc::default(),
            purge_sequence: 0,
            shared_fields: fields::shared_fields(&parts.headers),
            all_fields: parts.headers,
            stored: None,
            fetch_span: None,
            settled: Arc::default(),
            version: parts.version,
            chunked,
        }
    }

    /// The head of a stored answer that the upstream confirmed by this one (RFC 9111 section
    /// 4.3.4).
    #[must_use]
    pub fn confirmed(entry: &Entry, mut parts: response::Parts) -> AnswerHead {
        fields::strip_hop_by_hop(&mut parts.headers);
        let mut fields = freshened(&entry.headers, &parts.headers);
        fields.insert(CONTENT_LENGTH, HeaderValue::from(entry.body.len()));
        // It is as of its own date, or as of now: never as of the date that is stored (RFC 9110
        // section 6.6.1).
        if !parts.headers.contains_key(DATE) {
            fields.remove(DATE);
        }
        // Not a field of what is stored, but of how old what confirms it is.
        fields.extend(parts.headers.remove(AGE).map(|age| (AGE, age)));
        fields.extend(trailers::announcement(&entry.trailers).map(|names| (TRAILER, names)));
        let answered = parts.status;
        (parts.status, parts.headers) = (entry.status, fields);
        AnswerHead { answered, ..AnswerHead::of(parts) }
    }

    /// Whether others than the leader may have it. A refusal of the leader's credential says
    /// nothing about theirs, and a redirect or a challenge is not an answer to the question.
    /// By the rules of HTTP, only what is stored is shared, and not what has to be validated before
    /// each use (RFC 9111 sections 4 and 5.2.2.4).
    #[must_use]
    pub fn is_shareable(&self) -> bool {
        if let Some(by_http) = &self.by_http {
            return by_http.storing.is_ok() && by_http.answers_others;
        }
        let is_for_one = matches!(self.status.as_u16(), 300..=399 | 401 | 403 | 407);
        !is_for_one && !self.is_refused_to_one()
    }

    /// Whether its head leaves it open that it is stored.
    #[must_use]
    pub fn may_be_stored(&self) -> bool {
        self.by_http.as_ref().map_or_else(|| self.is_shareable(), |by_http| by_http.storing.is_ok())
    }

    /// Those of its trailers that any reader may see: by the rules that its fields are shared by,
    /// and none that would count for something only in the header.
    #[must_use]
    pub fn shared_trailers(&self, trailers: &HeaderMap) -> HeaderMap {
        let fit = trailers.iter().filter(|(name, _)| !trailers::is_for_the_header_alone(name));
        let fit = fit.map(|(name, value)| (name.clone(), value.clone())).collect();
        match self.by_http {
            Some(_) => stored_fields(&fit, &targeted::deciding(&self.all_fields)),
            None => fields::shared_fields(&fit),
        }
    }

    /// Whether it may be about who of several tenants asks: a quota, a model that one may not use.
    #[must_use]
    pub fn is_refused_to_one(&self) -> bool {
        self.is_for_several_tenants && self.by_http.is_none() && self.status.is_client_error()
    }

    /// What its header says of the trailers that any reader may see, if it says anything.
    #[must_use]
    pub fn shared_announcement(&self) -> Option<HeaderValue> {
        if !self.all_fields.contains_key(TRAILER) {
            return None;
        }
        trailers::announcement(&self.shared_trailers(&trailers::announced(&self.all_fields)))
    }

    /// How old it is at `now`, in seconds, where the rules of HTTP decide and it is stored.
    #[must_use]
    pub fn stored_age_s(&self, now: Timestamp) -> Option<u64> {
        let storing = self.by_http.as_ref()?.storing.ok()?;
        Some(age_s(&storing.facts(), now))
    }

    /// Whether it is an event stream.
    #[must_use]
    pub fn is_event_stream(&self) -> bool {
        fields::is_event_stream(&self.all_fields)
    }

    /// Whether it is JSON by its media type.
    #[must_use]
    pub fn is_json(&self) -> bool {
        fields::is_json(&self.all_fields)
    }

    /// The length that it declares.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.all_fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Whether its end can be told from a cut: by a length, chunks, an HTTP/2 stream's end, or as it
    /// has no body by its status. One that ends when the connection closes cannot (RFC 9112 sections
    /// 6.3 and 8).
    #[must_use]
    pub fn has_a_verifiable_end(&self) -> bool {
        self.version >= Version::HTTP_2
            || self.chunked
            || self.status == StatusCode::NO_CONTENT
            || self.content_length().is_some()
    }

    /// Whether its bytes are as they are meant, not compressed.
    #[must_use]
    pub fn is_identity_encoded(&self) -> bool {
        self.all_fields.get_all(CONTENT_ENCODING).iter().all(|coding| coding == "identity")
    }

    /// The age that it came with, in seconds; at most 2^31 (RFC 9111 sections 1.2.2 and 5.1).
    #[must_use]
    pub fn age_s(&self) -> u32 {
        let age = self.all_fields.get(AGE).and_then(|age| age.to_str().ok());
        age.and_then(|age| age.parse::<u64>().ok())
            .map_or(0, |age| u32::try_from(age.min(1 << 31)).unwrap_or(1 << 31))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, lines: &[(&'static str, &'static str)]) -> AnswerHead {
        let mut response = http::Response::builder().status(status);
        for (name, value) in lines {
            response = response.header(*name, *value);
        }
        AnswerHead::of(response.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn an_event_stream_is_known_by_its_media_type_alone() {
        assert!(
            head(200, &[("content-type", "Text/Event-Stream; charset=utf-8")]).is_event_stream()
        );
        assert!(!head(200, &[("content-type", "application/json")]).is_event_stream());
        assert!(!head(200, &[]).is_event_stream());
    }

    #[test]
    fn an_end_that_is_only_a_closed_connection_is_not_verifiable() {
        assert!(head(200, &[("content-length", "3")]).has_a_verifiable_end());
        assert!(head(200, &[("transfer-encoding", "chunked")]).has_a_verifiable_end());
        assert!(!head(200, &[]).has_a_verifiable_end());
        assert!(head(204, &[]).has_a_verifiable_end(), "there is nothing to be cut");
    }

    #[test]
    fn refused_credentials_are_not_shared_and_other_errors_are() {
        assert!(!head(401, &[]).is_shareable() && !head(302, &[]).is_shareable());
        assert!(head(200, &[]).is_shareable() && head(529, &[]).is_shareable());
    }

    #[test]
    fn a_compressed_answer_is_not_identity() {
        assert!(!head(200, &[("content-encoding", "gzip")]).is_identity_encoded());
        assert!(head(200, &[("content-encoding", "identity")]).is_identity_encoded());
    }

    #[test]
    fn a_confirmation_without_a_date_is_as_of_now() {
        let mut entry = crate::cache::entry::tests::sample([1; 32], b"");
        entry.headers.insert(DATE, HeaderValue::from_static("Tue, 24 Nov 2020 00:00:00 GMT"));
        let confirming = |lines: &[(&'static str, &'static str)]| {
            let mut response = http::Response::builder().status(304);
            for (name, value) in lines {
                response = response.header(*name, *value);
            }
            AnswerHead::confirmed(&entry, response.body(()).unwrap().into_parts().0).all_fields
        };
        assert_eq!(confirming(&[]).get(DATE), None);
        let later = "Tue, 24 Nov 2026 00:00:00 GMT";
        assert_eq!(confirming(&[("date", later)])[DATE], later);
    }

    #[test]
    fn an_absurd_age_saturates() {
        assert_eq!(head(200, &[("age", "99999999999")]).age_s(), 1 << 31);
        assert_eq!(head(200, &[("age", "-3")]).age_s(), 0);
    }
}
