//! Emit: what the answers of a route say on their way out, to caches in front of us and to browsers.
//! What is said is put together in [`freshness::emit`]; here is what is known of the answer.
//!
//! [`freshness::emit`]: crate::cache::freshness::emit

use std::sync::Arc;

use http::HeaderMap;
use keyspec::{Kind, Route};

use super::identify::Asked;
use crate::cache::entry::Entry;
use crate::cache::freshness::emit::{Emission, Kept};
use crate::cache::freshness::update::has_fields_for_one;
use crate::clock::Timestamp;
use crate::config::policy::{Asked as PolicyQuestion, Policy, Scope};
use crate::upstream::head::AnswerHead;

/// How the answer to a request goes out.
#[derive(Clone, Debug)]
pub struct Emitting {
    emission: Arc<Emission>,
    /// Whether a cache in front, which checks no credential, may keep it: all callers share it.
    is_public: bool,
}

impl Emitting {
    /// By the policy of a request that has a key.
    #[must_use]
    pub fn by(policy: &Policy, is_shared: bool) -> Option<Emitting> {
        let emission = Arc::clone(policy.emission.as_ref()?);
        let is_public = is_shared && policy.scope == Scope::AllCallers;
        Some(Emitting { emission, is_public })
    }

    /// Puts onto fields what is said of an entry that is fresh, or not.
    pub fn of_entry(&self, fields: &mut HeaderMap, entry: &Entry, is_fresh: bool, now: Timestamp) {
        let kept = Kept {
            is_fresh,
            must_revalidate: entry.must_revalidate,
            negative_for: entry.negative.then(|| entry.ends.fresh.since(now)),
            tags: &entry.tags,
        };
        self.emission.put_onto(fields, self.is_public, Some(kept), now);
    }

    /// Puts onto fields what is said of an answer that has just landed. With fields for one caller beside it,
    /// it is not for all.
    pub fn of_head(&self, fields: &mut HeaderMap, head: &AnswerHead, now: Timestamp) {
        let storing = head.by_http.as_ref().and_then(|by_http| by_http.storing.as_ref().ok());
        let kept = storing.map(|storing| Kept {
            is_fresh: now < storing.ends.fresh,
            must_revalidate: storing.must_revalidate,
            negative_for: storing.negative.then(|| storing.ends.fresh.since(now)),
            tags: &head.tags,
        });
        let is_public = self.is_public && !has_fields_for_one(fields);
        self.emission.put_onto(fields, is_public, kept, now);
    }
}

/// Puts onto the fields of an answer that goes past the cache what its route says of such, and strips
/// what it does not let out.
pub fn past(asked: &Asked, fields: &mut HeaderMap, now: Timestamp) {
    if !asked.is_generic {
        return;
    }
    let question = PolicyQuestion {
        tenant: asked.tenant.name.as_deref(),
        model: None,
        endpoint: Route::Generic.name(),
        kind: Kind::Resource,
        upstream: asked.upstream.name(),
    };
    let policies = &asked.settings.policies;
    if let Some(emission) = policies.emission(&question) {
        let is_public = policies.policy(&question).scope == Scope::AllCallers;
        emission.put_onto(fields, is_public, None, now);
    }
}
