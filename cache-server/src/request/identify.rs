//! Identify: who asks, what of us, and of which upstream.

use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderMap, Method, Request, Version};
use keyspec::{Credentials, KeySpec, Route, TenantScope};

use super::authority;
use super::deadline::Deadline;
use super::key::Body;
use super::rejection::{ListenerRejection, Rejection};
use super::trailers::Takes;
use super::{purge, tunnel};
use crate::app::App;
use crate::app::settings::Settings;
use crate::cache::cool_down::Limited;
use crate::cache::freshness::RequestDirectives;
use crate::cache::suspension::Credential;
use crate::config::policy::Asked as PolicyQuestion;
use crate::telemetry::trace::{Call, RequestTrace};
use crate::upstream::client::Upstream;
use crate::upstream::fields::{self, CACHE_SERVER_REUSE};
use crate::upstream::mount::{self, Target};

/// The part of the path that is ours on the data listener.
pub const OUR_PREFIX: &str = "/_cache";

/// What of a request is its meaning, and the model if its path names it.
pub type Spec = (Arc<KeySpec>, Option<Box<str>>);

/// A request, understood as far as its header goes.
#[derive(Debug)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// Its fields, less those that concern one connection.
    pub headers: HeaderMap,
    /// The upstream that it is for.
    pub upstream: Arc<Upstream>,
    /// The URL that it is for.
    pub target: Target,
    /// What of it is its meaning, and the model if the path names it; nothing if no spec is for it.
    pub spec: Option<Spec>,
    /// Whether the rules of HTTP decide: nobody has a spec for it.
    pub is_generic: bool,
    /// Whose entries it may see.
    pub tenant: Tenant,
    /// What it asks of a cache.
    pub directives: RequestDirectives,
    /// What it says about reuse.
    pub reuse: Reuse,
    /// How its caller takes trailers.
    pub takes: Takes,
    /// Whether it is a PURGE of one who may.
    pub may_purge: bool,
    /// Its connection, if it asks for a tunnel and can have one.
    pub tunnel: Option<tunnel::Caller>,
    /// The settings that it began with.
    pub settings: Arc<Settings>,
    /// Its body, until it is read.
    pub body: Option<Body>,
    /// When it came.
    pub received: Instant,
    /// When it is over.
    pub deadline: Deadline,
    /// Its trace.
    pub trace: RequestTrace,
}

impl Asked {
    /// What it is counted under, if a spec is for it.
    #[must_use]
    pub fn route(&self) -> Option<Route> {
        self.spec.as_ref().map(|(spec, _)| spec.route())
    }

    /// The credential that it shows, if it shows any: what an upstream takes or refuses.
    #[must_use]
    pub fn credential(&self) -> Option<Credential> {
        let credentials = Credentials::from_request(&self.headers, self.target.query());
        if credentials.is_empty() {
            return None;
        }
        // A tenant without a name is what its caller shows, and its cookies where they count.
        let is_tenant = self.tenant.name.is_none() && !credentials.with_cookies().has_cookies();
        let scope =
            if is_tenant { self.tenant.scope.clone() } else { credentials.scope_of_secrets() };
        Some(Credential { upstream: self.upstream.identity().to_owned(), scope })
    }

    /// Whom an upstream that it asks may limit.
    #[must_use]
    pub fn limited(&self) -> Limited {
        Limited { upstream: self.upstream.identity().into(), tenant: self.tenant.scope.clone() }
    }

    /// Whether it is to a model's route.
    #[must_use]
    pub fn is_of_a_model(&self) -> bool {
        self.spec.as_ref().is_some_and(|(spec, _)| spec.model_route().is_some())
    }

    /// The model, if the path names it.
    #[must_use]
    pub fn model_in_path(&self) -> Option<&str> {
        self.spec.as_ref()?.1.as_deref()
    }

    /// What the span of asking the upstream says.
    #[must_use]
    pub fn call(&self) -> Call<'_> {
        Call {
            method: &self.method,
            route: self.route(),
            upstream: self.upstream.name(),
            base: self.upstream.base(),
            path: self.target.path(),
        }
    }

    /// What a policy is chosen by.
    #[must_use]
    pub fn policy_question<'a>(
        &'a self,
        spec: &'a KeySpec,
        model: Option<&'a str>,
    ) -> PolicyQuestion<'a> {
        PolicyQuestion {
            tenant: self.tenant.name.as_deref(),
            model,
            endpoint: spec.name(),
            kind: spec.kind(),
            upstream: self.upstream.name(),
        }
    }
}

/// The tenant of a caller.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// What stands for it in keys.
    pub scope: TenantScope,
    /// Its name, if a `[[tenant]]` gives it one.
    pub name: Option<Arc<str>>,
}

impl Tenant {
    /// The label of callers without a credential.
    pub const ANONYMOUS: &str = "anonymous";
    /// The label of those whose credential belongs to no named tenant.
    pub const UNMAPPED: &str = "(unmapped)";

    /// A label for operators that gives no credential away.
    #[must_use]
    pub fn label(&self) -> &str {
        match (&self.name, &self.scope) {
            (Some(name), _) => name,
            (None, TenantScope::Anonymous) => Tenant::ANONYMOUS,
            (None, _) => Tenant::UNMAPPED,
        }
    }
}

/// `Cache-Server-Reuse`: what a request says about the reuse of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// Nothing; the policy decides.
    #[default]
    Unsaid,
    /// Its answer may be reused.
    Yes,
    /// Neither reuse nor store.
    No,
    /// Fetch afresh, and store for reuse.
    New,
}

impl Reuse {
    /// Whether the request declares that its answer may be reused.
    #[must_use]
    pub fn is_declared(self) -> bool {
        matches!(self, Reuse::Yes | Reuse::New)
    }

    fn parse(headers: &HeaderMap) -> Result<Reuse, Rejection> {
        let mut values = headers.get_all(CACHE_SERVER_REUSE).iter();
        let Some(value) = values.next() else { return Ok(Reuse::Unsaid) };
        match (value.as_bytes().trim_ascii().to_ascii_lowercase().as_slice(), values.next()) {
            (b"yes", None) => Ok(Reuse::Yes),
            (b"no", None) => Ok(Reuse::No),
            (b"new", None) => Ok(Reuse::New),
            _ => Err(Rejection::BadReuse),
        }
    }
}

/// Understands the header of a request that came at `received`.
///
/// # Errors
/// When it is for no upstream, its path is bad, or it says what we do not understand.
pub fn identify(
    app: &App,
    request: Request<Body>,
    trace: RequestTrace,
    received: Instant,
    deadline: Deadline,
) -> Result<Asked, Rejection> {
    let settings = app.settings();
    let (mut parts, body) = request.into_parts();
    let tunnel = fields::asks_for_websocket(&parts)
        .then(|| parts.extensions.remove::<tunnel::Caller>())
        .flatten();
    // HTTP/1.1 has had its fields counted while it was read; HTTP/2 has not.
    let headers_max = settings.server.headers_max;
    if parts.headers.len() > headers_max {
        return Err(ListenerRejection::TooManyFields { headers_max }.into());
    }
    let purges_from = parts.extensions.get::<purge::From>();
    let may_purge = purges_from.is_some_and(|from| settings.server.may_purge(from.0));
    // Whatever it names in Connection. A PURGE ends here, wherever it has been.
    if !may_purge && app.loops.is_seen_on(&parts.headers) {
        return Err(Rejection::Loop);
    }
    let takes = Takes::of(&parts);
    // First of all: what a caller names in Connection must count for nothing below.
    fields::strip_hop_by_hop(&mut parts.headers);
    if parts.method == Method::CONNECT {
        return Err(Rejection::NoTunnel);
    }
    if parts.version == Version::HTTP_2 {
        fields::join_cookies(&mut parts.headers);
    }
    let host = check_target(&settings, &parts)?;
    let path = parts.uri.path();
    if mount::behind(OUR_PREFIX, path).is_some() {
        return Err(Rejection::NoSuchAddress);
    }
    let (upstream, rest) = settings
        .upstream_for(host, path)
        .ok_or_else(|| Rejection::NoUpstream { mounts: mounts(&settings, host) })?;
    let target = mount::target(upstream.base(), rest, parts.uri.query())
        .map_err(|error| Rejection::BadPath { why: error.to_string() })?;
    let (spec, is_generic) = spec(&settings, &parts.method, target.path());
    if let Some((spec, _)) = &spec {
        trace.note_route(&parts.method, spec.route());
    }
    let credentials = Credentials::from_request(&parts.headers, target.query());
    // To the SDKs of models they mean nothing; elsewhere they tell callers apart.
    let is_http = is_generic || spec.as_ref().is_some_and(|(spec, _)| spec.is_http());
    let credentials = if is_http { credentials.with_cookies() } else { credentials };
    let tenant = tenant(&settings, &credentials);
    let reuse = Reuse::parse(&parts.headers)?;
    let mut directives = RequestDirectives::parse(&parts.headers);
    // In the words of HTTP: what is stored answers only once the upstream has confirmed it.
    directives.no_cache |= reuse == Reuse::New;
    Ok(Asked {
        directives,
        reuse,
        upstream: Arc::clone(upstream),
        method: parts.method,
        headers: parts.headers,
        target,
        spec,
        is_generic,
        tenant,
        takes,
        may_purge,
        tunnel,
        body: Some(body),
        received,
        deadline,
        settings,
        trace,
    })
}

/// Whether the request is for us at all: under which name it asks, and in which form. Gives the
/// name.
fn check_target<'p>(
    settings: &Settings,
    parts: &'p Parts,
) -> Result<Option<&'p str>, ListenerRejection> {
    let authority = authority::of(parts)?;
    // `*` is about the server as a whole, and a bare authority is for CONNECT alone.
    if !parts.uri.path().starts_with('/') {
        return Err(ListenerRejection::BadTarget);
    }
    let hosts = &settings.server.hosts;
    let is_ours = |host: &String| authority.is_some_and(|authority| authority.is_host(host));
    if hosts.is_empty() || hosts.iter().any(is_ours) {
        return Ok(authority.map(|authority| authority.host));
    }
    Err(ListenerRejection::NotOurHost)
}

/// The spec that a request is read by, and the model if the path names it; and whether it is left
/// to the rules of HTTP.
fn spec(settings: &Settings, method: &Method, path: &str) -> (Option<Spec>, bool) {
    let specs = settings.policies.specs();
    let Some(found) = specs.find(method.as_str(), path) else {
        return (specs.generic(method.as_str()).map(|spec| (Arc::clone(spec), None)), true);
    };
    // A reused answer of MCP would have to be given the asking request's id.
    let is_read = !found.spec.is_mcp();
    let spec = || (Arc::clone(found.spec), found.model_in_path.map(Into::into));
    (is_read.then(spec), false)
}

/// A caller is a named tenant only if every credential that it shows belongs to that tenant:
/// nobody slips into a tenant by adding one credential to another.
fn tenant(settings: &Settings, credentials: &Credentials<'_>) -> Tenant {
    if !settings.tenants.is_empty() && !credentials.is_empty() {
        let mut names = credentials.secret_digests().map(|digest| settings.tenants.get(&digest));
        if let Some(Some(first)) = names.next()
            && names.all(|name| name == Some(first))
        {
            let name = Arc::clone(first);
            // Cookies tell callers of one tenant apart.
            let scope = match credentials.has_cookies() {
                true => credentials.own_scope(),
                false => TenantScope::Named(Arc::clone(&name)),
            };
            return Tenant { scope, name: Some(name) };
        }
    }
    Tenant { scope: credentials.own_scope(), name: None }
}

/// The mounts that a request to this host may use.
fn mounts(settings: &Settings, host: Option<&str>) -> Vec<String> {
    let upstreams = settings.upstreams.iter();
    upstreams
        .filter(|upstream| upstream.settings().answers_to(host))
        .map(|upstream| format!("{}/", upstream.prefix()))
        .collect()
}
