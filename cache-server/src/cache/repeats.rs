//! Repeats: what a request meant that came before, byte for byte.
//!
//! Agents send the same bytes again and again, header and all. What those bytes mean is found out
//! once, the long way: parsed, checked, keyed. When they come again they mean the same, as long as
//! the settings are the same; so that they need only be found again. What is found is compared byte
//! for byte: no collision of the quick hash gives one request the meaning of another, and since the
//! credential is among the bytes, none gets that of another caller's.
//!
//! It holds meanings alone, and no answers: whether an entry is there, fresh and not purged is
//! looked at each time.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use foyer::{Cache, CacheBuilder, S3FifoConfig};
use keyspec::{Key, Route};
use rapidhash::quality::RandomState;

use crate::cache::suspension::Credential;

/// Larger requests go the long way each time: they are rare, and would push many small ones out.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
/// What a repeat takes beside the request and the model's name.
const REPEAT_BYTES: usize = 384;
/// Requests of which is known that they came once, or were forgotten since: a place for each.
const SEEN_PLACES: usize = 1 << 14;
/// Entries that were found to be due: a place for each.
const DUE_PLACES: usize = 1 << 10;
/// Headers that are known; one more takes the place of one that is asked for less.
const HEADS_MAX: usize = 4096;

/// What a request means that came before.
#[derive(Debug)]
pub struct Repeat {
    /// What it is known by: its bytes of HTTP/1.1, or all that it says.
    pub request: Bytes,
    /// Which settings it was read by.
    pub settings: u64,
    /// Its key, under which its answer stands.
    pub key: Key,
    /// What it is counted under.
    pub route: Route,
    /// The model that it asks for.
    pub model: Option<Box<str>>,
    /// The credential that it shows, if it shows any: an upstream may come to refuse it.
    pub credential: Option<Credential>,
    /// How early its entry is refreshed before it ends; 0 for never.
    pub refresh_ahead: f64,
}

impl Repeat {
    fn weight(&self) -> usize {
        REPEAT_BYTES + self.request.len() + self.model.as_ref().map_or(0, |name| name.len())
    }
}

/// Meanings by the bytes of requests, within a bound on bytes.
#[derive(Debug)]
pub struct Repeats {
    /// Absent if the bound is 0.
    known: Option<Cache<u64, Arc<Repeat>>>,
    /// Hashes of requests that could have been remembered.
    seen: Box<[AtomicU64]>,
    /// The beginnings of keys whose entries a repeat has found to be due for a refresh.
    due: Box<[AtomicU64]>,
    /// Hashes of the headers of requests that were remembered by all that they say.
    heads: Cache<u64, ()>,
    /// Seeded anew in each process, so that nobody can aim at a slot.
    hasher: RandomState,
}

impl Repeats {
    /// Holds at most `bytes_max` bytes; 0 remembers nothing.
    #[must_use]
    pub fn new(bytes_max: usize) -> Repeats {
        let known = (bytes_max > 0).then(|| {
            CacheBuilder::new(bytes_max)
                .with_eviction_config(S3FifoConfig::default())
                .with_weighter(|_, repeat: &Arc<Repeat>| repeat.weight())
                .build()
        });
        let heads = CacheBuilder::new(HEADS_MAX).build();
        let places = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        let (seen, due) = (places(SEEN_PLACES), places(DUE_PLACES));
        Repeats { known, seen, due, heads, hasher: RandomState::new() }
    }

    /// Whether a request with this header was remembered, that was read by these settings. It may be
    /// said of another one: what follows from it must be right for all.
    #[must_use]
    pub fn is_head_known(&self, head: &[u8], settings: u64) -> bool {
        self.known.is_some() && self.heads.contains(&self.hasher.hash_one((settings, head)))
    }

    /// Remembers the header of a request that was read by these settings.
    pub fn remember_head(&self, head: &[u8], settings: u64) {
        self.heads.insert(self.hasher.hash_one((settings, head)), ());
    }

    /// What these bytes meant when they came before.
    #[must_use]
    pub fn find(&self, request: &[u8]) -> Option<Arc<Repeat>> {
        let known = self.known.as_ref().filter(|_| request.len() <= REQUEST_BYTES_MAX)?;
        let found = known.get(&self.hasher.hash_one(request))?;
        (found.request == request).then(|| Arc::clone(&found))
    }

    /// Remembers what a request means, if it is asked to for the second time: many have an id of their
    /// own and never come again. One that is too large is not remembered.
    pub fn remember(&self, request: &[u8], repeat: impl FnOnce(Bytes) -> Repeat) {
        let Some(known) = self.known.as_ref() else { return };
        let slot = self.hasher.hash_one(request);
        if request.len() <= REQUEST_BYTES_MAX && self.was_seen(slot) {
            // A copy: the request's own bytes are a slice of a larger buffer.
            known.insert(slot, Arc::new(repeat(Bytes::copy_from_slice(request))));
        }
    }

    /// Notes that a repeat has found its entry to be due for a refresh, which is drawn by chance: the long
    /// way, which begins it, must not draw again.
    pub fn note_due(&self, key: &Key) {
        let (place, begins) = self.place_of(key);
        place.store(begins, Ordering::Relaxed);
    }

    /// Whether that was noted, which holds for one who asks.
    #[must_use]
    pub fn take_due(&self, key: &Key) -> bool {
        let (place, begins) = self.place_of(key);
        place.load(Ordering::Relaxed) == begins
            && place.compare_exchange(begins, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn place_of(&self, key: &Key) -> (&AtomicU64, u64) {
        let begins = key.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        // Cut on purpose: keys are as good as drawn by chance. 0 is none.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        (&self.due[begins as usize % DUE_PLACES], begins.max(1))
    }

    fn was_seen(&self, slot: u64) -> bool {
        // Cut on purpose: any bits of a good hash do.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        let place = &self.seen[slot as usize % SEEN_PLACES];
        place.swap(slot, Ordering::Relaxed) == slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyspec::ModelRoute;

    fn repeat(request: Bytes) -> Repeat {
        Repeat {
            request,
            settings: 1,
            key: Key::from_bytes([7; 32]),
            route: Route::Model(ModelRoute::OpenAiEmbeddings),
            model: None,
            credential: None,
            refresh_ahead: 0.0,
        }
    }

    /// Asks for it twice.
    fn remember(repeats: &Repeats, request: &[u8]) {
        repeats.remember(request, repeat);
        repeats.remember(request, repeat);
    }

    #[test]
    fn the_same_bytes_are_found_from_the_second_time_on_and_no_others() {
        let repeats = Repeats::new(1 << 20);
        repeats.remember(b"POST /a", repeat);
        assert!(repeats.find(b"POST /a").is_none());
        repeats.remember(b"POST /a", repeat);
        assert_eq!(repeats.find(b"POST /a").unwrap().key, Key::from_bytes([7; 32]));
        assert!(repeats.find(b"POST /b").is_none() && repeats.find(b"POST /").is_none());
    }

    #[test]
    fn a_slot_that_another_request_has_taken_gives_nothing() {
        let repeats = Repeats::new(1 << 20);
        let slot = repeats.hasher.hash_one(&b"mine"[..]);
        repeats
            .known
            .as_ref()
            .unwrap()
            .insert(slot, Arc::new(repeat(Bytes::from_static(b"theirs"))));
        assert!(repeats.find(b"mine").is_none());
    }

    #[test]
    fn large_requests_and_a_bound_of_nothing_are_not_remembered() {
        let (some, none) = (Repeats::new(1 << 20), Repeats::new(0));
        let large = vec![b'x'; REQUEST_BYTES_MAX + 1];
        for (repeats, request) in [(&some, &large[..]), (&none, b"GET /")] {
            remember(repeats, request);
            assert!(repeats.find(request).is_none());
        }
    }

    #[test]
    fn headers_are_known_up_to_a_bound() {
        let repeats = Repeats::new(1 << 20);
        assert!(!repeats.is_head_known(b"GET", 1));
        repeats.remember_head(b"GET", 1);
        assert!(repeats.is_head_known(b"GET", 1) && !repeats.is_head_known(b"POST", 1));
        assert!(!repeats.is_head_known(b"GET", 2), "it may be read in another way now");
        (0..3 * HEADS_MAX).for_each(|number| repeats.remember_head(&number.to_le_bytes(), 1));
        assert!(repeats.heads.entries() <= HEADS_MAX);
    }

    #[test]
    fn what_is_due_is_told_once() {
        let repeats = Repeats::new(1 << 20);
        let [one, other] = [1, 2].map(|byte| Key::from_bytes([byte; 32]));
        assert!(!repeats.take_due(&one));
        repeats.note_due(&one);
        assert!(!repeats.take_due(&other));
        assert!(repeats.take_due(&one) && !repeats.take_due(&one));
    }

    #[test]
    fn the_bound_holds_under_a_flood_of_requests() {
        let repeats = Repeats::new(1 << 20);
        (0..20_000).for_each(|number| remember(&repeats, format!("GET /{number}").as_bytes()));
        let held = repeats.known.as_ref().map_or(0, Cache::usage);
        assert!(held > 0 && held <= 1 << 20, "{held} bytes are held");
    }
}
