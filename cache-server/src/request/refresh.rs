//! Refresh: fetches anew behind an answer what gave it, because it is stale (RFC 5861 section 3) or
//! soon will be.

use std::sync::Arc;

use http::Method;

use super::fetch::Filled;
use super::key::Keyed;
use super::order::For;
use super::{coalesce, fetch, hold, lookup, shared};
use crate::app::App;
use crate::cache::flight::Joined;
use crate::telemetry::{Refresh, RefreshedAs};

/// Begins a refresh, unless one is under way or has just landed, or the upstream is not to be asked:
/// now, or by this request. What another server has refreshed is taken from Redis. Nobody waits for it,
/// and if it fails the entry stays as it is.
pub fn behind(app: &Arc<App>, mut keyed: Box<Keyed>, refreshed_as: RefreshedAs) {
    if keyed.asked.directives.only_if_cached {
        return;
    }
    // A HEAD is answered from what a GET has stored; an answer to it would take the body away.
    if keyed.asked.method == Method::HEAD {
        keyed.asked.method = Method::GET;
    }
    if shared::may_be_newer(app) {
        let app = Arc::clone(app);
        app.clone().fills.spawn(async move {
            if shared::has_newer(&app, &mut keyed).await {
                app.telemetry.flights.refreshed(refreshed_as, Refresh::Shared);
            } else {
                from_upstream(&app, keyed, refreshed_as);
            }
        });
    } else {
        from_upstream(app, keyed, refreshed_as);
    }
}

fn from_upstream(app: &Arc<App>, keyed: Box<Keyed>, refreshed_as: RefreshedAs) {
    if hold::keeps_from_refreshing(app, &keyed) {
        app.telemetry.flights.refreshed(refreshed_as, Refresh::Held);
        return;
    }
    let refreshed = || {
        let of_now = |hit: &lookup::Hit| {
            keyed.validates.as_ref().is_none_or(|before| hit.entry.stored > before.stored)
        };
        lookup::recheck(app, &keyed).filter(of_now)
    };
    let is_current = |began| coalesce::is_current(app, &keyed, began);
    let sequence = app.purges.sequence();
    match app.flights.join(keyed.place, sequence, is_current, refreshed) {
        Joined::Leader(writer, _) => {
            let app = Arc::clone(app);
            app.clone().fills.spawn(async move {
                let outcome = match fetch::fill(Arc::clone(&app), keyed, writer, For::Later).await {
                    Filled::Fetched => Refresh::Fetched,
                    Filled::Failed => Refresh::Failed,
                    Filled::Shared => Refresh::Shared,
                };
                app.telemetry.flights.refreshed(refreshed_as, outcome);
            });
        }
        Joined::Full => app.telemetry.flights.refreshed(refreshed_as, Refresh::Held),
        // Another one sees to it.
        Joined::Follower(reader) => reader.pass_by(),
        Joined::Found(_) => {}
    }
}
