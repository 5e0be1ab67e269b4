//! `keyspec vectors`: test vectors, so that an implementation in another language can prove
//! itself: requests, the canonical bytes of their bodies in hex, and their keys.

use std::path::Path;
use std::process::ExitCode;

use http::{HeaderMap, HeaderName, HeaderValue};
use keyspec::{DeclaredSpec, KeySpec, KeySpecs, KeyedRequest, TenantScope};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Usage;
use crate::arguments::VectorArguments;
use crate::request;

/// The vectors that this program was built with, a file a group.
const BUILT_IN: [(&str, &str); 9] = [
    ("bodies.json", include_str!("../../../vectors/bodies.json")),
    ("declared.json", include_str!("../../../vectors/declared.json")),
    ("forms.json", include_str!("../../../vectors/forms.json")),
    ("mcp.json", include_str!("../../../vectors/mcp.json")),
    ("not_keyable.json", include_str!("../../../vectors/not_keyable.json")),
    ("numbers.json", include_str!("../../../vectors/numbers.json")),
    ("presets.json", include_str!("../../../vectors/presets.json")),
    ("requests.json", include_str!("../../../vectors/requests.json")),
    ("strings.json", include_str!("../../../vectors/strings.json")),
];

/// A file of vectors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    group: String,
    about: String,
    vectors: Vec<Vector>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    /// A preset's name; with `declared`, what that begins with.
    spec: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    declared: Option<Box<DeclaredSpec>>,
    request: Request,
    /// The canonical bytes of the body, in hex; null where it is not keyable.
    canonical: Option<String>,
    /// The key; null where the body is not keyable.
    key: Option<String>,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_keyable: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default = "Tenant::anonymous")]
    tenant: Tenant,
    #[serde(default = "default_upstream")]
    upstream: String,
    #[serde(default = "default_method")]
    method: String,
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    /// The body as text, or else in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tenant {
    Anonymous,
    Named(String),
    /// The scope digest of an unmapped credential, in hex.
    Credential(String),
    Shared,
}

impl Tenant {
    fn anonymous() -> Tenant {
        Tenant::Anonymous
    }

    fn scope(&self) -> Result<TenantScope, Usage> {
        Ok(match self {
            Tenant::Anonymous => TenantScope::Anonymous,
            Tenant::Named(name) => TenantScope::Named(name.as_str().into()),
            Tenant::Shared => TenantScope::Shared,
            Tenant::Credential(digest) => {
                let bytes = from_hex(digest)?;
                let digest = bytes.try_into().map_err(|_| Usage::new("a scope has 32 bytes"))?;
                TenantScope::Credential(digest)
            }
        })
    }
}

fn default_upstream() -> String {
    "https://api.example.com".to_owned()
}

fn default_method() -> String {
    "POST".to_owned()
}

/// What this program makes of a vector's request.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    canonical: Option<String>,
    key: Option<String>,
    not_keyable: Option<String>,
}

pub(crate) fn run(arguments: &VectorArguments) -> Result<ExitCode, Usage> {
    if arguments.print {
        let groups: Vec<serde_json::Value> = BUILT_IN
            .iter()
            .map(|(_, text)| serde_json::from_str(text).map_err(Usage::new))
            .collect::<Result<_, _>>()?;
        println!("{}", serde_json::Value::from(groups));
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.fill {
        for file in &arguments.files {
            fill(file)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut faults = 0;
    for (name, text) in texts(&arguments.files)? {
        faults += check(&name, &text, arguments.json)?;
    }
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The files to check and their text.
fn texts(files: &[std::path::PathBuf]) -> Result<Vec<(String, String)>, Usage> {
    if files.is_empty() {
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        return Ok(BUILT_IN.iter().map(owned).collect());
    }
    let read = |file: &std::path::PathBuf| Ok((file.display().to_string(), request::text(file)?));
    files.iter().map(read).collect()
}

/// Checks one file; how many of its vectors do not hold.
fn check(name: &str, text: &str, as_json: bool) -> Result<usize, Usage> {
    let group = parse(name, text)?;
    let mut faults = Vec::new();
    for vector in &group.vectors {
        let expected = Made {
            canonical: vector.canonical.clone(),
            key: vector.key.clone(),
            not_keyable: vector.not_keyable.clone(),
        };
        let made = made(vector).map_err(|Usage(why)| Usage(format!("{}: {why}", vector.name)))?;
        if made != expected {
            faults.push((vector.name.clone(), expected, made));
        }
    }
    let (count, held) = (group.vectors.len(), group.vectors.len() - faults.len());
    if as_json {
        let names: Vec<&String> = faults.iter().map(|(name, ..)| name).collect();
        println!("{}", json!({ "file": name, "vectors": count, "hold": held, "faults": names }));
        return Ok(faults.len());
    }
    println!("{name}: {held} of {count} hold");
    for (name, expected, made) in &faults {
        println!("  {name}\n    expected {expected:?}\n    made     {made:?}");
    }
    Ok(faults.len())
}

/// Writes what this program makes of each request into the file.
fn fill(file: &Path) -> Result<(), Usage> {
    let mut group = parse(&file.display().to_string(), &request::text(file)?)?;
    for vector in &mut group.vectors {
        let Made { canonical, key, not_keyable } = made(vector)?;
        (vector.canonical, vector.key, vector.not_keyable) = (canonical, key, not_keyable);
    }
    let mut text = serde_json::to_string_pretty(&group).map_err(Usage::new)?;
    text.push('\n');
    std::fs::write(file, text).map_err(|error| Usage::new(format!("{}: {error}", file.display())))
}

fn parse(name: &str, text: &str) -> Result<Group, Usage> {
    serde_json::from_str(text).map_err(|error| Usage::new(format!("{name}: {error}")))
}

fn made(vector: &Vector) -> Result<Made, Usage> {
    let spec = spec(vector)?;
    let request = &vector.request;
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(Usage::new)?;
        headers.append(name, HeaderValue::from_str(value).map_err(Usage::new)?);
    }
    let content_type = spec.content_type(&headers).map_err(Usage::new)?;
    let body = match (&request.body, &request.body_hex) {
        (Some(_), Some(_)) => return Err(Usage::new("body and body_hex are both set")),
        (Some(text), None) => text.clone().into_bytes(),
        (None, Some(hex)) => from_hex(hex)?,
        (None, None) => Vec::new(),
    };
    let meaning = match spec.read_as(content_type, &body) {
        Ok(meaning) => meaning,
        Err(reason) => {
            let not_keyable = Some(reason.code().to_owned());
            return Ok(Made { canonical: None, key: None, not_keyable });
        }
    };
    let canonical = spec.canonical(content_type, &body).map_err(Usage::new)?;
    let keyed = KeyedRequest {
        tenant: &request.tenant.scope()?,
        upstream: &request.upstream,
        method: &request.method,
        path: &request.path,
        query: request.query.as_deref(),
        headers: &headers,
    };
    let key = spec.key(&keyed, &meaning).to_string();
    Ok(Made { canonical: Some(to_hex(&canonical)), key: Some(key), not_keyable: None })
}

fn spec(vector: &Vector) -> Result<KeySpec, Usage> {
    let Some(declared) = &vector.declared else {
        let named = KeySpec::named_preset(&vector.spec);
        return named.ok_or_else(|| Usage::new(format!("{} is no preset", vector.spec)));
    };
    let specs = KeySpecs::declare(std::slice::from_ref(&**declared)).map_err(Usage::new)?;
    let request = &vector.request;
    let found = specs.find(&request.method, &request.path);
    let found = found.ok_or_else(|| Usage::new("the spec is not for the request"))?;
    Ok(KeySpec::clone(found.spec))
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn from_hex(hex: &str) -> Result<Vec<u8>, Usage> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let text = std::str::from_utf8(pair).map_err(Usage::new)?;
            u8::from_str_radix(text, 16).map_err(Usage::new)
        })
        .collect()
}
