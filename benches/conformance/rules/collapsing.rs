//! Collapsing: one call for all who ask the same at once, and none for whom it must not be (RFC 9111
//! section 4).

use std::time::Duration;

use crate::rule::{Ask, Reply, Rule, fresh, get, may, must, says};

const COLLAPSED: &str = "requests for the same at once are one call";
const CALLERS: usize = 4;

pub(super) fn rules() -> Vec<Rule> {
    let slow = |reply: Reply| reply.after(Duration::from_millis(700));
    let crowd = |reply: Reply| get().callers(CALLERS).reply(slow(reply));
    let alone = |ask: Ask| ask.calls(CALLERS);
    vec![
        may("9111 4", COLLAPSED).ask(crowd(fresh()).calls(1)),
        must("9111 4", "requests at once do not share what is private")
            .given(COLLAPSED)
            .ask(alone(crowd(says("private, max-age=3600")))),
        must("9111 4", "requests at once do not share what is not to be stored")
            .given(COLLAPSED)
            .ask(alone(crowd(says("no-store")))),
        must("9111 4", "requests at once do not share what has to be validated before each use")
            .given(COLLAPSED)
            .ask(alone(crowd(says("no-cache")))),
        must("9111 4", "requests at once that choose differently do not share")
            .given(COLLAPSED)
            .ask(crowd(fresh().with("vary", "x-choice")).with("x-choice", "1").calls(1))
            .ask(get().with("x-choice", "2").reply(fresh().with("vary", "x-choice")).forwarded()),
    ]
}
