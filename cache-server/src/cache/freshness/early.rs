//! Early: entries do not all end at once, and those that are asked for often are fetched anew before
//! they end. Pure: what is drawn by chance goes in.
//!
//! Ahead of its end an entry is refreshed with a probability that grows as the end comes near, the
//! sooner the longer its fetch takes ("XFetch": Vattani, Chierichetti and Lowenstein, *Optimal
//! Probabilistic Cache Stampede Prevention*, VLDB 2015). Each request draws, so that what is asked
//! for often is refreshed early and what is not hardly ever.

use std::time::Duration;

use keyspec::Key;

use super::Ends;
use crate::clock::Timestamp;

/// The largest that `-ln` of a draw becomes: that of 2^-53.
const LONGEST_DRAW: f64 = 36.75;

/// Whether a draw may show the entry to be due: most of the time there is no need for one.
#[must_use]
pub fn may_be_due(ttl: Duration, fetch_took: Duration, eagerness: f64) -> bool {
    is_within(ttl, fetch_took, eagerness * LONGEST_DRAW)
}

/// Whether an entry that is fresh for `ttl` more, and was so long in coming, is refreshed now.
/// `drawn` is in 0..1; the larger the `eagerness` (beta of the paper; 1 is neutral), the earlier.
#[must_use]
pub fn is_due(ttl: Duration, fetch_took: Duration, eagerness: f64, drawn: f64) -> bool {
    is_within(ttl, fetch_took, eagerness * -(1.0 - drawn).ln())
}

fn is_within(ttl: Duration, fetch_took: Duration, times: f64) -> bool {
    ttl.as_secs_f64() <= fetch_took.as_secs_f64() * times
}

/// The ends of an entry whose fresh end comes up to so much of its lifetime sooner, which key
/// decides: what is fetched together ends apart. A window that was empty stays empty, or a stale entry
/// would be used that nobody permitted; all other ends stay.
#[must_use]
pub fn spread(ends: Ends, generated: Timestamp, key: &Key, percent_max: u8) -> Ends {
    let lifetime_ms = ends.fresh.since(generated).as_millis();
    let bytes = key.as_bytes();
    // Keys are as good as drawn by chance.
    let share = u128::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let sooner_ms = lifetime_ms * u128::from(percent_max.min(100)) * share / 100 / 65_536;
    let sooner = Duration::from_millis(u64::try_from(sooner_ms).unwrap_or(u64::MAX));
    let fresh = ends.fresh.minus(sooner);
    let window = |end: Timestamp| if end > ends.fresh { end } else { fresh };
    Ends {
        fresh,
        stale_while_revalidate: window(ends.stale_while_revalidate),
        stale_if_error: window(ends.stale_if_error),
        validate: ends.validate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::freshness::Lifetime;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_nearer_its_end_and_the_longer_its_fetch_the_likelier_an_entry_is_due() {
        // -ln(1 - 0.5) is about 0.69.
        assert!(is_due(SECOND, 2 * SECOND, 1.0, 0.5) && !is_due(2 * SECOND, 2 * SECOND, 1.0, 0.5));
        assert!(!is_due(SECOND, SECOND, 1.0, 0.5) && is_due(SECOND, SECOND, 2.0, 0.5));
        assert!(!is_due(SECOND, SECOND, 1.0, 0.0) && is_due(30 * SECOND, SECOND, 1.0, 1.0 - 1e-14));
    }

    #[test]
    fn an_entry_is_never_due_where_there_is_no_eagerness() {
        assert!(!may_be_due(Duration::from_millis(1), 60 * SECOND, 0.0));
    }

    fn entry(lifetime: Duration, key: [u8; 32], percent: u8) -> (Ends, Ends) {
        let windows = Lifetime {
            fresh: lifetime,
            stale_while_revalidate: SECOND,
            stale_if_error: 2 * SECOND,
        };
        spread_of(windows, key, percent)
    }

    fn spread_of(windows: Lifetime, key: [u8; 32], percent: u8) -> (Ends, Ends) {
        let ends = Ends::of(Timestamp(1_000), windows);
        (ends, spread(ends, Timestamp(1_000), &Key::from_bytes(key), percent))
    }

    proptest! {
        #[test]
        fn what_no_draw_can_show_to_be_due_is_never_due(
            ttl_ms in 1_u64..1 << 40, took_ms in 0_u64..1 << 22, eagerness in 0.0..10.0,
            drawn in 0.0..1.0,
        ) {
            let (ttl, took) = (Duration::from_millis(ttl_ms), Duration::from_millis(took_ms));
            prop_assert!(!is_due(ttl, took, eagerness, drawn) || may_be_due(ttl, took, eagerness));
        }

        #[test]
        fn a_spread_end_is_sooner_by_no_more_than_it_may_be_and_the_others_stay(
            lifetime_ms in 0_u64..1 << 42, key in any::<[u8; 32]>(), percent in 0_u8..=100,
        ) {
            let (ends, spread) = entry(Duration::from_millis(lifetime_ms), key, percent);
            let sooner = ends.fresh.since(spread.fresh).as_millis();
            prop_assert!(spread.fresh <= ends.fresh);
            prop_assert!(sooner <= u128::from(lifetime_ms) * u128::from(percent) / 100);
            prop_assert_eq!(Ends { fresh: ends.fresh, ..spread }, ends);
        }
    }

    #[test]
    fn where_a_stale_entry_may_not_be_used_it_may_not_be_by_ending_sooner() {
        let (ends, spread) = spread_of(Lifetime::fresh_for(1_000 * SECOND), [255; 32], 5);
        assert!(spread.fresh < ends.fresh);
        let windows = (spread.stale_while_revalidate, spread.stale_if_error);
        assert_eq!(windows, (spread.fresh, spread.fresh));
    }

    #[test]
    fn what_is_fetched_together_ends_apart() {
        let day = 86_400 * SECOND;
        let sooner_s = |share: u8| {
            let (ends, spread) = entry(day, [share; 32], 5);
            ends.fresh.since(spread.fresh).as_secs()
        };
        assert_eq!((sooner_s(0), sooner_s(128), sooner_s(255)), (0, 2_168, 4_319));
    }
}
