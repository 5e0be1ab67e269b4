//! The waiting room: requests that wait for word of another server's fetch, by key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyspec::Key;
use tokio::sync::watch;
use tokio::time::Instant;

use super::WaitOutcome;

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// By an entry.
    Stored,
    /// There is no entry for others.
    Unshared,
    /// The fetch was broken off.
    Abandoned,
    /// It was not renewed, or nobody knows.
    Expired,
}

impl Word {
    /// As it is told.
    pub(super) fn name(self) -> &'static str {
        match self {
            Word::Stored => "stored",
            Word::Unshared => "unshared",
            Word::Abandoned => "abandoned",
            Word::Expired => "expired",
        }
    }

    /// The word of this name.
    pub(super) fn named(name: &str) -> Option<Word> {
        let all = [Word::Stored, Word::Unshared, Word::Abandoned, Word::Expired];
        all.into_iter().find(|word| word.name() == name)
    }
}

type Places = HashMap<Key, watch::Sender<Option<Word>>>;

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
    pub(super) fn tell(&self, key: &Key, word: Word) {
        if let Some(place) = self.places().get(key) {
            place.send_replace(Some(word));
        }
    }

    /// Tells all.
    pub(super) fn tell_all(&self, word: Word) {
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
    told: watch::Receiver<Option<Word>>,
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
        let outcome = match self.word(until).await {
            Some(Word::Stored) => WaitOutcome::Stored,
            Some(Word::Unshared) => WaitOutcome::Unshared,
            Some(Word::Abandoned) => WaitOutcome::Abandoned,
            Some(Word::Expired) => WaitOutcome::Expired,
            None => WaitOutcome::TimedOut,
        };
        Wait { outcome, took: began.elapsed() }
    }

    async fn word(mut self, until: Instant) -> Option<Word> {
        let told = &mut self.entered.told;
        let changed = async { told.changed().await.ok().and_then(|()| *told.borrow()) };
        match tokio::time::timeout_at(until.min(self.expires), changed).await {
            Ok(word) => Some(word.unwrap_or(Word::Expired)),
            Err(_elapsed) if self.expires <= until => Some(Word::Expired),
            Err(_elapsed) => None,
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
        room.tell(&KEY, Word::Stored);
        for waiting in waits {
            assert_eq!(waiting.word(after(Duration::from_secs(1))).await, Some(Word::Stored));
        }
        assert_eq!(other.word(after(Duration::from_secs(1))).await, None);
        assert!(room.places().is_empty(), "who has left takes no room");
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_that_comes_before_the_claims_answer_is_heard() {
        let room = Arc::new(WaitingRoom::default());
        let entered = room.enter(KEY);
        room.tell(&KEY, Word::Unshared);
        let waiting = entered.held(1, Duration::from_secs(2));
        assert_eq!(waiting.word(after(Duration::from_secs(1))).await, Some(Word::Unshared));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_renewed_expires_unless_the_wait_is_over_first() {
        let room = Arc::new(WaitingRoom::default());
        let waiting = wait(&room, Duration::from_secs(2));
        assert_eq!(waiting.word(after(Duration::from_secs(3))).await, Some(Word::Expired));
        let waiting = wait(&room, Duration::from_secs(2));
        assert_eq!(waiting.word(after(Duration::from_secs(1))).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn after_silence_all_claim_again() {
        let room = Arc::new(WaitingRoom::default());
        let waiting = wait(&room, Duration::from_secs(2));
        room.tell_all(Word::Expired);
        assert_eq!(waiting.word(after(Duration::from_secs(1))).await, Some(Word::Expired));
    }
}
