//! `Cache-Status` as RFC 9211 has it, read by a parser of structured fields that is not ours.

use http::{HeaderMap, HeaderValue};
use sfv::{BareItem, List, ListEntry, Parser};

/// What the server calls itself.
const NAME: &str = "cache-server";

/// Checks that all lines of the field are one list (RFC 9651), and that our member of it, the last,
/// has the parameters of RFC 9211 alone, each of its type.
///
/// # Panics
/// When they are not.
pub fn check(headers: &HeaderMap) {
    let lines: Vec<_> = headers.get_all("cache-status").iter().map(HeaderValue::as_bytes).collect();
    if !lines.last().is_some_and(|line| line.starts_with(NAME.as_bytes())) {
        return;
    }
    let field = lines.join(&b", "[..]);
    let shown = String::from_utf8_lossy(&field).into_owned();
    let list: List = Parser::new(&field).parse().unwrap_or_else(|error| panic!("{error}: {shown}"));
    let Some(ListEntry::Item(ours)) = list.last() else { panic!("no item is last: {shown}") };
    let name = ours.bare_item.as_token().map(sfv::TokenRef::as_str);
    assert_eq!(name, Some(NAME), "{shown}");
    for (name, value) in &ours.params {
        let is_token = value.as_token().is_some();
        let is_right = match name.as_str() {
            "hit" | "stored" | "collapsed" => value.as_boolean() == Some(true),
            "fwd" => is_token && is_reason(value),
            "fwd-status" | "ttl" => value.as_integer().is_some(),
            "key" => value.as_string().is_some(),
            "detail" => is_token || value.as_string().is_some(),
            _ => false,
        };
        assert!(is_right, "{name}: {shown}");
    }
    let has = |name: &str| ours.params.keys().any(|known| known.as_str() == name);
    assert!(!(has("hit") && has("fwd")), "one of them: {shown}");
    let is_forwarded = has("fwd") || !["fwd-status", "stored", "collapsed"].into_iter().any(has);
    assert!(is_forwarded, "what is said of a forwarded request alone: {shown}");
}

fn is_reason(value: &BareItem) -> bool {
    let reasons =
        ["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"];
    value.as_token().is_some_and(|token| reasons.contains(&token.as_str()))
}
