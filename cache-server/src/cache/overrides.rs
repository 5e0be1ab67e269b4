//! Overrides: levers that an operator pulls for a while, on some or all requests. They work at
//! once, end by themselves, and survive a restart.
//!
//! | Lever | While it is pulled |
//! |---|---|
//! | [`Lever::Bypass`] | requests go past the cache |
//! | [`Lever::Lifetimes`] | an entry's fresh and stale ends are so many times as far from when it was generated; measured when it is read, so that it works on what is stored already and leaves nothing behind |
//! | [`Lever::StaleOnly`] | what is stored answers however old it is, and the upstream is not asked; what is absent, or must be validated before every use once it is stale, is still fetched |
//! | [`Lever::NegativeOff`] | negative entries are neither used nor stored |
//!
//! Whether an override is over is judged by the time, and by no timer. At most [`COUNT_MAX`] are
//! kept; one more is refused, for an older one that vanished would surprise whoever relies on it.
//! They are kept in a file of their own (see `file`), which is written before a change counts.
//!
//! Servers may share them: what is pulled on one is pulled on all, and what is let go on one is let go on
//! all. Each remembers what was let go before its time until that time, so that none is pulled again by a
//! server that has been away.

mod file;
mod sharing;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
pub use sharing::SharedOverride;

use crate::cache::freshness::Ends;
use crate::clock::{Clock, Timestamp};

/// Overrides at once.
pub const COUNT_MAX: usize = 100;
/// Bytes of the name of who pulled a lever.
pub const WHO_BYTES_MAX: usize = 128;
/// Bytes of the reason.
pub const WHY_BYTES_MAX: usize = 512;
/// Bytes of a route's, a model's or a tenant's name.
pub const NAME_BYTES_MAX: usize = 256;
/// The shortest time that an override may last.
pub const LASTS_MIN: Duration = Duration::from_secs(1);
/// Overrides of before their time that are remembered as let go; beyond, those that end first are
/// forgotten.
const LET_GO_MAX: usize = 1_000;
/// The longest.
pub const LASTS_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Lifetimes are at most so many times as long.
pub const FACTOR_MAX: f64 = 1000.0;

/// What is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "lever", content = "factor", rename_all = "kebab-case")]
pub enum Lever {
    /// Requests go past the cache.
    Bypass,
    /// Lifetimes are so many times as long: above 0, and at most [`FACTOR_MAX`].
    Lifetimes(f64),
    /// What is stored answers however old it is.
    StaleOnly,
    /// Negative entries are neither used nor stored.
    NegativeOff,
}

impl Lever {
    /// The names of all levers, as they are typed.
    pub const NAMES: [&str; 4] = ["bypass", "lifetimes", "stale-only", "negative-off"];

    /// The lever of this name; the factor belongs to lifetimes, and to nothing else.
    ///
    /// # Errors
    /// When there is no such lever, or it lacks its factor or has one too many.
    pub fn named(name: &str, factor: Option<f64>) -> Result<Lever, BadOverride> {
        match (name, factor) {
            ("bypass", None) => Ok(Lever::Bypass),
            ("lifetimes", Some(factor)) => Ok(Lever::Lifetimes(factor)),
            ("stale-only", None) => Ok(Lever::StaleOnly),
            ("negative-off", None) => Ok(Lever::NegativeOff),
            ("lifetimes", None) => Err(BadOverride::of("factor", "lifetimes need one")),
            (name, Some(_)) if Lever::NAMES.contains(&name) => {
                Err(BadOverride::of("factor", "it belongs to lifetimes alone"))
            }
            _ => Err(BadOverride::of("lever", "bypass, lifetimes, stale-only or negative-off")),
        }
    }

    /// The name of this one.
    #[must_use]
    pub fn name(self) -> &'static str {
        let [bypass, lifetimes, stale_only, negative_off] = Lever::NAMES;
        match self {
            Lever::Bypass => bypass,
            Lever::Lifetimes(_) => lifetimes,
            Lever::StaleOnly => stale_only,
            Lever::NegativeOff => negative_off,
        }
    }

    fn check(self) -> Result<(), BadOverride> {
        match self {
            Lever::Lifetimes(factor) if !(factor > 0.0 && factor <= FACTOR_MAX) => {
                Err(BadOverride::of("factor", "above 0, and at most 1000"))
            }
            _ => Ok(()),
        }
    }
}

/// Which requests an override is for: those that fit everything that is named, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selects {
    /// A model route's name, a declared spec's, or `http` for generic routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The model asked for; a `*` at the end stands for any rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The tenant's label: a `[[tenant]]`'s name, `anonymous`, or `(unmapped)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

impl Selects {
    fn matches(&self, route: &str, model: Option<&str>, tenant: Option<&str>) -> bool {
        let is_model = |pattern: &str| match pattern.strip_suffix('*') {
            Some(stem) => model.is_some_and(|model| model.starts_with(stem)),
            None => model == Some(pattern),
        };
        self.route.as_deref().is_none_or(|name| name == route)
            && self.model.as_deref().is_none_or(is_model)
            && self.tenant.as_deref().is_none_or(|name| tenant == Some(name))
    }

    fn check(&self) -> Result<(), BadOverride> {
        const NAME: &str = "1 to 256 bytes without control characters";
        for (field, name) in
            [("route", &self.route), ("model", &self.model), ("tenant", &self.tenant)]
        {
            if name.as_deref().is_some_and(|name| !is_text(name, NAME_BYTES_MAX)) {
                return Err(BadOverride::of(field, NAME));
            }
        }
        let stem = self.model.as_deref().map(|model| model.strip_suffix('*').unwrap_or(model));
        if stem.is_some_and(|stem| stem.contains('*')) {
            return Err(BadOverride::of("model", "a name, with at most one * at its end"));
        }
        Ok(())
    }
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// What is pulled.
    pub lever: Lever,
    /// For which requests.
    pub selects: Selects,
    /// For how long: from [`LASTS_MIN`] to [`LASTS_MAX`].
    pub lasts: Duration,
    /// By whom: 1 to [`WHO_BYTES_MAX`] bytes.
    pub who: String,
    /// For what reason: 1 to [`WHY_BYTES_MAX`] bytes.
    pub why: String,
}

impl Wanted {
    fn check(&self) -> Result<(), BadOverride> {
        self.lever.check()?;
        self.selects.check()?;
        if !(LASTS_MIN..=LASTS_MAX).contains(&self.lasts) {
            return Err(BadOverride::of("for", "at least 1s, and at most 30days"));
        }
        if !is_text(&self.who, WHO_BYTES_MAX) {
            return Err(BadOverride::of("who", "1 to 128 bytes without control characters"));
        }
        if !is_text(&self.why, WHY_BYTES_MAX) {
            return Err(BadOverride::of("why", "1 to 512 bytes without control characters"));
        }
        Ok(())
    }
}

/// Control characters would be obeyed by the terminals that it is shown on.
fn is_text(text: &str, bytes_max: usize) -> bool {
    let is_visible = !text.trim().is_empty() && !text.contains(char::is_control);
    is_visible && text.len() <= bytes_max
}

/// A lever that is pulled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// Its number; none is given twice.
    pub id: u64,
    /// What is pulled.
    #[serde(flatten)]
    pub lever: Lever,
    /// For which requests.
    #[serde(flatten)]
    pub selects: Selects,
    /// Since when.
    #[serde(with = "file::rfc3339")]
    pub since: Timestamp,
    /// It is over at this time.
    #[serde(with = "file::rfc3339")]
    pub until: Timestamp,
    /// By whom.
    pub who: String,
    /// For what reason.
    pub why: String,
}

/// What the overrides in force do to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Effects {
    /// It goes past the cache, whatever else is set.
    pub bypass: bool,
    /// Lifetimes are so many times as long, by the most recent override that says so.
    pub lifetimes: Option<f64>,
    /// What is stored answers however old it is, and the upstream is not asked.
    pub stale_only: bool,
    /// Negative entries are neither used nor stored.
    pub negative_off: bool,
}

impl Effects {
    /// The ends that an entry has for this request, from its own and from when it was generated.
    #[must_use]
    pub fn ends(&self, ends: Ends, generated: Timestamp) -> Ends {
        let Some(factor) = self.lifetimes else { return ends };
        let stretched = |end: Timestamp| {
            let seconds = end.since(generated).as_secs_f64() * factor;
            generated.plus(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
        };
        Ends {
            fresh: stretched(ends.fresh),
            stale_while_revalidate: stretched(ends.stale_while_revalidate),
            stale_if_error: stretched(ends.stale_if_error),
            validate: stretched(ends.validate),
        }
    }

    fn add(&mut self, lever: Lever) {
        match lever {
            Lever::Bypass => self.bypass = true,
            Lever::Lifetimes(factor) => self.lifetimes = Some(factor),
            Lever::StaleOnly => self.stale_only = true,
            Lever::NegativeOff => self.negative_off = true,
        }
    }
}

/// What cannot be asked for: the field, and what it may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {allowed}")]
pub struct BadOverride {
    /// The field, as it is typed.
    pub field: &'static str,
    /// What it may say.
    pub allowed: &'static str,
}

impl BadOverride {
    fn of(field: &'static str, allowed: &'static str) -> BadOverride {
        BadOverride { field, allowed }
    }
}

/// Why an override is not in force.
#[derive(Debug, thiserror::Error)]
pub enum NotAdded {
    /// It may not be asked for.
    #[error(transparent)]
    Bad(#[from] BadOverride),
    /// There are [`COUNT_MAX`] already.
    #[error("there are {COUNT_MAX} overrides: remove one")]
    Full,
    /// It could not be written.
    #[error("the overrides could not be written")]
    NotWritten(#[from] io::Error),
}

/// The overrides, those that are over included until the next change.
#[derive(Debug)]
pub struct Overrides {
    /// Where they are kept; in memory alone if nowhere.
    file: Option<PathBuf>,
    clock: Clock,
    /// When the last of them is over, in milliseconds of wall time, 0 if there are none: a request
    /// looks no further once that has passed.
    last_until: AtomicU64,
    /// The most recent last.
    list: ArcSwap<Vec<Override>>,
    /// What goes with the list; held by who changes it.
    book: Mutex<Book>,
}

/// What is known beside the overrides in force.
#[derive(Debug, Default)]
struct Book {
    /// The number of the next one, so that none is given twice.
    next_id: u64,
    /// Those that were let go before their time, by number, and when that is.
    let_go: BTreeMap<u64, Timestamp>,
    /// Whether numbers are such that no other server gives them.
    are_shared: bool,
}

impl Overrides {
    /// Those of the file, or none. A file that cannot be understood is set aside, with a warning:
    /// it must not keep the server down. Without a file, they go with the process.
    #[must_use]
    pub fn open(file: Option<PathBuf>, clock: Clock) -> Overrides {
        let kept = file.as_deref().map(file::open).unwrap_or_default();
        let overrides = Overrides {
            file,
            clock,
            last_until: AtomicU64::new(0),
            list: ArcSwap::default(),
            book: Mutex::new(Book {
                next_id: kept.next_id,
                let_go: kept.let_go,
                are_shared: false,
            }),
        };
        overrides.put_in_force(kept.overrides);
        overrides
    }

    /// Pulls a lever. It is on disk when this returns: it survives a crash that follows.
    ///
    /// # Errors
    /// When it may not be asked for, there are [`COUNT_MAX`] already, or it cannot be written;
    /// then it is not in force.
    pub fn add(&self, wanted: Wanted) -> Result<Override, NotAdded> {
        wanted.check()?;
        let mut book = self.book();
        let since = self.clock.now();
        let mut list = self.list();
        if list.len() >= COUNT_MAX {
            return Err(NotAdded::Full);
        }
        let Wanted { lever, selects, lasts, who, why } = wanted;
        let until = since.plus(lasts);
        let before = book.next_id;
        let id = book.take_id(since);
        let added = Override { id, lever, selects, since, until, who, why };
        list.push(added.clone());
        if let Err(error) = self.write(&book, &list) {
            book.next_id = before;
            return Err(error.into());
        }
        self.put_in_force(list);
        Ok(added)
    }

    /// Lets a lever go before its time, and says which it was; nothing if there is no such
    /// override, or it is over.
    ///
    /// # Errors
    /// When that cannot be written; then it stays in force.
    pub fn remove(&self, id: u64) -> io::Result<Option<Override>> {
        let mut book = self.book();
        let mut list = self.list();
        let Some(index) = list.iter().position(|pulled| pulled.id == id) else { return Ok(None) };
        let removed = list.remove(index);
        book.note_let_go(id, removed.until, self.clock.now());
        if let Err(error) = self.write(&book, &list) {
            book.let_go.remove(&id);
            return Err(error);
        }
        self.put_in_force(list);
        Ok(Some(removed))
    }

    /// Those in force, the most recent last.
    #[must_use]
    pub fn list(&self) -> Vec<Override> {
        let now = self.clock.now();
        self.list.load().iter().filter(|pulled| now < pulled.until).cloned().collect()
    }

    /// Whether no lever is in force, which is the rule and costs next to nothing to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let last_until = self.last_until.load(Ordering::Relaxed);
        last_until == 0 || self.clock.now().0 >= last_until
    }

    /// What the overrides in force at `now` do to a request of this route, for this model, by the
    /// tenant of this label.
    #[must_use]
    pub fn effects(
        &self,
        route: &str,
        model: Option<&str>,
        tenant: Option<&str>,
        now: Timestamp,
    ) -> Effects {
        let mut effects = Effects::default();
        if now.0 >= self.last_until.load(Ordering::Relaxed) {
            return effects;
        }
        for pulled in self.list.load().iter() {
            if now < pulled.until && pulled.selects.matches(route, model, tenant) {
                effects.add(pulled.lever);
            }
        }
        effects
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, book: &Book, overrides: &[Override]) -> io::Result<()> {
        self.file.as_deref().map_or(Ok(()), |file| file::write(file, book, overrides))
    }

    fn put_in_force(&self, list: Vec<Override>) {
        let last_until = list.iter().map(|pulled| pulled.until.0).max().unwrap_or(0);
        self.list.store(Arc::new(list));
        self.last_until.store(last_until, Ordering::Relaxed);
    }
}

impl Book {
    /// The next number. One that is shared begins with the time: no other server gives it, and it is the
    /// most recent. It stays exact in JSON.
    fn take_id(&mut self, now: Timestamp) -> u64 {
        let id = match self.are_shared {
            true => self.next_id.max(now.0.saturating_mul(1_000)) + fastrand::u64(..1_000),
            false => self.next_id,
        };
        self.next_id = id + 1;
        id
    }

    /// Remembers that an override was let go before its time.
    fn note_let_go(&mut self, id: u64, until: Timestamp, now: Timestamp) {
        self.let_go.retain(|_, until| now < *until);
        self.let_go.insert(id, until);
        while self.let_go.len() > LET_GO_MAX
            && let Some((first, _)) = self.let_go.iter().min_by_key(|(_, until)| **until)
        {
            let first = *first;
            self.let_go.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests;
