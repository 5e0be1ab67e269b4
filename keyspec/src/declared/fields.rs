//! The checks of a spec's fields, but for those on members.

use http::{HeaderName, Method};

use super::{Ignored, SpecError};
use crate::pattern::PathPattern;
use crate::select::Selection;
use crate::spec::{BodyForm, KeySpec};

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;

pub(super) fn check_name(name: &str) -> Result<(), SpecError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(SpecError::new("name", name, "1 to 64 letters, digits, points, - and _"))
}

pub(super) fn check_preset(preset: Option<&str>) -> Result<KeySpec, SpecError> {
    let name = preset.unwrap_or("http");
    KeySpec::named_preset(name).ok_or_else(|| {
        let names = KeySpec::preset_names().collect::<Vec<_>>().join(", ");
        SpecError::new("preset", name, format!("one of {names}"))
    })
}

pub(super) fn check_body(
    body: Option<BodyForm>,
    methods: &[Method],
    spec: &KeySpec,
) -> Result<BodyForm, SpecError> {
    match body {
        // A body has no meaning in these (RFC 9110, section 9.3).
        None if methods.iter().all(|method| matches!(*method, Method::GET | Method::HEAD)) => {
            Ok(BodyForm::None)
        }
        None => Ok(spec.body),
        Some(body) if body != BodyForm::Json && (spec.is_mcp() || spec.model_route().is_some()) => {
            Err(SpecError::new("body", format!("{body:?}"), "json, which the preset reads"))
        }
        Some(body) => Ok(body),
    }
}

pub(super) fn check_model_member<'m>(
    member: Option<&'m str>,
    spec: &KeySpec,
) -> Result<&'m str, SpecError> {
    match member {
        Some(name) if spec.is_mcp() || spec.model_route().is_some() => Err(SpecError::new(
            "model_member",
            name,
            "not with a preset that reads the model itself",
        )),
        member => Ok(member.unwrap_or("model")),
    }
}

pub(super) fn check_methods(methods: &[String]) -> Result<Vec<Method>, SpecError> {
    if methods.is_empty() {
        return Ok(vec![Method::POST]);
    }
    let check = |(index, name): (usize, &String)| match Method::from_bytes(name.as_bytes()) {
        Ok(method) if *name == name.to_ascii_uppercase() => Ok(method),
        _ => {
            let field = format!("methods[{index}]");
            Err(SpecError::new(field, name, "a method in capitals, such as POST or QUERY"))
        }
    };
    methods.iter().enumerate().map(check).collect()
}

pub(super) fn check_headers(headers: &[String]) -> Result<Vec<HeaderName>, SpecError> {
    /// They stand for themselves in a tenant's scope, or are never forwarded as they came.
    const NEVER_KEYED: [&str; 7] = [
        "authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "cookie",
        "connection",
        "cache-server-reuse",
    ];
    let check = |(index, name): (usize, &String)| {
        let refuse =
            |allowed: &str| Err(SpecError::new(format!("headers[{index}]"), name, allowed));
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(header) if NEVER_KEYED.contains(&header.as_str()) => {
                refuse("not a credential or a field for the cache alone")
            }
            Ok(header) => Ok(header),
            Err(_) => refuse("the name of a header field"),
        }
    };
    headers.iter().enumerate().map(check).collect()
}

pub(super) fn check_query(
    ignored: &[Ignored],
    only: Option<&[String]>,
) -> Result<Selection, SpecError> {
    if !ignored.is_empty() && only.is_some() {
        return Err(SpecError::new("only_query", "set", "not together with ignore_query"));
    }
    Ok(Selection {
        ignored: ignored.iter().map(|one| (one.path().into(), one.why())).collect(),
        only: only.map(|only| only.iter().map(|name| name.as_str().into()).collect()),
        defaults: Vec::new(),
    })
}

pub(super) fn check_parameters(
    names: &[String],
    pattern: &PathPattern,
) -> Result<Vec<Box<str>>, SpecError> {
    let check = |(index, name): (usize, &String)| {
        if pattern.parameters().any(|known| known == name) {
            return Ok(name.as_str().into());
        }
        let field = format!("ignore_parameters[{index}]");
        Err(SpecError::new(field, name, format!("a parameter of {}", pattern.as_str())))
    };
    names.iter().enumerate().map(check).collect()
}

pub(super) fn check_tools(tools: &[String], spec: &KeySpec) -> Result<Vec<Box<str>>, SpecError> {
    match tools.first() {
        Some(tool) if !spec.is_mcp() => {
            Err(SpecError::new("tools[0]", tool, "only with preset = \"mcp\""))
        }
        _ => Ok(tools.iter().map(|tool| tool.as_str().into()).collect()),
    }
}
