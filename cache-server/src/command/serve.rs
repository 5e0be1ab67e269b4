//! `cache-server serve`

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use cache_server::app::App;
use cache_server::config::Config;
use cache_server::config::sources::Loaded;
use cache_server::server::{self, Listeners};
use cache_server::telemetry::log::LogControl;
use tokio::signal::unix::{SignalKind, signal};

use super::reload::Reload;
use super::{Failure, ServeOptions, supervisor};

pub(crate) fn run(options: &ServeOptions) -> Result<(), Failure> {
    let sources = options.sources();
    let Loaded { config, effective } = sources.load()?;
    let (log, _log_guard) = LogControl::start(&config.log, "").map_err(Failure::start)?;
    for variable in &effective.unknown_variables {
        tracing::warn!(variable, "a variable looks like one of ours and means nothing");
    }
    runtime()?.block_on(async {
        let (app, listeners) = start(config, log).await.map_err(Failure::start)?;
        // Waited for before anyone is told that we listen.
        let stop = stop_signal().map_err(Failure::start)?;
        let reload = Reload::new(Arc::clone(&app), sources, effective).map_err(Failure::start)?;
        let reload = tokio::spawn(reload.run());
        introduce(&app, &listeners).map_err(Failure::start)?;
        supervisor::ready();
        server::serve(app, listeners, stop).await;
        reload.abort();
        tracing::info!("stopped");
        Ok(())
    })
}

/// How many tasks run before sockets are looked at again. In a crowd the few that everyone waits for
/// (the upstream, Redis) are among them: half of tokio's number is half of their wait.
const TASKS_BETWEEN_EVENTS: u32 = 31;

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .event_interval(TASKS_BETWEEN_EVENTS)
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .map_err(Failure::start)
}

/// Binds the listeners and opens the tiers. Who connects meanwhile waits in the kernel's queue.
pub(crate) async fn start(
    config: Config,
    log: LogControl,
) -> anyhow::Result<(Arc<App>, Listeners)> {
    take_small_pages();
    server::raise_descriptor_limit(config.server.connections_max, config.local.disk_bytes_max);
    let listeners = Listeners::bind(config.server.listen, config.server.admin_listen)?;
    let app = App::build(config, log).await?;
    Ok((app, listeners))
}

/// Has memory come in pages of 4 KiB. The allocator asks for transparent huge pages: the first thousand
/// callers who wait would each have the whole of what is set aside for them cleared, most of which is
/// never written, while everybody else waits for the core that does it.
fn take_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        tracing::debug!(%error, "memory may come in huge pages");
    }
}

/// Resolves at SIGTERM or SIGINT.
pub(crate) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        supervisor::stopping();
    })
}

/// Prints where it listens and which base URLs to paste.
fn introduce(app: &App, listeners: &Listeners) -> anyhow::Result<()> {
    let data = listeners.data_address()?;
    app.log.say(concat!("cache-server ", env!("CARGO_PKG_VERSION")));
    for upstream in &app.settings().upstreams {
        let hosts = upstream.settings().hosts.join(", ");
        let place = if hosts.is_empty() { data.to_string() } else { hosts };
        let mount = format!("{}://{place}{}", scheme(app), upstream.prefix());
        app.log.say(&format!("  {mount}  →  {}", upstream.identity()));
    }
    print_base_urls(app, data);
    print_addresses(app, listeners)
}

/// What callers write in front of our address.
fn scheme(app: &App) -> &'static str {
    if app.certificate.is_some() { "https" } else { "http" }
}

/// The two addresses, with the ports that were really bound.
pub(crate) fn print_addresses(app: &App, listeners: &Listeners) -> anyhow::Result<()> {
    app.log.say(&format!("Health, metrics and stats on http://{}", listeners.admin_address()?));
    app.log.say(&format!("Listening on {}://{}", scheme(app), listeners.data_address()?));
    Ok(())
}

/// The lines to paste for clients that read a base URL from their environment.
pub(crate) fn print_base_urls(app: &App, data: SocketAddr) {
    let settings = app.settings();
    let mount = |provider: &str| {
        let mut reached = settings.upstreams.iter().filter(|u| u.settings().hosts.is_empty());
        let named = reached.clone().find(|upstream| upstream.name() == provider);
        let found = named.or_else(|| reached.find(|upstream| upstream.prefix().is_empty()));
        found.map(|upstream| upstream.prefix())
    };
    app.log.say("Point a client here:");
    for (variable, provider, version) in [
        ("OPENAI_BASE_URL", "openai", "/v1"),
        ("ANTHROPIC_BASE_URL", "anthropic", ""),
        ("GOOGLE_GEMINI_BASE_URL", "gemini", ""),
    ] {
        let Some(prefix) = mount(provider) else { continue };
        // A base URL with a path of its own brings the version along.
        app.log.say(&format!("  export {variable}={}://{data}{prefix}{version}", scheme(app)));
    }
}
