//! Every URL of ours in one table.
//!
//! | Listener | Address | What |
//! |---|---|---|
//! | admin | `GET /healthz` | alive |
//! | admin | `GET /readyz` | takes requests; 503 while draining |
//! | admin | `GET /metrics` | Prometheus |
//! | admin | `GET /stats` | totals as JSON |
//! | admin | `GET /log`, `PUT /log` | how loud the log is; changing it takes [`authorization`] |
//! | admin | `GET /overrides` | the levers that are pulled |
//! | admin | `POST /overrides`, `DELETE /overrides/{id}` | pull one, let one go; takes [`authorization`] |
//! | admin | `POST /purge` | purges entries; takes [`authorization`] |
//! | admin | `GET /inspect/KEY` | what is known of an entry; takes [`authorization`] |
//! | data | `/_cache/…` | ours; nothing is there yet |
//! | data | all else | proxied: [`crate::request::serve`] |
//!
//! [`authorization`]: crate::api::authorization

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};

use crate::api::{admin, inspect, log, overrides, purge};
use crate::app::App;

/// The admin listener's addresses.
pub fn admin(app: Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(admin::healthz))
        .route("/readyz", get(admin::readyz))
        .route("/metrics", get(admin::metrics))
        .route("/stats", get(admin::stats))
        .route("/log", get(log::show).put(log::set))
        .route("/overrides", get(overrides::list).post(overrides::add))
        .route("/overrides/{id}", delete(overrides::remove))
        .route("/purge", post(purge::purge))
        .route("/inspect/{key}", get(inspect::inspect))
        .with_state(app)
}
