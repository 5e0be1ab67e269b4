//! Coherence: servers that share a Redis tell each other what was purged and which levers are pulled.
//!
//! Every server keeps all orders in a durable log of its own ([`purge`]); Redis holds the copy that they
//! share. One task publishes what was ordered here and reads what was ordered elsewhere: when something
//! was ordered, when it hears that there is something new, and twice a second in any case, so that
//! nothing relies on a message's arrival. Where Redis has lost orders, which shows in its *generation*,
//! each server tells again what it knows. It is the same with overrides (`levers`).
//!
//! What Redis holds is read only while all that is purged is known: not on new connections before the
//! first exchange on them. A server that hears of nobody gives what it has itself only for the *coherence
//! lifetime*, counted from the last contact, or from when it was stored if that was later.
//!
//! [`purge`]: crate::cache::purge

mod exchange;
mod levers;
mod nodes;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::leases::Leases;
use super::overrides::Overrides;
use super::purge::{Manner, Purges, SharedOrder, Target};
use super::tiers::TierError;
use super::tiers::redis::control::Control;
use super::tiers::redis::time::RedisTime;
use crate::clock::{Clock, Timestamp};
use exchange::{Question, Told};
use levers::LeverView;
pub use nodes::Node;

/// How often is asked whether there is something new, whatever is heard.
const TICK: Duration = Duration::from_millis(500);
/// Instead of when: no contact so far.
const NEVER: u64 = u64::MAX;
/// How often a server says that it is there.
const SHOW_NODE: Duration = Duration::from_secs(2);
/// How long after a connection that hears has ended another one begins.
const LISTEN_AGAIN: Duration = Duration::from_millis(500);
/// The same where it is not allowed: Redis keeps a log of each attempt.
const LISTEN_REFUSED: Duration = Duration::from_secs(30);
/// How long after a failure Redis is asked again.
const RETRY: Duration = Duration::from_millis(100);
/// The same after it has refused, which it will do again.
const RETRY_REFUSED: Duration = Duration::from_secs(1);
/// Questions of one exchange; all orders that may be kept take far fewer.
const ROUNDS_MAX: usize = 2_000;
/// A clock that is further off is called a fault.
const OFFSET_MAX_MS: u64 = 5_000;

/// The handles, which whoever names the metrics makes.
pub struct CoherenceMetrics {
    /// Times that Redis had lost orders.
    pub generations: Counter,
    /// Orders that Redis does not have yet.
    pub orders_behind: Gauge,
    /// Seconds since the last contact, or since the start.
    pub contact_age: Gauge,
    /// Seconds that this server's clock is behind Redis's.
    pub clock_offset: Gauge,
    /// Servers seen of late, with this one.
    pub nodes: Gauge,
}

impl std::fmt::Debug for CoherenceMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CoherenceMetrics")
    }
}

/// What a server shares with the others, and how.
#[derive(Debug)]
pub struct Shares {
    /// A way to ask Redis.
    pub control: Control,
    /// Its time.
    pub time: Arc<RedisTime>,
    /// The orders, which are shared from now on.
    pub purges: Arc<Purges>,
    /// The levers, which are shared from now on.
    pub overrides: Arc<Overrides>,
    /// What hears of the ends of leases, if servers fetch together.
    pub leases: Option<Arc<Leases>>,
}

/// The bounds of sharing, and what this server calls itself.
#[derive(Clone, Debug)]
pub struct CoherenceSettings {
    /// What this server calls itself.
    pub node: String,
    /// For how long an entry is given without contact.
    pub lifetime: Duration,
    /// Orders that Redis keeps.
    pub orders_max: usize,
}

/// What a server knows of the others.
#[derive(Debug)]
pub struct Coherence {
    shares: Shares,
    settings: CoherenceSettings,
    clock: Clock,
    metrics: CoherenceMetrics,
    /// What tells this process from all others.
    process: String,
    started: Instant,
    /// When Redis was last asked with success, in milliseconds since the start, or [`NEVER`]: a wall clock
    /// that is set back must not make it any later.
    contact: AtomicU64,
    /// The same in milliseconds of wall time: the other clock stands still while the machine sleeps.
    contact_at: AtomicU64,
    /// Wakes the task.
    work: Notify,
    /// Counts exchanges.
    exchanged: watch::Sender<u64>,
    state: Mutex<State>,
}

/// What operators are told.
#[derive(Debug, Default)]
struct State {
    generation: String,
    nodes: Vec<Node>,
    /// Why orders are not exchanged, if Redis can be reached and they are not.
    fault: Option<&'static str>,
}

/// How sharing does, as operators see it.
#[derive(Clone, Debug, Serialize)]
pub struct CoherenceReport {
    /// What this server calls itself.
    node: String,
    /// Seconds since the last contact; nothing if there was none.
    contact_age_s: Option<u64>,
    /// Orders given here that Redis does not have yet.
    orders_behind: usize,
    /// Since when Redis has lost nothing, by name.
    generation: String,
    /// Milliseconds that this server's clock is behind Redis's.
    clock_offset_ms: i64,
    /// The servers seen of late, with this one.
    nodes: Vec<Node>,
    /// Why orders are not exchanged, if they are not.
    #[serde(skip)]
    fault: Option<&'static str>,
}

impl CoherenceReport {
    /// What is wrong with it, in words.
    pub fn faults(&self) -> impl Iterator<Item = String> {
        let offset = self.clock_offset_ms.unsigned_abs();
        let clock = (offset > OFFSET_MAX_MS)
            .then(|| format!("the clock is {} s off", offset.div_ceil(1_000)));
        let fault = self.fault.map(|kind| format!("purge orders are not shared ({kind})"));
        fault.into_iter().chain(clock)
    }
}

impl Coherence {
    /// Of what is shared from now on.
    #[must_use]
    pub fn new(
        shares: Shares,
        settings: CoherenceSettings,
        clock: Clock,
        metrics: CoherenceMetrics,
    ) -> Coherence {
        shares.purges.share();
        shares.control.need_touch();
        if let Err(error) = shares.overrides.share() {
            tracing::warn!(%error, "the overrides have new numbers, and were not written");
        }
        Coherence {
            process: nodes::process(&settings.node),
            shares,
            settings,
            started: Instant::now(),
            clock,
            metrics,
            contact: AtomicU64::new(NEVER),
            contact_at: AtomicU64::new(0),
            work: Notify::new(),
            exchanged: watch::Sender::new(0),
            state: Mutex::default(),
        }
    }

    /// Has orders and overrides published now, and those of others read.
    pub fn wake(&self) {
        self.work.notify_one();
    }

    /// Waits until all servers can know of the order with this number, and those before it; no longer
    /// than `until`. Says whether they can.
    pub async fn published(&self, number: u64, until: Instant) -> bool {
        self.wake();
        let mut exchanged = self.exchanged.subscribe();
        let first = || self.shares.purges.first_unshared();
        let is_published = || first().is_none_or(|first| first > number);
        let waiting = exchanged.wait_for(|_| is_published());
        tokio::time::timeout_at(until, waiting).await.is_ok_and(|waited| waited.is_ok())
    }

    /// Waits until all that was ordered elsewhere is known here; no longer than `until`.
    pub async fn started(&self, until: Instant) {
        let mut exchanged = self.exchanged.subscribe();
        let _ = tokio::time::timeout_at(until, exchanged.wait_for(|count| *count > 0)).await;
    }

    /// Whether an entry stored then is not given any more, for want of contact.
    #[must_use]
    pub fn is_out_of_touch(&self, now: Timestamp, stored: Timestamp) -> bool {
        let lifetime = self.settings.lifetime;
        // One of a time to come was stored before the clock was set back.
        let is_old = stored > now || now.since(stored) > lifetime;
        is_old && self.since_contact(now).is_none_or(|since| since > lifetime)
    }

    /// How long ago the last contact was, if there was any: the longer of what two clocks say.
    fn since_contact(&self, now: Timestamp) -> Option<Duration> {
        let contact = self.contact.load(Ordering::Relaxed);
        if contact == NEVER {
            return None;
        }
        let since = self.started.elapsed().saturating_sub(Duration::from_millis(contact));
        Some(since.max(now.since(Timestamp(self.contact_at.load(Ordering::Relaxed)))))
    }

    /// How it does.
    #[must_use]
    pub fn report(&self) -> CoherenceReport {
        let state = self.state();
        CoherenceReport {
            node: self.settings.node.clone(),
            contact_age_s: self.since_contact(self.clock.now()).map(|since| since.as_secs()),
            orders_behind: self.shares.purges.unshared_count(),
            generation: state.generation.clone(),
            clock_offset_ms: self.shares.time.ahead_ms(),
            nodes: state.nodes.clone(),
            // Of a Redis that is away is told elsewhere.
            fault: state.fault.filter(|_| self.shares.control.is_reachable()),
        }
    }

    /// Shows what is measured when asked.
    pub fn show(&self) {
        let since = self.since_contact(self.clock.now()).unwrap_or_else(|| self.started.elapsed());
        self.metrics.contact_age.set(since.as_secs_f64());
        let behind = self.shares.purges.unshared_count();
        self.metrics.orders_behind.set(u32::try_from(behind).unwrap_or(u32::MAX));
    }

    /// Hears of orders and of the ends of leases, for as long as the server runs.
    pub async fn hear(self: Arc<Coherence>) {
        let Shares { control, leases, .. } = &self.shares;
        let of_leases = leases.as_ref().map(|leases| leases.channel());
        let channels: Vec<String> =
            of_leases.iter().cloned().chain([exchange::channel(control.prefix())]).collect();
        let heard = |channel: &str, said: &[u8]| match leases {
            Some(leases) if of_leases.as_deref() == Some(channel) => leases.hear(said),
            _ => self.wake(),
        };
        let mut connected = control.connected();
        while control.reachable().await.is_some() {
            connected.mark_unchanged();
            let listened = tokio::select! {
                listened = control.listen(&channels, heard) => listened,
                // Redis may be another one now, and the old one's connection stand for ever.
                _ = connected.changed() => Ok(()),
            };
            leases.iter().for_each(|leases| leases.hear_anew());
            let pause = match listened {
                Err(error) if matches!(error.kind(), "no-permission" | "auth") => {
                    tracing::debug!(%error, "nothing is heard of other servers");
                    LISTEN_REFUSED
                }
                _ => LISTEN_AGAIN,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Tells and reads orders and overrides, for as long as the server runs.
    pub async fn keep(self: Arc<Coherence>) {
        let mut view = View { known: newest(&self.shares.purges.published()), ..View::default() };
        let (mut levers, mut shown) = (LeverView::default(), None);
        let mut connected = self.shares.control.connected();
        while self.shares.control.reachable().await.is_some() {
            connected.mark_unchanged();
            if let Err(error) = self.exchange_all(&mut view, &mut levers).await {
                self.failed(&error).await;
                continue;
            }
            self.succeeded();
            if shown.is_none_or(|shown: Instant| shown.elapsed() >= SHOW_NODE) {
                shown = Some(Instant::now());
                self.show_node().await;
            }
            tokio::select! {
                () = self.work.notified() => {}
                _ = connected.changed() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    async fn exchange_all(&self, view: &mut View, levers: &mut LeverView) -> Result<(), TierError> {
        let control = &self.shares.control;
        let connection = *control.connected().borrow();
        let refused = self.exchange(view).await?;
        control.note_touch(connection);
        // Whoever waits for an order to be published need not wait for more.
        self.contact_at.store(self.clock.now().0, Ordering::Relaxed);
        let since_start = self.started.elapsed().as_millis();
        self.contact.store(u64::try_from(since_start).unwrap_or(NEVER), Ordering::Relaxed);
        self.exchanged.send_modify(|count| *count += 1);
        let levers = levers::exchange(&self.shares, levers, self.clock.now()).await;
        refused.map_or(Ok(()), Err)?;
        levers
    }

    fn succeeded(&self) {
        if self.state().fault.take().is_some() {
            tracing::info!("purge orders are shared again");
        }
    }

    /// Where Redis cannot be reached, that is told of elsewhere.
    async fn failed(&self, error: &TierError) {
        let (is_refused, kind) = (is_refused(error), error.kind());
        if is_refused && self.state().fault.replace(kind).is_none() {
            tracing::warn!(kind, %error, "purge orders are not shared with other servers");
        } else {
            tracing::debug!(%error, "purge orders were not exchanged");
        }
        tokio::time::sleep(if is_refused { RETRY_REFUSED } else { RETRY }).await;
    }

    async fn show_node(&self) {
        match nodes::exchange(&self.shares.control, &self.process).await {
            Ok(nodes) => {
                self.metrics.nodes.set(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
                self.state().nodes = nodes;
            }
            Err(error) => tracing::debug!(%error, "the other servers are not known"),
        }
    }

    /// Publishes what waits and reads what is new, until there is nothing left of either. Gives why
    /// nothing could be published, where all could be read.
    async fn exchange(&self, view: &mut View) -> Result<Option<TierError>, TierError> {
        let mut refused = None;
        for _ in 0..ROUNDS_MAX {
            let most = if refused.is_some() { 0 } else { exchange::PUBLISH_MAX };
            let waiting = self.shares.purges.unshared(most);
            let orders: Vec<SharedOrder> = waiting
                .iter()
                .map(|order| SharedOrder { target: order.target, manner: order.manner, shared: 0 })
                .collect();
            let told = match self.ask(view, &orders).await {
                // What others ordered is to be known all the same.
                Err(error) if is_refused(&error) && !orders.is_empty() && refused.is_none() => {
                    refused = Some(error);
                    continue;
                }
                told => told?,
            };
            let published: Vec<_> =
                waiting.iter().copied().zip(told.given.iter().copied()).collect();
            if !published.is_empty() {
                self.shares.purges.note_shared(&published);
            }
            let is_more = told.is_cut || waiting.len() == exchange::PUBLISH_MAX;
            if view.must_begin_anew(&told) {
                self.note_generation(&told);
                continue;
            }
            self.take_in(view, &told);
            if is_more {
                continue;
            }
            match self.tell_again(view).await {
                Ok(true) => {}
                Ok(false) => return Ok(refused),
                // It is tried again with the next exchange; what others ordered is known.
                Err(error) if is_refused(&error) => return Ok(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(TierError::Read("there is no end of purge orders".into()))
    }

    fn note_generation(&self, told: &Told) {
        let mut state = self.state();
        if state.generation == told.generation {
            return;
        }
        if !state.generation.is_empty() {
            self.metrics.generations.increment(1);
            tracing::info!("redis may have lost purge orders: they are told again");
        }
        state.generation.clone_from(&told.generation);
    }

    async fn ask(&self, view: &View, orders: &[SharedOrder]) -> Result<Told, TierError> {
        let fresh = format!("{:032x}", fastrand::u128(..));
        let question = Question {
            known: view.known.max(view.after),
            fresh: &fresh,
            after: view.after,
            kept_max: self.settings.orders_max,
            orders,
        };
        let asked = self.clock.now();
        let told = exchange::ask(&self.shares.control, &question).await?;
        let time = &self.shares.time;
        time.note(told.clock_us, asked, self.clock.now());
        let ahead_ms = i32::try_from(time.ahead_ms()).unwrap_or(i32::MAX);
        self.metrics.clock_offset.set(f64::from(ahead_ms) / 1_000.0);
        Ok(told)
    }

    /// Puts in force what was read.
    fn take_in(&self, view: &mut View, told: &Told) {
        if told.floor > view.known {
            let (target, manner) = (Target::Everything, Manner::Hard);
            let floor = SharedOrder { target, manner, shared: told.floor };
            self.shares.purges.apply(&[floor], 0);
        }
        view.floor = told.floor;
        let last = told.read.last().map_or(view.after, |order| order.shared);
        let seen = if told.is_cut { last } else { told.newest.max(last) };
        self.shares.purges.apply(&told.read, seen);
        view.after = seen;
        if let Some(all) = &mut view.read {
            let numbered = |order: &SharedOrder| ((order.target, order.manner), order.shared);
            all.extend(told.read.iter().map(numbered));
        }
        if !told.is_cut {
            view.known = view.known.max(seen);
        }
    }

    /// Publishes what Redis lacks of what is known here, once all that it has was read. Says whether
    /// there is more to do.
    async fn tell_again(&self, view: &mut View) -> Result<bool, TierError> {
        let Some(read) = &view.read else { return Ok(false) };
        let everything = read.get(&(Target::Everything, Manner::Hard)).copied().unwrap_or(0);
        // What Redis dropped for want of room it does not lack.
        let everything = everything.max(view.floor);
        let lacks = |order: &SharedOrder| {
            let known = read.get(&(order.target, order.manner)).copied().unwrap_or(0);
            order.shared > known.max(everything)
        };
        let lacking: Vec<SharedOrder> =
            self.shares.purges.published().into_iter().filter(lacks).collect();
        for orders in lacking.chunks(exchange::PUBLISH_MAX) {
            let told = self.ask(view, orders).await?;
            if told.generation != view.generation {
                return Ok(true);
            }
        }
        // Not before all of it was told.
        view.read = None;
        Ok(!lacking.is_empty())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was read so far of what Redis holds.
#[derive(Debug, Default)]
struct View {
    generation: String,
    seeds: u64,
    /// Orders up to this number were read.
    after: u64,
    /// The greatest number that was known before all was read anew.
    known: u64,
    /// Redis has dropped orders up to this number.
    floor: u64,
    /// What was read since all is read anew, to find out what Redis lacks.
    read: Option<HashMap<(Target, Manner), u64>>,
}

impl View {
    /// Whether all must be read anew: Redis may have lost orders, or has been told of old ones again.
    fn must_begin_anew(&mut self, told: &Told) -> bool {
        if self.generation == told.generation && self.seeds == told.seeds {
            return false;
        }
        self.generation.clone_from(&told.generation);
        (self.seeds, self.after) = (told.seeds, 0);
        self.read = Some(HashMap::new());
        true
    }
}

/// Whether Redis answers, and will not have this.
fn is_refused(error: &TierError) -> bool {
    let kinds = ["foreign", "full", "no-permission", "read-only", "refused", "read"];
    kinds.contains(&error.kind())
}

fn newest(orders: &[SharedOrder]) -> u64 {
    orders.iter().map(|order| order.shared).max().unwrap_or(0)
}
