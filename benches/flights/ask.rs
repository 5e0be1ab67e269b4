//! What is asked: a chat completion by POST; or a page by GET, for those who key by URL alone.
//! What is wanted of the upstream is in the request, so that one upstream serves all scenarios.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::shared::exchange::{DELAY_FIELD, NUMBER_DIGITS, NUMBER_SLOT, Question, Request};

/// How long an answer is fresh in the scenario of expiry.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3);

/// What kind of request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A chat completion with temperature 0.
    Chat,
    /// A GET of a URL that is no model call.
    Page,
}

/// What the answer is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Form {
    /// Whole, and fresh for as long as the bench runs.
    Whole,
    /// Whole, and fresh for a [`LIFETIME`] if by GET; if by POST, the cache's config says so.
    Brief,
    /// A stream of events.
    Stream,
}

const PATHS: [(Form, &str); 3] =
    [(Form::Whole, "/whole/"), (Form::Brief, "/brief/"), (Form::Stream, "/stream/")];

/// A request but for its number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    pub(crate) form: Form,
    /// How long the upstream thinks before it answers.
    pub(crate) delay_ms: u64,
}

impl Asked {
    /// It, to `address`.
    pub(crate) fn request(self, address: SocketAddr) -> anyhow::Result<Request> {
        let Asked { kind, form, delay_ms } = self;
        let stream = form == Form::Stream;
        if kind == Kind::Chat {
            let question = Question { reusable: true, stream, delay_ms };
            return Request::with_fields(question, address, "");
        }
        let path = PATHS.iter().find(|(of, _)| *of == form).map_or("/", |(_, path)| *path);
        Request::of(format!(
            "GET {path}{NUMBER_SLOT} HTTP/1.1\r\n\
             host: {address}\r\n\
             user-agent: flights\r\n\
             {DELAY_FIELD}: {delay_ms}\r\n\r\n"
        ))
    }
}

/// The form that a GET of this path asks for.
pub(crate) fn form_of_page(path: &str) -> Option<Form> {
    PATHS.iter().find(|(_, start)| path.starts_with(start)).map(|(form, _)| *form)
}

/// The number of a question, by its body or by its path: the one run of that many digits.
pub(crate) fn number_in(text: &[u8]) -> Option<u64> {
    run_of_digits(text, NUMBER_DIGITS)
}

/// The first run of exactly so many digits, as a number.
pub(crate) fn run_of_digits(text: &[u8], digits: usize) -> Option<u64> {
    let runs = text.split(|byte| !byte.is_ascii_digit());
    let run = runs.into_iter().find(|run| run.len() == digits)?;
    std::str::from_utf8(run).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::exchange::asks_for_stream;

    #[test]
    fn the_upstream_reads_what_is_asked() {
        let address = "127.0.0.1:80".parse().unwrap();
        for form in [Form::Whole, Form::Brief, Form::Stream] {
            let chat = Asked { kind: Kind::Chat, form, delay_ms: 400 };
            let request = chat.request(address).unwrap().numbered(90_210).to_vec();
            let text = String::from_utf8(request).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("\r\nx-bench-delay-ms: 400\r\n"), "{head}");
            assert_eq!(number_in(body.as_bytes()), Some(90_210));
            assert_eq!(asks_for_stream(body.as_bytes()), form == Form::Stream);

            let page = Asked { kind: Kind::Page, ..chat };
            let request = page.request(address).unwrap().numbered(7).to_vec();
            let text = String::from_utf8(request).unwrap();
            let path = text.split(' ').nth(1).unwrap();
            assert_eq!(form_of_page(path), Some(form));
            assert_eq!(number_in(path.as_bytes()), Some(7));
        }
        assert_eq!(form_of_page("/calls"), None);
    }

    #[test]
    fn a_run_of_digits_has_exactly_its_length() {
        assert_eq!(run_of_digits(b"12 1234 123", 3), Some(123));
        assert_eq!(run_of_digits(b"1234", 3), None);
        assert_eq!(run_of_digits(b"", 3), None);
    }
}
