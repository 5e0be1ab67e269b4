//! How loud the log is, read and changed while the server runs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;

use super::authorization::Authorized;
use super::body;
use super::problem::Refused;
use crate::app::App;
use crate::telemetry::log::{BadDirectives, DIRECTIVES_BYTES_MAX, Directives};

/// `GET /log`: the directives in force.
pub async fn show(State(app): State<Arc<App>>) -> String {
    format!("{}\n", app.log.level())
}

/// `PUT /log`: puts other directives in force, and shows them.
///
/// # Errors
/// When the body is not directives, or does not come whole within its bounds.
pub async fn set(
    _: Authorized,
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<String, Refused> {
    let body = body::read(&app, body, DIRECTIVES_BYTES_MAX).await?;
    let level: Directives = text(body)?.parse().map_err(Refused::BadDirectives)?;
    tracing::info!(directives = %level, "the log's level is changed");
    app.log.set_level(level);
    Ok(format!("{}\n", app.log.level()))
}

fn text(body: Bytes) -> Result<String, Refused> {
    String::from_utf8(body.into()).map_err(|error| {
        let directive = String::from_utf8_lossy(error.as_bytes()).into_owned();
        Refused::BadDirectives(BadDirectives::NotUnderstood { directive })
    })
}
