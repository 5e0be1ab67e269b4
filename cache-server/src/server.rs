//! The listeners: an accept loop of our own on hyper, with every bound that a server needs.
//!
//! A connection's way, a file a step:
//!
//! ```text
//! listen → accept → proxy_protocol → addresses → tls → converse ─ HTTP/1.1 → lane → request::serve
//!                                       └ refusal          │                  └ request::repeat
//!                                                          └───── HTTP/2 ────────→ request::serve
//! ```
//!
//! - Connections: at most `connections_max`; further ones wait in the kernel's queue. At most
//!   `connections_per_address_max` of them from one address; further ones are refused.
//! - Header: at most `headers_max` fields and `header_bytes_max` bytes (431), complete within
//!   `header_timeout` of its first byte. A PROXY header and a TLS handshake have as long.
//! - HTTP/2: at most `streams_max` requests at once; windows, resets and buffers are bounded in
//!   `converse`.
//! - Idle connections are closed after `idle_timeout`, and those whose caller takes nothing of an
//!   answer after `write_timeout`: what a connection is doing is noted in `activity` by `wire`
//!   (its bytes), `frames` (HTTP/2's headers) and `answer` (its bodies), and read by `watchdog`.
//! - Draining: no new connections, no new requests on old ones; answers under way finish.

mod accept;
mod activity;
mod addresses;
mod answer;
mod arrival;
mod converse;
mod descriptors;
mod frames;
mod lane;
mod listen;
mod proxy_protocol;
mod refusal;
mod tls;
mod watchdog;
mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::routes;
use accept::Acceptor;
use arrival::Gate;

pub use descriptors::raise_descriptor_limit;
pub use listen::{BindError, Listeners};
pub use tls::reread_certificate;

/// Connections of the admin listener at once.
const ADMIN_CONNECTIONS_MAX: usize = 64;
/// How often the histograms' buffers are drained.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How often the requests that have no line of their own are counted in one.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// Serves until `stop` resolves, then drains: answers and fills under way finish, at most until
/// the drain deadline, and the tiers are closed. The admin listener answers to the end.
pub async fn serve(app: Arc<App>, listeners: Listeners, stop: impl Future<Output = ()>) {
    let connections = TaskTracker::new();
    let upkeep = tokio::spawn(keep_up(Arc::clone(&app)));
    let telling = tokio::spawn(tell_rest(Arc::clone(&app)));
    let certificate = tokio::spawn(tls::follow_certificate(Arc::clone(&app)));
    let admin = tokio::spawn(accept_admin(Arc::clone(&app), listeners.admin));
    let data = tokio::spawn(accept_data(Arc::clone(&app), listeners.data, connections.clone()));
    stop.await;
    tracing::info!("draining");

    let deadline = Instant::now() + app.settings().server.drain_timeout;
    app.draining.cancel();
    // The listener goes with its task, so that new callers are refused at once.
    let _ = data.await;
    connections.close();
    if tokio::time::timeout_at(deadline, connections.wait()).await.is_err() {
        let cut = connections.len();
        tracing::warn!(connections = cut, "answers were cut off at the drain deadline");
    }
    app.tear_down(deadline).await;
    app.telemetry.lines().tell_rest();
    for task in [admin, upkeep, telling, certificate] {
        task.abort();
    }
}

async fn keep_up(app: Arc<App>) {
    loop {
        tokio::time::sleep(UPKEEP_INTERVAL).await;
        app.telemetry.upkeep();
    }
}

async fn tell_rest(app: Arc<App>) {
    loop {
        tokio::time::sleep(TELL_INTERVAL).await;
        app.telemetry.lines().tell_rest();
    }
}

async fn accept_data(app: Arc<App>, listener: TcpListener, connections: TaskTracker) {
    let telemetry = Arc::clone(&app.telemetry);
    let mut acceptor = Acceptor::new(listener, app.settings().server.connections_max, telemetry);
    let gate = Arc::new(Gate::default());
    loop {
        let accepted = tokio::select! {
            () = app.draining.cancelled() => return,
            accepted = acceptor.next() => accepted,
        };
        let (app, gate) = (Arc::clone(&app), Arc::clone(&gate));
        connections.spawn(async move { arrival::receive(app, &gate, accepted).await });
    }
}

async fn accept_admin(app: Arc<App>, listener: TcpListener) {
    let telemetry = Arc::clone(&app.telemetry);
    let mut acceptor = Acceptor::new(listener, ADMIN_CONNECTIONS_MAX, telemetry);
    let router = routes::admin(Arc::clone(&app));
    loop {
        let accepted = acceptor.next().await;
        tokio::spawn(arrival::receive_admin(Arc::clone(&app), router.clone(), accepted));
    }
}
