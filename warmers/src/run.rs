//! Sends recorded requests, several at a time, and sees what the cache did with each.

use std::error::Error;
use std::io::{self, BufRead};
use std::pin::pin;
use std::time::Duration;

use reqwest::{Client, Url};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::cache_status::CacheStatus;
use crate::progress::Progress;
use crate::record::{self, Malformed, Record};
use crate::report::{Outcome, Tally};

/// How long the connection to the server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A line as it comes out of the file.
type Line = io::Result<Result<Record, Malformed>>;

/// What ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything in the file was sent and answered.
    OfFile,
    /// It was told to stop before.
    Stopped,
}

/// Where requests go, and how.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    client: Client,
    /// The server's address without a slash at its end: a recorded path goes behind it.
    base: String,
    /// Requests under way at a time.
    concurrency: usize,
    /// For each request, to the last byte of its answer.
    deadline: Duration,
}

impl Replay {
    /// Needs rustls's crypto provider of this process to be installed.
    pub(crate) fn new(
        server: &Url,
        concurrency: u16,
        deadline: Duration,
    ) -> reqwest::Result<Replay> {
        let concurrency = usize::from(concurrency);
        // What is sent is what was recorded: nothing is followed, added or sent twice.
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(concurrency);
        if server.scheme() == "http" {
            // TLS is never spoken then, and a machine without certificate authorities is fine.
            builder = builder.tls_certs_only([]);
        }
        let base = server.as_str().trim_end_matches('/').to_owned();
        Ok(Replay { client: builder.build()?, base, concurrency, deadline })
    }

    /// Sends what `file` holds and counts what comes of it. An error of the file ends the
    /// reading; what is under way is finished and counted. What is under way when `stop` comes is
    /// left, and not counted.
    ///
    /// In memory are at most the lines under way and two more.
    pub(crate) async fn run(
        &self,
        file: impl BufRead + Send + 'static,
        mut progress: Progress,
        stop: impl Future<Output = ()>,
    ) -> (Tally, io::Result<End>) {
        let mut lines = read_ahead(file);
        let (mut in_flight, mut tally) = (JoinSet::new(), Tally::default());
        let mut ticks = interval_at(Instant::now() + progress.interval(), progress.interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut read = Ok(End::OfFile);
        let mut stop = pin!(stop);
        let mut is_over = false;
        while !is_over || !in_flight.is_empty() {
            let has_room = !is_over && in_flight.len() < self.concurrency;
            let outcome = tokio::select! {
                line = lines.recv(), if has_room => match line {
                    None => { is_over = true; continue }
                    Some(Err(error)) => { read = Err(error); continue }
                    Some(Ok(Err(malformed))) => malformed.into(),
                    Some(Ok(Ok(record))) => { in_flight.spawn(self.clone().send(record)); continue }
                },
                Some(ended) = in_flight.join_next() => ended.expect("sending does not panic"),
                () = &mut stop => { read = Ok(End::Stopped); break }
                _ = ticks.tick() => { progress.show(&tally, in_flight.len()); continue }
            };
            tally.count(&outcome);
            progress.tell(&outcome);
        }
        progress.finish();
        (tally, read)
    }

    async fn send(self, record: Record) -> Outcome {
        let line = record.line;
        let failed = |why: String| Outcome::Failed { line, why };
        match timeout(self.deadline, self.exchange(record)).await {
            Ok(Ok(status)) => Outcome::Answered(status),
            Ok(Err(why)) => failed(why),
            Err(_) => failed(format!("no whole answer within {:?}", self.deadline)),
        }
    }

    /// One request and its whole answer. The body is read and dropped: the cache is to see a
    /// caller that stays.
    async fn exchange(&self, record: Record) -> Result<CacheStatus, String> {
        let request = self
            .client
            .request(record.method, format!("{}{}", self.base, record.path))
            .headers(record.headers)
            .body(record.body);
        let mut response = request.send().await.map_err(describe)?;
        while response.chunk().await.map_err(describe)?.is_some() {}
        if response.status().as_u16() >= 400 {
            return Err(format!("status {}", response.status().as_u16()));
        }
        Ok(CacheStatus::of(response.headers()))
    }
}

impl From<Malformed> for Outcome {
    fn from(malformed: Malformed) -> Outcome {
        Outcome::Failed { line: malformed.line, why: malformed.why }
    }
}

/// Reads lines on a thread of their own: parsing and the disk would hold up the sending.
fn read_ahead(file: impl BufRead + Send + 'static) -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        for line in record::read(file) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// An error and its causes, without the URL: its query may hold a credential.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
