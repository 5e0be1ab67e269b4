//! What a request asks of a cache (RFC 9111 sections 5.2.1 and 5.4). All of it is advice.

use super::FRESH;
use crate::rule::{Rule, brief, confirms, fresh, get, may, must, says};

const NO_CACHE: &str = "a request that says no-cache is not answered from what is stored";
const MAX_STALE: &str = "a request with max-stale is answered with what is stale";

pub(super) fn rules() -> Vec<Rule> {
    [not_from_what_is_stored(), stale()].concat()
}

fn not_from_what_is_stored() -> Vec<Rule> {
    let asks = |directive: &str| get().with("cache-control", directive);
    let stored = |section: &str, id: &str| may(section, id).given(FRESH).ask(get().reply(fresh()));
    let aged = |section: &str, id: &str| {
        may(section, id).given(FRESH).ask(get().reply(fresh().with("age", "1800")))
    };
    vec![
        stored("9111 5.2.1.4", NO_CACHE).ask(asks("no-cache").forwarded()),
        may("9111 5.2.1.4", "a request that says no-cache revalidates what is stored")
            .given(FRESH)
            .ask(get().reply(fresh().with("etag", "\"v1\"")))
            .ask(asks("no-cache").reply(confirms()).revalidated_by("if-none-match")),
        stored(
            "9111 5.4",
            "a request that says no-cache in Pragma is not answered from what is stored",
        )
        .ask(get().with("pragma", "no-cache").forwarded()),
        stored("9111 5.2.1.1", "a request with max-age=0 is not answered from what is stored")
            .ask(asks("max-age=0").forwarded()),
        aged("9111 5.2.1.1", "a request with max-age is not answered with what is older")
            .ask(asks("max-age=600").forwarded()),
        aged("9111 5.2.1.1", "a request with max-age is answered with what is younger")
            .ask(asks("max-age=2400").hit()),
        aged(
            "9111 5.2.1.3",
            "a request with min-fresh is not answered with what is fresh for less",
        )
        .ask(asks("min-fresh=2400").forwarded()),
        aged("9111 5.2.1.3", "a request with min-fresh is answered with what is fresh for longer")
            .ask(asks("min-fresh=600").hit()),
        stored("9111 5.2.1.7", "a request with only-if-cached is answered with what is stored")
            .ask(asks("only-if-cached").hit()),
        may("9111 5.2.1.7", "a request with only-if-cached for what is not stored gets a 504")
            .ask(asks("only-if-cached").reply(fresh()).hit().status(504)),
        may("9111 5.2.1.5", "the answer to a request that says no-store is not stored")
            .given(FRESH)
            .ask(asks("no-store").reply(fresh()))
            .ask(get().forwarded()),
        must("9111 5.2", "Cache-Control of a request is passed on").ask(
            asks("max-age=60, x-directive=1")
                .reply(fresh())
                .asks("cache-control", "max-age=60, x-directive=1"),
        ),
    ]
}

fn stale() -> Vec<Rule> {
    let asks = |directive: &str| get().with("cache-control", directive);
    vec![
        may("9111 5.2.1.2", MAX_STALE)
            .ask(get().reply(brief("\"v1\"")))
            .pause()
            .ask(asks("max-stale=1000").hit()),
        may("9111 5.2.1.2", "a request with max-stale and no bound is answered with what is stale")
            .ask(get().reply(brief("\"v1\"")))
            .pause()
            .ask(asks("max-stale").hit()),
        may("9111 5.2.1.2", "a request with max-stale is answered with what has no validator")
            .ask(get().reply(says("max-age=1")))
            .pause()
            .ask(asks("max-stale=1000").hit()),
        must("9111 5.2.1.2", "a request with max-stale is not answered with what is staler")
            .given(MAX_STALE)
            .ask(get().reply(says("max-age=60").with("age", "6000").with("etag", "\"v1\"")))
            .ask(asks("max-stale=100").forwarded()),
        must("9111 5.2.2.2", "max-stale does not count against must-revalidate")
            .given(MAX_STALE)
            .ask(get().reply(says("max-age=1, must-revalidate").with("etag", "\"v1\"")))
            .pause()
            .ask(asks("max-stale=1000").forwarded()),
        must("9111 5.2.2.8", "max-stale does not count against proxy-revalidate")
            .given(MAX_STALE)
            .ask(get().reply(says("max-age=1, proxy-revalidate").with("etag", "\"v1\"")))
            .pause()
            .ask(asks("max-stale=1000").forwarded()),
        must("9111 5.2.2.10", "max-stale does not count against s-maxage")
            .given(MAX_STALE)
            .ask(get().reply(says("s-maxage=1").with("etag", "\"v1\"")))
            .pause()
            .ask(asks("max-stale=1000").forwarded()),
    ]
}
