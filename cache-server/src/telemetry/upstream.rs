//! The metrics of one configured upstream. Their `upstream` label is a name in the config.

use metrics::{Counter, Gauge, Histogram, Key, Label, Recorder};

use super::{METADATA, Telemetry};

/// How an exchange with an upstream went, as metrics and `/stats` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeEnd {
    /// It answered, whatever it said, but for the two below.
    Answered,
    /// It said that there is too much to do: 429.
    Limited,
    /// It answered with an error of its own: 5xx.
    ServerError,
    /// There was no connection.
    Unreachable,
    /// It was silent for too long.
    TimedOut,
    /// The exchange broke off.
    Broken,
}

impl ExchangeEnd {
    /// All of them, in the order of their numbers.
    pub const ALL: [ExchangeEnd; 6] = [
        ExchangeEnd::Answered,
        ExchangeEnd::Limited,
        ExchangeEnd::ServerError,
        ExchangeEnd::Unreachable,
        ExchangeEnd::TimedOut,
        ExchangeEnd::Broken,
    ];

    /// The label's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ExchangeEnd::Answered => "answered",
            ExchangeEnd::Limited => "limited",
            ExchangeEnd::ServerError => "server-error",
            ExchangeEnd::Unreachable => "unreachable",
            ExchangeEnd::TimedOut => "timed-out",
            ExchangeEnd::Broken => "broken",
        }
    }

    /// Whether the upstream could not do its work. One that limits us can.
    #[must_use]
    pub fn is_failure(self) -> bool {
        !matches!(self, ExchangeEnd::Answered | ExchangeEnd::Limited)
    }
}

/// The handles of one upstream.
pub struct UpstreamMetrics {
    /// From asking to the headers, in seconds.
    pub seconds_to_headers: Histogram,
    /// From asking to the end of a fill, in seconds.
    pub seconds_to_end: Histogram,
    exchanges: [Counter; 6],
    up: Gauge,
}

impl std::fmt::Debug for UpstreamMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UpstreamMetrics")
    }
}

impl UpstreamMetrics {
    /// Counts an exchange.
    pub fn ended(&self, end: ExchangeEnd) {
        self.exchanges[end as usize].increment(1);
    }

    /// Shows whether it is thought to be up.
    pub fn show(&self, is_up: bool) {
        self.up.set(f64::from(u8::from(is_up)));
    }
}

impl Telemetry {
    /// The handles of the upstream of this name.
    #[must_use]
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        let labels = |more: Option<(&'static str, &'static str)>| {
            let mut labels = vec![Label::new("upstream", name.to_owned())];
            labels.extend(more.map(|(name, value)| Label::new(name, value)));
            labels
        };
        let seconds = |until: &'static str| {
            let labels = labels(Some(("until", until)));
            let key = Key::from_parts("cache_server_upstream_seconds", labels);
            self.recorder.register_histogram(&key, &METADATA)
        };
        let exchanges = ExchangeEnd::ALL.map(|end| {
            let labels = labels(Some(("end", end.name())));
            let key = Key::from_parts("cache_server_upstream_exchanges_total", labels);
            self.recorder.register_counter(&key, &METADATA)
        });
        let up = Key::from_parts("cache_server_upstream_up", labels(None));
        UpstreamMetrics {
            seconds_to_headers: seconds("headers"),
            seconds_to_end: seconds("end"),
            exchanges,
            up: self.recorder.register_gauge(&up, &METADATA),
        }
    }
}
