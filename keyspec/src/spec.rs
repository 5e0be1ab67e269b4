//! A key spec: for one route, what of a request is its meaning.

use std::sync::Arc;

use crate::canonical::{self, HashSink};
use crate::json::Document;
use crate::key::{self, Identity, Key, KeyedRequest};
use crate::meaning::Meaning;
use crate::not_keyable::NotKeyable;
use crate::paths::{Paths, Treatment};
use crate::preset::{self, LeftOut};
use crate::route::ModelRoute;

/// The version of the presets. It grows when a preset or the canonical form changes what a
/// request's key is, and entries under older keys are then no longer found.
const PRESET_VERSION: u16 = 1;

/// What of a route's requests is keyed: a preset, or a preset with changes. Cloning shares it.
#[derive(Clone, Debug)]
pub struct KeySpec {
    route: ModelRoute,
    /// Sorted, without repeats.
    ignored: Arc<[Box<str>]>,
    /// Sorted, without repeats.
    kept: Arc<[Box<str>]>,
    paths: Arc<Paths>,
}

impl KeySpec {
    /// The spec that this crate brings for a route.
    pub fn preset(route: ModelRoute) -> KeySpec {
        Self::with_changes(route, Arc::default(), Arc::default())
    }

    /// Leaves more top-level members out of the key. Names are taken as they are: case counts,
    /// and a point is a point.
    ///
    /// A spec with changes has other keys than the preset, whatever the changes come to.
    /// Leaving out a member that the answer depends on makes wrong answers; whether the answer
    /// is a stream is keyed even so.
    #[must_use]
    pub fn ignoring(self, members: &[String]) -> KeySpec {
        let ignored = merged(&self.ignored, members);
        Self::with_changes(self.route, ignored, self.kept)
    }

    /// Keeps members in the key that the preset leaves out, by their name, wherever the preset
    /// leaves a member of that name out. A member both ignored and kept is kept.
    #[must_use]
    pub fn keeping(self, members: &[String]) -> KeySpec {
        let kept = merged(&self.kept, members);
        Self::with_changes(self.route, self.ignored, kept)
    }

    /// The route it is for.
    pub fn route(&self) -> ModelRoute {
        self.route
    }

    /// Its version, which is part of every key.
    pub fn version(&self) -> u16 {
        PRESET_VERSION
    }

    /// The header fields that are part of every key of its route, by their names in lower case.
    pub fn keyed_headers(&self) -> &'static [&'static str] {
        preset::keyed_headers(self.route.provider())
    }

    /// What the preset of its route leaves out, and why. Changes are not in it.
    pub fn left_out_by_preset(&self) -> impl Iterator<Item = LeftOut> {
        preset::left_out_of(self.route)
    }

    /// Reads a body: the digest of its canonical form, and what it says.
    ///
    /// A function of the spec and the body alone, so that a caller may remember the result.
    /// Time is linear in the body but for sorting; memory is bounded by
    /// [`VALUES_MAX`](crate::VALUES_MAX).
    ///
    /// # Errors
    /// When the body has no one meaning, or is beyond a bound. Such a request is forwarded
    /// and not cached.
    pub fn read(&self, body: &[u8]) -> Result<Meaning, NotKeyable> {
        let document = Document::scan(body)?;
        let mut sink = HashSink::new(body.len());
        canonical::put(document.root(), self.paths.root(), &mut sink);
        Ok(Meaning::of(self.route, document.object(), sink.finish()))
    }

    /// The canonical form itself, for tests and tools. [`Meaning::digest`] is the BLAKE3 hash
    /// of exactly these bytes. It holds the caller's content: never log or store it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn canonical(&self, body: &[u8]) -> Result<Vec<u8>, NotKeyable> {
        let document = Document::scan(body)?;
        let mut bytes = Vec::with_capacity(body.len());
        canonical::put(document.root(), self.paths.root(), &mut bytes);
        Ok(bytes)
    }

    /// The key of a request. `meaning` must be what this spec read from the request's body.
    pub fn key(&self, request: &KeyedRequest<'_>, meaning: &Meaning) -> Key {
        let identity = Identity {
            name: self.route.name(),
            version: self.version(),
            ignored: &self.ignored,
            kept: &self.kept,
            headers: self.keyed_headers(),
        };
        key::derive(&identity, request, &meaning.digest, meaning.stream)
    }

    fn with_changes(route: ModelRoute, ignored: Arc<[Box<str>]>, kept: Arc<[Box<str>]>) -> KeySpec {
        let is_kept = |name: &str| kept.iter().any(|kept| **kept == *name);
        let mut paths = Paths::default();
        for path in preset::schema_paths(route) {
            paths.add(path, Treatment::OrderKept);
        }
        for left_out in preset::left_out_of(route) {
            let name = left_out.path.rsplit('.').next().unwrap_or(left_out.path);
            if !is_kept(name) {
                paths.add(left_out.path, Treatment::LeftOut);
            }
        }
        for name in ignored.iter().filter(|name| !is_kept(name)) {
            paths.add_member(name, Treatment::LeftOut);
        }
        KeySpec { route, ignored, kept, paths: Arc::new(paths) }
    }
}

fn merged(known: &[Box<str>], more: &[String]) -> Arc<[Box<str>]> {
    let mut all: Vec<Box<str>> = known.to_vec();
    all.extend(more.iter().map(|name| name.as_str().into()));
    all.sort_unstable();
    all.dedup();
    all.into()
}
