//! The preimage as the guide tells it, written anew: it gives the vectors their keys.

use std::collections::BTreeMap;

use keyspec::PRESET_VERSION;
use serde_json::Value;

use crate::{code, rows, spec, text};

/// The tags by name, as the guide lists them.
pub(crate) fn tags() -> BTreeMap<String, u8> {
    let rows = rows("The preimage");
    let cells = rows.iter().filter(|row| row.len() == 6).flat_map(|row| row.chunks(2));
    let tag = |cells: &[String]| {
        Some(((*code(&cells[0]).first()?).to_owned(), cells[1].parse().expect("a number")))
    };
    cells.filter_map(tag).collect()
}

struct Preimage {
    tags: BTreeMap<String, u8>,
    bytes: Vec<u8>,
}

impl Preimage {
    fn count(&mut self, tag: &str, count: usize) {
        self.bytes.push(self.tags[tag]);
        self.bytes.extend((count as u64).to_le_bytes());
    }

    fn field(&mut self, tag: &str, bytes: &[u8]) {
        self.count(tag, bytes.len());
        self.bytes.extend(bytes);
    }

    fn tenant(&mut self, tenant: &Value) {
        match tenant.as_str() {
            Some("shared") => self.field("Shared", b""),
            Some(_) => self.field("Anonymous", b""),
            None => match (&tenant["named"], &tenant["credential"]) {
                (Value::String(name), _) => self.field("Named", name.as_bytes()),
                (_, Value::String(digest)) => self.field("Credential", &from_hex(digest)),
                _ => self.field("Anonymous", b""),
            },
        }
    }

    fn query(&mut self, query: &str) {
        let component = |text: &str| match decoded(text) {
            Some(bytes) if !text.contains('+') => ("Decoded", bytes),
            _ => ("Verbatim", text.as_bytes().to_vec()),
        };
        let pieces = query.split('&').filter(|piece| !piece.is_empty());
        let mut pairs: Vec<_> = pieces
            .map(|piece| match piece.split_once('=') {
                Some((name, value)) => (component(name), component(value)),
                None => (component(piece), ("NoValue", Vec::new())),
            })
            .filter(|((_, name), _)| name != b"key")
            .collect();
        // `Decoded` is before `Verbatim` also in the alphabet.
        pairs.sort_by(|((a, one), _), ((b, other), _)| (one, a).cmp(&(other, b)));
        self.count("Query", pairs.len());
        for (tag, bytes) in pairs.iter().flat_map(|(name, value)| [name, value]) {
            self.field(tag, bytes);
        }
    }

    fn headers(&mut self, preset: &str, sent: &Value) {
        let keyed = spec(preset).keyed_headers().to_vec();
        self.count("Header", keyed.len());
        for name in keyed {
            let all = sent.as_array().into_iter().flatten();
            let is_its = |pair: &&Value| {
                pair[0].as_str().is_some_and(|sent| sent.eq_ignore_ascii_case(name.as_str()))
            };
            let values: Vec<&str> =
                all.filter(is_its).filter_map(|pair| pair[1].as_str()).collect();
            self.field("Item", name.as_str().as_bytes());
            self.count("Header", values.len());
            values.iter().for_each(|value| self.field("Item", value.as_bytes()));
        }
    }
}

fn from_hex(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let hex =
            piece.get(..2).filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        bytes.extend(from_hex(hex));
        bytes.extend(&piece.as_bytes()[2..]);
    }
    Some(bytes)
}

/// Whether the answer is a stream of events.
fn is_stream(preset: &str, request: &Value) -> bool {
    let body: Value =
        serde_json::from_str(request["body"].as_str().unwrap_or("")).unwrap_or_default();
    let is_models = !matches!(preset, "mcp" | "http");
    preset == "gemini.stream_generate_content" || (is_models && body["stream"] == true)
}

/// Which tag the body's digest has.
fn body_tag(preset: &str, request: &Value) -> &'static str {
    let all = request["headers"].as_array().into_iter().flatten();
    let media_type = all.filter(|pair| pair[0] == "content-type").find_map(|pair| pair[1].as_str());
    let essence = media_type.and_then(|value| value.split(';').next()).unwrap_or("").trim();
    match (preset, request["body"].as_str().unwrap_or("")) {
        ("http", "") => "NoBody",
        ("http", _) => match essence.to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" => "FormBody",
            "multipart/form-data" => "MultipartBody",
            "application/json" => "Body",
            _ => "RawBody",
        },
        _ => "Body",
    }
}

fn key(preset: &str, request: &Value, canonical: &[u8]) -> String {
    let text = |field: &str| request[field].as_str().unwrap_or_default().to_owned();
    let mut preimage = Preimage { tags: tags(), bytes: Vec::new() };
    preimage.field("Domain", b"cache-server keyspec key");
    preimage.field("SchemaVersion", &1_u16.to_le_bytes());
    preimage.field("SpecName", preset.as_bytes());
    preimage.field("SpecVersion", &PRESET_VERSION.to_le_bytes());
    preimage.count("Ignored", 0);
    preimage.count("Kept", 0);
    preimage.tenant(&request["tenant"]);
    preimage.field("Upstream", text("upstream").as_bytes());
    let method = text("method");
    let is_head = preset == "http" && method == "HEAD";
    preimage.field("Method", if is_head { b"GET" } else { method.as_bytes() });
    preimage.field("Path", text("path").as_bytes());
    preimage.query(&text("query"));
    preimage.headers(preset, &request["headers"]);
    preimage.field("Stream", &[u8::from(is_stream(preset, request))]);
    preimage.field(body_tag(preset, request), blake3::hash(canonical).as_bytes());
    format!("ks1_{}", blake3::hash(&preimage.bytes).to_hex())
}

#[test]
fn the_preimage_that_is_told_gives_every_vector_of_a_preset_its_key() {
    let groups = ["bodies", "forms", "mcp", "numbers", "presets", "requests", "strings"];
    let mut count = 0;
    for group in groups {
        let group = text(&format!("keyspec/vectors/{group}.json"));
        let group: Value = serde_json::from_str(&group).expect("JSON");
        for vector in group["vectors"].as_array().expect("vectors") {
            let (Some(canonical), None) = (vector["canonical"].as_str(), vector.get("declared"))
            else {
                continue;
            };
            let preset = vector["spec"].as_str().expect("a preset");
            let made = key(preset, &vector["request"], &from_hex(canonical));
            assert_eq!(vector["key"], made.as_str(), "{}", vector["name"]);
            count += 1;
        }
    }
    assert!(count > 400, "{count} vectors");
}

#[test]
fn the_fields_stand_in_the_order_that_is_told() {
    let rows = rows("The preimage");
    let told = rows.iter().filter(|row| row.len() == 3 && row[1].contains('`'));
    let told: Vec<&str> = told.map(|row| code(&row[1])[0]).collect();
    let made: Vec<&str> = vec![
        "Domain",
        "SchemaVersion",
        "SpecName",
        "SpecVersion",
        "Ignored",
        "Kept",
        "Rules",
        "Anonymous",
        "Upstream",
        "Method",
        "Path",
        "Query",
        "Header",
        "Stream",
        "Body",
    ];
    assert_eq!(told, made);
}
