//! Binding: the two listeners, and the options of their sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that may wait in the kernel's queue; the kernel may allow fewer
/// (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// A caller that is gone without a word is found after this much silence, and four probes.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The two listeners, bound.
#[derive(Debug)]
pub struct Listeners {
    pub(super) data: TcpListener,
    pub(super) admin: TcpListener,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({field})")]
pub struct BindError {
    field: &'static str,
    address: SocketAddr,
    source: io::Error,
}

impl Listeners {
    /// Binds both addresses. Must be called inside a runtime.
    ///
    /// # Errors
    /// When one is taken or not ours to bind.
    pub fn bind(data: SocketAddr, admin: SocketAddr) -> Result<Listeners, BindError> {
        let bind = |field, address| {
            listener(address).map_err(|source| BindError { field, address, source })
        };
        Ok(Listeners {
            data: bind("server.listen", data)?,
            admin: bind("server.admin_listen", admin)?,
        })
    }

    /// Where callers connect; the port is the one that was really bound.
    ///
    /// # Errors
    /// Those of the system.
    pub fn data_address(&self) -> io::Result<SocketAddr> {
        self.data.local_addr()
    }

    /// Where health, metrics and stats are.
    ///
    /// # Errors
    /// Those of the system.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the last server's connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What every accepted connection gets. A socket that refuses is served all the same.
pub(super) fn set_options(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive.with_retries(4));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_accepted_socket_has_its_options() {
        let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listeners = Listeners::bind(loopback, loopback).unwrap();
        let address = listeners.data_address().unwrap();
        let _caller = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listeners.data.accept().await.unwrap();
        set_options(&stream);
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_TIME);
        assert!(SockRef::from(&listeners.data).reuse_address().unwrap());
    }

    #[tokio::test]
    async fn a_taken_address_names_its_field() {
        let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listeners = Listeners::bind(loopback, loopback).unwrap();
        let taken = listeners.data_address().unwrap();
        let error = Listeners::bind(loopback, taken).unwrap_err().to_string();
        assert!(error.contains("server.admin_listen"), "{error}");
    }
}
