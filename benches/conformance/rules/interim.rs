//! Interim responses: passed on, and never stored (RFC 9110 section 15.2, RFC 9111 section 3).

use super::FRESH;
use crate::rule::{Reply, Rule, fresh, get, must};

const PASSED: &str = "a 103 is passed on";
const FINAL: &str = "the final answer after an interim response is passed on";

pub(super) fn rules() -> Vec<Rule> {
    let hinted = || fresh().interim(103, "link", "</a.css>; rel=preload");
    let whole = |reply: Reply| get().reply(reply).forwarded();
    vec![
        must("9110 15.2", PASSED).given(FINAL).ask(whole(hinted()).interim(&[103])),
        must("9110 15.2", "a 102 is passed on")
            .given(FINAL)
            .ask(whole(fresh().interim(102, "x-one", "1")).interim(&[102])),
        must("9110 15.2", "an interim response that nobody knows is passed on")
            .given(FINAL)
            .ask(whole(fresh().interim(199, "x-one", "1")).interim(&[199])),
        must("9110 15.2", "two interim responses are passed on in their order").given(PASSED).ask(
            whole(fresh().interim(102, "x-one", "1").interim(103, "x-one", "2"))
                .interim(&[102, 103]),
        ),
        must("9110 15.2", FINAL).ask(whole(hinted()).status(200)),
        must("9111 3", "the final answer after an interim response is what is stored")
            .given(FRESH)
            .given(FINAL)
            .ask(get().reply(hinted()))
            .ask(get().hit().status(200)),
        must("9111 3", "the fields of an interim response are not stored with the final answer")
            .given(FRESH)
            .given(FINAL)
            .ask(get().reply(hinted()))
            .ask(get().hit().lacks("link")),
        must("9111 3", "an interim response is not given again with what is stored")
            .given(FRESH)
            .given(FINAL)
            .ask(get().reply(hinted()))
            .ask(get().hit().interim(&[])),
    ]
}
