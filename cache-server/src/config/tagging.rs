//! Templates of tags: what a route tags its entries with, such as `model:{model}`.

use std::fmt;

use http::HeaderName;

/// Most templates of one route.
pub const TEMPLATES_MAX: usize = 16;

/// Longest template, in bytes.
const TEMPLATE_BYTES_MAX: usize = 256;

/// What a template takes from the request or its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagField {
    /// The route's name.
    Route,
    /// The model asked for.
    Model,
    /// The model that answered.
    AnsweredBy,
    /// The tool that is called.
    Tool,
    /// A field of the request.
    Header(HeaderName),
    /// A parameter of the query.
    Query(Box<str>),
}

impl TagField {
    fn parse(text: &str) -> Option<TagField> {
        Some(match text.split_once(':') {
            Some(("header", name)) => TagField::Header(name.parse().ok()?),
            Some(("query", name)) if !name.is_empty() => TagField::Query(name.into()),
            Some(_) => return None,
            None => match text {
                "route" => TagField::Route,
                "model" => TagField::Model,
                "answered_by" => TagField::AnsweredBy,
                "tool" => TagField::Tool,
                _ => return None,
            },
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Field(TagField),
}

/// A tag with fields to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagTemplate(Vec<Part>);

/// The text is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTemplate;

impl fmt::Display for InvalidTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "text of at most {TEMPLATE_BYTES_MAX} bytes with {{route}}, {{model}}, \
             {{answered_by}}, {{tool}}, {{header:NAME}} or {{query:NAME}} in it"
        )
    }
}

impl TagTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// When it is empty or too long, or a brace opens no field that is known.
    pub fn parse(text: &str) -> Result<TagTemplate, InvalidTemplate> {
        if text.is_empty() || text.len() > TEMPLATE_BYTES_MAX {
            return Err(InvalidTemplate);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (field, behind) = after.split_once('}').ok_or(InvalidTemplate)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            parts.push(Part::Field(TagField::parse(field).ok_or(InvalidTemplate)?));
            rest = behind;
        }
        if rest.contains('}') {
            return Err(InvalidTemplate);
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(TagTemplate(parts))
    }

    /// The tag; none where one of its fields has no value: half a tag would name other entries.
    pub fn fill(&self, value: impl Fn(&TagField) -> Option<String>) -> Option<String> {
        let mut tag = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => tag.push_str(text),
                Part::Field(field) => {
                    tag.push_str(&value(field).filter(|value| !value.is_empty())?);
                }
            }
        }
        Some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_in_or_gives_no_tag_at_all() {
        let template = TagTemplate::parse("m:{model}/{header:X-Team}").unwrap();
        let both = |field: &TagField| match field {
            TagField::Model => Some("gpt".to_owned()),
            TagField::Header(name) if name == "x-team" => Some("search".to_owned()),
            _ => None,
        };
        assert_eq!(template.fill(both).as_deref(), Some("m:gpt/search"));
        let one = |field: &TagField| both(field).filter(|_| *field == TagField::Model);
        assert_eq!(template.fill(one), None);
        assert_eq!(TagTemplate::parse("all").unwrap().fill(|_| None).as_deref(), Some("all"));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let long = "x".repeat(TEMPLATE_BYTES_MAX + 1);
        for bad in ["", "{", "}", "a}b", "{modell}", "{header:}", "{header:a b}", "{query:}", &long]
        {
            assert_eq!(TagTemplate::parse(bad), Err(InvalidTemplate), "{bad}");
        }
    }
}
