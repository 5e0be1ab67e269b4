//! Redis's own benchmark: a closed loop of one command on some connections, one call a turn.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context, ensure};

use crate::redis_server::program;
use crate::shared::cores;

/// What it found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) per_second: f64,
    pub(crate) median_us: f64,
    pub(crate) p99_us: f64,
}

/// Has it call this many times, with numbers below `numbers` in the place of its mark.
pub(crate) async fn run(
    address: SocketAddr,
    connections: usize,
    calls: u64,
    numbers: u32,
    command: &[&str],
    core: Option<usize>,
) -> anyhow::Result<Found> {
    let mut benchmark = program("redis-benchmark")?;
    benchmark
        .args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()])
        .args(["-c", &connections.to_string(), "-n", &calls.to_string()])
        .args(["-r", &numbers.to_string(), "-P", "1", "--csv"])
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = cores::spawn_on(&mut benchmark, core).context("redis-benchmark does not start")?;
    let output = child.wait_with_output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "redis-benchmark failed: {said}{complaints}");
    found(&said).with_context(|| format!("redis-benchmark cannot be read: {said}{complaints}"))
}

/// Reads the head and the one row of its table. Times in it are in milliseconds.
fn found(said: &str) -> Option<Found> {
    let mut lines = said.lines().skip_while(|line| !line.starts_with("\"test\","));
    let (heads, row) = (lines.next()?, lines.next()?);
    // The command in the first column may hold commas, but no quote.
    let (_, row) = row.strip_prefix('"')?.split_once("\",")?;
    let heads = heads.split(',').skip(1).map(|head| head.trim_matches('"'));
    let values = row.split(',').map(|value| value.trim_matches('"').parse::<f64>().ok());
    let table: Vec<_> = heads.zip(values).collect();
    let of = |name| table.iter().find(|(head, _)| *head == name)?.1;
    Some(Found {
        per_second: of("rps")?,
        median_us: of("p50_latency_ms")? * 1e3,
        p99_us: of("p99_latency_ms")? * 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_table_is_read_by_the_names_of_its_columns() {
        let said = "WARNING: something\n\"test\",\"rps\",\"avg_latency_ms\",\"p50_latency_ms\",\
            \"p99_latency_ms\"\n\"GET a,b\",\"1000.5\",\"0.1\",\"0.2\",\"0.75\"\n";
        let found = found(said).unwrap();
        assert_eq!((found.per_second, found.median_us, found.p99_us), (1000.5, 200.0, 750.0));
        assert!(super::found("nothing").is_none());
    }
}
