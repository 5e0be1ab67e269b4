//! The file of overrides: JSON, read once, written anew with each change.
//!
//! It is written beside, synchronised, and renamed over the one before, so that at any time there
//! is a whole one, and a change that was acknowledged is there after a crash. What is read is
//! checked as if an operator asked for it: the file may have been edited by hand.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Book, COUNT_MAX, LET_GO_MAX, Override, Wanted};
use crate::clock::Timestamp;

/// The only version of the file.
const VERSION: u32 = 1;
/// More than [`COUNT_MAX`] overrides of the largest kind; what is larger is none of ours.
const BYTES_MAX: u64 = 1 << 20;
/// Numbers stay exact in JSON up to here; nobody adds so many.
const ID_MAX: u64 = 1 << 53;

/// What the file holds.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Kept {
    version: u32,
    /// The number of the next override, so that none is given twice.
    pub(super) next_id: u64,
    /// The most recent last.
    pub(super) overrides: Vec<Override>,
    /// Those that were let go before their time, and when that is, in milliseconds since the epoch.
    #[serde(default)]
    pub(super) let_go: BTreeMap<u64, Timestamp>,
}

/// The same, as it is written.
#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    next_id: u64,
    overrides: &'a [Override],
    let_go: &'a BTreeMap<u64, Timestamp>,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept { version: VERSION, next_id: 1, overrides: Vec::new(), let_go: BTreeMap::new() }
    }
}

/// Reads the file. One that is missing is empty; one that is damaged is set aside, and told of.
pub(super) fn open(path: &Path) -> Kept {
    match read(path) {
        Ok(Some(bytes)) => parse(&bytes).unwrap_or_else(|why| set_aside(path, &why)),
        Ok(None) => Kept::default(),
        Err(error) => set_aside(path, &error.to_string()),
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn parse(bytes: &[u8]) -> Result<Kept, String> {
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("it has over {BYTES_MAX} bytes"));
    }
    let kept: Kept = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if kept.version != VERSION {
        return Err(format!("it has version {}", kept.version));
    }
    let is_over = kept.overrides.len() > COUNT_MAX || kept.let_go.len() > LET_GO_MAX;
    if is_over || kept.next_id > ID_MAX {
        return Err("it has more than there can be".to_owned());
    }
    let ids: Vec<u64> = kept.overrides.iter().map(|pulled| pulled.id).collect();
    let is_in_order = ids.is_sorted_by(|earlier, later| earlier < later);
    if !is_in_order || ids.last().is_some_and(|last| *last >= kept.next_id) {
        return Err("its numbers are out of order".to_owned());
    }
    kept.overrides
        .iter()
        .try_for_each(|pulled| wanted(pulled).check())
        .map_err(|e| e.to_string())?;
    Ok(kept)
}

/// What was asked for when this lever was pulled.
pub(super) fn wanted(pulled: &Override) -> Wanted {
    Wanted {
        lever: pulled.lever,
        selects: pulled.selects.clone(),
        lasts: pulled.until.since(pulled.since),
        who: pulled.who.clone(),
        why: pulled.why.clone(),
    }
}

fn set_aside(path: &Path, why: &str) -> Kept {
    let aside = beside(path, "damaged");
    let renamed = std::fs::rename(path, &aside);
    let (file, aside) = (path.display(), aside.display());
    match renamed {
        Ok(()) => tracing::warn!(%file, why, "no override is in force: their file is now {aside}"),
        Err(error) => tracing::warn!(%file, why, %error, "no override is in force"),
    }
    Kept::default()
}

/// Writes the file: when this returns, it is on disk whole, for the server's user alone.
pub(super) fn write(path: &Path, book: &Book, overrides: &[Override]) -> io::Result<()> {
    let Book { next_id, let_go, .. } = book;
    let written = Written { version: VERSION, next_id: *next_id, overrides, let_go };
    let bytes = serde_json::to_vec_pretty(&written).map_err(io::Error::other)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = beside(path, "new");
    // One that a crash left; and what is made anew follows no link.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// Times as RFC 3339 has them, in UTC and to the millisecond.
pub(super) mod rfc3339 {
    use std::time::{Duration, UNIX_EPOCH};

    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::clock::Timestamp;

    /// The last millisecond of the year 9999: later ones cannot be written.
    const LAST_MS: u64 = 253_402_300_799_999;

    pub(in super::super) fn serialize<S: Serializer>(
        time: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let time = UNIX_EPOCH + Duration::from_millis(time.0.min(LAST_MS));
        serializer.collect_str(&humantime::format_rfc3339_millis(time))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text).map_err(de::Error::custom)?;
        let since = time.duration_since(UNIX_EPOCH).map_err(de::Error::custom)?;
        Ok(Timestamp(0).plus(since))
    }
}
