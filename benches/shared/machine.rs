//! The machine that figures are from: without it nobody can tell what they are worth.

use std::collections::BTreeMap;

/// What is known of it.
pub(crate) fn facts() -> BTreeMap<&'static str, String> {
    let system = rustix::system::uname();
    let told = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let kernel = format!("{} {}", told(system.sysname()), told(system.release()));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    // Where the system does not say, the architecture is all that is known.
    let described = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = model(&described).map_or_else(|| told(system.machine()), str::to_owned);
    let congestion = congestion_control().unwrap_or_else(|| "unknown".into());
    BTreeMap::from([
        ("congestion control", congestion),
        ("kernel", kernel),
        ("processor", processor),
        ("cores", cores.to_string()),
    ])
}

/// How TCP finds out how fast it may send, also on loopback.
pub(crate) fn congestion_control() -> Option<String> {
    let told = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").ok()?;
    Some(told.trim().to_owned())
}

/// The model of the first processor in `/proc/cpuinfo`.
fn model(described: &str) -> Option<&str> {
    let fields = described.lines().filter_map(|line| line.split_once(':'));
    Some(
        fields
            .map(|(name, value)| (name.trim(), value))
            .find(|(name, _)| *name == "model name")?
            .1
            .trim(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_told_by_its_model() {
        assert_eq!(model("processor\t: 0\nmodel name\t: A B 9\nmodel\t: 1\n"), Some("A B 9"));
        assert_eq!(model("processor: 0\n"), None);
    }
}
