//! `POST /purge`: makes entries as if they were not there, or stale.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::authorization::Authorized;
use super::body;
use super::problem::Refused;
use crate::app::App;
use crate::app::settings::Settings;
use crate::cache::entry::Selector;
use crate::cache::purge::{Manner, TARGETS_MAX, Target};
use crate::telemetry::PurgedBy;
use crate::upstream::client::Upstream;
use crate::upstream::mount;

/// Largest order, in bytes.
const ORDER_BYTES_MAX: usize = 4 << 20;

/// What is to be purged.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Order {
    keys: Vec<String>,
    tags: Vec<String>,
    urls: Vec<String>,
    routes: Vec<String>,
    tenants: Vec<String>,
    everything: bool,
    soft: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
pub struct Done {
    /// The number of the order: entries whose fills began before it are purged.
    sequence: u64,
}

/// Takes an order; it is in force at once, and acknowledged once it is durable.
///
/// # Errors
/// When the order is none, names nothing or too much, or cannot be made durable.
pub async fn purge(
    _: Authorized,
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Json<Done>, Refused> {
    let order: Order = body::read_json(&app, body, ORDER_BYTES_MAX).await?;
    let targets = order.targets(&app.settings())?;
    let manner = if order.soft { Manner::Soft } else { Manner::Hard };
    let ordered = app.purge(&targets, manner, PurgedBy::Admin).await;
    tracing::info!(targets = targets.len(), soft = order.soft, "entries were purged");
    let sequence = ordered.map_err(|error| Refused::NotDurable { why: error.to_string() })?;
    Ok(Json(Done { sequence }))
}

impl Order {
    fn targets(&self, settings: &Settings) -> Result<Vec<Target>, Refused> {
        let mut selectors = Vec::new();
        for key in &self.keys {
            let key = key.parse().map_err(|_| Refused::NoKey { text: key.clone() })?;
            selectors.push(Selector::key(&key));
        }
        for url in &self.urls {
            let url = forwarded(settings, url).ok_or(Refused::NoUrl { text: url.clone() })?;
            selectors.push(Selector::url(&url));
        }
        selectors.extend(self.tags.iter().map(|tag| Selector::tag(tag.trim())));
        selectors.extend(self.routes.iter().map(|route| Selector::route(route)));
        selectors.extend(self.tenants.iter().map(|tenant| Selector::tenant(tenant)));
        let mut targets: Vec<Target> = selectors.into_iter().map(Target::Selector).collect();
        targets.extend(self.everything.then_some(Target::Everything));
        match targets.len() {
            0 => Err(Refused::PurgesNothing),
            1..=TARGETS_MAX => Ok(targets),
            _ => Err(Refused::PurgesTooMuch),
        }
    }
}

/// The name of the URL as entries know it: of an upstream, or nothing is under it. A path is one of ours, and
/// goes where a request to it would.
fn forwarded(settings: &Settings, url: &str) -> Option<String> {
    if url.starts_with('/') {
        let (path, query) = match url.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (url, None),
        };
        let (upstream, rest) = settings.upstream_for(None, path)?;
        return Some(mount::target(upstream.base(), rest, query).ok()?.name());
    }
    let url = url::Url::parse(url).ok()?;
    let is_of = |upstream: &Arc<Upstream>| {
        let base = upstream.base();
        let below = url.path().strip_prefix(base.path().trim_end_matches('/'));
        base.origin() == url.origin()
            && below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    };
    settings.upstreams.iter().any(is_of).then(|| mount::Target::of(&url))?.map(|it| it.name())
}
