//! Reads the config anew at SIGHUP and when its file has changed. A bad one changes nothing and
//! says why; connections, entries and fills under way stay in any case.

use std::sync::Arc;

use anyhow::Context;
use cache_server::app::App;
use cache_server::config::schema;
use cache_server::config::sources::{Effective, Loaded, Sources};
use cache_server::config::watch::Watch;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::supervisor;

/// Waits for reasons to read the config anew.
#[derive(Debug)]
pub(crate) struct Reload {
    app: Arc<App>,
    sources: Sources,
    at_start: Effective,
    in_force: Effective,
    /// The file's text when it was last looked at.
    text: Option<String>,
    hangup: Signal,
    /// Nothing where there is no file, or it cannot be watched.
    watch: Option<Watch>,
}

impl Reload {
    /// Begins to listen for SIGHUP and for changes.
    pub(crate) fn new(
        app: Arc<App>,
        sources: Sources,
        in_force: Effective,
    ) -> anyhow::Result<Reload> {
        let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        let watch = sources.file.as_deref().and_then(|file| match Watch::begin([file]) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!(%error, "changes of the config file go unnoticed; send SIGHUP");
                None
            }
        });
        let text = read(&sources);
        Ok(Reload { app, sources, at_start: in_force.clone(), in_force, text, hangup, watch })
    }

    /// Reads the config anew, again and again.
    pub(crate) async fn run(mut self) {
        // The file may have changed after it was read and before it was watched.
        if self.watch.is_some() && !self.is_in_force() {
            self.reload();
        }
        loop {
            tokio::select! {
                Some(()) = self.hangup.recv() => {}
                () = changed(self.watch.as_mut()) => {
                    if read(&self.sources) == self.text {
                        continue;
                    }
                }
            }
            self.reload();
        }
    }

    /// Whether the file still says what is in force.
    fn is_in_force(&self) -> bool {
        let loaded = self.sources.load();
        loaded.is_ok_and(|loaded| loaded.effective.changed_since(&self.in_force).is_empty())
    }

    fn reload(&mut self) {
        supervisor::reloading();
        cache_server::server::reread_certificate(&self.app);
        self.text = read(&self.sources);
        let applied = self.try_reload();
        self.app.telemetry.config_reloaded(applied.is_ok());
        if let Err(error) = applied {
            let error = format!("{error:#}");
            tracing::error!(error, "the config was not taken over; the one before stays in force");
        }
        supervisor::ready();
    }

    fn try_reload(&mut self) -> anyhow::Result<()> {
        let Loaded { config, effective } = self.sources.load()?;
        let changed = effective.changed_since(&self.in_force);
        let log = config.log.clone();
        self.app.apply(config)?;
        self.app.telemetry.lines().set_per_second_max(log.requests_per_second_max);
        // A level that was set at run time stays until the config names another.
        if changed.iter().any(|path| path == "log.level") {
            self.app.log.set_level(log.level);
        }
        let needs_restart = |path: &String| schema::needs_restart(path);
        let now: Vec<String> = changed.into_iter().filter(|path| !needs_restart(path)).collect();
        tracing::info!(changed = now.join(", "), "the config was read anew");
        // These are as they were at the start, whatever was read since.
        let mut later = effective.changed_since(&self.at_start);
        later.retain(needs_restart);
        self.in_force = effective;
        if !later.is_empty() {
            tracing::warn!(fields = later.join(", "), "these changes wait for a restart");
        }
        Ok(())
    }
}

fn read(sources: &Sources) -> Option<String> {
    std::fs::read_to_string(sources.file.as_deref()?).ok()
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}
