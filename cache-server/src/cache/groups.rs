//! Groups: names that an upstream gives its answers, so that the answer to one request can make
//! others invalid (RFC 9875).
//!
//! They are Lists of Strings (RFC 9651), read to the letter: what cannot be read names nothing.
//! Groups are an origin's own, and their case counts. What is beyond a bound is no fault of the
//! upstream's, and is known to be there: whoever reads must not take it for nothing.

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, List, ListEntry, Parser};

use crate::cache::entry::Selector;
use crate::cache::structured;

/// Most groups of one field. RFC 9875 asks for 32.
pub const GROUPS_MAX: usize = 64;

/// The longest value that is looked at, in bytes over all lines: enough for [`GROUPS_MAX`] groups of
/// 256 bytes, which is more than the 32 that RFC 9875 asks for.
pub const VALUE_BYTES_MAX: usize = 32 << 10;

const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// The groups that a field names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    /// These; none where there is no field, or one that cannot be read.
    Named(Vec<Box<str>>),
    /// More than are looked at.
    TooMany,
}

impl Groups {
    /// The groups that an answer belongs to (RFC 9875 section 2).
    #[must_use]
    pub fn of_answer(fields: &HeaderMap) -> Groups {
        Groups::read(fields, &CACHE_GROUPS)
    }

    /// The groups that an answer makes invalid, if its request was unsafe (RFC 9875 section 3).
    #[must_use]
    pub fn invalidated_by(fields: &HeaderMap) -> Groups {
        Groups::read(fields, &CACHE_GROUP_INVALIDATION)
    }

    /// What purges these groups of an origin. Where they are too many to be told, it purges whatever
    /// is of a group: rather too much than too little.
    #[must_use]
    pub fn selectors(&self, origin: &str) -> Vec<Selector> {
        match self {
            Groups::Named(names) => {
                names.iter().map(|name| Selector::group(origin, name)).collect()
            }
            Groups::TooMany => vec![Selector::any_group(origin)],
        }
    }

    fn read(fields: &HeaderMap, name: &HeaderName) -> Groups {
        let none = Groups::Named(Vec::new());
        let value = match structured::value(fields, name, VALUE_BYTES_MAX) {
            Ok(Some(value)) => value,
            Ok(None) => return none,
            Err(structured::TooLong) => return Groups::TooMany,
        };
        let Some(mut names) = strings(&value) else { return none };
        // Neither their order nor how often one is named means anything.
        names.sort_unstable();
        names.dedup();
        if names.len() > GROUPS_MAX { Groups::TooMany } else { Groups::Named(names) }
    }
}

/// The members of a List of Strings; nothing if it is none. Parameters mean nothing.
fn strings(value: &[u8]) -> Option<Vec<Box<str>>> {
    let list: List = Parser::new(value).parse().ok()?;
    let string = |member: &ListEntry| match member {
        ListEntry::Item(item) => match &item.bare_item {
            BareItem::String(string) => Some(string.as_str().into()),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    };
    list.iter().map(string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> Groups {
        let value = |line: &&str| (CACHE_GROUPS, HeaderValue::from_str(line).unwrap());
        Groups::of_answer(&lines.iter().map(value).collect())
    }

    fn named(names: &[&str]) -> Groups {
        Groups::Named(names.iter().map(|name| Box::from(*name)).collect())
    }

    // RFC 9875 sections 2 and 3.
    #[test]
    fn groups_are_a_list_of_strings_whose_order_and_parameters_mean_nothing() {
        assert_eq!(read(&[r#""b", "a";x=1 ,"A", "b""#]), named(&["A", "a", "b"]));
        assert_eq!(
            read(&[r#""a", " a ", """#, r#""c, \"d\\""#]),
            named(&["", " a ", "a", "c, \"d\\"])
        );
        assert_eq!(read(&[]), named(&[]));
    }

    // RFC 9651 section 4.2.
    #[test]
    fn a_list_with_one_fault_is_no_list() {
        let faults = [
            "",
            r#""a", b"#,
            r#""a","#,
            r#""a" "b""#,
            r#""a", 5"#,
            r#""a", ("b")"#,
            r#""a"#,
            "a b",
        ];
        for fault in faults {
            assert_eq!(read(&[fault]), named(&[]), "{fault}");
        }
        assert_eq!(read(&[r#""a""#, "b"]), named(&[]), "all lines are one list");
    }

    // RFC 9875 section 2 asks for 32 groups of 32 characters.
    #[test]
    fn groups_are_bounded_and_more_are_not_taken_for_none() {
        let list = |count: usize, bytes: usize| {
            let names: Vec<_> = (0..count).map(|index| format!("\"{index:0>bytes$}\"")).collect();
            read(&[&names.join(", ")])
        };
        assert!(matches!(list(32, 32), Groups::Named(names) if names.len() == 32));
        assert!(matches!(list(GROUPS_MAX, 256), Groups::Named(names) if names.len() == GROUPS_MAX));
        assert_eq!(list(GROUPS_MAX + 1, 3), Groups::TooMany);
        assert_eq!(list(1, VALUE_BYTES_MAX), Groups::TooMany);
        assert!(matches!(list(1, VALUE_BYTES_MAX - 2), Groups::Named(_)));
    }

    #[test]
    fn too_many_groups_purge_whatever_is_of_a_group() {
        let selectors = named(&["a", "b"]).selectors("http://u");
        assert_eq!(selectors, ["a", "b"].map(|name| Selector::group("http://u", name)));
        assert_eq!(Groups::TooMany.selectors("http://u"), [Selector::any_group("http://u")]);
    }

    proptest! {
        #[test]
        fn a_list_that_is_written_is_read_back(names in proptest::collection::btree_set("[ -~]{0,20}", 0..20)) {
            let quoted = |name: &String| {
                format!("\"{}\"", name.replace('\\', r"\\").replace('"', "\\\""))
            };
            let written: Vec<_> = names.iter().map(quoted).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            prop_assert_eq!(read(&[&written.join(",")]), named(&names));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = Groups::of_answer(&HeaderMap::from_iter([(CACHE_GROUPS, value)]));
            }
        }
    }
}
