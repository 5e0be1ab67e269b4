//! `traceparent`, read and written (W3C Trace Context section 3.2).

use http::{HeaderMap, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

use super::TRACEPARENT;

/// Length of a `traceparent` of version 00; later versions may append to it.
const LENGTH: usize = 55;

/// The caller's span, unless the field is missing, malformed or there twice. Its `tracestate` is
/// left aside: it passes on as it is, and spans do not repeat what a header says.
pub(super) fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    let mut fields = headers.get_all(TRACEPARENT).iter();
    match (fields.next(), fields.next()) {
        (Some(field), None) => parse(field.to_str().ok()?),
        _ => None,
    }
}

/// Stricter than the SDK's own propagator, which takes `00-1-1-1` for a trace.
fn parse(text: &str) -> Option<SpanContext> {
    let bytes = text.as_bytes();
    let is_plain = |(at, byte): (usize, &u8)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    let ends_well = match bytes.get(LENGTH) {
        None => bytes.len() == LENGTH,
        Some(next) => *next == b'-' && !text.starts_with("00"),
    };
    let well_formed = ends_well && bytes.iter().take(LENGTH).enumerate().all(is_plain);
    if !well_formed || text.starts_with("ff") {
        return None;
    }
    let trace = TraceId::from_hex(&text[3..35]).ok()?;
    let span = SpanId::from_hex(&text[36..52]).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(&text[53..55], 16).ok()?);
    let sampled = flags & TraceFlags::SAMPLED;
    let parent = SpanContext::new(trace, span, sampled, true, TraceState::NONE);
    parent.is_valid().then_some(parent)
}

/// The field that makes the upstream's span a child of this one.
pub(super) fn traceparent(span: &SpanContext) -> HeaderValue {
    let flags = span.trace_flags().to_u8();
    let text = format!("00-{:032x}-{:016x}-{flags:02x}", span.trace_id(), span.span_id());
    HeaderValue::from_str(&text).expect("made of hex digits and dashes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_traceparent_names_the_trace_the_parent_and_whether_it_is_sampled() {
        for (flags, sampled) in [("01", true), ("00", false), ("03", true), ("fe", false)] {
            let parent = parent(&headers(&[&format!("00-{TRACE}-{SPAN}-{flags}")])).unwrap();
            assert_eq!(parent.trace_id().to_string(), TRACE);
            assert_eq!(parent.span_id().to_string(), SPAN);
            assert_eq!(parent.is_sampled(), sampled, "flags {flags}");
            assert!(parent.is_remote());
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for tail in ["", "-what-comes-later", "-"] {
            let text = format!("cc-{TRACE}-{SPAN}-01{tail}");
            assert!(parent(&headers(&[&text])).is_some(), "{text}");
        }
        assert!(parent(&headers(&[&format!("cc-{TRACE}-{SPAN}-01.more")])).is_none());
    }

    #[test]
    fn a_malformed_traceparent_is_none() {
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            "00".into(),
            "00-1-1-1".into(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-011"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("+0-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{}é-01", &SPAN[..14]),
        ] {
            assert!(parse(&text).is_none(), "{text:?}");
        }
        let good = format!("00-{TRACE}-{SPAN}-01");
        assert!(parent(&headers(&[&good, &good])).is_none(), "two of them name no one parent");
        assert!(parent(&HeaderMap::new()).is_none());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = format!("00-{TRACE}-{SPAN}-01");
        let parent = parent(&headers(&[&text])).unwrap();
        assert_eq!(traceparent(&parent), text.as_str());
    }
}
