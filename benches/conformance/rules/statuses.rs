//! Statuses: which answers with a lifetime are reused (RFC 9110 section 15, RFC 9111 section 3).

use super::FRESH;
use crate::rule::{Rule, get, may, must, says, status};

pub(super) fn rules() -> Vec<Rule> {
    let lasting = |code| status(code).with("cache-control", "max-age=3600");
    let codes = [
        200, 201, 203, 204, 299, 300, 301, 302, 303, 307, 308, 400, 403, 404, 405, 410, 414, 421,
        451, 500, 501, 502, 503, 504, 599,
    ];
    let mut rules: Vec<Rule> = codes
        .map(|code| {
            may("9111 3", format!("a {code} with a lifetime is reused")).hits(lasting(code))
        })
        .into();
    let brief = |code| status(code).with("cache-control", "max-age=1");
    for (code, given) in [
        (301, "a 301 with a lifetime is reused"),
        (404, "a 404 with a lifetime is reused"),
        (410, "a 410 with a lifetime is reused"),
    ] {
        rules.push(
            must("9111 4.2", format!("a {code} is not reused once it is stale"))
                .given(given)
                .misses_later(brief(code)),
        );
    }
    rules.push(
        must("9110 8.6", "a 204 has no length")
            .ask(get().reply(lasting(204)).lacks("content-length")),
    );
    rules.push(
        must("9110 8.6", "a 204 that is reused has no length")
            .given("a 204 with a lifetime is reused")
            .ask(get().reply(lasting(204)))
            .ask(get().hit().lacks("content-length")),
    );
    rules.push(
        must("9110 15", "a status that nobody knows is passed on as it is")
            .ask(get().reply(status(299)).forwarded().status(299)),
    );
    rules.push(
        must("9111 3", "an error does not stay once the upstream answers again")
            .given(FRESH)
            .ask(get().reply(status(500)))
            .ask(get().reply(says("max-age=60")).forwarded().status(200)),
    );
    rules
}
