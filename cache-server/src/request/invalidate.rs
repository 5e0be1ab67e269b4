//! Invalidate: what an answer past the cache says about what is stored.
//!
//! An unsafe method that did not fail makes stored answers of its URL, and of those that its answer
//! names on the same origin, invalid (RFC 9111 section 4.4): for all tenants and all variants, as
//! a purge by URL is. Methods that nobody knows count as unsafe. What is keyed by its body, a call
//! of a model or of a tool, changes nothing: each would purge its neighbours.
//!
//! A HEAD brings up to date what a GET has stored, or makes it stale (section 4.3.5).

use std::sync::Arc;
use std::time::Duration;

use http::header::{AGE, CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::identify::Asked;
use super::{order, store};
use crate::app::App;
use crate::cache::entry::{Entry, Selector};
use crate::cache::freshness::RequestDirectives;
use crate::cache::freshness::date::date_if_none;
use crate::cache::freshness::store::{Exchange, HttpPolicy, storing};
use crate::cache::freshness::update::{freshened, head_confirms};
use crate::cache::purge::{Manner, Target as Purged};
use crate::clock::Timestamp;
use crate::telemetry::PurgedBy;
use crate::upstream::mount::Target;

/// How long an answer waits for the invalidation that it causes to be on disk.
const DURABLE_WITHIN: Duration = Duration::from_millis(250);

/// What is to be looked at once the answer's head is there.
#[derive(Debug)]
pub enum Aftermath {
    /// Nothing.
    None,
    /// The URL of an unsafe request.
    Unsafe(Target),
    /// The stored entry that a HEAD is about.
    Head(Box<Doubted>),
}

/// An entry that a HEAD confirms, or not.
#[derive(Debug)]
pub struct Doubted {
    entry: Arc<Entry>,
    policy: HttpPolicy,
    has_authorization: bool,
    began: Timestamp,
    /// The newest purge order then.
    purge_sequence: u64,
}

impl Aftermath {
    /// Of a request that is about to be sent.
    #[must_use]
    pub fn of(app: &App, asked: &Asked, stored: Option<Arc<Entry>>) -> Aftermath {
        match (stored, &asked.spec) {
            (Some(entry), Some((spec, _))) if asked.method == Method::HEAD => {
                let policy = asked.settings.policies.policy(&asked.policy_question(spec, None));
                Aftermath::Head(Box::new(Doubted {
                    policy: store::http_policy(&policy, policy.negative_for),
                    has_authorization: order::has_authorization(&asked.headers, false),
                    began: app.clock.now(),
                    purge_sequence: app.purges.sequence(),
                    entry,
                }))
            }
            _ if asked.is_generic && is_unsafe(&asked.method) => {
                Aftermath::Unsafe(asked.target.clone())
            }
            _ => Aftermath::None,
        }
    }

    /// Does what the answer asks for, and waits a moment for it to be on disk: whoever has seen the
    /// answer should not find what was before it, also after a crash.
    pub async fn settle(&self, app: &App, status: StatusCode, fields: &HeaderMap) {
        match self {
            Aftermath::None => {}
            Aftermath::Unsafe(target) => {
                if status.is_success() || status.is_redirection() {
                    let urls: Vec<Purged> = invalidated(target, fields).collect();
                    let ordered = app.purge(&urls, Manner::Hard, PurgedBy::Invalidation);
                    if !matches!(tokio::time::timeout(DURABLE_WITHIN, ordered).await, Ok(Ok(_))) {
                        tracing::warn!("an invalidation is in force, and not yet on disk");
                    }
                }
            }
            Aftermath::Head(doubted) if status == StatusCode::OK => doubted.settle(app, fields),
            Aftermath::Head(_) => {}
        }
    }
}

impl Doubted {
    fn settle(&self, app: &App, fields: &HeaderMap) {
        if let Some(entry) = self.brought_up_to_date(app.clock.now(), fields) {
            let _ = app.tier.put(Arc::new(entry));
            return;
        }
        let key = Purged::Selector(Selector::key(&self.entry.key));
        app.purge_soon(&[key], Manner::Soft, PurgedBy::Invalidation);
    }

    /// The entry with newer fields and the times that they tell; nothing if they are of something
    /// else, or it would not be stored so.
    fn brought_up_to_date(&self, now: Timestamp, fields: &HeaderMap) -> Option<Entry> {
        let entry = &self.entry;
        if !head_confirms(&entry.headers, entry.body.len() as u64, fields) {
            return None;
        }
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
            headers,
            stored: now,
            generated: storing.generated,
            initial_age_s: storing.initial_age_s,
            ends: storing.ends,
            must_revalidate: storing.must_revalidate,
            purge_sequence: self.purge_sequence,
            ..Entry::clone(entry)
        })
    }
}

/// RFC 9110 section 9.2.1, and QUERY (RFC 10008).
fn is_unsafe(method: &Method) -> bool {
    !matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY")
}

fn invalidated(target: &Target, fields: &HeaderMap) -> impl Iterator<Item = Purged> {
    let named = [LOCATION, CONTENT_LOCATION]
        .into_iter()
        .filter_map(|name| target.on_same_origin(text(fields, &name)?));
    let targets = std::iter::once(target.clone()).chain(named);
    targets.map(|target| Purged::Selector(Selector::url(&target.name())))
}

fn text<'h>(fields: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    fields.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_nobody_knows_are_unsafe() {
        for safe in ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY"] {
            assert!(!is_unsafe(&Method::from_bytes(safe.as_bytes()).unwrap()), "{safe}");
        }
        for other in ["POST", "PUT", "PATCH", "DELETE", "PURGE", "WHATEVER"] {
            assert!(is_unsafe(&Method::from_bytes(other.as_bytes()).unwrap()), "{other}");
        }
    }
}
