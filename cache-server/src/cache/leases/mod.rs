//! Leases: servers that share a Redis fetch a key once for all of them.
//!
//! Whoever is about to fetch claims the key. One gets a lease, and lets it live on while it fetches; the
//! others wait for word that it has ended, and look into Redis. A lease that is not renewed expires, and
//! whoever waits claims the key again. Nothing relies on a message's arrival: it makes things fast.
//!
//! Every claim has a *token*, Redis's time, so that of two fetches of a key the later one has the greater
//! token. A write carries the token of its fetch as its [`Fence`], and Redis refuses it where a later
//! fetch has stored, or holds the lease (M. Kleppmann, "How to do distributed locking", 2016): an owner
//! that was stopped for too long does no harm when it goes on.

mod script;
mod waiting;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyspec::Key;
use metrics::{Counter, Histogram};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::tiers::TierError;
use super::tiers::redis::control::Control;
use super::tiers::redis::time::RedisTime;
use script::Answer;
use waiting::WaitingRoom;
pub use waiting::{Wait, Waiting};

/// How long a lease lives that is not renewed.
const LIFE: Duration = Duration::from_secs(2);
/// How often it is renewed.
const RENEW: Duration = Duration::from_millis(600);
/// How often a lease that nobody knows of is tried to be let go.
const DISOWN_TRIES: u32 = 20;
/// For how long it is remembered that a lease has ended by an entry.
const REMEMBER: Duration = Duration::from_secs(1);

/// What a claim came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// It has the lease.
    Won,
    /// Another server has it, or has just stored.
    Lost,
    /// It has the lease, after another's has expired.
    TakenOver,
    /// Redis was not asked, or gave no answer in time.
    Failed,
}

impl ClaimOutcome {
    /// The labels' values, in the order of their numbers.
    pub const NAMES: [&str; 4] = ["won", "lost", "taken-over", "failed"];
}

/// What a wait for another server's fetch came to; but for the last, how its lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitOutcome {
    /// It has stored an entry.
    Stored,
    /// There is no entry for others.
    Unshared,
    /// Its fetch was broken off.
    Abandoned,
    /// Its lease was not renewed, or nothing was heard of it.
    Expired,
    /// It took too long.
    TimedOut,
}

impl WaitOutcome {
    /// The labels' values, in the order of their numbers.
    pub const NAMES: [&str; 5] = ["stored", "unshared", "abandoned", "expired", "timed-out"];

    /// As servers tell each other.
    fn name(self) -> &'static str {
        WaitOutcome::NAMES[self as usize]
    }

    /// What was told by this name. That a wait took too long nobody is told.
    fn told(name: &str) -> Option<WaitOutcome> {
        let all = [
            WaitOutcome::Stored,
            WaitOutcome::Unshared,
            WaitOutcome::Abandoned,
            WaitOutcome::Expired,
        ];
        all.into_iter().find(|outcome| outcome.name() == name)
    }
}

/// The handles, which whoever names the metrics makes.
pub struct LeaseMetrics {
    /// Claims, by what they came to.
    pub claims: [Counter; 4],
    /// Waits, by what they came to.
    pub waits: [Counter; 5],
    /// How long they took.
    pub wait_seconds: Histogram,
}

impl std::fmt::Debug for LeaseMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeaseMetrics")
    }
}

/// What a claim gives.
#[derive(Debug)]
pub enum Claimed {
    /// The key is this server's to fetch.
    Won(Arc<Lease>),
    /// Another server's fetch has just stored an entry; its token.
    Stored(u64),
    /// Another server fetches it.
    Held(Waiting),
}

/// When a fetch began, by Redis's time, and the lease that it has, if it has one: what it stores takes the
/// place of nothing later.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    /// Microseconds since the Unix epoch.
    pub token: u64,
    /// It ends when the entry is stored, or with the last of those who have a part in it.
    pub lease: Option<Arc<Lease>>,
}

impl Fence {
    /// Of a fetch with this lease.
    #[must_use]
    pub fn of(lease: Arc<Lease>) -> Fence {
        Fence { token: lease.token, lease: Some(lease) }
    }

    /// Of a fetch without a lease that begins now.
    #[must_use]
    pub fn now(time: &RedisTime) -> Fence {
        Fence { token: time.now_us(), lease: None }
    }
}

/// The leases of this server.
#[derive(Debug)]
pub struct Leases {
    control: Control,
    room: Arc<WaitingRoom>,
    metrics: LeaseMetrics,
}

impl Leases {
    /// Those that this process has.
    #[must_use]
    pub fn new(control: Control, metrics: LeaseMetrics) -> Leases {
        Leases { control, room: Arc::default(), metrics }
    }

    /// The channel on which ends are told.
    #[must_use]
    pub fn channel(&self) -> String {
        script::channel(self.control.prefix())
    }

    /// What was said on the channel.
    pub fn hear(&self, said: &[u8]) {
        if let Some((key, word)) = script::heard(said) {
            self.room.tell(&key, word);
        }
    }

    /// Something may have been said that nobody heard: whoever waits claims again.
    pub fn hear_anew(&self) {
        self.room.tell_all(WaitOutcome::Expired);
    }

    /// Claims a key. `known` is the token of an end that the claimer has looked after already, 0 for none;
    /// `has_waited` that it claims because another's lease has expired.
    ///
    /// # Errors
    /// When Redis is not to be asked, or does not answer within its deadline. A lease that it has given all
    /// the same is let go.
    pub async fn claim(
        self: &Arc<Self>,
        key: &Key,
        known: u64,
        has_waited: bool,
    ) -> Result<Claimed, TierError> {
        // Before it is asked, so that no word is missed.
        let waiting = self.room.enter(*key);
        let unanswered = Unanswered { leases: self, key };
        let claimed = script::claim(&self.control, key, LIFE, known).await;
        if matches!(claimed, Ok(_) | Err(TierError::Resting)) {
            unanswered.answered();
        }
        let outcome = match &claimed {
            Ok(Answer::Won { .. }) if has_waited => ClaimOutcome::TakenOver,
            Ok(Answer::Won { .. }) => ClaimOutcome::Won,
            Ok(Answer::Stored { .. } | Answer::Held { .. }) => ClaimOutcome::Lost,
            Err(_) => ClaimOutcome::Failed,
        };
        self.metrics.claims[outcome as usize].increment(1);
        Ok(match claimed? {
            Answer::Won { token } => Claimed::Won(Lease::begin(self, *key, token)),
            Answer::Stored { token } => Claimed::Stored(token),
            Answer::Held { token, left } => Claimed::Held(waiting.held(token, left)),
        })
    }

    /// Counts a wait.
    pub fn waited(&self, wait: Wait) {
        self.metrics.waits[wait.outcome as usize].increment(1);
        self.metrics.wait_seconds.record(wait.took);
    }
}

/// A claim that Redis may have granted without anybody hearing of it: its caller has left, or the deadline
/// has come. Nobody is to wait for such a lease, nor is it to fence off what is fetched without it.
struct Unanswered<'c> {
    leases: &'c Leases,
    key: &'c Key,
}

impl Unanswered<'_> {
    fn answered(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let (control, key) = (self.leases.control.clone(), *self.key);
        runtime.spawn(async move {
            // Until it has expired by itself.
            for _ in 0..DISOWN_TRIES {
                if script::disown(&control, &key).await.is_ok() {
                    return;
                }
                tokio::time::sleep(LIFE / DISOWN_TRIES).await;
            }
        });
    }
}

/// The right to fetch a key. It lives on until it is told how it ends, or dropped.
#[derive(Debug)]
pub struct Lease {
    control: Control,
    key: Key,
    /// The token of the claim, and who made it.
    token: u64,
    claim: String,
    /// How it ends if nobody says otherwise.
    end: Mutex<Option<WaitOutcome>>,
    renewing: AbortHandle,
}

impl Lease {
    fn begin(leases: &Leases, key: Key, token: u64) -> Arc<Lease> {
        let control = leases.control.clone();
        let claim = format!("{token}:{}", control.process());
        let renewing = tokio::spawn(renew(control.clone(), key, claim.clone())).abort_handle();
        let end = Mutex::new(Some(WaitOutcome::Abandoned));
        Arc::new(Lease { control, key, token, claim, end, renewing })
    }

    /// Ends it by an entry that Redis has.
    pub async fn stored(&self) {
        if self.take_end().is_some() {
            self.renewing.abort();
            end(&self.control, &self.key, &self.claim, WaitOutcome::Stored).await;
        }
    }

    /// The upstream has answered, or failed: if there comes no entry of it, there is none for others.
    pub fn landed(&self) {
        self.end_by(WaitOutcome::Unshared);
    }

    /// From now on this is how it ends, if it has not.
    fn end_by(&self, word: WaitOutcome) {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.iter_mut().for_each(|known| *known = word);
    }

    /// Its fetch was broken off, though there might have been an entry for others: it ends now, and one of
    /// them fetches instead. Waits for nothing.
    pub fn abandoned(&self) {
        self.end_by(WaitOutcome::Abandoned);
        self.let_go();
    }

    /// There is no entry for others: it ends now. Waits for nothing.
    pub fn unshared(&self) {
        self.landed();
        self.let_go();
    }

    fn let_go(&self) {
        self.renewing.abort();
        if let (Some(word), Ok(runtime)) = (self.take_end(), Handle::try_current()) {
            let (control, key, claim) = (self.control.clone(), self.key, self.claim.clone());
            runtime.spawn(async move { end(&control, &key, &claim, word).await });
        }
    }

    fn take_end(&self) -> Option<WaitOutcome> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Lets a lease live on until it is another's, or nobody can tell.
async fn renew(control: Control, key: Key, claim: String) {
    loop {
        tokio::time::sleep(RENEW).await;
        match script::renew(&control, &key, &claim, LIFE).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::debug!(%key, "a lease was lost");
                return;
            }
            // Redis may be back in time.
            Err(error) => tracing::debug!(%error, "a lease was not renewed"),
        }
    }
}

/// Tells Redis that a lease has ended. Where that fails it expires.
async fn end(control: &Control, key: &Key, claim: &str, word: WaitOutcome) {
    if let Err(error) = script::end(control, key, claim, word, REMEMBER).await {
        tracing::debug!(%error, "the end of a lease was not told");
    }
}
