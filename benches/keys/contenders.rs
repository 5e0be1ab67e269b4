//! The contenders: three ways from a body to a digest.

use std::hint::black_box;

use serde::de::IgnoredAny;

use crate::bodies::Body;

/// One way from a body to a digest.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) digest: fn(&Body) -> [u8; 32],
}

/// What is measured first, then what it is compared with.
pub(crate) const CONTENDERS: [Contender; 3] = [
    Contender { name: "read", digest: read },
    Contender { name: "skip", digest: skip },
    Contender { name: "value", digest: value },
];

/// A spec reads the body: the canonical form, hashed.
fn read(body: &Body) -> [u8; 32] {
    body.spec.read(black_box(&body.bytes)).expect("the body is keyable").digest
}

/// The least that a cache could do: see that the body is JSON, and hash it as it is spelled.
fn skip(body: &Body) -> [u8; 32] {
    let bytes = black_box(&body.bytes);
    serde_json::from_slice::<IgnoredAny>(bytes).expect("the body is JSON");
    *blake3::hash(bytes).as_bytes()
}

/// The canonical form by way of a tree of values.
fn value(body: &Body) -> [u8; 32] {
    let value: serde_json::Value =
        serde_json::from_slice(black_box(&body.bytes)).expect("the body is JSON");
    let canonical = serde_json_canonicalizer::to_vec(&value).expect("the body is canonicalisable");
    *blake3::hash(&canonical).as_bytes()
}

/// Sees that the two canonical ways agree where the spec says nothing about the body.
pub(crate) fn check(body: &Body) {
    assert_eq!(
        read(body) == value(body),
        body.is_rfc8785,
        "{}: the canonical forms should agree just where the spec does not",
        body.name
    );
}
