//! The link: the connections to Redis, kept by one task, behind the breaker.
//!
//! Callers never connect and never wait for a connection: where there is none, or the breaker is
//! open, they are told so at once. The task connects, probes what the breaker has opened, and looks
//! every now and then whether Redis still answers, so that a fault is found before a caller finds it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::future::{join, join_all};
use redis::aio::PubSub;
use redis::{Cmd, RedisResult, Value};
use tokio::sync::{Notify, watch};

use super::breaker::{Breaker, SLOTS, Section};
use super::connect::{Connection, Connector, Lanes};
use super::fault::{self, Consequence};
use super::metrics::RedisMetrics;
use super::settings::{Address, RedisSettings};
use super::touch::Touch;
use crate::cache::tiers::TierError;

/// How long Redis is left alone before it is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// The same where it has failed soon after it had been reached, again and again.
const RETRY_MAX: Duration = Duration::from_millis(800);
/// How often it is asked whether it still answers.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// How long nobody tries to make direct connections after that has failed: the other ones serve.
const DIRECT_RETRY: Duration = Duration::from_secs(10);
/// How long connections may lead to a copy, which takes no writes, before they are made anew.
const READ_ONLY_MAX: Duration = Duration::from_secs(10);
/// How long it must have answered to be called up again in the log, and to be retried quickly.
const STEADY: Duration = Duration::from_secs(5);

/// The connections and the breaker before them.
#[derive(Debug)]
pub(super) struct Link {
    connector: Connector,
    deadline: Duration,
    breaker: Breaker,
    lanes: ArcSwapOption<Lanes>,
    /// Wakes the keeper when a section has opened.
    opened: Notify,
    /// Whether anything of Redis may be asked.
    up: watch::Sender<Reach>,
    /// How often connections were made: what was told on older ones may have been missed.
    connected: watch::Sender<u64>,
    /// Whether entries are to be read.
    touch: Touch,
    /// The name of a key that is never written, for each section.
    probes: Vec<Vec<u8>>,
    last_fault: Mutex<Option<TierError>>,
    metrics: Arc<RedisMetrics>,
}

/// Whether Redis can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nobody has tried yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

impl Link {
    /// One that nobody keeps yet.
    #[must_use]
    pub(super) fn new(
        settings: &Arc<RedisSettings>,
        prefix: &str,
        metrics: Arc<RedisMetrics>,
    ) -> Link {
        let breaker = Breaker::new(matches!(settings.address, Address::Cluster(_)));
        let probes = (0..breaker.sections()).map(|number| {
            let name = |tag| format!("{prefix}probe:{tag}").into_bytes();
            let is_of_section = |name: &Vec<u8>| breaker.section_of(slot(name)) == Section(number);
            (0_u32..).map(name).find(is_of_section).unwrap_or_default()
        });
        let probes = probes.collect();
        Link {
            connector: Connector::new(Arc::clone(settings)),
            deadline: settings.deadline,
            breaker,
            lanes: ArcSwapOption::empty(),
            opened: Notify::new(),
            up: watch::Sender::new(Reach::Unknown),
            connected: watch::Sender::new(0),
            touch: Touch::default(),
            probes,
            last_fault: Mutex::new(None),
            metrics,
        }
    }

    /// Reads: asks `command` for the value of the key of this name, until the deadline. It has this many
    /// bytes at most, and is empty where there is none.
    ///
    /// # Errors
    /// When Redis is not to be asked, does not answer in time, or says something else.
    pub(super) async fn read(
        &self,
        name: &[u8],
        command: &Cmd,
        value_bytes_max: usize,
        until: tokio::time::Instant,
    ) -> Result<Vec<u8>, TierError> {
        let (section, lanes) = self.reachable(name)?;
        if !self.touch.is_kept(*self.connected.borrow()) {
            return Err(TierError::Resting);
        }
        if let Some(direct) = &lanes.direct {
            let answered = in_time(direct.call(command, value_bytes_max), until).await;
            if let Some(answered) = answered.transpose() {
                return self.note(section, &lanes, answered);
            }
        }
        match self.ask(section, &lanes, lanes.read(), command, until).await? {
            Value::BulkString(value) => Ok(value),
            Value::Nil => Ok(Vec::new()),
            _ => Err(TierError::Read("an answer of another kind".into())),
        }
    }

    /// What is kept up with the other servers.
    pub(super) fn touch(&self) -> &Touch {
        &self.touch
    }

    /// How often connections were made, now and later.
    pub(super) fn connected(&self) -> watch::Receiver<u64> {
        self.connected.subscribe()
    }

    /// Asks `command` about keys with this hash tag, within this deadline, where no entry's bytes are in
    /// the way.
    ///
    /// # Errors
    /// As [`Link::read`].
    pub(super) async fn control(
        &self,
        tag: &[u8],
        command: &Cmd,
        deadline: Duration,
    ) -> Result<Value, TierError> {
        let (section, lanes) = self.reachable(tag)?;
        let until = tokio::time::Instant::now() + deadline;
        let mut connection = lanes.probes.clone();
        let answered = match in_time(connection.call(command), until).await {
            Err((error, Consequence::PauseWrites)) => {
                let is_left = self.is_to_be_left(&lanes, &error);
                // Else, that this is refused says nothing of what is read.
                let consequence =
                    if is_left { Consequence::Reconnect } else { Consequence::Nothing };
                Err((error, consequence))
            }
            answered => answered,
        };
        let noted = self.note(section, &lanes, answered);
        noted.inspect_err(|error| self.metrics.error(error.kind()))
    }

    /// A connection of its own that hears what is published on these channels.
    ///
    /// # Errors
    /// When there is none in time.
    pub(super) async fn listen(&self, channels: &[String]) -> Result<PubSub, TierError> {
        self.connector.listen(channels).await
    }

    /// Writes: asks `command` about the key of this name, within this deadline.
    ///
    /// # Errors
    /// As [`Link::read`]; and what pauses writes.
    pub(super) async fn write(
        &self,
        name: &[u8],
        command: &Cmd,
        deadline: Duration,
    ) -> Result<Value, WriteError> {
        let (_, lanes) = self.reachable(name).map_err(WriteError::Failed)?;
        let until = tokio::time::Instant::now() + deadline;
        let mut connection = lanes.writes.clone();
        let answered = in_time(connection.call(command), until).await;
        answered.map_err(|(fault, consequence)| {
            match consequence {
                Consequence::PauseWrites if !self.is_to_be_left(&lanes, &fault) => {
                    return WriteError::Refused(fault);
                }
                Consequence::PauseWrites | Consequence::Reconnect => self.give_up(&lanes, &fault),
                Consequence::Counted | Consequence::Nothing => {}
            }
            WriteError::Failed(fault)
        })
    }

    /// Whether Redis can be reached, now and later.
    #[must_use]
    pub(super) fn reach(&self) -> watch::Receiver<Reach> {
        self.up.subscribe()
    }

    /// Whether any of Redis is asked.
    #[must_use]
    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow() == Reach::Up
    }

    /// Why Redis, or part of it, is left alone, if it is.
    #[must_use]
    pub(super) fn why_down(&self) -> Option<&'static str> {
        self.breaker.has_open().then(|| self.last_fault().kind())
    }

    fn last_fault(&self) -> TierError {
        let last = self.last_fault.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone().unwrap_or(TierError::Resting)
    }

    fn reachable(&self, name: &[u8]) -> Result<(Section, Arc<Lanes>), TierError> {
        let section = self.section(name);
        if !self.breaker.is_closed(section) {
            return Err(TierError::Resting);
        }
        let lanes = self.lanes.load_full().ok_or(TierError::Resting)?;
        Ok((section, lanes))
    }

    fn section(&self, name: &[u8]) -> Section {
        if self.breaker.sections() == 1 {
            return Section(0);
        }
        self.breaker.section_of(slot(name))
    }

    async fn ask(
        &self,
        section: Section,
        lanes: &Arc<Lanes>,
        mut connection: Connection,
        command: &Cmd,
        until: tokio::time::Instant,
    ) -> Result<Value, TierError> {
        let answered = in_time(connection.call(command), until).await;
        self.note(section, lanes, answered)
    }

    /// Notes what a call has come to, and does what follows from it.
    fn note<A>(
        &self,
        section: Section,
        lanes: &Arc<Lanes>,
        answered: Result<A, (TierError, Consequence)>,
    ) -> Result<A, TierError> {
        let (error, consequence) = match answered {
            Ok(answer) => {
                self.breaker.succeeded(section);
                return Ok(answer);
            }
            Err(failed) => failed,
        };
        match consequence {
            Consequence::Nothing => self.breaker.succeeded(section),
            Consequence::Reconnect => self.give_up(lanes, &error),
            Consequence::Counted | Consequence::PauseWrites => {}
        }
        if consequence != Consequence::Nothing && self.breaker.failed(section) {
            self.opened(&error);
        }
        Err(error)
    }

    /// Whether these connections lead to a copy, and new ones may lead to its master: sentinels know that
    /// at once, and a name may lead elsewhere after a while.
    fn is_to_be_left(&self, lanes: &Lanes, fault: &TierError) -> bool {
        if fault.kind() != "read-only" {
            return false;
        }
        let since = lanes.read_only_since.get_or_init(Instant::now);
        self.connector.may_lead_elsewhere() || since.elapsed() >= READ_ONLY_MAX
    }

    /// Has the connections made anew. Those to the nodes of a cluster the library makes anew by itself,
    /// each alone. Nothing happens if others have taken their place.
    fn give_up(&self, lanes: &Arc<Lanes>, fault: &TierError) {
        let is_current = self.lanes.load().as_ref().is_some_and(|now| Arc::ptr_eq(now, lanes));
        if !is_current || (self.breaker.sections() > 1 && fault.kind() == "broken") {
            return;
        }
        if !lanes.is_broken.swap(true, Ordering::Relaxed) {
            self.breaker.open_all();
            self.opened(fault);
        }
    }

    fn opened(&self, fault: &TierError) {
        self.note_fault(fault);
        self.show();
        self.opened.notify_one();
    }

    fn note_fault(&self, fault: &TierError) {
        let mut last = self.last_fault.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(fault.clone());
    }

    /// Keeps the connections, for as long as the server runs.
    pub(super) async fn keep(self: Arc<Link>) {
        let mut told = Told::default();
        let mut pause = RETRY;
        loop {
            match self.connector.connect().await {
                Err(error) => {
                    self.note_fault(&error);
                    self.metrics.error(error.kind());
                    self.show();
                    told.down("redis", &error);
                    // It will go on saying so, and writes each attempt into a log of its own.
                    if error.kind() == "auth" {
                        pause = RETRY_MAX;
                    }
                }
                Ok(lanes) => {
                    let lanes = Arc::new(lanes);
                    self.connected.send_modify(|count| *count += 1);
                    self.lanes.store(Some(Arc::clone(&lanes)));
                    let lasted = self.watch(&lanes, &mut told).await;
                    self.breaker.open_all();
                    self.show();
                    self.lanes.store(None);
                    pause = next_pause(pause, lasted);
                    told.down("redis", &self.last_fault());
                }
            }
            tokio::time::sleep(jittered(pause)).await;
        }
    }

    /// Watches over connections until they are of no use, and says how long they were.
    async fn watch(&self, lanes: &Arc<Lanes>, told: &mut Told) -> Duration {
        let (stood, mut pause) = (Instant::now(), Duration::ZERO);
        let mut closed = stood;
        let mut fills_from = stood;
        loop {
            if self.breaker.has_open() {
                tokio::time::sleep(jittered(pause)).await;
                if lanes.is_broken.load(Ordering::Relaxed) {
                    return stood.elapsed();
                }
                pause = next_pause(pause, closed.elapsed());
                self.probe_open(lanes).await;
                // They may have been given up meanwhile: what answered is not all of them.
                if lanes.is_broken.load(Ordering::Relaxed) {
                    return stood.elapsed();
                }
                closed = Instant::now();
                self.show();
                if self.breaker.is_all_open() {
                    return stood.elapsed();
                }
                if self.breaker.has_open() {
                    told.down("part of redis", &self.last_fault());
                    continue;
                }
            }
            if told.is_first() || closed.elapsed() >= STEADY {
                told.up(closed);
                pause = RETRY;
            }
            // It puts off no look: what does not stand by then is for after it.
            let filling = tokio::time::timeout(HEARTBEAT, self.fill(lanes, &mut fills_from));
            tokio::select! {
                () = self.opened.notified() => {}
                _ = join(tokio::time::sleep(HEARTBEAT), filling) => {
                    let sections = (0..self.breaker.sections()).map(Section);
                    join_all(sections.map(|section| self.probe(lanes, section))).await;
                }
            }
        }
    }

    /// Has as many direct connections as there may be: one goes with each read that is not answered.
    /// They are made anew here alone, so that a run of such reads makes no run of connections; the
    /// breaker opens first.
    async fn fill(&self, lanes: &Lanes, from: &mut Instant) {
        let Some(direct) = lanes.direct.as_ref().filter(|_| Instant::now() >= *from) else {
            return;
        };
        if let Err(error) = direct.fill().await {
            *from = Instant::now() + DIRECT_RETRY;
            let error = fault::of_connecting(&error);
            self.metrics.error(error.kind());
            tracing::debug!(%error, "no direct connection to redis");
        }
    }

    /// Asks each section that is open, and closes those that answer.
    async fn probe_open(&self, lanes: &Arc<Lanes>) {
        let open: Vec<Section> = self.breaker.open_sections().collect();
        join_all(open.into_iter().map(|section| async move {
            if self.probe(lanes, section).await {
                self.breaker.close(section);
            }
        }))
        .await;
    }

    /// Whether a section answers. If it is closed, that counts as a call.
    async fn probe(&self, lanes: &Arc<Lanes>, section: Section) -> bool {
        let mut command = redis::cmd("GETRANGE");
        command.arg(&self.probes[section.0]).arg(0).arg(0);
        let until = tokio::time::Instant::now() + self.deadline;
        let answered = self.ask(section, lanes, lanes.probes.clone(), &command, until).await;
        if let Err(error) = &answered {
            self.metrics.error(error.kind());
            self.note_fault(error);
        }
        answered.is_ok()
    }

    fn show(&self) {
        let open = self.breaker.open_sections().count();
        self.metrics.show_breaker(open, self.breaker.sections());
        let reach = if self.breaker.is_all_open() { Reach::Down } else { Reach::Up };
        self.up.send_if_modified(|before| std::mem::replace(before, reach) != reach);
    }
}

/// Waits for what a call comes to until the deadline.
async fn in_time<A>(
    call: impl Future<Output = RedisResult<A>>,
    until: tokio::time::Instant,
) -> Result<A, (TierError, Consequence)> {
    match tokio::time::timeout_at(until, call).await {
        Ok(answered) => answered.map_err(|error| fault::failed(&error)),
        Err(_elapsed) => Err((TierError::Deadline, Consequence::Counted)),
    }
}

/// Why a write was not done.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Redis takes no writes now.
    Refused(TierError),
    /// It failed, and the next one may not.
    Failed(TierError),
}

/// What the log was told: that it is down once, and that it is up once it has been for a while.
#[derive(Debug, Default)]
struct Told {
    down_since: Option<Instant>,
    was_up: bool,
}

impl Told {
    fn is_first(&self) -> bool {
        !self.was_up && self.down_since.is_none()
    }

    /// `what` is down: all of it, or a part.
    fn down(&mut self, what: &str, error: &TierError) {
        if self.down_since.is_none() {
            let kind = error.kind();
            tracing::warn!(kind, %error, "{what} is down: requests go on without it");
            self.down_since = Some(Instant::now());
        }
    }

    /// It has answered since `recovered`.
    fn up(&mut self, recovered: Instant) {
        if let Some(since) = self.down_since.take() {
            let took = recovered.saturating_duration_since(since).as_millis();
            let after = Duration::from_millis(u64::try_from(took).unwrap_or(u64::MAX));
            tracing::info!(after = %humantime::format_duration(after), "redis is up again");
        } else if !self.was_up {
            tracing::info!("redis is up");
        }
        self.was_up = true;
    }
}

/// Longer each time where connections did not last.
fn next_pause(before: Duration, lasted: Duration) -> Duration {
    let starts_over = lasted >= STEADY || before.is_zero();
    if starts_over { RETRY } else { (before * 2).min(RETRY_MAX) }
}

/// Up to a quarter less, so that servers do not come back in step.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + fastrand::f64() / 4.0)
}

/// The hash slot of a name (Redis Cluster specification, "Key distribution model"). Our names have no
/// braces, of which only a part would be hashed.
fn slot(name: &[u8]) -> usize {
    usize::from(crc16::State::<crc16::XMODEM>::calculate(name)) % SLOTS
}

#[cfg(test)]
mod tests;
