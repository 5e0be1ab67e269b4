//! The config as written: one TOML file, unknown fields refused, every field optional but
//! `version`. The defaults are here and nowhere else.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use keyspec::DeclaredSpec;
use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

use super::schema::Size;
use crate::upstream::client::Protocol;

/// A duration written as `"250ms"`, `"10s"`, `"1h 30m"` or `"7d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Span).map_err(|error| {
            D::Error::custom(format!(
                "{text:?} is no duration ({error}); write one as \"250ms\", \"10s\" or \"7d\""
            ))
        })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

const fn seconds(count: u64) -> Span {
    Span(Duration::from_secs(count))
}

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The version of this format; 1.
    pub version: u32,
    /// Listeners and their limits.
    #[serde(default)]
    pub server: Server,
    /// The tiers and what is reused.
    #[serde(default)]
    pub cache: Cache,
    /// The Redis that servers share.
    #[serde(default)]
    pub redis: Redis,
    /// Whom we stand in front of.
    #[serde(default)]
    pub upstream: Vec<Upstream>,
    /// What differs for some requests; the most specific wins, field by field.
    #[serde(default)]
    pub route: Vec<Route>,
    /// Names for callers.
    #[serde(default)]
    pub tenant: Vec<Tenant>,
    /// What of requests beyond the model routes is keyed, so that their answers are cached.
    #[serde(default)]
    pub key_spec: Vec<DeclaredSpec>,
    /// What is logged, and how.
    #[serde(default)]
    pub log: Log,
    /// Where traces go.
    #[serde(default)]
    pub trace: Trace,
}

impl File {
    /// With the well-known providers, if no upstream is named.
    #[must_use]
    pub fn with_upstreams(mut self) -> File {
        if self.upstream.is_empty() {
            self.upstream = vec![
                Upstream::named("openai", "https://api.openai.com", None),
                Upstream::named("anthropic", "https://api.anthropic.com", None),
                Upstream::named("gemini", "https://generativelanguage.googleapis.com", None),
            ];
        }
        self
    }
}

impl Default for File {
    fn default() -> File {
        File {
            version: 1,
            server: Server::default(),
            cache: Cache::default(),
            redis: Redis::default(),
            upstream: Vec::new(),
            route: Vec::new(),
            tenant: Vec::new(),
            key_spec: Vec::new(),
            log: Log::default(),
            trace: Trace::default(),
        }
    }
}

/// `[server]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Where callers connect.
    #[schemars(extend("x-needs-restart" = true))]
    pub listen: String,
    /// Where health, metrics and stats are.
    #[schemars(extend("x-needs-restart" = true))]
    pub admin_listen: String,
    /// A file that holds the token for changing state through the admin listener.
    pub admin_token_file: Option<PathBuf>,
    /// A PEM file with the certificate that callers are shown; TLS with it, cleartext without.
    #[schemars(extend("x-needs-restart" = true))]
    pub tls_cert_file: Option<PathBuf>,
    /// A PEM file with its private key.
    #[schemars(extend("x-needs-restart" = true))]
    pub tls_key_file: Option<PathBuf>,
    /// The names callers may use for us, without port; any if empty.
    pub hosts: Vec<String>,
    /// Networks and addresses whose connections begin with a PROXY protocol header.
    pub proxy_protocol_from: Vec<String>,
    /// Networks and addresses whose PURGE requests are purges of ours; elsewhere PURGE is a method
    /// like others, and passed on.
    pub purge_from: Vec<String>,
    /// Connections at once; further ones wait in the kernel's queue.
    #[schemars(extend("x-needs-restart" = true))]
    pub connections_max: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64; further ones are refused.
    pub connections_per_address_max: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams_max: u32,
    /// From a request's head to the end of its answer; no bound if not set.
    pub request_timeout: Option<Span>,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Span,
    /// Between requests on a connection.
    pub idle_timeout: Span,
    /// Between two reads of a request's body.
    pub body_timeout: Span,
    /// How long a caller may take nothing of its answer.
    pub write_timeout: Span,
    /// How long a body that is read for a key may take altogether; then 408.
    pub key_body_timeout: Span,
    /// How long answers, fills and tunnels may take to finish after SIGTERM.
    pub drain_timeout: Span,
    /// Fields in a request's header; at most 10,000.
    pub headers_max: usize,
    /// Bytes of a request's header; at least 8 KiB.
    #[schemars(with = "Size")]
    pub header_bytes_max: ByteSize,
    /// Bytes of a request's body that are passed on at all.
    #[schemars(with = "Size")]
    pub body_bytes_max: ByteSize,
    /// Bytes of a request's body that are read for a key; larger ones pass through uncached.
    #[schemars(with = "Size")]
    pub key_body_bytes_max: ByteSize,
    /// Bytes of request bodies and fills held in memory at once; beyond, 503.
    #[schemars(with = "Size", extend("x-needs-restart" = true))]
    pub buffered_bytes_max: ByteSize,
    /// WebSocket tunnels at once; one more is refused with 503.
    pub tunnels_max: usize,
    /// How long a tunnel may carry nothing either way; then it is closed.
    pub tunnel_idle_timeout: Span,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            listen: "127.0.0.1:8080".into(),
            admin_listen: "127.0.0.1:8081".into(),
            admin_token_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            hosts: Vec::new(),
            proxy_protocol_from: Vec::new(),
            purge_from: Vec::new(),
            connections_max: 10_000,
            connections_per_address_max: 5_000,
            streams_max: 100,
            request_timeout: None,
            header_timeout: seconds(10),
            idle_timeout: seconds(75),
            body_timeout: seconds(30),
            key_body_timeout: seconds(120),
            write_timeout: seconds(60),
            drain_timeout: seconds(30),
            headers_max: 128,
            header_bytes_max: ByteSize::kib(64),
            body_bytes_max: ByteSize::gib(1),
            key_body_bytes_max: ByteSize::mib(32),
            buffered_bytes_max: ByteSize::gib(1),
            tunnels_max: 1000,
            tunnel_idle_timeout: seconds(600),
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `LEVEL` for all, `MODULE=LEVEL` for one, separated by commas.
    pub level: String,
    /// `auto` (text on a terminal, JSON elsewhere), `text` or `json`.
    #[schemars(extend("x-needs-restart" = true))]
    pub format: String,
    /// Lines on requests a second; the others are counted in one more line.
    pub requests_per_second_max: u32,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            level: "info,foyer=warn,foyer_storage=warn,foyer_memory=warn".into(),
            format: "auto".into(),
            requests_per_second_max: 20,
        }
    }
}

/// `[cache]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// The data folder; without it, one in the user's cache directory.
    #[schemars(extend("x-needs-restart" = true))]
    pub data_dir: Option<PathBuf>,
    /// Bytes of entries in memory.
    #[schemars(with = "Size", extend("x-needs-restart" = true))]
    pub memory_bytes_max: ByteSize,
    /// Bytes of requests whose meaning is remembered; 0 reads each of them anew.
    #[schemars(with = "Size", extend("x-needs-restart" = true))]
    pub memo_bytes_max: ByteSize,
    /// Bytes of disk; 0 keeps entries in memory only.
    #[schemars(with = "Size", extend("x-needs-restart" = true))]
    pub disk_bytes_max: ByteSize,
    /// The largest entry; larger answers pass through.
    #[schemars(with = "Size", extend("x-needs-restart" = true))]
    pub entry_bytes_max: ByteSize,
    /// How long a read from disk may take before it counts as a miss.
    #[schemars(extend("x-needs-restart" = true))]
    pub disk_deadline: Span,
    /// Which answers are reused: `deterministic`, `declared` or `any`.
    pub reuse: String,
    /// Fills under way at once; further misses go alone.
    #[schemars(extend("x-needs-restart" = true))]
    pub flights_max: usize,
    /// How long after its beginning a fill still takes callers on; the next one begins another.
    #[schemars(extend("x-needs-restart" = true))]
    pub flight_age_max: Span,
    /// Purge orders that are kept; beyond, the oldest become one that holds for all older entries.
    #[schemars(extend("x-needs-restart" = true))]
    pub purge_orders_max: usize,
    /// How long one fill may take altogether.
    pub fill_timeout: Span,
    /// How long at most a key is not fetched after its fetch failed: 100ms after a first failure,
    /// twice as long after each further one in a row; 0s for not at all.
    pub failure_backoff_max: Span,
    /// How long at most an upstream is not asked for a tenant that it told when to come back (429
    /// or 503 with Retry-After); 0s for not at all.
    pub cool_down_max: Span,
    /// How long nobody waits for anybody under a key whose last answer was for one caller alone;
    /// 0s for not at all.
    pub hit_for_miss_for: Span,
    /// How long a caller who waits for another's fetch may wait for its headers.
    pub flight_wait_max: Span,
    /// How long a caller may hold up an answer that is too large to be recorded.
    #[schemars(extend("x-needs-restart" = true))]
    pub slow_reader_timeout: Span,
    /// Credentials remembered as refused by an upstream (401, 403); beyond, the oldest is forgotten.
    #[schemars(extend("x-needs-restart" = true))]
    pub suspensions_max: usize,
    /// How long after its refusal a credential still gets stored answers while the upstream is
    /// down; 0s for never.
    pub suspension_grace: Span,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache {
            data_dir: None,
            memory_bytes_max: ByteSize::mib(256),
            memo_bytes_max: ByteSize::mib(32),
            disk_bytes_max: ByteSize::gib(4),
            entry_bytes_max: ByteSize::mib(8),
            disk_deadline: Span(Duration::from_millis(250)),
            reuse: "deterministic".into(),
            flights_max: 10_000,
            flight_age_max: seconds(10 * 60),
            purge_orders_max: 100_000,
            fill_timeout: seconds(30 * 60),
            failure_backoff_max: seconds(5),
            cool_down_max: seconds(60),
            hit_for_miss_for: seconds(10),
            flight_wait_max: seconds(600),
            slow_reader_timeout: seconds(30),
            suspensions_max: 10_000,
            suspension_grace: seconds(300),
        }
    }
}

/// `[redis]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// Where it is: `redis://host:port/database`, `redis+sentinel://host:port,host:port/master` or
    /// `redis+cluster://host:port,host:port`, and `rediss` for TLS; none without.
    #[schemars(extend("x-needs-restart" = true))]
    pub url: Option<String>,
    /// The ACL user; also in the URL.
    #[schemars(extend("x-needs-restart" = true))]
    pub username: Option<String>,
    /// A file that holds the password; also in CACHE_SERVER_REDIS_PASSWORD or in the URL.
    #[schemars(extend("x-needs-restart" = true))]
    pub password_file: Option<PathBuf>,
    /// A file that holds the password of the sentinels.
    #[schemars(extend("x-needs-restart" = true))]
    pub sentinel_password_file: Option<PathBuf>,
    /// A PEM file with the certificate authorities to trust, instead of the system's.
    #[schemars(extend("x-needs-restart" = true))]
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the certificate that Redis is shown.
    #[schemars(extend("x-needs-restart" = true))]
    pub client_cert_file: Option<PathBuf>,
    /// A PEM file with its private key.
    #[schemars(extend("x-needs-restart" = true))]
    pub client_key_file: Option<PathBuf>,
    /// What the names of all keys begin with.
    #[schemars(extend("x-needs-restart" = true))]
    pub prefix: String,
    /// How long a read may take before it counts as a miss.
    #[schemars(extend("x-needs-restart" = true))]
    pub deadline: Span,
    /// How long a write, which nobody waits for, may take.
    #[schemars(extend("x-needs-restart" = true))]
    pub write_deadline: Span,
    /// Connections for reads, 1 to 64; there is one more for writes and one for probes. Without TLS,
    /// and where it is no cluster, there are as many again, of which each carries one read at a time.
    #[schemars(extend("x-needs-restart" = true))]
    pub connections: usize,
    /// The largest value; larger entries stay in memory and on disk.
    #[schemars(with = "Size", extend("x-needs-restart" = true))]
    pub value_bytes_max: ByteSize,
    /// Entries from this size on are compressed (zstd); 0 for none.
    #[schemars(with = "Size", extend("x-needs-restart" = true))]
    pub compress_bytes_min: ByteSize,
    /// What this server calls itself to those that share the Redis; the host's name without.
    #[schemars(extend("x-needs-restart" = true))]
    pub node: Option<String>,
    /// Whether servers that share the Redis fetch a key once for all of them.
    #[schemars(extend("x-needs-restart" = true))]
    pub shared_flights: bool,
    /// For how long a server that hears nothing of Redis gives an entry, which others may have purged;
    /// 1s to 30days.
    #[schemars(extend("x-needs-restart" = true))]
    pub coherence_lifetime: Span,
    /// Entries that wait to be written; beyond, the oldest is dropped.
    #[schemars(extend("x-needs-restart" = true))]
    pub write_queue_entries_max: usize,
    /// Bytes of entries that wait to be written; beyond, the oldest is dropped.
    #[schemars(with = "Size", extend("x-needs-restart" = true))]
    pub write_queue_bytes_max: ByteSize,
}

impl Default for Redis {
    fn default() -> Redis {
        Redis {
            url: None,
            username: None,
            password_file: None,
            sentinel_password_file: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            prefix: "cache-server".into(),
            deadline: Span(Duration::from_millis(20)),
            write_deadline: Span(Duration::from_millis(250)),
            connections: 4,
            value_bytes_max: ByteSize::mib(1),
            compress_bytes_min: ByteSize::kib(4),
            node: None,
            shared_flights: true,
            coherence_lifetime: seconds(600),
            write_queue_entries_max: 10_000,
            write_queue_bytes_max: ByteSize::mib(64),
        }
    }
}

/// `[[upstream]]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// Its base URL.
    pub url: String,
    /// The path under which callers reach it; `/name` by default, `/` for everything else.
    pub prefix: Option<String>,
    /// Names of ours, without port, under which callers reach it; with any, requests to other
    /// names never do, and the prefix is `/` by default.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// `auto`, `http1` or `http2`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Until a connection stands.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Span,
    /// The longest silence, before the headers and between reads.
    #[serde(default = "default_read_timeout")]
    pub read_timeout: Span,
    /// A PEM file with more certificate authorities to trust.
    pub ca_file: Option<PathBuf>,
}

impl Upstream {
    /// An upstream with nothing but a name and a URL.
    #[must_use]
    pub fn named(name: &str, url: &str, prefix: Option<&str>) -> Upstream {
        Upstream {
            name: name.into(),
            url: url.into(),
            prefix: prefix.map(Into::into),
            hosts: Vec::new(),
            protocol: Protocol::default(),
            connect_timeout: default_connect_timeout(),
            read_timeout: default_read_timeout(),
            ca_file: None,
        }
    }
}

fn default_connect_timeout() -> Span {
    seconds(5)
}

/// Models think for minutes before the first byte.
fn default_read_timeout() -> Span {
    seconds(600)
}

/// `[[route]]`: what it selects, and what it sets. A field that is not set falls to the next
/// less specific route, and at last to the defaults.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Selects: the tenant's name.
    pub tenant: Option<String>,
    /// Selects: the model asked for, exactly, or with a `*` at the end.
    pub model: Option<String>,
    /// Selects: a model route, such as `openai.chat_completions`, or a `[[key_spec]]` by its name.
    pub endpoint: Option<String>,
    /// Selects: the upstream's name.
    pub upstream: Option<String>,
    /// Sets: `deterministic`, `declared` or `any`.
    pub reuse: Option<String>,
    /// Sets: how long an answer is fresh.
    pub fresh_for: Option<Span>,
    /// Sets: how long after that it answers while it is refreshed.
    pub stale_while_revalidate: Option<Span>,
    /// Sets: how long after its fresh end it answers when the upstream fails.
    pub stale_if_error: Option<Span>,
    /// Sets: whether the upstream's `Cache-Control` decides instead.
    pub obey_upstream: Option<bool>,
    /// Sets: whether the upstream's `Surrogate-Control` counts among that, and is kept from callers.
    pub surrogate_control: Option<bool>,
    /// Sets: how long at most an answer of HTTP at large is fresh by its age alone: a tenth of the
    /// time since it was last modified (RFC 9111 section 4.2.2). Off where no route says.
    pub heuristic_fresh_max: Option<Span>,
    /// Sets: how long at most the answer that there is nothing answers others; 0s for never. A
    /// first such answer holds for a quarter of it, and twice as long with each in a row.
    pub negative_for: Option<Span>,
    /// Sets: which statuses are such answers; 404 and 410 by default, of 404, 410, 422, 451, 500,
    /// 501, 502 and 504.
    pub negative_statuses: Option<Vec<u16>>,
    /// Sets: how much sooner a lifetime may end, in percent, where more than 100 answers are stored
    /// within a second: what is fetched together should not end together; 0 to 50.
    pub lifetime_jitter_percent: Option<u8>,
    /// Sets: how early what is asked for often is refreshed before it ends; 0 for never, 1 for
    /// about as long before as the fetch takes, at most 10.
    pub refresh_ahead: Option<f64>,
    /// Sets: what becomes of a fetch that all its callers have left: `finish` or `cancel`.
    pub when_nobody_reads: Option<String>,
    /// Sets: request fields named by `Vary` whose spelling does not count: case, order, white space.
    pub vary_normalize: Option<Vec<String>>,
    /// Sets: tags of its entries, with `{route}`, `{model}`, `{answered_by}`, `{tool}`,
    /// `{header:NAME}` or `{query:NAME}` in them.
    pub tags: Option<Vec<String>>,
    /// Sets: whether requests may add tags in `Cache-Server-Tags`.
    pub tags_from_request: Option<bool>,
    /// Sets: whether entries of a model become stale when another model begins to answer for it.
    pub soft_purge_on_model_change: Option<bool>,
    /// Sets: what caches in front of us, and browsers, are told to keep of HTTP at large.
    pub emit: Option<Emit>,
    /// Sets: `tenant`, or `shared`: callers of every named tenant share answers.
    pub scope: Option<String>,
    /// Sets: whether `shared` includes callers that belong to no `[[tenant]]`.
    pub allow_unverified_callers: Option<bool>,
    /// Sets: more members of the body that the key leaves out.
    pub ignore_members: Option<Vec<String>>,
    /// Sets: members that the key keeps although it leaves them out by default.
    pub keep_members: Option<Vec<String>>,
}

/// `[route.emit]`: what the answers of a route say on their way out. Where `browser` is set, none of
/// the upstream's lifetimes goes on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Emit {
    /// How long browsers keep an answer, and all who read `Cache-Control` alone.
    pub browser: Option<Span>,
    /// How long after that they answer with it while they refresh it.
    pub browser_stale_while_revalidate: Option<Span>,
    /// How long after its end they answer with it when we fail.
    pub browser_stale_if_error: Option<Span>,
    /// How long a cache in front of us keeps it, if that is another time. Only what all callers share
    /// is kept there at all.
    pub cdn: Option<Span>,
    /// How long after that the cache in front answers while it refreshes.
    pub cdn_stale_while_revalidate: Option<Span>,
    /// How long after its end the cache in front answers when we fail.
    pub cdn_stale_if_error: Option<Span>,
    /// Where the cache in front is told: `CDN-Cache-Control` (the default), `Surrogate-Control`,
    /// `Cache-Server-Cache-Control`, or `Cache-Control` for `s-maxage`.
    pub cdn_fields: Option<Vec<String>>,
    /// Where tags stand: `Surrogate-Key`, `Cache-Tag`; nowhere if not set.
    pub tag_fields: Option<Vec<String>>,
    /// What `Vary` names besides.
    pub vary: Option<Vec<String>>,
    /// Whether answers without an `ETag` get one, made from their bytes.
    pub etag: Option<bool>,
    /// Fields of the upstream that do not go out.
    pub strip: Option<Vec<String>>,
}

/// `[[tenant]]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Digests of its credentials, as `cache-server credential-digest` prints them.
    pub credential_digests: Vec<String>,
    /// Which answers are reused for it, where no route says.
    pub reuse: Option<String>,
}

/// `[trace]`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    /// The base URL of an OTLP/HTTP collector; without it, traces are off.
    #[schemars(extend("x-needs-restart" = true))]
    pub endpoint: Option<String>,
    /// The share of requests without a trace of their own that begin one, 0 to 1.
    #[schemars(extend("x-needs-restart" = true))]
    pub sample: f64,
    /// A file of `Name: value` lines that the collector is sent besides.
    #[schemars(extend("x-needs-restart" = true))]
    pub headers_file: Option<PathBuf>,
}

impl Default for Trace {
    fn default() -> Trace {
        Trace { endpoint: None, sample: 1.0, headers_file: None }
    }
}
