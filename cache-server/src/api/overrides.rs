//! Overrides, read and changed while the server runs: levers that are pulled for a while.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::LOCATION;
use keyspec::ModelRoute;
use serde::{Deserialize, Serialize};

use super::authorization::Authorized;
use super::body;
use super::problem::Refused;
use crate::app::App;
use crate::app::settings::Settings;
use crate::cache::overrides::{Lever, NotAdded, Override, Selects, Wanted};
use crate::clock::Timestamp;
use crate::request::identify::Tenant;

/// More than the largest override, with every character escaped.
const BYTES_MAX: usize = 16 << 10;

/// What is posted to pull a lever.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posted {
    lever: String,
    factor: Option<f64>,
    route: Option<String>,
    model: Option<String>,
    tenant: Option<String>,
    r#for: String,
    who: String,
    why: String,
}

impl Posted {
    fn wanted(self) -> Result<Wanted, Refused> {
        let lever = Lever::named(&self.lever, self.factor);
        let lever = lever.map_err(|bad| Refused::BadOverride(bad.to_string()))?;
        let lasts = humantime::parse_duration(&self.r#for)
            .map_err(|error| Refused::BadOverride(format!("for: {error}")))?;
        let Posted { route, model, tenant, who, why, .. } = self;
        Ok(Wanted { lever, selects: Selects { route, model, tenant }, lasts, who, why })
    }
}

/// An override in force, as it is shown.
#[derive(Debug, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    pulled: Override,
    /// Until it reverts, in whole seconds, by the server's clock.
    left_s: u64,
}

impl Shown {
    fn at(pulled: Override, now: Timestamp) -> Shown {
        let left = pulled.until.since(now);
        Shown { pulled, left_s: left.as_secs() }
    }
}

/// `GET /overrides`: those in force, the most recent last.
pub async fn list(State(app): State<Arc<App>>) -> Json<Vec<Shown>> {
    let now = app.clock.now();
    Json(app.overrides.list().into_iter().map(|pulled| Shown::at(pulled, now)).collect())
}

/// `POST /overrides`: pulls a lever. It is on disk before it is acknowledged.
///
/// # Errors
/// When it may not be asked for, there are too many, or it cannot be written.
pub async fn add(
    _: Authorized,
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<impl IntoResponse, Refused> {
    let wanted = body::read_json::<Posted>(&app, body, BYTES_MAX).await?.wanted()?;
    check_names(&app.settings(), &wanted.selects)?;
    let added = blocking(Arc::clone(&app), move |app| app.overrides.add(wanted)).await?;
    let added = added.map_err(|error| match error {
        NotAdded::Bad(bad) => Refused::BadOverride(bad.to_string()),
        NotAdded::Full => Refused::OverridesFull,
        NotAdded::NotWritten(error) => not_written(&error),
    })?;
    tell(&added, "an override is in force");
    app.tell_others();
    let location = format!("/overrides/{}", added.id);
    let shown = Json(Shown::at(added, app.clock.now()));
    Ok((StatusCode::CREATED, [(LOCATION, location)], shown))
}

/// `DELETE /overrides/{id}`: lets a lever go before its time.
///
/// # Errors
/// When no override in force has this number, or that cannot be written.
pub async fn remove(
    _: Authorized,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refused> {
    let id: u64 = id.parse().map_err(|_| Refused::NoSuchOverride)?;
    let removed = blocking(Arc::clone(&app), move |app| app.overrides.remove(id)).await?;
    let removed = removed.map_err(|error| not_written(&error))?.ok_or(Refused::NoSuchOverride)?;
    tell(&removed, "an override is removed before its time");
    app.tell_others();
    Ok(StatusCode::NO_CONTENT)
}

/// A name that selects nothing is a slip of the pen, and at night it would go unnoticed.
fn check_names(settings: &Settings, selects: &Selects) -> Result<(), Refused> {
    let is_route = |name: &str| {
        let mut declared = settings.policies.specs().declared();
        name == "http"
            || ModelRoute::ALL.iter().any(|route| route.name() == name)
            || declared.any(|spec| spec.name() == name)
    };
    let is_tenant = |name: &str| {
        let mut named = settings.tenants.values();
        [Tenant::ANONYMOUS, Tenant::UNMAPPED].contains(&name) || named.any(|known| **known == *name)
    };
    let refuse = |why: &str| Err(Refused::BadOverride(why.to_owned()));
    if !selects.route.as_deref().is_none_or(is_route) {
        return refuse("route: a model route such as openai.embeddings, a [[key_spec]], or http");
    }
    if !selects.tenant.as_deref().is_none_or(is_tenant) {
        return refuse("tenant: a [[tenant]] that has credentials, anonymous, or (unmapped)");
    }
    Ok(())
}

/// Writing waits for the disk: aside, so that no request waits along.
async fn blocking<T: Send + 'static>(
    app: Arc<App>,
    change: impl FnOnce(&App) -> T + Send + 'static,
) -> Result<T, Refused> {
    // It does not come back if the server is being stopped.
    let changed = tokio::task::spawn_blocking(move || change(&app)).await;
    changed.map_err(|_| Refused::OverridesNotWritten)
}

fn not_written(error: &std::io::Error) -> Refused {
    tracing::error!(%error, "the overrides could not be written");
    Refused::OverridesNotWritten
}

fn tell(pulled: &Override, what: &'static str) {
    let Override { id, lever, selects, since, until, who, why } = pulled;
    let factor = if let Lever::Lifetimes(factor) = lever { Some(*factor) } else { None };
    let lasts = humantime::format_duration(until.since(*since));
    tracing::info!(
        id,
        lever = lever.name(),
        factor,
        route = selects.route,
        model = selects.model,
        tenant = selects.tenant,
        %lasts,
        who,
        why,
        "{what}"
    );
}
