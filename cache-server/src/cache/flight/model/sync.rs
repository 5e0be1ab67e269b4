//! What `cache::sync` has, with a scheduler that may give others their turn before each step.

pub(super) use shuttle::sync::atomic::{AtomicUsize, Ordering};
pub(super) use shuttle::sync::{Mutex, MutexGuard, PoisonError};

/// A place where others may have their turn.
#[derive(Debug, Default)]
struct Turn(AtomicUsize);

impl Turn {
    fn give(&self) {
        self.0.load(Ordering::SeqCst);
    }
}

/// Tokio's, which waits for no runtime.
#[derive(Debug)]
pub(super) struct Notify {
    inner: tokio::sync::Notify,
    turn: Turn,
}

impl Notify {
    pub(super) fn new() -> Notify {
        Notify { inner: tokio::sync::Notify::new(), turn: Turn::default() }
    }

    pub(super) fn notify_one(&self) {
        self.turn.give();
        self.inner.notify_one();
    }

    pub(super) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        self.turn.give();
        self.inner.notified()
    }
}

pub(super) mod watch {
    //! Tokio's, which waits for no runtime either.

    use tokio::sync::watch;

    use super::Turn;

    #[derive(Debug)]
    pub(crate) struct Sender<T> {
        inner: watch::Sender<T>,
        turn: Turn,
    }

    impl<T> Sender<T> {
        pub(crate) fn new(value: T) -> Sender<T> {
            Sender { inner: watch::Sender::new(value), turn: Turn::default() }
        }

        pub(crate) fn subscribe(&self) -> Receiver<T> {
            self.turn.give();
            Receiver { inner: self.inner.subscribe(), turn: Turn::default() }
        }

        pub(crate) fn send_replace(&self, value: T) -> T {
            self.turn.give();
            self.inner.send_replace(value)
        }
    }

    #[derive(Debug)]
    pub(crate) struct Receiver<T> {
        inner: watch::Receiver<T>,
        turn: Turn,
    }

    impl<T> Receiver<T> {
        pub(crate) fn mark_unchanged(&mut self) {
            self.turn.give();
            self.inner.mark_unchanged();
        }

        pub(crate) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
            self.turn.give();
            self.inner.changed().await
        }
    }
}
