//! The callers that behave: each asks, and checks every byte of what comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use fastrand::Rng;
use futures_util::future::join_all;
use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Response};

use crate::question::{Fate, Question, Shape, TENANTS};
use crate::upstream::{Asked, REFUSAL};

/// How long any exchange may take. More than every bound of the server: what takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Questions that are asked again and again; together they fit on disk and not in memory.
const POPULAR: u64 = 400;
/// Where the numbers of questions begin that are asked once.
const NEW: u64 = 1_000_000;
/// Callers in a storm.
const STORM: usize = 24;
/// Of the popular and of the new questions, one in so many has a large answer.
const LARGE: u64 = 100;
/// Of the new ones, one in so many has one that is too large to be stored.
const HUGE: u64 = 1_000;

/// What all callers share.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Where the server listens.
    pub(crate) address: SocketAddr,
    pub(crate) http1: Client,
    pub(crate) http2: Client,
    /// HTTP/2 of those who hang up: what ends their connection ends nobody else's.
    pub(crate) leaving: Client,
    pub(crate) asked: Arc<Asked>,
    next: AtomicU64,
    /// Storms so far.
    pub(crate) storms: AtomicU64,
    /// Upstream calls that they cost.
    pub(crate) storm_calls: AtomicU64,
}

impl Stage {
    /// Callers of the server at `address`, which is in front of what is `asked`.
    pub(crate) fn new(address: SocketAddr, asked: Arc<Asked>) -> anyhow::Result<Stage> {
        let client = || {
            let client = Client::builder().no_proxy().tls_certs_only([]).timeout(PATIENCE);
            // The server closes its end later than that.
            client.retry(reqwest::retry::never()).pool_idle_timeout(Duration::from_secs(30))
        };
        Ok(Stage {
            address,
            http1: client().http1_only().build()?,
            http2: client().http2_prior_knowledge().build()?,
            leaving: client().http2_prior_knowledge().build()?,
            asked,
            next: AtomicU64::new(NEW),
            storms: AtomicU64::new(0),
            storm_calls: AtomicU64::new(0),
        })
    }

    /// A question that nobody has asked.
    pub(crate) fn new_question(&self, rng: &mut Rng, shape: Shape, fate: Fate) -> Question {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Question { tenant: rng.u8(..TENANTS), shape, fate, number }
    }

    /// Sends a question and waits for the head of its answer.
    pub(crate) async fn send(
        &self,
        client: &Client,
        question: &Question,
    ) -> reqwest::Result<Response> {
        let asking = client
            .post(format!("http://{}{}", self.address, question.path()))
            .header(AUTHORIZATION, question.credential())
            .header(CONTENT_TYPE, "application/json")
            .body(question.body());
        asking.send().await
    }

    /// Asks, and takes nothing but the right answer.
    async fn expect_answer(&self, client: &Client, question: &Question) -> anyhow::Result<()> {
        let asked = async {
            let response = self.send(client, question).await.context("no answer")?;
            let status = response.status();
            let body = response.bytes().await.context("the answer is cut")?;
            ensure!(status == StatusCode::OK, "{}", problem(status, &body));
            ensure!(body == question.answer(), "A WRONG ANSWER of {} bytes", body.len());
            Ok(())
        };
        asked.await.with_context(|| format!("{question:?}"))
    }

    /// Something that was asked before, or will be again. The lower a number, the more popular.
    pub(crate) async fn ask_popular(&self, client: &Client, rng: &mut Rng) -> anyhow::Result<()> {
        let number = rng.u64(..POPULAR).min(rng.u64(..POPULAR));
        let shape = any_shape(rng);
        let question = Question { tenant: rng.u8(..TENANTS), shape, fate: size(number), number };
        self.expect_answer(client, &question).await
    }

    /// Something new.
    pub(crate) async fn ask_new(&self, rng: &mut Rng) -> anyhow::Result<()> {
        let shape = any_shape(rng);
        let question = self.new_question(rng, shape, Fate::Small);
        let question = Question { fate: size(question.number), ..question };
        self.expect_answer(&self.http1, &question).await
    }

    /// A new stream, by two callers of whom one comes a little later, into the midst of it.
    pub(crate) async fn ask_stream(&self, rng: &mut Rng) -> anyhow::Result<()> {
        let question = self.new_question(rng, Shape::Stream, Fate::Small);
        let later = Duration::from_millis(rng.u64(..20));
        let follower = async {
            tokio::time::sleep(later).await;
            self.expect_answer(&self.http1, &question).await
        };
        let (first, second) = tokio::join!(self.expect_answer(&self.http1, &question), follower);
        first.and(second)
    }

    /// The same new question by many at once.
    pub(crate) async fn storm(&self, rng: &mut Rng) -> anyhow::Result<()> {
        let shape = any_shape(rng);
        let question = self.new_question(rng, shape, Fate::Late);
        let callers = (0..STORM).map(|_| self.expect_answer(&self.http1, &question));
        let answers = join_all(callers).await;
        let calls = self.asked.take_late(&question);
        self.storms.fetch_add(1, Ordering::Relaxed);
        self.storm_calls.fetch_add(calls, Ordering::Relaxed);
        answers.into_iter().collect()
    }

    /// A large answer, read with pauses. It fits into the cache, so that it waits for its reader.
    pub(crate) async fn read_slowly(&self, rng: &mut Rng) -> anyhow::Result<()> {
        let shape = any_shape(rng);
        let question = self.new_question(rng, shape, Fate::Large);
        let mut response = self.send(&self.http1, &question).await.context("no answer")?;
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.context("a slow reader was cut off")? {
            body.extend_from_slice(&piece);
            tokio::time::sleep(Duration::from_millis(rng.u64(1..10))).await;
        }
        ensure!(body == question.answer(), "A WRONG ANSWER to {question:?}");
        Ok(())
    }

    /// What fails upstream must fail here: an upstream's refusal as it is, and half an answer as
    /// an error of the server or a cut connection. It must never look whole.
    pub(crate) async fn ask_in_vain(&self, rng: &mut Rng) -> anyhow::Result<()> {
        let fate = [Fate::Refused, Fate::Cut, Fate::Cut, Fate::Stalled][rng.usize(..4)];
        let shape = any_shape(rng);
        let question = self.new_question(rng, shape, fate);
        let response = self.send(&self.http1, &question).await.context("no answer")?;
        let status = response.status();
        match response.bytes().await {
            Ok(body) if fate == Fate::Refused => {
                ensure!(status == StatusCode::INTERNAL_SERVER_ERROR, "{}", problem(status, &body));
                ensure!(body == REFUSAL, "another refusal than the upstream's");
            }
            Ok(body) => ensure!(
                matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT),
                "HALF AN ANSWER looks whole: {}",
                problem(status, &body)
            ),
            Err(error) if error.is_timeout() => bail!("{question:?} hangs"),
            Err(error) => {
                ensure!(fate != Fate::Refused, "a refusal is cut: {error}");
                ensure!(status == StatusCode::OK, "an error of {status} is cut: {error}");
            }
        }
        Ok(())
    }
}

pub(crate) fn any_shape(rng: &mut Rng) -> Shape {
    [Shape::Embedding, Shape::Chat, Shape::Stream][rng.usize(..3)]
}

fn size(number: u64) -> Fate {
    match number {
        NEW.. if number.is_multiple_of(HUGE) => Fate::Huge,
        _ if number % LARGE == LARGE - 1 => Fate::Large,
        _ => Fate::Small,
    }
}

/// A status and the beginning of what came with it.
fn problem(status: StatusCode, body: &[u8]) -> String {
    format!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(200)]))
}
