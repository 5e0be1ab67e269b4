//! Emitting: what a cache in front of us, and the browsers behind it, are told to keep, where a route
//! says so.
//!
//! Freshness is one clock from end to end: an answer that is an hour old here is an hour old for
//! everybody, and a browser that may keep it for a minute would keep it for none. So a route that emits
//! lifetimes begins anew with each answer, as an origin would: none of the upstream's lifetimes goes on,
//! and `Age` and `Date` say now (RFC 9213 section 2.3). What each keeps adds up.
//!
//! Nothing becomes public that is not: only what all callers share, whoever they are, may be kept by a
//! cache in front, which checks no credential. Of all else it is told to store nothing, and browsers that
//! it is private. What is not stored here goes on as the upstream said it; but where it may not be public,
//! and nothing is said, that is said: many a cache in front keeps what says nothing.

use std::fmt::Write as _;
use std::time::Duration;

use http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, HeaderMap, HeaderName, HeaderValue, VARY};

use super::Lifetime;
use super::vary::{self, Vary};
use crate::clock::Timestamp;

/// What the answers of a route say on their way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emission {
    /// How long they are kept; nothing to leave that to the upstream.
    pub lifetimes: Option<Lifetimes>,
    /// Where their tags stand.
    pub tag_fields: Box<[TagField]>,
    /// What they vary with besides.
    pub vary: Box<[HeaderName]>,
    /// Whether those without a tag of their own get one, made from their bytes.
    pub etag: bool,
    /// What does not go out.
    pub strip: Box<[HeaderName]>,
}

/// How long an answer is kept by others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// By browsers, and by all who read `Cache-Control` alone.
    pub browser: Lifetime,
    /// By the cache in front, if that is another time.
    pub cdn: Option<Cdn>,
}

/// How long the cache in front keeps an answer, and where it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cdn {
    /// How long.
    pub lifetime: Lifetime,
    /// Where that is said.
    pub fields: Box<[CdnField]>,
}

/// A field that a cache in front reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CdnField {
    /// `s-maxage` in `Cache-Control`: nginx, Varnish and most CDNs.
    CacheControl,
    /// RFC 9213.
    CdnCacheControl,
    /// Another server like this one.
    CacheServerCacheControl,
    /// The Edge Architecture Specification, with the windows of RFC 5861.
    SurrogateControl,
}

impl CdnField {
    /// All there are.
    pub const ALL: [CdnField; 4] = [
        CdnField::CacheControl,
        CdnField::CdnCacheControl,
        CdnField::CacheServerCacheControl,
        CdnField::SurrogateControl,
    ];

    /// The field.
    #[must_use]
    pub fn name(self) -> HeaderName {
        match self {
            CdnField::CacheControl => CACHE_CONTROL,
            CdnField::CdnCacheControl => HeaderName::from_static("cdn-cache-control"),
            CdnField::CacheServerCacheControl => {
                HeaderName::from_static("cache-server-cache-control")
            }
            CdnField::SurrogateControl => HeaderName::from_static("surrogate-control"),
        }
    }
}

/// A field for tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagField {
    /// Separated by spaces: Fastly, Varnish.
    SurrogateKey,
    /// Separated by commas: Cloudflare, Akamai.
    CacheTag,
}

impl TagField {
    /// All there are.
    pub const ALL: [TagField; 2] = [TagField::SurrogateKey, TagField::CacheTag];

    /// The field.
    #[must_use]
    pub fn name(self) -> HeaderName {
        HeaderName::from_static(match self {
            TagField::SurrogateKey => "surrogate-key",
            TagField::CacheTag => "cache-tag",
        })
    }

    /// The tags in its form; nothing if there are none. One that the form cannot hold is left out.
    fn written(self, tags: &[Box<str>]) -> Option<HeaderValue> {
        let (separator, is_apart): (_, fn(char) -> bool) = match self {
            TagField::SurrogateKey => (" ", char::is_whitespace),
            TagField::CacheTag => (",", |character| character == ','),
        };
        let fitting: Vec<&str> =
            tags.iter().map(|tag| &**tag).filter(|tag| !tag.contains(is_apart)).collect();
        let value = HeaderValue::from_str(&fitting.join(separator)).ok()?;
        (!value.is_empty()).then_some(value)
    }
}

/// What is known of an answer that is stored here.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// Whether it is fresh here.
    pub is_fresh: bool,
    /// Whether the upstream forbids to answer with it once it is stale.
    pub must_revalidate: bool,
    /// How long it still answers here, where it says that there is nothing, or why: others keep that no longer.
    pub negative_for: Option<Duration>,
    /// Its tags.
    pub tags: &'a [Box<str>],
}

impl Kept<'_> {
    /// For how long it is fresh, where a route says so long.
    fn fresh_s(&self, fresh: Duration) -> u64 {
        let most = if self.is_fresh { self.negative_for.unwrap_or(fresh) } else { Duration::ZERO };
        fresh.min(most).as_secs()
    }
}

impl Emission {
    /// Puts onto the fields of an answer what this route says of it. It is public if a cache that
    /// checks no credential may keep it; of what is not stored here, `kept` is nothing.
    pub fn put_onto(
        &self,
        fields: &mut HeaderMap,
        is_public: bool,
        kept: Option<Kept<'_>>,
        now: Timestamp,
    ) {
        match (kept, &self.lifetimes) {
            (Some(kept), Some(lifetimes)) => lifetimes.put_onto(fields, is_public, &kept, now),
            (None, Some(lifetimes)) if !is_public => lifetimes.forbid_on(fields),
            _ => {}
        }
        if let Some(kept) = kept {
            self.put_tags(fields, is_public, &kept);
            self.put_vary(fields);
        }
        for name in &self.strip {
            fields.remove(name);
        }
    }

    /// What nobody else keeps nobody else purges.
    fn put_tags(&self, fields: &mut HeaderMap, is_public: bool, kept: &Kept<'_>) {
        for field in &self.tag_fields {
            fields.remove(field.name());
            let written = field.written(kept.tags).filter(|_| is_public);
            fields.extend(written.map(|tags| (field.name(), tags)));
        }
    }

    fn put_vary(&self, fields: &mut HeaderMap) {
        let Vary::Names(said) = vary::parse(fields) else { return };
        let more: Vec<&str> =
            self.vary.iter().filter(|name| !said.contains(name)).map(HeaderName::as_str).collect();
        let value = HeaderValue::from_str(&more.join(", ")).ok().filter(|_| !more.is_empty());
        if let Some(value) = value {
            fields.append(VARY, value);
        }
    }
}

impl Lifetimes {
    /// Has a cache in front store nothing of what is not public, where the upstream has not said so.
    fn forbid_on(&self, fields: &mut HeaderMap) {
        let said = self.cdn.iter().flat_map(|cdn| &cdn.fields);
        for field in said.filter(|field| **field != CdnField::CacheControl) {
            fields.insert(field.name(), HeaderValue::from_static("no-store"));
        }
        if !fields.contains_key(CACHE_CONTROL) {
            fields.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
        }
    }

    fn put_onto(&self, fields: &mut HeaderMap, is_public: bool, kept: &Kept<'_>, now: Timestamp) {
        let forbids_transforming = says_no_transform(fields);
        fields.remove(EXPIRES);
        for field in CdnField::ALL {
            fields.remove(field.name());
        }
        let mut browser = String::from(if is_public { "public" } else { "private" });
        write_lifetime(&mut browser, self.browser, kept);
        if let Some(cdn) = &self.cdn {
            cdn.put_onto(fields, &mut browser, is_public, kept);
        }
        if forbids_transforming {
            browser.push_str(", no-transform");
        }
        insert(fields, CACHE_CONTROL, &browser);
        fields.insert(AGE, HeaderValue::from_static("0"));
        insert(fields, DATE, &httpdate::fmt_http_date(now.as_system_time()));
    }
}

impl Cdn {
    fn put_onto(
        &self,
        fields: &mut HeaderMap,
        browser: &mut String,
        is_public: bool,
        kept: &Kept<'_>,
    ) {
        for field in &self.fields {
            match (field, is_public) {
                (CdnField::CacheControl, true) => {
                    let fresh_s = kept.fresh_s(self.lifetime.fresh);
                    let _ = write!(browser, ", s-maxage={fresh_s}");
                }
                // `private` says it.
                (CdnField::CacheControl, false) => {}
                (_, true) => {
                    let mut text = String::new();
                    write_lifetime(&mut text, self.lifetime, kept);
                    insert(fields, field.name(), &text);
                }
                (_, false) => insert(fields, field.name(), "no-store"),
            }
        }
    }
}

/// Writes a lifetime as directives. Once it is stale here it is so for all, but for the windows in which
/// what is stale may answer.
fn write_lifetime(text: &mut String, lifetime: Lifetime, kept: &Kept<'_>) {
    let separator = if text.is_empty() { "" } else { ", " };
    let _ = write!(text, "{separator}max-age={}", kept.fresh_s(lifetime.fresh));
    if kept.must_revalidate {
        text.push_str(", must-revalidate");
        return;
    }
    if kept.negative_for.is_some() {
        return;
    }
    let windows = [
        ("stale-while-revalidate", lifetime.stale_while_revalidate),
        ("stale-if-error", lifetime.stale_if_error),
    ];
    for (name, window) in windows.iter().filter(|(_, window)| window.as_secs() > 0) {
        let _ = write!(text, ", {name}={}", window.as_secs());
    }
}

fn insert(fields: &mut HeaderMap, name: HeaderName, text: &str) {
    fields.insert(name, HeaderValue::from_str(text).expect("made of words and digits"));
}

/// Whether the upstream forbids to change the bytes (RFC 9111 section 5.2.2.6): whatever it says of
/// lifetimes, that stays.
fn says_no_transform(fields: &HeaderMap) -> bool {
    let lines = fields.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes);
    let mut directives =
        lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    directives.any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
}

#[cfg(test)]
mod tests;
