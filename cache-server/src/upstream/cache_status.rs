//! `Cache-Status` (RFC 9211) as it comes from caches nearer to the upstream: passed on and stored
//! as a part of the answer, with our own member behind it.

use http::{HeaderMap, HeaderName};
use sfv::Parser;
use sfv::visitor::Ignored;

/// How caches on the way have handled a request.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// How much of it is passed on: more than a hundred caches in line would say.
pub const CHAIN_BYTES_MAX: usize = 8 << 10;

/// Leaves out what caches before us say, if that is no list (RFC 9651 section 4.2.1) or longer than
/// [`CHAIN_BYTES_MAX`]. All lines of a field are one list: with a part that is none nobody could
/// read our member either.
pub fn keep_if_a_list(headers: &mut HeaderMap) {
    let lines = || headers.get_all(CACHE_STATUS).iter().map(http::HeaderValue::as_bytes);
    if lines().next().is_none() {
        return;
    }
    let bytes: usize = lines().map(|line| line.len() + 2).sum();
    if bytes > CHAIN_BYTES_MAX || !is_a_list(&lines().collect::<Vec<_>>().join(&b", "[..])) {
        headers.remove(CACHE_STATUS);
    }
}

fn is_a_list(field: &[u8]) -> bool {
    Parser::new(field).parse_list_with_visitor(Ignored).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn kept(lines: &[&str]) -> Vec<String> {
        let lines = lines.iter().map(|line| HeaderValue::from_str(line).unwrap());
        let mut headers: HeaderMap = lines.map(|line| (CACHE_STATUS, line)).collect();
        headers.insert("x-other", HeaderValue::from_static("1"));
        keep_if_a_list(&mut headers);
        assert_eq!(headers["x-other"], "1");
        let kept = headers.get_all(CACHE_STATUS).iter();
        kept.map(|line| line.to_str().unwrap().to_owned()).collect()
    }

    // RFC 9211 section 2.
    #[test]
    fn a_list_stays_as_it_is_written() {
        for list in [
            &["edge; hit; ttl=3, \"Example CDN\"; fwd=miss; stored"][..],
            &["OriginCache;hit", "edge; fwd=uri-miss; detail=\"a, b\""],
            &[],
        ] {
            assert_eq!(kept(list), list);
        }
    }

    #[test]
    fn what_is_no_list_is_left_out_with_all_its_lines() {
        for none in ["Hit from edge", "edge; detail=\"a", "edge, ", "edge;; hit", "ed ge", "\u{e9}"]
        {
            assert!(kept(&[none]).is_empty(), "{none}");
            assert!(kept(&["origin; hit", none]).is_empty(), "{none}");
        }
    }

    #[test]
    fn what_is_too_long_is_left_out() {
        let fits = format!("edge; detail=\"{}\"", "x".repeat(CHAIN_BYTES_MAX - 17));
        assert_eq!(kept(&[&fits]).len(), 1);
        assert!(kept(&[&fits, "edge"]).is_empty());
    }
}
