//! The caller: asks a cache on a connection of its own, and takes down all that comes back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::message::{Content, Head, read_content, read_head};
use crate::rule::Ask;
use crate::upstream::written;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(6);

/// What came back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// The statuses of interim responses.
    pub(crate) interim: Vec<u16>,
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) content: Content,
}

/// Asks.
///
/// # Errors
/// Why there is no answer.
pub(crate) async fn ask(cache: SocketAddr, folder: &str, ask: &Ask) -> Result<Answer, String> {
    match tokio::time::timeout(PATIENCE, exchange(cache, folder, ask)).await {
        Ok(answer) => answer.map_err(|error| format!("no answer: {error}")),
        Err(_elapsed) => Err(format!("no answer in {PATIENCE:?}")),
    }
}

async fn exchange(cache: SocketAddr, folder: &str, ask: &Ask) -> io::Result<Answer> {
    let stream = TcpStream::connect(cache).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(request(cache, folder, ask).as_bytes()).await?;
    let mut interim = Vec::new();
    loop {
        let head = read_head(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = status_of(&head).ok_or(io::ErrorKind::InvalidData)?;
        if status < 200 {
            interim.push(status);
            continue;
        }
        let content = if ask.method == "HEAD" || matches!(status, 204 | 304) {
            Content { is_whole: true, ..Content::default() }
        } else {
            read_content(&mut stream, &head.fields, true).await
        };
        return Ok(Answer { interim, status, head, content });
    }
}

fn request(cache: SocketAddr, folder: &str, ask: &Ask) -> String {
    let Ask { method, target, .. } = ask;
    let mut text = format!("{method} /{folder}/{target} HTTP/1.1\r\nhost: {cache}\r\n");
    for field in &ask.fields {
        text.push_str(&format!("{}: {}\r\n", field.name, written(&field.value, folder)));
    }
    if let Some(content) = ask.content {
        text.push_str(&format!("content-length: {}\r\n", content.len()));
    }
    // So that whatever has no length ends with the connection.
    text.push_str("connection: close\r\n\r\n");
    text + ask.content.unwrap_or_default()
}

fn status_of(head: &Head) -> Option<u16> {
    head.start_line.split(' ').nth(1)?.parse().ok()
}
