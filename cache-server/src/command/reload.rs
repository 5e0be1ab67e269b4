//! Reads the config anew at SIGHUP and when its file has changed. A bad one changes nothing and
//! says why; connections, entries and fills under way stay in any case.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cache_server::app::App;
use cache_server::config::schema;
use cache_server::config::sources::{Effective, Loaded, Sources};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::supervisor;

/// How long a folder must be quiet before its file is read: editors and orchestrators write in
/// several steps.
const QUIET: Duration = Duration::from_millis(200);

/// Waits for reasons to read the config anew.
#[derive(Debug)]
pub(crate) struct Reload {
    app: Arc<App>,
    sources: Sources,
    in_force: Effective,
    /// The file's text when it was last looked at.
    text: Option<String>,
    hangup: Signal,
    changes: mpsc::Receiver<()>,
    /// Watches for as long as it lives.
    _watcher: Option<RecommendedWatcher>,
}

impl Reload {
    /// Begins to listen for SIGHUP and for changes.
    pub(crate) fn new(
        app: Arc<App>,
        sources: Sources,
        in_force: Effective,
    ) -> anyhow::Result<Reload> {
        let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        // One note is enough, however many changes there were.
        let (noted, changes) = mpsc::channel(1);
        let watcher = sources.file.as_deref().and_then(|file| match watch(file, noted) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "changes of the config file go unnoticed; send SIGHUP");
                None
            }
        });
        let text = read(&sources);
        Ok(Reload { app, sources, in_force, text, hangup, changes, _watcher: watcher })
    }

    /// Reads the config anew, again and again.
    pub(crate) async fn run(mut self) {
        let mut is_watched = true;
        loop {
            tokio::select! {
                Some(()) = self.hangup.recv() => {}
                changed = self.changes.recv(), if is_watched => {
                    if changed.is_none() {
                        is_watched = false;
                        continue;
                    }
                    self.wait_until_quiet().await;
                    if read(&self.sources) == self.text {
                        continue;
                    }
                }
            }
            self.reload();
        }
    }

    /// Bounded, so that a folder that is never quiet does not keep the config from being read.
    async fn wait_until_quiet(&mut self) {
        for _ in 0..10 {
            if tokio::time::timeout(QUIET, self.changes.recv()).await.is_err() {
                return;
            }
        }
    }

    fn reload(&mut self) {
        supervisor::reloading();
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
        self.in_force = effective;
        let (later, now): (Vec<String>, Vec<String>) =
            changed.into_iter().partition(|path| schema::needs_restart(path));
        tracing::info!(changed = now.join(", "), "the config was read anew");
        if !later.is_empty() {
            tracing::warn!(fields = later.join(", "), "these changes wait for a restart");
        }
        Ok(())
    }
}

fn read(sources: &Sources) -> Option<String> {
    std::fs::read_to_string(sources.file.as_deref()?).ok()
}

/// Watches the folder of a file: the file itself is replaced, not written, by most who change it.
fn watch(file: &Path, noted: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file is an event as well.
        if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
            let _ = noted.try_send(());
        }
    })?;
    watcher.watch(&folder_of(file), RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}
