//! Guessing: how long an answer may be used that does not say so (RFC 9111 section 4.2.2, RFC 9110
//! section 15.1).

use super::LONG_AGO;
use crate::rule::{Rule, may, must, ok, says, status};

const GUESSED: &str = "an answer that was last changed long ago is reused without a lifetime";

pub(super) fn rules() -> Vec<Rule> {
    let mut rules = vec![
        may("9111 4.2.2", GUESSED).hits(ok().with("last-modified", LONG_AGO)),
        must("9111 4.2.2", "nothing is guessed beside an Expires that has passed")
            .given(GUESSED)
            .misses(ok().with("last-modified", LONG_AGO).date("expires", -10)),
        must("9111 4.2.2", "nothing is guessed beside max-age=0")
            .given(GUESSED)
            .misses(says("max-age=0").with("last-modified", LONG_AGO)),
        must("9111 4.2.2", "nothing is guessed beside an Expires that is no date")
            .given(GUESSED)
            .misses(ok().with("last-modified", LONG_AGO).with("expires", "soon")),
        may(
            "9111 4.2.2",
            "a status that nobody knows is reused without a lifetime if it is public",
        )
        .hits(status(299).with("last-modified", LONG_AGO).with("cache-control", "public")),
    ];
    let guessable = [203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
    rules.extend(guessable.map(|code| {
        may("9110 15.1", format!("a {code} is reused without a lifetime"))
            .hits(status(code).with("last-modified", LONG_AGO))
    }));
    let others = [201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 599];
    rules.extend(others.map(|code| {
        must("9111 4.2.2", format!("a {code} without a lifetime is not reused"))
            .given(GUESSED)
            .misses(status(code).with("last-modified", LONG_AGO))
    }));
    rules
}
