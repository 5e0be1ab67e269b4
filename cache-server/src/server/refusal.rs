//! Turning a connection away before it has asked anything.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::request::body::AnswerBody;

/// How long one who is turned away may take to hear it.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is read of its request meanwhile.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Those who are told at once that they are turned away; further ones are just closed.
const FAREWELLS_MAX: usize = 64;

/// Turns connections away, so many at once that being told takes no room from those who may stay.
#[derive(Debug)]
pub(super) struct Farewells(Semaphore);

impl Default for Farewells {
    fn default() -> Farewells {
        Farewells(Semaphore::new(FAREWELLS_MAX))
    }
}

impl Farewells {
    /// Closes a connection, with an answer if there is room for that.
    pub(super) async fn turn_away(
        &self,
        stream: TcpStream,
        answer: impl FnOnce() -> Response<AnswerBody>,
    ) {
        if let Ok(_room) = self.0.try_acquire() {
            turn_away(stream, answer()).await;
        }
    }
}

/// Sends one answer of HTTP/1.1, whatever will be asked, and closes. The request that the caller
/// may have sent by now is read over: closing on unread bytes would take the answer back.
async fn turn_away(mut stream: TcpStream, answer: Response<AnswerBody>) {
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
    use crate::request::respond;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn one_more_than_can_be_told_at_once_is_closed_unheard() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let farewells = Farewells::default();
        let told: Vec<_> = (1..FAREWELLS_MAX).map(|_| farewells.0.try_acquire()).collect();
        for (answer, expected) in [(true, "HTTP/1.1 503"), (false, "")] {
            let _room = (!answer).then(|| farewells.0.try_acquire().unwrap());
            let mut caller = TcpStream::connect(address).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let heard = async {
                let mut heard = String::new();
                caller.read_to_string(&mut heard).await.unwrap();
                drop(caller);
                heard
            };
            let turned = farewells.turn_away(stream, respond::too_many_connections);
            let ((), heard) = tokio::join!(turned, heard);
            assert!(heard.starts_with(expected) && heard.is_empty() != answer, "{heard}");
        }
        drop(told);
    }

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
