//! Storing: what must not be kept, and what must be kept of what is (RFC 9111 sections 3 to 3.5 and
//! 5.2.2, RFC 9110 sections 6.5 and 7.6.1).

use super::{EXPIRES, FRESH};
use crate::rule::{Ask, Ending, Reply, Rule, fresh, get, may, must, ok, says, should, status};

const BY_CREDENTIAL: &str = "an answer to Authorization that is public is reused for the same one";
const QUERIES: &str = "an answer to a URL with a query is reused";
const FIELD_NO_CACHE: &str = "an answer that says no-cache of one field is reused";
const FIELD_PRIVATE: &str = "an answer that says private of one field is reused";
const CHUNKED: &str = "an answer in chunks is reused";
const TRAILED: &str = "an answer with a trailer field is passed on";
const CUT: &str = "an answer with a length that is cut";

pub(super) fn rules() -> Vec<Rule> {
    [forbidden(), credentials(), keys(), fields(), connection_fields(), ends(), trailers()].concat()
}

fn forbidden() -> Vec<Rule> {
    let one_field = |directive: &str| says(directive).with("x-one", "1").with("x-two", "2");
    vec![
        must("9111 5.2.2.5", "no-store is not stored")
            .given(FRESH)
            .misses(says("no-store, max-age=3600")),
        must("9111 5.2.2.5", "no-store counts before Expires")
            .given(EXPIRES)
            .misses(says("no-store").date("expires", 3_600)),
        must("9111 5.2.2.7", "private is not stored")
            .given(FRESH)
            .misses(says("private, max-age=3600")),
        must("9111 5.2.2.7", "private counts before s-maxage")
            .given(FRESH)
            .misses(says("private, s-maxage=3600")),
        must("9111 5.2.2.4", "no-cache is not reused without validation")
            .given(FRESH)
            .misses(says("no-cache, max-age=3600")),
        must("9111 5.2.2.4", "no-cache counts before Expires")
            .given(EXPIRES)
            .misses(says("no-cache").date("expires", 3_600)),
        may("9111 5.2.2.4", FIELD_NO_CACHE).hits(one_field("no-cache=\"x-one\", max-age=3600")),
        must("9111 5.2.2.4", "a field that no-cache names is not reused without validation")
            .given(FIELD_NO_CACHE)
            .ask(get().reply(one_field("no-cache=\"x-one\", max-age=3600")))
            .ask(get().hit().lacks("x-one").is("x-two", "2")),
        may("9111 5.2.2.7", FIELD_PRIVATE).hits(one_field("private=\"x-one\", max-age=3600")),
        must("9111 5.2.2.7", "a field that private names is not stored")
            .given(FIELD_PRIVATE)
            .ask(get().reply(one_field("private=\"x-one, x-three\", max-age=3600")))
            .ask(get().hit().lacks("x-one").is("x-two", "2")),
        should("9111 5.2.2.3", "must-understand stands in for no-store where the status is known")
            .given(FRESH)
            .hits(says("must-understand, no-store, max-age=3600")),
        must("9111 5.2.2.3", "must-understand is not stored where nobody knows the status")
            .given(FRESH)
            .misses(status(299).with("cache-control", "must-understand, no-store, max-age=3600")),
    ]
}

fn credentials() -> Vec<Rule> {
    let asked = || get().with("authorization", "Basic Y2FjaGU6c2VydmVy");
    let twice = |rule: Rule, reply: Reply, then: fn(Ask) -> Ask| {
        rule.ask(asked().reply(reply)).ask(then(asked()))
    };
    let permitted = |directive: &str| says(&format!("max-age=3600, {directive}"));
    vec![
        must("9111 3.5", "an answer to Authorization is not reused without a permission")
            .given(FRESH)
            .ask(asked().reply(fresh()))
            .ask(asked().forwarded()),
        must(
            "9111 3.5",
            "an answer to Authorization is not reused for others without a permission",
        )
        .given(FRESH)
        .ask(asked().reply(fresh()))
        .ask(get().forwarded()),
        twice(may("9111 3.5", BY_CREDENTIAL), permitted("public"), Ask::hit),
        twice(
            may("9111 3.5", "an answer to Authorization with s-maxage is reused for the same one"),
            says("s-maxage=3600"),
            Ask::hit,
        ),
        twice(
            may(
                "9111 3.5",
                "an answer to Authorization with must-revalidate is reused for the same one",
            ),
            permitted("must-revalidate"),
            Ask::hit,
        ),
        must("9111 3.5", "an answer to Authorization with max-age alone does not become another's")
            .given(FRESH)
            .ask(asked().reply(fresh()))
            .ask(get().with("authorization", "Basic b3RoZXI6b25l").forwarded()),
        may("9111 7.3", "an answer that sets a cookie is reused")
            .hits(fresh().with("set-cookie", "a=b")),
        may("9111 7.3", "an answer is reused for a request with the same cookie")
            .ask(get().with("cookie", "a=b").reply(fresh()))
            .ask(get().with("cookie", "a=b").hit()),
    ]
}

fn keys() -> Vec<Rule> {
    let at = |target| get().target(target);
    vec![
        may("9111 4", QUERIES).ask(at("page?a=1&b=2").reply(fresh())).ask(at("page?a=1&b=2").hit()),
        must("9111 4", "URLs with different queries are different")
            .given(QUERIES)
            .ask(at("page?a=1").reply(fresh()))
            .ask(at("page?a=2").forwarded()),
        must("9111 4", "a URL with a query is another than the one without")
            .given(FRESH)
            .ask(at("page").reply(fresh()))
            .ask(at("page?a=1").forwarded()),
        must("9111 4", "a path is compared in its own case")
            .given(FRESH)
            .ask(at("page").reply(fresh()))
            .ask(at("Page").forwarded()),
        must("9111 4", "of two answers that are stored the most recent is used")
            .given("a request that says no-cache is not answered from what is stored")
            .ask(get().reply(fresh()))
            .ask(get().with("cache-control", "no-cache").reply(fresh()).forwarded().prepares())
            .ask(get().hit().is("serial", "2")),
    ]
}

fn fields() -> Vec<Rule> {
    let kept = |name: &'static str, value: &'static str| {
        must("9111 3.1", format!("the field {name} is stored"))
            .given(FRESH)
            .ask(get().reply(fresh().with(name, value)))
            .ask(get().hit().is(name, value))
    };
    let two_links = fresh().with("link", "</a>; rel=next").with("link", "</b>; rel=prev");
    vec![
        kept("x-nobody-knows-it", "as it came"),
        kept("content-language", "de, en"),
        kept("content-disposition", "attachment; filename=\"a.txt\""),
        kept("content-security-policy", "default-src 'self'"),
        kept("content-encoding", "br"),
        kept("content-location", "/elsewhere"),
        kept("last-modified", super::LONG_AGO),
        kept("strict-transport-security", "max-age=60"),
        kept("www-authenticate", "Basic realm=\"a\""),
        kept("pragma", "x-y"),
        must("9111 3.1", "several lines of a field are stored in their order")
            .given(FRESH)
            .ask(get().reply(two_links))
            .ask(get().hit().is("link", "</a>; rel=next, </b>; rel=prev")),
        must("9111 5.2", "Cache-Control is passed on").ask(
            get()
                .reply(says("max-age=3600, foobar=1"))
                .is("cache-control", "max-age=3600, foobar=1"),
        ),
    ]
}

fn connection_fields() -> Vec<Rule> {
    let goes = |name: &'static str, value: &'static str| {
        (fresh().with(name, value), get().hit().check(crate::rule::Check::IsNot(name, value)))
    };
    let named = fresh().with("connection", "x-hop, close").with("x-hop", "1").with("x-end", "2");
    let mut rules = vec![
        must("9110 7.6.1", "a field that Connection names is not stored")
            .given(FRESH)
            .ask(get().reply(named.clone().ending(Ending::Length)))
            .ask(get().hit().lacks("x-hop").is("x-end", "2")),
        must("9110 7.6.1", "a field that Connection names is not passed on")
            .ask(get().reply(named).forwarded().lacks("x-hop").is("x-end", "2")),
    ];
    let of_the_proxy = [
        ("proxy-authenticate", "Basic realm=\"a\""),
        ("proxy-authentication-info", "a=\"b\""),
        ("proxy-authorization", "Basic YTpi"),
    ];
    rules.extend(of_the_proxy.map(|(name, value)| {
        let (reply, then) = goes(name, value);
        must("9111 3.1", format!("the field {name} is not stored"))
            .given(FRESH)
            .ask(get().reply(reply))
            .ask(then)
    }));
    let of_a_connection = [("keep-alive", "timeout=7"), ("proxy-connection", "x")];
    rules.extend(of_a_connection.map(|(name, value)| {
        let (reply, then) = goes(name, value);
        should("9110 7.6.1", format!("the field {name} is not stored"))
            .given(FRESH)
            .ask(get().reply(reply))
            .ask(then)
    }));
    rules
}

fn ends() -> Vec<Rule> {
    let cut = |ending| fresh().ending(ending);
    vec![
        may("9111 3", CHUNKED).hits(fresh().ending(Ending::Chunked)),
        may("9111 3", "an answer that ends with its connection is reused").hits(cut(Ending::Close)),
        must("9111 3.3", format!("{CUT} is not reused"))
            .given(FRESH)
            .ask(get().reply(cut(Ending::CutLength)).status_of(&[200, 502, 503]).prepares())
            .ask(get().reply(ok()).forwarded()),
        must("9111 3.3", format!("{CUT} does not look whole"))
            .ask(get().reply(cut(Ending::CutLength)).status_of(&[200, 502, 503]).whole(false)),
        must("9111 3.3", "an answer in chunks that is cut is not reused")
            .given(CHUNKED)
            .ask(get().reply(cut(Ending::CutChunks)).status_of(&[200, 502, 503]).prepares())
            .ask(get().reply(ok()).forwarded()),
        must("9111 3.3", "an answer in chunks that is cut does not look whole")
            .ask(get().reply(cut(Ending::CutChunks)).status_of(&[200, 502, 503]).whole(false)),
        may("9111 3", "an answer without content is reused").hits(fresh().content("")),
    ]
}

fn trailers() -> Vec<Rule> {
    let trailed = || fresh().with("trailer", "x-late").trailer("x-late", "1");
    vec![
        must("9110 6.5", TRAILED).ask(get().reply(trailed()).forwarded().status(200).whole(true)),
        must("9110 6.5.1", "a trailer field is not merged into the header of the first answer")
            .given(TRAILED)
            .ask(get().with("te", "trailers").reply(trailed()).forwarded().lacks("x-late")),
        must("9111 3.1", "a trailer field is not merged into the header of what is reused")
            .given(CHUNKED)
            .given(TRAILED)
            .ask(get().reply(trailed()))
            .ask(get().hit().lacks("x-late")),
        may("9110 6.5", "a trailer field is passed on to whoever takes trailers")
            .ask(get().with("te", "trailers").reply(trailed()).forwarded().trails("x-late", "1")),
        may("9111 3.1", "a trailer field is stored, and given to whoever takes trailers")
            .ask(get().with("te", "trailers").reply(trailed()))
            .ask(get().with("te", "trailers").hit().trails("x-late", "1")),
    ]
}
