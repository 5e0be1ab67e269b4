//! Refresh: fetches a stale entry anew behind the answer that it gave (RFC 5861 section 3).

use std::sync::Arc;

use super::key::Keyed;
use super::{coalesce, fetch, lookup};
use crate::app::App;
use crate::cache::flight::Joined;

/// Begins a refresh, unless one is under way or has just landed. Nobody waits for it, and if it fails the entry
/// stays as it is.
pub fn behind(app: &Arc<App>, keyed: Keyed) {
    let refreshed = || lookup::recheck(app, &keyed);
    let is_current = |began| coalesce::is_current(app, &keyed, began);
    let sequence = app.purges.sequence();
    let joined = app.flights.join(keyed.place, sequence, is_current, refreshed);
    if let Joined::Leader(writer, _) = joined {
        app.fills.spawn(fetch::fill(Arc::clone(app), keyed, writer));
    }
}
