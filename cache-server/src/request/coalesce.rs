//! Coalesce: one fetch for any number of callers who ask the same.

use std::sync::Arc;
use std::time::Duration;

use keyspec::{Key, Route};

use super::conditions::Conditional;
use super::fetch;
use super::key::{Cause, Keyed, Unkeyed};
use super::lookup::{self, Hit};
use super::order::{self, For};
use crate::app::App;
use crate::cache::flight::{Failure, Joined, Reader};
use crate::cache::purge::Verdict;
use crate::telemetry::trace::Step;
use crate::upstream::UpstreamError;
use crate::upstream::client::Upstream;
use crate::upstream::head::Arrival;

/// The reading end of this server's flights.
pub type AnswerReader = Reader<Arrival, UpstreamError>;

/// A caller's place on a flight.
#[derive(Debug)]
pub struct OnBoard {
    /// Where the answer comes from.
    pub reader: AnswerReader,
    /// What is asked.
    pub key: Key,
    /// On which route.
    pub route: Route,
    /// Why the upstream is asked, as `Cache-Status` has it.
    pub forwarded: &'static str,
    /// What the caller has already.
    pub conditional: Conditional,
    /// The request, for a follower who may have to go alone.
    pub keyed: Option<Box<Keyed>>,
    /// The span of waiting for the head.
    pub span: Step,
    /// Whom the fetch asks.
    pub upstream: Arc<Upstream>,
    /// How long the caller waits for the head.
    pub wait_max: Duration,
}

impl OnBoard {
    /// Waits for what comes, but not for ever.
    ///
    /// # Errors
    /// The fill's failure, or that its headers took too long.
    pub async fn head(&mut self) -> Result<Arrival, Failure<UpstreamError>> {
        let landed = tokio::time::timeout(self.wait_max, self.reader.head()).await;
        landed.unwrap_or_else(|_elapsed| {
            let within = humantime::format_duration(self.wait_max);
            let why = format!("no headers within cache.flight_wait_max = {within}");
            let upstream = self.upstream.name().into();
            Err(Failure::Fill(UpstreamError::TimedOut { upstream, why }))
        })
    }
}

/// Where a request finds itself.
#[derive(Debug)]
pub enum Place {
    /// It began the fetch.
    Leader(OnBoard),
    /// It reads along.
    Follower(OnBoard),
    /// The answer arrived in the meantime.
    Found(Box<Keyed>, Hit),
    /// There is no room: it passes through.
    Alone(Box<Unkeyed>),
}

/// Joins the flight for this key, or begins one. The fetch is nobody's: it runs detached.
pub fn join(app: &Arc<App>, keyed: Box<Keyed>) -> Place {
    let (key, route, afresh) = (keyed.key, keyed.spec.route(), keyed.wants_afresh());
    let (forwarded, conditional) = (lookup::why_forwarded(app, &keyed), Conditional::of(&keyed));
    let upstream = Arc::clone(&keyed.asked.upstream);
    let wait_max = keyed.asked.settings.fills.flight_wait_max;
    let sequence = app.purges.sequence();
    let mut span = keyed.asked.trace.coalesce();
    let waits_for_nobody = app.unshared.has(&keyed.place, app.clock.now());
    if waits_for_nobody {
        app.telemetry.flights.hit_for_miss();
    }
    let joined = if afresh || waits_for_nobody {
        app.flights.lead_anew(keyed.place, sequence)
    } else {
        let is_current = |began| is_current(app, &keyed, began);
        app.flights.join(keyed.place, sequence, is_current, || lookup::recheck(app, &keyed))
    };
    span.note_role(match &joined {
        Joined::Leader(..) => "leader",
        Joined::Follower(_) => "follower",
        Joined::Found(_) => "found",
        Joined::Full => "alone",
    });
    let on_board = |reader, keyed| OnBoard {
        reader,
        key,
        route,
        forwarded,
        conditional,
        keyed,
        span,
        upstream,
        wait_max,
    };
    match joined {
        Joined::Leader(writer, reader) => {
            app.fills.spawn(fetch::fill(Arc::clone(app), keyed, writer, For::Callers));
            Place::Leader(on_board(reader, None))
        }
        Joined::Follower(reader) => Place::Follower(on_board(reader, Some(keyed))),
        Joined::Found(hit) => Place::Found(keyed, hit),
        Joined::Full => {
            Place::Alone(Box::new(keyed.unkeyed(Cause::FLIGHTS_FULL.forwarded(forwarded))))
        }
    }
}

/// Whether a flight that began when `sequence` was the newest purge order is not behind one that
/// names what both ask for. What only its answer shows, such as tags, is looked at when that comes.
pub fn is_current(app: &App, keyed: &Keyed, sequence: u64) -> bool {
    sequence == app.purges.sequence()
        || app.purges.verdict(&order::selectors_of_request(keyed), sequence) == Verdict::Alive
}
