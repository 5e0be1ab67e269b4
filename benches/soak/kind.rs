//! The kinds of callers: how many of each, and what a turn of each is.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::callers::Stage;
use crate::tally::Tally;

/// A kind of caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Popular,
    New,
    Streams,
    Storms,
    SlowReaders,
    HangUps,
    TakesNothing,
    Hostile,
    Failures,
    Http2,
}

impl Kind {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [Kind; 10] = [
        Kind::Popular,
        Kind::New,
        Kind::Streams,
        Kind::Storms,
        Kind::SlowReaders,
        Kind::HangUps,
        Kind::TakesNothing,
        Kind::Hostile,
        Kind::Failures,
        Kind::Http2,
    ];

    /// What the report calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Popular => "popular questions",
            Kind::New => "new questions",
            Kind::Streams => "streams, two readers",
            Kind::Storms => "storms, 24 callers",
            Kind::SlowReaders => "slow readers",
            Kind::HangUps => "callers that hang up",
            Kind::TakesNothing => "callers that take nothing",
            Kind::Hostile => "hostile bytes",
            Kind::Failures => "upstream failures",
            Kind::Http2 => "popular, by HTTP/2",
        }
    }

    /// How many of them there are at once.
    pub(crate) fn callers(self) -> usize {
        match self {
            Kind::Popular => 6,
            Kind::New | Kind::Streams | Kind::SlowReaders | Kind::HangUps | Kind::Http2 => 3,
            Kind::Storms | Kind::TakesNothing => 1,
            Kind::Hostile | Kind::Failures => 6,
        }
    }

    /// The mean of their pauses between two turns, so that no machine is all busy.
    fn pause(self) -> Duration {
        Duration::from_millis(match self {
            Kind::Popular | Kind::Http2 => 4,
            Kind::New | Kind::Streams | Kind::HangUps => 15,
            Kind::SlowReaders | Kind::Hostile | Kind::Failures => 50,
            Kind::Storms | Kind::TakesNothing => 250,
        })
    }

    /// One turn; an error is what should not have been.
    async fn turn(self, stage: &Stage, rng: &mut Rng) -> anyhow::Result<()> {
        match self {
            Kind::Popular => stage.ask_popular(&stage.http1, rng).await,
            Kind::New => stage.ask_new(rng).await,
            Kind::Streams => stage.ask_stream(rng).await,
            Kind::Storms => stage.storm(rng).await,
            Kind::SlowReaders => stage.read_slowly(rng).await,
            Kind::HangUps => stage.hang_up(rng).await,
            Kind::TakesNothing => stage.take_nothing(rng).await,
            Kind::Hostile => stage.attack(rng).await,
            Kind::Failures => stage.ask_in_vain(rng).await,
            Kind::Http2 => stage.ask_popular(&stage.http2, rng).await,
        }
    }

    /// Takes turns until the time is over.
    pub(crate) async fn drive(self, stage: &Stage, tally: &Tally, mut rng: Rng, until: Instant) {
        while Instant::now() < until {
            tally.count(self, self.turn(stage, &mut rng).await);
            tokio::time::sleep(self.pause().mul_f64(2.0 * rng.f64())).await;
        }
    }
}
