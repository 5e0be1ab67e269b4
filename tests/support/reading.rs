//! An answer that a test reads piece by piece.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{RequestBuilder, Response};

use crate::{Answer, PATIENCE};

/// An answer whose head has come. Dropping it hangs up.
#[derive(Debug)]
pub struct Reading {
    /// The head; its body is empty.
    pub head: Answer,
    response: Response,
    unread: BytesMut,
}

impl Reading {
    /// Sends the request and waits for the head of its answer.
    ///
    /// # Panics
    /// When none comes.
    pub async fn of(request: RequestBuilder) -> Reading {
        let response = within(request.send()).await.expect("an answer");
        let (version, status) = (response.version(), response.status());
        let headers = response.headers().clone();
        let head = Answer { version, status, headers, body: Bytes::new() };
        Reading { head, response, unread: BytesMut::new() }
    }

    /// Reads exactly these bytes, and no byte of what may follow is needed for it.
    ///
    /// # Panics
    /// When something else comes, or nothing.
    pub async fn expect(&mut self, bytes: &[u8]) {
        while self.unread.len() < bytes.len() {
            let piece = within(self.response.chunk()).await.expect("the body goes on");
            self.unread.extend_from_slice(&piece.expect("the body has not ended"));
        }
        let came = self.unread.split_to(bytes.len());
        assert_eq!(String::from_utf8_lossy(&came), String::from_utf8_lossy(bytes));
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// When the body is cut off.
    pub async fn rest(mut self) -> Result<Bytes, reqwest::Error> {
        while let Some(piece) = within(self.response.chunk()).await? {
            self.unread.extend_from_slice(&piece);
        }
        Ok(self.unread.freeze())
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    let patience: Duration = PATIENCE;
    tokio::time::timeout(patience, future).await.expect("it comes in time")
}
