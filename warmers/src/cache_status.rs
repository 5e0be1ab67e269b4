//! What a cache-server says that it did, in `Cache-Status` (RFC 9211).

use reqwest::header::HeaderMap;

/// The member of the list that is the server's own.
const NAME: &str = "cache-server";

/// Longer reasons are cut: they are kept in the report.
const DETAIL_BYTES_MAX: usize = 64;

/// What the cache did with a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CacheStatus {
    /// An entry answered, fresh or stale.
    Hit,
    /// The upstream answered, on behalf of the cache. `kept_out` is why that is no entry now.
    Fill { kept_out: Option<String> },
    /// The request went past the cache, and why if that is said.
    Bypass { why: Option<String> },
    /// No cache-server says anything.
    Unmarked,
}

impl CacheStatus {
    /// Reads the last member of that name: the one that is nearest to us.
    pub(crate) fn of(headers: &HeaderMap) -> CacheStatus {
        let fields: Vec<&str> = headers
            .get_all("cache-status")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let list = fields.join(",");
        let Some(member) = split(&list, ',').into_iter().rev().find(|member| name(member) == NAME)
        else {
            return CacheStatus::Unmarked;
        };
        let parameters = split(member, ';');
        let value = |wanted: &str| {
            parameters.iter().skip(1).find_map(|parameter| {
                let (name, value) = parameter.split_once('=').unwrap_or((*parameter, ""));
                (name.trim() == wanted).then(|| value.trim().trim_matches('"'))
            })
        };
        let why = || value("detail").map(|why| why.chars().take(DETAIL_BYTES_MAX).collect());
        match (value("hit"), value("fwd")) {
            (Some(_), _) => CacheStatus::Hit,
            // The upstream was asked and failed, and an entry answered after all.
            (_, Some("stale")) if value("detail") == Some("stale-if-error") => CacheStatus::Hit,
            (_, Some("bypass" | "method") | None) => CacheStatus::Bypass { why: why() },
            // A stream's header goes out before anyone knows whether it is stored; then there is
            // neither `stored` nor a reason.
            (_, Some(_)) if value("stored").is_some() => CacheStatus::Fill { kept_out: None },
            (_, Some(_)) => CacheStatus::Fill { kept_out: why() },
        }
    }
}

fn name(member: &str) -> &str {
    member.split(';').next().unwrap_or_default().trim().trim_matches('"')
}

/// Splits at `separator`, but not inside quoted strings (RFC 9651 section 3.3.3).
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if character == separator && !is_quoted => {
                parts.push(text[begin..at].trim());
                begin = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text[begin..].trim());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    fn read(values: &[&str]) -> CacheStatus {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("cache-status", HeaderValue::from_str(value).unwrap());
        }
        CacheStatus::of(&headers)
    }

    fn fill(kept_out: Option<&str>) -> CacheStatus {
        CacheStatus::Fill { kept_out: kept_out.map(ToOwned::to_owned) }
    }

    fn bypass(why: Option<&str>) -> CacheStatus {
        CacheStatus::Bypass { why: why.map(ToOwned::to_owned) }
    }

    #[test]
    fn every_form_that_a_cache_server_writes_is_understood() {
        let cases = [
            (r#"cache-server; hit; ttl=86390; key="ks1_a"; detail=memory"#, CacheStatus::Hit),
            ("cache-server; hit; ttl=-12; detail=disk", CacheStatus::Hit),
            ("cache-server; fwd=miss; fwd-status=200; stored; key=\"ks1_a\"", fill(None)),
            ("cache-server; fwd=miss; fwd-status=200; detail=length", fill(Some("length"))),
            ("cache-server; fwd=miss; fwd-status=200; collapsed", fill(None)),
            ("cache-server; fwd=request; stored", fill(None)),
            ("cache-server; fwd=stale; fwd-status=503; detail=stale-if-error", CacheStatus::Hit),
            (
                "cache-server; fwd=bypass; detail=not-deterministic",
                bypass(Some("not-deterministic")),
            ),
            ("cache-server; detail=buffers-full", bypass(Some("buffers-full"))),
        ];
        for (text, meant) in cases {
            assert_eq!(read(&[text]), meant, "{text}");
        }
    }

    #[test]
    fn the_last_member_of_that_name_counts_whatever_line_it_is_on() {
        assert_eq!(
            read(&["cache-server; fwd=miss, edge; hit", "cache-server; hit"]),
            CacheStatus::Hit
        );
        assert_eq!(read(&["cache-server; fwd=miss; stored, edge; hit"]), fill(None));
    }

    #[test]
    fn separators_inside_quoted_strings_separate_nothing() {
        let text = r#"cache-server; fwd=bypass; detail="a, cache-server; hit \" ;"; x"#;
        assert!(matches!(read(&[text]), CacheStatus::Bypass { .. }));
    }

    proptest! {
        #[test]
        fn a_quoted_string_never_changes_what_is_read(quoted in "[ -~]{0,40}") {
            let escaped = quoted.replace('\\', r"\\").replace('"', "\\\"");
            let text = format!("cache-server; key=\"{escaped}\"; fwd=miss; stored, edge; hit");
            prop_assert_eq!(read(&[&text]), fill(None));
        }

        #[test]
        fn any_field_value_is_read(value in "[ -~]{0,60}") {
            read(&[&value]);
        }
    }

    #[test]
    fn another_caches_word_is_not_taken_for_ours() {
        assert_eq!(read(&["edge; hit"]), CacheStatus::Unmarked);
        assert_eq!(read(&["cache-server-2; hit"]), CacheStatus::Unmarked);
        assert_eq!(read(&[]), CacheStatus::Unmarked);
    }

    #[test]
    fn a_long_reason_is_cut() {
        let text = format!("cache-server; fwd=bypass; detail={}", "x".repeat(1000));
        assert_eq!(read(&[&text]), bypass(Some(&"x".repeat(DETAIL_BYTES_MAX))));
    }
}
