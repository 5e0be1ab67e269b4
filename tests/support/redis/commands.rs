//! What a test says to Redis, and what Redis says back: RESP over one connection.

use std::future::Future;
use std::pin::Pin;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::PATIENCE;

/// An answer of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// There is nothing.
    Nil,
    /// A line, such as `OK`.
    Line(String),
    /// An error.
    Error(String),
    /// A number.
    Number(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Several.
    List(Vec<Said>),
}

impl Said {
    /// It as text.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Said::Line(text) | Said::Error(text) => text.clone(),
            Said::Number(number) => number.to_string(),
            Said::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Said::Nil | Said::List(_) => panic!("no text: {self:?}"),
        }
    }

    /// It as a number.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn number(&self) -> i64 {
        self.text().parse().unwrap_or_else(|_| panic!("no number: {self:?}"))
    }

    /// The bytes of a value.
    ///
    /// # Panics
    /// When there is no value.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Said::Bytes(bytes) => bytes,
            other => panic!("no value: {other:?}"),
        }
    }

    /// Its members.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn list(self) -> Vec<Said> {
        match self {
            Said::List(list) => list,
            other => panic!("no list: {other:?}"),
        }
    }
}

/// A connection to one Redis.
#[derive(Debug)]
pub struct Commands {
    stream: BufReader<TcpStream>,
}

impl Commands {
    /// Opens one; nothing if there is nobody.
    pub async fn open(port: u16) -> Option<Commands> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let _ = stream.set_nodelay(true);
        Some(Commands { stream: BufReader::new(stream) })
    }

    /// Sends a command and takes its answer; nothing if the connection ends, or nobody answers.
    pub async fn call<T: AsRef<[u8]>>(&mut self, words: &[T]) -> Option<Said> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        let answered = async {
            self.stream.write_all(&bytes).await.ok()?;
            self.answer().await
        };
        tokio::time::timeout(PATIENCE, answered).await.ok()?
    }

    fn answer(&mut self) -> Pin<Box<dyn Future<Output = Option<Said>> + Send + '_>> {
        Box::pin(async move {
            let mut line = String::new();
            self.stream.read_line(&mut line).await.ok()?;
            let (kind, rest) = line.trim_end().split_at_checked(1)?;
            Some(match (kind, rest) {
                ("$" | "*", "-1") => Said::Nil,
                ("+", _) => Said::Line(rest.to_owned()),
                ("-", _) => Said::Error(rest.to_owned()),
                (":", _) => Said::Number(rest.parse().ok()?),
                ("$", _) => {
                    let mut bytes = vec![0; rest.parse::<usize>().ok()? + 2];
                    self.stream.read_exact(&mut bytes).await.ok()?;
                    bytes.truncate(bytes.len() - 2);
                    Said::Bytes(bytes)
                }
                ("*", _) => {
                    let mut list = Vec::new();
                    for _ in 0..rest.parse::<usize>().ok()? {
                        list.push(self.answer().await?);
                    }
                    Said::List(list)
                }
                _ => return None,
            })
        })
    }
}
