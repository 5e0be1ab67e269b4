//! `[route.emit]`: as written → as used, and in words.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, TRAILER, VARY,
};
use keyspec::Route;

use crate::cache::freshness::Lifetime;
use crate::cache::freshness::emit::{Cdn, CdnField, Emission, Lifetimes, TagField};
use crate::config::ConfigError;
use crate::config::written::{self, Emit, Span};

/// Most names in one of the lists.
const NAMES_MAX: usize = 32;

/// Without these an answer would be another one, or none.
const NEVER_STRIPPED: [HeaderName; 7] =
    [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, TRAILER, VARY];

/// Checks what a route emits.
pub(super) fn check_emission(
    route: &written::Route,
    field: &dyn Fn(&str) -> String,
) -> Result<Option<Arc<Emission>>, ConfigError> {
    let Some(emit) = &route.emit else { return Ok(None) };
    let generic = Route::Generic.name();
    if let Some(endpoint) = route.endpoint.as_deref().filter(|endpoint| *endpoint != generic) {
        let allowed = format!("{generic}, or no endpoint: emit is for HTTP at large alone");
        return Err(ConfigError::new(field("endpoint"), endpoint, &allowed));
    }
    let within = |name: &str| field(&format!("emit.{name}"));
    let emission = Emission {
        lifetimes: check_lifetimes(emit, &within)?,
        tag_fields: check_fields(
            &emit.tag_fields,
            &within("tag_fields"),
            &TagField::ALL,
            TagField::name,
        )?,
        vary: check_names(&emit.vary, &within("vary"), &[])?,
        etag: emit.etag.unwrap_or(false),
        strip: check_names(&emit.strip, &within("strip"), &NEVER_STRIPPED)?,
    };
    Ok(Some(Arc::new(emission)))
}

fn check_lifetimes(
    emit: &Emit,
    within: &dyn Fn(&str) -> String,
) -> Result<Option<Lifetimes>, ConfigError> {
    let needs = |name: &str, is_said: bool, other: &str| match is_said {
        true => {
            let allowed = format!("not without {}", within(other));
            Err(ConfigError::new(within(name), "set", &allowed))
        }
        false => Ok(()),
    };
    let Some(browser) = emit.browser else {
        needs(
            "browser_stale_while_revalidate",
            emit.browser_stale_while_revalidate.is_some(),
            "browser",
        )?;
        needs("browser_stale_if_error", emit.browser_stale_if_error.is_some(), "browser")?;
        // Its answers begin anew for one of the two, and so for both.
        needs("cdn", emit.cdn.is_some(), "browser")?;
        needs("cdn_stale_while_revalidate", emit.cdn_stale_while_revalidate.is_some(), "cdn")?;
        needs("cdn_stale_if_error", emit.cdn_stale_if_error.is_some(), "cdn")?;
        return needs("cdn_fields", emit.cdn_fields.is_some(), "cdn").map(|()| None);
    };
    let browser =
        lifetime(browser, emit.browser_stale_while_revalidate, emit.browser_stale_if_error);
    let Some(cdn) = emit.cdn else {
        needs("cdn_stale_while_revalidate", emit.cdn_stale_while_revalidate.is_some(), "cdn")?;
        needs("cdn_stale_if_error", emit.cdn_stale_if_error.is_some(), "cdn")?;
        needs("cdn_fields", emit.cdn_fields.is_some(), "cdn")?;
        return Ok(Some(Lifetimes { browser, cdn: None }));
    };
    let lifetime = lifetime(cdn, emit.cdn_stale_while_revalidate, emit.cdn_stale_if_error);
    let fields = match &emit.cdn_fields {
        None => [CdnField::CdnCacheControl].into(),
        named => check_fields(named, &within("cdn_fields"), &CdnField::ALL, CdnField::name)?,
    };
    Ok(Some(Lifetimes { browser, cdn: Some(Cdn { lifetime, fields }) }))
}

fn lifetime(fresh: Span, while_revalidate: Option<Span>, if_error: Option<Span>) -> Lifetime {
    let window = |span: Option<Span>| span.map_or(Duration::ZERO, |span| span.0);
    Lifetime {
        fresh: fresh.0,
        stale_while_revalidate: window(while_revalidate),
        stale_if_error: window(if_error),
    }
}

/// Names of a closed set.
fn check_fields<T: Copy>(
    written: &Option<Vec<String>>,
    field: &str,
    known: &[T],
    name: impl Fn(T) -> HeaderName,
) -> Result<Box<[T]>, ConfigError> {
    let find = |text: &String| {
        let found = known.iter().find(|known| text.eq_ignore_ascii_case(name(**known).as_str()));
        found.copied().ok_or_else(|| {
            let names: Vec<String> = known.iter().map(|known| name(*known).to_string()).collect();
            ConfigError::new(field, text, &format!("some of {}", names.join(", ")))
        })
    };
    written.iter().flatten().map(find).collect()
}

/// Names of fields, but for some.
fn check_names(
    written: &Option<Vec<String>>,
    field: &str,
    never: &[HeaderName],
) -> Result<Box<[HeaderName]>, ConfigError> {
    let count = written.as_ref().map_or(0, Vec::len);
    if count > NAMES_MAX {
        return Err(ConfigError::new(field, count, &format!("at most {NAMES_MAX} names")));
    }
    let read = |text: &String| {
        let name = text.parse::<HeaderName>().ok().filter(|name| !never.contains(name));
        name.ok_or_else(|| {
            let allowed = match never {
                [] => "the name of a field".to_owned(),
                _ => {
                    let names: Vec<&str> = never.iter().map(HeaderName::as_str).collect();
                    format!("the name of a field, and none of {}", names.join(", "))
                }
            };
            ConfigError::new(field, text, &allowed)
        })
    };
    written.iter().flatten().map(read).collect()
}

/// What a route emits, for people.
pub(super) fn in_words(emission: &Emission) -> String {
    let span = |duration: Duration| humantime::format_duration(duration).to_string();
    let mut words = vec![match &emission.lifetimes {
        None => "leaves lifetimes to the upstream".to_owned(),
        Some(Lifetimes { browser, cdn: None }) => {
            format!("has all others keep answers for {}", span(browser.fresh))
        }
        Some(Lifetimes { browser, cdn: Some(cdn) }) => format!(
            "has browsers keep answers for {} and a cache in front for {}",
            span(browser.fresh),
            span(cdn.lifetime.fresh)
        ),
    }];
    words.extend((!emission.tag_fields.is_empty()).then(|| "shows tags".to_owned()));
    words.extend((!emission.strip.is_empty()).then(|| {
        let names: Vec<&str> = emission.strip.iter().map(HeaderName::as_str).collect();
        format!("strips {}", names.join(" and "))
    }));
    words.join(" and ")
}
