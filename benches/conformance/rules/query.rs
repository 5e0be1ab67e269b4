//! QUERY: a question in the content (RFC 10008).

use crate::rule::{Ask, Reply, Rule, ask, confirms, fresh, get, may, must, ok, says};

const REUSED: &str = "the answer to a QUERY is reused for the same content";
const PASSED: &str = "a QUERY reaches the upstream with its content";

pub(super) fn rules() -> Vec<Rule> {
    [what_is_reused(), what_is_not(), what_it_changes()].concat()
}

fn query(content: &'static str) -> Ask {
    ask("QUERY").with("content-type", "application/json").content(content)
}

fn asked(reply: Reply) -> Ask {
    query("{\"a\": 1}").reply(reply)
}

fn what_is_reused() -> Vec<Rule> {
    let tagged = || says("max-age=1").with("etag", "\"v1\"");
    vec![
        must("10008 2", PASSED).ask(asked(fresh()).forwarded().asks_content("{\"a\": 1}")),
        may("10008 2.7", REUSED).ask(asked(fresh())).ask(asked(ok()).hit()),
        may(
            "10008 2.7",
            "the answer to a QUERY is reused for content that differs in nothing that counts",
        )
        .given(REUSED)
        .ask(asked(fresh()))
        .ask(query("{ \"a\":1 }").hit()),
        may("10008 2.7", "the answer to a QUERY without content is reused")
            .ask(ask("QUERY").content("").reply(fresh()))
            .ask(ask("QUERY").content("").hit()),
        may("10008 2.6", "If-None-Match of a QUERY is answered with 304")
            .given(REUSED)
            .ask(asked(fresh().with("etag", "\"v1\"")))
            .ask(asked(ok()).with("if-none-match", "\"v1\"").hit().status(304)),
        may("9111 4.3.1", "a stale answer to a QUERY is revalidated")
            .given(REUSED)
            .ask(asked(tagged()))
            .pause()
            .ask(asked(confirms()).revalidated_by("if-none-match")),
        must("10008 2", "a QUERY that is revalidated reaches the upstream with its content")
            .given("a stale answer to a QUERY is revalidated")
            .ask(asked(tagged()))
            .pause()
            .ask(
                asked(confirms())
                    .asks_content("{\"a\": 1}")
                    .asks("content-type", "application/json"),
            ),
    ]
}

fn what_is_not() -> Vec<Rule> {
    let of = |id: &str| must("10008 2.7", id).given(REUSED);
    let first = |rule: Rule| rule.ask(asked(fresh()));
    let as_text = ask("QUERY").with("content-type", "text/plain").content("{\"a\": 1}");
    let text = |content| ask("QUERY").with("content-type", "text/plain").content(content);
    let varied = || asked(fresh().with("vary", "x-choice")).with("x-choice", "1");
    let credential = "Basic Y2FjaGU6c2VydmVy";
    vec![
        first(of("a QUERY with other content is another question"))
            .ask(query("{\"a\": 2}").forwarded()),
        first(of("a QUERY with content of another type is another question"))
            .ask(as_text.forwarded()),
        first(of("a QUERY with content in another coding is another question"))
            .ask(asked(ok()).with("content-encoding", "x-coding").forwarded()),
        of("white space counts in content that nobody can read")
            .ask(text("a  b").reply(fresh()))
            .ask(text("a b").forwarded()),
        of("the order of a list in the content counts")
            .ask(query("[1, 2]").reply(fresh()))
            .ask(query("[2, 1]").forwarded()),
        first(of("a QUERY to another URL is another question"))
            .ask(asked(ok()).target("other").forwarded()),
        first(of("a QUERY to a URL with a query is another question"))
            .ask(asked(ok()).target("page?a=1").forwarded()),
        first(of("the answer to a QUERY does not answer a GET")).ask(get().forwarded()),
        of("the answer to a GET does not answer a QUERY")
            .ask(get().reply(fresh()))
            .ask(asked(ok()).forwarded()),
        first(of("the answer to a QUERY does not answer a POST")).ask(
            ask("POST").with("content-type", "application/json").content("{\"a\": 1}").forwarded(),
        ),
        of("no-store of the answer to a QUERY is obeyed")
            .ask(asked(says("max-age=3600, no-store")))
            .ask(asked(ok()).forwarded()),
        of("private of the answer to a QUERY is obeyed")
            .ask(asked(says("max-age=3600, private")))
            .ask(asked(ok()).forwarded()),
        of("the answer to a QUERY is not reused once it is stale")
            .ask(asked(says("max-age=1")))
            .pause()
            .ask(asked(ok()).forwarded()),
        of("the answer to a QUERY that chooses otherwise is not reused")
            .ask(varied())
            .ask(asked(ok()).with("x-choice", "2").forwarded()),
        of("the answer to a QUERY with Authorization needs a permission")
            .ask(asked(fresh()).with("authorization", credential))
            .ask(asked(ok()).with("authorization", credential).forwarded()),
    ]
}

fn what_it_changes() -> Vec<Rule> {
    vec![
        must("10008 2", "a QUERY invalidates nothing, as it is safe")
            .given(super::FRESH)
            .ask(get().reply(fresh()))
            .ask(asked(ok()).forwarded().prepares())
            .ask(get().hit()),
        must("9111 4.4", "the answer to a QUERY is not reused once a POST to its URL succeeded")
            .given(REUSED)
            .ask(asked(fresh()))
            .ask(ask("POST").content("a=1").forwarded().prepares())
            .ask(asked(ok()).forwarded()),
    ]
}
