//! The certificate that callers over TLS are shown, and its key: two PEM files, read and checked
//! together, and read again when they change.
//!
//! A pair that cannot be used never replaces one that can. Neither file's text is ever in an
//! error, for people name the wrong file, and the key is a secret.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{ConfigError, read_file};

const CERT_FIELD: &str = "server.tls_cert_file";
const KEY_FIELD: &str = "server.tls_key_file";

/// Where the certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, then those that lead to its authority.
    pub cert_file: PathBuf,
    /// PEM: the private key (PKCS #8, PKCS #1 or SEC 1).
    pub key_file: PathBuf,
}

impl CertificateFiles {
    /// Both files of the config or neither.
    ///
    /// # Errors
    /// When only one is named.
    pub fn pair(
        cert_file: Option<&PathBuf>,
        key_file: Option<&PathBuf>,
    ) -> Result<Option<CertificateFiles>, ConfigError> {
        let missing = |field| {
            ConfigError::new(field, "(not set)", "a certificate and its key are set together")
        };
        match (cert_file, key_file) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(missing(CERT_FIELD)),
            (Some(_), None) => Err(missing(KEY_FIELD)),
            (Some(cert_file), Some(key_file)) => Ok(Some(CertificateFiles {
                cert_file: cert_file.clone(),
                key_file: key_file.clone(),
            })),
        }
    }

    /// Reads both and makes of them what a listener needs.
    ///
    /// # Errors
    /// When a file cannot be read, is no PEM of its kind, or the key is another certificate's.
    pub fn read(&self) -> Result<Pair, ConfigError> {
        let cert_pem = read_file(CERT_FIELD, &self.cert_file)?;
        let key_pem = read_file(KEY_FIELD, &self.key_file)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(cert_pem.len() as u64).to_le_bytes()).update(&cert_pem).update(&key_pem);
        let config = self.listener_config(&cert_pem, &key_pem)?;
        Ok(Pair { digest: hasher.finalize(), config: Arc::new(config) })
    }

    fn listener_config(
        &self,
        cert_pem: &[u8],
        key_pem: &[u8],
    ) -> Result<ServerConfig, ConfigError> {
        let chain = chain(CERT_FIELD, &self.cert_file, cert_pem)?;
        let key = private_key(KEY_FIELD, &self.key_file, key_pem)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring serves the default versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| {
                let allowed = format!("does not fit {CERT_FIELD}: {error}");
                ConfigError::new(KEY_FIELD, self.key_file.display(), &allowed)
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// A PEM file of certificates, as it is.
///
/// # Errors
/// When it cannot be read, or holds none.
pub(super) fn certificates(field: &str, file: &Path) -> Result<Vec<u8>, ConfigError> {
    let pem = read_file(field, file)?;
    chain(field, file, &pem)?;
    Ok(pem)
}

/// The certificates of a PEM file.
///
/// # Errors
/// When it holds none.
fn chain(
    field: &str,
    file: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    chain.ok_or_else(|| ConfigError::new(field, file.display(), "holds no PEM certificate"))
}

/// The private key of a PEM file.
///
/// # Errors
/// When it holds none, or one that is encrypted.
pub(super) fn private_key(
    field: &str,
    file: &Path,
    pem: &[u8],
) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let allowed = "holds no unencrypted PEM private key";
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| ConfigError::new(field, file.display(), allowed))
}

/// A certificate and its key as they were read.
pub struct Pair {
    /// Of both files' bytes, to tell a change.
    digest: blake3::Hash,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair")
    }
}

/// The certificate in use.
#[derive(Debug)]
pub struct Certificate {
    files: CertificateFiles,
    current: RwLock<Pair>,
}

impl Certificate {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// Those of [`CertificateFiles::read`].
    pub fn load(files: CertificateFiles) -> Result<Certificate, ConfigError> {
        let current = RwLock::new(files.read()?);
        Ok(Certificate { files, current })
    }

    /// Where it is.
    #[must_use]
    pub fn files(&self) -> &CertificateFiles {
        &self.files
    }

    /// What the next connection is to be shown.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// Reads both files again. Connections that stand keep what they were shown. Says whether
    /// anything has changed.
    ///
    /// # Errors
    /// Those of [`CertificateFiles::read`]; the one in use then stays in use.
    pub fn reread(&self) -> Result<bool, ConfigError> {
        let pair = self.files.read()?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = current.digest != pair.digest;
        if changed {
            *current = pair;
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn write_pair(folder: &TempDir) -> CertificateFiles {
        let files = CertificateFiles {
            cert_file: folder.path().join("tls.crt"),
            key_file: folder.path().join("tls.key"),
        };
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        std::fs::write(&files.cert_file, made.cert.pem()).unwrap();
        std::fs::write(&files.key_file, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn a_pair_is_set_together_or_not_at_all() {
        let path = PathBuf::from("/x");
        assert_eq!(CertificateFiles::pair(None, None), Ok(None));
        let error = CertificateFiles::pair(Some(&path), None).unwrap_err();
        assert_eq!((error.field.as_str(), error.value.as_str()), (KEY_FIELD, "(not set)"));
        let error = CertificateFiles::pair(None, Some(&path)).unwrap_err();
        assert_eq!(error.field, CERT_FIELD);
    }

    #[test]
    fn a_mistake_names_the_field_and_never_shows_the_text() {
        let folder = TempDir::new().unwrap();
        let files = write_pair(&folder);
        let other = write_pair(&TempDir::new().unwrap());
        let swapped = CertificateFiles {
            cert_file: files.key_file.clone(),
            key_file: files.cert_file.clone(),
        };
        let error = swapped.read().unwrap_err();
        assert_eq!(error.field, CERT_FIELD);
        assert!(!error.to_string().contains("BEGIN"), "{error}");

        assert_eq!(
            CertificateFiles { key_file: files.cert_file.clone(), ..files.clone() }
                .read()
                .unwrap_err()
                .field,
            KEY_FIELD
        );
        let gone = CertificateFiles { cert_file: other.cert_file, ..files };
        let error = gone.read().unwrap_err();
        assert_eq!(error.field, CERT_FIELD);
        assert!(error.allowed.starts_with("cannot be read"), "{error}");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let files = write_pair(&folder);
        let other = write_pair(&elsewhere);
        let mixed = CertificateFiles { key_file: other.key_file, ..files };
        let error = mixed.read().unwrap_err();
        assert_eq!(error.field, KEY_FIELD);
        assert!(error.allowed.contains(CERT_FIELD), "{error}");
    }

    #[test]
    fn a_new_pair_replaces_the_old_and_a_bad_one_does_not() {
        let folder = TempDir::new().unwrap();
        let certificate = Certificate::load(write_pair(&folder)).unwrap();
        let first = certificate.current();
        assert_eq!(certificate.reread(), Ok(false), "nothing has changed");
        assert!(Arc::ptr_eq(&first, &certificate.current()));

        write_pair(&folder);
        assert_eq!(certificate.reread(), Ok(true));
        let second = certificate.current();
        assert!(!Arc::ptr_eq(&first, &second));

        std::fs::write(&certificate.files().key_file, "no key").unwrap();
        assert_eq!(certificate.reread().unwrap_err().field, KEY_FIELD);
        assert!(Arc::ptr_eq(&second, &certificate.current()), "the good one stays");
    }
}
