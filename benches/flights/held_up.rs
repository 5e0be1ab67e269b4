//! How long a server was held up: ready to run while others had its core. What it takes longer
//! for that is the machine's fault and not its own.

#[cfg(target_os = "linux")]
use std::time::Duration;

/// Seconds so far, of all threads that a process has now; nothing where the system does not say.
#[cfg(target_os = "linux")]
pub(crate) fn seconds(process: u32) -> std::io::Result<Option<f64>> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"))?;
    let mut held_up_ns = 0;
    for thread in threads {
        // One that has just ended is not missed.
        let Ok(line) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        held_up_ns += delay_ns(&line).unwrap_or(0);
    }
    Ok(Some(Duration::from_nanos(held_up_ns).as_secs_f64()))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn seconds(_process: u32) -> std::io::Result<Option<f64>> {
    Ok(None)
}

/// The second of the three numbers: the time spent waiting on a run queue.
#[cfg(any(target_os = "linux", test))]
fn delay_ns(line: &str) -> Option<u64> {
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_is_the_second_number() {
        assert_eq!(delay_ns("1620018 83941 12\n"), Some(83_941));
        assert_eq!(delay_ns(""), None);
    }
}
