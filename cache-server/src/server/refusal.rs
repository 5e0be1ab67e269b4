//! Turning a connection away before it has asked anything.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::request::body::AnswerBody;

/// How long one who is turned away may take to hear it.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is read of its request meanwhile.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Sends one answer of HTTP/1.1, whatever will be asked, and closes. The request that the caller
/// may have sent by now is read over: closing on unread bytes would take the answer back.
pub(super) async fn turn_away(mut stream: TcpStream, answer: Response<AnswerBody>) {
    let bytes = as_http1(answer).await;
    let farewell = async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await?;
        let mut left = REQUEST_BYTES_MAX;
        let mut buffer = [0; 4096];
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// An answer with a whole body as it goes over the wire.
async fn as_http1(answer: Response<AnswerBody>) -> Bytes {
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut head = format!("HTTP/1.1 {}\r\nconnection: close\r\n", parts.status);
    for (name, value) in &parts.headers {
        let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    let _ = write!(head, "content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), &body].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_written_as_http1_has_it() {
        let answer = Response::builder()
            .status(503)
            .header("retry-after", "1")
            .body(AnswerBody::whole(Bytes::from_static(b"{}")))
            .unwrap();
        assert_eq!(
            as_http1(answer).await,
            "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
             content-length: 2\r\n\r\n{}"
        );
    }
}
