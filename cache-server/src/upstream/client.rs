//! One upstream: its address, its connection pool, its deadlines.
//!
//! The client follows nothing and changes nothing: no redirects, no proxies from the environment,
//! no decompression, no retries of its own. Bytes pass through as they are. All that it adds is
//! `Accept: */*` where a request says nothing, which means the same (RFC 9110 section 12.5.1).

mod connect;

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, HOST};
use http::uri::{Authority, Parts, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tokio::time::timeout;
use url::Url;

pub use self::connect::BadClient;
use self::connect::HttpClient;
use super::body::{ReceivedBody, RequestBody, received};
use super::exchange::ExchangeError;
use super::health::Health;
use super::mount::Target;
use super::silence::Silent;
use super::{UpstreamError, cache_status, framing};
use crate::clock::Clock;
use crate::telemetry::upstream::{ExchangeEnd, UpstreamMetrics};

/// Which HTTP is spoken to an upstream.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// What TLS negotiates; HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2, without TLS by prior knowledge.
    Http2,
}

/// An upstream as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Its name in messages, metrics and routes.
    pub name: String,
    /// Where it is; path included, query and credentials excluded.
    pub base: Url,
    /// What it is called in keys: its base URL, normalised, without a slash at the end. Only what
    /// is the same upstream at another address may be called otherwise.
    pub identity: String,
    /// The path under which callers reach it: empty, or `/name`.
    pub prefix: String,
    /// Names of ours under which callers reach it, in lower case; none means all.
    pub hosts: Vec<String>,
    /// Which HTTP it is spoken to in.
    pub protocol: Protocol,
    /// Until a connection stands, TLS included.
    pub connect_timeout: Duration,
    /// The longest silence: before the headers, and between two reads of the body.
    pub read_timeout: Duration,
    /// More certificate authorities to trust, as PEM.
    pub ca_pem: Option<Vec<u8>>,
}

impl UpstreamSettings {
    /// Whether some request would belong to both.
    #[must_use]
    pub fn is_mounted_like(&self, other: &UpstreamSettings) -> bool {
        let share_a_host = self.hosts.is_empty() && other.hosts.is_empty()
            || self.hosts.iter().any(|host| other.hosts.contains(host));
        self.prefix == other.prefix && share_a_host
    }

    /// Whether requests to this host may belong to it.
    #[must_use]
    pub fn answers_to(&self, host: Option<&str>) -> bool {
        self.hosts.is_empty()
            || host.is_some_and(|host| self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host)))
    }
}

/// What of the URL is the same in all requests, as the HTTP library has it.
#[derive(Debug)]
struct Origin {
    scheme: Scheme,
    authority: Authority,
    /// The authority as the field of HTTP/1.1.
    host: HeaderValue,
}

impl Origin {
    fn of(base: &Url) -> Result<Origin, http::Error> {
        let scheme = Scheme::try_from(base.scheme())?;
        // Without its port where that is the scheme's own.
        let authority = &base[url::Position::BeforeHost..url::Position::AfterPort];
        let host = HeaderValue::try_from(authority)?;
        Ok(Origin { scheme, authority: Authority::try_from(authority)?, host })
    }

    fn uri(&self, target: &Target) -> Result<Uri, http::Error> {
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target.path_and_query()?);
        Ok(Uri::from_parts(parts)?)
    }
}

/// An upstream that can be asked.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    origin: Origin,
    client: HttpClient,
    /// For WebSockets, where `client` may speak HTTP/2, which has no `Upgrade`. None where all is
    /// HTTP/1.1.
    upgrading: Option<HttpClient>,
    health: Arc<Health>,
    clock: Clock,
}

impl Upstream {
    /// Makes the client; opens no connection.
    ///
    /// # Errors
    /// When the certificates or the address cannot be used.
    pub fn new(
        settings: UpstreamSettings,
        metrics: UpstreamMetrics,
        clock: Clock,
    ) -> Result<Upstream, BadClient> {
        let origin = Origin::of(&settings.base)?;
        let client = connect::client(&settings, settings.protocol)?;
        let may_speak_http2 = match settings.protocol {
            Protocol::Auto => settings.base.scheme() == "https",
            Protocol::Http1 => false,
            Protocol::Http2 => true,
        };
        let http1 = || connect::client(&settings, Protocol::Http1);
        let upgrading = may_speak_http2.then(http1).transpose()?;
        let health = Arc::new(Health::new(&settings.name, metrics, clock.clone()));
        Ok(Upstream { origin, client, upgrading, settings, health, clock })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Where it is.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.settings.base
    }

    /// The path under which callers reach it.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.settings.prefix
    }

    /// All that is configured of it.
    #[must_use]
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// What it is called in keys.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.settings.identity
    }

    /// Asks, and returns at the headers.
    ///
    /// # Errors
    /// When there is no answer; an error status is an answer.
    pub async fn send(
        &self,
        method: Method,
        target: &Target,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Response<ReceivedBody>, UpstreamError> {
        let answer = self.exchange(&self.client, method, target, headers, body).await?;
        self.settle(answer)
    }

    /// Asks over HTTP/1.1 for another protocol; 101 means that the connection is free for it.
    ///
    /// # Errors
    /// As [`Upstream::send`].
    pub async fn send_upgrade(
        &self,
        target: &Target,
        headers: HeaderMap,
    ) -> Result<Response<ReceivedBody>, UpstreamError> {
        let client = self.upgrading.as_ref().unwrap_or(&self.client);
        let body = RequestBody::empty();
        let answer = self.exchange(client, Method::GET, target, headers, body).await?;
        match answer.status() {
            StatusCode::SWITCHING_PROTOCOLS => Ok(answer),
            _ => self.settle(answer),
        }
    }

    /// Refuses an answer whose end not all readers would agree on, and leaves out what no reader of
    /// `Cache-Status` could read.
    fn settle(
        &self,
        mut answer: Response<ReceivedBody>,
    ) -> Result<Response<ReceivedBody>, UpstreamError> {
        match framing::settle_answer(answer.status(), answer.headers_mut()) {
            Ok(()) => {
                cache_status::keep_if_a_list(answer.headers_mut());
                Ok(answer)
            }
            Err(bad) => {
                answer.body_mut().went(ExchangeEnd::Broken);
                let upstream = self.settings.name.clone();
                Err(UpstreamError::Broken { upstream, why: bad.to_string() })
            }
        }
    }

    async fn exchange(
        &self,
        client: &HttpClient,
        method: Method,
        target: &Target,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Response<ReceivedBody>, UpstreamError> {
        let asked = self.clock.instant();
        let waiting = self.health.wait();
        let request = self.request(method, target, headers, body);
        let answered = match request {
            Ok(request) => ask(client, request, self.settings.read_timeout).await,
            Err(error) => Err(error.into()),
        };
        drop(waiting);
        let answer = answered.map_err(|error| {
            error.end().into_iter().for_each(|end| self.health.note(end));
            self.error(&error)
        })?;
        self.health.metrics().seconds_to_headers.record(asked.elapsed());
        let health = self.health_to_tell(answer.status());
        Ok(received(answer, self.settings.read_timeout, health))
    }

    /// Notes the headers of an answer. Gives the health that is to be told of its end, where this status
    /// does not say already how the exchange went.
    fn health_to_tell(&self, status: StatusCode) -> Option<Arc<Health>> {
        match status.as_u16() {
            429 => self.health.note(ExchangeEnd::Limited),
            500..=599 => self.health.note(ExchangeEnd::ServerError),
            _ => {
                self.health.answering();
                return Some(Arc::clone(&self.health));
            }
        }
        None
    }

    /// The request as the HTTP library takes it, which adds what says where the body ends.
    fn request(
        &self,
        method: Method,
        target: &Target,
        mut headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Request<RequestBody>, http::Error> {
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        // Over HTTP/2 the URL says it. The HTTP library would write it anew each time.
        if self.upgrading.is_none() {
            headers.insert(HOST, self.origin.host.clone());
        }
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.origin.uri(target)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Records how long a whole answer took.
    pub fn record_end(&self, took: Duration) {
        self.health.metrics().seconds_to_end.record(took);
    }

    /// How it does.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Sorts an error of the client by who must act. It names the upstream and the innermost cause, never
    /// the whole URL: its query may carry a credential.
    #[must_use]
    pub fn error(&self, error: &ExchangeError) -> UpstreamError {
        let upstream = self.settings.name.clone();
        match error.end() {
            Some(ExchangeEnd::Unreachable) => {
                let why = if error.is_timeout() {
                    let within = humantime::format_duration(self.settings.connect_timeout);
                    format!("no connection to {} within {within}", self.address())
                } else {
                    format!("{}: {}", self.address(), error.innermost())
                };
                UpstreamError::Unreachable { upstream, why }
            }
            Some(ExchangeEnd::TimedOut) => {
                let silence = humantime::format_duration(self.settings.read_timeout);
                UpstreamError::TimedOut { upstream, why: format!("silent for {silence}") }
            }
            _ => UpstreamError::Broken { upstream, why: error.innermost() },
        }
    }

    fn address(&self) -> String {
        self.settings.base.origin().ascii_serialization()
    }
}

/// Asks, and returns at the headers, if they come in time.
async fn ask(
    client: &HttpClient,
    request: Request<RequestBody>,
    silence_max: Duration,
) -> Result<Response<Incoming>, ExchangeError> {
    Ok(timeout(silence_max, client.request(request)).await.map_err(|_elapsed| Silent)??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::mount;

    fn origin(base: &str) -> Origin {
        Origin::of(&Url::parse(base).unwrap()).unwrap()
    }

    #[test]
    fn the_host_is_named_without_its_schemes_own_port() {
        for (base, host) in [
            ("http://u:80/base", "u"),
            ("http://u:8080/base", "u:8080"),
            ("https://U.example:443", "u.example"),
            ("https://u:80", "u:80"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[::1]", "[::1]"),
        ] {
            assert_eq!(origin(base).host, host, "{base}");
        }
    }

    #[test]
    fn what_is_asked_for_is_the_target_to_the_byte() {
        for (base, rest, query) in [
            ("http://u/base", "/v1/x", None),
            ("https://u:8443", "/a%2Fb//c", Some("a=1&b={2}")),
            ("http://[::1]:8080/", "", Some("")),
        ] {
            let base = Url::parse(base).unwrap();
            let target = mount::target(&base, rest, query).unwrap();
            let uri = Origin::of(&base).unwrap().uri(&target).unwrap();
            assert_eq!(uri.to_string(), target.url().as_str());
        }
    }

    #[test]
    fn a_target_that_is_too_long_is_an_error() {
        let base = Url::parse("http://u").unwrap();
        let target = mount::target(&base, &format!("/{}", "a".repeat(1 << 16)), None).unwrap();
        assert!(origin("http://u").uri(&target).is_err());
    }
}
