//! `GET /inspect/KEY`: what is known of an entry, for operators. Its body only if asked for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::Uri;
use humantime::format_rfc3339_millis;
use keyspec::Key;
use serde::Serialize;

use super::authorization::Authorized;
use super::problem::Refused;
use crate::app::App;
use crate::cache::entry::Entry;
use crate::cache::purge::Verdict;
use crate::cache::variants::{Variants, variant_key};
use crate::clock::Timestamp;
use crate::request::shared;

/// What is told of an entry.
#[derive(Debug, Serialize)]
pub struct Inspected {
    key: String,
    tenant: String,
    route: String,
    /// The model that answered.
    model: Option<String>,
    url: String,
    status: u16,
    stored: String,
    generated: String,
    age_s: u64,
    fresh_until: String,
    stale_while_revalidate_until: String,
    stale_if_error_until: String,
    kept_until: String,
    must_revalidate: bool,
    negative: bool,
    /// Whether a purge order reaches it: `alive`, `stale` or `dead`.
    verdict: &'static str,
    purge_sequence: u64,
    upstream_request_id: Option<String>,
    upstream_time_ms: u32,
    input_tokens: u64,
    output_tokens: u64,
    tags: Vec<String>,
    /// The tiers that hold it.
    tiers: Vec<&'static str>,
    /// The keys of the variants, if it is a record of them.
    variants: Option<Vec<String>>,
    body_bytes: usize,
    body: Option<String>,
}

/// Tells of the entry under a key, as the tiers hold it.
///
/// # Errors
/// When the key is none, or nothing is stored under it.
pub async fn inspect(
    _: Authorized,
    State(app): State<Arc<App>>,
    Path(key): Path<String>,
    uri: Uri,
) -> Result<Json<Inspected>, Refused> {
    let key: Key = key.parse().map_err(|_| Refused::NoKey { text: key })?;
    let (in_memory, on_disk) = app.tiers.local.inspect(&key).await;
    let in_redis = shared::inspect(&app, &key).await;
    let found = [("memory", in_memory), ("disk", on_disk), ("redis", in_redis)];
    let tiers = found.iter().filter_map(|(tier, entry)| entry.as_ref().map(|_| *tier)).collect();
    let mut entries = found.into_iter().filter_map(|(_, entry)| entry);
    let entry = entries.next().ok_or(Refused::NoSuchEntry)?;
    let mut inspected = Inspected::of(&app, &entry, tiers);
    // Only whoever asks for it in so many words is shown what a caller was told.
    let wants_body = uri.query() == Some("body=true");
    inspected.body = wants_body.then(|| String::from_utf8_lossy(&entry.body).into_owned());
    Ok(Json(inspected))
}

impl Inspected {
    fn of(app: &App, entry: &Entry, tiers: Vec<&'static str>) -> Inspected {
        let verdict = match app.purges.verdict_on(entry) {
            Verdict::Alive => "alive",
            Verdict::Stale => "stale",
            Verdict::Dead => "dead",
        };
        let variants = entry.is_variants.then(|| Variants::decode(&entry.body)).flatten();
        let keys = variants.map(|variants| {
            variants.all().map(|selecting| variant_key(&entry.key, selecting).to_string()).collect()
        });
        Inspected {
            key: entry.key.to_string(),
            tenant: entry.tenant.to_string(),
            route: entry.route.to_string(),
            model: entry.model.as_deref().map(Into::into),
            url: entry.url.to_string(),
            status: entry.status.as_u16(),
            stored: rfc3339(entry.stored),
            generated: rfc3339(entry.generated),
            age_s: entry.age_s(app.clock.now()),
            fresh_until: rfc3339(entry.ends.fresh),
            stale_while_revalidate_until: rfc3339(entry.ends.stale_while_revalidate),
            stale_if_error_until: rfc3339(entry.ends.stale_if_error),
            kept_until: rfc3339(entry.ends.last()),
            must_revalidate: entry.must_revalidate,
            negative: entry.negative,
            verdict,
            purge_sequence: entry.purge_sequence,
            upstream_request_id: entry.upstream_request_id.as_deref().map(Into::into),
            upstream_time_ms: entry.upstream_time_ms,
            input_tokens: entry.usage.input_tokens,
            output_tokens: entry.usage.output_tokens,
            tags: entry.tags.iter().map(ToString::to_string).collect(),
            tiers,
            variants: keys,
            body_bytes: entry.body.len(),
            body: None,
        }
    }
}

fn rfc3339(time: Timestamp) -> String {
    format_rfc3339_millis(time.as_system_time()).to_string()
}
