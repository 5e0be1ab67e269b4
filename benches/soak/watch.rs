//! Looks at the server every few seconds while it is under load.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::server::Server;
use crate::tally::Tally;

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(5);

/// The server at a moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Since the load began.
    pub(crate) at: Duration,
    pub(crate) rss_bytes: u64,
    pub(crate) descriptors: u64,
    /// What `/stats` said.
    pub(crate) stats: Value,
}

impl Sample {
    /// Looks once.
    pub(crate) async fn of(server: &mut Server, begun: Instant) -> anyhow::Result<Sample> {
        let stats = server.stats().await?;
        let usage = server.usage()?;
        let (rss_bytes, descriptors) = (usage.rss_bytes, usage.descriptors);
        Ok(Sample { at: begun.elapsed(), rss_bytes, descriptors, stats })
    }

    /// A figure of `/stats`; 0 where there is none.
    pub(crate) fn figure(&self, path: &str) -> u64 {
        self.stats.pointer(path).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Resident memory in MiB, for people.
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub(crate) fn rss_mib(&self) -> f64 {
        self.rss_bytes as f64 / f64::from(1 << 20)
    }
}

/// The head of the rows that [`until`] prints.
const HEAD: &str =
    "  time     turns  unexp.  RSS MiB   fds  conns  flights  buffered MiB     hits  misses";

/// Samples until the time is over and prints a row for each.
pub(crate) async fn until(
    end: Instant,
    begun: Instant,
    server: &mut Server,
    tally: &Tally,
) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    println!("{HEAD}");
    while Instant::now() < end {
        tokio::time::sleep(INTERVAL).await;
        let sample = Sample::of(server, begun).await?;
        println!("{}", row(&sample, tally));
        samples.push(sample);
    }
    Ok(samples)
}

fn row(sample: &Sample, tally: &Tally) -> String {
    let (turns, unexpected) = tally.totals();
    format!(
        "{:>5}s {turns:>9}  {unexpected:>6}  {:>7.1}  {:>4}  {:>5}  {:>7}  {:>12.1}  {:>7}  {:>6}",
        sample.at.as_secs(),
        sample.rss_mib(),
        sample.descriptors,
        sample.figure("/connections_open"),
        sample.figure("/flights_open"),
        bytes_mib(sample.figure("/buffered_bytes")),
        sample.figure("/requests/hit"),
        sample.figure("/requests/miss"),
    )
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn bytes_mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
