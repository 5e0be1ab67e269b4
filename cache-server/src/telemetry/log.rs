//! The log: where it goes, in which form, and how loud each module is, also while it runs.
//!
//! Lines go to standard error through a queue and a thread of their own, so that a reader who
//! stands still holds up no request: beyond [`QUEUED_LINES_MAX`] lines are dropped and counted.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard};

use tracing::subscriber::SetGlobalDefaultError;
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;

use super::lock;
use super::requests::{REQUESTS, shown};
use crate::clock::{Clock, Timestamp};

/// Bytes of directives that are taken.
pub const DIRECTIVES_BYTES_MAX: usize = 1024;

/// Lines that wait for whoever reads standard error; further ones are dropped.
pub const QUEUED_LINES_MAX: usize = 4096;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<LogFormat, ()> {
        match text {
            "auto" => Ok(LogFormat::Auto),
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(()),
        }
    }
}

impl LogFormat {
    fn form(self) -> Form {
        match self {
            LogFormat::Text => Form::Text,
            LogFormat::Json => Form::Json,
            LogFormat::Auto if std::io::stderr().is_terminal() => Form::Text,
            LogFormat::Auto => Form::Json,
        }
    }
}

/// The form that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the log is to be like.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// How loud each module is.
    pub level: Directives,
    /// How it is written.
    pub format: LogFormat,
    /// Request lines a second; then their count.
    pub requests_per_second_max: u32,
}

/// Crates whose every line is written on request: ours, and the disk engine, which sees no request.
/// All others, such as those of HTTP, show fields and whole paths below `info`.
const TALKATIVE: [&str; 4] = [env!("CARGO_CRATE_NAME"), "keyspec", REQUESTS, "foyer"];

/// Which events are written: `LEVEL` for all, `MODULE=LEVEL` for a module and those below it,
/// separated by commas; the longest module decides. What nothing names is not written. Libraries
/// that see requests stay at `info`, whatever is said.
#[derive(Clone, Debug)]
pub struct Directives {
    text: Box<str>,
    targets: Targets,
}

/// Directives that are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDirectives {
    /// Too many of them.
    #[error("they have over {DIRECTIVES_BYTES_MAX} bytes")]
    TooLong,
    /// One is not understood.
    #[error(
        "\"{}\" is not LEVEL or MODULE=LEVEL, with one of off, error, warn, info, debug and trace",
        shown(directive)
    )]
    NotUnderstood {
        /// The one.
        directive: String,
    },
}

impl FromStr for Directives {
    type Err = BadDirectives;

    fn from_str(text: &str) -> Result<Directives, BadDirectives> {
        if text.len() > DIRECTIVES_BYTES_MAX {
            return Err(BadDirectives::TooLong);
        }
        let text = text.trim();
        let (mut all, mut modules) = (LevelFilter::OFF, Vec::new());
        for directive in text.split(',').map(str::trim) {
            let not_understood = || BadDirectives::NotUnderstood { directive: directive.into() };
            match directive.split_once('=') {
                None => all = level(directive).ok_or_else(not_understood)?,
                Some((module, name)) => {
                    let level = level(name.trim()).filter(|_| is_module(module.trim()));
                    modules.push((module.trim(), level.ok_or_else(not_understood)?));
                }
            }
        }
        Ok(Directives { text: text.into(), targets: targets(all, &modules) })
    }
}

fn targets(all: LevelFilter, modules: &[(&str, LevelFilter)]) -> Targets {
    let of_all = TALKATIVE.map(|name| (name, all));
    let modules = modules.iter().map(|(module, level)| match is_talkative(module) {
        true => (*module, *level),
        false => (*module, (*level).min(LevelFilter::INFO)),
    });
    let targets = Targets::new().with_default(all.min(LevelFilter::INFO));
    // The later of two on the same module goes before.
    targets.with_targets(of_all).with_targets(modules)
}

fn is_talkative(module: &str) -> bool {
    TALKATIVE.iter().any(|name| module.starts_with(name))
}

/// A level by its name alone: tracing's own parser takes numbers and nothing at all, too.
fn level(name: &str) -> Option<LevelFilter> {
    const NAMES: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_name = NAMES.iter().any(|known| known.eq_ignore_ascii_case(name));
    is_name.then(|| name.parse().ok()).flatten()
}

fn is_module(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-');
    !name.is_empty() && name.bytes().all(plain)
}

impl fmt::Display for Directives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Holds the log's thread. Dropping it writes what is queued, within about a second.
#[derive(Debug)]
pub struct LogGuard {
    _worker: WorkerGuard,
}

/// What can be asked of the log while it runs.
#[derive(Debug)]
pub struct LogControl {
    form: Form,
    level: Mutex<Directives>,
    filter: Option<reload::Handle<Targets, Registry>>,
    dropped: Option<ErrorCounter>,
}

impl LogControl {
    /// One without a log: what is set is remembered, and changes nothing.
    #[must_use]
    pub fn disconnected(settings: &LogSettings) -> LogControl {
        LogControl {
            form: settings.format.form(),
            level: Mutex::new(settings.level.clone()),
            filter: None,
            dropped: None,
        }
    }

    /// Begins to write the process's log to standard error. `before_each` is put before each line
    /// of text: what clears a line that is being redrawn.
    ///
    /// # Errors
    /// When the process has a log already.
    pub fn start(
        settings: &LogSettings,
        before_each: &'static str,
    ) -> Result<(LogControl, LogGuard), SetGlobalDefaultError> {
        let (writer, worker) = NonBlockingBuilder::default()
            .buffered_lines_limit(QUEUED_LINES_MAX)
            .thread_name("log")
            .finish(std::io::stderr());
        let dropped = writer.error_counter();
        let form = settings.format.form();
        let (filter, handle) = reload::Layer::new(settings.level.targets.clone());
        let lines = match form {
            Form::Text => text_layer(writer, before_each).boxed(),
            Form::Json => json_layer(writer).boxed(),
        };
        tracing::subscriber::set_global_default(Registry::default().with(filter).with(lines))?;
        let control = LogControl {
            form,
            level: Mutex::new(settings.level.clone()),
            filter: Some(handle),
            dropped: Some(dropped),
        };
        Ok((control, LogGuard { _worker: worker }))
    }

    /// The form of its lines.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// How loud each module is now.
    #[must_use]
    pub fn level(&self) -> Directives {
        self.locked_level().clone()
    }

    /// Changes how loud each module is, from now on.
    pub fn set_level(&self, level: Directives) {
        let mut current = self.locked_level();
        if let Some(filter) = &self.filter {
            // It fails only without a subscriber, and then there is no log to change.
            let _ = filter.reload(level.targets.clone());
        }
        *current = level;
    }

    /// Lines that were dropped because nobody read them in time.
    #[must_use]
    pub fn dropped_lines(&self) -> usize {
        self.dropped.as_ref().map_or(0, ErrorCounter::dropped_lines)
    }

    /// Says something that people wait for, such as the addresses: as a plain line in text, as an
    /// event in JSON.
    pub fn say(&self, line: &str) {
        match self.form {
            Form::Text => eprintln!("{line}"),
            Form::Json => tracing::info!("{}", line.trim()),
        }
    }

    fn locked_level(&self) -> MutexGuard<'_, Directives> {
        lock(&self.level)
    }
}

fn text_layer<S>(writer: NonBlocking, before_each: &'static str) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let text =
        Text { before_each, clock: Clock::default(), others: Format::default().with_target(false) };
    tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(writer)
        .event_format(text)
}

fn json_layer<S>(writer: NonBlocking) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(writer)
}

/// Text: request lines begin with the time of day, all others as tracing writes them.
struct Text {
    before_each: &'static str,
    clock: Clock,
    others: Format<Full>,
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(self.before_each)?;
        if event.metadata().target() != REQUESTS {
            return self.others.format_event(context, writer, event);
        }
        write!(writer, "{} ", time_of_day(self.clock.now()))?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Hours, minutes and seconds, in UTC as all times in the log.
fn time_of_day(now: Timestamp) -> String {
    let seconds = now.0 / 1000;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    format!("{:02}:{:02}:{:02}", hours % 24, minutes % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    fn directives(text: &str) -> Directives {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_module_decides_and_what_nothing_names_is_silent() {
        let targets = directives("info, foyer=warn,foyer_storage::engine=debug").targets;
        assert!(targets.would_enable("cache_server::server", &Level::INFO));
        assert!(!targets.would_enable("cache_server::server", &Level::DEBUG));
        assert!(!targets.would_enable("foyer", &Level::INFO));
        assert!(targets.would_enable("foyer_storage::engine", &Level::DEBUG));
        let targets = directives("requests=info").targets;
        assert!(targets.would_enable(REQUESTS, &Level::INFO));
        assert!(!targets.would_enable("cache_server::server", &Level::ERROR));
    }

    #[test]
    fn crates_that_see_requests_and_are_not_ours_stay_at_info() {
        let filters =
            ["trace", "h2=trace,info", "info,h=debug,hyper::proto=trace", "trace,h2=trace"];
        for filter in filters {
            let targets = directives(filter).targets;
            for target in ["h2::server", "hyper::proto", "hyper_util::client", "rustls::x", "c"] {
                assert!(targets.would_enable(target, &Level::INFO), "{filter}: {target}");
                assert!(!targets.would_enable(target, &Level::DEBUG), "{filter}: {target}");
            }
        }
        let targets = directives("cache_server::server=warn,h2=off,trace").targets;
        assert!(targets.would_enable("cache_server::request", &Level::TRACE));
        assert!(!targets.would_enable("cache_server::server", &Level::INFO));
        assert!(!targets.would_enable("h2::server", &Level::ERROR));
    }

    #[test]
    fn directives_that_are_none_are_named() {
        for (text, named) in [
            ("", "\"\""),
            ("info,,warn", "\"\""),
            ("inof", "\"inof\""),
            ("info,foyer=loud", "\"foyer=loud\""),
            ("3", "\"3\""),
            ("info,=warn", "\"=warn\""),
            ("cache_server[span{field=\".*\"}]=trace", "cache_server[span"),
            ("info\u{1b}[31m", "\"info\\u{1b}[31m\""),
        ] {
            let error = text.parse::<Directives>().unwrap_err().to_string();
            assert!(error.starts_with('"') && error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn directives_over_their_bound_are_refused() {
        let fits = "info,".repeat(204) + "warn";
        assert_eq!(fits.len(), DIRECTIVES_BYTES_MAX);
        assert_eq!(directives(&fits).to_string(), fits);
        let error = (fits + " ").parse::<Directives>().unwrap_err();
        assert_eq!(error, BadDirectives::TooLong);
    }

    #[test]
    fn a_disconnected_control_remembers_what_was_set() {
        let settings = LogSettings {
            level: directives("info"),
            format: LogFormat::Text,
            requests_per_second_max: 20,
        };
        let control = LogControl::disconnected(&settings);
        control.set_level(directives("warn,requests=off"));
        assert_eq!(control.level().to_string(), "warn,requests=off");
        assert_eq!((control.form(), control.dropped_lines()), (Form::Text, 0));
    }

    #[test]
    fn the_time_of_day_is_that_of_the_clock() {
        // 2026-11-24 00:04:30 UTC
        assert_eq!(time_of_day(Timestamp(1_795_478_670_999)), "00:04:30");
        assert_eq!(time_of_day(Timestamp(86_399_000)), "23:59:59");
    }
}
