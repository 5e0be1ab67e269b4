//! How loud the log is, read and changed while the server runs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::authorization::Authorized;
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
    let level: Directives = read(&app, body).await?.parse().map_err(Refused::BadDirectives)?;
    tracing::info!(directives = %level, "the log's level is changed");
    app.log.set_level(level);
    Ok(format!("{}\n", app.log.level()))
}

/// Reads a body of at most as many bytes as directives may have.
async fn read(app: &App, body: Body) -> Result<String, Refused> {
    let body = Limited::new(body, DIRECTIVES_BYTES_MAX).collect();
    let Ok(read) = tokio::time::timeout(app.settings().server.body_timeout, body).await else {
        return Err(Refused::BodyTimeout);
    };
    let bytes = read
        .map_err(|error| {
            let too_large = error.downcast_ref::<LengthLimitError>().is_some();
            if too_large { Refused::BodyTooLarge } else { Refused::BodyBroken }
        })?
        .to_bytes();
    String::from_utf8(bytes.into()).map_err(|error| {
        let directive = String::from_utf8_lossy(error.as_bytes()).into_owned();
        Refused::BadDirectives(BadDirectives::NotUnderstood { directive })
    })
}
