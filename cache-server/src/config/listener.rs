//! The checks of those `[server]` fields that say who may connect, how, and under which name.

use std::net::IpAddr;

use http::uri::Authority;
use ipnet::IpNet;

use super::certificate::CertificateFiles;
use super::{ConfigError, written};

/// The certificate's files, if TLS is configured. They are read once here, so that a mistake in
/// them is a mistake in the config.
pub(super) fn certificate(
    server: &written::Server,
) -> Result<Option<CertificateFiles>, ConfigError> {
    let files =
        CertificateFiles::pair(server.tls_cert_file.as_ref(), server.tls_key_file.as_ref())?;
    if let Some(files) = &files {
        files.read()?;
    }
    Ok(files)
}

/// The names in lower case, as they are compared.
pub(super) fn hosts(server: &written::Server) -> Result<Vec<String>, ConfigError> {
    let check = |(index, name): (usize, &String)| {
        let plain = |authority: &Authority| authority.host() == name && !name.contains('@');
        if name.parse::<Authority>().is_ok_and(|authority| plain(&authority)) {
            return Ok(name.to_ascii_lowercase());
        }
        let allowed = "a name or address without port, such as cache.example.com or [::1]";
        Err(ConfigError::new(format!("server.hosts[{index}]"), name, allowed))
    };
    server.hosts.iter().enumerate().map(check).collect()
}

/// Whose connections begin with a PROXY protocol header.
pub(super) fn proxy_protocol_from(server: &written::Server) -> Result<Vec<IpNet>, ConfigError> {
    networks("server.proxy_protocol_from", &server.proxy_protocol_from)
}

/// Who may purge by the PURGE method.
pub(super) fn purge_from(server: &written::Server) -> Result<Vec<IpNet>, ConfigError> {
    networks("server.purge_from", &server.purge_from)
}

/// The networks; a plain address is a network of one.
fn networks(field: &str, listed: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    let check = |(index, text): (usize, &String)| {
        let network =
            text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network.ok_or_else(|| {
            let field = format!("{field}[{index}]");
            ConfigError::new(field, text, "an address or network such as 10.0.0.0/8 or 192.0.2.7")
        })
    };
    listed.iter().enumerate().map(check).collect()
}

/// Each stream has a task and windows of its own, so that a slip of the pen must not allow
/// millions.
pub(super) fn streams_max(server: &written::Server) -> Result<u32, ConfigError> {
    if (1..=10_000).contains(&server.streams_max) {
        return Ok(server.streams_max);
    }
    Err(ConfigError::new("server.streams_max", server.streams_max, "1 to 10000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(toml: &str) -> written::Server {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn a_network_is_written_with_or_without_its_length() {
        let found = proxy_protocol_from(&server(
            "proxy_protocol_from = ['10.0.0.0/8', '192.0.2.7', 'fd00::/8']",
        ))
        .unwrap();
        let holds = |text: &str| {
            let address: IpAddr = text.parse().unwrap();
            found.iter().any(|network| network.contains(&address))
        };
        assert!(holds("10.255.0.1") && holds("192.0.2.7") && holds("fd00::1"));
        assert!(!holds("11.0.0.1") && !holds("192.0.2.8") && !holds("fe80::1"));
    }

    #[test]
    fn hosts_are_names_without_a_port() {
        let found = hosts(&server("hosts = ['Cache.Example.com', '[::1]', '127.0.0.1']")).unwrap();
        assert_eq!(found, ["cache.example.com", "[::1]", "127.0.0.1"]);
        for bad in ["cache:80", "a b", "http://cache", "u@cache", "", "cache/x"] {
            let error = hosts(&server(&format!("hosts = ['ok', '{bad}']"))).unwrap_err();
            assert_eq!((error.field.as_str(), error.value.as_str()), ("server.hosts[1]", bad));
        }
    }

    #[test]
    fn mistakes_name_the_field_and_what_is_allowed() {
        let error = proxy_protocol_from(&server("proxy_protocol_from = ['10.0.0/8']")).unwrap_err();
        assert_eq!(error.field, "server.proxy_protocol_from[0]");
        for count in [0, 10_001] {
            let error = streams_max(&server(&format!("streams_max = {count}"))).unwrap_err();
            assert_eq!(
                (error.field.as_str(), error.allowed.as_str()),
                ("server.streams_max", "1 to 10000")
            );
        }
        let error = certificate(&server("tls_cert_file = '/gone'")).unwrap_err();
        assert_eq!(error.field, "server.tls_key_file");
    }
}
