//! A request as it is described by arguments, made into one that has a key.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use keyspec::{Credentials, KeySpec, KeySpecs, KeyedRequest, ModelRoute, Provider, TenantScope};
use url::Url;

use crate::Usage;
use crate::arguments::RequestArguments;

/// A request, but for its body.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) spec: Arc<KeySpec>,
    pub(crate) method: String,
    pub(crate) headers: HeaderMap,
    tenant: TenantScope,
    /// The upstream's base URL as keys have it.
    upstream: String,
    target: Url,
}

/// What a request says of its answer's reuse (`Cache-Server-Reuse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Nothing,
    Reuse,
    DoNotReuse,
}

impl Described {
    /// Makes sense of arguments.
    pub(crate) fn of(arguments: &RequestArguments) -> Result<Described, Usage> {
        let specs = specs(arguments.spec.as_deref())?;
        let headers = headers(&arguments.headers)?;
        let path = arguments.path.as_str();
        if !path.starts_with('/') {
            return Err(Usage::new(format!("--path {path} — a path that begins with /")));
        }
        let method = arguments.method.as_str();
        let base = match &arguments.upstream {
            Some(url) => url.as_str(),
            None => well_known(method, path),
        };
        let base = Url::parse(base).map_err(|error| Usage::new(format!("--upstream: {error}")))?;
        let upstream = base.as_str().trim_end_matches('/').to_owned();
        // As the server puts it together: what the path resolves to is what is keyed.
        let target = Url::parse(&format!("{upstream}{path}"))
            .map_err(|error| Usage::new(format!("--path: {error}")))?;
        let spec = match specs.find(method, target.path()) {
            Some(found) => Arc::clone(found.spec),
            None => Arc::new(KeySpec::http()),
        };
        let tenant = match &arguments.tenant {
            Some(name) => TenantScope::Named(name.as_str().into()),
            None => Credentials::from_request(&headers, target.query()).own_scope(),
        };
        if spec.content_type(&headers).is_err() {
            return Err(Usage::new("--header: content-type is said once, in ASCII"));
        }
        Ok(Described { spec, method: method.to_owned(), headers, tenant, upstream, target })
    }

    /// What is keyed beside the body.
    pub(crate) fn keyed(&self) -> KeyedRequest<'_> {
        KeyedRequest {
            tenant: &self.tenant,
            upstream: &self.upstream,
            method: &self.method,
            path: self.target.path(),
            query: self.target.query(),
            headers: &self.headers,
        }
    }

    pub(crate) fn content_type(&self) -> Option<&str> {
        self.spec.content_type(&self.headers).unwrap_or_default()
    }

    /// What its header says of reuse.
    pub(crate) fn said(&self) -> Said {
        let value = self.headers.get("cache-server-reuse").map(HeaderValue::as_bytes);
        match value.map(<[u8]>::to_ascii_lowercase).as_deref() {
            Some(b"yes" | b"new") => Said::Reuse,
            Some(b"no") => Said::DoNotReuse,
            _ => Said::Nothing,
        }
    }
}

/// The upstream that the server mounts for a provider's requests.
fn well_known(method: &str, path: &str) -> &'static str {
    let path = path.split('?').next().unwrap_or_default();
    match ModelRoute::match_request(method, path).map(|found| found.route.provider()) {
        Some(Provider::OpenAi) => "https://api.openai.com",
        Some(Provider::Anthropic) => "https://api.anthropic.com",
        Some(Provider::Gemini) => "https://generativelanguage.googleapis.com",
        None => "http://localhost",
    }
}

fn specs(file: Option<&Path>) -> Result<KeySpecs, Usage> {
    let Some(file) = file else { return Ok(KeySpecs::default()) };
    KeySpecs::from_toml(&text(file)?)
        .map_err(|error| Usage::new(format!("{}: {error}", file.display())))
}

fn headers(written: &[String]) -> Result<HeaderMap, Usage> {
    let mut headers = HeaderMap::new();
    for field in written {
        // The value may be a secret, and is not shown.
        let refused = || Usage::new("--header: write it as 'name: value'");
        let (name, value) = field.split_once(':').ok_or_else(refused)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| refused())?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| refused())?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The bytes of a file, or of standard input where it is `-`.
pub(crate) fn body(file: Option<&Path>) -> Result<Vec<u8>, Usage> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let read = if file == Path::new("-") {
        let mut bytes = Vec::new();
        // One byte more than is keyable is enough to say so.
        let bytes_max = keyspec::BODY_BYTES_MAX as u64 + 1;
        std::io::stdin().take(bytes_max).read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    read.map_err(|error| Usage::new(format!("{}: {error}", file.display())))
}

/// The text of a file.
pub(crate) fn text(file: &Path) -> Result<String, Usage> {
    std::fs::read_to_string(file)
        .map_err(|error| Usage::new(format!("{}: {error}", file.display())))
}
