//! All specs of a server or a file: which one reads a request, and where two could.

use std::sync::Arc;

use http::Method;
use serde::Serialize;

use crate::declared::{Checked, DeclaredSpec, SPECS_MAX, SpecError, SpecFile};
use crate::pattern::PathPattern;
use crate::route::ModelRoute;
use crate::spec::KeySpec;

/// Declared specs, then the presets of the model routes and of MCP.
#[derive(Clone, Debug)]
pub struct KeySpecs {
    /// The most specific first.
    declared: Vec<Declared>,
    models: Vec<Arc<KeySpec>>,
    mcp: Arc<KeySpec>,
    http: Arc<KeySpec>,
}

#[derive(Clone, Debug)]
struct Declared {
    /// Its place in the file.
    index: usize,
    methods: Vec<Method>,
    pattern: PathPattern,
    spec: Arc<KeySpec>,
}

/// The spec that reads a request.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// The spec.
    pub spec: &'a Arc<KeySpec>,
    /// The model, where the path names it: as written, still percent-encoded.
    pub model_in_path: Option<&'a str>,
}

/// Two specs that could read one request, of which the first does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// The name of the one that does.
    pub taken: String,
    /// The name of the other.
    pub over: String,
    /// A path that both are for.
    pub path: String,
}

impl Default for KeySpecs {
    fn default() -> KeySpecs {
        KeySpecs {
            declared: Vec::new(),
            models: ModelRoute::ALL.map(|route| Arc::new(KeySpec::preset(route))).to_vec(),
            mcp: Arc::new(KeySpec::mcp()),
            http: Arc::new(KeySpec::http()),
        }
    }
}

impl KeySpecs {
    /// The specs of a file's text.
    ///
    /// # Errors
    /// As [`declare`](Self::declare), and when the text is no such file.
    pub fn from_toml(text: &str) -> Result<KeySpecs, SpecError> {
        KeySpecs::declare(&SpecFile::parse(text)?.key_spec)
    }

    /// Checks these specs, each by itself and all together.
    ///
    /// # Errors
    /// When one cannot be meant, two have one name, there are more than [`SPECS_MAX`], or two
    /// are for one path and neither is the more specific.
    pub fn declare(specs: &[DeclaredSpec]) -> Result<KeySpecs, SpecError> {
        if specs.len() > SPECS_MAX {
            let allowed = format!("at most {SPECS_MAX}");
            return Err(SpecError::new("key_spec", specs.len(), allowed));
        }
        let mut declared: Vec<Declared> = Vec::new();
        for (index, written) in specs.iter().enumerate() {
            let Checked { methods, pattern, spec } =
                written.check().map_err(|error| error.within(index))?;
            let one = Declared { index, methods, pattern, spec: Arc::new(spec) };
            for other in &declared {
                check_apart(&one, other).map_err(|error| error.within(index))?;
            }
            declared.push(one);
        }
        declared.sort_by_key(|one| std::cmp::Reverse(one.pattern.specificity()));
        Ok(KeySpecs { declared, ..KeySpecs::default() })
    }

    /// The spec that reads a request: the most specific declared one, or a preset. Other requests
    /// are for the rules of HTTP.
    pub fn find<'a>(&'a self, method: &str, path: &'a str) -> Option<Found<'a>> {
        for one in self.declared.iter().filter(|one| one.methods.iter().any(|m| m == method)) {
            if let Some(parameters) = one.pattern.matches(path) {
                let model = parameters.iter().find(|(name, _)| *name == "model");
                let in_preset = one.spec.model_route().and(ModelRoute::match_request(method, path));
                let model_in_path = model
                    .map(|(_, value)| *value)
                    .or(in_preset.and_then(|matched| matched.model_in_path));
                return Some(Found { spec: &one.spec, model_in_path });
            }
        }
        if let Some(matched) = ModelRoute::match_request(method, path) {
            let spec = self.preset(matched.route);
            return Some(Found { spec, model_in_path: matched.model_in_path });
        }
        is_mcp(method, path).then_some(Found { spec: &self.mcp, model_in_path: None })
    }

    /// The declared specs, the most specific first.
    pub fn declared(&self) -> impl Iterator<Item = &Arc<KeySpec>> {
        self.declared.iter().map(|one| &one.spec)
    }

    /// The preset of a model route.
    pub fn preset(&self, route: ModelRoute) -> &Arc<KeySpec> {
        let is_it = |spec: &&Arc<KeySpec>| spec.model_route() == Some(route);
        self.models.iter().find(is_it).expect("there is one for every route")
    }

    /// The spec of a request that [`find`](Self::find) has none for, if it asks for nothing but an
    /// answer (RFC 9110, section 9.2.1; RFC 10008).
    pub fn generic(&self, method: &str) -> Option<&Arc<KeySpec>> {
        matches!(method, "GET" | "HEAD" | "QUERY").then_some(&self.http)
    }

    /// Where a declared spec is taken although another, or a preset, is for the path too.
    pub fn overlaps(&self) -> Vec<Overlap> {
        let mut overlaps = Vec::new();
        for (place, one) in self.declared.iter().enumerate() {
            let others = self.declared[place + 1..].iter();
            overlaps.extend(others.filter(|other| one.shares_method(other)).filter_map(|other| {
                let path = one.pattern.common_path(&other.pattern)?;
                self.overlap(one, other.spec.name(), path)
            }));
            if one.methods.contains(&Method::POST) {
                overlaps.extend(ModelRoute::ALL.into_iter().filter_map(|route| {
                    self.overlap(one, route.name(), path_of_both(&one.pattern, route)?)
                }));
                let path = one.pattern.common_path(&parsed(MCP_PATTERN));
                overlaps.extend(path.and_then(|path| self.overlap(one, self.mcp.name(), path)));
            }
        }
        overlaps
    }

    /// An overlap at this path, unless a third spec reads it.
    fn overlap(&self, one: &Declared, over: &str, path: String) -> Option<Overlap> {
        let method = one.methods.first()?.as_str();
        let taken = self.find(method, &path)?.spec;
        Arc::ptr_eq(taken, &one.spec).then(|| Overlap {
            taken: one.spec.name().to_owned(),
            over: over.to_owned(),
            path,
        })
    }
}

/// A path of a model route that a pattern matches.
fn path_of_both(pattern: &PathPattern, route: ModelRoute) -> Option<String> {
    let example = route.example_path();
    if pattern.matches(example).is_some() {
        return Some(example.to_owned());
    }
    let is_its = |path: &String| {
        ModelRoute::match_request("POST", path).is_some_and(|matched| matched.route == route)
    };
    let mut paths = route.patterns().iter().map(|other| pattern.common_path(&parsed(other)));
    paths.find_map(|path| path.filter(is_its))
}

fn parsed(pattern: &str) -> PathPattern {
    PathPattern::parse(pattern).expect("patterns of presets are tested")
}

impl Declared {
    fn shares_method(&self, other: &Declared) -> bool {
        self.methods.iter().any(|method| other.methods.contains(method))
    }
}

/// Whether it is clear which of two is for a path.
fn check_apart(one: &Declared, other: &Declared) -> Result<(), SpecError> {
    let (name, twin) = (one.spec.name(), other.index);
    if name == other.spec.name() {
        return Err(SpecError::new("name", name, format!("key_spec[{twin}] has it already")));
    }
    let (here, there) = (&one.pattern, &other.pattern);
    if !one.shares_method(other) || here.covers(there) != there.covers(here) {
        return Ok(());
    }
    match here.common_path(there) {
        None => Ok(()),
        Some(path) => {
            let allowed = format!(
                "{path} is also for key_spec[{twin}] ({}), and neither is more specific",
                there.as_str()
            );
            Err(SpecError::new("path", here.as_str(), allowed))
        }
    }
}

const MCP_PATTERN: &str = "/**/mcp";

/// An endpoint of MCP is named so by convention; others are declared.
fn is_mcp(method: &str, path: &str) -> bool {
    method == "POST" && path.rsplit('/').next() == Some("mcp")
}
