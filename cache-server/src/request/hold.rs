//! Hold: what keeps a request from the upstream for now.
//!
//! An upstream that said when to come back is not asked before for the tenant that it said it to (a
//! cool-down), and a key whose fill failed is not fetched again at once (a back-off). Whoever would
//! fetch for the cache asks here first: a stale answer that may stand in for a failing upstream is
//! given without asking it, and without one the caller is told when to come back. What passes
//! through is not held back: only the upstream can answer it, and it may still be willing to.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use keyspec::Key;

use super::key::Keyed;
use super::order::{For, Order};
use super::respond::is_failure;
use super::store::SUPERSEDED;
use crate::app::App;
use crate::cache::back_off::BackOff;
use crate::cache::cool_down::{CoolDown, Limited, begun_by};
use crate::clock::Timestamp;
use crate::config::FillSettings;
use crate::upstream::UpstreamError;

/// How much of a back-off callers wait out, all of them for one fetch, rather than being told of a
/// failure that may be over.
const WAITED_OUT_MAX: Duration = Duration::from_millis(250);

/// What keeps a request from the upstream.
#[derive(Debug)]
pub struct Hold {
    /// A short word for it.
    pub reason: &'static str,
    /// What is said to a request that nothing stored can answer. Nothing where a short back-off is
    /// waited out instead.
    pub refusal: Option<Refusal>,
}

/// Why the upstream is not asked, and until when.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub why: Why,
    /// When it is asked again.
    pub until: Timestamp,
}

/// Why the upstream is not asked.
#[derive(Debug)]
pub enum Why {
    /// It said when to come back, with this status.
    CoolDown(StatusCode),
    /// So the last fill failed.
    BackOff(UpstreamError),
}

/// What keeps this request from the upstream, if anything does.
#[must_use]
pub fn of(app: &App, keyed: &Keyed) -> Option<Hold> {
    if app.cool_downs.is_empty() && app.back_offs.is_empty() {
        return None;
    }
    let now = app.clock.now();
    if let Some(CoolDown { status, period }) = cool_down(app, keyed, now) {
        let refusal = Some(Refusal { why: Why::CoolDown(status), until: period.until });
        return Some(Hold { reason: "cool-down", refusal });
    }
    let BackOff { period, error, .. } = app.back_offs.of(&keyed.place, now)?;
    let until = period.until;
    // An upstream that answers, if only by errors, gets to say so itself.
    let why = Why::BackOff(error?);
    let is_long = until.since(now) > WAITED_OUT_MAX;
    Some(Hold { reason: "back-off", refusal: is_long.then_some(Refusal { why, until }) })
}

/// Whether a refresh, for which nobody waits, is kept from the upstream: also by errors that it
/// answered with.
#[must_use]
pub fn keeps_from_refreshing(app: &App, keyed: &Keyed) -> bool {
    let now = app.clock.now();
    app.back_offs.of(&keyed.place, now).is_some() || cool_down(app, keyed, now).is_some()
}

fn cool_down(app: &App, keyed: &Keyed, now: Timestamp) -> Option<CoolDown> {
    // Whom it would be for is not worth putting together while there is none.
    if app.cool_downs.is_empty() {
        return None;
    }
    app.cool_downs.of(&keyed.asked.limited(), now)
}

/// Waits out a back-off; whoever may not wait was refused before.
pub async fn wait_out(app: &App, place: &Key) {
    let now = app.clock.now();
    if let Some(BackOff { period, error: Some(_), .. }) = app.back_offs.of(place, now) {
        tokio::time::sleep(period.until.since(now).min(WAITED_OUT_MAX)).await;
    }
}

/// Takes note of what an upstream's answer says about coming back.
pub fn note_answer(
    app: &App,
    limited: impl FnOnce() -> Limited,
    fills: &FillSettings,
    status: StatusCode,
    fields: &HeaderMap,
) {
    let begun = begun_by(status, fields, app.clock.now(), fills.cool_down_max);
    if let Some(cool_down) = begun {
        app.cool_downs.note(limited(), cool_down);
        app.telemetry.flights.cool_down_begun();
    }
}

/// Takes note of an answer that came whole, and of why nothing of it was kept. A refresh would fare no better
/// at once, but where a later fetch has its place.
pub fn note_whole(app: &App, order: &Order, status: StatusCode, not_stored: Option<&'static str>) {
    let is_fruitless = not_stored.is_some_and(|why| why != SUPERSEDED);
    if is_failure(status) || (is_fruitless && order.for_whom == For::Later) {
        note_failure(app, order, None);
    } else {
        app.back_offs.succeeded(&order.place);
    }
}

/// Takes note of a fill that the upstream failed.
pub fn note_broken(app: &App, order: &Order, error: &UpstreamError) {
    note_failure(app, order, Some(error.clone()));
}

/// Takes note of a fill that was not read to its end, as nobody waits for it and nothing of it can be
/// kept: a refresh would fare no better at once.
pub fn note_fruitless(app: &App, order: &Order) {
    note_failure(app, order, None);
}

fn note_failure(app: &App, order: &Order, error: Option<UpstreamError>) {
    let longest = order.fills.failure_backoff_max;
    app.back_offs.failed(order.place, error, order.began, app.clock.now(), longest);
}
