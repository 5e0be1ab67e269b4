//! Trailers on their way to a caller: whether it takes them, and in which form they can be sent.

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TE, TRAILER};
use http::request::Parts;
use http::{Method, Version};
use http_body::Body as _;

use super::body::AnswerBody;
use crate::cache::entry::Entry;
use crate::upstream::trailers::announcement;

/// How a caller takes trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Not at all: an answer has its length, and no trailers.
    Nothing,
    /// Behind a body in chunks, and as its header announces them (HTTP/1.1).
    InChunks,
    /// Behind any body (HTTP/2).
    BehindAnyBody,
}

impl Takes {
    /// What a request says, with the fields that concern its connection. Over HTTP/1.1 it has to
    /// ask for trailers (RFC 9110 section 10.1.4).
    #[must_use]
    pub fn of(parts: &Parts) -> Takes {
        let asks = || {
            let lines = parts.headers.get_all(TE).iter().filter_map(|line| line.to_str().ok());
            let mut words = lines.flat_map(|line| line.split(',')).map(str::trim);
            words.any(|word| word.eq_ignore_ascii_case("trailers"))
        };
        match parts.version {
            _ if parts.method == Method::HEAD => Takes::Nothing,
            Version::HTTP_2 => Takes::BehindAnyBody,
            Version::HTTP_11 if asks() => Takes::InChunks,
            _ => Takes::Nothing,
        }
    }

    /// Makes the header of an answer fit what may follow its body: `Trailer` tells of what can come,
    /// and a length would keep HTTP/1.1 from sending it.
    pub fn fit(self, headers: &mut HeaderMap) {
        match self {
            Takes::Nothing => {
                headers.remove(TRAILER);
            }
            Takes::InChunks if headers.contains_key(TRAILER) => {
                headers.remove(CONTENT_LENGTH);
            }
            Takes::InChunks | Takes::BehindAnyBody => {}
        }
    }

    /// The body of an entry that has trailers, with those behind it, and the header that goes with
    /// them.
    #[must_use]
    pub fn behind(self, body: AnswerBody, entry: &Entry, headers: &mut HeaderMap) -> AnswerBody {
        if self == Takes::Nothing {
            return body;
        }
        headers.extend(announcement(&entry.trailers).map(|names| (TRAILER, names)));
        if self == Takes::BehindAnyBody {
            let length = body.size_hint().exact();
            headers.extend(length.map(|length| (CONTENT_LENGTH, HeaderValue::from(length))));
        }
        body.followed_by(entry.trailers.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn takes(method: &str, version: Version, te: &[&str]) -> Takes {
        let request = Request::builder().method(method).version(version);
        let request = te.iter().fold(request, |request, te| request.header(TE, *te));
        Takes::of(&request.body(()).unwrap().into_parts().0)
    }

    // RFC 9110 section 10.1.4.
    #[test]
    fn over_http1_trailers_have_to_be_asked_for() {
        let http1 = |te: &[&str]| takes("GET", Version::HTTP_11, te);
        for asks in [&["trailers"][..], &["gzip;q=0.5 ,Trailers"], &["gzip", "trailers"]] {
            assert_eq!(http1(asks), Takes::InChunks, "{asks:?}");
        }
        for other in [&[][..], &["gzip"], &["trailers;q=0"], &["x-trailers"], &[""]] {
            assert_eq!(http1(other), Takes::Nothing, "{other:?}");
        }
        assert_eq!(takes("GET", Version::HTTP_10, &["trailers"]), Takes::Nothing);
        assert_eq!(takes("GET", Version::HTTP_2, &[]), Takes::BehindAnyBody);
        for version in [Version::HTTP_11, Version::HTTP_2] {
            assert_eq!(takes("HEAD", version, &["trailers"]), Takes::Nothing);
        }
    }

    #[test]
    fn a_head_has_a_length_or_announces_what_comes_in_chunks() {
        let fitted = |takes: Takes, lines: &[(&'static str, &'static str)]| {
            let mut headers: HeaderMap = lines
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
                .collect();
            takes.fit(&mut headers);
            (headers.contains_key(CONTENT_LENGTH), headers.contains_key(TRAILER))
        };
        let both = [("content-length", "1"), ("trailer", "x")];
        assert_eq!(fitted(Takes::Nothing, &both), (true, false));
        assert_eq!(fitted(Takes::InChunks, &both), (false, true));
        assert_eq!(fitted(Takes::InChunks, &both[..1]), (true, false));
        assert_eq!(fitted(Takes::BehindAnyBody, &both), (true, true));
    }
}
