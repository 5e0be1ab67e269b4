//! Recorded requests, one JSON object a line.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Read};

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest line, in bytes, without its line end. A longer one is skipped, as malformed.
pub(crate) const LINE_BYTES_MAX: usize = 64 << 20;

/// Header fields of one request, at most.
const HEADERS_MAX: usize = 256;

/// Fields about the connection that a request was recorded from, or about its framing (RFC 9110
/// section 7.6.1, RFC 9112 section 6): the connection that it is sent on now has its own.
const OF_THE_CONNECTION: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A request to send again.
#[derive(Debug)]
pub(crate) struct Record {
    /// Its line in the file, from 1.
    pub(crate) line: u64,
    pub(crate) method: Method,
    /// Path and query, beginning with `/`.
    pub(crate) path: String,
    /// Without the fields of the connection.
    pub(crate) headers: HeaderMap,
    /// As recorded, byte for byte; empty if there is none.
    pub(crate) body: String,
}

/// A line that holds no request. Says where the fault is and never what is there: a line may
/// hold credentials.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The line in the file, from 1.
    pub(crate) line: u64,
    pub(crate) why: String,
}

/// A line as written. Unknown members are refused: a misspelt `headers` would warm other keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'l> {
    method: String,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A string is the body itself; any other value is sent as its source text.
    #[serde(borrow)]
    body: Option<&'l RawValue>,
}

/// Reads `reader` line by line. Blank lines are skipped but counted.
///
/// Yields an error of the reader once and then ends.
pub(crate) fn read<R: BufRead>(
    mut reader: R,
) -> impl Iterator<Item = io::Result<Result<Record, Malformed>>> {
    let (mut number, mut is_broken) = (0, false);
    std::iter::from_fn(move || {
        while !is_broken {
            number += 1;
            match next_line(&mut reader, LINE_BYTES_MAX) {
                Ok(None) => return None,
                Ok(Some(Line::Whole(line))) if line.trim_ascii().is_empty() => {}
                Ok(Some(line)) => return Some(Ok(line.parse(number))),
                Err(error) => {
                    is_broken = true;
                    return Some(Err(error));
                }
            }
        }
        None
    })
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
}

impl Line {
    fn parse(self, number: u64) -> Result<Record, Malformed> {
        let malformed = |why: String| Malformed { line: number, why };
        match self {
            Line::TooLong => Err(malformed(format!("longer than {LINE_BYTES_MAX} bytes"))),
            Line::Whole(line) => {
                Record::parse(number, &line).map_err(|why| malformed(why.to_string()))
            }
        }
    }
}

/// The next line without its line end; `None` at the end. Holds at most `bytes_max` + 1 bytes.
fn next_line(reader: &mut impl BufRead, bytes_max: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
    } else if line.len() > bytes_max {
        reader.skip_until(b'\n')?;
        return Ok(Some(Line::TooLong));
    }
    Ok(Some(Line::Whole(line)))
}

/// What is wrong with a line.
enum Fault {
    Json(serde_json::Error),
    Method,
    Path,
    TooManyHeaders,
    Header(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The message of a `serde_json` error may quote the line, so only its place is told.
            Fault::Json(error) if error.is_data() => {
                write!(formatter, "not a recorded request (column {})", error.column())
            }
            Fault::Json(error) => write!(formatter, "not JSON (column {})", error.column()),
            Fault::Method => write!(formatter, "`method` is no HTTP method"),
            Fault::Path => write!(formatter, "`path` must begin with /"),
            Fault::TooManyHeaders => write!(formatter, "more than {HEADERS_MAX} `headers`"),
            Fault::Header(name) => write!(formatter, "header {name:?} is no valid field"),
        }
    }
}

impl Record {
    fn parse(line: u64, text: &[u8]) -> Result<Record, Fault> {
        let written: Written<'_> = serde_json::from_slice(text).map_err(Fault::Json)?;
        if !written.path.starts_with('/') {
            return Err(Fault::Path);
        }
        let method = written.method.parse().map_err(|_| Fault::Method)?;
        let mut headers = fields(&written.headers)?;
        let body = written.body.map_or(Ok(String::new()), |body| {
            let source = body.get();
            if source.starts_with('"') {
                return serde_json::from_str(source).map_err(Fault::Json);
            }
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            Ok(source.to_owned())
        })?;
        Ok(Record { line, method, path: written.path, headers, body })
    }
}

fn fields(written: &BTreeMap<String, String>) -> Result<HeaderMap, Fault> {
    if written.len() > HEADERS_MAX {
        return Err(Fault::TooManyHeaders);
    }
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let invalid = || Fault::Header(name.chars().take(64).collect());
        let field = HeaderName::try_from(name).map_err(|_| invalid())?;
        let value = HeaderValue::try_from(value).map_err(|_| invalid())?;
        if !OF_THE_CONNECTION.contains(&field.as_str()) {
            headers.append(field, value);
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Record, String> {
        Record::parse(1, line.as_bytes()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_json_body_is_its_source_text_byte_for_byte() {
        let body = r#"{ "b": 1.50,  "a": [1e2, "\u00e9"], "b": 12345678901234567890123 }"#;
        let line = format!(r#"{{"method":"POST","path":"/v1/x","headers":{{}},"body":{body}}}"#);
        let record = parse(&line).unwrap();
        assert_eq!(record.body, body);
        assert_eq!(record.headers[CONTENT_TYPE], "application/json");
    }

    #[test]
    fn a_string_body_is_what_the_string_says() {
        let record = parse(r#"{"method":"PUT","path":"/","body":"a\nb \u00e9"}"#).unwrap();
        assert_eq!(record.body, "a\nb é");
        assert!(record.headers.is_empty());
    }

    #[test]
    fn headers_and_body_may_be_missing() {
        let record = parse(r#"{"method":"GET","path":"/v1/models?x=1","body":null}"#).unwrap();
        assert_eq!((record.method, record.path.as_str()), (Method::GET, "/v1/models?x=1"));
        assert_eq!(record.body, "");
    }

    #[test]
    fn fields_of_the_recorded_connection_are_left_out() {
        let line = r#"{"method":"POST","path":"/","headers":
            {"Host":"api","Content-Length":"7","connection":"close","X-A":"1"},"body":{}}"#;
        let record = parse(line).unwrap();
        assert_eq!(record.headers.len(), 2);
        assert_eq!(record.headers["x-a"], "1");
    }

    #[test]
    fn what_is_no_request_is_refused_without_quoting_it() {
        let cases = [
            ("{", "not JSON (column 1)"),
            ("[]", "not a recorded request"),
            (r#"{"method":"GET"}"#, "not a recorded request"),
            (r#"{"method":"GET","path":"/","header":{}}"#, "not a recorded request"),
            (r#"{"method":"GET","path":"/","headers":"secret"}"#, "not a recorded request"),
            (r#"{"method":"G T","path":"/"}"#, "`method` is no HTTP method"),
            (r#"{"method":"GET","path":"http://x/"}"#, "`path` must begin with /"),
            (r#"{"method":"GET","path":"/","headers":{"a b":"secret"}}"#, r#"header "a b""#),
            (r#"{"method":"GET","path":"/","headers":{"a":"secret\n"}}"#, r#"header "a""#),
        ];
        for (line, why) in cases {
            let said = parse(line).unwrap_err();
            assert!(said.starts_with(why) && !said.contains("secret"), "{line}: {said}");
        }
    }

    #[test]
    fn more_headers_than_the_bound_are_refused() {
        let line = |count: usize| {
            let headers: BTreeMap<_, _> = (0..count).map(|n| (format!("x-{n}"), "1")).collect();
            serde_json::json!({"method": "GET", "path": "/", "headers": headers}).to_string()
        };
        assert_eq!(parse(&line(HEADERS_MAX)).unwrap().headers.len(), HEADERS_MAX);
        assert!(parse(&line(HEADERS_MAX + 1)).is_err());
    }

    #[test]
    fn lines_are_numbered_and_blank_ones_skipped() {
        let good = r#"{"method":"GET","path":"/"}"#;
        let file = format!("{good}\r\n\n  \nbad\n{good}");
        let lines: Vec<_> = read(file.as_bytes())
            .map(|line| line.unwrap().map(|record| record.line).map_err(|bad| bad.line))
            .collect();
        assert_eq!(lines, [Ok(1), Err(4), Ok(5)]);
    }

    #[test]
    fn a_line_above_the_bound_is_skipped_and_the_next_one_read() {
        let mut file = &b"12345\n123456\n1234567890123\n1\n12345"[..];
        let mut read = || match next_line(&mut file, 5).unwrap() {
            Some(Line::Whole(line)) => Some(line.len()),
            Some(Line::TooLong) => Some(usize::MAX),
            None => None,
        };
        let lengths: Vec<_> = std::iter::from_fn(&mut read).collect();
        assert_eq!(lengths, [5, usize::MAX, usize::MAX, 1, 5]);
    }

    #[test]
    fn a_line_at_the_bound_before_the_end_of_the_file_is_whole() {
        let mut file = &b"123456"[..];
        assert!(matches!(next_line(&mut file, 6).unwrap(), Some(Line::Whole(_))));
        assert!(next_line(&mut file, 6).unwrap().is_none());
        let mut file = &b"1234567"[..];
        assert!(matches!(next_line(&mut file, 6).unwrap(), Some(Line::TooLong)));
        assert!(next_line(&mut file, 6).unwrap().is_none());
    }

    #[test]
    fn a_reader_that_fails_is_told_once() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let lines: Vec<_> = read(io::BufReader::new(Broken)).collect();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].is_err());
    }
}
