//! Rounds: contenders alternate, so that whatever disturbs the machine disturbs them alike.

use anyhow::Context;

use crate::exchange::Question;
use crate::load::{Expected, Job, Numbers, Outcome, Until};
use crate::process::Server;
use crate::stage::Stage;

/// Someone who is measured.
#[derive(Debug)]
pub(crate) struct Contender {
    /// As the table calls it.
    pub(crate) name: &'static str,
    /// Who answers.
    pub(crate) server: fn(&Stage) -> &Server,
    /// What is asked.
    pub(crate) question: Question,
    /// Which prompts.
    pub(crate) prompts: Prompts,
    /// Where the answers must come from.
    pub(crate) expected: Expected,
}

/// Which prompts a contender is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Prompts {
    /// These, in every round.
    These(Numbers),
    /// New ones with every question.
    New,
    /// One new one in every round.
    OneNew,
}

/// What one round gave for one contender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// What the load saw.
    pub(crate) outcome: Outcome,
    /// Processor time that the server took for one answer, in microseconds.
    pub(crate) server_us: Option<f64>,
    /// How often the upstream was asked.
    pub(crate) upstream_calls: f64,
}

/// What is read off a round.
pub(crate) type Figure = fn(&Measured) -> Option<f64>;

/// What the rounds gave: for each contender, a measurement a round.
#[derive(Debug)]
pub(crate) struct Rounds(Vec<Vec<Measured>>);

impl Rounds {
    /// Runs the rounds; every other one in the opposite order.
    pub(crate) async fn run(
        stage: &mut Stage,
        contenders: &[Contender],
        rounds: u16,
        callers: u64,
        until: Until,
    ) -> anyhow::Result<Rounds> {
        let mut measured = vec![Vec::new(); contenders.len()];
        for round in 0..rounds {
            let mut order: Vec<usize> = (0..contenders.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let contender = &contenders[index];
                let numbers = match contender.prompts {
                    Prompts::These(numbers) => numbers,
                    Prompts::New => stage.new_numbers(),
                    Prompts::OneNew => Numbers { count: 1, ..stage.new_numbers() },
                };
                let job = Job {
                    address: (contender.server)(stage).address,
                    question: contender.question,
                    numbers,
                    callers,
                    until,
                    expected: contender.expected,
                    spin: stage.cores.load.is_some(),
                };
                measured[index].push(measure(stage, contender, &job).await?);
            }
        }
        Ok(Rounds(measured))
    }

    /// The median of a contender's rounds.
    pub(crate) fn median(&self, index: usize, figure: Figure) -> Option<f64> {
        median(self.0[index].iter().map(figure).collect())
    }

    /// The median of the rounds' ratios to the first contender.
    pub(crate) fn ratio(&self, index: usize, figure: Figure) -> Option<f64> {
        let pairs = self.0[index].iter().zip(&self.0[0]);
        median(pairs.map(|(ours, first)| Some(figure(ours)? / figure(first)?)).collect())
    }

    /// The median of the rounds' differences to the first contender.
    pub(crate) fn difference(&self, index: usize, figure: Figure) -> Option<f64> {
        let pairs = self.0[index].iter().zip(&self.0[0]);
        median(pairs.map(|(ours, first)| Some(figure(ours)? - figure(first)?)).collect())
    }

    /// How far the rounds lie apart, as a share of their median.
    pub(crate) fn spread(&self, index: usize, figure: Figure) -> Option<f64> {
        let figures: Vec<f64> = self.0[index].iter().filter_map(figure).collect();
        let largest = figures.iter().copied().reduce(f64::max)?;
        let smallest = figures.iter().copied().reduce(f64::min)?;
        Some((largest - smallest) / self.median(index, figure)?)
    }
}

async fn measure(stage: &Stage, contender: &Contender, job: &Job) -> anyhow::Result<Measured> {
    let server = (contender.server)(stage);
    let (calls, busy) = (stage.upstream_calls().await?, server.processor_seconds()?);
    let outcome =
        stage.load(job).await.with_context(|| format!("{}: {}", contender.name, server.state()))?;
    let (calls_then, busy_then) = (stage.upstream_calls().await?, server.processor_seconds()?);
    let took = busy_then.zip(busy).map(|(then, before)| then - before);
    Ok(Measured {
        outcome,
        server_us: took.map(|seconds| seconds * 1e6 / outcome.answers),
        upstream_calls: calls_then - calls,
    })
}

/// The middle one, or the mean of the two in the middle; nothing if any is missing.
fn median(figures: Vec<Option<f64>>) -> Option<f64> {
    let mut figures = figures.into_iter().collect::<Option<Vec<f64>>>()?;
    figures.sort_by(f64::total_cmp);
    let upper = figures.len() / 2;
    let lower = if figures.len().is_multiple_of(2) { upper.checked_sub(1)? } else { upper };
    Some(f64::midpoint(*figures.get(lower)?, *figures.get(upper)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle_and_misses_nothing() {
        let of = |figures: &[f64]| median(figures.iter().copied().map(Some).collect());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0]), Some(3.0));
        assert_eq!(of(&[5.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
        assert_eq!(median(vec![Some(1.0), None]), None);
    }
}
