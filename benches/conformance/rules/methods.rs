//! Methods: whose answers answer whom (RFC 9110 section 9.3, RFC 9111 sections 3 and 4).

use super::FRESH;
use crate::rule::{Rule, ask, fresh, get, may, must};

pub(super) fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "FROBNICATE"] {
        let change = || ask(method).content("a=1");
        rules.push(
            must("9111 4", format!("the answer to a {method} does not answer the same {method}"))
                .ask(change().reply(fresh()))
                .ask(change().reply(fresh()).forwarded()),
        );
    }
    for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "FROBNICATE"] {
        rules.push(
            must("9111 3", format!("the answer to a {method} does not answer a GET"))
                .ask(ask(method).content("a=1").reply(fresh()))
                .ask(get().forwarded()),
        );
    }
    rules.push(
        must("9110 9.3.3", "the answer to a POST without Content-Location does not answer a GET")
            .ask(ask("POST").content("a=1").reply(fresh()))
            .ask(get().forwarded()),
    );
    rules.push(
        may(
            "9110 9.3.3",
            "the answer to a POST that has the URL as Content-Location answers a GET",
        )
        .ask(ask("POST").content("a=1").reply(fresh().pointing("content-location", "page")))
        .ask(get().hit()),
    );
    rules.push(
        must("9111 4", "what a GET has stored does not answer an OPTIONS")
            .given(FRESH)
            .ask(get().reply(fresh()))
            .ask(ask("OPTIONS").forwarded()),
    );
    rules
}
