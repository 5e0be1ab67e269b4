//! Where Redis is, as whom it is asked, and the bounds of asking it.

use std::fmt;
use std::time::Duration;

use super::value::Form;

/// The Redis tier as the config has it.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where it is.
    pub address: Address,
    /// The ACL user; the default one without.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Password>,
    /// The password of the sentinels, which is none of Redis's.
    pub sentinel_password: Option<Password>,
    /// The number of the database; a cluster has only 0.
    pub database: i64,
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
    /// What the names of all keys begin with.
    pub prefix: String,
    /// How long one read may take before it counts as a miss.
    pub deadline: Duration,
    /// How long one write may take.
    pub write_deadline: Duration,
    /// Connections for reads; there is one more for writes and one for probes. Of direct ones there are as
    /// many, where there are any.
    pub connections: usize,
    /// How values are written, and how large they may be.
    pub form: Form,
    /// What this server calls itself to the others.
    pub node: String,
    /// Whether servers fetch a key once for all of them.
    pub shared_flights: bool,
    /// For how long an entry is given by a server that hears of no other.
    pub coherence_lifetime: Duration,
    /// Entries that wait to be written.
    pub write_queue_entries_max: usize,
    /// Bytes of entries that wait to be written.
    pub write_queue_bytes_max: usize,
}

impl RedisSettings {
    /// How long is waited where the alternative is a fetch of what another server has fetched: several
    /// deadlines, but no more than a quarter of a second unless one is.
    pub(super) fn patience(&self) -> Duration {
        (self.deadline * 5).min(PATIENCE_MAX).max(self.deadline)
    }
}

/// Longer nobody waits for word of Redis before a fetch, unless the deadline is longer.
const PATIENCE_MAX: Duration = Duration::from_millis(250);

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// One server.
    One(Place),
    /// The server that sentinels name as the master of this name.
    Sentinel {
        /// Some of the sentinels.
        sentinels: Vec<Place>,
        /// The name by which they know the master.
        master: String,
    },
    /// A cluster, of which these are some nodes.
    Cluster(Vec<Place>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |places: &[Place]| places.iter().map(Place::to_string).collect::<Vec<_>>().join(",");
        match self {
            Address::One(place) => write!(f, "{place}"),
            Address::Sentinel { sentinels, master } => {
                write!(f, "the master {master} of the sentinels {}", list(sentinels))
            }
            Address::Cluster(nodes) => write!(f, "the cluster of {}", list(nodes)),
        }
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What TLS needs beside the system's certificate authorities.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The certificate authorities to trust, in PEM, instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// What the server shows of itself.
    pub client: Option<ClientCertificate>,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate, then those that lead to its authority.
    pub cert_pem: Vec<u8>,
    /// Its private key.
    pub key_pem: Vec<u8>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate(hidden)")
    }
}

/// A password; it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}
