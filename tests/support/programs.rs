//! Programs that are not ours: where they are, and which ports they may have.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

/// Where servers are installed that are for administrators.
const MORE_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Below the ports that the system gives to whoever asks for any: nobody gets one of these by
/// chance while the program that has it is away.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// Where a program is.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn installed(program: &str, packages: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(MORE_FOLDERS.map(PathBuf::from));
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{program} is missing: run `make tools`, or install {packages}"))
}

/// A port of loopback that is free, and stays so when its program is killed and started again.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn lasting_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other runs of the tests begin elsewhere.
    let first = u16::try_from(std::process::id() % u32::from(PORTS)).expect("it is below");
    let ports = (0..PORTS).map(|_| {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        FIRST_PORT + (first + next) % PORTS
    });
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.into_iter().find(is_free).expect("a free port")
}
