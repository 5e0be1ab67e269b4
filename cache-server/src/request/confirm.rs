//! Confirm: what is stored, once an answer past the cache says that it still holds: the answer to HEAD
//! (RFC 9111 section 4.3.5), or a 304 to who asked for a part (section 4.3.4).

use std::sync::Arc;

use http::header::AGE;
use http::{HeaderMap, Method, StatusCode};

use super::identify::Asked;
use super::{lookup, order, store};
use crate::app::App;
use crate::cache::entry::Entry;
use crate::cache::freshness::RequestDirectives;
use crate::cache::freshness::date::date_if_none;
use crate::cache::freshness::store::{Exchange, HttpPolicy, says_what_there_is, storing};
use crate::cache::freshness::update::{
    freshened, has_another_tag, head_confirms, not_modified_confirms, stored_fields,
};
use crate::cache::freshness::{surrogate, targeted};
use crate::cache::leases::Fence;
use crate::cache::tags::Tags;
use crate::clock::Timestamp;
use crate::config::policy::Policy;
use crate::upstream::fields;

/// An entry that the upstream is asked about, and what decides on it once that answers.
#[derive(Debug)]
pub struct Doubted {
    entry: Arc<Entry>,
    /// Of its URL.
    origin: String,
    policy: HttpPolicy,
    heeds_surrogate_control: bool,
    has_authorization: bool,
    /// Whether callers of several tenants share it, and this one shows a credential: it may be told what is for
    /// itself alone.
    may_be_for_one: bool,
    began: Timestamp,
    /// The newest purge order then.
    purge_sequence: u64,
    /// Whether an order has purged it by then, since it was looked up: nothing brings it back.
    is_dead: bool,
    fence: Fence,
}

impl Doubted {
    /// Of a request that is about to be sent.
    #[must_use]
    pub fn of(
        app: &App,
        policy: &Policy,
        asked: &Asked,
        is_shared: bool,
        entry: Arc<Entry>,
    ) -> Doubted {
        let purge_sequence = app.purges.sequence();
        let has_authorization = order::has_authorization(&asked.headers, is_shared);
        Doubted {
            origin: asked.target.origin(),
            policy: store::http_policy(policy, policy.negative_for),
            heeds_surrogate_control: policy.surrogate_control,
            has_authorization,
            may_be_for_one: is_shared && has_authorization,
            began: app.clock.now(),
            purge_sequence,
            is_dead: lookup::is_dead(app, &entry),
            fence: app.tiers.fence(),
            entry,
        }
    }

    /// What is asked about.
    #[must_use]
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Whether memory has nothing that was stored later, and no order has purged it before it was asked
    /// about.
    #[must_use]
    pub fn is_current(&self, app: &App) -> bool {
        !self.is_dead && !app.tiers.local.has_newer(&self.entry.key, self.entry.stored)
    }

    /// Stores what the answer to a HEAD, a 200, confirms, with the fields and times that it tells; nothing if
    /// it is of something else, or would not be stored so.
    pub fn after_head(&self, app: &App, fields: &HeaderMap) -> Option<Arc<Entry>> {
        let (fields, body_bytes) = (self.taken_in(fields), self.entry.body.len() as u64);
        let confirms = self.entry.status == StatusCode::OK
            && head_confirms(&self.entry.headers, body_bytes, &fields);
        confirms.then(|| self.stored_anew(app, &fields)).flatten()
    }

    /// The entry that a 304 confirms, with the fields that it tells: stored, if it may still be.
    /// Nothing if it is of something else.
    pub fn after_not_modified(&self, app: &App, fields: &HeaderMap) -> Option<Arc<Entry>> {
        let fields = self.taken_in(fields);
        if !not_modified_confirms(&self.entry.headers, &fields) {
            return None;
        }
        let for_this_caller = || {
            let headers = freshened(&self.entry.headers, &fields);
            let tag_is_ours = self.entry.has_our_tag_still(&headers);
            Arc::new(Entry { headers, tag_is_ours, ..Entry::clone(&self.entry) })
        };
        let stored = self.stored_anew(app, &fields);
        if stored.is_none() {
            self.drop_it(app);
        }
        Some(stored.unwrap_or_else(for_this_caller))
    }

    /// Purges the entry where the upstream has another answer by now: this one is not of what is stored, and
    /// `is_about_entry` says whether the question had its validators. What was stored since it was asked it says
    /// nothing of.
    pub fn drop_if_refuted(
        &self,
        app: &App,
        status: StatusCode,
        fields: &HeaderMap,
        is_about_entry: bool,
    ) {
        let is_another = match status {
            StatusCode::OK => is_about_entry,
            StatusCode::PARTIAL_CONTENT => has_another_tag(&self.entry.headers, fields),
            status => says_what_there_is(status),
        };
        if is_another {
            self.drop_it(app);
        }
    }

    fn drop_it(&self, app: &App) {
        if !self.may_be_for_one && self.is_current(app) {
            store::drop_entry(app, &self.entry);
        }
    }

    /// What was answered, less what concerns one connection and what a surrogate keeps to itself.
    fn taken_in(&self, fields: &HeaderMap) -> HeaderMap {
        let mut fields = fields.clone();
        fields::strip_hop_by_hop(&mut fields);
        surrogate::take_in(&mut fields, self.heeds_surrogate_control);
        fields
    }

    fn stored_anew(&self, app: &App, fields: &HeaderMap) -> Option<Arc<Entry>> {
        if self.is_dead {
            return None;
        }
        let entry = Arc::new(self.brought_up_to_date(app.clock.now(), fields)?);
        let before = self.entry.stored;
        let _ = app.tiers.put_again(Arc::clone(&entry), before, self.fence.clone());
        Some(entry)
    }

    /// The entry with newer fields and the times that they tell; nothing if it would not be stored so.
    fn brought_up_to_date(&self, now: Timestamp, fields: &HeaderMap) -> Option<Entry> {
        let entry = &self.entry;
        let mut fields = fields.clone();
        date_if_none(&mut fields, now);
        let headers = freshened(&entry.headers, &fields);
        let mut told = headers.clone();
        told.extend(fields.get(AGE).map(|age| (AGE, age.clone())));
        let exchange = Exchange {
            method: &Method::GET,
            request: &RequestDirectives::default(),
            has_authorization: self.has_authorization,
            status: entry.status,
            fields: &told,
            asked: self.began,
            answered: now,
        };
        let storing = storing(&exchange, &self.policy).ok().filter(|storing| !storing.negative)?;
        Some(Entry {
            stored: now,
            generated: storing.generated,
            initial_age_s: storing.initial_age_s,
            ends: storing.ends,
            must_revalidate: storing.must_revalidate,
            purge_sequence: self.purge_sequence,
            ..self.with_fields(headers)?
        })
    }

    /// The entry with these fields, and with the tags and groups that they add; nothing if those are
    /// too many.
    fn with_fields(&self, headers: HeaderMap) -> Option<Entry> {
        let mut tags = Tags::default();
        self.entry.tags.iter().for_each(|tag| tags.add(tag));
        tags.add_of_upstream(&headers);
        if tags.left_out() > 0 {
            return None;
        }
        let mut selectors = self.entry.selectors.to_vec();
        let more = tags.selectors(&self.origin).filter(|one| !self.entry.selectors.contains(one));
        selectors.extend(more);
        let (tags, selectors) = (tags.into_kept(), selectors.into());
        let tag_is_ours = self.entry.has_our_tag_still(&headers);
        // It may say of more of them than before that they are for one caller alone.
        let trailers = stored_fields(&self.entry.trailers, &targeted::deciding(&headers));
        Some(Entry { headers, trailers, tag_is_ours, tags, selectors, ..Entry::clone(&self.entry) })
    }
}
