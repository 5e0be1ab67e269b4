//! One upstream: its address, its connection pool, its deadlines.
//!
//! The client follows nothing and changes nothing: no redirects, no proxies from the environment,
//! no decompression, no retries of its own. Bytes pass through as they are. All that it adds is
//! `Accept: */*` where a request says nothing, which means the same (RFC 9110 section 12.5.1).

use std::error::Error as _;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Response};
use metrics::Histogram;
use reqwest::{Body, Client, Request};
use url::Url;

use super::UpstreamError;
use super::mount::Target;

/// Which HTTP is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
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
#[derive(Clone, Debug)]
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
    /// Which HTTP it is spoken to in.
    pub protocol: Protocol,
    /// Until a connection stands, TLS included.
    pub connect_timeout: Duration,
    /// The longest silence: before the headers, and between two reads of the body.
    pub read_timeout: Duration,
    /// More certificate authorities to trust, as PEM.
    pub ca_pem: Option<Vec<u8>>,
}

/// An upstream that can be asked.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    client: Client,
    seconds_to_headers: Histogram,
    seconds_to_end: Histogram,
}

impl Upstream {
    /// Makes the client; opens no connection.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn new(
        settings: UpstreamSettings,
        (seconds_to_headers, seconds_to_end): (Histogram, Histogram),
    ) -> Result<Upstream, reqwest::Error> {
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(settings.connect_timeout)
            .read_timeout(settings.read_timeout)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(60));
        builder = match settings.protocol {
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
        Ok(Upstream { client: builder.build()?, settings, seconds_to_headers, seconds_to_end })
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
        let asked = Instant::now();
        let mut request = Request::new(method, target.url());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body);
        let response = self.client.execute(request).await.map_err(|error| self.error(&error))?;
        self.seconds_to_headers.record(asked.elapsed());
        Ok(response.into())
    }

    /// Records how long a whole answer took.
    pub fn record_end(&self, took: Duration) {
        self.seconds_to_end.record(took);
    }

    /// Sorts an error of the client by who must act. It names the upstream and the innermost
    /// cause, never the whole URL: its query may carry a credential.
    #[must_use]
    pub fn error(&self, error: &reqwest::Error) -> UpstreamError {
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

fn innermost(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    // Without a source the error itself would print its URL.
    cause.map_or_else(|| "the exchange failed".to_owned(), ToString::to_string)
}
