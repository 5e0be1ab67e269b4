//! Short words for exchanges in plain HTTP: fields in pairs, bodies as text.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;

use crate::{Answer, Client, Received, Reply, Server, Setup, Upstream};

/// A reply with these fields besides.
#[must_use]
pub fn with(reply: Reply, fields: &[(&str, &str)]) -> Reply {
    fields.iter().fold(reply, |reply, (name, value)| reply.with(name, value))
}

/// An upstream that is told how many requests there were before.
pub async fn upstream_by_call(
    reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
) -> Upstream {
    let calls = AtomicUsize::new(0);
    Upstream::start(move |received| reply(calls.fetch_add(1, Ordering::Relaxed), received)).await
}

/// An upstream of one page that is to be confirmed each time, which it is with this `Cache-Control`.
pub async fn confirming(cache_control: &'static str) -> Upstream {
    Upstream::start(move |received| {
        let reply = Reply::bytes("page").with("etag", "\"a\"");
        match is_conditional(received) {
            true => reply.status(304).with("cache-control", cache_control),
            false => reply.with("cache-control", "no-cache"),
        }
    })
    .await
}

/// Whether the upstream was asked about what is stored.
#[must_use]
pub fn is_conditional(received: &Received) -> bool {
    received.headers.contains_key("if-none-match")
}

/// A server in front of an upstream that is told how many requests there were before.
pub async fn answering(
    reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
) -> (Upstream, Server) {
    let upstream = upstream_by_call(reply).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    (upstream, server)
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
