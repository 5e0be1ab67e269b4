//! What a `[[route]]` selects and sets, for people.

use std::time::Duration;

use http::{HeaderName, StatusCode};

use super::{ModelPattern, Rule, WhenNobodyReads, reuse_in_words};
use crate::cache::freshness::negative::{MAY_BE_NEGATIVE, NegativeStatuses};

impl Rule {
    /// What it selects and what it sets, for people.
    pub(super) fn in_words(&self) -> String {
        let selects = &self.selects;
        let selected = [
            selects.tenant.as_ref().map(|name| format!("tenant {name}")),
            selects.model.as_ref().map(|pattern| match pattern {
                ModelPattern::Exactly(name) => format!("model {name}"),
                ModelPattern::StartsWith(stem) => format!("models {stem}*"),
            }),
            selects.endpoint.clone(),
            selects.upstream.as_ref().map(|name| format!("upstream {name}")),
        ];
        let span = |what: &str, span: Option<Duration>| {
            span.map(|span| format!("{what} {}", humantime::format_duration(span)))
        };
        let set = [
            self.reuse.map(|reuse| reuse_in_words(reuse).to_owned()),
            span("fresh for", self.fresh_for),
            span("stale while revalidating for", self.stale_while_revalidate),
            span("stale if the upstream fails for", self.stale_if_error),
            self.obey_upstream.map(|obeys| {
                let verb = if obeys { "obeys" } else { "does not obey" };
                format!("{verb} the upstream's Cache-Control")
            }),
            self.surrogate_control.map(|heeds| {
                let verb = if heeds { "heeds" } else { "does not heed" };
                format!("{verb} Surrogate-Control")
            }),
            self.shared.map(|shared| {
                if shared { "shared by the tenants" } else { "not shared" }.to_owned()
            }),
            self.allow_unverified_callers.map(|allowed| {
                let whom = if allowed { "with" } else { "without" };
                format!("if shared, {whom} callers of no tenant")
            }),
            span("fresh by its age for at most", self.heuristic_fresh_max),
            span("an answer that there is nothing answers others for at most", self.negative_for),
            self.negative_statuses.map(negative_in_words),
            self.lifetime_jitter_percent
                .map(|percent| format!("lifetimes of a batch end up to {percent} % sooner")),
            self.refresh_ahead.map(|eagerness| {
                if eagerness > 0.0 {
                    format!("refreshed ahead of its end (eagerness {eagerness})")
                } else {
                    "never refreshed ahead of its end".to_owned()
                }
            }),
            self.when_nobody_reads.map(|then| {
                let verb = if then == WhenNobodyReads::Finish { "finished" } else { "broken off" };
                format!("a fetch that all callers have left is {verb}")
            }),
            self.vary_normalize.as_ref().map(|names| {
                let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
                format!("normalises {} for Vary", names.join(" and "))
            }),
            self.emission.as_ref().map(|emission| super::emission::in_words(emission)),
            self.tags.as_ref().map(|tags| format!("tags its entries ({})", tags.len())),
            self.tags_from_request.map(|allowed| {
                let verb = if allowed { "takes" } else { "takes no" };
                format!("{verb} tags from requests")
            }),
            self.soft_purge_on_model_change.map(|purges| {
                let verb = if purges { "become" } else { "do not become" };
                format!("entries {verb} stale when another model answers")
            }),
            self.sets_members().then(|| "has members of its own in the key".to_owned()),
        ];
        let joined = |parts: &[Option<String>], none: &str| {
            let parts: Vec<&str> = parts.iter().flatten().map(String::as_str).collect();
            if parts.is_empty() { none.to_owned() } else { parts.join(", ") }
        };
        format!("{}: {}", joined(&selected, "every request"), joined(&set, "sets nothing"))
    }
}

fn negative_in_words(statuses: NegativeStatuses) -> String {
    let is_set =
        |status: &&u16| StatusCode::from_u16(**status).is_ok_and(|status| statuses.has(status));
    let set: Vec<String> = MAY_BE_NEGATIVE.iter().filter(is_set).map(u16::to_string).collect();
    format!("such answers are {}", set.join(" and "))
}
