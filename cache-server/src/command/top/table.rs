//! The table that `top` shows: pure text from two samples.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::time::Duration;

use bytesize::ByteSize;
use cache_server::telemetry::Outcome;
use cache_server::telemetry::latency::{in_words, percentile_us};
use cache_server::telemetry::requests::shown;
use serde_json::Value;

use super::figures::{Between, Counts, Model, Sample, counted};

/// Lines of a section at most; what is busiest comes first.
const LINES_MAX: usize = 6;

/// The table of what happened between `previous` and `current`, or since the start of the server
/// if there is no previous sample, in at most `width` columns and `height` lines.
pub(super) fn render(
    previous: Option<&Sample>,
    current: &Sample,
    width: usize,
    height: usize,
) -> String {
    let between = Between::of(previous, current);
    let mut lines = summary(&between);
    lines.extend(outcomes(&between));
    lines.extend(upstreams(&between.now().upstreams));
    lines.extend(routes(&between));
    lines.extend(models(&between));
    lines.extend(counts("NOT STORED", &between, &between.growths(|f| &f.not_stored)));
    lines.extend(counts("BYPASSED", &between, &between.growths(|f| &f.bypass_reasons)));
    lines.iter().take(height).fold(String::new(), |mut text, line| {
        text.extend(line.chars().take(width));
        text.push('\n');
        text
    })
}

fn summary(between: &Between<'_>) -> Vec<String> {
    let now = between.now();
    let span = if between.is_since_start() {
        "since its start".to_owned()
    } else {
        format!("in the last {}", in_words(between.time))
    };
    let uptime = humantime::format_duration(Duration::from_secs(now.uptime_seconds));
    let outcomes = between.growths(|figures| &figures.requests);
    let saved = between.growth(|f| f.input_tokens_saved + f.output_tokens_saved);
    vec![
        format!("cache-server {}, up {uptime}; figures {span}", shown(&now.version)),
        format!(
            "{} requests/s · hit ratio {} · {saved} tokens saved · {}/s from the cache · {}/s from upstream",
            rate(outcomes.values().sum(), between.time),
            hit_ratio(&outcomes),
            bytes_rate(between.growth(|f| f.bytes_from_cache), between.time),
            bytes_rate(between.growth(|f| f.bytes_from_upstream), between.time),
        ),
        format!(
            "{} connections · {} flights · {} buffered · {} in {} entries in memory",
            now.connections_open,
            now.flights_open,
            ByteSize::b(now.buffered_bytes),
            ByteSize::b(now.memory_bytes),
            now.memory_entries,
        ),
    ]
}

/// Answers that were not paid for, among all that the cache was asked for.
fn hit_ratio(outcomes: &Counts) -> String {
    let sum = |names: &[Outcome]| names.iter().map(|o| counted(outcomes, o.name())).sum::<u64>();
    let saved = sum(&[Outcome::Hit, Outcome::Stale, Outcome::Collapsed]);
    match saved + sum(&[Outcome::Miss]) {
        0 => "–".to_owned(),
        asked => format!("{:.1} %", 100.0 * as_f64(saved) / as_f64(asked)),
    }
}

fn outcomes(between: &Between<'_>) -> Vec<String> {
    let mut lines = heading(&format!(
        "{:<28} {:>10} {:>10} {:>10} {:>10}",
        "OUTCOME", "requests/s", "p50", "p95", "p99"
    ));
    let counts = between.growths(|figures| &figures.requests);
    for outcome in Outcome::ALL {
        let buckets = between.buckets(outcome.name());
        let percentile = |per_mille| {
            let took = percentile_us(&buckets, per_mille).map(Duration::from_micros);
            took.map_or_else(|| "–".to_owned(), in_words)
        };
        lines.push(format!(
            "{:<28} {:>10} {:>10} {:>10} {:>10}",
            outcome.name(),
            rate(counted(&counts, outcome.name()), between.time),
            percentile(500),
            percentile(950),
            percentile(990)
        ));
    }
    lines
}

fn routes(between: &Between<'_>) -> Vec<String> {
    const NONE: &Counts = &Counts::new();
    let names = between.now().routes.keys();
    let of = |name: &String| between.growths(|f| f.routes.get(name).unwrap_or(NONE));
    let mut busiest: Vec<(&String, Counts)> = names.map(|name| (name, of(name))).collect();
    let asked = |counts: &Counts| counts.values().sum::<u64>();
    busiest.retain(|(_, counts)| asked(counts) > 0);
    busiest.sort_by_key(|(_, counts)| Reverse(asked(counts)));
    let line = |(name, counts): &(&String, Counts)| {
        let rate = rate(asked(counts), between.time);
        format!("{:<28} {rate:>10} {:>10}", shown(name), hit_ratio(counts))
    };
    let title = format!("{:<28} {:>10} {:>10}", "ROUTE", "requests/s", "hits");
    section(&title, busiest.iter().map(line))
}

fn models(between: &Between<'_>) -> Vec<String> {
    let grown = |name: &String, count: fn(&Model) -> u64| {
        between.growth(|figures| figures.models.get(name).map_or(0, count))
    };
    let names = between.now().models.keys();
    let mut busiest: Vec<(&String, u64)> =
        names.map(|name| (name, grown(name, |model| model.asked))).collect();
    busiest.retain(|(_, asked)| *asked > 0);
    busiest.sort_by_key(|(_, asked)| Reverse(*asked));
    let line = |(name, asked): &(&String, u64)| {
        let hits = 100.0 * as_f64(grown(name, |model| model.hits)) / as_f64(*asked);
        let saved = grown(name, |model| model.tokens_saved);
        let rate = rate(*asked, between.time);
        format!("{:<40} {rate:>10} {:>8} {saved:>10}", shown(name), format!("{hits:.1} %"))
    };
    let title = format!("{:<40} {:>10} {:>8} {:>10}", "MODEL", "requests/s", "hits", "saved");
    section(&title, busiest.iter().map(line))
}

/// A section of reasons, the most frequent first.
fn counts(title: &str, between: &Between<'_>, counts: &Counts) -> Vec<String> {
    let mut reasons: Vec<(&String, u64)> = counts.iter().map(|(name, n)| (name, *n)).collect();
    reasons.retain(|(_, count)| *count > 0);
    reasons.sort_by_key(|(_, count)| Reverse(*count));
    let line = |(reason, count): &(&String, u64)| {
        format!("{:<28} {:>10}", shown(reason), rate(*count, between.time))
    };
    section(&format!("{title:<28} {:>10}", "requests/s"), reasons.iter().map(line))
}

/// What a server says of its upstreams: a line each, with all that it says.
fn upstreams(said: &Value) -> Vec<String> {
    let lines: Vec<String> = match said {
        Value::Object(by_name) => by_name
            .iter()
            .map(|(name, state)| format!("{:<28} {}", shown(name), in_line(state)))
            .collect(),
        Value::Array(list) => list.iter().map(in_line).collect(),
        _ => Vec::new(),
    };
    section("UPSTREAM", lines.into_iter())
}

fn in_line(value: &Value) -> String {
    match value {
        Value::Object(members) => members.iter().fold(String::new(), |mut line, (name, value)| {
            let _ = write!(line, "{}={} ", shown(name), in_line(value));
            line
        }),
        Value::String(text) => shown(text),
        other => shown(&other.to_string()),
    }
}

/// A heading and its first lines; nothing at all without lines.
fn section(title: &str, lines: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    if lines.len() == 0 {
        return Vec::new();
    }
    let more = lines.len().saturating_sub(LINES_MAX);
    let mut section = heading(title);
    section.extend(lines.take(LINES_MAX));
    if more > 0 {
        section.push(format!("… and {more} more"));
    }
    section
}

fn heading(title: &str) -> Vec<String> {
    vec![String::new(), title.to_owned()]
}

fn rate(count: u64, time: Duration) -> String {
    let rate = as_f64(count) / time.as_secs_f64();
    if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people, never negative"
)]
fn bytes_rate(count: u64, time: Duration) -> ByteSize {
    ByteSize::b((as_f64(count) / time.as_secs_f64()) as u64)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people; counts stay below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::*;

    fn sample(taken: Instant, stats: Value) -> Sample {
        Sample { taken, figures: serde_json::from_value(stats).unwrap() }
    }

    fn two_samples() -> (Sample, Sample) {
        let now = Instant::now();
        let before = json!({
            "version": "0.1.0", "uptime_seconds": 100,
            "requests": {"hit": 1000, "miss": 100},
            "latency": {"hit": {"buckets": [[10, 1000]]}},
        });
        let after = json!({
            "version": "0.1.0", "uptime_seconds": 102,
            "requests": {"hit": 1060, "miss": 120, "bypass": 4},
            "routes": {
                "openai.embeddings": {"hit": 60, "miss": 20},
                "other": {"bypass": 4},
            },
            "bypass_reasons": {"not-deterministic": 4},
            "not_stored": {"length": 2},
            "latency": {
                "hit": {"buckets": [[10, 1000], [96, 59], [2048, 1]]},
                "miss": {"buckets": [[1_048_576, 20]]},
            },
            "models": {"gpt\u{1b}[31m": {"asked": 50, "hits": 25, "tokens_saved": 700}},
            "connections_open": 7, "memory_bytes": 2048, "memory_entries": 3,
            "upstreams": {"openai": {"state": "open", "failures": 3}},
        });
        (sample(now, before), sample(now + Duration::from_secs(2), after))
    }

    fn line<'t>(table: &'t str, name: &str) -> Vec<&'t str> {
        let line = table.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{table}")).split_whitespace().collect()
    }

    #[test]
    fn rates_and_latencies_are_those_of_the_interval() {
        let (before, after) = two_samples();
        let table = render(Some(&before), &after, 200, 100);
        assert!(table.contains("figures in the last 2.00 s"), "{table}");
        assert!(table.contains("42 requests/s · hit ratio 75.0 %"), "{table}");
        assert_eq!(line(&table, "hit "), ["hit", "30", "99", "µs", "99", "µs", "2.2", "ms"]);
        assert_eq!(line(&table, "miss")[..4], ["miss", "10", "1.11", "s"]);
        assert_eq!(line(&table, "stale"), ["stale", "0.0", "–", "–", "–"]);
        assert_eq!(line(&table, "openai.embeddings"), ["openai.embeddings", "40", "75.0", "%"]);
        assert_eq!(line(&table, "not-deterministic"), ["not-deterministic", "2.0"]);
        assert_eq!(line(&table, "length"), ["length", "1.0"]);
        assert_eq!(line(&table, "openai "), ["openai", "failures=3", "state=open"]);
        assert!(table.contains("7 connections") && table.contains("2.0 KiB in 3 entries"));
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let (before, after) = two_samples();
        let table = render(Some(&before), &after, 200, 100);
        assert_eq!(line(&table, "gpt"), ["gpt\\u{1b}[31m", "25", "50.0", "%", "700"]);
        assert!(!table.contains('\u{1b}'));
    }

    #[test]
    fn one_sample_shows_the_time_since_the_start() {
        let (_, after) = two_samples();
        let table = render(None, &after, 200, 100);
        assert!(table.contains("figures since its start"), "{table}");
        assert_eq!(line(&table, "hit ")[1], "10", "1060 in 102 s");
    }

    #[test]
    fn a_server_that_was_started_anew_counts_from_zero() {
        let (before, after) = two_samples();
        let mut anew = after.clone();
        anew.figures.uptime_seconds = 1;
        anew.figures.requests = Counts::from([("hit".to_owned(), 5)]);
        let table = render(Some(&before), &anew, 200, 100);
        assert!(table.contains("figures since its start"), "{table}");
        assert_eq!(line(&table, "hit ")[1], "5.0");
    }

    #[test]
    fn no_line_is_wider_and_there_are_no_more_than_the_terminal_shows() {
        let (before, after) = two_samples();
        for (width, height) in [(80, 24), (20, 5), (1, 1)] {
            let table = render(Some(&before), &after, width, height);
            assert_eq!(table.lines().count().min(height), table.lines().count());
            assert!(table.lines().all(|line| line.chars().count() <= width), "{table}");
        }
    }

    #[test]
    fn a_long_section_shows_the_busiest_and_counts_the_rest() {
        let now = Instant::now();
        let reasons: serde_json::Map<String, Value> =
            (0..20).map(|n| (format!("reason-{n:02}"), json!(n + 1))).collect();
        let stats = json!({"uptime_seconds": 1, "bypass_reasons": reasons});
        let table = render(None, &sample(now, stats), 80, 100);
        assert!(table.contains("reason-19") && !table.contains("reason-13"), "{table}");
        assert!(table.contains("… and 14 more"), "{table}");
    }

    #[test]
    fn figures_of_an_older_server_are_shown_as_far_as_they_go() {
        let table = render(None, &sample(Instant::now(), json!({"requests": {"hit": 3}})), 80, 24);
        assert_eq!(line(&table, "hit ")[1..], ["3.0", "–", "–", "–"]);
    }
}
