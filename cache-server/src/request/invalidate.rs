//! Invalidate: what an answer past the cache says about what is stored.
//!
//! An unsafe method that did not fail makes stored answers of its URL, and of those that its answer
//! names on the same origin, invalid (RFC 9111 section 4.4): for all tenants and all variants, as
//! a purge by URL is. The same goes for the groups of that origin that its answer names (RFC 9875
//! section 3): what is purged with them purges nothing else. Methods that nobody knows count as
//! unsafe. What is keyed by its body, a call of a model or of a tool, changes nothing: each would
//! purge its neighbours.
//!
//! A HEAD brings up to date what a GET has stored, or makes it stale (section 4.3.5).

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::confirm::Doubted;
use super::identify::Asked;
use super::order;
use crate::app::App;
use crate::cache::entry::{Entry, Selector};
use crate::cache::groups::Groups;
use crate::cache::purge::{Manner, Target as Purged};
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

impl Aftermath {
    /// Of a request that is about to be sent. `is_shared` says whether callers of other tenants share
    /// what is stored: then one who shows a credential is told what may be for itself alone, and says
    /// nothing of that.
    #[must_use]
    pub fn of(app: &App, asked: &Asked, stored: Option<Arc<Entry>>, is_shared: bool) -> Aftermath {
        match (stored, &asked.spec) {
            (Some(entry), Some((spec, _))) if asked.method == Method::HEAD => {
                if is_shared && order::has_authorization(&asked.headers, is_shared) {
                    return Aftermath::None;
                }
                let policy = asked.settings.policies.policy(&asked.policy_question(spec, None));
                Aftermath::Head(Box::new(Doubted::of(app, &policy, asked, is_shared, entry)))
            }
            _ if asked.is_generic && is_unsafe(&asked.method) => {
                Aftermath::Unsafe(asked.target.clone())
            }
            _ => Aftermath::None,
        }
    }

    /// Whether the answer changes a stored entry.
    #[must_use]
    pub fn is_of_an_entry(&self) -> bool {
        matches!(self, Aftermath::Head(_))
    }

    /// Does what the answer asks for, and waits a moment for it to be on disk: whoever has seen the
    /// answer should not find what was before it, also after a crash.
    pub async fn settle(&self, app: &App, status: StatusCode, fields: &HeaderMap) {
        match self {
            Aftermath::None => {}
            Aftermath::Unsafe(target) => {
                if status.is_success() || status.is_redirection() {
                    let named: Vec<Purged> = invalidated(target, fields).collect();
                    let ordered = app.purge(&named, Manner::Hard, PurgedBy::Invalidation);
                    if !matches!(tokio::time::timeout(DURABLE_WITHIN, ordered).await, Ok(Ok(_))) {
                        tracing::warn!("an invalidation is in force, and not yet on disk");
                    }
                }
            }
            Aftermath::Head(doubted) if status == StatusCode::OK => {
                // What was stored since it was asked it says nothing of.
                if doubted.after_head(app, fields).is_none() && doubted.is_current(app) {
                    let key = Purged::Selector(Selector::key(&doubted.entry().key));
                    app.purge_soon(&[key], Manner::Soft, PurgedBy::Invalidation);
                }
            }
            Aftermath::Head(_) => {}
        }
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
    let urls = targets.map(|target| Selector::url(&target.name()));
    let groups = Groups::invalidated_by(fields).selectors(&target.origin());
    urls.chain(groups).map(Purged::Selector)
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
