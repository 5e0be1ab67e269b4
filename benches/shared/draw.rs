//! Which question is asked next: some are asked often, most seldom. By Zipf's law, the second most
//! frequent half as often as the first, the third a third as often.

use crate::shared::spread::count;

/// Draws ranks by Zipf's law.
#[derive(Debug)]
pub(crate) struct Draw {
    /// For each rank the share of all draws up to it.
    up_to: Vec<f64>,
}

impl Draw {
    /// For so many keys.
    pub(crate) fn new(keys: usize) -> Draw {
        let mut sum = 0.0;
        let weights = (1..=keys).map(|rank| {
            sum += 1.0 / count(rank);
            sum
        });
        let mut up_to: Vec<f64> = weights.collect();
        up_to.iter_mut().for_each(|share| *share /= sum);
        Draw { up_to }
    }

    /// The rank at this share, 0 to 1.
    pub(crate) fn rank(&self, share: f64) -> u64 {
        let rank = self.up_to.partition_point(|up_to| *up_to < share);
        u64::try_from(rank.min(self.up_to.len() - 1)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_drawn_half_as_often_as_the_first() {
        let draw = Draw::new(3);
        // 6/11, 3/11, 2/11.
        assert_eq!(
            [0.0, 0.54, 0.55, 0.81, 0.82, 1.0].map(|share| draw.rank(share)),
            [0, 0, 1, 1, 2, 2]
        );
    }
}
