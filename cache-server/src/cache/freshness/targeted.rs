//! Targeted fields: what an upstream says to caches such as this one, in the place of
//! `Cache-Control` (RFC 9213).
//!
//! The first field of [`TARGETS`] that is valid and not empty decides alone: `Cache-Control` and
//! `Expires` say nothing then. Each is a Dictionary (RFC 9651 section 3.2), read to the letter; one
//! that cannot be read is as if it were not there (section 2.1). What can be read, and has a member
//! whose value is of a wrong type, decides: the member is taken in the way that forbids. A lifetime
//! is zero then, a prohibition holds, and a permission does not.
//!
//! Behind them stands `Surrogate-Control`, where a route heeds it.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::cache_control::{DELTA_SECONDS_MAX, Reach, ResponseDirectives, field_names};
use super::surrogate;
use crate::cache::structured;

/// For us alone.
pub const CACHE_SERVER_CACHE_CONTROL: HeaderName =
    HeaderName::from_static("cache-server-cache-control");

/// For every cache that serves an upstream, which a CDN's is (RFC 9213 section 3).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The target list: the most specific first (RFC 9213 section 2.2).
pub const TARGETS: [HeaderName; 2] = [CACHE_SERVER_CACHE_CONTROL, CDN_CACHE_CONTROL];

/// The longest value that is looked at, in bytes over all lines. A longer one is invalid.
pub const VALUE_BYTES_MAX: usize = 8 << 10;

/// Most members of a value. One with more is invalid.
pub const MEMBERS_MAX: usize = 64;

/// The directives that decide on an answer: those that are for us, or else those of
/// `Cache-Control`.
#[must_use]
pub fn deciding(fields: &HeaderMap) -> ResponseDirectives {
    let targeted = TARGETS.iter().find_map(|name| read(fields, name));
    let targeted = targeted.or_else(|| surrogate::read(fields));
    targeted.unwrap_or_else(|| ResponseDirectives::parse(fields))
}

/// Whether a field of this name may decide in the place of `Cache-Control`.
#[must_use]
pub fn may_decide(name: &HeaderName) -> bool {
    TARGETS.contains(name) || *name == surrogate::WITHHELD
}

/// The directives of one field, if it is valid and not empty.
fn read(fields: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    let value = structured::value(fields, name, VALUE_BYTES_MAX).ok()??;
    let members: Dictionary = Parser::new(&*value).parse().ok()?;
    if members.is_empty() || members.len() > MEMBERS_MAX {
        return None;
    }
    let mut directives = ResponseDirectives { is_targeted: true, ..ResponseDirectives::default() };
    for (name, member) in &members {
        take(&mut directives, name.as_str(), member);
    }
    Some(directives)
}

fn take(directives: &mut ResponseDirectives, name: &str, member: &ListEntry) {
    // Parameters mean nothing (RFC 9213 section 2.1), and no directive is a list.
    let value = match member {
        ListEntry::Item(item) => Some(&item.bare_item),
        ListEntry::InnerList(_) => None,
    };
    let is_set = value == Some(&BareItem::Boolean(true));
    match name {
        "max-age" => directives.max_age = Some(seconds(value)),
        "s-maxage" => directives.s_maxage = Some(seconds(value)),
        "stale-while-revalidate" => directives.stale_while_revalidate = Some(seconds(value)),
        "stale-if-error" => directives.stale_if_error = Some(seconds(value)),
        "no-store" => directives.no_store = true,
        "no-cache" => directives.no_cache = reach(value),
        "private" => directives.private = reach(value),
        // It permits as well as forbids: of a wrong type it only forbids.
        "must-revalidate" if is_set => directives.must_revalidate = true,
        "must-revalidate" | "proxy-revalidate" => directives.proxy_revalidate = true,
        "public" => directives.public = is_set,
        "must-understand" => directives.must_understand = is_set,
        _ => {}
    }
}

/// A number of seconds; zero where it is none or below zero, for invalid freshness is stale
/// (RFC 9111 section 4.2.1).
fn seconds(value: Option<&BareItem>) -> Duration {
    let whole = match value {
        Some(BareItem::Integer(number)) => u64::try_from(i64::from(*number)).unwrap_or(0),
        _ => 0,
    };
    Duration::from_secs(whole.min(DELTA_SECONDS_MAX))
}

/// What a `no-cache` or `private` holds for. Only a String of names narrows it.
fn reach(value: Option<&BareItem>) -> Reach {
    let names = match value {
        Some(BareItem::String(list)) => field_names(list.as_str().as_bytes()),
        _ => None,
    };
    names.map_or(Reach::Everything, Reach::Fields)
}

#[cfg(test)]
mod tests;
