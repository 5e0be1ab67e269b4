//! What a connection goes through before its first request: whom it comes from, whether there is
//! a place for it, TLS.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Request;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::accept::Accepted;
use super::activity::Activity;
use super::addresses::{Addresses, Place};
use super::converse::{Guards, Protocol, Wire, converse};
use super::wire::Outgoing;
use super::{proxy_protocol, refusal, tls};
use crate::app::App;
use crate::config::ServerSettings;
use crate::request::{deadline, respond};
use crate::telemetry::Refused;

/// Serves one connection of the data listener to its end.
pub(super) async fn receive(app: Arc<App>, addresses: &Arc<Addresses>, accepted: Accepted) {
    let Accepted { stream, peer, permit: _permit } = accepted;
    app.connections_open.fetch_add(1, Ordering::Relaxed);
    // Once a connection: what changes meanwhile is for the next one.
    let settings = app.settings();
    let settings = &settings.server;
    let prepared = tokio::select! {
        prepared = prepare(&app, settings, addresses, stream, peer) => prepared,
        () = app.draining.cancelled() => None,
    };
    if let Some(prepared) = prepared {
        answer(&app, settings, prepared).await;
    }
    app.connections_open.fetch_sub(1, Ordering::Relaxed);
}

/// Answers what is asked on a connection.
async fn answer(app: &Arc<App>, settings: &ServerSettings, prepared: Prepared) {
    let Prepared { wire, activity, protocol, _place } = prepared;
    let served = Arc::clone(app);
    let serve = move |request| {
        let app = Arc::clone(&served);
        async move { deadline::serve(&app, request).await }
    };
    let guards = Guards::new(&activity, settings, &app.draining);
    converse(settings, wire, activity, protocol, guards, serve).await;
}

/// Serves one connection of the admin listener to its end.
pub(super) async fn receive_admin(app: Arc<App>, router: axum::Router, accepted: Accepted) {
    let Accepted { stream, permit: _permit, .. } = accepted;
    let serve = move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            match router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    };
    // Health is asked for while the server drains, too.
    let never = CancellationToken::new();
    let activity = Arc::new(Activity::default());
    let wire = Either::Left(Outgoing::new(stream, Arc::clone(&activity)));
    let settings = app.settings();
    let guards = Guards::new(&activity, &settings.server, &never);
    converse(&settings.server, wire, activity, None, guards, serve).await;
}

/// A connection that may ask.
struct Prepared {
    wire: Wire,
    activity: Arc<Activity>,
    /// What TLS agreed on.
    protocol: Option<Protocol>,
    _place: Place,
}

/// All that comes before the first request, within the header's time. Nothing is left of a
/// connection that does not get through it.
async fn prepare(
    app: &App,
    settings: &ServerSettings,
    addresses: &Arc<Addresses>,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> Option<Prepared> {
    let deadline = Instant::now() + settings.header_timeout;
    let caller = caller(app, settings, &mut stream, peer, deadline).await?;
    let Some(place) = addresses.take(caller.ip(), settings.connections_per_address_max) else {
        app.telemetry.connection_refused(Refused::PerAddress);
        // Under TLS a handshake would come first, and that is what costs most.
        if app.certificate.is_none() {
            refusal::turn_away(stream, respond::too_many_connections()).await;
        }
        return None;
    };
    let activity = Arc::new(Activity::default());
    let socket = Outgoing::new(stream, Arc::clone(&activity));
    let (wire, protocol) = match &app.certificate {
        None => (Either::Left(socket), None),
        Some(certificate) => {
            let shaken = tls::shake_hands(certificate, socket);
            let shaken = within(app, deadline, Refused::Handshake, shaken).await;
            let (stream, protocol) = shaken?;
            (Either::Right(Box::new(stream)), Some(protocol))
        }
    };
    Some(Prepared { wire, activity, protocol, _place: place })
}

/// Who calls: the other end of the socket, or whom a load balancer names that we listen to.
async fn caller(
    app: &App,
    settings: &ServerSettings,
    stream: &mut TcpStream,
    peer: SocketAddr,
    deadline: Instant,
) -> Option<SocketAddr> {
    if !proxy_protocol::is_expected(&settings.proxy_protocol_from, peer.ip()) {
        return Some(peer);
    }
    let told = within(app, deadline, Refused::ProxyHeader, proxy_protocol::read(stream)).await?;
    Some(told.unwrap_or(peer))
}

/// Waits for one step; one that fails or takes too long is the end of the connection.
async fn within<T, E: std::fmt::Display>(
    app: &App,
    deadline: Instant,
    refused: Refused,
    step: impl Future<Output = Result<T, E>>,
) -> Option<T> {
    let error = match tokio::time::timeout_at(deadline, step).await {
        Ok(Ok(done)) => return Some(done),
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => "it took longer than server.header_timeout".to_owned(),
    };
    tracing::debug!(why = refused.name(), error, "a connection was closed");
    app.telemetry.connection_refused(refused);
    None
}
