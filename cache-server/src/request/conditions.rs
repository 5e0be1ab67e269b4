//! Conditions: on which an answer goes out. What a caller says it has already, and which part it wants of
//! what there is, is on generic routes answered here, from whatever answers the request (RFC 9111 section
//! 4.3.2); towards the upstream stands only what we have ourselves. With them goes what the route has
//! others told of the answer, whatever it comes from, and how the caller takes trailers.

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, Method, StatusCode};

use super::emit::Emitting;
use super::key::Keyed;
use super::trailers::Takes;
use crate::cache::freshness::range::{Wanted, asks_for_parts, wanted};
use crate::cache::freshness::validate::{Condition, evaluate};
use crate::clock::Timestamp;
use crate::upstream::fields::is_event_stream;

/// The conditions of a request.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    /// The method and the fields; nothing where there are no conditions.
    stated: Option<(&'a Method, &'a HeaderMap)>,
    emitting: Option<&'a Emitting>,
    takes: Takes,
}

/// The same, for when the request is gone.
#[derive(Debug)]
pub struct Conditional {
    stated: Option<(Method, HeaderMap)>,
    emitting: Option<Emitting>,
    takes: Takes,
}

impl<'a> Conditions<'a> {
    /// Of a request that is there.
    #[must_use]
    pub fn of(keyed: &'a Keyed) -> Conditions<'a> {
        let headers = &keyed.asked.headers;
        let has_any = || {
            [IF_NONE_MATCH, IF_MODIFIED_SINCE, RANGE].iter().any(|name| headers.contains_key(name))
        };
        let is_conditional = keyed.spec.is_generic() && has_any();
        let stated = is_conditional.then_some((&keyed.asked.method, headers));
        Conditions { stated, emitting: keyed.emitting.as_ref(), takes: keyed.asked.takes }
    }

    /// Of a request that is gone.
    #[must_use]
    pub fn kept(conditional: &'a Conditional) -> Conditions<'a> {
        let stated = conditional.stated.as_ref().map(|(method, fields)| (method, fields));
        let Conditional { emitting, takes, .. } = conditional;
        Conditions { stated, emitting: emitting.as_ref(), takes: *takes }
    }

    /// Of a request that has none, and takes no trailers.
    #[must_use]
    pub fn none() -> Conditions<'a> {
        Conditions { stated: None, emitting: None, takes: Takes::Nothing }
    }

    /// Whether there are none, and nothing is told to others either.
    #[must_use]
    pub fn are_none(self) -> bool {
        self.stated.is_none() && self.emitting.is_none()
    }

    /// Whether the caller has this answer already.
    #[must_use]
    pub fn are_met_by(self, status: StatusCode, fields: &HeaderMap, now: Timestamp) -> bool {
        self.stated.is_some_and(|(method, stated)| {
            evaluate(stated, method, status, fields, now) == Condition::NotModified
        })
    }

    /// What the route has others told of the answer, if anything.
    #[must_use]
    pub fn emitting(self) -> Option<&'a Emitting> {
        self.emitting
    }

    /// How the caller takes trailers.
    #[must_use]
    pub fn takes(self) -> Takes {
        self.takes
    }

    /// What the caller wants of an entry with these fields and so many bytes.
    #[must_use]
    pub fn wanted(
        self,
        status: StatusCode,
        fields: &HeaderMap,
        body_bytes: u64,
        now: Timestamp,
    ) -> Wanted {
        // Cut events are none.
        let stated = self.stated.filter(|_| !is_event_stream(fields));
        stated.map_or(Wanted::Whole, |(method, stated)| {
            wanted(stated, method, status, fields, body_bytes, now)
        })
    }
}

impl Conditional {
    /// Takes down the conditions of a request.
    #[must_use]
    pub fn of(keyed: &Keyed) -> Conditional {
        let kept = |(method, stated): (&Method, &HeaderMap)| {
            let mut fields = HeaderMap::new();
            for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, RANGE, IF_RANGE] {
                for value in stated.get_all(&name) {
                    fields.append(&name, value.clone());
                }
            }
            (method.clone(), fields)
        };
        let stated = Conditions::of(keyed).stated.map(kept);
        Conditional { stated, emitting: keyed.emitting.clone(), takes: keyed.asked.takes }
    }
}

/// Whether a request that has a key is for a part of its answer.
#[must_use]
pub fn is_for_parts(keyed: &Keyed) -> bool {
    keyed.spec.is_generic() && asks_for_parts(&keyed.asked.method, &keyed.asked.headers)
}
