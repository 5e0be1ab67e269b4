//! Tags: names that an entry can be purged by, beside its key and URL.
//!
//! They come from the upstream (`Surrogate-Key`, separated by spaces; `Cache-Tag`, by commas;
//! `Cache-Groups`, RFC 9875), from the templates of a route, and from the request where a route
//! lets it. An entry has at most [`TAGS_MAX`] of them, and none longer than [`TAG_BYTES_MAX`]: a purge
//! by one that was left out would not reach it, so that an answer with more is not stored.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Most tags of one entry.
pub const TAGS_MAX: usize = 64;

/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 256;

/// Where a request says how its answer is to be tagged, separated by commas.
pub const CACHE_SERVER_TAGS: HeaderName = HeaderName::from_static("cache-server-tags");

const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// The tags of an entry that is being made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    kept: Vec<Box<str>>,
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
        for value in texts(fields, &SURROGATE_KEY) {
            value.split_ascii_whitespace().for_each(|tag| self.add(tag));
        }
        for value in texts(fields, &CACHE_TAG) {
            value.split(',').for_each(|tag| self.add(tag));
        }
        for value in texts(fields, &CACHE_GROUPS) {
            strings_of_list(value).iter().for_each(|tag| self.add(tag));
        }
    }

    /// Adds what the request says.
    pub fn add_of_request(&mut self, fields: &HeaderMap) {
        for value in texts(fields, &CACHE_SERVER_TAGS) {
            value.split(',').for_each(|tag| self.add(tag));
        }
    }

    /// How many found no place.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The tags.
    #[must_use]
    pub fn into_kept(self) -> Box<[Box<str>]> {
        self.kept.into()
    }
}

fn texts<'h>(fields: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    fields.get_all(name).iter().filter_map(|value: &HeaderValue| value.to_str().ok())
}

/// The strings of a list of strings (RFC 9651 section 3.1); parameters are passed over. What is no
/// such list gives what was read before the fault: more is purged by a tag that is read than by
/// one that is not.
fn strings_of_list(value: &str) -> Vec<String> {
    let mut strings = Vec::new();
    let mut rest = value.trim_start();
    while let Some(quoted) = rest.strip_prefix('"') {
        let Some((string, behind)) = unquoted(quoted) else { break };
        strings.push(string);
        match behind.find(',') {
            Some(comma) => rest = behind[comma + 1..].trim_start(),
            None => break,
        }
    }
    strings
}

/// The string up to its closing quotation mark, and what follows.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut string = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((string, &quoted[at + 1..])),
            '\\' => string.push(characters.next()?.1),
            other => string.push(other),
        }
    }
    None
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
        let groups = r#""a, b" , "c\"d";q=1, "e""#;
        assert_eq!(of_upstream(&[("cache-groups", groups)]), ["a, b", "c\"d", "e"]);
        assert_eq!(of_upstream(&[("cache-groups", r#""a", b, "c""#)]), ["a"]);
        assert_eq!(of_upstream(&[("cache-groups", r#""never closed"#)]), [""; 0]);
    }

    #[test]
    fn one_name_in_several_fields_is_one_tag() {
        let tags = of_upstream(&[("surrogate-key", "a"), ("cache-tag", "a,b")]);
        assert_eq!(tags, ["a", "b"]);
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
