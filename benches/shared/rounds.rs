//! What rounds gave, and the order in which their contenders take turns.

/// What is read off a measurement.
pub(crate) type Figure<M> = fn(&M) -> Option<f64>;

/// What the rounds gave: for each contender, a measurement a round.
#[derive(Debug)]
pub(crate) struct Rounds<M>(Vec<Vec<M>>);

impl<M> Rounds<M> {
    /// Nothing yet, for so many contenders.
    pub(crate) fn of(contenders: usize) -> Rounds<M> {
        Rounds((0..contenders).map(|_| Vec::new()).collect())
    }

    /// One more measurement of a contender.
    pub(crate) fn add(&mut self, index: usize, measured: M) {
        self.0[index].push(measured);
    }

    /// The median of a contender's rounds.
    pub(crate) fn median(&self, index: usize, figure: Figure<M>) -> Option<f64> {
        median(self.0[index].iter().map(figure).collect())
    }

    /// The largest of a contender's rounds.
    pub(crate) fn largest(&self, index: usize, figure: Figure<M>) -> Option<f64> {
        self.0[index].iter().filter_map(figure).reduce(f64::max)
    }

    /// The median of the rounds' ratios to another contender.
    pub(crate) fn ratio(&self, index: usize, other: usize, figure: Figure<M>) -> Option<f64> {
        let pairs = self.0[index].iter().zip(&self.0[other]);
        median(pairs.map(|(this, other)| Some(figure(this)? / figure(other)?)).collect())
    }

    /// The median of the rounds' differences to another contender.
    pub(crate) fn difference(&self, index: usize, other: usize, figure: Figure<M>) -> Option<f64> {
        let pairs = self.0[index].iter().zip(&self.0[other]);
        median(pairs.map(|(this, other)| Some(figure(this)? - figure(other)?)).collect())
    }

    /// How far the rounds lie apart, as a share of their median.
    pub(crate) fn spread(&self, index: usize, figure: Figure<M>) -> Option<f64> {
        let smallest = self.0[index].iter().filter_map(figure).reduce(f64::min)?;
        Some((self.largest(index, figure)? - smallest) / self.median(index, figure)?)
    }
}

/// In which order the contenders take turns: whatever disturbs the machine is to disturb them
/// alike, so every other round runs backwards.
pub(crate) fn order(round: u16, contenders: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..contenders).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
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

    #[test]
    fn figures_are_taken_within_a_round_and_against_another_contender() {
        let mut rounds = Rounds::of(3);
        for (first, second) in [(1.0, 3.0), (2.0, 8.0), (10.0, 11.0)] {
            rounds.add(0, first);
            rounds.add(1, second);
        }
        let itself: Figure<f64> = |figure| Some(*figure);
        assert_eq!(rounds.median(1, itself), Some(8.0));
        assert_eq!(rounds.largest(1, itself), Some(11.0));
        assert_eq!(rounds.ratio(1, 0, itself), Some(3.0));
        assert_eq!(rounds.difference(1, 0, itself), Some(2.0));
        assert_eq!(rounds.difference(0, 1, itself), Some(-2.0));
        assert_eq!(rounds.ratio(1, 2, itself), None, "there is nothing to be held against");
        assert_eq!(rounds.spread(1, itself), Some(1.0));
        assert_eq!(rounds.median(2, itself), None, "nothing was measured");
    }

    #[test]
    fn every_other_round_runs_backwards() {
        assert_eq!(order(0, 3), [0, 1, 2]);
        assert_eq!(order(1, 3), [2, 1, 0]);
    }
}
