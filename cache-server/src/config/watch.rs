//! Tells when files have changed that settings come from: the config itself, a certificate.
//!
//! It is their folders that are watched. A file is often a link that is swapped, or is replaced by
//! another of its name, and then only its folder shows the change. What changed between reading
//! files and watching them goes unnoticed: so watch first, then read, or read once more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Editors and orchestrators write in several steps, and a certificate and its key are two files:
/// a change is told when nothing has changed for this long …
const SETTLED_AFTER: Duration = Duration::from_millis(250);
/// … but no later than this after the first step.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// Watches the folders of some files until it is dropped.
#[derive(Debug)]
pub struct Watch {
    /// A word that is still unread stands for all that follow.
    changes: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// Those of the system: a folder that is not there, or no more watches to be had.
    pub fn begin<'a>(files: impl IntoIterator<Item = &'a Path>) -> notify::Result<Watch> {
        let (sender, changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Our own reading is an event, too.
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
                let _ = sender.try_send(());
            }
        })?;
        for folder in folders(files) {
            watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        }
        Ok(Watch { changes, _watcher: watcher })
    }

    /// Waits until something in the folders has changed, and has settled. Dropped in between, it
    /// may have forgotten a change.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            // Nobody is left who could tell.
            std::future::pending::<()>().await;
        }
        settle(&mut self.changes).await;
    }
}

/// Waits until nothing has changed for a while.
async fn settle(changes: &mut mpsc::Receiver<()>) {
    let latest = Instant::now() + TOLD_AFTER;
    let quiet = async {
        while let Ok(Some(())) = tokio::time::timeout(SETTLED_AFTER, changes.recv()).await {}
    };
    let _ = tokio::time::timeout_at(latest, quiet).await;
}

fn folders<'a>(files: impl IntoIterator<Item = &'a Path>) -> BTreeSet<PathBuf> {
    let folder = |file: &Path| match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    files.into_iter().map(folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_each_file_is_watched_once() {
        let folders = |cert: &str, key: &str| {
            let found = folders([Path::new(cert), Path::new(key)]);
            found.into_iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(folders("/etc/tls/tls.crt", "/etc/tls/tls.key"), ["/etc/tls"]);
        assert_eq!(folders("tls.crt", "keys/tls.key"), [".", "keys"]);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_waited_out_but_not_for_ever() {
        let (sender, mut changes) = mpsc::channel(1);
        let start = Instant::now();
        settle(&mut changes).await;
        assert_eq!(start.elapsed(), SETTLED_AFTER);

        let restless = tokio::spawn(async move {
            loop {
                let _ = sender.try_send(());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let start = Instant::now();
        settle(&mut changes).await;
        assert_eq!(start.elapsed(), TOLD_AFTER);
        restless.abort();
    }
}
