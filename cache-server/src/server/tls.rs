//! TLS on the data listener: the handshake, and a certificate that is read again when it changes.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::converse::Protocol;
use super::wire::Outgoing;
use crate::app::App;
use crate::config::ConfigError;
use crate::config::certificate::Certificate;
use crate::config::watch::Watch;

/// Agrees on keys and a protocol. A caller that names no protocol gets HTTP/1.1.
pub(super) async fn shake_hands(
    certificate: &Certificate,
    socket: Outgoing,
) -> std::io::Result<(TlsStream<Outgoing>, Protocol)> {
    let stream = TlsAcceptor::from(certificate.current()).accept(socket).await?;
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    Ok((stream, protocol))
}

/// Reads the certificate and its key again. Connections that stand keep theirs; a pair that
/// cannot be used leaves the old one in use, and the log says why.
pub fn reread_certificate(app: &App) {
    if let Some(certificate) = &app.certificate {
        log(certificate.reread(), &mut None);
    }
}

/// `last` is the mistake that was logged last: each is said once, however often files change.
fn log(reread: Result<bool, ConfigError>, last: &mut Option<ConfigError>) {
    match reread {
        Ok(true) => tracing::info!("the certificate was read again"),
        Ok(false) => {}
        Err(error) if last.as_ref() == Some(&error) => return,
        Err(error) => {
            tracing::warn!(%error, "the new certificate cannot be used; the old one stays in use");
            *last = Some(error);
            return;
        }
    }
    *last = None;
}

/// Reads the certificate again whenever its files change, for as long as it is polled.
pub(super) async fn follow_certificate(app: Arc<App>) {
    let Some(certificate) = &app.certificate else { return };
    let files = certificate.files();
    let watch = Watch::begin([files.cert_file.as_path(), files.key_file.as_path()]);
    let mut watch = match watch {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!(%error, "changes of the certificate's files will not be noticed");
            return;
        }
    };
    let mut last = None;
    loop {
        // Before the first change, too: the files may have changed since they were first read.
        let reading = Arc::clone(&app);
        let reread = tokio::task::spawn_blocking(move || {
            reading.certificate.as_ref().map(Certificate::reread)
        });
        if let Ok(Some(reread)) = reread.await {
            log(reread, &mut last);
        }
        watch.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_said_once_until_it_changes() {
        let error = |field: &str| ConfigError {
            field: field.into(),
            value: "x".into(),
            allowed: "y".into(),
        };
        let mut last = None;
        log(Err(error("a")), &mut last);
        assert_eq!(last, Some(error("a")));
        log(Err(error("b")), &mut last);
        assert_eq!(last, Some(error("b")));
        log(Ok(false), &mut last);
        assert_eq!(last, None);
    }
}
