//! Taking connections from a listener, within a bound, and what happens when that fails.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::listen;
use crate::telemetry::Telemetry;

/// The first pause after a failure; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A connection that was taken.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    /// The other end of the socket.
    pub(super) peer: SocketAddr,
    /// Its place among all connections; given back when dropped.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Takes connections from one listener.
#[derive(Debug)]
pub(super) struct Acceptor {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    telemetry: Arc<Telemetry>,
    failures: Failures,
}

impl Acceptor {
    /// Of the connections that this takes, `connections_max` may be open at once; further ones
    /// wait in the kernel's queue.
    pub(super) fn new(
        listener: TcpListener,
        connections_max: usize,
        telemetry: Arc<Telemetry>,
    ) -> Acceptor {
        let permits = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        Acceptor { listener, permits, telemetry, failures: Failures::default() }
    }

    /// Waits for room, then for a connection. May be cancelled at any time.
    pub(super) async fn next(&mut self) -> Accepted {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    if let Some(count) = self.failures.end() {
                        tracing::info!(failures = count, "connections are accepted again");
                    }
                    listen::set_options(&stream);
                    return Accepted { stream, peer, permit };
                }
                Err(error) => {
                    self.telemetry.accept_error();
                    let pause = self.failures.pause(&error);
                    if self.failures.count == 1 {
                        tracing::warn!(%error, "connections cannot be accepted; trying on");
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// A run of failures: descriptors have run out, most likely, and a spin would help nobody.
#[derive(Debug, Default)]
struct Failures {
    count: u64,
}

impl Failures {
    /// Counts one more, and says how long to wait before the next try.
    fn pause(&mut self, error: &io::Error) -> Duration {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        // This concerns one caller who has hung up already; the next one waits behind it.
        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
        ) {
            return Duration::ZERO;
        }
        let doublings = u32::try_from(self.count).unwrap_or(u32::MAX).min(16);
        self.count += 1;
        (PAUSE_MIN * 2_u32.pow(doublings)).min(PAUSE_MAX)
    }

    /// The run is over; how long it was, if there was one.
    fn end(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.count)).filter(|count| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out_of_descriptors() -> io::Error {
        io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error())
    }

    #[test]
    fn pauses_double_up_to_a_second_and_begin_anew_after_a_success() {
        let mut failures = Failures::default();
        let mut pause = || failures.pause(&out_of_descriptors()).as_millis();
        assert_eq!([pause(), pause(), pause(), pause(), pause()], [50, 100, 200, 400, 800]);
        assert_eq!([pause(), pause()], [1000, 1000]);
        assert_eq!(failures.end(), Some(7));
        assert_eq!(failures.end(), None, "there was no run since");
        assert_eq!(failures.pause(&out_of_descriptors()).as_millis(), 50);
    }

    #[test]
    fn pauses_never_overflow() {
        let mut failures = Failures { count: u64::from(u32::MAX) + 7 };
        assert_eq!(failures.pause(&out_of_descriptors()), PAUSE_MAX);
    }

    #[test]
    fn a_caller_who_hung_up_in_the_queue_holds_nobody_up() {
        let mut failures = Failures::default();
        let error = io::Error::from(io::ErrorKind::ConnectionAborted);
        assert_eq!(failures.pause(&error), Duration::ZERO);
        assert_eq!(failures.end(), None, "that is no run of failures");
    }
}
