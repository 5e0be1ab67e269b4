//! The listeners: an accept loop of our own on hyper, with every bound that a server needs.
//!
//! - Connections: at most `connections_max`; further ones wait in the kernel's queue.
//! - Header: at most `headers_max` fields and `header_bytes_max` bytes (431), complete within
//!   `header_timeout` of its first byte.
//! - Idle connections are closed after `idle_timeout`, and those whose caller takes nothing of an
//!   answer after `write_timeout`.
//! - Draining: no new connections, no new requests on old ones; answers under way finish.

mod connection;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::app::App;
use crate::config::ServerSettings;
use crate::{request, routes};
use connection::{Watchdog, Watched};

/// Connections of the admin listener at once.
const ADMIN_CONNECTIONS_MAX: usize = 64;
/// The pause after a failed accept: descriptors have run out, and a spin would help nobody.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often the requests that got no line in the log are told of.
const TELL_INTERVAL: Duration = Duration::from_secs(1);
/// How often the histograms' buffers are drained.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The two listeners, bound.
#[derive(Debug)]
pub struct Listeners {
    data: TcpListener,
    admin: TcpListener,
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
    /// Binds both addresses.
    ///
    /// # Errors
    /// When one is taken or not ours to bind.
    pub async fn bind(data: SocketAddr, admin: SocketAddr) -> Result<Listeners, BindError> {
        let bind = |field, address| async move {
            let bound = TcpListener::bind(address).await;
            bound.map_err(|source| BindError { field, address, source })
        };
        Ok(Listeners {
            data: bind("server.listen", data).await?,
            admin: bind("server.admin_listen", admin).await?,
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

/// Serves until `stop` resolves, then drains: answers and fills under way finish, at most until
/// the drain deadline, and the tiers are closed. The admin listener answers to the end.
pub async fn serve(app: Arc<App>, listeners: Listeners, stop: impl Future<Output = ()>) {
    let connections = TaskTracker::new();
    let upkeep = tokio::spawn(keep_up(Arc::clone(&app)));
    let telling = tokio::spawn(tell_rest(Arc::clone(&app)));
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
    admin.abort();
    upkeep.abort();
    telling.abort();
    app.telemetry.lines().tell_rest();
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
    let permits = Arc::new(Semaphore::new(app.settings().server.connections_max));
    loop {
        let accepted = tokio::select! {
            () = app.draining.cancelled() => return,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, permit) = accepted;
        let app = Arc::clone(&app);
        connections.spawn(async move {
            let _permit = permit;
            app.connections_open.fetch_add(1, Ordering::Relaxed);
            let served = Arc::clone(&app);
            let serve = move |request| {
                let app = Arc::clone(&served);
                async move { request::serve(&app, request).await }
            };
            converse(&app.settings().server, stream, serve, &app.draining).await;
            app.connections_open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn accept_admin(app: Arc<App>, listener: TcpListener) {
    let permits = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    let router = routes::admin(Arc::clone(&app));
    loop {
        let (stream, permit) = accept(&listener, &permits).await;
        let (app, router) = (Arc::clone(&app), router.clone());
        tokio::spawn(async move {
            let _permit = permit;
            // Health is asked for while the server drains, too.
            let never = CancellationToken::new();
            let serve = move |request: Request<Incoming>| {
                let router = router.clone();
                async move {
                    match router.oneshot(request).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    }
                }
            };
            converse(&app.settings().server, stream, serve, &never).await;
        });
    }
}

/// Waits for room, then for a connection.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, tokio::sync::OwnedSemaphorePermit) {
    let permit = Arc::clone(permits).acquire_owned().await.expect("never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection to its end; once `draining`, no further request is taken from it.
async fn converse<B, F>(
    settings: &ServerSettings,
    stream: TcpStream,
    serve: impl Fn(Request<Incoming>) -> F,
    draining: &CancellationToken,
) where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    F: Future<Output = Response<B>>,
{
    let _ = stream.set_nodelay(true);
    let (watched, phase) = Watched::new(TokioIo::new(stream));
    let watchdog = Watchdog::new(Arc::clone(&phase), settings);
    let service = service_fn(|request| {
        let busy = phase.begin();
        let answer = serve(request);
        async move {
            let response = answer.await;
            Ok::<_, std::convert::Infallible>(response.map(|body| busy.until_sent(body)))
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_headers(settings.headers_max)
            .max_buf_size(settings.header_bytes_max)
            .half_close(false)
            .serve_connection(watched, service)
            .with_upgrades()
    );
    let mut watchdog = pin!(watchdog.bark());
    let mut draining = pin!(draining.cancelled());
    let mut told = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            why = watchdog.as_mut() => {
                tracing::debug!(why, "a connection was closed");
                return;
            }
            () = draining.as_mut(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
