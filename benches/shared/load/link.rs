//! A caller's way to a server: a connection of its own, or a share in one of HTTP/2.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderValue, Method, StatusCode};
use tokio::net::TcpStream;

use super::activity::Activity;
use super::job::{Job, Protocol};
use crate::shared::exchange::{self, Request};
use crate::shared::wire::Connection;
use crate::sized;

/// Room for a whole answer, so that no server waits for room.
const WINDOW_BYTES: u32 = 4 << 20;

/// A caller's way to a server.
#[derive(Debug)]
pub(super) enum Link {
    Http1 { connection: Connection, request: Request },
    Http2(Box<Shared>),
}

/// An answer that came whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) status: &'a str,
    /// What the cache says, if there is one.
    pub(super) cache_status: Option<&'a str>,
    pub(super) body: &'a [u8],
    /// When the first bytes of the body were there.
    pub(super) first_byte: Instant,
}

/// A share in a connection of HTTP/2, and the last answer by it.
#[derive(Debug)]
pub(super) struct Shared {
    sender: SendRequest<Bytes>,
    head: http::Request<()>,
    body: Request,
    status: StatusCode,
    cache_status: Option<HeaderValue>,
    taken: Vec<u8>,
}

/// Opens a link for each caller.
pub(super) async fn open(job: &Job, activity: &Arc<Activity>) -> anyhow::Result<Vec<Link>> {
    let mut links = Vec::new();
    let mut shared = None;
    for caller in 0..job.callers {
        links.push(match job.protocol {
            Protocol::Http1 => {
                let fields = sized::lines(job.answer_bytes);
                let request = Request::with_fields(job.question, job.address, &fields)?;
                Link::Http1 { connection: Connection::open(job.address).await?, request }
            }
            Protocol::Http2 { streams } => {
                let sender = match shared.take() {
                    Some(sender) if !caller.is_multiple_of(streams) => sender,
                    _ => connect(job, activity).await?,
                };
                shared = Some(sender.clone());
                Link::Http2(Box::new(Shared::new(sender, job)?))
            }
        });
    }
    Ok(links)
}

/// Opens a connection of HTTP/2 to a server that is known to speak it (RFC 9113 section 3.3).
async fn connect(job: &Job, activity: &Arc<Activity>) -> anyhow::Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(job.address).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .enable_push(false)
        .handshake(stream)
        .await?;
    let activity = Arc::clone(activity);
    // Its failure is told to those who share it.
    tokio::spawn(async move { activity.counting(connection).await });
    Ok(sender)
}

impl Link {
    /// Asks for the prompt of this number and takes the whole answer.
    pub(super) async fn ask(&mut self, number: u64) -> anyhow::Result<Seen<'_>> {
        match self {
            Link::Http1 { connection, request } => {
                let answer = connection.ask(request.numbered(number)).await?;
                let first = answer.arrivals.first().context("the answer has no body")?;
                Ok(Seen {
                    status: answer.status,
                    cache_status: answer.cache_status,
                    body: answer.body,
                    first_byte: first.at,
                })
            }
            Link::Http2(shared) => shared.ask(number).await,
        }
    }
}

impl Shared {
    fn new(sender: SendRequest<Bytes>, job: &Job) -> anyhow::Result<Shared> {
        let mut head = http::Request::builder().method(Method::POST).uri(format!(
            "http://{}{}",
            job.address,
            exchange::PATH
        ));
        for (name, value) in sized::fields(job.question, job.answer_bytes) {
            head = head.header(name, value);
        }
        let body = Request::of(exchange::question_body(job.question)?)?;
        let (head, status) = (head.body(())?, StatusCode::default());
        Ok(Shared { sender, head, body, status, cache_status: None, taken: Vec::new() })
    }

    async fn ask(&mut self, number: u64) -> anyhow::Result<Seen<'_>> {
        poll_fn(|context| self.sender.poll_ready(context)).await?;
        let (answer, mut sent) = self.sender.send_request(self.head.clone(), false)?;
        sent.send_data(Bytes::copy_from_slice(self.body.numbered(number)), true)?;
        let (head, mut body) = answer.await?.into_parts();
        self.status = head.status;
        self.cache_status = head.headers.get("cache-status").cloned();
        self.taken.clear();
        let mut first_byte = None;
        while let Some(data) = body.data().await {
            let data = data?;
            first_byte.get_or_insert_with(Instant::now);
            self.taken.extend_from_slice(&data);
            body.flow_control().release_capacity(data.len())?;
        }
        let said = self.cache_status.as_ref().map(HeaderValue::to_str).transpose()?;
        Ok(Seen {
            status: self.status.as_str(),
            cache_status: said,
            body: &self.taken,
            first_byte: first_byte.context("the answer has no body")?,
        })
    }
}
