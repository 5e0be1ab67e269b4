//! Negative entries: which statuses say that there is nothing to be had, and for how long that
//! answers others.

use std::time::Duration;

use http::StatusCode;

/// The statuses that a route may have answered by negative entries. Never among them: what is about
/// the form of one request (400, 405, 413, 431 and their like), for which others would be refused
/// what they may have; what is about one caller (401, 403); and what says when to come back (429,
/// 503).
pub const MAY_BE_NEGATIVE: [u16; 8] = [404, 410, 422, 451, 500, 501, 502, 504];

/// Some of the statuses that may be answered by negative entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegativeStatuses(u8);

impl NegativeStatuses {
    /// 404 and 410: there is nothing.
    pub const NOTHING_THERE: NegativeStatuses = NegativeStatuses(0b11);

    /// These.
    ///
    /// # Errors
    /// The first that is none of [`MAY_BE_NEGATIVE`].
    pub fn of(statuses: &[u16]) -> Result<NegativeStatuses, u16> {
        let bit = |status: &u16| place(*status).map(|place| 1 << place).ok_or(*status);
        let all =
            statuses.iter().map(bit).try_fold(0, |all: u8, bit| bit.map(|bit: u8| all | bit))?;
        Ok(NegativeStatuses(all))
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn has(self, status: StatusCode) -> bool {
        place(status.as_u16()).is_some_and(|place| self.0 & (1 << place) != 0)
    }
}

fn place(status: u16) -> Option<usize> {
    MAY_BE_NEGATIVE.iter().position(|known| *known == status)
}

/// How negative entries are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negative {
    /// For which statuses.
    pub statuses: NegativeStatuses,
    /// How long one answers, where the upstream does not say; zero for not at all.
    pub lifetime: Duration,
    /// How long at most, whatever the upstream says; zero for no bound.
    pub longest: Duration,
}

impl Negative {
    /// Only what the upstream says.
    pub const AS_SAID: Negative = Negative {
        statuses: NegativeStatuses::NOTHING_THERE,
        lifetime: Duration::ZERO,
        longest: Duration::ZERO,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(statuses: NegativeStatuses) -> Vec<u16> {
        let all = (100..600).filter_map(|code| StatusCode::from_u16(code).ok());
        all.filter(|status| statuses.has(*status)).map(|status| status.as_u16()).collect()
    }

    #[test]
    fn a_set_has_what_it_was_made_of() {
        assert_eq!(has(NegativeStatuses::NOTHING_THERE), [404, 410]);
        assert_eq!(has(NegativeStatuses::of(&[500, 404, 500]).unwrap()), [404, 500]);
        assert_eq!(has(NegativeStatuses::of(&MAY_BE_NEGATIVE).unwrap()), MAY_BE_NEGATIVE);
        assert_eq!(has(NegativeStatuses::of(&[]).unwrap()), [0; 0]);
    }

    #[test]
    fn what_would_refuse_others_is_in_no_set() {
        for status in [200, 301, 400, 401, 403, 405, 407, 413, 429, 431, 503, 0, 65_535] {
            assert_eq!(NegativeStatuses::of(&[404, status]), Err(status));
        }
    }
}
