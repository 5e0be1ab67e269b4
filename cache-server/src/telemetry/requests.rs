//! Request lines: one short line for each request that has ended, at most so many a second, and
//! then the count of the rest.
//!
//! A line shows an outcome, names and figures; never a body, a credential, a path or a query. The
//! one text of a caller's in it is the model's name, escaped and cut. A request whose line is not
//! written costs a few relaxed atomics: no lock, no allocation, no formatting.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use keyspec::Route;
use tracing::Level;

use super::latency::in_words;
use super::log::Form;
use super::{Outcome, lock, route_label};
use crate::cache::entry::Usage;

/// The target of request lines, by which `log.level` names them: `info,requests=off`.
pub const REQUESTS: &str = "requests";

/// How often at most the advice for one reason is given in full.
const ADVICE_INTERVAL: Duration = Duration::from_secs(10);

/// Characters of a caller's text that a line shows.
const SHOWN_CHARS_MAX: usize = 40;

/// Who cut an answer off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutBy {
    /// The connection to the caller ended first.
    Caller,
    /// The upstream broke its answer off, or the fetch of it failed.
    Upstream,
    /// It took longer than we allow.
    Timeout,
}

impl CutBy {
    /// All of them, in the order of their numbers.
    pub const ALL: [CutBy; 3] = [CutBy::Caller, CutBy::Upstream, CutBy::Timeout];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CutBy::Caller => "caller",
            CutBy::Upstream => "upstream",
            CutBy::Timeout => "timeout",
        }
    }
}

/// A request that has ended, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// The model route, if it was one.
    pub route: Option<Route>,
    /// The model that it asked for: a caller's text.
    pub model: Option<&'a str>,
    /// The status answered; none if the caller left before there was one.
    pub status: Option<StatusCode>,
    /// Why it ended so: a word of this program, or empty.
    pub reason: &'static str,
    /// What would change it, if it went past the cache; or empty.
    pub advice: &'static str,
    /// Whether its answer was stored.
    pub stored: bool,
    /// What the upstream charged, or would have.
    pub usage: Option<Usage>,
    /// Who cut its answer off, if it was.
    pub cut_by: Option<CutBy>,
    /// From its header to the end of its answer.
    pub took: Duration,
    /// When it ended.
    pub at: Instant,
}

impl Ended<'_> {
    /// What the upstream charged, if it said so: missing figures count as zero everywhere else.
    fn known_usage(&self) -> Option<Usage> {
        self.usage.filter(|usage| *usage != Usage::default())
    }
}

#[cfg(test)]
impl Ended<'_> {
    /// One that ended so, now, and of which no more is known.
    pub(super) fn new(outcome: Outcome) -> Ended<'static> {
        Ended {
            outcome,
            route: None,
            model: None,
            status: None,
            reason: "",
            advice: "",
            stored: false,
            usage: None,
            cut_by: None,
            took: Duration::ZERO,
            at: Instant::now(),
        }
    }
}

/// Writes request lines within their bound.
#[derive(Debug)]
pub struct RequestLines {
    form: Form,
    per_second_max: AtomicU32,
    started: Instant,
    /// The current second since the start (upper half), and the lines written in it.
    second: AtomicU64,
    /// Requests without a line that nobody was told of yet, by outcome.
    rest: [AtomicU64; Outcome::ALL.len()],
    /// When the advice for a reason was last given; the reasons are a closed set.
    advised: Mutex<BTreeMap<&'static str, Instant>>,
}

impl RequestLines {
    /// Lines of this form, at most so many in each second from `started` on; with 0, only their
    /// count.
    #[must_use]
    pub fn new(form: Form, per_second_max: u32, started: Instant) -> RequestLines {
        RequestLines {
            form,
            per_second_max: AtomicU32::new(per_second_max),
            started,
            second: AtomicU64::new(0),
            rest: [const { AtomicU64::new(0) }; Outcome::ALL.len()],
            advised: Mutex::default(),
        }
    }

    /// Changes the bound from now on.
    pub fn set_per_second_max(&self, per_second_max: u32) {
        self.per_second_max.store(per_second_max, Ordering::Relaxed);
    }

    /// Writes the line of a request, or counts it among the rest.
    pub fn tell(&self, ended: &Ended<'_>) {
        if !tracing::enabled!(target: REQUESTS, Level::INFO) {
            return;
        }
        if !self.take_place(ended.at) {
            self.rest[ended.outcome as usize].fetch_add(1, Ordering::Relaxed);
            return;
        }
        let gives_advice = !ended.advice.is_empty() && self.advice_is_due(ended.reason, ended.at);
        let advice = if gives_advice { ended.advice } else { "" };
        match self.form {
            Form::Text => tracing::info!(target: REQUESTS, "{}", LineText { ended, advice }),
            Form::Json => write_event(ended, advice),
        }
    }

    /// Tells of the requests that got no line since the last call; to be called each second.
    pub fn tell_rest(&self) {
        let mut rest = 0;
        let mut outcomes = String::new();
        for outcome in Outcome::ALL {
            let count = self.rest[outcome as usize].swap(0, Ordering::Relaxed);
            if count > 0 {
                let comma = if rest == 0 { "" } else { ", " };
                let _ = write!(outcomes, "{comma}{count} {}", outcome.name());
            }
            rest += count;
        }
        match (rest, self.form) {
            (0, _) => {}
            (_, Form::Text) => {
                tracing::info!(target: REQUESTS, "… and {rest} more requests: {outcomes}");
            }
            (_, Form::Json) => {
                tracing::info!(target: REQUESTS, rest, outcomes, "… and {rest} more requests");
            }
        }
    }

    /// Takes one of the current second's places, if there is one left.
    fn take_place(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.started).as_secs();
        let now = u32::try_from(since).unwrap_or(u32::MAX);
        let max = self.per_second_max.load(Ordering::Relaxed);
        let place = |seen: u64| {
            let (second, taken) = (seen >> 32, seen & u64::from(u32::MAX));
            // Whoever comes late with a second that is over takes a place of the current one.
            let (second, taken) =
                if u64::from(now) > second { (u64::from(now), 0) } else { (second, taken) };
            (taken < u64::from(max)).then(|| second << 32 | (taken + 1))
        };
        self.second.fetch_update(Ordering::Relaxed, Ordering::Relaxed, place).is_ok()
    }

    /// Whether nobody was given this reason's advice lately; then it counts as given now.
    fn advice_is_due(&self, reason: &'static str, now: Instant) -> bool {
        let mut advised = lock(&self.advised);
        let last = advised.get(reason);
        let due = last.is_none_or(|last| now.saturating_duration_since(*last) >= ADVICE_INTERVAL);
        if due {
            advised.insert(reason, now);
        }
        due
    }
}

/// A request's line for people; the time of day is put before it where it is written.
struct LineText<'l> {
    ended: &'l Ended<'l>,
    advice: &'static str,
}

impl fmt::Display for LineText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.ended;
        write!(f, "{:<9}", ended.outcome.name())?;
        if let Some(model) = ended.model {
            write!(f, "  {}", shown(model))?;
        }
        write!(f, "  {}  {}", route_label(ended.route), in_words(ended.took))?;
        if let Some(usage) = ended.known_usage() {
            write!(f, "  {}→{} tokens", usage.input_tokens, usage.output_tokens)?;
        }
        if let Some(status) = ended.status.filter(|status| *status != StatusCode::OK) {
            write!(f, "  {}", status.as_u16())?;
        }
        if !ended.reason.is_empty() {
            write!(f, "  {}", ended.reason)?;
        }
        if !self.advice.is_empty() {
            write!(f, ": {}", self.advice)?;
        }
        match ended.cut_by {
            Some(by) => write!(f, "  cut off by the {}", by.name()),
            None => Ok(()),
        }
    }
}

/// The same facts as an event; what is unknown is left out.
fn write_event(ended: &Ended<'_>, advice: &'static str) {
    let some = |text: &'static str| (!text.is_empty()).then_some(text);
    tracing::info!(
        target: REQUESTS,
        outcome = ended.outcome.name(),
        route = route_label(ended.route),
        model = ended.model.map(shown),
        status = ended.status.map(|status| status.as_u16()),
        reason = some(ended.reason),
        advice = some(advice),
        input_tokens = ended.known_usage().map(|usage| usage.input_tokens),
        output_tokens = ended.known_usage().map(|usage| usage.output_tokens),
        cut_off_by = ended.cut_by.map(CutBy::name),
        took_us = u64::try_from(ended.took.as_micros()).unwrap_or(u64::MAX),
        "request"
    );
}

/// A caller's text as it may be shown: at most 40 characters, and none that a terminal obeys or
/// that cannot be seen.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown = String::new();
    let mut count = 0;
    for character in text.chars() {
        let escaped = character.escape_debug();
        count += escaped.len();
        // One place is left for the mark of a cut.
        if count >= SHOWN_CHARS_MAX {
            shown.push('…');
            break;
        }
        shown.extend(escaped);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyspec::ModelRoute;
    use proptest::prelude::*;

    fn line(ended: &Ended<'_>, advice: &'static str) -> String {
        LineText { ended, advice }.to_string()
    }

    #[test]
    fn a_line_shows_what_is_known_and_leaves_out_what_is_not() {
        let hit = Ended {
            route: Some(Route::Model(ModelRoute::OpenAiEmbeddings)),
            model: Some("text-embedding-3-small"),
            status: Some(StatusCode::OK),
            reason: "memory",
            usage: Some(Usage { input_tokens: 6, output_tokens: 0 }),
            took: Duration::from_micros(412),
            ..Ended::new(Outcome::Hit)
        };
        assert_eq!(
            line(&hit, ""),
            "hit        text-embedding-3-small  openai.embeddings  412 µs  6→0 tokens  memory"
        );
        let silent = Ended { usage: Some(Usage::default()), ..hit };
        assert!(!line(&silent, "").contains("tokens"), "what the upstream did not say is unknown");
        let refused = Ended {
            status: Some(StatusCode::NOT_FOUND),
            reason: "no-upstream",
            ..Ended::new(Outcome::Refused)
        };
        assert_eq!(line(&refused, ""), "refused    other  0 µs  404  no-upstream");
    }

    #[test]
    fn a_bypass_says_what_would_change_it_and_a_cut_who_cut() {
        let bypass = Ended {
            status: Some(StatusCode::OK),
            reason: "not-deterministic",
            cut_by: Some(CutBy::Upstream),
            ..Ended::new(Outcome::Bypass)
        };
        assert_eq!(
            line(&bypass, "Send temperature 0."),
            "bypass     other  0 µs  not-deterministic: Send temperature 0.  cut off by the upstream"
        );
    }

    #[test]
    fn no_second_has_more_lines_than_the_bound() {
        let lines = RequestLines::new(Form::Text, 3, Instant::now());
        let at = |milliseconds| lines.started + Duration::from_millis(milliseconds);
        for (second, expected) in [(0, 3), (1_000, 3), (5_000, 3)] {
            let taken = (0..10).filter(|late| lines.take_place(at(second + late))).count();
            assert_eq!(taken, expected, "from {second} ms on");
        }
        assert!(!lines.take_place(at(1_500)), "a second that is over opens no new one");
        lines.set_per_second_max(4);
        assert!(lines.take_place(at(5_900)));
        assert!(!lines.take_place(at(5_900)));
    }

    #[test]
    fn with_a_bound_of_zero_there_is_no_line() {
        let lines = RequestLines::new(Form::Text, 0, Instant::now());
        assert!(!lines.take_place(lines.started));
        assert!(!lines.take_place(lines.started + Duration::from_secs(9)));
    }

    #[test]
    fn advice_is_given_at_once_and_then_every_ten_seconds_for_each_reason() {
        let lines = RequestLines::new(Form::Text, 20, Instant::now());
        let at = |seconds| lines.started + Duration::from_secs(seconds);
        for (reason, seconds, due) in [
            ("not-deterministic", 0, true),
            ("not-deterministic", 9, false),
            ("no-store", 9, true),
            ("not-deterministic", 10, true),
            ("not-deterministic", 19, false),
        ] {
            assert_eq!(lines.advice_is_due(reason, at(seconds)), due, "{reason} at {seconds} s");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(shown("a\u{1b}[31m\r\n\u{7}"), "a\\u{1b}[31m\\r\\n\\u{7}");
        assert_eq!(shown("right\u{202e}left\u{200b}"), "right\\u{202e}left\\u{200b}");
        assert_eq!(shown("gpt-4o-mini"), "gpt-4o-mini");
    }

    #[test]
    fn a_long_text_is_cut_at_forty_characters() {
        assert_eq!(shown(&"é".repeat(39)), "é".repeat(39));
        assert_eq!(shown(&"é".repeat(1000)), "é".repeat(39) + "…");
    }

    proptest! {
        #[test]
        fn whatever_a_caller_says_is_shown_in_forty_plain_characters(
            said in proptest::collection::vec(any::<char>(), 0..100),
        ) {
            let shown = shown(&said.into_iter().collect::<String>());
            prop_assert!(shown.chars().count() <= SHOWN_CHARS_MAX);
            prop_assert!(!shown.chars().any(char::is_control), "{shown:?}");
        }
    }
}
