//! Answers that are a part of a stored one: one part with its `Content-Range`, several as
//! `multipart/byteranges`, or none (RFC 9110 sections 14.4, 14.6 and 15.3.7). Nothing is copied but the
//! lines between parts.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::cache::freshness::range::{
    Wanted, content_range, content_range_of_nothing, part_header,
};
use crate::request::body::AnswerBody;

/// Bytes of an answer that a caller gets of it.
pub(super) fn bytes(wanted: &Wanted, body_bytes: u64) -> u64 {
    match wanted {
        Wanted::Whole => body_bytes,
        Wanted::Parts(parts) => parts.iter().map(|part| part.end - part.start).sum(),
        Wanted::Nothing => 0,
    }
}

/// The status and body of what is wanted of an entry, whose fields become those of the answer.
pub(super) fn cut(
    wanted: &Wanted,
    body: &Bytes,
    headers: &mut HeaderMap,
) -> (StatusCode, AnswerBody) {
    let body_bytes = body.len() as u64;
    match wanted {
        Wanted::Whole => (StatusCode::OK, AnswerBody::whole(body.clone())),
        Wanted::Nothing => {
            *headers = fields_of_nothing(headers);
            headers.insert(CONTENT_RANGE, content_range_of_nothing(body_bytes));
            (StatusCode::RANGE_NOT_SATISFIABLE, AnswerBody::none())
        }
        Wanted::Parts(parts) => {
            // They are of the content that is sent (RFC 9530 section 2), and that is another one.
            for of_content in ["content-digest", "content-md5"] {
                headers.remove(of_content);
            }
            let pieces = match &parts[..] {
                [part] => {
                    headers.insert(CONTENT_RANGE, content_range(part, body_bytes));
                    VecDeque::from([slice(body, part)])
                }
                parts => several(parts, body, headers),
            };
            (StatusCode::PARTIAL_CONTENT, AnswerBody::parts(pieces))
        }
    }
}

/// It is not the entry that is shown, and its lifetimes are not those of this answer: a cache in front
/// that keyed it by the URL alone would give it to all.
fn fields_of_nothing(headers: &HeaderMap) -> HeaderMap {
    let kept = headers.iter().filter(|(name, _)| [AGE, DATE, ETAG, VARY].contains(name));
    let mut fields: HeaderMap = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields
}

fn several(parts: &[Range<u64>], body: &Bytes, headers: &mut HeaderMap) -> VecDeque<Bytes> {
    // 128 random bits: no body has them in it.
    let boundary = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let mut pieces = VecDeque::with_capacity(2 * parts.len() + 1);
    for part in parts {
        let header = part_header(&boundary, headers, part, body.len() as u64);
        pieces.push_back(Bytes::from(header));
        pieces.push_back(slice(body, part));
    }
    pieces.push_back(Bytes::from(format!("\r\n--{boundary}--\r\n")));
    let media_type = format!("multipart/byteranges; boundary={boundary}");
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(&media_type).expect("made of hex digits"));
    pieces
}

fn slice(body: &Bytes, part: &Range<u64>) -> Bytes {
    let end = usize::try_from(part.end).map_or(body.len(), |end| end.min(body.len()));
    let start = usize::try_from(part.start).map_or(end, |start| start.min(end));
    body.slice(start..end)
}
