//! `[trace]` as used: where traces go, which ones, and what the collector is sent besides.

use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{ConfigError, check_url, written};
use crate::telemetry::trace::TraceSettings;

/// Bytes of a headers file: more is no list of credentials.
const HEADERS_FILE_BYTES_MAX: u64 = 64 << 10;

/// Checks `[trace]`; nothing comes of it where no collector is named.
pub(super) fn check(trace: &written::Trace) -> Result<Option<TraceSettings>, ConfigError> {
    if !(0.0..=1.0).contains(&trace.sample) {
        return Err(ConfigError::new("trace.sample", trace.sample, "a share from 0 to 1"));
    }
    let headers = trace.headers_file.as_deref().map(read_headers).transpose()?;
    let Some(text) = &trace.endpoint else { return Ok(None) };
    let endpoint = check_url(text, &|_| "trace.endpoint".to_owned())?;
    if endpoint.path().trim_end_matches('/').ends_with("/v1/traces") {
        let allowed = "the URL without /v1/traces, which is added";
        return Err(ConfigError::new("trace.endpoint", endpoint, allowed));
    }
    Ok(Some(TraceSettings { endpoint, sample: trace.sample, headers: headers.unwrap_or_default() }))
}

fn read_headers(path: &Path) -> Result<HeaderMap, ConfigError> {
    let mistake = |allowed: &str| ConfigError::new("trace.headers_file", path.display(), allowed);
    let cannot = |error: std::io::Error| mistake(&format!("cannot be read: {error}"));
    if std::fs::metadata(path).map_err(cannot)?.len() > HEADERS_FILE_BYTES_MAX {
        return Err(mistake("at most 64 KiB"));
    }
    let text = std::fs::read_to_string(path).map_err(cannot)?;
    // The line is told by its number alone: it may hold a secret.
    parse_headers(&text)
        .map_err(|line| mistake(&format!("`Name: value` a line, unlike line {line}")))
}

/// One field a line; empty lines and those that begin with `#` say nothing. The error is the
/// number of the line that is no field, from 1.
fn parse_headers(text: &str) -> Result<HeaderMap, usize> {
    let mut headers = HeaderMap::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = parse_header(line).ok_or(index + 1)?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn parse_header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim().parse().ok()?;
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> written::Trace {
        written::Trace { endpoint: Some(url.into()), ..written::Trace::default() }
    }

    #[test]
    fn without_an_endpoint_traces_are_off() {
        assert!(check(&written::Trace::default()).unwrap().is_none());
        let settings = check(&endpoint("http://127.0.0.1:4318")).unwrap().unwrap();
        assert_eq!((settings.endpoint.port(), settings.sample), (Some(4318), 1.0));
    }

    #[test]
    fn an_endpoint_that_cannot_be_is_refused_without_repeating_a_password() {
        for url in ["localhost:4318", "grpc://x:4317", "http://x?key=1", "http://u:pw@x"] {
            let error = check(&endpoint(url)).unwrap_err();
            assert_eq!(error.field, "trace.endpoint", "{url}");
            assert!(!error.to_string().contains("pw"), "{error}");
        }
        let error = check(&endpoint("http://x/otlp/v1/traces")).unwrap_err();
        assert!(error.allowed.contains("which is added"), "{error}");
    }

    #[test]
    fn a_share_is_from_0_to_1() {
        for sample in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let trace = written::Trace { sample, ..written::Trace::default() };
            assert_eq!(check(&trace).unwrap_err().field, "trace.sample", "{sample}");
        }
        let whole: written::Trace = toml::from_str("sample = 1").unwrap();
        assert!(check(&whole).is_ok(), "a whole number is a share too");
    }

    #[test]
    fn a_headers_file_is_a_field_a_line() {
        let text = "# for the collector\n\nAuthorization: Bearer a:b=c\nX-Team:  search \n";
        let headers = parse_headers(text).unwrap();
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["authorization"], "Bearer a:b=c");
        assert_eq!(headers["x-team"], "search");
        assert!(!format!("{headers:?}").contains("Bearer"), "values must not be printed");
    }

    #[test]
    fn a_line_that_is_no_field_is_named_by_its_number_and_not_repeated() {
        for line in ["sk-secret", "Bad Name: sk-secret", "X-Ok: sk-secret\u{7f}", ": sk-secret"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("headers");
            std::fs::write(&path, format!("X-Ok: 1\n{line}\n")).unwrap();
            let trace = written::Trace { headers_file: Some(path), ..endpoint("http://x") };
            let error = check(&trace).unwrap_err().to_string();
            assert!(error.contains("line 2") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_headers_file_that_is_missing_or_too_large_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        let trace = || written::Trace { headers_file: Some(path.clone()), ..endpoint("http://x") };
        assert!(check(&trace()).unwrap_err().allowed.contains("cannot be read"));
        std::fs::write(&path, vec![b'\n'; 65 << 10]).unwrap();
        assert!(check(&trace()).unwrap_err().allowed.contains("64 KiB"));
    }
}
