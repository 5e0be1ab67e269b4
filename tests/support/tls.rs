//! TLS by a certificate authority made for the occasion: in front of a fake upstream, and for
//! the server itself.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::Upstream;

/// Ends TLS (HTTP/2 or HTTP/1.1, as the client likes) and passes the bytes to an upstream.
#[derive(Debug)]
pub struct TlsFront {
    port: u16,
    authority_pem: String,
    task: JoinHandle<()>,
}

impl TlsFront {
    /// Puts TLS in front of `upstream`.
    pub async fn of(upstream: &Upstream) -> TlsFront {
        let (config, authority_pem) = certify();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let behind = upstream.url().trim_start_matches("http://").to_owned();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                tokio::spawn(async move {
                    // A client that does not trust us ends the handshake; that is its test.
                    let Ok(mut outside) = acceptor.accept(stream).await else { return };
                    let mut inside = TcpStream::connect(&behind).await.expect("the upstream");
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
        TlsFront { port, authority_pem, task }
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Writes its certificate authority where a config can name it.
    pub fn write_authority(&self, path: &Path) {
        std::fs::write(path, &self.authority_pem).expect("the authority is written");
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A certificate for `localhost`, and the authority that signed for it.
#[derive(Debug)]
pub struct Certified {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: String,
    /// The authority, for those who are to trust it.
    pub authority_pem: String,
    cert: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Certified {
    /// Makes one; no two share an authority.
    ///
    /// # Panics
    /// Never: its parameters are fixed.
    #[must_use]
    pub fn make() -> Certified {
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Whose issuer has the same name as itself passes for self-signed in OpenSSL.
        authority.distinguished_name.push(DnType::CommonName, "an authority for tests");
        let authority_key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(authority, authority_key);
        let authority = authority.expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        leaf.distinguished_name.push(DnType::CommonName, "localhost");
        let leaf = leaf.signed_by(&key, &authority).expect("a certificate");
        Certified {
            cert_pem: leaf.pem(),
            key_pem: key.serialize_pem(),
            authority_pem: authority.pem(),
            cert: leaf.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        }
    }

    /// Writes certificate and key where a config can name them, as `tls.crt` and `tls.key`.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn write_to(&self, folder: &Path) {
        std::fs::write(folder.join("tls.crt"), &self.cert_pem).expect("the certificate is written");
        std::fs::write(folder.join("tls.key"), &self.key_pem).expect("the key is written");
    }
}

fn certify() -> (ServerConfig, String) {
    let certified = Certified::make();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert], certified.key)
        .expect("a server config");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (config, certified.authority_pem)
}
