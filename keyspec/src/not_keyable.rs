//! Why a body has no key.

use crate::json::{BODY_BYTES_MAX, DEPTH_MAX, VALUES_MAX};

/// Why a body has no key. The request is forwarded all the same.
///
/// Messages say where, as a byte offset into the body, and never what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKeyable {
    /// There is nothing but white space.
    #[error("the body is empty")]
    EmptyBody,
    /// The body is longer than [`BODY_BYTES_MAX`].
    #[error("the body is longer than {BODY_BYTES_MAX} bytes")]
    TooLong,
    /// The body begins with a UTF-8 byte order mark (RFC 8259, section 8.1).
    #[error("the body begins with a byte order mark")]
    ByteOrderMark,
    /// The body is not UTF-8.
    #[error("invalid UTF-8 at byte {at}")]
    InvalidUtf8 {
        /// Offset of the first invalid byte.
        at: usize,
    },
    /// The body is not JSON by RFC 8259.
    #[error("malformed JSON at byte {at}")]
    Malformed {
        /// Offset of the first byte that cannot be.
        at: usize,
    },
    /// Something follows the value.
    #[error("bytes after the JSON value, at byte {at}")]
    TrailingBytes {
        /// Offset of the first of them.
        at: usize,
    },
    /// Two members of one object have one name, compared unescaped.
    #[error("a member's name is repeated at byte {at}")]
    DuplicateMember {
        /// Offset of the later name.
        at: usize,
    },
    /// A `\u` escape is half of a surrogate pair.
    #[error("half of a surrogate pair at byte {at}")]
    LoneSurrogate {
        /// Offset of the backslash.
        at: usize,
    },
    /// A number is longer than 1024 bytes, or its exponent is beyond ±9999.
    #[error("a number out of range at byte {at}")]
    NumberOutOfRange {
        /// Offset of the number.
        at: usize,
    },
    /// Nesting is deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX} at byte {at}")]
    TooDeep {
        /// Offset of the bracket that is one too many.
        at: usize,
    },
    /// There are more values than [`VALUES_MAX`].
    #[error("more than {VALUES_MAX} values at byte {at}")]
    TooManyValues {
        /// Offset of the value that is one too many.
        at: usize,
    },
    /// The top level is JSON, but not an object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// A form or a multipart body is not what its media type says.
    #[error("malformed form at byte {at}")]
    MalformedForm {
        /// Offset of what cannot be.
        at: usize,
    },
    /// The media type of a multipart body names no boundary.
    #[error("the media type names no boundary")]
    NoBoundary,
    /// The body is of a media type that the spec does not read.
    #[error("the body is not of the media type that the spec reads")]
    OtherMediaType,
    /// There is a body where the spec has none.
    #[error("there is a body, and requests of this kind have none")]
    UnexpectedBody,
}

impl NotKeyable {
    /// A short stable token for headers and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::EmptyBody => "empty-body",
            Self::TooLong => "body-too-long",
            Self::ByteOrderMark => "byte-order-mark",
            Self::InvalidUtf8 { .. } => "invalid-utf8",
            Self::Malformed { .. } => "malformed-json",
            Self::TrailingBytes { .. } => "trailing-bytes",
            Self::DuplicateMember { .. } => "duplicate-member",
            Self::LoneSurrogate { .. } => "lone-surrogate",
            Self::NumberOutOfRange { .. } => "number-out-of-range",
            Self::TooDeep { .. } => "too-deep",
            Self::TooManyValues { .. } => "too-many-values",
            Self::NotAnObject => "not-an-object",
            Self::MalformedForm { .. } => "malformed-form",
            Self::NoBoundary => "no-boundary",
            Self::OtherMediaType => "other-media-type",
            Self::UnexpectedBody => "unexpected-body",
        }
    }
}
