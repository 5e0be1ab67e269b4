//! The line of a request: what is known of it, gathered along its way and told when it ends,
//! however it ends.
//!
//! An answer from an entry is whole at once, and is told of at once. All others carry a [`Line`]:
//! from where they wait for an upstream, through the answer's body, to its end. A line that is
//! dropped before tells of a caller who left.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use keyspec::Route;

use super::deadline::Deadline;
use super::identify::Asked;
use super::key::{Cause, Keyed};
use super::lookup::Hit;
use crate::app::App;
use crate::cache::entry::Usage;
use crate::cache::repeats::Repeat;
use crate::clock::Clock;
use crate::telemetry::requests::{CutBy, Ended};
use crate::telemetry::{Outcome, Telemetry};
use crate::upstream::head::{AnswerHead, Settled};

/// What is known of a request before its answer.
#[derive(Debug)]
pub struct Facts {
    /// When it came.
    pub received: Instant,
    /// What it is counted under, if a spec is for it.
    pub route: Option<Route>,
    /// The model that it asks for.
    pub model: Option<Box<str>>,
    /// When it is over.
    pub deadline: Deadline,
}

impl Facts {
    /// The facts of a request that has a key.
    #[must_use]
    pub fn of(keyed: &Keyed) -> Facts {
        Facts::of_unkeyed(&keyed.asked, keyed.model().map(Into::into))
    }

    /// The facts of a request that has no key.
    #[must_use]
    pub fn of_unkeyed(asked: &Asked, model: Option<Box<str>>) -> Facts {
        Facts {
            received: asked.received,
            route: asked.route(),
            model,
            deadline: asked.deadline.clone(),
        }
    }
}

/// What is told of a request that an entry answers.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// When it came.
    pub received: Instant,
    /// What it is counted under.
    pub route: Route,
    /// The model that it asks for.
    pub model: Option<&'a str>,
}

impl<'a> Told<'a> {
    /// Of a request that has a key.
    #[must_use]
    pub fn of(keyed: &'a Keyed) -> Told<'a> {
        let (received, route) = (keyed.asked.received, keyed.spec.route());
        Told { received, route, model: keyed.model() }
    }

    /// Of one that came before.
    #[must_use]
    pub fn again(repeat: &'a Repeat, received: Instant) -> Told<'a> {
        Told { received, route: repeat.route, model: repeat.model.as_deref() }
    }
}

/// Tells of an answer that an entry gave: all is known at once.
pub fn tell_hit(app: &App, told: Told<'_>, hit: &Hit, outcome: Outcome, reason: &'static str) {
    let at = app.clock.instant();
    let took = at.saturating_duration_since(told.received);
    app.telemetry.answered(outcome, took);
    app.telemetry.ended(&Ended {
        outcome,
        route: Some(told.route),
        model: told.model,
        status: Some(hit.entry.status),
        reason,
        advice: "",
        stored: false,
        usage: Some(hit.entry.usage),
        cut_by: None,
        took,
        at,
    });
}

/// A request whose end is still to be told.
#[derive(Debug)]
pub struct Line {
    telemetry: Arc<Telemetry>,
    clock: Clock,
    facts: Facts,
    outcome: Outcome,
    status: Option<StatusCode>,
    reason: &'static str,
    advice: &'static str,
    usage: Option<Usage>,
    settled: Option<Arc<Settled>>,
    /// Bytes of the answer still to be sent, where its length is known: nobody asks a body for
    /// more once it has given all that it declared.
    bytes_left: Option<u64>,
    cut_by: Option<CutBy>,
    /// Another line tells of this request.
    dismissed: bool,
    is_traced: bool,
}

impl Line {
    /// The line of a request that will end so, unless something else happens.
    #[must_use]
    pub fn begin(app: &App, facts: Facts, outcome: Outcome) -> Line {
        Line {
            telemetry: Arc::clone(&app.telemetry),
            clock: app.clock.clone(),
            facts,
            outcome,
            status: None,
            reason: "",
            advice: "",
            usage: None,
            settled: None,
            bytes_left: None,
            cut_by: Some(CutBy::Caller),
            dismissed: false,
            is_traced: app.traces.are_on(),
        }
    }

    /// The line of a request that goes past the cache.
    #[must_use]
    pub fn past(app: &App, facts: Facts, cause: &Cause) -> Line {
        let mut line = Line::begin(app, facts, Outcome::Bypass);
        line.reason = cause.code;
        line.advice = cause.advice;
        line
    }

    /// Counts the request by its outcome, now that its answer's head is known.
    pub fn answered(&mut self, outcome: Outcome, reason: &'static str, status: StatusCode) {
        if outcome != Outcome::Bypass {
            self.advice = "";
        }
        self.outcome = outcome;
        self.reason = reason;
        self.status = Some(status);
        self.telemetry.request(self.facts.route, outcome, reason);
        let waited = self.clock.instant().saturating_duration_since(self.facts.received);
        self.telemetry.answered(outcome, waited);
    }

    /// The same, for an answer that came from a flight: its end tells the rest.
    pub fn landed(&mut self, outcome: Outcome, reason: &'static str, head: &AnswerHead) {
        self.answered(outcome, reason, head.status);
        self.settled = Some(Arc::clone(&head.settled));
        self.expect(head.content_length());
    }

    /// The answer has so many bytes, if it says so.
    pub fn expect(&mut self, bytes: Option<u64>) {
        self.bytes_left = bytes;
        self.sent(0);
    }

    /// A piece of the answer is on its way.
    pub fn sent(&mut self, bytes: u64) {
        match self.outcome {
            Outcome::Collapsed => self.telemetry.served_from_cache(bytes),
            _ => self.telemetry.served_from_upstream(bytes),
        }
        if let Some(left) = &mut self.bytes_left {
            *left = left.saturating_sub(bytes);
            if *left == 0 {
                self.whole();
            }
        }
    }

    /// Whether there may be a span of this request that wants to know the same.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.is_traced
    }

    /// The answer is complete.
    pub fn whole(&mut self) {
        self.cut_by = None;
    }

    /// The answer broke off upstream.
    pub fn broken(&mut self) {
        self.cut_by = Some(CutBy::Upstream);
    }

    /// An entry answers that another server's fetch has stored: it is a hit.
    pub fn found(&mut self, route: Route, hit: &Hit, age_s: u64) {
        (self.outcome, self.reason, self.advice) = (Outcome::Hit, hit.tier.name(), "");
        self.status = Some(hit.entry.status);
        self.telemetry.hit(route, hit.tier, age_s, hit.entry.negative);
        let waited = self.clock.instant().saturating_duration_since(self.facts.received);
        self.telemetry.answered(Outcome::Hit, waited);
        self.answered_by(hit);
    }

    /// An entry answers after all, with what it once cost.
    pub fn answered_by(&mut self, hit: &Hit) {
        self.usage = Some(hit.entry.usage);
        self.whole();
    }

    /// Whether the refusal that takes this request's place tells of it, with what is known by now.
    fn is_called_off(&mut self) -> bool {
        let Facts { received, route, model, deadline } = &mut self.facts;
        deadline.takes_facts(|| Facts {
            received: *received,
            route: *route,
            model: model.take(),
            deadline: Deadline::default(),
        })
    }

    /// Tells nothing: the request goes another way, with another line.
    pub fn dismiss(mut self) {
        self.dismissed = true;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.dismissed || (self.status.is_none() && self.is_called_off()) {
            return;
        }
        if self.cut_by == Some(CutBy::Caller) && self.facts.deadline.has_passed() {
            self.cut_by = Some(CutBy::Timeout);
        }
        let at = self.clock.instant();
        let is_of_flight = matches!(self.outcome, Outcome::Miss | Outcome::Collapsed);
        if let Some(cut_by) = self.cut_by.filter(|_| is_of_flight) {
            self.telemetry.flights.reader_aborted(cut_by);
        }
        let settled = self.settled.as_deref();
        let stored = settled.and_then(|settled| settled.stored.get());
        let reason = match stored {
            // A stream's head went out before anyone could know.
            Some(Ok(())) if self.outcome == Outcome::Miss => "stored",
            Some(Err(reason)) => reason,
            _ => self.reason,
        };
        self.telemetry.ended(&Ended {
            outcome: self.outcome,
            route: self.facts.route,
            model: self.facts.model.as_deref(),
            status: self.status,
            reason,
            advice: self.advice,
            stored: stored.is_some_and(Result::is_ok),
            usage: self.usage.or_else(|| settled.and_then(|settled| settled.usage.get()).copied()),
            cut_by: self.cut_by,
            took: at.saturating_duration_since(self.facts.received),
            at,
        });
    }
}
