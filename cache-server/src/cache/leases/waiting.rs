//! The waiting room: requests that wait for word of another server's fetch, by key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyspec::Key;
use tokio::sync::watch;
use tokio::time::Instant;

use super::WaitOutcome;

type Places = HashMap<Key, watch::Sender<Option<WaitOutcome>>>;

/// Who waits. There are no more than fills under way, which are bounded.
#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    places: Mutex<Places>,
}

impl WaitingRoom {
    /// Enters, and misses no word from now on.
    pub(super) fn enter(self: &Arc<Self>, key: Key) -> Entered {
        let mut places = self.places();
        let told = places.entry(key).or_insert_with(|| watch::Sender::new(None)).subscribe();
        Entered { room: Arc::clone(self), key, told }
    }

    /// Tells those who wait for a key.
    pub(super) fn tell(&self, key: &Key, word: WaitOutcome) {
        if let Some(place) = self.places().get(key) {
            place.send_replace(Some(word));
        }
    }

    /// Tells all.
    pub(super) fn tell_all(&self, word: WaitOutcome) {
        for place in self.places().values() {
            place.send_replace(Some(word));
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who may have to wait. Its place is given up with it.
#[derive(Debug)]
pub(super) struct Entered {
    room: Arc<WaitingRoom>,
    key: Key,
    told: watch::Receiver<Option<WaitOutcome>>,
}

impl Entered {
    /// It has to: the lease is another's, and lives so much longer if it is not renewed.
    pub(super) fn held(self, token: u64, left: Duration) -> Waiting {
        Waiting { entered: self, token, expires: Instant::now() + left }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut places = self.room.places();
        // This one's receiver is still there.
        if places.get(&self.key).is_some_and(|place| place.receiver_count() <= 1) {
            places.remove(&self.key);
        }
    }
}

/// A wait for another server's fetch.
#[derive(Debug)]
pub struct Waiting {
    entered: Entered,
    /// That of the claim that was lost.
    pub token: u64,
    expires: Instant,
}

impl Waiting {
    /// Waits for word of the lease's end, or that it has expired; no longer than `until`. It began to wait
    /// at `began`, maybe for an earlier lease.
    pub async fn ended(self, began: Instant, until: Instant) -> Wait {
        let outcome = self.outcome(until).await;
        Wait { outcome, took: began.elapsed() }
    }

    async fn outcome(mut self, until: Instant) -> WaitOutcome {
        let told = &mut self.entered.told;
        let changed = async { told.changed().await.ok().and_then(|()| *told.borrow()) };
        match tokio::time::timeout_at(until.min(self.expires), changed).await {
            Ok(told) => told.unwrap_or(WaitOutcome::Expired),
            Err(_elapsed) if self.expires <= until => WaitOutcome::Expired,
            Err(_elapsed) => WaitOutcome::TimedOut,
        }
    }
}

/// A wait that is over.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// What it came to.
    pub outcome: WaitOutcome,
    /// How long it took.
    pub took: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::from_bytes([1; 32]);

    fn wait(room: &Arc<WaitingRoom>, left: Duration) -> Waiting {
        room.enter(KEY).held(1, left)
    }

    fn after(wait: Duration) -> Instant {
        Instant::now() + wait
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_key_hears_how_its_fetch_ended() {
        let room = Arc::new(WaitingRoom::default());
        let waits = [(); 3].map(|()| wait(&room, Duration::from_secs(2)));
        let other = room.enter(Key::from_bytes([2; 32])).held(1, Duration::from_secs(2));
        room.tell(&KEY, WaitOutcome::Stored);
        for waiting in waits {
            assert_eq!(waiting.outcome(after(Duration::from_secs(1))).await, WaitOutcome::Stored);
        }
        assert_eq!(other.outcome(after(Duration::from_secs(1))).await, WaitOutcome::TimedOut);
        assert!(room.places().is_empty(), "who has left takes no room");
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_that_comes_before_the_claims_answer_is_heard() {
        let room = Arc::new(WaitingRoom::default());
        let entered = room.enter(KEY);
        room.tell(&KEY, WaitOutcome::Unshared);
        let waiting = entered.held(1, Duration::from_secs(2));
        assert_eq!(waiting.outcome(after(Duration::from_secs(1))).await, WaitOutcome::Unshared);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_renewed_expires_unless_the_wait_is_over_first() {
        let room = Arc::new(WaitingRoom::default());
        let waiting = wait(&room, Duration::from_secs(2));
        assert_eq!(waiting.outcome(after(Duration::from_secs(3))).await, WaitOutcome::Expired);
        let waiting = wait(&room, Duration::from_secs(2));
        assert_eq!(waiting.outcome(after(Duration::from_secs(1))).await, WaitOutcome::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn after_silence_all_claim_again() {
        let room = Arc::new(WaitingRoom::default());
        let waiting = wait(&room, Duration::from_secs(2));
        room.tell_all(WaitOutcome::Expired);
        assert_eq!(waiting.outcome(after(Duration::from_secs(1))).await, WaitOutcome::Expired);
    }
}
