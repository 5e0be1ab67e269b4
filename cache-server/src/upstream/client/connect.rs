//! Connections to an upstream: TCP and, where its URL says so, TLS, within one deadline; and the
//! pool that keeps them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tower::Service;

use super::{Protocol, UpstreamSettings};
use crate::upstream::body::RequestBody;
use crate::upstream::exchange::NotConnected;

/// How long a connection that nobody uses is kept.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// After how long a silence the system asks whether the other end is still there, and how often.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How often it asks in vain before it gives the connection up.
const KEEPALIVE_RETRIES: u32 = 3;
/// How long what was sent may go unconfirmed.
#[cfg(target_os = "linux")]
const UNCONFIRMED_MAX: Duration = Duration::from_secs(30);

/// What an upstream may send of one answer over HTTP/2 before it is read, and of all of one connection:
/// callers who do not read theirs must be many before the others' answers stand still.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// The HTTP library's client: a pool of connections, and requests over them.
pub(super) type HttpClient = Client<Connector, RequestBody>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BadClient {
    /// The base URL's host cannot be asked.
    #[error("its address cannot be used")]
    Address(#[from] http::Error),
    /// What is to be trusted besides is no PEM.
    #[error("its certificate authorities cannot be read")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// No certificates can be checked.
    #[error("its certificate could not be checked")]
    Tls(#[from] rustls::Error),
}

/// A client of one upstream, which opens no connection yet.
///
/// # Errors
/// When the certificates cannot be used.
pub(super) fn client(
    settings: &UpstreamSettings,
    protocol: Protocol,
) -> Result<HttpClient, BadClient> {
    let connector =
        Connector { over: Arc::new(over(settings, protocol)?), timeout: settings.connect_timeout };
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_only(protocol == Protocol::Http2);
    Ok(builder.build(connector))
}

/// Opens connections, each within a deadline.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    /// Shared, for the pool clones it with every request.
    over: Arc<Over>,
    timeout: Duration,
}

/// What connections are made of.
#[derive(Debug)]
enum Over {
    Tcp(HttpConnector),
    Tls(HttpsConnector<HttpConnector>),
}

fn over(settings: &UpstreamSettings, protocol: Protocol) -> Result<Over, BadClient> {
    let tcp = tcp(settings.connect_timeout);
    // Nothing leads from one to the other: no redirect is followed. The machine's certificate
    // authorities may be missing where none is needed.
    if settings.base.scheme() == "http" {
        return Ok(Over::Tcp(tcp));
    }
    let mut tls = tls(settings.ca_pem.as_deref())?;
    let names: &[&str] = match protocol {
        Protocol::Auto => &["h2", "http/1.1"],
        Protocol::Http1 => &["http/1.1"],
        Protocol::Http2 => &["h2"],
    };
    tls.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Over::Tls(HttpsConnector::from((tcp, tls))))
}

fn tcp(timeout: Duration) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    // Of this one each of a host's addresses has its part.
    tcp.set_connect_timeout(Some(timeout));
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNCONFIRMED_MAX));
    // The scheme is looked at where TLS is added.
    tcp.enforce_http(false);
    tcp
}

/// Trusts what the machine trusts, and these authorities besides.
fn tls(more: Option<&[u8]>) -> Result<ClientConfig, BadClient> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let more = CertificateDer::pem_slice_iter(more.unwrap_or_default());
    let more: Vec<_> = more.collect::<Result<_, _>>()?;
    let verifier = if more.is_empty() {
        Verifier::new(Arc::clone(&provider))?
    } else {
        Verifier::new_with_extra_roots(more, Arc::clone(&provider))?
    };
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(config.with_no_client_auth())
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Connector { over, timeout } = self.clone();
        Box::pin(async move {
            let stands = tokio::time::timeout(timeout, over.open(to)).await;
            stands.map_err(|_elapsed| NotConnected)?
        })
    }
}

impl Over {
    async fn open(&self, to: Uri) -> Result<Stream, BoxError> {
        match self {
            Over::Tcp(tcp) => Ok(Stream::Http(tcp.clone().call(to).await?)),
            Over::Tls(tls) => tls.clone().call(to).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use url::Url;

    fn made(base: &str, ca_pem: Option<&[u8]>) -> Result<HttpClient, BadClient> {
        let settings = UpstreamSettings {
            name: "u".into(),
            base: Url::parse(base).unwrap(),
            identity: base.into(),
            prefix: String::new(),
            hosts: Vec::new(),
            protocol: Protocol::Auto,
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(1),
            ca_pem: ca_pem.map(Into::into),
        };
        client(&settings, Protocol::Auto)
    }

    #[test]
    fn authorities_that_cannot_be_read_are_an_error_where_tls_is_spoken() {
        let broken = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(matches!(made("https://u", Some(broken)), Err(BadClient::Pem(_))));
        assert!(made("http://u", Some(broken)).is_ok());
    }

    #[test]
    fn an_authority_of_ones_own_is_trusted_besides() {
        let ours = rcgen::generate_simple_self_signed(["u".to_owned()]).unwrap();
        assert!(made("https://u", Some(ours.cert.pem().as_bytes())).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_stand_in_time_is_given_up() {
        // It is accepted, and then nothing is said: TLS is included in the deadline.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let ours = rcgen::generate_simple_self_signed(["u".to_owned()]).unwrap();
        let client = made(&base, Some(ours.cert.pem().as_bytes())).unwrap();
        let mut request = http::Request::new(RequestBody::empty());
        *request.uri_mut() = base.parse().unwrap();
        let error = client.request(request).await.unwrap_err();
        let error = crate::upstream::exchange::ExchangeError::from(error);
        assert!(error.is_connect() && error.is_timeout());
    }
}
