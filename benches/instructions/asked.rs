//! The requests, and the caller who asks them one after the other on one connection.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{Method, Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::exchange::{Answers, PAGES};
use crate::shared::exchange::{NUMBER_SLOT, Question, question_body};
use crate::shared::wire;
use crate::subject::Subject;

/// Different prompts, in turn: where one of them lies in a table is luck.
pub(crate) const PROMPTS: u64 = 16;
/// The same in every run, unlike the address, whose port may be longer or shorter.
const AUTHORITY: &str = "cache.example";
/// White space that can be spelled in as many ways as a number has values.
const SPELLED_BITS: u32 = 16;

/// The prompt that is asked with the request of this number.
fn prompt(number: u64) -> u64 {
    number % PROMPTS
}

/// The requests of a subject, which differ in their numbers.
#[derive(Debug)]
pub(crate) struct Requests {
    subject: Subject,
    /// A chat completion's, with a place for its prompt's number.
    body: String,
    answers: Answers,
}

impl Requests {
    /// Of this subject.
    pub(crate) fn of(subject: Subject) -> anyhow::Result<Requests> {
        let reusable = subject != Subject::PassedThrough;
        let body = question_body(Question { reusable, ..Question::default() })?;
        Ok(Requests { subject, body, answers: Answers::new()? })
    }

    /// The one that brings the answer of this number into the cache: in the usual spelling.
    pub(crate) fn filling(&self, number: u64) -> anyhow::Result<Request<Bytes>> {
        self.request(number, self.chat(number))
    }

    /// The one of this number.
    pub(crate) fn counted(&self, number: u64) -> anyhow::Result<Request<Bytes>> {
        let chat = self.chat(number);
        // What is not reused is seldom asked again.
        let is_new = matches!(self.subject, Subject::NewSpelling | Subject::PassedThrough);
        let body = if is_new { spelled(&chat, number) } else { chat };
        self.request(number, body)
    }

    /// It is an error if this is not the answer of the number.
    pub(crate) fn check(&self, answer: &Answer, number: u64) -> anyhow::Result<()> {
        ensure!(answer.status == "200", "{} instead of 200", answer.status);
        ensure!(answer.body == self.answers.of(prompt(number)), "the answer is not the upstream's");
        Ok(())
    }

    fn chat(&self, number: u64) -> String {
        let digits = NUMBER_SLOT.len();
        self.body.replace(NUMBER_SLOT, &format!("{:0digits$}", prompt(number)))
    }

    fn request(&self, number: u64, body: String) -> anyhow::Result<Request<Bytes>> {
        let mut request = Request::builder()
            .header("accept", "application/json")
            .header("user-agent", "instructions");
        if self.subject == Subject::NewHead {
            request = request.header("x-request-id", format!("{number:016}"));
        }
        if self.subject == Subject::PageHit {
            let digits = NUMBER_SLOT.len();
            let path = format!("{PAGES}{:0digits$}", prompt(number));
            return Ok(request.uri(path).body(Bytes::new())?);
        }
        let credential = "Bearer sk-bench-0123456789abcdef0123456789abcdef";
        Ok(request
            .method(Method::POST)
            .uri("/v1/chat/completions")
            .header("authorization", credential)
            .header("content-type", "application/json")
            .body(body.into())?)
    }
}

/// The same JSON, in a spelling of its own for each number.
fn spelled(body: &str, number: u64) -> String {
    let space = |bit: u32| if number >> bit & 1 == 0 { ' ' } else { '\t' };
    let spaces: String = (0..SPELLED_BITS).map(space).collect();
    body.replacen('{', &format!("{{{spaces}"), 1)
}

/// An answer that came whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: String,
    /// What the cache says.
    pub(crate) cache_status: String,
    pub(crate) body: Bytes,
}

/// One connection.
#[derive(Debug)]
pub(crate) enum Caller {
    Http1(wire::Connection),
    Http2(SendRequest<Full<Bytes>>),
}

impl Caller {
    /// Connects as such requests are asked.
    pub(crate) async fn connect(subject: Subject, address: SocketAddr) -> anyhow::Result<Caller> {
        if subject != Subject::Http2Hit {
            return Ok(Caller::Http1(wire::Connection::open(address).await?));
        }
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // It ends with the sender; what goes wrong before, the sender is told.
        tokio::spawn(connection);
        Ok(Caller::Http2(sender))
    }

    /// Asks, and takes the whole answer.
    pub(crate) async fn ask(&mut self, request: Request<Bytes>) -> anyhow::Result<Answer> {
        match self {
            Caller::Http1(connection) => {
                let answer = connection.ask(&as_http1(&request)?).await?;
                Ok(Answer {
                    status: answer.status.to_owned(),
                    cache_status: answer.cache_status.context("no cache's answer")?.to_owned(),
                    body: Bytes::copy_from_slice(answer.body),
                })
            }
            Caller::Http2(sender) => {
                sender.ready().await.context("the connection has ended")?;
                let (head, body) = sender.send_request(as_http2(request)?).await?.into_parts();
                let cache_status = head.headers.get("cache-status").context("no cache's answer")?;
                Ok(Answer {
                    status: head.status.as_str().to_owned(),
                    cache_status: cache_status.to_str()?.to_owned(),
                    body: body.collect().await?.to_bytes(),
                })
            }
        }
    }
}

fn as_http1(request: &Request<Bytes>) -> anyhow::Result<Vec<u8>> {
    let mut text =
        format!("{} {} HTTP/1.1\r\n{HOST}: {AUTHORITY}\r\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str()?));
    }
    if !request.body().is_empty() {
        text.push_str(&format!("{CONTENT_LENGTH}: {}\r\n", request.body().len()));
    }
    text.push_str("\r\n");
    Ok([text.as_bytes(), request.body()].concat())
}

fn as_http2(request: Request<Bytes>) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = request.map(Full::new);
    *request.uri_mut() = format!("http://{AUTHORITY}{}", request.uri()).parse()?;
    *request.version_mut() = Version::HTTP_2;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::number_in;
    use serde_json::Value;

    #[test]
    fn a_new_spelling_says_the_same_in_other_bytes() {
        let requests = Requests::of(Subject::NewSpelling).unwrap();
        let usual = requests.filling(1).unwrap().into_body();
        let first = requests.counted(1).unwrap().into_body();
        let later = requests.counted(1 + PROMPTS).unwrap().into_body();
        assert!(usual != first && first != later);
        let [usual, first, later] =
            [usual, first, later].map(|body| serde_json::from_slice::<Value>(&body).unwrap());
        assert!(usual == first && first == later);
    }

    #[test]
    fn requests_of_the_same_prompt_are_the_same_bytes() {
        let requests = Requests::of(Subject::MemoryHit).unwrap();
        let bytes = |number| as_http1(&requests.counted(number).unwrap()).unwrap();
        assert_eq!(bytes(3), bytes(3 + PROMPTS));
        assert_eq!(number_in(&bytes(3)), Some(3));
        assert_ne!(bytes(3), bytes(4));
    }

    #[test]
    fn a_new_head_has_the_same_body() {
        let requests = Requests::of(Subject::NewHead).unwrap();
        let [one, other] = [3, 3 + PROMPTS].map(|number| requests.counted(number).unwrap());
        assert_ne!(as_http1(&one).unwrap(), as_http1(&other).unwrap());
        assert_eq!(one.into_body(), other.into_body());
    }
}
