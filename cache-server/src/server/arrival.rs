//! What a connection goes through before its first request: whom it comes from, whether there is
//! a place for it, TLS.

use std::any::Any;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Method, Request};
use http_body_util::Either as EitherBody;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::accept::Accepted;
use super::activity::Activity;
use super::addresses::{Addresses, Place};
use super::converse::{Guards, Protocol, Wire, converse, is_refused};
use super::refusal::Farewells;
use super::wire::Outgoing;
use super::{proxy_protocol, tls};
use crate::app::App;
use crate::config::ServerSettings;
use crate::request::{deadline, purge, respond, tunnel};
use crate::telemetry::Refused;

/// Serves one connection of the data listener to its end.
pub(super) async fn receive(app: Arc<App>, gate: &Gate, accepted: Accepted) {
    let Accepted { stream, peer, permit } = accepted;
    let open = Open::new(&app, permit);
    // Once a connection: what changes meanwhile is for the next one.
    let settings = app.settings();
    let settings = &settings.server;
    let arrived = tokio::select! {
        arrived = prepare(&app, settings, &gate.addresses, stream, peer) => arrived,
        () = app.draining.cancelled() => None,
    };
    match arrived {
        Some(Arrived::May(prepared)) => answer(&app, settings, prepared, open).await,
        Some(Arrived::MayNot(stream)) => {
            // Its place is for others while it is told so.
            drop(open);
            gate.farewells.turn_away(stream, respond::too_many_connections).await;
        }
        None => {}
    }
}

/// What all connections of the data listener go through.
#[derive(Debug, Default)]
pub(super) struct Gate {
    addresses: Arc<Addresses>,
    farewells: Farewells,
}

/// A connection's place among all, counted for as long as it is held.
#[derive(Debug)]
struct Open {
    app: Arc<App>,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn new(app: &Arc<App>, permit: OwnedSemaphorePermit) -> Open {
        app.connections_open.fetch_add(1, Ordering::Relaxed);
        Open { app: Arc::clone(app), _permit: permit }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.app.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers what is asked on a connection.
async fn answer(app: &Arc<App>, settings: &ServerSettings, prepared: Prepared, open: Open) {
    let Prepared { wire, activity, protocol, place, address } = prepared;
    let served = Arc::clone(app);
    let places: Arc<dyn Any + Send + Sync> = Arc::new((open, place));
    let serve = move |mut request: Request<Incoming>| {
        let app = Arc::clone(&served);
        if let Some(upgrade) = request.extensions_mut().remove() {
            let caller = tunnel::Caller { upgrade, places: Arc::clone(&places) };
            request.extensions_mut().insert(caller);
        }
        if request.method() == purge::METHOD {
            request.extensions_mut().insert(purge::From(address));
        }
        async move {
            let is_head = request.method() == Method::HEAD;
            let response = deadline::serve(&app, request).await;
            if is_head { respond::without_body(response) } else { response.map(EitherBody::Left) }
        }
    };
    let guards = Guards::new(&activity, settings, &app.draining);
    let repeats = Some(Arc::clone(app));
    let ended = converse(settings, wire, activity, protocol, guards, repeats, serve).await;
    if ended.is_err_and(|error| is_refused(&error)) {
        app.telemetry.connection_refused(Refused::BadRequest);
    }
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
    let _ = converse(&settings.server, wire, activity, None, guards, None, serve).await;
}

/// A connection, once it is known who calls.
enum Arrived {
    /// There is a place for it.
    May(Prepared),
    /// Its address has as many as it may have. It is told so in cleartext alone: under TLS a
    /// handshake would come first, and that is what costs most.
    MayNot(TcpStream),
}

/// A connection that may ask.
struct Prepared {
    wire: Wire,
    activity: Arc<Activity>,
    /// What TLS agreed on.
    protocol: Option<Protocol>,
    place: Place,
    /// Who calls.
    address: IpAddr,
}

/// All that comes before the first request, within the header's time. Nothing is left of a
/// connection that does not get through it.
async fn prepare(
    app: &App,
    settings: &ServerSettings,
    addresses: &Arc<Addresses>,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> Option<Arrived> {
    let deadline = Instant::now() + settings.header_timeout;
    let caller = caller(app, settings, &mut stream, peer, deadline).await?;
    let Some(place) = addresses.take(caller.ip(), settings.connections_per_address_max) else {
        app.telemetry.connection_refused(Refused::PerAddress);
        return app.certificate.is_none().then_some(Arrived::MayNot(stream));
    };
    let address = caller.ip().to_canonical();
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
    Some(Arrived::May(Prepared { wire, activity, protocol, place, address }))
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
