//! Short words for exchanges in plain HTTP: fields in pairs, bodies as text.

use http::Method;

use crate::{Answer, Client, Received, Reply};

/// A reply with these fields besides.
#[must_use]
pub fn with(reply: Reply, fields: &[(&str, &str)]) -> Reply {
    fields.iter().fold(reply, |reply, (name, value)| reply.with(name, value))
}

/// Asks with these fields and no body.
pub async fn ask(client: &Client, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
    let request = client.request(method, path);
    let request =
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::of(request).await
}

/// The body of an answer.
///
/// # Panics
/// When it is no text.
#[must_use]
pub fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).expect("text")
}

/// A field of what the upstream was asked, or the empty text.
///
/// # Panics
/// When it is no text.
#[must_use]
pub fn field<'r>(received: &'r Received, name: &str) -> &'r str {
    received.headers.get(name).map_or("", |value| value.to_str().expect("text"))
}
