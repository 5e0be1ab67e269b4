//! `[redis]`: where the shared tier is, read from its URL, and the secrets that go with it.
//!
//! One URL says which kind of Redis it is: `redis://host` is one server, `redis+sentinel://` asks
//! sentinels for the master, `redis+cluster://` is a cluster; `rediss` instead of `redis` is TLS. A
//! password may stand in the URL, in a file or in the environment; no error repeats it.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use keyspec::percent_decoded;

use super::certificate::{self, certificates};
use super::written::Span;
use super::{ConfigError, at_least_one, bytes, positive, read_file, written};
use crate::cache::tiers::redis::Form;
use crate::cache::tiers::redis::settings::{
    Address, ClientCertificate, Password, Place, RedisSettings, Tls,
};

/// The variable that holds the password; it goes before the other two.
pub const PASSWORD_VARIABLE: &str = "CACHE_SERVER_REDIS_PASSWORD";
const URL_FIELD: &str = "redis.url";
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// Bytes of a prefix.
const PREFIX_BYTES_MAX: usize = 64;
/// Bytes of a server's name.
const NODE_BYTES_MAX: usize = 64;
/// The bounds of the time for which entries are given without contact.
const COHERENCE_LIFETIME_MIN: Duration = Duration::from_secs(1);
const COHERENCE_LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Connections for reads.
const CONNECTIONS_MAX: usize = 64;
const ALLOWED: &str = "redis://[user[:password]@]host[:port][/database], \
                       redis+sentinel://host:port,host:port/master[/database] or \
                       redis+cluster://host:port,host:port; rediss instead of redis for TLS";

/// The shared tier, if a URL is set. An entry has at most `entry_bytes_max` bytes.
pub(super) fn check(
    redis: &written::Redis,
    entry_bytes_max: usize,
) -> Result<Option<RedisSettings>, ConfigError> {
    let Some(url) = &redis.url else { return Ok(None) };
    let target = Target::parse(url)?;
    let environment = std::env::var_os(PASSWORD_VARIABLE);
    let file = secret("redis.password_file", redis.password_file.as_deref())?;
    let password = password_of(environment.as_deref())?.or(file).or(target.password);
    let username = redis.username.clone().or(target.username);
    if username.is_some() && password.is_none() {
        let allowed =
            format!("a user needs a password: redis.password_file or {PASSWORD_VARIABLE}");
        return Err(ConfigError::new("redis.username", "(set)", &allowed));
    }
    Ok(Some(RedisSettings {
        address: target.address,
        username,
        password,
        sentinel_password: secret(
            "redis.sentinel_password_file",
            redis.sentinel_password_file.as_deref(),
        )?,
        database: target.database,
        tls: tls(redis, target.has_tls)?,
        prefix: prefix(&redis.prefix)?,
        deadline: positive("redis.deadline", redis.deadline)?,
        write_deadline: positive("redis.write_deadline", redis.write_deadline)?,
        connections: connections(redis.connections)?,
        form: Form {
            value_bytes_max: value_bytes_max(redis)?,
            compress_bytes_min: bytes("redis.compress_bytes_min", redis.compress_bytes_min)?,
            entry_bytes_max,
        },
        node: node(redis.node.as_deref())?,
        shared_flights: redis.shared_flights,
        coherence_lifetime: coherence_lifetime(redis.coherence_lifetime)?,
        write_queue_entries_max: at_least_one(
            "redis.write_queue_entries_max",
            redis.write_queue_entries_max,
        )?,
        write_queue_bytes_max: bytes("redis.write_queue_bytes_max", redis.write_queue_bytes_max)?,
    }))
}

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    address: Address,
    has_tls: bool,
    username: Option<String>,
    password: Option<Password>,
    database: i64,
}

impl Target {
    fn parse(url: &str) -> Result<Target, ConfigError> {
        Target::parts(url).ok_or_else(|| ConfigError::new(URL_FIELD, masked(url), ALLOWED))
    }

    fn parts(url: &str) -> Option<Target> {
        let (scheme, rest) = url.split_once("://")?;
        let (family, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let has_tls = match family {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return None,
        };
        if rest.contains(['?', '#']) {
            return None;
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (username, password) = login.map_or(Some((None, None)), credentials)?;
        let default_port = if kind == "sentinel" { SENTINEL_PORT } else { PORT };
        let places = hosts.split(',').map(|host| place(host, default_port));
        let mut places = places.collect::<Option<Vec<Place>>>()?;
        let path = path.trim_end_matches('/');
        let (address, database) = match kind {
            "" if places.len() == 1 => (Address::One(places.remove(0)), database(path)?),
            "sentinel" => {
                let (master, path) = path.split_once('/').unwrap_or((path, ""));
                let address = Address::Sentinel { sentinels: places, master: plain(master)? };
                (address, database(path)?)
            }
            "cluster" if path.is_empty() => (Address::Cluster(places), 0),
            _ => return None,
        };
        Some(Target { address, has_tls, username, password, database })
    }
}

/// `user:password`, either of which may be missing, percent-encoded where it holds `@`, `/` or `:`.
fn credentials(login: &str) -> Option<(Option<String>, Option<Password>)> {
    let decoded = |text: &str| {
        let decoded = String::from_utf8(percent_decoded(text)?.into_owned()).ok()?;
        Some((!decoded.is_empty()).then_some(decoded))
    };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    Some((decoded(user)?, decoded(password)?.map(Password)))
}

fn place(text: &str, default_port: u16) -> Option<Place> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':').unwrap_or(port))
        }
        None => text.rsplit_once(':').unwrap_or((text, "")),
    };
    let port =
        if port.is_empty() { default_port } else { port.parse().ok().filter(|it| *it > 0)? };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    let is_plain = !host.is_empty() && host.len() <= 253 && host.bytes().all(is_host);
    is_plain.then(|| Place { host: host.to_owned(), port })
}

fn database(path: &str) -> Option<i64> {
    if path.is_empty() {
        Some(0)
    } else {
        path.parse().ok().filter(|number| (0..65_536).contains(number))
    }
}

fn plain(master: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (!master.is_empty() && master.bytes().all(is_plain)).then(|| master.to_owned())
}

/// A URL without what may be a password in it: where a host was forgotten, what looks like one may be
/// that, so that nothing is shown of what does not parse.
#[must_use]
pub fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "(hidden)".into() };
    if Target::parts(url).is_none() && rest.contains([':', '@']) {
        return format!("{scheme}://(hidden)");
    }
    let Some((login, after)) = rest.rsplit_once('@') else { return url.to_owned() };
    match login.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:(hidden)@{after}"),
        None => format!("{scheme}://{login}@{after}"),
    }
}

fn password_of(environment: Option<&OsStr>) -> Result<Option<Password>, ConfigError> {
    let Some(value) = environment else { return Ok(None) };
    let text = value.to_str().map(str::trim).filter(|text| !text.is_empty());
    let allowed = "a password that is text";
    let password = text.map(|text| Password(text.to_owned()));
    password.map(Some).ok_or_else(|| ConfigError::new(PASSWORD_VARIABLE, "(hidden)", allowed))
}

/// A password from a file; white space around it is left out.
fn secret(field: &str, file: Option<&Path>) -> Result<Option<Password>, ConfigError> {
    let Some(file) = file else { return Ok(None) };
    let text = String::from_utf8(read_file(field, file)?).unwrap_or_default();
    match text.trim() {
        "" => Err(ConfigError::new(field, file.display(), "holds no password")),
        password => Ok(Some(Password(password.to_owned()))),
    }
}

fn tls(redis: &written::Redis, has_tls: bool) -> Result<Option<Tls>, ConfigError> {
    let (ca, cert, key) = (&redis.ca_file, &redis.client_cert_file, &redis.client_key_file);
    if !has_tls {
        for (field, file) in [("ca_file", ca), ("client_cert_file", cert), ("client_key_file", key)]
        {
            if let Some(file) = file {
                let allowed = "it needs TLS: a URL with rediss instead of redis";
                return Err(ConfigError::new(format!("redis.{field}"), file.display(), allowed));
            }
        }
        return Ok(None);
    }
    let ca_pem = ca.as_ref().map(|file| certificates("redis.ca_file", file)).transpose()?;
    let client = match (cert, key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(ClientCertificate {
            cert_pem: certificates("redis.client_cert_file", cert)?,
            key_pem: private_key("redis.client_key_file", key)?,
        }),
        (Some(_), None) | (None, Some(_)) => {
            let field = if cert.is_some() { "client_key_file" } else { "client_cert_file" };
            let allowed = "a certificate and its key are set together";
            return Err(ConfigError::new(format!("redis.{field}"), "(not set)", allowed));
        }
    };
    Ok(Some(Tls { ca_pem, client }))
}

fn private_key(field: &str, file: &Path) -> Result<Vec<u8>, ConfigError> {
    let pem = read_file(field, file)?;
    certificate::private_key(field, file, &pem)?;
    Ok(pem)
}

/// The host's name is made to fit; one that is given has to.
fn node(given: Option<&str>) -> Result<String, ConfigError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let Some(name) = given else {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let fit: String = host.chars().filter(|c| is_plain(*c)).take(NODE_BYTES_MAX).collect();
        return Ok(if fit.is_empty() { "unnamed".to_owned() } else { fit });
    };
    if (1..=NODE_BYTES_MAX).contains(&name.len()) && name.chars().all(is_plain) {
        return Ok(name.to_owned());
    }
    Err(ConfigError::new("redis.node", name, "1 to 64 letters, digits, and . - _"))
}

/// Contact is had twice a second; and what was purged long ago nobody is to see again.
fn coherence_lifetime(span: Span) -> Result<Duration, ConfigError> {
    if (COHERENCE_LIFETIME_MIN..=COHERENCE_LIFETIME_MAX).contains(&span.0) {
        return Ok(span.0);
    }
    let given = humantime::format_duration(span.0);
    Err(ConfigError::new("redis.coherence_lifetime", given, "1s to 30days"))
}

/// Braces would make a cluster put all keys into one slot.
fn prefix(prefix: &str) -> Result<String, ConfigError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:/".contains(&byte);
    let fits = (1..=PREFIX_BYTES_MAX).contains(&prefix.len());
    if fits && prefix.bytes().all(is_plain) {
        return Ok(prefix.to_owned());
    }
    Err(ConfigError::new("redis.prefix", prefix, "1 to 64 letters, digits, and . - _ : /"))
}

fn connections(count: usize) -> Result<usize, ConfigError> {
    if (1..=CONNECTIONS_MAX).contains(&count) {
        return Ok(count);
    }
    Err(ConfigError::new("redis.connections", count, "1 to 64"))
}

fn value_bytes_max(redis: &written::Redis) -> Result<usize, ConfigError> {
    let size = bytes("redis.value_bytes_max", redis.value_bytes_max)?;
    if (1024..=16 << 20).contains(&size) {
        return Ok(size);
    }
    let allowed = "1 KiB to 16 MiB";
    Err(ConfigError::new("redis.value_bytes_max", redis.value_bytes_max, allowed))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::written::Span;

    fn at(host: &str, port: u16) -> Place {
        Place { host: host.into(), port }
    }

    fn target(url: &str) -> Target {
        Target::parse(url).unwrap()
    }

    #[test]
    fn a_url_names_one_server_a_master_or_a_cluster() {
        assert_eq!(target("redis://localhost").address, Address::One(at("localhost", 6379)));
        assert_eq!(target("valkey://[::1]:7000/3").address, Address::One(at("::1", 7000)));
        assert_eq!(target("redis://h/3").database, 3);
        let sentinel = target("redis+sentinel://a,b:26380/mymaster/2");
        let sentinels = vec![at("a", 26379), at("b", 26380)];
        assert_eq!(sentinel.address, Address::Sentinel { sentinels, master: "mymaster".into() });
        assert_eq!((sentinel.database, sentinel.has_tls), (2, false));
        let cluster = target("rediss+cluster://a:1,b:2");
        assert_eq!(cluster.address, Address::Cluster(vec![at("a", 1), at("b", 2)]));
        assert!(cluster.has_tls);
    }

    #[test]
    fn a_user_and_a_password_may_stand_in_the_url() {
        let named = target("redis://app:p%40ss%2Fword@h:1");
        assert_eq!(named.username.as_deref(), Some("app"));
        assert_eq!(named.password, Some(Password("p@ss/word".into())));
        let unnamed = target("redis://:pass@h");
        assert_eq!((unnamed.username, unnamed.password), (None, Some(Password("pass".into()))));
    }

    #[test]
    fn what_is_no_such_url_is_refused_without_its_password() {
        for url in [
            "h:6379",
            "http://app:s3cret@h",
            "redis://app:s3cret@",
            "redis://app:s3cret@h:0",
            "redis://app:s3cret@h:99999",
            "redis://app:s3cret@a,b",
            "redis://app:s3cret@h/x",
            "redis://app:s3cret@h/-1",
            "redis://app:s3cret@h?db=1",
            "redis://app:s3%zz@h",
            "redis+sentinel://app:s3cret@h",
            "redis+cluster://app:s3cret@h/1",
            "redis+other://app:s3cret@h",
            "app:s3cret@h",
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(
                error.starts_with("redis.url: ") && error.contains("redis+sentinel://"),
                "{error}"
            );
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        assert_eq!(masked("redis://h:1/0"), "redis://h:1/0");
        assert_eq!(masked("redis://app:s3cret@h:1"), "redis://app:(hidden)@h:1");
        assert_eq!(masked("redis://:s3@cret@h"), "redis://:(hidden)@h");
        assert_eq!(masked("redis://app:s3cret"), "redis://(hidden)");
        assert_eq!(masked("s3cret"), "(hidden)");
        assert_eq!(masked("redis+other://h"), "redis+other://h");
    }

    #[test]
    fn without_a_url_there_is_no_redis_and_nothing_else_is_looked_at() {
        let redis = written::Redis { prefix: "{".into(), ..written::Redis::default() };
        assert!(check(&redis, 1).unwrap().is_none());
    }

    #[test]
    fn every_bound_is_named_with_what_is_allowed() {
        let set = || written::Redis { url: Some("redis://h".into()), ..written::Redis::default() };
        let size = bytesize::ByteSize::b;
        for (redis, field, allowed) in [
            (written::Redis { node: Some("a b".into()), ..set() }, "redis.node: a b", "letters"),
            (written::Redis { node: Some("a".repeat(65)), ..set() }, "redis.node: aaa", "1 to 64"),
            (written::Redis { prefix: "a{b}".into(), ..set() }, "redis.prefix: a{b}", "letters"),
            (written::Redis { connections: 0, ..set() }, "redis.connections: 0", "1 to 64"),
            (
                written::Redis { value_bytes_max: size(1), ..set() },
                "redis.value_bytes_max: 1 B",
                "1 KiB",
            ),
            (
                written::Redis { deadline: Span(Duration::ZERO), ..set() },
                "redis.deadline: 0s",
                "above zero",
            ),
            (
                written::Redis { ca_file: Some("/ca.pem".into()), ..set() },
                "redis.ca_file: /ca.pem",
                "rediss",
            ),
            (
                written::Redis { password_file: Some("/no/such".into()), ..set() },
                "redis.password_file: /no/such",
                "cannot be read",
            ),
            (
                written::Redis { username: Some("app".into()), ..set() },
                "redis.username: (set)",
                "password",
            ),
        ] {
            let error = check(&redis, 1 << 20).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains(allowed), "{error}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let url = "redis://app:s3cret@h";
        let redis = written::Redis { url: Some(url.into()), ..written::Redis::default() };
        let settings = check(&redis, 1 << 20).unwrap().unwrap();
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
}
