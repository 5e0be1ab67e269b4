//! Path patterns: which paths a spec is for, and what the path says by parameters.
//!
//! A pattern is a path of segments: plain text, or one `{name}` with text around it
//! (`models/{model}:predict`). `**` as the first or the last segment stands for any number of
//! segments, none included. Paths are compared as they are forwarded: by case, still
//! percent-encoded, without tolerance for a trailing slash.

use std::fmt;

/// Most segments of a pattern.
const SEGMENTS_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Text(Box<str>),
    Parameter {
        before: Box<str>,
        name: Box<str>,
        after: Box<str>,
    },
    /// Any number of segments.
    Any,
}

/// A path pattern that was read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PathPattern {
    written: Box<str>,
    segments: Vec<Segment>,
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is allowed, in words.
    pub(crate) fn parse(text: &str) -> Result<PathPattern, &'static str> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("a path that begins with /");
        };
        if text.contains(['?', '#']) {
            return Err("a path without query or fragment");
        }
        let segments: Vec<Segment> =
            rest.split('/').map(Segment::parse).collect::<Result<_, _>>()?;
        let inner = segments.len().saturating_sub(1);
        if segments.iter().take(inner).skip(1).any(|segment| *segment == Segment::Any)
            || (segments.len() > 1
                && segments[0] == Segment::Any
                && segments[inner] == Segment::Any)
        {
            return Err("** once, as the first or the last segment");
        }
        let pattern = PathPattern { written: text.into(), segments };
        if pattern.segments.len() > SEGMENTS_MAX {
            return Err("at most 32 segments");
        }
        let names: Vec<&str> = pattern.parameters().collect();
        if (1..names.len()).any(|index| names[..index].contains(&names[index])) {
            return Err("each parameter once");
        }
        Ok(pattern)
    }

    /// As it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.written
    }

    /// The names of its parameters.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter { name, .. } => Some(&**name),
            Segment::Text(_) | Segment::Any => None,
        })
    }

    /// The parameters of a path that this matches: names and what stands for them, never empty.
    pub(crate) fn matches<'p>(&'p self, path: &'p str) -> Option<Vec<(&'p str, &'p str)>> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let mut found = Vec::new();
        for (pattern, written) in self.aligned(&segments)? {
            if let Some(parameter) = pattern.matches(written)? {
                found.push(parameter);
            }
        }
        Some(found)
    }

    /// A path with these parameters' names in place of what they stand for.
    pub(crate) fn without(&self, path: &str, parameters: &[Box<str>]) -> Option<String> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let offset = match self.segments.first() {
            Some(Segment::Any) => (segments.len() + 1).checked_sub(self.segments.len())?,
            _ => 0,
        };
        let mut out: Vec<String> = segments.iter().map(|segment| (*segment).to_owned()).collect();
        let fixed = self.segments.iter().filter(|segment| **segment != Segment::Any);
        for (pattern, written) in fixed.zip(out.iter_mut().skip(offset)) {
            if let Segment::Parameter { before, name, after } = pattern
                && parameters.contains(name)
            {
                *written = format!("{before}{{{name}}}{after}");
            }
        }
        Some(format!("/{}", out.join("/")))
    }

    /// Pairs each fixed segment with the path's, if their numbers fit.
    fn aligned<'p>(
        &'p self,
        path: &[&'p str],
    ) -> Option<impl Iterator<Item = (&'p Segment, &'p str)>> {
        let fixed = self.segments.iter().filter(|segment| **segment != Segment::Any).count();
        let has_any = fixed < self.segments.len();
        if path.len() < fixed || (!has_any && path.len() > fixed) {
            return None;
        }
        let skipped = match self.segments.first() {
            Some(Segment::Any) => path.len() - fixed,
            _ => 0,
        };
        let path: Vec<&str> = path[skipped..skipped + fixed].to_vec();
        Some(self.segments.iter().filter(|segment| **segment != Segment::Any).zip(path))
    }

    /// Whether every path that `other` matches is matched by this.
    pub(crate) fn covers(&self, other: &PathPattern) -> bool {
        covers(&self.segments, &other.segments)
    }

    /// A path that both match, if there is one.
    pub(crate) fn common_path(&self, other: &PathPattern) -> Option<String> {
        let segments = common(&self.segments, &other.segments)?;
        Some(format!("/{}", segments.join("/")))
    }

    /// Sorts patterns that match one path: the greater says more about it. Of two of which one
    /// covers the other, the other is the greater.
    pub(crate) fn specificity(&self) -> (bool, usize, usize, usize) {
        let has_any = self.segments.contains(&Segment::Any);
        let fixed = self.segments.iter().filter(|s| matches!(s, Segment::Text(_))).count();
        let letters = self.segments.iter().map(Segment::letters).sum();
        (!has_any, fixed, letters, self.segments.len())
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Segment, &'static str> {
        if text == "**" {
            return Ok(Segment::Any);
        }
        let Some((before, rest)) = text.split_once('{') else {
            return match text.contains(['}', '*']) {
                true => Err("text, one {name} a segment, or ** for any segments"),
                false => Ok(Segment::Text(text.into())),
            };
        };
        let (name, after) = rest.split_once('}').ok_or("a } for each {")?;
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err("parameters named by a-z, 0-9 and _");
        }
        if [before, after].iter().any(|text| text.contains(['{', '}', '*'])) {
            return Err("one {name} a segment");
        }
        Ok(Segment::Parameter { before: before.into(), name: name.into(), after: after.into() })
    }

    /// Whether the segment matches, and its parameter.
    #[expect(clippy::option_option, reason = "no match, a match, a match with a parameter")]
    fn matches<'p>(&'p self, written: &'p str) -> Option<Option<(&'p str, &'p str)>> {
        match self {
            Segment::Text(text) => (**text == *written).then_some(None),
            Segment::Parameter { before, name, after } => {
                let value = written.strip_prefix(&**before)?.strip_suffix(&**after)?;
                (!value.is_empty()).then_some(Some((name, value)))
            }
            Segment::Any => Some(None),
        }
    }

    fn letters(&self) -> usize {
        match self {
            Segment::Text(text) => text.len(),
            Segment::Parameter { before, after, .. } => before.len() + after.len(),
            Segment::Any => 0,
        }
    }

    fn covers(&self, other: &Segment) -> bool {
        match (self, other) {
            (Segment::Any, _) => true,
            (_, Segment::Any) => false,
            (Segment::Text(one), Segment::Text(other)) => one == other,
            (Segment::Text(_), Segment::Parameter { .. }) => false,
            (Segment::Parameter { .. }, Segment::Text(text)) => self.matches(text).is_some(),
            (
                Segment::Parameter { before: a, after: z, .. },
                Segment::Parameter { before: b, after: y, .. },
            ) => b.starts_with(&**a) && y.ends_with(&**z),
        }
    }

    /// A segment that both match.
    fn common(&self, other: &Segment) -> Option<String> {
        match (self, other) {
            (Segment::Text(text), other) | (other, Segment::Text(text)) => {
                other.matches(text).map(|_| text.to_string())
            }
            (
                Segment::Parameter { before: a, after: z, name },
                Segment::Parameter { before: b, after: y, .. },
            ) => {
                let before = if a.len() >= b.len() { a } else { b };
                let after = if z.len() >= y.len() { z } else { y };
                let both = before.starts_with(&**a) && before.starts_with(&**b);
                let fits = both && after.ends_with(&**z) && after.ends_with(&**y);
                fits.then(|| format!("{before}{name}{after}"))
            }
            (Segment::Any, Segment::Parameter { .. } | Segment::Any)
            | (Segment::Parameter { .. }, Segment::Any) => None,
        }
    }
}

fn covers(one: &[Segment], other: &[Segment]) -> bool {
    match (one.split_first(), other.split_first()) {
        (None, None) => true,
        (Some((Segment::Any, rest)), None) => covers(rest, other),
        (Some((Segment::Any, rest)), Some((_, others))) => {
            covers(rest, other) || covers(one, others)
        }
        (None, Some(_)) | (Some(_), None) => false,
        (Some((first, rest)), Some((of_other, others))) => {
            first.covers(of_other) && covers(rest, others)
        }
    }
}

fn common(one: &[Segment], other: &[Segment]) -> Option<Vec<String>> {
    let with = |segment: String, rest: Option<Vec<String>>| {
        rest.map(|rest| [vec![segment], rest].concat())
    };
    match (one.split_first(), other.split_first()) {
        (None, None) => Some(Vec::new()),
        (Some((Segment::Any, rest)), _) => common(rest, other).or_else(|| {
            let (first, others) = other.split_first()?;
            let segment = match first {
                Segment::Any => return common(one, others),
                Segment::Text(text) => text.to_string(),
                Segment::Parameter { before, name, after } => format!("{before}{name}{after}"),
            };
            with(segment, common(one, others))
        }),
        (_, Some((Segment::Any, _))) => common(other, one),
        (None, Some(_)) | (Some(_), None) => None,
        (Some((first, rest)), Some((of_other, others))) => {
            with(first.common(of_other)?, common(rest, others))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text).unwrap()
    }

    #[test]
    fn parameters_stand_for_one_segment_or_a_part_of_it() {
        let search = pattern("/v1/{index}/search");
        assert_eq!(search.matches("/v1/a%2Fb/search"), Some(vec![("index", "a%2Fb")]));
        for other in
            ["/v1//search", "/v1/a/b/search", "/v1/a/search/", "/V1/a/search", "v1/a/search"]
        {
            assert_eq!(search.matches(other), None, "{other}");
        }
        let predict = pattern("/models/{model}:predict");
        assert_eq!(predict.matches("/models/m:x:predict"), Some(vec![("model", "m:x")]));
        assert_eq!(predict.matches("/models/:predict"), None);
    }

    #[test]
    fn two_stars_stand_for_any_segments_at_an_end() {
        let end = pattern("/**/rerank");
        assert!(end.matches("/rerank").is_some() && end.matches("/a/b/rerank").is_some());
        assert!(end.matches("/a/xrerank").is_none() && end.matches("/rerank/a").is_none());
        let begin = pattern("/tools/{tool}/**");
        assert_eq!(begin.matches("/tools/t"), Some(vec![("tool", "t")]));
        assert_eq!(begin.matches("/tools/t/a/b"), Some(vec![("tool", "t")]));
        assert!(begin.matches("/tools").is_none());
        assert!(pattern("/**").matches("/any/thing").is_some());
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in [
            "", "a/b", "/a?b", "/a#b", "/{", "/}", "/{}", "/{A}", "/{a}{b}", "/a*", "/a/**/b",
            "/**/a/**", "/{a}/{a}", "/*",
        ] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_parameter_can_be_taken_out_of_a_path() {
        let out = |pattern: &str, path: &str, name: &str| {
            self::pattern(pattern).without(path, &[name.into()]).unwrap()
        };
        assert_eq!(out("/s/{session}/ask", "/s/42/ask", "session"), "/s/{session}/ask");
        assert_eq!(out("/**/{s}/ask", "/a/b/42/ask", "s"), "/a/b/{s}/ask");
        assert_eq!(out("/{a}/{b}", "/1/2", "b"), "/1/{b}");
    }

    #[test]
    fn overlaps_are_found_with_a_path_to_show() {
        let common = |one: &str, other: &str| pattern(one).common_path(&pattern(other));
        assert_eq!(common("/a/{x}", "/{y}/b").as_deref(), Some("/a/b"));
        assert_eq!(common("/**/b", "/a/{x}").as_deref(), Some("/a/b"));
        assert_eq!(common("/a/**", "/**/b").as_deref(), Some("/a/b"));
        assert_eq!(common("/a/{x}:p", "/a/m{y}").as_deref(), Some("/a/mx:p"));
        assert_eq!(common("/a/{x}", "/a/{y}/c"), None);
        assert_eq!(common("/a/x{x}", "/a/y{x}"), None);
    }

    #[test]
    fn the_wider_pattern_covers_the_narrower() {
        let covers = |one: &str, other: &str| pattern(one).covers(&pattern(other));
        for (wide, narrow) in [
            ("/a/{x}", "/a/b"),
            ("/**", "/a/{x}"),
            ("/**/c", "/a/c"),
            ("/{x}", "/m{y}"),
            ("/a/**", "/a"),
        ] {
            assert!(covers(wide, narrow), "{wide} covers {narrow}");
            assert!(!covers(narrow, wide), "{narrow} does not cover {wide}");
            assert!(pattern(narrow).specificity() > pattern(wide).specificity());
        }
        assert!(!covers("/a/{x}", "/{y}/b"));
    }
}
