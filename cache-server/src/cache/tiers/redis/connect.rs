//! Connects to Redis: to one server, to the master that sentinels name, or to a cluster.
//!
//! Answers come back in the order of the calls, and a call that nobody waits for any more has its
//! answer thrown away by the library: no call is ever given another's answer.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, TlsMode,
    Value,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::direct::Direct;
use super::fault;
use super::settings::{Address, Place, RedisSettings, Tls};
use crate::cache::tiers::TierError;

/// How long one connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long all of them may take altogether, sentinels and the nodes of a cluster included.
const CONNECT_ALL_TIMEOUT: Duration = Duration::from_secs(2);
/// After how long a silence the system asks whether Redis is still there, and how often.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// How often it asks in vain before it gives the connection up.
const KEEPALIVE_RETRIES: u32 = 3;
/// How long what was sent may go unconfirmed.
#[cfg(target_os = "linux")]
const UNCONFIRMED_MAX: Duration = Duration::from_secs(10);
/// Bytes that are read from a socket at once.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// Calls that wait to be sent on one connection.
const SEND_QUEUE: usize = 256;

/// Connects, again and again.
#[derive(Debug)]
pub(super) struct Connector {
    settings: Arc<RedisSettings>,
    /// How often it was tried: each time another sentinel is asked first.
    attempts: AtomicUsize,
}

/// Connections that stand.
#[derive(Debug)]
pub(super) struct Lanes {
    /// For reads, each by itself, where there is one server and no TLS.
    pub(super) direct: Option<Direct>,
    /// For those that find none of these idle.
    reads: Vec<Connection>,
    next: AtomicUsize,
    /// For values that are written: a large one holds up no read.
    pub(super) writes: Connection,
    /// For probes, which wait for nobody's values.
    pub(super) probes: Connection,
    /// Set once a call has found them to be of no use.
    pub(super) is_broken: AtomicBool,
    /// When they first led to a copy that takes no writes.
    pub(super) read_only_since: OnceLock<Instant>,
}

impl Lanes {
    /// A connection for the next read.
    pub(super) fn read(&self) -> Connection {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.reads[next % self.reads.len()].clone()
    }
}

/// One connection, which carries any number of calls at once.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    One {
        /// The library's end of it.
        connection: MultiplexedConnection,
        /// What moves its bytes, where that is not the library's.
        _driver: Option<Arc<Driver>>,
    },
    /// To the nodes of a cluster.
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// Sends a command and waits for its answer. It has no deadline.
    ///
    /// # Errors
    /// What Redis or the connection says.
    pub(super) async fn call(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Connection::One { connection, .. } => connection.send_packed_command(command).await?,
            Connection::Cluster(connection) => connection.req_packed_command(command).await?,
        }
        .extract_error()
    }
}

impl Connector {
    /// One for these settings.
    #[must_use]
    pub(super) fn new(settings: Arc<RedisSettings>) -> Connector {
        Connector { settings, attempts: AtomicUsize::new(0) }
    }

    /// Whether a new connection may lead to another server.
    #[must_use]
    pub(super) fn may_lead_elsewhere(&self) -> bool {
        matches!(self.settings.address, Address::Sentinel { .. })
    }

    /// Makes all connections.
    ///
    /// # Errors
    /// The first that did not stand in time.
    pub(super) async fn connect(&self) -> Result<Lanes, TierError> {
        let connected = tokio::time::timeout(CONNECT_ALL_TIMEOUT, self.try_connect()).await;
        match connected {
            Ok(Ok(lanes)) => Ok(lanes),
            Ok(Err(error)) => Err(fault::of_connecting(&error)),
            Err(_elapsed) => {
                let said = format!("no connection within {CONNECT_ALL_TIMEOUT:?}");
                Err(TierError::Fault { kind: "connect", said })
            }
        }
    }

    /// A connection of its own that hears what is published on these channels. In a cluster every node tells
    /// of all that is.
    ///
    /// # Errors
    /// When there is no connection in time.
    pub(super) async fn listen(&self, channels: &[String]) -> Result<PubSub, TierError> {
        let listening = async {
            let mut listening = self.server().await?.get_async_pubsub().await?;
            listening.subscribe(channels).await?;
            Ok(listening)
        };
        let listening = tokio::time::timeout(CONNECT_ALL_TIMEOUT, listening).await;
        listening
            .unwrap_or(Err(RedisError::from((redis::ErrorKind::Io, "it takes too long"))))
            .map_err(|error| fault::of_connecting(&error))
    }

    async fn try_connect(&self) -> RedisResult<Lanes> {
        let lanes = self.settings.connections + 2;
        let mut direct = None;
        let mut connections = match &self.settings.address {
            Address::One(_) | Address::Sentinel { .. } => {
                let client = self.server().await?;
                direct = Direct::to(&client, self.settings.connections);
                self.connections(lanes, &client).await?
            }
            Address::Cluster(nodes) => {
                let client = self.cluster(nodes)?;
                let connect = || {
                    let client = client.clone();
                    async move { Ok(Connection::Cluster(client.get_async_connection().await?)) }
                };
                all_after_one(lanes, connect).await?
            }
        };
        let (Some(writes), Some(probes)) = (connections.pop(), connections.pop()) else {
            return Err(RedisError::from((redis::ErrorKind::Client, "no connections")));
        };
        Ok(Lanes {
            direct,
            reads: connections,
            next: AtomicUsize::new(0),
            writes,
            probes,
            is_broken: AtomicBool::new(false),
            read_only_since: OnceLock::new(),
        })
    }

    async fn connections(&self, count: usize, client: &Client) -> RedisResult<Vec<Connection>> {
        // Each call brings a deadline of its own.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(SEND_QUEUE);
        let connect = || {
            let (client, config) = (client.clone(), config.clone());
            async move {
                match client.get_connection_info().addr() {
                    ConnectionAddr::Tcp(host, port) => {
                        in_time(plain(host, *port, &client, config)).await
                    }
                    _ => {
                        let connecting =
                            client.get_multiplexed_async_connection_with_config(&config);
                        Ok(Connection::One { connection: connecting.await?, _driver: None })
                    }
                }
            }
        };
        all_after_one(count, connect).await
    }

    /// The server, or any node of a cluster.
    async fn server(&self) -> RedisResult<Client> {
        match &self.settings.address {
            Address::One(place) => self.client(place),
            Address::Sentinel { sentinels, master } => self.master(sentinels, master).await,
            Address::Cluster(nodes) => {
                let turn = self.attempts.fetch_add(1, Ordering::Relaxed) % nodes.len().max(1);
                self.client(&nodes[turn])
            }
        }
    }

    fn client(&self, place: &Place) -> RedisResult<Client> {
        let info = self.info(place)?;
        match &self.settings.tls {
            Some(tls) => Client::build_with_tls(info, certificates(tls)),
            None => Client::open(info),
        }
    }

    async fn master(&self, sentinels: &[Place], master: &str) -> RedisResult<Client> {
        let settings = &self.settings;
        let mut sentinels: Vec<_> = sentinels.iter().map(|place| self.address(place)).collect();
        // One that hangs takes all the time there is: the next attempt begins with another.
        let first = self.attempts.fetch_add(1, Ordering::Relaxed) % sentinels.len().max(1);
        sentinels.rotate_left(first);
        let mut builder =
            SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
                .set_client_to_redis_db(settings.database)
                .set_client_to_redis_tcp_settings(tcp())
                .set_client_to_sentinel_tcp_settings(tcp());
        if let Some(username) = &settings.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &settings.password {
            builder = builder.set_client_to_redis_password(&password.0);
        }
        if let Some(password) = &settings.sentinel_password {
            builder = builder.set_client_to_sentinel_password(&password.0);
        }
        if let Some(tls) = &settings.tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates(tls))
                .set_client_to_sentinel_certificates(certificates(tls));
        }
        builder.build()?.async_get_client().await
    }

    fn cluster(&self, nodes: &[Place]) -> RedisResult<ClusterClient> {
        let settings = &self.settings;
        let nodes = nodes.iter().map(|place| self.info(place)).collect::<RedisResult<Vec<_>>>()?;
        // A call that is not answered in time is given up: retries are for keys that have moved.
        let mut builder = ClusterClientBuilder::new(nodes)
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(settings.deadline.max(settings.write_deadline))
            .retries(2)
            .tcp_settings(tcp());
        if let Some(tls) = &settings.tls {
            builder = builder.tls(TlsMode::Secure).certs(certificates(tls));
        }
        builder.build()
    }

    fn info(&self, place: &Place) -> RedisResult<ConnectionInfo> {
        let settings = &self.settings;
        let mut redis = RedisConnectionInfo::default().set_db(settings.database);
        if let Some(username) = &settings.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &settings.password {
            redis = redis.set_password(&password.0);
        }
        let info = self.address(place).into_connection_info()?;
        Ok(info.set_tcp_settings(tcp()).set_redis_settings(redis))
    }

    fn address(&self, place: &Place) -> ConnectionAddr {
        let (host, port) = (place.host.clone(), place.port);
        match self.settings.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        }
    }
}

/// A connection without TLS, which is read from in large pieces: the library's buffer holds little more
/// than a small value, so that each would take several reads of the socket.
async fn plain(
    host: &str,
    port: u16,
    client: &Client,
    config: AsyncConnectionConfig,
) -> RedisResult<Connection> {
    let stream = BufReader::with_capacity(READ_BUFFER_BYTES, socket(host, port).await?);
    let settings = client.get_connection_info().redis_settings();
    let made = MultiplexedConnection::new_with_config(settings, stream, config).await;
    let (connection, driver) = made?;
    let driver = Driver(tokio::spawn(driver));
    Ok(Connection::One { connection, _driver: Some(Arc::new(driver)) })
}

/// A socket that sends at once what it is given, and notices that the other end has vanished.
pub(super) async fn socket(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive())?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNCONFIRMED_MAX))?;
    Ok(stream)
}

/// Has a connection stand within the time that one may take, or fail.
pub(super) async fn in_time<C>(connecting: impl Future<Output = RedisResult<C>>) -> RedisResult<C> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    connected.unwrap_or_else(|_elapsed| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time").into())
    })
}

/// What moves the bytes of a connection. It ends with the last handle on it, whether Redis still owes
/// answers or not.
#[derive(Debug)]
pub(super) struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One connection, then the others: where the first does not stand, no more are tried.
async fn all_after_one<F: Future<Output = RedisResult<Connection>>>(
    count: usize,
    connect: impl Fn() -> F,
) -> RedisResult<Vec<Connection>> {
    let mut connections = vec![connect().await?];
    connections.extend(try_join_all((1..count).map(|_| connect())).await?);
    Ok(connections)
}

fn tcp() -> TcpSettings {
    // The library leaves Nagle's algorithm on.
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive());
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNCONFIRMED_MAX);
    settings
}

/// Nobody else notices that the other end of a connection that only reads has vanished.
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE)
        .with_retries(KEEPALIVE_RETRIES)
}

fn certificates(tls: &Tls) -> TlsCertificates {
    let client_tls = tls.client.as_ref().map(|client| ClientTlsConfig {
        client_cert: client.cert_pem.clone(),
        client_key: client.key_pem.clone(),
    });
    TlsCertificates { client_tls, root_cert: tls.ca_pem.clone() }
}
