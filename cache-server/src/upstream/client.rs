//! One upstream: its address, its connection pool, its deadlines.
//!
//! The client follows nothing and changes nothing: no redirects, no proxies from the environment,
//! no decompression, no retries of its own. Bytes pass through as they are. All that it adds is
//! `Accept: */*` where a request says nothing, which means the same (RFC 9110 section 12.5.1).

use std::error::Error as _;
use std::time::Duration;

use http::{HeaderMap, Method, Response, StatusCode};
use reqwest::{Body, Client, Request};
use url::Url;

use super::health::Health;
use super::mount::Target;
use super::{UpstreamError, cache_status, ended, framing};
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

/// An upstream that can be asked.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    client: Client,
    /// For WebSockets, where `client` may speak HTTP/2, which has no `Upgrade`.
    upgrading: Option<Client>,
    health: Health,
    clock: Clock,
}

impl Upstream {
    /// Makes the client; opens no connection.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn new(
        settings: UpstreamSettings,
        metrics: UpstreamMetrics,
        clock: Clock,
    ) -> Result<Upstream, reqwest::Error> {
        let client = client(&settings, settings.protocol)?;
        let may_speak_http2 = match settings.protocol {
            Protocol::Auto => settings.base.scheme() == "https",
            Protocol::Http1 => false,
            Protocol::Http2 => true,
        };
        let upgrading =
            may_speak_http2.then(|| self::client(&settings, Protocol::Http1)).transpose()?;
        let health = Health::new(&settings.name, metrics, clock.clone());
        Ok(Upstream { client, upgrading, settings, health, clock })
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
        body: Body,
    ) -> Result<Response<Body>, UpstreamError> {
        let mut request = Request::new(method, target.url());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body);
        let answer = self.exchange(&self.client, request).await?;
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
    ) -> Result<Response<Body>, UpstreamError> {
        let mut request = Request::new(Method::GET, target.url());
        *request.headers_mut() = headers;
        let client = self.upgrading.as_ref().unwrap_or(&self.client);
        let answer = self.exchange(client, request).await?;
        match answer.status() {
            StatusCode::SWITCHING_PROTOCOLS => Ok(answer),
            _ => self.settle(answer),
        }
    }

    /// Refuses an answer whose end not all readers would agree on, and leaves out what no reader of
    /// `Cache-Status` could read.
    fn settle(&self, mut answer: Response<Body>) -> Result<Response<Body>, UpstreamError> {
        match framing::settle_answer(answer.status(), answer.headers_mut()) {
            Ok(()) => {
                cache_status::keep_if_a_list(answer.headers_mut());
                Ok(answer)
            }
            Err(bad) => {
                self.health.note(ExchangeEnd::Broken);
                let upstream = self.settings.name.clone();
                Err(UpstreamError::Broken { upstream, why: bad.to_string() })
            }
        }
    }

    async fn exchange(
        &self,
        client: &Client,
        request: Request,
    ) -> Result<Response<Body>, UpstreamError> {
        let asked = self.clock.instant();
        let waiting = self.health.wait();
        let response = client.execute(request).await.map_err(|error| self.error(&error))?;
        drop(waiting);
        self.health.metrics().seconds_to_headers.record(asked.elapsed());
        self.health.note(match response.status().as_u16() {
            429 => ExchangeEnd::Limited,
            500..=599 => ExchangeEnd::ServerError,
            _ => ExchangeEnd::Answered,
        });
        Ok(ended::checked(response.into()))
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

    /// Notes an error of the client and sorts it by who must act. It names the upstream and the
    /// innermost cause, never the whole URL: its query may carry a credential.
    #[must_use]
    pub fn error(&self, error: &reqwest::Error) -> UpstreamError {
        let sorted = self.sort(error);
        // A caller that breaks off its own body says nothing about the upstream.
        if !is_the_callers(error) {
            self.health.note(match sorted {
                UpstreamError::Unreachable { .. } => ExchangeEnd::Unreachable,
                UpstreamError::TimedOut { .. } => ExchangeEnd::TimedOut,
                UpstreamError::Broken { .. } => ExchangeEnd::Broken,
            });
        }
        sorted
    }

    fn sort(&self, error: &reqwest::Error) -> UpstreamError {
        let upstream = self.settings.name.clone();
        if error.is_connect() {
            let why = if error.is_timeout() {
                let within = humantime::format_duration(self.settings.connect_timeout);
                format!("no connection to {} within {within}", self.address())
            } else {
                format!("{}: {}", self.address(), innermost(error))
            };
            return UpstreamError::Unreachable { upstream, why };
        }
        if error.is_timeout() {
            let silence = humantime::format_duration(self.settings.read_timeout);
            return UpstreamError::TimedOut { upstream, why: format!("silent for {silence}") };
        }
        UpstreamError::Broken { upstream, why: innermost(error) }
    }

    fn address(&self) -> String {
        self.settings.base.origin().ascii_serialization()
    }
}

/// A client of one upstream, which opens no connection yet.
fn client(settings: &UpstreamSettings, protocol: Protocol) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(settings.connect_timeout)
        .read_timeout(settings.read_timeout)
        .tcp_nodelay(true)
        .pool_idle_timeout(Duration::from_secs(60));
    builder = match protocol {
        Protocol::Auto => builder,
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_prior_knowledge(),
    };
    if settings.base.scheme() == "http" {
        // No redirects are followed, so that TLS is never spoken: the machine's certificate
        // authorities are not needed, and may be missing.
        builder = builder.tls_certs_only([]);
    } else if let Some(pem) = &settings.ca_pem {
        for certificate in reqwest::Certificate::from_pem_bundle(pem)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build()
}

/// Whether the exchange ended because the request's body did.
fn is_the_callers(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_user) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    // Without a source the error itself would print its URL.
    cause.map_or_else(|| "the exchange failed".to_owned(), ToString::to_string)
}
