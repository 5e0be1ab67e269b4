//! Tags: names that an entry can be purged by, beside its key and URL.
//!
//! They come from the upstream (`Surrogate-Key`, separated by spaces; `Cache-Tag`, by commas), from
//! the templates of a route, and from the request where a route lets it. An upstream's groups
//! (`Cache-Groups`) are tags too, and besides what its own answers purge by. An entry has at most
//! [`TAGS_MAX`] of them, and none longer than [`TAG_BYTES_MAX`]: a purge by one that was left out
//! would not reach it, so that an answer with more is not stored.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::cache::entry::Selector;
use crate::cache::groups::Groups;

/// Most tags of one entry.
pub const TAGS_MAX: usize = 64;

/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 256;

/// Where a request says how its answer is to be tagged, separated by commas.
pub const CACHE_SERVER_TAGS: HeaderName = HeaderName::from_static("cache-server-tags");

const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

/// The tags of an entry that is being made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    kept: Vec<Box<str>>,
    groups: Vec<Box<str>>,
    left_out: usize,
}

impl Tags {
    /// Adds a tag, if there is room and it is none of those there. Tags are text; white space
    /// around them does not count.
    pub fn add(&mut self, tag: &str) {
        let tag = tag.trim();
        if tag.is_empty() || self.kept.iter().any(|kept| **kept == *tag) {
            return;
        }
        if self.kept.len() == TAGS_MAX || tag.len() > TAG_BYTES_MAX {
            self.left_out += 1;
        } else {
            self.kept.push(tag.into());
        }
    }

    /// Adds what the upstream says.
    pub fn add_of_upstream(&mut self, fields: &HeaderMap) {
        self.add_each(fields, &SURROGATE_KEY, u8::is_ascii_whitespace);
        self.add_each(fields, &CACHE_TAG, |byte| *byte == b',');
        match Groups::of_answer(fields) {
            Groups::Named(groups) => {
                groups.iter().for_each(|group| self.add(group));
                self.groups = groups;
            }
            Groups::TooMany => self.left_out += 1,
        }
    }

    /// Adds what the request says.
    pub fn add_of_request(&mut self, fields: &HeaderMap) {
        self.add_each(fields, &CACHE_SERVER_TAGS, |byte| *byte == b',');
    }

    /// Adds the members of a list. What is no text can be named by no order, and finds no place.
    fn add_each(&mut self, fields: &HeaderMap, name: &HeaderName, separates: fn(&u8) -> bool) {
        let lines = fields.get_all(name).into_iter().map(HeaderValue::as_bytes);
        for member in lines.flat_map(|line| line.split(separates)) {
            match str::from_utf8(member) {
                Ok(tag) => self.add(tag),
                Err(_) => self.left_out += 1,
            }
        }
    }

    /// How many found no place.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// What purges an entry that has them and is of this origin.
    pub fn selectors(&self, origin: &str) -> impl Iterator<Item = Selector> {
        let any_group = (!self.groups.is_empty()).then(|| Selector::any_group(origin));
        let groups = self.groups.iter().map(move |group| Selector::group(origin, group));
        self.kept.iter().map(|tag| Selector::tag(tag)).chain(groups).chain(any_group)
    }

    /// The tags.
    #[must_use]
    pub fn into_kept(self) -> Box<[Box<str>]> {
        self.kept.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_upstream(lines: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_static(value));
        }
        let mut tags = Tags::default();
        tags.add_of_upstream(&fields);
        tags.into_kept().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tags_are_read_in_the_form_of_each_field() {
        assert_eq!(of_upstream(&[("surrogate-key", " a b  c ")]), ["a", "b", "c"]);
        assert_eq!(of_upstream(&[("cache-tag", "a b, c,,")]), ["a b", "c"]);
        let groups = r#""a, b" , "c\"d";q=1, "e", """#;
        assert_eq!(of_upstream(&[("cache-groups", groups)]), ["a, b", "c\"d", "e"]);
        assert_eq!(of_upstream(&[("cache-groups", r#""a", b, "c""#)]), [""; 0]);
    }

    #[test]
    fn tags_are_text_in_any_alphabet_and_what_is_none_finds_no_place() {
        let of = |value: &[u8]| {
            let value = HeaderValue::from_bytes(value).unwrap();
            let mut tags = Tags::default();
            tags.add_of_upstream(&HeaderMap::from_iter([(SURROGATE_KEY, value)]));
            (tags.left_out(), tags.into_kept().join("|"))
        };
        assert_eq!(of("shop caf\u{e9}".as_bytes()), (0, "shop|caf\u{e9}".to_owned()));
        assert_eq!(of(b"shop caf\xe9"), (1, "shop".to_owned()));
    }

    #[test]
    fn one_name_in_several_fields_is_one_tag() {
        let tags = of_upstream(&[("surrogate-key", "a"), ("cache-tag", "a,b")]);
        assert_eq!(tags, ["a", "b"]);
    }

    // RFC 9875 section 2.1.
    #[test]
    fn a_group_purges_by_itself_and_with_all_groups_and_as_a_tag() {
        let mut tags = Tags::default();
        let groups = HeaderValue::from_static("\" A \", \"\"");
        tags.add_of_upstream(&HeaderMap::from_iter([("cache-groups".parse().unwrap(), groups)]));
        let expected = [
            Selector::tag("A"),
            Selector::group("http://u", ""),
            Selector::group("http://u", " A "),
            Selector::any_group("http://u"),
        ];
        assert_eq!(tags.selectors("http://u").collect::<Vec<_>>(), expected);
        assert_eq!(Tags::default().selectors("http://u").count(), 0);
    }

    #[test]
    fn groups_beyond_their_bound_are_left_out() {
        let list = |count: usize| {
            let names: Vec<_> = (0..count).map(|index| format!("\"{index}\"")).collect();
            let value = HeaderValue::from_str(&names.join(", ")).unwrap();
            let mut tags = Tags::default();
            tags.add_of_upstream(&HeaderMap::from_iter([("cache-groups".parse().unwrap(), value)]));
            tags.left_out()
        };
        assert_eq!((list(TAGS_MAX), list(TAGS_MAX + 1)), (0, 1));
    }

    #[test]
    fn tags_are_bounded_in_number_and_length_and_what_is_left_out_is_counted() {
        let mut tags = Tags::default();
        tags.add(&"x".repeat(TAG_BYTES_MAX + 1));
        (0..TAGS_MAX + 2).for_each(|index| tags.add(&index.to_string()));
        assert_eq!(tags.left_out(), 3);
        assert_eq!(tags.into_kept().len(), TAGS_MAX);
    }
}
