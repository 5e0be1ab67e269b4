//! Checks of `[[route]]` and `[[key_spec]]`: as written → as used.

use std::sync::Arc;

use http::HeaderName;
use keyspec::{DeclaredSpec, KeySpec, KeySpecs, ModelRoute, Route, SpecError};

use super::emission::check_emission;
use super::{ModelPattern, Rule, Selects, WhenNobodyReads};
use crate::cache::freshness::negative::{MAY_BE_NEGATIVE, NegativeStatuses};
use crate::config::tagging::{TEMPLATES_MAX, TagTemplate};
use crate::config::{ConfigError, parse_reuse, written};

/// The declared specs, less what a server cannot do with them.
pub(super) fn check_specs(written: &[DeclaredSpec]) -> Result<KeySpecs, ConfigError> {
    for (index, spec) in written.iter().enumerate() {
        let field = |name: &str| format!("key_spec[{index}].{name}");
        if KeySpec::preset_names().any(|preset| preset == spec.name) {
            let allowed = "a name of its own: routes, levers and purges would mean the preset too";
            return Err(ConfigError::new(field("name"), &spec.name, allowed));
        }
        if spec.preset.as_deref() == Some("mcp") {
            let allowed = "no spec of MCP: its requests are passed through";
            return Err(ConfigError::new(field("preset"), "mcp", allowed));
        }
        if spec.methods.iter().any(|method| method == "HEAD") {
            let allowed = "methods whose answers have a body; a HEAD is passed through";
            return Err(ConfigError::new(field("methods"), "HEAD", allowed));
        }
    }
    KeySpecs::declare(written).map_err(|SpecError { field, value, allowed }| ConfigError {
        field,
        value,
        allowed,
    })
}

/// What a route may name.
pub(super) struct Known<'a> {
    pub file: &'a written::File,
    pub upstreams: &'a [&'a str],
    pub specs: &'a KeySpecs,
}

pub(super) fn check_route(
    index: usize,
    route: &written::Route,
    known: &Known<'_>,
) -> Result<Rule, ConfigError> {
    let field = |name: &str| format!("route[{index}].{name}");
    let selects = check_selects(route, known, &field)?;
    check_members(route, &selects, &field)?;
    Ok(Rule {
        selects,
        reuse: route.reuse.as_ref().map(|text| parse_reuse(field("reuse"), text)).transpose()?,
        fresh_for: route.fresh_for.map(|span| span.0),
        stale_while_revalidate: route.stale_while_revalidate.map(|span| span.0),
        stale_if_error: route.stale_if_error.map(|span| span.0),
        obey_upstream: route.obey_upstream,
        surrogate_control: route.surrogate_control,
        shared: check_scope(route, &field)?,
        allow_unverified_callers: route.allow_unverified_callers,
        heuristic_fresh_max: route.heuristic_fresh_max.map(|span| span.0),
        negative_for: route.negative_for.map(|span| span.0),
        negative_statuses: check_negative_statuses(route, &field)?,
        lifetime_jitter_percent: check_jitter(route, &field)?,
        refresh_ahead: check_refresh_ahead(route, &field)?,
        when_nobody_reads: check_when_nobody_reads(route, &field)?,
        vary_normalize: check_names(route, &field)?,
        emission: check_emission(route, &field)?,
        tags: check_tags(route, &field)?,
        tags_from_request: route.tags_from_request,
        soft_purge_on_model_change: route.soft_purge_on_model_change,
        ignored_members: route.ignore_members.clone(),
        kept_members: route.keep_members.clone(),
    })
}

fn check_names(
    route: &written::Route,
    field: &dyn Fn(&str) -> String,
) -> Result<Option<Arc<[HeaderName]>>, ConfigError> {
    let Some(names) = &route.vary_normalize else { return Ok(None) };
    let name = |name: &String| {
        let allowed = "the name of a request field";
        name.parse().map_err(|_| ConfigError::new(field("vary_normalize"), name, allowed))
    };
    names.iter().map(name).collect::<Result<_, _>>().map(Some)
}

fn check_negative_statuses(
    route: &written::Route,
    field: &dyn Fn(&str) -> String,
) -> Result<Option<NegativeStatuses>, ConfigError> {
    let Some(written) = &route.negative_statuses else { return Ok(None) };
    let refused = |status: u16| {
        let known: Vec<String> = MAY_BE_NEGATIVE.iter().map(u16::to_string).collect();
        let allowed = format!("some of {}", known.join(", "));
        ConfigError::new(field("negative_statuses"), status, &allowed)
    };
    NegativeStatuses::of(written).map(Some).map_err(refused)
}

fn check_jitter(
    route: &written::Route,
    field: &dyn Fn(&str) -> String,
) -> Result<Option<u8>, ConfigError> {
    match route.lifetime_jitter_percent {
        Some(percent) if percent > 50 => {
            Err(ConfigError::new(field("lifetime_jitter_percent"), percent, "0 to 50"))
        }
        allowed => Ok(allowed),
    }
}

fn check_refresh_ahead(
    route: &written::Route,
    field: &dyn Fn(&str) -> String,
) -> Result<Option<f64>, ConfigError> {
    match route.refresh_ahead {
        Some(eagerness) if !(0.0..=10.0).contains(&eagerness) => {
            Err(ConfigError::new(field("refresh_ahead"), eagerness, "0 to 10"))
        }
        allowed => Ok(allowed),
    }
}

fn check_when_nobody_reads(
    route: &written::Route,
    field: &dyn Fn(&str) -> String,
) -> Result<Option<WhenNobodyReads>, ConfigError> {
    match route.when_nobody_reads.as_deref() {
        None => Ok(None),
        Some("finish") => Ok(Some(WhenNobodyReads::Finish)),
        Some("cancel") => Ok(Some(WhenNobodyReads::Cancel)),
        Some(other) => Err(ConfigError::new(field("when_nobody_reads"), other, "finish or cancel")),
    }
}

fn check_tags(
    route: &written::Route,
    field: &dyn Fn(&str) -> String,
) -> Result<Option<Arc<[TagTemplate]>>, ConfigError> {
    let Some(templates) = &route.tags else { return Ok(None) };
    if templates.len() > TEMPLATES_MAX {
        let allowed = format!("at most {TEMPLATES_MAX} templates");
        return Err(ConfigError::new(field("tags"), templates.len(), &allowed));
    }
    let template = |text: &String| {
        TagTemplate::parse(text)
            .map_err(|allowed| ConfigError::new(field("tags"), text, &allowed.to_string()))
    };
    templates.iter().map(template).collect::<Result<_, _>>().map(Some)
}

fn check_scope(
    route: &written::Route,
    field: &dyn Fn(&str) -> String,
) -> Result<Option<bool>, ConfigError> {
    match route.scope.as_deref() {
        None => Ok(None),
        Some("shared") => Ok(Some(true)),
        Some("tenant") => Ok(Some(false)),
        Some(other) => Err(ConfigError::new(field("scope"), other, "tenant or shared")),
    }
}

fn check_selects(
    route: &written::Route,
    Known { file, upstreams, specs }: &Known<'_>,
    field: &dyn Fn(&str) -> String,
) -> Result<Selects, ConfigError> {
    if let Some(tenant) = &route.tenant
        && !file.tenant.iter().any(|known| known.name == *tenant)
    {
        return Err(ConfigError::new(field("tenant"), tenant, "the name of a [[tenant]]"));
    }
    if let Some(upstream) = &route.upstream
        && !upstreams.contains(&upstream.as_str())
    {
        let allowed = format!("the name of an upstream; there are: {}", upstreams.join(", "));
        return Err(ConfigError::new(field("upstream"), upstream, &allowed));
    }
    if let Some(endpoint) = &route.endpoint {
        let names: Vec<&str> = endpoints(specs).collect();
        if !names.contains(&endpoint.as_str()) {
            let allowed = format!("one of {}", names.join(", "));
            return Err(ConfigError::new(field("endpoint"), endpoint, &allowed));
        }
    }
    Ok(Selects {
        tenant: route.tenant.clone(),
        model: route
            .model
            .as_ref()
            .map(|text| ModelPattern::parse(field("model"), text))
            .transpose()?,
        endpoint: route.endpoint.clone(),
        upstream: route.upstream.clone(),
    })
}

/// The names of all specs that a route may select.
fn endpoints<'s>(specs: &'s KeySpecs) -> impl Iterator<Item = &'s str> {
    let declared = specs.declared().map(|spec| spec.name());
    let models = ModelRoute::ALL.into_iter().map(|route| -> &'s str { route.name() });
    models.chain([Route::Generic.name()]).chain(declared)
}

fn check_members(
    route: &written::Route,
    selects: &Selects,
    field: &dyn Fn(&str) -> String,
) -> Result<(), ConfigError> {
    if route.ignore_members.is_none() && route.keep_members.is_none() {
        return Ok(());
    }
    if let Some(endpoint) = selects.endpoint.as_deref()
        && ModelRoute::from_name(endpoint).is_none()
    {
        let allowed = "a model route; a [[key_spec]] says itself what it ignores and keeps";
        return Err(ConfigError::new(field("endpoint"), endpoint, allowed));
    }
    if selects.model.is_some() {
        // The model is known only once the body has been read, by these very members.
        let allowed = "not together with ignore_members or keep_members: select by endpoint";
        return Err(ConfigError::new(field("model"), "set", allowed));
    }
    let ignored = route.ignore_members.as_deref().unwrap_or_default();
    let kept = route.keep_members.as_deref().unwrap_or_default();
    match ignored.iter().find(|name| kept.contains(name)) {
        Some(both) => {
            Err(ConfigError::new(field("keep_members"), both, "it is in ignore_members too"))
        }
        None => Ok(()),
    }
}
