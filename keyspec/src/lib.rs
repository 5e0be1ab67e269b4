//! A request's meaning, and the cache key that stands for it.
//!
//! Two requests that mean the same to an upstream should have one key, and two that do not must
//! never share one. Of the two the second matters more: a missed hit costs a call, a wrong hit
//! costs an answer. So everything is in the key unless a table says why not.
//!
//! The way from a request to its key:
//!
//! 1. The method and path name a [`ModelRoute`]. Other requests have no meaning to us and are
//!    cached by the rules of HTTP, elsewhere.
//! 2. The route's [`KeySpec`] reads the body: one strict scan, then the canonical form (RFC
//!    8785, but exact numbers and the order of schemas are kept) without the members that the
//!    spec leaves out, straight into a hash. The result is a [`Meaning`]: the digest, and the
//!    few [`BodyFacts`] that later decisions need, which the scan alone tells ([`OpenBody`]). A body
//!    without one meaning is [`NotKeyable`].
//! 3. The caller's [`Credentials`] become a [`TenantScope`], by a table of the server's or by
//!    themselves.
//! 4. The spec makes the [`Key`] from all of these and the upstream, method, path, selected
//!    query and selected headers.
//! 5. [`KeySpec::reusable`] decides from the facts, the config's [`ReusePolicy`] and the caller's
//!    declaration whether an answer may be given again, and says what would change it.
//!
//! Everything here is a pure function: no input or output, no clock, no global state. Bodies are
//! hostile until scanned: every bound is a constant of this crate, and beyond it a request is
//! not keyable. Nothing here prints a secret, and a piece of a body is shown, shortened, by
//! nothing but what is for that: [`KeySpec::explain`] tells why a request has its key,
//! [`KeySpec::diff`] what tells two requests apart, and [`near_miss`] how far they are apart.

mod canonical;
mod deciding;
mod declared;
mod diff;
mod digests;
mod explain;
mod form;
mod json;
mod key;
mod looks;
mod mcp;
mod meaning;
mod near;
mod never;
mod not_keyable;
mod number;
mod paths;
mod pattern;
mod preset;
mod query;
mod reuse;
mod route;
mod secret;
mod select;
mod shapes;
mod shown;
mod sink;
mod spec;
mod specs;
mod tenant;
mod text;
mod trail;

pub use declared::{DeclaredSpec, Ignored, Reason, SPECS_MAX, SpecError, SpecFile};
pub use diff::{
    DIFFERENCES_MAX, Difference, How, Joined, Part, Refused, Separating, Side, Span, Verdict, Why,
};
pub use explain::{Explanation, Field, LINES_MAX, Line, Place, Refusal, Reuse, Treatment};
pub use form::FORM_ENTRIES_MAX;
pub use json::{BODY_BYTES_MAX, DEPTH_MAX, VALUES_MAX};
pub use key::{InvalidKey, Key, KeyedRequest};
pub use looks::Look;
pub use meaning::{BodyFacts, MODEL_BYTES_MAX, Meaning, OpenBody};
pub use near::{Distance, NearMiss, near_miss};
pub use never::NeverReason;
pub use not_keyable::NotKeyable;
pub use preset::LeftOut;
pub use query::percent_decoded;
pub use reuse::{Because, InvalidReusePolicy, NotReused, ReusePolicy};
pub use route::{Kind, ModelRoute, Provider, Route, RouteMatch};
pub use secret::is_secret_name;
pub use shapes::Known;
pub use spec::{BodyForm, KeySpec, PRESET_VERSION};
pub use specs::{Found, KeySpecs, Overlap};
pub use tenant::{
    CredentialDigest, Credentials, InvalidCredentialDigest, TenantScope, is_credential,
};

/// The page for those who adopt the library alone: what it shows is run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

/// The version of how keys are made, part of every key. It grows when the preimage changes, and
/// entries under older keys are then no longer found.
pub const KEY_SCHEMA_VERSION: u16 = 1;
