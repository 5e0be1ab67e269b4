//! Purge: the PURGE method on the data listener, for those whom `server.purge_from` names.
//!
//! It purges the URL that it is sent to: all variants, for all tenants. `Fastly-Soft-Purge: 1`
//! makes stale instead. The upstream hears nothing of it. From elsewhere PURGE is a method that
//! nobody knows, and goes to the upstream.

use std::net::IpAddr;

use http::{HeaderName, Response};

use super::body::AnswerBody;
use super::identify::Asked;
use super::line::{Facts, Line};
use super::respond;
use crate::app::App;
use crate::cache::entry::Selector;
use crate::cache::purge::{Manner, Target};
use crate::telemetry::{Outcome, PurgedBy};

/// The method.
pub const METHOD: &str = "PURGE";

const SOFT: HeaderName = HeaderName::from_static("fastly-soft-purge");

/// Where a PURGE comes from: an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct From(pub IpAddr);

/// Purges the URL of the request. Answered once the order is durable.
pub async fn serve(app: &App, asked: &Asked) -> Response<AnswerBody> {
    let is_soft = asked.headers.get(SOFT).is_some_and(|value| value == "1");
    let manner = if is_soft { Manner::Soft } else { Manner::Hard };
    let named = [Target::Selector(Selector::url(&asked.target.name()))];
    let ordered = app.purge(&named, manner, PurgedBy::Method).await;
    tracing::info!(url = asked.target.masked(), soft = is_soft, "a URL was purged");
    let line = Line::begin(app, Facts::of_unkeyed(asked, None), Outcome::Bypass);
    respond::purged(line, ordered)
}
