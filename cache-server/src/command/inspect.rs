//! `cache-server inspect`: what a server has stored under a key, and what it is good for.

use std::fmt::Write as _;

use anyhow::ensure;
use bytesize::ByteSize;
use clap::Args;
use http::{Method, StatusCode};
use keyspec::Key;
use serde::Deserialize;
use serde_json::Value;

use super::admin_client::{self, AdminClient, AdminOptions, plain};
use super::{Failure, print};

#[derive(Debug, Args)]
pub(crate) struct InspectOptions {
    /// The key, as `Cache-Status` says it: ks1_…
    #[arg(value_name = "KEY")]
    key: Key,
    /// Show the body too
    #[arg(long)]
    body: bool,
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: AdminOptions,
}

/// An entry, as the server shows it. What it does not say is left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shown {
    key: Option<String>,
    tenant: Option<String>,
    route: Option<String>,
    model: Option<String>,
    status: Option<u16>,
    verdict: Option<String>,
    stored: Option<String>,
    generated: Option<String>,
    age_s: Option<u64>,
    fresh_until: Option<String>,
    stale_while_revalidate_until: Option<String>,
    stale_if_error_until: Option<String>,
    purge_sequence: Option<u64>,
    upstream_request_id: Option<String>,
    upstream_time_ms: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    kept_until: Option<String>,
    must_revalidate: bool,
    negative: bool,
    url: Option<String>,
    tags: Value,
    tiers: Value,
    variants: Value,
    body_bytes: Option<u64>,
    body: Option<String>,
}

pub(crate) fn run(options: &InspectOptions) -> Result<(), Failure> {
    let client = options.server.client()?;
    print(admin_client::run(inspect(&client, options))?.as_bytes())
}

async fn inspect(client: &AdminClient, options: &InspectOptions) -> anyhow::Result<String> {
    let key = &options.key;
    let query = if options.body { "?body=true" } else { "" };
    let answer = client.ask(Method::GET, &format!("/inspect/{key}{query}"), None).await?;
    let is_there = answer.status != StatusCode::NOT_FOUND;
    ensure!(is_there, "{} has no entry under {key}", client.address());
    if options.json {
        return Ok(format!("{}\n", answer.json::<Value>()?));
    }
    Ok(table(&answer.json()?))
}

/// A line for each thing that is known, and the body behind them.
fn table(shown: &Shown) -> String {
    let text = |text: &Option<String>| text.as_deref().map(plain);
    let count = |count: Option<u64>| count.map(|count| count.to_string());
    let age = shown.age_s.map(std::time::Duration::from_secs);
    let lines = [
        ("key", text(&shown.key)),
        ("tenant", text(&shown.tenant)),
        ("route", text(&shown.route)),
        ("model that answered", text(&shown.model)),
        ("status", shown.status.map(|status| status.to_string())),
        ("verdict", text(&shown.verdict)),
        ("stored", text(&shown.stored)),
        ("generated", text(&shown.generated)),
        ("age", age.map(|age| humantime::format_duration(age).to_string())),
        ("fresh until", text(&shown.fresh_until)),
        ("while revalidated until", text(&shown.stale_while_revalidate_until)),
        ("if the upstream fails until", text(&shown.stale_if_error_until)),
        ("kept until", text(&shown.kept_until)),
        ("never stale", shown.must_revalidate.then(|| "yes".to_owned())),
        ("negative", shown.negative.then(|| "yes, in memory alone".to_owned())),
        ("purge sequence", count(shown.purge_sequence)),
        ("upstream request id", text(&shown.upstream_request_id)),
        ("upstream took", shown.upstream_time_ms.map(|took| format!("{took} ms"))),
        ("input tokens", count(shown.input_tokens)),
        ("output tokens", count(shown.output_tokens)),
        ("url", text(&shown.url)),
        ("tags", in_line(&shown.tags)),
        ("tiers", in_line(&shown.tiers)),
        ("variants", in_line(&shown.variants)),
        ("body", shown.body_bytes.map(|bytes| ByteSize::b(bytes).to_string())),
    ];
    let mut table = String::new();
    for (name, value) in lines {
        if let Some(value) = value {
            let _ = writeln!(table, "{name:<28}{value}");
        }
    }
    if let Some(body) = &shown.body {
        let _ = writeln!(table, "\n{}", readable(body));
    }
    table
}

/// A list or one text; nothing if there is nothing in it.
fn in_line(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => plain(text),
        Value::Array(list) => {
            let each: Vec<String> = list.iter().filter_map(in_line).collect();
            each.join(", ")
        }
        other => plain(&other.to_string()),
    };
    (!text.is_empty()).then_some(text)
}

/// A body in lines as it has them, without anything that a terminal obeys.
fn readable(body: &str) -> String {
    body.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::admin_client::tests::{options, server_saying};
    use super::*;

    fn key() -> Key {
        Key::from_bytes([1; 32])
    }

    fn typed(address: &str, body: bool, json: bool) -> InspectOptions {
        InspectOptions { key: key(), body, json, server: options(address) }
    }

    fn entry() -> Value {
        json!({
            "key": key().to_string(), "tenant": "team", "route": "openai.embeddings",
            "model": "m\u{1b}[31m", "status": 200, "stored": "2026-01-01T00:00:01.000Z",
            "generated": "2026-01-01T00:00:00.000Z", "age_s": 3661,
            "fresh_until": "2026-01-08T00:00:00.000Z",
            "stale_while_revalidate_until": "2026-01-08T01:00:00.000Z",
            "stale_if_error_until": "2026-01-15T00:00:00.000Z", "verdict": "fresh",
            "purge_sequence": 4, "upstream_request_id": "req_1", "upstream_time_ms": 812,
            "input_tokens": 12, "output_tokens": 30, "tags": ["a", "b"],
            "url": "https://x.example/v1/embeddings", "kept_until": "2026-01-15T00:00:00.000Z",
            "must_revalidate": true, "negative": false, "variants": null, "tiers": ["memory", "disk"],
            "body_bytes": 2048, "body": "one\ntwo\u{7}",
        })
    }

    #[tokio::test]
    async fn an_entry_is_a_table_that_no_terminal_obeys() {
        let (address, asked) = server_saying("200 OK", entry().to_string()).await;
        let options = typed(&address, true, false);
        let said = inspect(&options.server.client().unwrap(), &options).await.unwrap();
        for line in [
            "tenant                      team",
            "model that answered         m\\u{1b}[31m",
            "verdict                     fresh",
            "stored                      2026-01-01T00:00:01.000Z",
            "age                         1h 1m 1s",
            "if the upstream fails until 2026-01-15T00:00:00.000Z",
            "never stale                 yes",
            "url                         https://x.example/v1/embeddings",
            "purge sequence              4",
            "upstream request id         req_1",
            "upstream took               812 ms",
            "tags                        a, b",
            "tiers                       memory, disk",
            "body                        2.0 KiB",
        ] {
            assert!(said.lines().any(|said| said == line), "no {line:?} in\n{said}");
        }
        assert!(said.ends_with("\n\none\ntwo\\u{7}\n"), "{said}");
        let target = format!("GET /inspect/{}?body=true HTTP/1.1\r\n", key());
        assert!(asked.await.unwrap().starts_with(&target));
    }

    #[tokio::test]
    async fn what_a_server_does_not_say_is_left_out() {
        let (address, asked) = server_saying("200 OK", r#"{"status":200,"tags":[]}"#).await;
        let options = typed(&address, false, false);
        let said = inspect(&options.server.client().unwrap(), &options).await.unwrap();
        assert_eq!(said, "status                      200\n");
        assert!(asked.await.unwrap().starts_with(&format!("GET /inspect/{} HTTP/1.1", key())));
    }

    #[tokio::test]
    async fn the_servers_json_is_printed_where_it_is_wanted() {
        let (address, _asked) = server_saying("200 OK", entry().to_string()).await;
        let options = typed(&address, false, true);
        let said = inspect(&options.server.client().unwrap(), &options).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), entry());
    }

    #[tokio::test]
    async fn an_entry_that_is_not_there_is_told_in_a_sentence() {
        let (address, _asked) = server_saying("404 Not Found", "").await;
        let options = typed(&address, false, false);
        let refused = inspect(&options.server.client().unwrap(), &options).await.unwrap_err();
        assert_eq!(refused.to_string(), format!("{address} has no entry under {}", key()));
    }
}
