//! Bodies that are no JSON: forms, parts and plain bytes, each in a canonical form of its own.
//!
//! - **form** (`application/x-www-form-urlencoded`): the pairs sorted by name, pairs of one name
//!   in their order, each component percent-encoded one way, joined by `&`.
//! - **multipart** (`multipart/form-data`, RFC 7578): a line for each part, sorted by name, parts
//!   of one name in their order: name, file name, media type, length and BLAKE3 digest of the
//!   content. The boundary does not count.
//! - **raw**: the media type, the length and the digest of the bytes.
//!
//! The forms are for hashing, and hold no content beyond forms' short values.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::HeaderName;

use crate::not_keyable::NotKeyable;
use crate::query::percent_decoded;
use crate::select::{Omitted, Selection};

/// Most pairs or parts of one body.
pub const FORM_ENTRIES_MAX: usize = 10_000;

/// One `name=value` of a form, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field<'b> {
    pub(crate) name: Cow<'b, [u8]>,
    pub(crate) value: Cow<'b, [u8]>,
}

/// The pairs of a form, sorted.
///
/// # Errors
/// When it is not UTF-8, an escape is malformed, or there are too many.
pub(crate) fn fields(body: &[u8]) -> Result<Vec<Field<'_>>, NotKeyable> {
    let text = text(body)?;
    let mut fields = Vec::new();
    let mut at = 0;
    for piece in text.split('&') {
        if !piece.is_empty() {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let decoded = |written| decoded(written).ok_or(NotKeyable::MalformedForm { at });
            fields.push(Field { name: decoded(name)?, value: decoded(value)? });
        }
        if fields.len() > FORM_ENTRIES_MAX {
            return Err(NotKeyable::TooManyValues { at });
        }
        at += piece.len() + 1;
    }
    fields.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(fields)
}

/// In a form a plus is a space (WHATWG URL, section 5.1).
fn decoded(written: &str) -> Option<Cow<'_, [u8]>> {
    if !written.contains('+') {
        return percent_decoded(written);
    }
    let spaced = written.replace('+', " ");
    percent_decoded(&spaced).map(|bytes| Cow::Owned(bytes.into_owned()))
}

/// The canonical form of a form's pairs, without those that do not count.
pub(crate) fn put_fields(fields: &[Field<'_>], selection: &Selection) -> Vec<u8> {
    let mut out = String::new();
    for (field, omitted) in judged_fields(fields, selection) {
        if omitted.is_some() {
            continue;
        }
        if !out.is_empty() {
            out.push('&');
        }
        put_encoded(&field.name, &mut out);
        out.push('=');
        put_encoded(&field.value, &mut out);
    }
    out.into_bytes()
}

/// Sorted fields, each with why it does not count, if it does not.
pub(crate) fn judged_fields<'f, 'b>(
    fields: &'f [Field<'b>],
    selection: &'f Selection,
) -> impl Iterator<Item = (&'f Field<'b>, Option<Omitted<'f>>)> {
    fields.chunk_by(|one, other| one.name == other.name).flat_map(move |same_name| {
        let is_single = same_name.len() == 1;
        let judge = move |field: &'f Field<'b>| {
            (field, selection.omitted(&field.name, &field.value, is_single))
        };
        same_name.iter().map(judge)
    })
}

/// Percent-encodes all but what RFC 3986, section 2.3, calls unreserved.
fn put_encoded(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// One part of a multipart body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part<'b> {
    pub(crate) name: String,
    pub(crate) file_name: Option<String>,
    /// In lower case; `text/plain` where it is not said (RFC 7578, section 4.4).
    pub(crate) media_type: String,
    pub(crate) content: &'b [u8],
}

impl Part<'_> {
    /// Whether it is a field of a form and no file: what a default can be the text of.
    pub(crate) fn is_plain(&self) -> bool {
        self.file_name.is_none() && self.media_type == "text/plain"
    }
}

/// The parts of a multipart body, sorted by name. What stands before the first boundary and after
/// the last must be empty: parsers differ on the rest.
///
/// # Errors
/// When the boundary is missing from the media type or the body is not what RFC 7578 says.
pub(crate) fn parts<'b>(content_type: &str, body: &'b [u8]) -> Result<Vec<Part<'b>>, NotKeyable> {
    let mut parts = parts_in_order(content_type, body)?;
    parts.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(parts)
}

/// What stands between the parts.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    parameter(content_type, "boundary")
}

/// The parts as they stand in the body.
///
/// # Errors
/// As [`parts`].
pub(crate) fn parts_in_order<'b>(
    content_type: &str,
    body: &'b [u8],
) -> Result<Vec<Part<'b>>, NotKeyable> {
    let boundary = boundary(content_type).ok_or(NotKeyable::NoBoundary)?;
    // RFC 2046, section 5.1.1: 1 to 70 characters.
    if boundary.is_empty() || boundary.len() > 70 {
        return Err(NotKeyable::NoBoundary);
    }
    let delimiter = format!("\r\n--{boundary}");
    let malformed = |rest: &[u8]| NotKeyable::MalformedForm { at: body.len() - rest.len() };
    let mut rest = body.strip_prefix(&delimiter.as_bytes()[2..]).ok_or(malformed(body))?;
    let mut parts = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix(b"--") {
            let is_end = matches!(end, b"" | b"\r\n");
            return if is_end { Ok(parts) } else { Err(malformed(end)) };
        }
        rest = rest.strip_prefix(b"\r\n").ok_or(malformed(rest))?;
        let length = memchr::memmem::find(rest, delimiter.as_bytes()).ok_or(malformed(rest))?;
        parts.push(part(&rest[..length]).ok_or(malformed(rest))?);
        if parts.len() > FORM_ENTRIES_MAX {
            return Err(NotKeyable::TooManyValues { at: body.len() - rest.len() });
        }
        rest = &rest[length + delimiter.len()..];
    }
}

fn part(bytes: &[u8]) -> Option<Part<'_>> {
    let head_end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..head_end]).ok()?;
    let (mut disposition, mut media_type) = (None, None);
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':')?;
        let value = value.trim_matches([' ', '\t']);
        // A line that goes on with the one before is no field either.
        let field = match HeaderName::from_bytes(name.as_bytes()).ok()?.as_str() {
            "content-disposition" => &mut disposition,
            "content-type" => &mut media_type,
            // A coding would make the content another one.
            "content-transfer-encoding" => return None,
            // To be ignored (RFC 7578, section 4.8).
            _ => continue,
        };
        if field.replace(value).is_some() {
            return None;
        }
    }
    let (name, file_name) = names(disposition?)?;
    let media_type = media_type.map_or("text/plain".into(), normal_media_type);
    Some(Part { name, file_name, media_type, content: &bytes[head_end + 4..] })
}

/// The name and the file name of a disposition. Servers differ on what a repeated parameter or
/// `filename*` means (RFC 7578, section 4.2, forbids it), so that there may be no others.
fn names(disposition: &str) -> Option<(String, Option<String>)> {
    let (kind, _) = disposition.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let (mut name, mut file_name) = (None, None);
    for (parameter, value) in parameters(disposition)? {
        let known = match parameter.as_str() {
            "name" => &mut name,
            "filename" => &mut file_name,
            _ => return None,
        };
        if known.replace(value).is_some() {
            return None;
        }
    }
    Some((name?, file_name))
}

/// The canonical form of parts, without those that do not count.
pub(crate) fn put_parts(parts: &[Part<'_>], selection: &Selection) -> Vec<u8> {
    let mut out = String::new();
    for (part, omitted) in judged_parts(parts, selection) {
        if omitted.is_none() {
            put_part(part, &mut out);
        }
    }
    out.into_bytes()
}

/// Sorted parts, each with why it does not count, if it does not.
pub(crate) fn judged_parts<'p, 'b>(
    parts: &'p [Part<'b>],
    selection: &'p Selection,
) -> impl Iterator<Item = (&'p Part<'b>, Option<Omitted<'p>>)> {
    parts.chunk_by(|one, other| one.name == other.name).flat_map(move |same_name| {
        let is_single = same_name.len() == 1;
        let judge = move |part: &'p Part<'b>| {
            let may_be_default = is_single && part.is_plain();
            (part, selection.omitted(part.name.as_bytes(), part.content, may_be_default))
        };
        same_name.iter().map(judge)
    })
}

fn put_part(part: &Part<'_>, out: &mut String) {
    out.push_str("name=");
    put_encoded(part.name.as_bytes(), out);
    if let Some(file_name) = &part.file_name {
        out.push_str(" filename=");
        put_encoded(file_name.as_bytes(), out);
    }
    out.push(' ');
    put_content(&part.media_type, part.content, out);
    out.push('\n');
}

/// The canonical form of plain bytes.
pub(crate) fn put_raw(content_type: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    put_content(&content_type.map(normal_media_type).unwrap_or_default(), body, &mut out);
    out.into_bytes()
}

fn put_content(media_type: &str, content: &[u8], out: &mut String) {
    out.push_str("type=");
    put_encoded(media_type.as_bytes(), out);
    let _ = write!(out, " bytes={} blake3={}", content.len(), blake3::hash(content).to_hex());
}

/// Type and subtype in lower case, and parameters as they are but for white space around them.
pub(crate) fn normal_media_type(written: &str) -> String {
    // White space between quotation marks is no white space around a parameter.
    if written.contains('"') {
        return written.trim().to_owned();
    }
    let mut pieces = written.split(';').map(str::trim);
    let mut normal = pieces.next().unwrap_or_default().to_ascii_lowercase();
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        normal.push(';');
        normal.push_str(piece);
    }
    normal
}

/// Type and subtype of a media type, in lower case.
pub(crate) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a media type names no charset but UTF-8. In another the same bytes are other text, for
/// servers that look at it.
pub(crate) fn is_utf8(content_type: &str) -> bool {
    let is_fine =
        |(name, value): &(String, String)| name != "charset" || value.eq_ignore_ascii_case("utf-8");
    parameters(content_type).is_some_and(|parameters| parameters.iter().all(is_fine))
}

/// Whether a media type has parameters beside those that forms and JSON have. One that cannot be
/// read has none.
pub(crate) fn has_unknown_parameters(content_type: &str) -> bool {
    let is_unknown = |(name, _): &(String, String)| name != "charset" && name != "boundary";
    parameters(content_type).is_some_and(|parameters| parameters.iter().any(is_unknown))
}

/// The one parameter of a field that has this name.
fn parameter(field: &str, wanted: &str) -> Option<String> {
    let mut all = parameters(field)?.into_iter().filter(|(name, _)| name == wanted);
    let (_, value) = all.next()?;
    all.next().is_none().then_some(value)
}

/// The parameters of a field: names in lower case, and values, their quotes undone (RFC 9110,
/// section 5.6.6).
fn parameters(field: &str) -> Option<Vec<(String, String)>> {
    let mut all = Vec::new();
    let mut rest = field.split_once(';').map_or("", |(_, rest)| rest).trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after)?;
        all.push((name.trim().to_ascii_lowercase(), value));
        let after = after.trim_start();
        rest = match after.strip_prefix(';') {
            Some(more) => more.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(all)
}

fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return Some((text[..end].trim().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => match characters.next()?.1 {
                escaped @ ('"' | '\\') => value.push(escaped),
                // Some take this backslash for itself, as in a path of Windows.
                _ => return None,
            },
            other => value.push(other),
        }
    }
    None
}

fn text(body: &[u8]) -> Result<&str, NotKeyable> {
    std::str::from_utf8(body).map_err(|error| NotKeyable::InvalidUtf8 { at: error.valid_up_to() })
}
