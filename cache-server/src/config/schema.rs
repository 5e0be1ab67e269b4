//! The shape of the config file: its JSON schema, and from that the fields which can be set from
//! the environment and by flags.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::written::{File, Span};

/// The JSON schema of the config file, as it is published.
#[must_use]
pub fn json() -> Value {
    let mut schema = schemars::schema_for!(File);
    schema.insert("title".into(), "cache-server config".into());
    schema.to_value()
}

/// One field of a section that is no list, such as `server.idle_timeout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its path.
    pub path: String,
    /// What it means, in the words of the schema.
    pub meaning: String,
    /// What its value looks like.
    pub form: Form,
    /// Whether a change waits for a restart.
    pub needs_restart: bool,
}

/// What a field's value looks like; it decides how text from outside the file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text; durations, sizes and addresses are written as text as well.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A list of texts, written with commas outside the file.
    List,
}

impl Field {
    /// The section that it is in, and its name there.
    #[must_use]
    pub fn split(&self) -> (&str, &str) {
        self.path.split_once('.').expect("every path is made of a section and a name")
    }
}

/// Every field of the sections that are no lists, in the order of the file.
#[must_use]
pub fn fields() -> Vec<Field> {
    let schema = json();
    let mut fields = Vec::new();
    for (section, shape) in members(&schema) {
        let Some(name) = shape["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"))
        else {
            continue;
        };
        for (field, shape) in members(&schema["$defs"][name]) {
            fields.push(Field {
                path: format!("{section}.{field}"),
                meaning: one_line(shape["description"].as_str().unwrap_or_default()),
                form: form(shape),
                needs_restart: shape[NEEDS_RESTART] == true,
            });
        }
    }
    fields
}

/// The mark of a field whose change waits for a restart.
const NEEDS_RESTART: &str = "x-needs-restart";

/// Whether a change of what lies at `path` waits for a restart.
#[must_use]
pub fn needs_restart(path: &str) -> bool {
    fields().iter().any(|field| field.path == path && field.needs_restart)
}

fn members(shape: &Value) -> impl Iterator<Item = (&String, &Value)> {
    shape["properties"].as_object().into_iter().flatten()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn form(shape: &Value) -> Form {
    let is = |name: &str| match &shape["type"] {
        Value::String(only) => only == name,
        Value::Array(several) => several.iter().any(|one| one == name),
        _ => false,
    };
    // A size may be a number or text; text can say both.
    if is("string") || shape.get("$ref").is_some() || shape.get("anyOf").is_some() {
        return Form::Text;
    }
    match () {
        () if is("integer") => Form::Integer,
        () if is("number") => Form::Number,
        () if is("boolean") => Form::Boolean,
        () if is("array") => Form::List,
        () => Form::Text,
    }
}

/// How a size is written; stands in the schema for the type of the `bytesize` crate.
#[derive(Debug)]
pub struct Size;

impl JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "minimum": 0,
            "examples": ["64KiB", "4GiB", 65536],
        })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["250ms", "10s", "1h 30m", "7d"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = include_str!("../../../docs/cache-server.schema.json");

    #[test]
    fn the_published_schema_is_the_one_in_force() {
        let published: Value = serde_json::from_str(PUBLISHED).unwrap();
        let how = "write it anew: cargo run -- schema > docs/cache-server.schema.json";
        assert_eq!(published, json(), "docs/cache-server.schema.json is out of date; {how}");
    }

    /// What in `value` the schema does not know: as far as it names types and members, no more.
    fn complaints(root: &Value, shape: &Value, value: &Value, path: &str) -> Vec<String> {
        let shape = match shape["$ref"].as_str() {
            Some(pointer) => root.pointer(&pointer[1..]).unwrap(),
            None => shape,
        };
        if let Some(any_of) = shape["anyOf"].as_array() {
            let each = any_of.iter().map(|shape| complaints(root, shape, value, path));
            return each.min_by_key(Vec::len).unwrap_or_default();
        }
        match value {
            _ if *shape == Value::Bool(true) => vec![],
            Value::Object(object) => object
                .iter()
                .flat_map(|(name, value)| {
                    let others = Some(&shape["additionalProperties"]);
                    let others = others.filter(|shape| shape.is_object() || **shape == true);
                    match shape["properties"].get(name).or(others) {
                        Some(shape) => complaints(root, shape, value, &format!("{path}.{name}")),
                        None => vec![format!("{path}.{name} is not known")],
                    }
                })
                .collect(),
            Value::Array(items) => items
                .iter()
                .flat_map(|item| complaints(root, &shape["items"], item, &format!("{path}[]")))
                .collect(),
            Value::String(_) if form(shape) == Form::Text => vec![],
            Value::Number(_) if matches!(form(shape), Form::Integer | Form::Number) => vec![],
            Value::Bool(_) if form(shape) == Form::Boolean => vec![],
            other => vec![format!("{path} may not be {other}")],
        }
    }

    #[test]
    fn the_schema_takes_the_annotated_sample_and_refuses_what_the_server_refuses() {
        let schema = json();
        let complaints = |text| {
            let value: Value = toml::from_str(text).unwrap();
            complaints(&schema, &schema, &value, "")
        };
        let sample = complaints(include_str!("../../../docs/cache-server.toml"));
        assert!(sample.is_empty(), "{sample:#?}");
        for refused in ["[cache]\nsize = 1", "[server]\nconnections_max = 'many'"] {
            assert!(!complaints(refused).is_empty(), "{refused}");
            assert!(toml::from_str::<File>(&format!("version = 1\n{refused}")).is_err());
        }
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], serde_json::json!(["version"]));
    }

    #[test]
    fn every_field_says_what_it_means() {
        let fields = fields();
        assert!(fields.len() > 25, "only {} fields were found", fields.len());
        for field in fields {
            assert!(field.meaning.len() > 10, "{} has no meaning", field.path);
        }
        let form_of = |path: &str| super::fields().into_iter().find(|field| field.path == path);
        assert_eq!(form_of("server.connections_max").unwrap().form, Form::Integer);
        assert_eq!(form_of("cache.memory_bytes_max").unwrap().form, Form::Text);
        assert!(needs_restart("server.listen") && !needs_restart("server.idle_timeout"));
    }
}
