//! The purge: an order given to one server, while each of all servers is asked again and again whether
//! it still gives what is purged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::clock::now_ns;
use crate::exchange::{Kind, PAGES, Questions, Source};
use crate::load;
use crate::shared::exchange::NUMBER_DIGITS;
use crate::shared::report::{Column, Section};
use crate::shared::rounds::Rounds;
use crate::shared::spread::{Spread, count};
use crate::shared::wire::Connection;
use crate::stage::{self, Stage};

/// Servers that are one cache.
const SERVERS: usize = 4;
/// Orders of a round, and of a round of a smoke run.
const ORDERS: u64 = 50;
const FEW_ORDERS: u64 = 8;
/// How long nobody must have given it for it to be gone. Without a message servers ask twice a second.
const QUIET: Duration = Duration::from_millis(700);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked what the askers have seen.
const LOOK: Duration = Duration::from_millis(5);

/// Orders to these servers in turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    servers: Vec<SocketAddr>,
    /// Their listeners for operators.
    admins: Vec<SocketAddr>,
    /// The number of the first page.
    first: u64,
    orders: u64,
}

impl Job {
    /// How long it takes at most, about.
    pub(crate) fn duration(&self) -> Duration {
        (QUIET + Duration::from_millis(300)) * u32::try_from(self.orders).unwrap_or(1) + PATIENCE
    }
}

/// What orders were like.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// From sending the order to its acknowledgement.
    order: Spread,
    /// From the acknowledgement to the last answer from any server that gave what was purged.
    gone: Spread,
    /// The same from sending the order.
    gone_from_sending: Spread,
    /// How often each server was asked in a second.
    asked_per_second: f64,
}

/// One order.
#[derive(Clone, Copy, Debug)]
struct Ordered {
    took: Duration,
    gone: Duration,
    gone_from_sending: Duration,
    asked_per_second: f64,
}

pub(crate) async fn work(job: Job) -> anyhow::Result<Outcome> {
    let mut ordered = Vec::new();
    for number in 0..job.orders {
        let to = usize::try_from(number)? % job.admins.len();
        ordered.push(one(&job, job.admins[to], job.first + number).await?);
    }
    let spread = |figure: fn(&Ordered) -> Duration| {
        Spread::of(ordered.iter().map(figure)).context("no order was given")
    };
    let rates: f64 = ordered.iter().map(|of| of.asked_per_second).sum();
    Ok(Outcome {
        order: spread(|of| of.took)?,
        gone: spread(|of| of.gone)?,
        gone_from_sending: spread(|of| of.gone_from_sending)?,
        asked_per_second: rates / count(ordered.len()),
    })
}

/// Has a page on all servers, purges it on one, and watches it go.
async fn one(job: &Job, admin: SocketAddr, page: u64) -> anyhow::Result<Ordered> {
    for server in &job.servers {
        fill(*server, page).await?;
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let (mut asking, mut last_given) = (JoinSet::new(), Vec::new());
    for server in job.servers.clone() {
        let last = Arc::new(AtomicU64::new(0));
        last_given.push(Arc::clone(&last));
        asking.spawn(ask_on(server, page, last, Arc::clone(&is_over)));
    }
    let last = || last_given.iter().map(|last| last.load(Ordering::Relaxed));
    until("all of them give the page", || last().all(|last| last > 0)).await?;
    let mut connection = Connection::open(admin).await?;
    let sent = now_ns();
    order(&mut connection, admin, page).await?;
    let acknowledged = now_ns();
    let last_of_all = || last().max().unwrap_or(0).max(acknowledged);
    let quiet = u64::try_from(QUIET.as_nanos())?;
    until("nobody gives the page", || now_ns() > last_of_all() + quiet).await?;
    is_over.store(true, Ordering::Relaxed);
    let mut asked = 0;
    while let Some(ended) = asking.join_next().await {
        asked += ended??;
    }
    let after = |from: u64| Duration::from_nanos(last().max().unwrap_or(0).saturating_sub(from));
    Ok(Ordered {
        took: Duration::from_nanos(acknowledged - sent),
        gone: after(acknowledged),
        gone_from_sending: after(sent),
        asked_per_second: count(asked) / count(job.servers.len()) / begun.elapsed().as_secs_f64(),
    })
}

/// Asks a server for a page as anyone does.
async fn fill(server: SocketAddr, page: u64) -> anyhow::Result<()> {
    let mut connection = Connection::open(server).await?;
    let mut questions = Questions::of(Kind::Page, server, 0)?;
    let answer = connection.ask(questions.numbered(page)).await?;
    questions.check(&answer, page).map(drop)
}

/// Asks a server whether it has a page, until it is over; notes when it was given last, and counts.
async fn ask_on(
    server: SocketAddr,
    page: u64,
    last: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
) -> anyhow::Result<usize> {
    let mut connection = Connection::open(server).await?;
    let mut questions = Questions::only_if_cached(server)?;
    let mut asked = 0;
    while !is_over.load(Ordering::Relaxed) {
        let answer = connection.ask(questions.numbered(page)).await?;
        asked += 1;
        // What is not there is 504 (RFC 9111 section 5.2.1.7).
        if answer.status != "504" {
            let source = questions.check(&answer, page)?;
            ensure!(source != Source::Upstream, "the upstream was asked for what was to be cached");
            last.store(now_ns(), Ordering::Relaxed);
        }
    }
    Ok(asked)
}

/// Purges a page by its URL.
async fn order(connection: &mut Connection, admin: SocketAddr, page: u64) -> anyhow::Result<()> {
    let targets = format!("{{\"urls\":[\"{PAGES}{page:0NUMBER_DIGITS$}\"]}}");
    let request = format!(
        "POST /purge HTTP/1.1\r\n\
         host: {admin}\r\n\
         content-type: application/json\r\n\
         content-length: {}\r\n\r\n{targets}",
        targets.len()
    );
    let answer = connection.ask(request.as_bytes()).await?;
    let said = String::from_utf8_lossy(answer.body);
    ensure!(answer.status == "200", "the order was answered by {}: {said}", answer.status);
    Ok(())
}

/// Waits until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        ensure!(Instant::now() < deadline, "it does not come to this: {what}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Measures orders to four servers in turn.
pub(crate) async fn measure(
    stage: &mut Stage,
    rounds: u16,
    is_quick: bool,
) -> anyhow::Result<Section> {
    let orders = if is_quick { FEW_ORDERS } else { ORDERS };
    let mut measured = Rounds::of(1);
    for _ in 0..rounds {
        let redis = stage.redis().await?;
        let members = stage.members(SERVERS, &redis, &[])?;
        let servers = stage.start_all(&members).await?;
        let job = load::Job::Purge(Job {
            servers: stage::addresses(&servers),
            admins: servers.iter().map(|server| server.admin).collect(),
            first: stage.new_numbers(),
            orders,
        });
        measured.add(0, job.run(stage.cores.load).await?);
        stage::stop_all(servers).await?;
    }
    let names = [format!("{SERVERS} servers")];
    Ok(Section::new(title(orders), names, &measured, &columns()))
}

fn title(orders: u64) -> String {
    format!(
        "Purge: {orders} pages a round that all {SERVERS} servers have in memory, each purged by URL on \
         one of them in turn, while all are asked for it in a closed loop. Gone is from the \
         acknowledgement to the last answer of any server that still gave it. It had to stay away for {} ms. Wanted: gone within 100 ms.",
        QUIET.as_millis()
    )
}

fn columns() -> [Column<Outcome>; 8] {
    [
        Column::median("order p50 ms", 2, |of| Some(of.order.median / 1e3)),
        Column::median("p99 ms", 2, |of| Some(of.order.p99 / 1e3)),
        Column::largest("max ms", 2, |of| Some(of.order.max / 1e3)),
        Column::median("gone p50 ms", 2, |of| Some(of.gone.median / 1e3)),
        Column::largest("worst ms", 2, |of| Some(of.gone.max / 1e3)),
        Column::median("from sending p50 ms", 2, |of| Some(of.gone_from_sending.median / 1e3)),
        Column::largest("worst from sending ms", 2, |of| Some(of.gone_from_sending.max / 1e3)),
        Column::median("asked/s", 0, |of| Some(of.asked_per_second)),
    ]
}
