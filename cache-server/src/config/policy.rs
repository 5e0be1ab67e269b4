//! Policies: what is reused and for how long, by tenant, model, endpoint and upstream.
//!
//! Every `[[route]]` selects requests and sets fields. Of the routes that match a request the
//! most specific one that sets a field decides that field: a tenant before a model, a whole
//! model name before a longer prefix before a shorter one, then the endpoint, then the upstream.

mod check;
mod emission;
mod members;
mod words;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use keyspec::{KeySpec, KeySpecs, Kind, ReusePolicy, Route};

use check::{Known, check_route, check_specs};
use members::ChangedSpecs;

use super::tagging::TagTemplate;
use super::{ConfigError, parse_reuse, written};
use crate::cache::freshness::Lifetime;
use crate::cache::freshness::emit::Emission;
use crate::cache::freshness::negative::NegativeStatuses;

/// All policies of a config.
#[derive(Clone, Debug)]
pub struct Policies {
    /// The most specific first.
    rules: Vec<Rule>,
    default_reuse: ReusePolicy,
    tenant_reuse: HashMap<Box<str>, ReusePolicy>,
    specs: KeySpecs,
    changed: ChangedSpecs,
}

/// What is known of a request when a policy is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The tenant's name, if it has one.
    pub tenant: Option<&'a str>,
    /// The model asked for.
    pub model: Option<&'a str>,
    /// The spec's name: a model route's, or one that is declared.
    pub endpoint: &'a str,
    /// What is asked for.
    pub kind: Kind,
    /// The upstream's name.
    pub upstream: &'a str,
}

/// The policy for one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Which answers are reused.
    pub reuse: ReusePolicy,
    /// For how long, by our own rules.
    pub lifetime: Lifetime,
    /// Whether the upstream's `Cache-Control` decides instead.
    pub obey_upstream: bool,
    /// Whether its `Surrogate-Control` counts among that, and is kept from callers.
    pub surrogate_control: bool,
    /// Who shares its answers.
    pub scope: Scope,
    /// How long at most an answer is fresh by its age alone; nothing for not at all.
    pub heuristic_fresh_max: Option<Duration>,
    /// How long at most the answer that there is nothing answers others; zero for not at all.
    pub negative_for: Duration,
    /// Which statuses are such answers.
    pub negative_statuses: NegativeStatuses,
    /// How much sooner a lifetime may end, in percent.
    pub lifetime_jitter_percent: u8,
    /// How early what is asked for often is refreshed before it ends; 0 for never.
    pub refresh_ahead: f64,
    /// What becomes of a fetch that all its callers have left.
    pub when_nobody_reads: WhenNobodyReads,
    /// Request fields whose spelling does not count in `Vary`.
    pub vary_normalize: Arc<[HeaderName]>,
    /// What its answers say on their way out.
    pub emission: Option<Arc<Emission>>,
    /// What its entries are tagged with.
    pub tags: Arc<[TagTemplate]>,
    /// Whether requests may add tags.
    pub tags_from_request: bool,
    /// Whether older entries become stale when another model begins to answer.
    pub soft_purge_on_model_change: bool,
}

/// What becomes of a fetch that all its callers have left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenNobodyReads {
    /// It goes on, and is stored.
    #[default]
    Finish,
    /// It is broken off, so that the upstream need not go on either.
    Cancel,
}

/// Who shares the answers of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The callers of one tenant.
    #[default]
    Tenant,
    /// The callers of all named tenants.
    NamedCallers,
    /// All callers, whoever they are.
    AllCallers,
}

#[derive(Clone, Debug)]
struct Rule {
    selects: Selects,
    reuse: Option<ReusePolicy>,
    fresh_for: Option<Duration>,
    stale_while_revalidate: Option<Duration>,
    stale_if_error: Option<Duration>,
    obey_upstream: Option<bool>,
    surrogate_control: Option<bool>,
    shared: Option<bool>,
    allow_unverified_callers: Option<bool>,
    heuristic_fresh_max: Option<Duration>,
    negative_for: Option<Duration>,
    negative_statuses: Option<NegativeStatuses>,
    lifetime_jitter_percent: Option<u8>,
    refresh_ahead: Option<f64>,
    when_nobody_reads: Option<WhenNobodyReads>,
    vary_normalize: Option<Arc<[HeaderName]>>,
    emission: Option<Arc<Emission>>,
    tags: Option<Arc<[TagTemplate]>>,
    tags_from_request: Option<bool>,
    soft_purge_on_model_change: Option<bool>,
    ignored_members: Option<Vec<String>>,
    kept_members: Option<Vec<String>>,
}

impl Rule {
    /// Whether it decides on what keys leave out, or on what they keep.
    fn sets_members(&self) -> bool {
        self.ignored_members.is_some() || self.kept_members.is_some()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Selects {
    tenant: Option<String>,
    model: Option<ModelPattern>,
    endpoint: Option<String>,
    upstream: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ModelPattern {
    Exactly(String),
    StartsWith(String),
}

impl ModelPattern {
    fn parse(field: String, text: &str) -> Result<ModelPattern, ConfigError> {
        let (stem, pattern): (&str, fn(String) -> ModelPattern) = match text.strip_suffix('*') {
            Some(stem) => (stem, ModelPattern::StartsWith),
            None => (text, ModelPattern::Exactly),
        };
        if stem.contains('*') || text.is_empty() {
            return Err(ConfigError::new(field, text, "a name, with at most one * at its end"));
        }
        Ok(pattern(stem.to_owned()))
    }

    fn matches(&self, model: &str) -> bool {
        match self {
            ModelPattern::Exactly(name) => name == model,
            ModelPattern::StartsWith(stem) => model.starts_with(stem.as_str()),
        }
    }

    fn specificity(&self) -> usize {
        match self {
            ModelPattern::Exactly(_) => usize::MAX,
            ModelPattern::StartsWith(stem) => 1 + stem.len(),
        }
    }
}

impl Selects {
    fn matches(&self, asked: &Asked<'_>) -> bool {
        self.tenant.as_deref().is_none_or(|tenant| asked.tenant == Some(tenant))
            && self
                .model
                .as_ref()
                .is_none_or(|pattern| asked.model.is_some_and(|model| pattern.matches(model)))
            && self.endpoint.as_deref().is_none_or(|endpoint| asked.endpoint == endpoint)
            && self.upstream.as_deref().is_none_or(|upstream| asked.upstream == upstream)
    }

    /// Whether some request may be selected by both, as far as the model does not tell.
    fn may_meet(&self, other: &Selects) -> bool {
        let meet = |one: &Option<String>, other: &Option<String>| {
            one.is_none() || other.is_none() || one == other
        };
        meet(&self.tenant, &other.tenant)
            && meet(&self.endpoint, &other.endpoint)
            && meet(&self.upstream, &other.upstream)
    }

    fn specificity(&self) -> (bool, usize, bool, bool) {
        let model = self.model.as_ref().map_or(0, ModelPattern::specificity);
        (self.tenant.is_some(), model, self.endpoint.is_some(), self.upstream.is_some())
    }
}

impl Policies {
    /// Every `[[route]]` in words, the most specific first.
    pub fn routes_in_words(&self) -> impl Iterator<Item = String> {
        self.rules.iter().map(Rule::in_words)
    }

    /// Checks the routes and tenants of a config against the upstreams' names.
    pub(super) fn check(file: &written::File, upstreams: &[&str]) -> Result<Policies, ConfigError> {
        let specs = check_specs(&file.key_spec)?;
        let mut rules: Vec<Rule> = Vec::new();
        for (index, route) in file.route.iter().enumerate() {
            let rule = check_route(index, route, &Known { file, upstreams, specs: &specs })?;
            if let Some(twin) = rules.iter().position(|other| other.selects == rule.selects) {
                let allowed = format!("route[{twin}] selects the same requests: join the two");
                return Err(ConfigError::new(format!("route[{index}]"), "a twin", &allowed));
            }
            rules.push(rule);
        }
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.selects.specificity()));
        let mut tenant_reuse = HashMap::new();
        for (index, tenant) in file.tenant.iter().enumerate() {
            if let Some(reuse) = &tenant.reuse {
                let reuse = parse_reuse(format!("tenant[{index}].reuse"), reuse)?;
                tenant_reuse.insert(tenant.name.as_str().into(), reuse);
            }
        }
        Ok(Policies {
            changed: ChangedSpecs::of(&rules),
            rules,
            default_reuse: parse_reuse("cache.reuse", &file.cache.reuse)?,
            tenant_reuse,
            specs,
        })
    }

    /// The specs that requests are read by, but for what routes change.
    #[must_use]
    pub fn specs(&self) -> &KeySpecs {
        &self.specs
    }

    /// The spec with what a route changes of it, for a request whose model is not yet known. What
    /// was declared stands as it is.
    #[must_use]
    pub fn changed<'a>(&'a self, spec: &'a Arc<KeySpec>, asked: &Asked<'_>) -> &'a Arc<KeySpec> {
        if spec.is_declared() {
            return spec;
        }
        self.changed.find(&self.rules, spec, asked).unwrap_or(spec)
    }

    /// The policy for a request.
    #[must_use]
    pub fn policy(&self, asked: &Asked<'_>) -> Policy {
        let tenant_reuse =
            || asked.tenant.and_then(|tenant| self.tenant_reuse.get(tenant)).copied();
        let reuse = self.said(asked, |rule| rule.reuse);
        let reuse = reuse.or_else(tenant_reuse).unwrap_or(self.default_reuse);
        let default = default_lifetime(asked.kind, reuse);
        let is_generic = asked.endpoint == Route::Generic.name();
        let negative_for = if is_generic { NEGATIVE_FOR } else { Duration::ZERO };
        Policy {
            reuse,
            lifetime: Lifetime {
                fresh: self.said(asked, |rule| rule.fresh_for).unwrap_or(default.fresh),
                stale_while_revalidate: self
                    .said(asked, |rule| rule.stale_while_revalidate)
                    .unwrap_or(default.stale_while_revalidate),
                stale_if_error: self
                    .said(asked, |rule| rule.stale_if_error)
                    .unwrap_or(default.stale_if_error),
            },
            obey_upstream: self.said(asked, |rule| rule.obey_upstream).unwrap_or(is_generic),
            surrogate_control: self.said(asked, |rule| rule.surrogate_control).unwrap_or(false),
            scope: self.scope(asked),
            heuristic_fresh_max: self.said(asked, |rule| rule.heuristic_fresh_max),
            negative_for: self.said(asked, |rule| rule.negative_for).unwrap_or(negative_for),
            negative_statuses: self
                .said(asked, |rule| rule.negative_statuses)
                .unwrap_or(NegativeStatuses::NOTHING_THERE),
            lifetime_jitter_percent: self
                .said(asked, |rule| rule.lifetime_jitter_percent)
                .unwrap_or(JITTER_PERCENT),
            refresh_ahead: self.said(asked, |rule| rule.refresh_ahead).unwrap_or(if is_generic {
                1.0
            } else {
                0.0
            }),
            when_nobody_reads: self.said(asked, |rule| rule.when_nobody_reads).unwrap_or_default(),
            vary_normalize: self
                .said(asked, |rule| rule.vary_normalize.clone())
                .unwrap_or_default(),
            emission: self.emission(asked),
            tags: self.said(asked, |rule| rule.tags.clone()).unwrap_or_default(),
            tags_from_request: self.said(asked, |rule| rule.tags_from_request).unwrap_or(false),
            soft_purge_on_model_change: self
                .said(asked, |rule| rule.soft_purge_on_model_change)
                .unwrap_or(false),
        }
    }

    /// What answers say on their way out, where the rules of HTTP decide.
    #[must_use]
    pub fn emission(&self, asked: &Asked<'_>) -> Option<Arc<Emission>> {
        let is_generic = asked.endpoint == Route::Generic.name();
        is_generic.then(|| self.said(asked, |rule| rule.emission.clone())).flatten()
    }

    fn scope(&self, asked: &Asked<'_>) -> Scope {
        match self.said(asked, |rule| rule.shared) {
            Some(true) if self.said(asked, |rule| rule.allow_unverified_callers) == Some(true) => {
                Scope::AllCallers
            }
            Some(true) => Scope::NamedCallers,
            _ => Scope::Tenant,
        }
    }

    /// What the most specific route that sets this field says.
    fn said<T>(&self, asked: &Asked<'_>, field: impl Fn(&Rule) -> Option<T>) -> Option<T> {
        self.matching(asked).find_map(field)
    }

    fn matching<'a>(&'a self, asked: &'a Asked<'_>) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(|rule| rule.selects.matches(asked))
    }
}

/// How long at most a 404 or 410 of HTTP at large answers, where no route says.
const NEGATIVE_FOR: Duration = Duration::from_secs(60);

/// How much sooner the lifetimes of a batch may end, where no route says.
const JITTER_PERCENT: u8 = 5;

/// What a reuse policy means, for people.
#[must_use]
pub fn reuse_in_words(reuse: ReusePolicy) -> &'static str {
    match reuse {
        ReusePolicy::Deterministic => "reused if deterministic or declared",
        ReusePolicy::Declared => "reused if declared",
        ReusePolicy::Any => "reused whatever it is",
    }
}

/// The lifetimes that hold where no route says otherwise. What is reused only because `any` was
/// asked for is the least certain, and lives an hour.
#[must_use]
pub fn default_lifetime(kind: Kind, reuse: ReusePolicy) -> Lifetime {
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let fresh = match (kind, reuse) {
        (Kind::Embedding | Kind::TokenCount, _) => 7 * DAY,
        (Kind::Moderation | Kind::Listing | Kind::ToolCall | Kind::Resource, _)
        | (Kind::Generation, ReusePolicy::Any) => HOUR,
        (Kind::Generation, ReusePolicy::Deterministic | ReusePolicy::Declared) => DAY,
    };
    Lifetime { fresh, stale_while_revalidate: HOUR, stale_if_error: 7 * DAY }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, validate, written};
    use keyspec::ModelRoute;

    fn config(routes: &str) -> Result<Config, String> {
        let toml = format!(
            "version = 1\n[[tenant]]\nname = 't'\ncredential_digests = []\nreuse = 'declared'\n{routes}"
        );
        let mut file: written::File = toml::from_str(&toml).map_err(|error| error.to_string())?;
        file.cache.data_dir = Some("/data".into());
        validate(&file.with_upstreams()).map_err(|error| error.to_string())
    }

    fn chat<'a>(tenant: Option<&'a str>, model: &'a str) -> Asked<'a> {
        Asked {
            tenant,
            model: Some(model),
            endpoint: ModelRoute::OpenAiChatCompletions.name(),
            kind: Kind::Generation,
            upstream: "openai",
        }
    }

    #[test]
    fn the_most_specific_route_decides_each_field() {
        let config = config(
            "[[route]]\nupstream = 'openai'\nfresh_for = '1h'\nreuse = 'any'\n\
             [[route]]\nmodel = 'gpt-4*'\nfresh_for = '2h'\n\
             [[route]]\nmodel = 'gpt-4o*'\nfresh_for = '3h'\n\
             [[route]]\nmodel = 'gpt-4o'\nstale_if_error = '4h'\n\
             [[route]]\ntenant = 't'\nfresh_for = '5h'\n",
        )
        .unwrap();
        let policy = |tenant, model| config.policies.policy(&chat(tenant, model));
        let hours = |count: u64| Duration::from_secs(count * 3600);
        assert_eq!(policy(None, "o3").lifetime.fresh, hours(1));
        assert_eq!(policy(None, "gpt-4-turbo").lifetime.fresh, hours(2));
        assert_eq!(policy(None, "gpt-4o-mini").lifetime.fresh, hours(3));
        let exact = policy(None, "gpt-4o");
        assert_eq!((exact.lifetime.fresh, exact.lifetime.stale_if_error), (hours(3), hours(4)));
        assert_eq!(exact.reuse, ReusePolicy::Any, "an unset field falls to a wider route");
        assert_eq!(policy(Some("t"), "gpt-4o").lifetime.fresh, hours(5));
    }

    #[test]
    fn unverified_callers_share_only_where_a_route_says_so() {
        let scope = |routes| config(routes).unwrap().policies.policy(&chat(None, "m")).scope;
        assert_eq!(scope(""), Scope::Tenant);
        assert_eq!(scope("[[route]]\nallow_unverified_callers = true"), Scope::Tenant);
        assert_eq!(scope("[[route]]\nscope = 'shared'"), Scope::NamedCallers);
        let both = "[[route]]\nscope = 'shared'\nallow_unverified_callers = true\n";
        assert_eq!(scope(both), Scope::AllCallers);
        let one_model = format!("{both}[[route]]\nmodel = 'm'\nscope = 'tenant'");
        assert_eq!(scope(&one_model), Scope::Tenant);
    }

    #[test]
    fn a_tenants_reuse_holds_where_no_route_says() {
        let config = config("").unwrap();
        assert_eq!(config.policies.policy(&chat(Some("t"), "m")).reuse, ReusePolicy::Declared);
        assert_eq!(config.policies.policy(&chat(None, "m")).reuse, ReusePolicy::Deterministic);
    }

    #[test]
    fn default_lifetimes_follow_the_kind_of_answer() {
        let fresh = |kind, reuse| default_lifetime(kind, reuse).fresh.as_secs() / 3600;
        assert_eq!(fresh(Kind::Embedding, ReusePolicy::Any), 7 * 24);
        assert_eq!(fresh(Kind::TokenCount, ReusePolicy::Deterministic), 7 * 24);
        assert_eq!(fresh(Kind::Generation, ReusePolicy::Deterministic), 24);
        assert_eq!(fresh(Kind::Generation, ReusePolicy::Any), 1);
        assert_eq!(fresh(Kind::Moderation, ReusePolicy::Deterministic), 1);
    }

    #[test]
    fn a_route_that_cannot_be_meant_is_refused_by_field() {
        for (routes, expected) in [
            ("[[route]]\ntenant = 'nobody'", "route[0].tenant: nobody"),
            (
                "[[route]]\nupstream = 'mars'",
                "route[0].upstream: mars — the name of an upstream; there are: ",
            ),
            ("[[route]]\nendpoint = 'chat'", "route[0].endpoint: chat — one of openai."),
            ("[[key_spec]]\nname = 'a'\nversion = 1\npath = 'x'", "key_spec[0].path: x — a path"),
            ("[[key_spec]]\npreset = 'mcp'", "key_spec[0].preset: mcp — no spec of MCP"),
            ("[[key_spec]]\nmethods = ['HEAD']", "key_spec[0].methods: HEAD — methods whose"),
            (
                "[[key_spec]]\nname = 'a'\nversion = 1\npath = '/x'\n\
                 [[route]]\nendpoint = 'a'\nignore_members = ['x']",
                "route[0].endpoint: a — a model route",
            ),
            ("[[route]]\nmodel = 'a*b'", "route[0].model: a*b"),
            ("[[route]]\nreuse = 'x'", "route[0].reuse: x — deterministic"),
            ("[[route]]\nnegative_statuses = [404, 403]", "negative_statuses: 403 — some of 404,"),
            ("[[route]]\nlifetime_jitter_percent = 51", "lifetime_jitter_percent: 51 — 0 to 50"),
            ("[[route]]\nrefresh_ahead = -0.5", "refresh_ahead: -0.5 — 0 to 10"),
            ("[[route]]\nrefresh_ahead = nan", "refresh_ahead: NaN — 0 to 10"),
            ("[[route]]\nwhen_nobody_reads = 'x'", "when_nobody_reads: x — finish or cancel"),
            ("[[route]]\nscope = 'world'", "route[0].scope: world — tenant or shared"),
            ("[[route]]\nmodel = 'a'\nignore_members = ['x']", "route[0].model: set"),
            ("[[route]]\nmodel = 'a'\n[[route]]\nmodel = 'a'", "route[1]: a twin — route[0]"),
            ("[[route]]\nignore_members = ['x']\nkeep_members = ['x']", "route[0].keep_members: x"),
        ] {
            let error = config(routes).unwrap_err();
            assert!(error.contains(expected), "{routes}\n→ {error}");
        }
    }
}
