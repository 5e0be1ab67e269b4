//! Suspension: a credential that an upstream refuses gets no stored answers until the upstream
//! takes it again. Otherwise a revoked key would go on reading what it once paid for.
//!
//! The table is bounded; at the bound the credential that was refused longest ago is forgotten, so
//! that it may hit again until its next refusal.

use keyspec::TenantScope;

use super::recent::Recent;
use crate::clock::Timestamp;

/// A credential at one upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credential {
    /// The upstream's identity, as in keys.
    pub upstream: String,
    /// The scope of what was shown: of the tenant where that is all it is, else of the secrets alone, so that
    /// one that is refused is so in whatever field it stands.
    pub scope: TenantScope,
}

/// The credentials that are suspended, and since when.
#[derive(Debug)]
pub struct Suspensions {
    since: Recent<Credential, Suspended>,
}

#[derive(Clone, Copy, Debug)]
struct Suspended {
    since: Timestamp,
    /// Whether no model's route was refused.
    by_http_alone: bool,
}

impl Suspensions {
    /// None yet, and at most `count_max`.
    #[must_use]
    pub fn new(count_max: usize) -> Suspensions {
        Suspensions { since: Recent::new(count_max) }
    }

    /// Whether there are none at all, which is the rule and costs next to nothing to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.since.count()
    }

    /// Since when this credential is suspended.
    #[must_use]
    pub fn since(&self, credential: &Credential) -> Option<Timestamp> {
        self.since.get(credential).map(|suspended| suspended.since)
    }

    /// Suspends a credential that a request was refused with, of a model or `by_http` alone; one that is
    /// suspended already stays so since then.
    pub fn suspend(&self, credential: Credential, now: Timestamp, by_http: bool) {
        self.since.note(credential, |before: Option<Suspended>| Suspended {
            since: before.map_or(now, |before| before.since),
            by_http_alone: by_http && before.is_none_or(|before| before.by_http_alone),
        });
    }

    /// Lifts the suspension of a credential that a request was answered with. Says whether there was one.
    /// What is answered beside the routes of models may be there for anybody: that says nothing of a
    /// credential that was refused on one.
    pub fn lift(&self, credential: &Credential, by_http: bool) -> bool {
        let Some(suspended) = self.since.get(credential) else { return false };
        (suspended.by_http_alone || !by_http) && self.since.forget(credential).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(number: u8) -> Credential {
        Credential { upstream: "u".into(), scope: TenantScope::Credential([number; 32]) }
    }

    #[test]
    fn a_suspension_lasts_from_the_first_refusal_until_it_is_lifted() {
        let suspensions = Suspensions::new(10);
        assert!(suspensions.is_empty());
        suspensions.suspend(credential(1), Timestamp(5), false);
        suspensions.suspend(credential(1), Timestamp(9), false);
        assert_eq!(suspensions.since(&credential(1)), Some(Timestamp(5)));
        let elsewhere = Credential { upstream: "other".into(), ..credential(1) };
        assert_eq!(suspensions.since(&elsewhere), None, "another upstream may take it");
        assert!(
            suspensions.lift(&credential(1), false) && !suspensions.lift(&credential(1), false)
        );
        assert!(suspensions.is_empty());
    }

    #[test]
    fn what_is_there_for_anybody_lifts_no_suspension_of_what_is_not() {
        for (by_http, again_by_http, is_lifted) in
            [(true, true, true), (false, false, false), (true, false, false), (false, true, false)]
        {
            let suspensions = Suspensions::new(10);
            suspensions.suspend(credential(1), Timestamp(5), by_http);
            suspensions.suspend(credential(1), Timestamp(6), again_by_http);
            assert_eq!(suspensions.lift(&credential(1), true), is_lifted);
            assert_eq!(suspensions.lift(&credential(1), false), !is_lifted);
        }
    }

    #[test]
    fn at_the_bound_the_oldest_is_forgotten() {
        let suspensions = Suspensions::new(3);
        for number in 0..5 {
            suspensions.suspend(credential(number), Timestamp(u64::from(number)), false);
        }
        assert_eq!(suspensions.count(), 3);
        let known = (0..5).filter(|number| suspensions.since(&credential(*number)).is_some());
        assert_eq!(known.collect::<Vec<_>>(), [2, 3, 4]);
        suspensions.lift(&credential(2), false);
        suspensions.suspend(credential(2), Timestamp(9), false);
        suspensions.suspend(credential(7), Timestamp(9), false);
        assert_eq!(suspensions.since(&credential(3)), None, "now the oldest");
        assert!(suspensions.since(&credential(2)).is_some(), "its new suspension is young");
    }
}
