//! HTTP/1.1 messages on a connection, as they are: interim responses, trailers and cuts too, which
//! clients and servers at large hide.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// The longest header section that is read.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The longest content that is read.
const CONTENT_BYTES_MAX: u64 = 1024 * 1024;

/// A start line and its fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) start_line: String,
    pub(crate) fields: Fields,
}

/// Fields in their order, with names in lower case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

/// What follows a header section.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) text: String,
    pub(crate) trailers: Fields,
    /// Whether it ended as its framing says.
    pub(crate) is_whole: bool,
}

impl Fields {
    /// All values of a field, as one list.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self.all(name).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(of, _)| of == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a header section; nothing if the connection ends before one.
pub(crate) async fn read_head(
    stream: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Option<Head>> {
    let Some(start_line) = read_line(stream).await? else { return Ok(None) };
    Ok(Some(Head { start_line, fields: read_fields(stream).await? }))
}

async fn read_fields(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Fields> {
    let mut fields = Vec::new();
    let mut bytes = 0;
    loop {
        let line = read_line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(Fields(fields));
        }
        bytes += line.len();
        if bytes > HEAD_BYTES_MAX {
            return Err(io::Error::other("a header section without an end"));
        }
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

async fn read_line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let limit = HEAD_BYTES_MAX as u64;
    if stream.take(limit).read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// Reads what follows the header section. Without a length or chunks it ends with the connection
/// where `until_close`, and is empty elsewhere.
pub(crate) async fn read_content(
    stream: &mut (impl AsyncBufRead + Unpin),
    fields: &Fields,
    until_close: bool,
) -> Content {
    let is_chunked = fields.get("transfer-encoding").is_some_and(|value| value.contains("chunked"));
    if is_chunked {
        return read_chunks(stream).await;
    }
    let length = fields.all("content-length").next().and_then(|value| value.parse::<u64>().ok());
    let limit = match length {
        Some(length) => length.min(CONTENT_BYTES_MAX),
        None if until_close => CONTENT_BYTES_MAX,
        None => 0,
    };
    let mut bytes = Vec::new();
    let read = stream.take(limit).read_to_end(&mut bytes).await;
    let is_whole = read.is_ok() && length.is_none_or(|length| bytes.len() as u64 == length);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Content { text, is_whole, ..Content::default() }
}

async fn read_chunks(stream: &mut (impl AsyncBufRead + Unpin)) -> Content {
    let mut content = Content::default();
    // A cut leaves what came before it.
    content.is_whole = take_chunks(stream, &mut content).await.is_ok();
    content
}

async fn take_chunks(
    stream: &mut (impl AsyncBufRead + Unpin),
    content: &mut Content,
) -> io::Result<()> {
    loop {
        let line = read_line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        if size == 0 {
            content.trailers = read_fields(stream).await?;
            return Ok(());
        }
        let mut chunk = Vec::new();
        let read = stream.take(size.min(CONTENT_BYTES_MAX)).read_to_end(&mut chunk).await?;
        content.text.push_str(&String::from_utf8_lossy(&chunk));
        if (read as u64) < size || content.text.len() as u64 > CONTENT_BYTES_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read_line(stream).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let owned = lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Fields(owned.collect())
    }

    #[tokio::test]
    async fn a_header_section_is_read_with_names_in_lower_case() {
        let head = read_head(&mut &b"HTTP/1.1 200 OK\r\nEtag: \"a\"\r\nage:1\r\n\r\n"[..]).await;
        let head = head.unwrap().unwrap();
        assert_eq!(head.start_line, "HTTP/1.1 200 OK");
        assert_eq!(head.fields.get("etag").as_deref(), Some("\"a\""));
        assert_eq!(head.fields.get("age").as_deref(), Some("1"));
    }

    #[tokio::test]
    async fn a_connection_that_ends_has_no_header_and_a_cut_one_is_an_error() {
        assert!(read_head(&mut &b""[..]).await.unwrap().is_none());
        assert!(read_head(&mut &b"HTTP/1.1 200 OK\r\nage: "[..]).await.is_err());
    }

    #[tokio::test]
    async fn a_header_section_without_an_end_is_not_read_on_for_ever() {
        let endless = "a: b\r\n".repeat(HEAD_BYTES_MAX);
        assert!(read_fields(&mut endless.as_bytes()).await.is_err());
    }

    #[tokio::test]
    async fn content_is_whole_only_if_it_has_its_length() {
        let says_three = fields(&[("content-length", "3")]);
        let whole = read_content(&mut &b"abcd"[..], &says_three, false).await;
        assert!(whole.is_whole && whole.text == "abc");
        let cut = read_content(&mut &b"ab"[..], &says_three, false).await;
        assert!(!cut.is_whole && cut.text == "ab");
    }

    #[tokio::test]
    async fn chunks_are_whole_only_with_a_last_one_and_bring_trailers() {
        let chunked = fields(&[("transfer-encoding", "chunked")]);
        let whole = read_content(&mut &b"2\r\nab\r\n0\r\nx: 1\r\n\r\n"[..], &chunked, true).await;
        assert!(whole.is_whole && whole.text == "ab");
        assert_eq!(whole.trailers.get("x").as_deref(), Some("1"));
        let cut = read_content(&mut &b"2\r\nab\r\n"[..], &chunked, true).await;
        assert!(!cut.is_whole && cut.text == "ab");
    }
}
