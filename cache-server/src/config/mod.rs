//! The config: where it comes from ([`sources`]), as written ([`written`]), then as used (here and
//! in [`policy`]). Everything is checked before anything starts, and a mistake names the field,
//! the value and what is allowed.

pub mod admin_token;
pub mod certificate;
pub mod listener;
pub mod policy;
pub mod redis;
pub mod schema;
pub mod sources;
pub mod tagging;
mod trace;
pub mod watch;
pub mod written;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use keyspec::{CredentialDigest, ReusePolicy};
use url::Url;

use crate::cache::flight;
use crate::cache::purge::PurgeSettings;
use crate::cache::tiers::local::{ENTRY_BYTES_LIMIT, LocalSettings};
use crate::cache::tiers::redis::settings::RedisSettings;
use crate::telemetry::log::{BadDirectives, LogSettings};
use crate::telemetry::trace::TraceSettings;
use crate::upstream::client::UpstreamSettings;
use admin_token::AdminToken;
use certificate::{CertificateFiles, certificates};
use policy::Policies;
use sources::hide;
use written::Span;

/// A mistake in the config.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value} — {allowed}")]
pub struct ConfigError {
    /// The field's path, such as `upstream[0].url`.
    pub field: String,
    /// What it says.
    pub value: String,
    /// What it may say.
    pub allowed: String,
}

impl ConfigError {
    fn new(field: impl Into<String>, value: impl fmt::Display, allowed: &str) -> ConfigError {
        ConfigError { field: field.into(), value: value.to_string(), allowed: allowed.to_owned() }
    }
}

/// Bytes of a password or a certificate file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The longest that a purge order is kept: what is older than this is purged with it.
const ENTRY_LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The config as used.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listeners and their limits.
    pub server: ServerSettings,
    /// The local tier.
    pub local: LocalSettings,
    /// The Redis that servers share, if there is one.
    pub redis: Option<RedisSettings>,
    /// Bytes of bodies whose meaning is remembered.
    pub memo_bytes_max: usize,
    /// Bounds of flights.
    pub flights: flight::Limits,
    /// Bounds of the purge table.
    pub purge: PurgeSettings,
    /// How long fills and waits for them may take.
    pub fills: FillSettings,
    /// Credentials remembered as refused.
    pub suspensions_max: usize,
    /// How long after its refusal a credential still gets stored answers while the upstream is
    /// down.
    pub suspension_grace: Duration,
    /// Whom we stand in front of: those with hosts of their own first, then the longest prefix.
    pub upstreams: Vec<UpstreamSettings>,
    /// What is reused, and for how long.
    pub policies: Policies,
    /// Which credential belongs to which tenant.
    pub tenants: HashMap<CredentialDigest, Arc<str>>,
    /// Where traces go; off if nowhere.
    pub trace: Option<TraceSettings>,
    /// The log.
    pub log: LogSettings,
}

/// How long fills and waits for them may take, and what comes after a failed one.
#[derive(Clone, Copy, Debug)]
pub struct FillSettings {
    /// How long one fill may take altogether.
    pub fill_timeout: Duration,
    /// How long a caller waits for a fill's headers.
    pub flight_wait_max: Duration,
    /// The longest that a key is not fetched after failures; zero for not at all.
    pub failure_backoff_max: Duration,
    /// The longest that an upstream is not asked which said when to come back; zero for not at all.
    pub cool_down_max: Duration,
    /// How long nobody waits under a key whose last answer was for one caller; zero for not at all.
    pub hit_for_miss_for: Duration,
}

/// Listeners and their limits.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where callers connect.
    pub listen: SocketAddr,
    /// Where health, metrics and stats are.
    pub admin_listen: SocketAddr,
    /// What allows to change state through the admin listener, if that is not loopback.
    pub admin_token: Option<AdminToken>,
    /// The certificate that callers are shown; without one, cleartext.
    pub certificate: Option<CertificateFiles>,
    /// The names callers may use for us, in lower case; any if empty.
    pub hosts: Vec<String>,
    /// Whose connections begin with a PROXY protocol header.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Who may purge by the PURGE method.
    pub purge_from: Vec<IpNet>,
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64.
    pub connections_per_address_max: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams_max: u32,
    /// From a request's head to the end of its answer.
    pub request_timeout: Option<Duration>,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// Between requests on a connection.
    pub idle_timeout: Duration,
    /// Between two reads of a request's body.
    pub body_timeout: Duration,
    /// How long a caller may take nothing of its answer.
    pub write_timeout: Duration,
    /// How long a body that is read for a key may take altogether.
    pub key_body_timeout: Duration,
    /// How long answers, fills and tunnels may take to finish after SIGTERM.
    pub drain_timeout: Duration,
    /// Fields in a request's header.
    pub headers_max: usize,
    /// Bytes of a request's header.
    pub header_bytes_max: usize,
    /// Bytes of a request's body that are passed on at all.
    pub body_bytes_max: u64,
    /// Bytes of a request's body that are read for a key.
    pub key_body_bytes_max: usize,
    /// Bytes of request bodies and fills held at once.
    pub buffered_bytes_max: usize,
    /// Tunnels at once.
    pub tunnels_max: usize,
    /// How long a tunnel may carry nothing either way.
    pub tunnel_idle_timeout: Duration,
}

impl ServerSettings {
    /// Whether PURGE requests from there are for us.
    #[must_use]
    pub fn may_purge(&self, address: IpAddr) -> bool {
        self.purge_from.iter().any(|network| network.contains(&address))
    }
}

/// Why no config could be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("the config file {path} cannot be read")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a config.
    #[error("the config file {path} is not valid: line {line}: {why}")]
    Parse {
        /// The file.
        path: String,
        /// The line of the mistake, from 1; its text is not repeated, for it may hold a secret.
        line: usize,
        /// What is wrong, with the fields that are allowed.
        why: String,
    },
    /// A value is not allowed.
    #[error("the config is not valid")]
    Invalid(#[from] ConfigError),
}

fn read(path: &Path) -> Result<String, LoadError> {
    let shown = path.display().to_string();
    std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: shown, source })
}

/// Parses a file by itself, so that a mistake in it is told with its line.
fn parse_toml(path: &Path, text: &str) -> Result<toml::Table, LoadError> {
    let refuse = |error: &toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
        let line = 1 + before.matches('\n').count();
        let named = text.lines().nth(line - 1).and_then(field_of);
        let field = named.map(|name| format!("{name}: ")).unwrap_or_default();
        let why = format!("{field}{}", what_is_wrong(error.message()));
        LoadError::Parse { path: path.display().to_string(), line, why }
    };
    toml::from_str::<written::File>(text).map_err(|error| refuse(&error))?;
    text.parse().map_err(|error| refuse(&error))
}

/// The field that a line of TOML sets, if it sets one.
fn field_of(line: &str) -> Option<&str> {
    let name = line.split_once('=')?.0.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!name.is_empty() && name.chars().all(is_plain)).then_some(name)
}

/// What the parser says of a value, without the value: it may be a secret that somebody has put in the wrong
/// place. What it says of sizes is put so that it helps.
fn what_is_wrong(message: &str) -> String {
    const SIZE: &str = "a size such as \"64KiB\", \"4GiB\" or 65536";
    let message = match (message.find(": string \""), message.rfind("\", expected ")) {
        (Some(begins), Some(ends)) if begins < ends => {
            format!("{}: a string{}", &message[..begins], &message[ends + 1..])
        }
        _ => message.to_owned(),
    };
    let message = message.replace("expected parsable string", &format!("expected {SIZE}"));
    message.replace("expected integer overflow", &format!("expected {SIZE}"))
}

/// Checks a config as written and makes it one as used.
///
/// # Errors
/// The first mistake found.
pub fn validate(file: &written::File) -> Result<Config, ConfigError> {
    if file.version != 1 {
        return Err(ConfigError::new("version", file.version, "the only version is 1"));
    }
    let upstreams = check_upstreams(&file.upstream)?;
    let names: Vec<&str> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    let tenants = check_tenants(&file.tenant)?;
    let policies = Policies::check(file, &names)?;
    let local = check_local(&file.cache)?;
    let server = check_server(&file.server)?;
    check_reach(&file.upstream, &server.hosts)?;
    Ok(Config {
        server,
        redis: redis::check(&file.redis, local.entry_bytes_max)?,
        local,
        memo_bytes_max: bytes("cache.memo_bytes_max", file.cache.memo_bytes_max)?,
        flights: flight::Limits {
            flights_max: at_least_one("cache.flights_max", file.cache.flights_max)?,
            recorded_bytes_max: bytes("cache.entry_bytes_max", file.cache.entry_bytes_max)?,
            window_bytes: 1 << 20,
            slow_reader_timeout: positive(
                "cache.slow_reader_timeout",
                file.cache.slow_reader_timeout,
            )?,
            age_max: positive("cache.flight_age_max", file.cache.flight_age_max)?,
        },
        purge: PurgeSettings {
            orders_max: at_least_one("cache.purge_orders_max", file.cache.purge_orders_max)?,
            entry_life_max: ENTRY_LIFE_MAX,
        },
        fills: check_fills(&file.cache)?,
        suspensions_max: at_least_one("cache.suspensions_max", file.cache.suspensions_max)?,
        suspension_grace: file.cache.suspension_grace.0,
        upstreams,
        policies,
        tenants,
        trace: trace::check(&file.trace)?,
        log: check_log(&file.log)?,
    })
}

fn check_fills(cache: &written::Cache) -> Result<FillSettings, ConfigError> {
    Ok(FillSettings {
        fill_timeout: positive("cache.fill_timeout", cache.fill_timeout)?,
        flight_wait_max: positive("cache.flight_wait_max", cache.flight_wait_max)?,
        failure_backoff_max: cache.failure_backoff_max.0,
        cool_down_max: cache.cool_down_max.0,
        hit_for_miss_for: cache.hit_for_miss_for.0,
    })
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn check_upstreams(written: &[written::Upstream]) -> Result<Vec<UpstreamSettings>, ConfigError> {
    let mut upstreams: Vec<UpstreamSettings> = Vec::new();
    for (index, upstream) in written.iter().enumerate() {
        let field = |name: &str| format!("upstream[{index}].{name}");
        let checked = check_upstream(upstream, &field)?;
        for (name, taken) in [
            ("name", upstreams.iter().any(|other| other.name == checked.name)),
            ("prefix", upstreams.iter().any(|other| other.is_mounted_like(&checked))),
        ] {
            if taken {
                let value = if name == "name" { &checked.name } else { &checked.prefix };
                return Err(ConfigError::new(field(name), value, "another upstream has it"));
            }
        }
        upstreams.push(checked);
    }
    upstreams.sort_by_key(|upstream| (upstream.hosts.is_empty(), Reverse(upstream.prefix.len())));
    Ok(upstreams)
}

fn check_upstream(
    upstream: &written::Upstream,
    field: &dyn Fn(&str) -> String,
) -> Result<UpstreamSettings, ConfigError> {
    if !is_name(&upstream.name) {
        let allowed = "1 to 64 letters, digits, - and _";
        return Err(ConfigError::new(field("name"), &upstream.name, allowed));
    }
    let ca_file = upstream.ca_file.as_ref();
    let ca_pem = ca_file.map(|file| certificates(&field("ca_file"), file)).transpose()?;
    let base = check_url(&upstream.url, field)?;
    Ok(UpstreamSettings {
        name: upstream.name.clone(),
        identity: base.as_str().trim_end_matches('/').to_owned(),
        base,
        prefix: check_prefix(upstream, field)?,
        hosts: check_hosts(&field("hosts"), &upstream.hosts)?,
        protocol: upstream.protocol,
        connect_timeout: positive(&field("connect_timeout"), upstream.connect_timeout)?,
        read_timeout: positive(&field("read_timeout"), upstream.read_timeout)?,
        ca_pem,
    })
}

/// A file that the config names.
fn read_file(field: &str, file: &Path) -> Result<Vec<u8>, ConfigError> {
    let refuse = |why: String| ConfigError::new(field, file.display(), &why);
    let size = std::fs::metadata(file).map(|metadata| metadata.len());
    if size.is_ok_and(|size| size > FILE_BYTES_MAX) {
        return Err(refuse("is over 1 MiB".into()));
    }
    std::fs::read(file).map_err(|error| refuse(format!("cannot be read: {error}")))
}

fn check_url(text: &str, field: &dyn Fn(&str) -> String) -> Result<Url, ConfigError> {
    let allowed = "an http:// or https:// URL with a host, without query, fragment or credentials";
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    url.ok_or_else(|| ConfigError::new(field("url"), hide(text), allowed))
}

fn check_prefix(
    upstream: &written::Upstream,
    field: &dyn Fn(&str) -> String,
) -> Result<String, ConfigError> {
    let prefix = match &upstream.prefix {
        None if !upstream.hosts.is_empty() => String::new(),
        None => format!("/{}", upstream.name),
        Some(prefix) => prefix.trim_end_matches('/').to_owned(),
    };
    let segments_are_plain = prefix
        .split('/')
        .skip(1)
        .all(|segment| is_name(&segment.replace('.', "_")) && segment != "." && segment != "..");
    let plain = prefix.is_empty() || (prefix.starts_with('/') && segments_are_plain);
    let reserved = prefix == "/_cache" || prefix.starts_with("/_cache/");
    if plain && !reserved {
        return Ok(prefix);
    }
    let allowed = "a path of plain segments such as /name, or / ; /_cache is ours";
    Err(ConfigError::new(field("prefix"), prefix, allowed))
}

/// Names as callers write them in `Host`, less the port; they are compared in lower case.
fn check_hosts(field: &str, hosts: &[String]) -> Result<Vec<String>, ConfigError> {
    let check = |host: &String| match Url::parse(&format!("http://{host}")) {
        Ok(url) if url.host_str().is_some_and(|parsed| parsed.eq_ignore_ascii_case(host)) => {
            Ok(host.to_ascii_lowercase())
        }
        _ => Err(ConfigError::new(field, host, "names or addresses, without scheme and port")),
    };
    hosts.iter().map(check).collect()
}

/// Checks that callers who may ask under some names alone can reach what is there under others.
fn check_reach(upstreams: &[written::Upstream], hosts: &[String]) -> Result<(), ConfigError> {
    let is_ours = |host: &String| hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host));
    for (index, upstream) in upstreams.iter().enumerate().filter(|_| !hosts.is_empty()) {
        if let Some(host) = upstream.hosts.iter().find(|host| !is_ours(host)) {
            let allowed = format!("some of server.hosts: {}", hosts.join(", "));
            return Err(ConfigError::new(format!("upstream[{index}].hosts"), host, &allowed));
        }
    }
    Ok(())
}

fn check_server(server: &written::Server) -> Result<ServerSettings, ConfigError> {
    let header_bytes_max = bytes("server.header_bytes_max", server.header_bytes_max)?;
    if header_bytes_max < 8192 {
        let allowed = "at least 8 KiB";
        return Err(ConfigError::new("server.header_bytes_max", header_bytes_max, allowed));
    }
    let listen = address("server.listen", &server.listen)?;
    let admin_listen = address("server.admin_listen", &server.admin_listen)?;
    if listen == admin_listen && listen.port() != 0 {
        let allowed = "another address than server.listen";
        return Err(ConfigError::new("server.admin_listen", admin_listen, allowed));
    }
    Ok(ServerSettings {
        listen,
        admin_listen,
        admin_token: AdminToken::configured(
            std::env::var_os(admin_token::VARIABLE).as_deref(),
            server.admin_token_file.as_deref(),
        )?,
        certificate: listener::certificate(server)?,
        hosts: listener::hosts(server)?,
        proxy_protocol_from: listener::proxy_protocol_from(server)?,
        purge_from: listener::purge_from(server)?,
        connections_max: at_least_one("server.connections_max", server.connections_max)?,
        connections_per_address_max: at_least_one(
            "server.connections_per_address_max",
            server.connections_per_address_max,
        )?,
        streams_max: listener::streams_max(server)?,
        request_timeout: server
            .request_timeout
            .map(|span| positive("server.request_timeout", span))
            .transpose()?,
        header_timeout: positive("server.header_timeout", server.header_timeout)?,
        idle_timeout: positive("server.idle_timeout", server.idle_timeout)?,
        body_timeout: positive("server.body_timeout", server.body_timeout)?,
        write_timeout: positive("server.write_timeout", server.write_timeout)?,
        key_body_timeout: positive("server.key_body_timeout", server.key_body_timeout)?,
        drain_timeout: server.drain_timeout.0,
        headers_max: headers_max(server.headers_max)?,
        header_bytes_max,
        body_bytes_max: server.body_bytes_max.as_u64(),
        key_body_bytes_max: bytes("server.key_body_bytes_max", server.key_body_bytes_max)?,
        buffered_bytes_max: bytes("server.buffered_bytes_max", server.buffered_bytes_max)?,
        tunnels_max: server.tunnels_max,
        tunnel_idle_timeout: positive("server.tunnel_idle_timeout", server.tunnel_idle_timeout)?,
    })
}

fn check_log(log: &written::Log) -> Result<LogSettings, ConfigError> {
    let level = log.level.parse().map_err(|error: BadDirectives| {
        ConfigError::new("log.level", &log.level, &error.to_string())
    })?;
    let format = log
        .format
        .parse()
        .map_err(|()| ConfigError::new("log.format", &log.format, "auto, text or json"))?;
    Ok(LogSettings { level, format, requests_per_second_max: log.requests_per_second_max })
}

fn check_local(cache: &written::Cache) -> Result<LocalSettings, ConfigError> {
    let entry_bytes_max = bytes("cache.entry_bytes_max", cache.entry_bytes_max)?;
    if entry_bytes_max == 0 || entry_bytes_max > ENTRY_BYTES_LIMIT {
        let allowed = "1 byte to 15 MiB";
        return Err(ConfigError::new("cache.entry_bytes_max", cache.entry_bytes_max, allowed));
    }
    let disk_bytes_max = bytes("cache.disk_bytes_max", cache.disk_bytes_max)?;
    if disk_bytes_max != 0 && disk_bytes_max < 64 << 20 {
        let allowed = "0 for no disk, or at least 64 MiB";
        return Err(ConfigError::new("cache.disk_bytes_max", cache.disk_bytes_max, allowed));
    }
    Ok(LocalSettings {
        data_dir: cache.data_dir.clone().map_or_else(default_data_dir, Ok)?,
        memory_bytes_max: bytes("cache.memory_bytes_max", cache.memory_bytes_max)?,
        disk_bytes_max,
        entry_bytes_max,
        disk_deadline: positive("cache.disk_deadline", cache.disk_deadline)?,
    })
}

/// `cache-server` in the user's cache directory (XDG Base Directory Specification).
fn default_data_dir() -> Result<PathBuf, ConfigError> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|caches| caches.join("cache-server"))
        .ok_or_else(|| {
            let allowed = "neither XDG_CACHE_HOME nor HOME is set: name a folder";
            ConfigError::new("cache.data_dir", "(not set)", allowed)
        })
}

fn check_tenants(
    written: &[written::Tenant],
) -> Result<HashMap<CredentialDigest, Arc<str>>, ConfigError> {
    let mut tenants = HashMap::new();
    for (index, tenant) in written.iter().enumerate() {
        if !is_name(&tenant.name) {
            let field = format!("tenant[{index}].name");
            return Err(ConfigError::new(field, &tenant.name, "1 to 64 letters, digits, - and _"));
        }
        if written[..index].iter().any(|other| other.name == tenant.name) {
            let field = format!("tenant[{index}].name");
            return Err(ConfigError::new(field, &tenant.name, "another tenant has it"));
        }
        let name: Arc<str> = tenant.name.as_str().into();
        for (number, text) in tenant.credential_digests.iter().enumerate() {
            let field = || format!("tenant[{index}].credential_digests[{number}]");
            let digest: CredentialDigest = text.parse().map_err(|_| {
                // A credential pasted by mistake must not end in a log.
                let allowed = "64 hex digits, as `cache-server credential-digest` prints them";
                ConfigError::new(field(), "(hidden)", allowed)
            })?;
            if tenants.insert(digest, Arc::clone(&name)).is_some() {
                return Err(ConfigError::new(field(), text, "it is listed twice"));
            }
        }
    }
    Ok(tenants)
}

fn parse_reuse(field: impl Into<String>, text: &str) -> Result<ReusePolicy, ConfigError> {
    text.parse().map_err(|_| ConfigError::new(field, text, "deterministic, declared or any"))
}

fn address(field: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse()
        .map_err(|_| ConfigError::new(field, text, "an address and port such as 127.0.0.1:8080"))
}

fn bytes(field: &str, size: bytesize::ByteSize) -> Result<usize, ConfigError> {
    usize::try_from(size.as_u64())
        .map_err(|_| ConfigError::new(field, size, "a size that this machine can address"))
}

fn positive(field: &str, span: Span) -> Result<Duration, ConfigError> {
    if span.0.is_zero() {
        return Err(ConfigError::new(field, "0s", "a duration above zero"));
    }
    Ok(span.0)
}

/// The HTTP library's own bound is not far above.
fn headers_max(count: usize) -> Result<usize, ConfigError> {
    match count {
        1..=10_000 => Ok(count),
        _ => Err(ConfigError::new("server.headers_max", count, "1 to 10000")),
    }
}

fn at_least_one(field: &str, count: usize) -> Result<usize, ConfigError> {
    if count == 0 {
        return Err(ConfigError::new(field, count, "at least 1"));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(toml: &str) -> Result<Config, String> {
        let mut file: written::File = toml::from_str(toml).map_err(|error| error.to_string())?;
        file.cache.data_dir = Some("/data".into());
        validate(&file.with_upstreams()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_upstreams_the_well_known_providers_are_mounted() {
        let config = check("version = 1").unwrap();
        let mut prefixes: Vec<_> = config.upstreams.iter().map(|u| u.prefix.clone()).collect();
        prefixes.sort();
        assert_eq!(prefixes, ["/anthropic", "/gemini", "/openai"]);
    }

    #[test]
    fn a_mistake_names_the_field_the_value_and_what_is_allowed() {
        for (toml, field, allowed) in [
            ("version = 2", "version: 2", "the only version is 1"),
            ("version = 1\n[cache]\nreuse = 'sometimes'", "cache.reuse: sometimes", "declared"),
            ("version = 1\n[server]\nlisten = 'here'", "server.listen: here", "127.0.0.1:8080"),
            ("version = 1\n[server]\nconnections_max = 0", "server.connections_max: 0", "least 1"),
            ("version = 1\n[server]\nidle_timeout = '0s'", "server.idle_timeout: 0s", "above zero"),
            (
                "version = 1\n[cache]\nflight_age_max = '0s'",
                "cache.flight_age_max: 0s",
                "above zero",
            ),
            ("version = 1\n[server]\nheader_bytes_max = 1", "server.header_bytes_max: 1", "8 KiB"),
            ("version = 1\n[cache]\nentry_bytes_max = '1GiB'", "cache.entry_bytes_max", "15 MiB"),
            ("version = 1\n[cache]\ndisk_bytes_max = '1MiB'", "cache.disk_bytes_max", "64 MiB"),
            (
                "version = 1\n[[upstream]]\nname = 'a'\nurl = 'ftp://x'",
                "upstream[0].url: ftp://x",
                "http:// or https://",
            ),
            (
                "version = 1\n[[upstream]]\nname = 'a'\nurl = 'http://x'\nprefix = '/_cache/x'",
                "upstream[0].prefix: /_cache/x",
                "/_cache is ours",
            ),
            (
                "version = 1\n[[tenant]]\nname = 't'\ncredential_digests = ['sk-secret']",
                "tenant[0].credential_digests[0]: (hidden)",
                "64 hex digits",
            ),
            ("version = 1\n[cache]\nsize = 1", "unknown field `size`", "memory_bytes_max"),
            ("version = 1\n[server]\nbody_timeout = 'soon'", "\"soon\" is no duration", "10s"),
            (
                "version = 1\n[server]\nadmin_listen = '127.0.0.1:8080'",
                "server.admin_listen: 127.0.0.1:8080",
                "another address than server.listen",
            ),
            (
                "version = 1\n[server]\nhosts = ['a']\n[[upstream]]\nname = 'u'\nurl = 'http://x'\n\
                 hosts = ['A', 'b']",
                "upstream[0].hosts: b",
                "some of server.hosts: a",
            ),
            (
                "version = 1\n[[key_spec]]\nname = 'openai.embeddings'\nversion = 1\npath = '/x'",
                "key_spec[0].name: openai.embeddings",
                "a name of its own",
            ),
            (
                "version = 1\n[[route]]\n[route.emit]\ncdn_stale_if_error = '1h'",
                "route[0].emit.cdn_stale_if_error: set",
                "not without route[0].emit.cdn",
            ),
            ("version = 1\n[log]\nlevel = 'foyer=loud'", "log.level: foyer=loud", "LEVEL"),
            ("version = 1\n[log]\nformat = 'xml'", "log.format: xml", "auto, text or json"),
        ] {
            let error = check(toml).unwrap_err();
            assert!(error.contains(field) && error.contains(allowed), "{toml}\n→ {error}");
        }
    }

    #[test]
    fn what_the_parser_refuses_is_told_by_field_and_without_the_value() {
        for (toml, expected) in [
            (
                "[[tenant]]\ncredential_digests = \"sk-live-1\"",
                "line 3: credential_digests: invalid type: a string, expected a sequence",
            ),
            (
                "[cache]\nmemory_bytes_max = \"4 gigs\"",
                "line 3: memory_bytes_max: invalid value: a string, expected a size such as",
            ),
            (
                "[cache]\ndisk_bytes_max = -4",
                "line 3: disk_bytes_max: invalid value: integer `-4`, expected a size such as",
            ),
            ("[server]\nnonsense = 1", "line 3: nonsense: unknown field `nonsense`, expected"),
        ] {
            let text = format!("version = 1\n{toml}\n");
            let error = parse_toml(Path::new("c.toml"), &text).unwrap_err().to_string();
            assert!(error.contains(expected), "{toml}\n→ {error}");
            assert!(!error.contains("sk-live"), "{error}");
        }
    }

    #[test]
    fn an_authority_that_is_no_certificate_is_a_mistake() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("ca.pem");
        let upstream =
            format!("version = 1\n[[upstream]]\nname = 'u'\nurl = 'https://u'\nca_file = {file:?}");
        for (text, why) in [
            (None, "cannot be read"),
            (Some(""), "holds no PEM certificate"),
            (Some("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), "holds no PEM"),
        ] {
            text.iter().for_each(|text| std::fs::write(&file, text).unwrap());
            let message = check(&upstream).unwrap_err();
            assert!(message.starts_with("upstream[0].ca_file: "), "{message}");
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn a_url_with_a_password_is_refused_without_repeating_it() {
        let error = check("version = 1\n[[upstream]]\nname = 'a'\nurl = 'http://u:pw@x'");
        let error = error.unwrap_err();
        assert!(error.contains("upstream[0].url") && !error.contains("pw"), "{error}");
    }

    #[test]
    fn two_upstreams_may_not_share_a_name_or_a_prefix() {
        let two = |name: &str, prefix: &str| {
            check(&format!(
                "version = 1\n[[upstream]]\nname = 'a'\nurl = 'http://x'\n\
                 [[upstream]]\nname = '{name}'\nurl = 'http://y'\nprefix = '{prefix}'"
            ))
        };
        assert!(two("b", "/b").is_ok());
        assert!(two("a", "/b").is_err() && two("b", "/a").is_err());
    }

    const SAMPLE: &str = include_str!("../../../docs/cache-server.toml");

    #[test]
    fn the_annotated_sample_is_a_valid_config() {
        let config = check(SAMPLE).unwrap();
        assert_eq!(config.upstreams.len(), 2);
        assert_eq!(config.tenants.len(), 1);
    }

    #[test]
    fn the_annotated_sample_shows_every_field() {
        let declared = include_str!("../../../keyspec/src/declared.rs");
        let (_, declared) = declared.split_once("pub struct DeclaredSpec {").unwrap();
        let (declared, _) = declared.split_once("\n}\n").unwrap();
        let lines = include_str!("written.rs").lines().chain(declared.lines());
        let fields = lines.filter_map(|line| line.strip_prefix("    pub ")?.split_once(':'));
        let mut seen = 0;
        for (field, _) in fields.filter(|(name, _)| !name.contains('(')) {
            let shown = SAMPLE.lines().any(|line| {
                let line = line.trim_start_matches(['#', ' ', '[']);
                let line = line.strip_prefix("route.").unwrap_or(line);
                line.strip_prefix(field).is_some_and(|rest| rest.starts_with([' ', ']']))
            });
            assert!(shown, "docs/cache-server.toml does not show {field}");
            seen += 1;
        }
        assert!(seen > 40, "only {seen} fields were found in the source");
    }

    #[test]
    fn the_annotated_sample_shows_the_defaults() {
        let written: written::File = toml::from_str(SAMPLE).unwrap();
        let server = format!("{:?}", written.server);
        assert_eq!(server, format!("{:?}", written::Server::default()));
        assert_eq!(format!("{:?}", written.trace), format!("{:?}", written::Trace::default()));
        assert_eq!(format!("{:?}", written.redis), format!("{:?}", written::Redis::default()));
        let log = format!("{:?}", written::Log::default());
        assert_eq!(format!("{:?}", written.log), log);
        let cache = written::Cache { data_dir: None, ..written.cache };
        assert_eq!(format!("{cache:?}"), format!("{:?}", written::Cache::default()));
    }
}
