//! A client as callers have them: a real HTTP client on a real socket.

use std::sync::Once;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use reqwest::{Certificate, ClientBuilder, Method, RequestBuilder};
use serde_json::Value;

use crate::cache_status;

/// A client of one server, with a connection pool of its own.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP version that it came by.
    pub version: Version,
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

fn builder() -> ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
}

fn trusting(address: &str, authority_pem: &str) -> ClientBuilder {
    let authority = Certificate::from_pem(authority_pem.as_bytes()).expect("an authority");
    let address = address.parse().expect("an address");
    builder().tls_certs_only([authority]).resolve("localhost", address)
}

fn base_over_tls(address: &str) -> String {
    let (_, port) = address.rsplit_once(':').expect("a port");
    format!("https://localhost:{port}")
}

impl Client {
    /// A client of the server at `address`.
    #[must_use]
    pub fn of(address: &str) -> Client {
        Client::built(builder(), format!("http://{address}"))
    }

    /// One that speaks HTTP/2 without asking (h2c).
    #[must_use]
    pub fn h2c(address: &str) -> Client {
        Client::built(builder().http2_prior_knowledge(), format!("http://{address}"))
    }

    /// One that speaks TLS, trusts this authority alone, and takes the server for `localhost`.
    ///
    /// # Panics
    /// When the address or the authority is none.
    #[must_use]
    pub fn tls(address: &str, authority_pem: &str) -> Client {
        Client::built(trusting(address, authority_pem), base_over_tls(address))
    }

    /// The same, and it offers HTTP/1.1 alone.
    ///
    /// # Panics
    /// When the address or the authority is none.
    #[must_use]
    pub fn http1_over_tls(address: &str, authority_pem: &str) -> Client {
        Client::built(trusting(address, authority_pem).http1_only(), base_over_tls(address))
    }

    fn built(builder: ClientBuilder, base: String) -> Client {
        Client { http: builder.build().expect("a client"), base }
    }

    /// A request to be completed by the test.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// A POST of JSON with a credential, as SDKs send it.
    pub fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path)
            .header("authorization", "Bearer sk-test")
            .header("content-type", "application/json")
            .body(body.to_string())
    }

    /// Posts and takes the whole answer.
    pub async fn ask(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.post(path, body)).await
    }

    /// Posts as the owner of this credential and takes the whole answer.
    pub async fn ask_as(&self, path: &str, body: &Value, credential: &str) -> Answer {
        let request = self.request(Method::POST, path);
        let request = request
            .header("authorization", format!("Bearer {credential}"))
            .header("content-type", "application/json");
        Answer::of(request.body(body.to_string())).await
    }

    /// Gets and takes the whole answer.
    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }
}

impl Answer {
    /// Sends the request and takes the whole answer.
    ///
    /// # Panics
    /// When there is no complete answer.
    pub async fn of(request: RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (version, status) = (response.version(), response.status());
        let headers = response.headers().clone();
        let body = response.bytes().await.expect("a whole body");
        Answer { version, status, headers, body }
    }

    /// A field's value, or the empty text.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Our member of `Cache-Status`: the last one.
    ///
    /// # Panics
    /// When the field is none by RFC 9211.
    #[must_use]
    pub fn cache_status(&self) -> &str {
        cache_status::check(&self.headers);
        let last = self.headers.get_all("cache-status").iter().next_back();
        last.map_or("", |value| value.to_str().expect("text"))
    }

    /// What all caches in line say of themselves in `Cache-Status`, from the upstream to us.
    ///
    /// # Panics
    /// When the field is none by RFC 9211.
    #[must_use]
    pub fn cache_members(&self) -> Vec<String> {
        cache_status::check(&self.headers);
        let lines = self.headers.get_all("cache-status").iter();
        lines.map(|line| line.to_str().expect("text").to_owned()).collect()
    }

    /// Whether it is a hit.
    #[must_use]
    pub fn is_hit(&self) -> bool {
        self.cache_status().starts_with("cache-server; hit")
    }

    /// For how long what answered is fresh, in seconds; negative if it is stale.
    ///
    /// # Panics
    /// When it does not say.
    #[must_use]
    pub fn ttl_s(&self) -> i64 {
        let said = |member: &str| member.strip_prefix("ttl=").and_then(|ttl| ttl.parse().ok());
        let ttl = self.cache_status().split("; ").find_map(said);
        ttl.unwrap_or_else(|| panic!("no ttl in {:?}", self.cache_status()))
    }

    /// For how many seconds the caller is not to come back, if it is told.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        self.field("retry-after").parse().ok()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("no JSON ({error}): {}", String::from_utf8_lossy(&self.body))
        })
    }
}
