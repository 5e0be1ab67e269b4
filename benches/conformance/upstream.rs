//! The upstream: says what the rule that asks wants it to say, and remembers what it was asked.
//!
//! A rule is told by the first folder of the target. Each reply that is made, and no 304, has a
//! `serial` that counts the calls of its rule: so an answer tells which call it comes from.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::message::{Fields, Head, read_content, read_head};
use crate::rule::{Confirms, Ending, Field, Reply, Value};

/// The field that counts calls.
pub(crate) const SERIAL: &str = "serial";

/// A request that reached the upstream.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) fields: Fields,
    pub(crate) content: String,
    /// The status that it was answered with; none if the connection was closed instead.
    pub(crate) status: Option<u16>,
    /// What the content of its answer was.
    pub(crate) said: String,
}

/// What a rule has to do with the upstream.
#[derive(Debug, Default)]
struct Script {
    reply: Option<Reply>,
    calls: Vec<Call>,
}

/// The upstream, and what all rules have to do with it.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    scripts: Arc<Mutex<HashMap<String, Script>>>,
}

impl Upstream {
    /// Listens on a free port for as long as the runtime runs.
    pub(crate) async fn start() -> anyhow::Result<Upstream> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let address = listener.local_addr()?;
        let upstream = Upstream { address, scripts: Arc::default() };
        let listening = upstream.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let upstream = listening.clone();
                // A connection that breaks is the business of who made it.
                tokio::spawn(async move { upstream.converse(stream).await });
            }
        });
        Ok(upstream)
    }

    /// From now on this is the answer in this folder.
    pub(crate) fn say(&self, folder: &str, reply: &Reply) {
        self.scripts().entry(folder.to_owned()).or_default().reply = Some(reply.clone());
    }

    /// The calls in this folder so far.
    pub(crate) fn calls(&self, folder: &str) -> Vec<Call> {
        self.scripts().get(folder).map(|script| script.calls.clone()).unwrap_or_default()
    }

    async fn converse(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        while let Some(head) = read_head(&mut stream).await? {
            let content = read_content(&mut stream, &head.fields, false).await;
            let Some((folder, reply, serial)) = self.note(&head, content.text) else {
                return Ok(());
            };
            tokio::time::sleep(reply.after).await;
            let is_head = head.start_line.starts_with("HEAD ");
            let written = write_reply(&folder, &reply, serial, is_head);
            stream.get_mut().write_all(&written).await?;
            if !matches!(reply.ending, Ending::Length | Ending::Chunked) {
                return stream.get_mut().shutdown().await;
            }
        }
        Ok(())
    }

    /// Notes a call. Says in which folder it is, and which reply it gets.
    fn note(&self, head: &Head, content: String) -> Option<(String, Reply, usize)> {
        let folder = head.start_line.split(['/', '?']).nth(1)?.to_owned();
        let mut scripts = self.scripts();
        let script = scripts.get_mut(&folder)?;
        let mut reply = script.reply.clone()?;
        let fields = head.fields.clone();
        if is_confirmed(&reply, &fields) {
            reply.status = 304;
        }
        if fields.get("range").is_none() {
            reply = whole(reply);
        }
        let serial = script.calls.len() + 1;
        let said = reply.content.clone().unwrap_or_else(|| default_content(serial));
        let status = (reply.ending != Ending::Nothing).then_some(reply.status);
        script.calls.push(Call { fields, content, status, said });
        Some((folder, reply, serial))
    }

    fn scripts(&self) -> MutexGuard<'_, HashMap<String, Script>> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reply to whoever does not ask for a range.
fn whole(reply: Reply) -> Reply {
    let Some(content) = reply.unless_ranged else { return reply };
    let mut fields = reply.fields;
    fields.retain(|field| field.name != "content-range");
    Reply { status: 200, fields, content: Some(content.to_owned()), ..reply }
}

/// Whether a request with these fields gets a 304.
fn is_confirmed(reply: &Reply, fields: &Fields) -> bool {
    let tags = fields.get("if-none-match");
    let tag = reply.fields.iter().find(|field| field.name == "etag");
    match (reply.confirms, tag, &tags) {
        (Confirms::Nobody, ..) => false,
        (Confirms::Holders, Some(Field { value: Value::Text(tag), .. }), Some(tags)) => {
            tags.contains(tag.trim_start_matches("W/"))
        }
        _ => tags.is_some() || fields.get("if-modified-since").is_some(),
    }
}

/// What a reply brings whose rule does not care.
fn default_content(serial: usize) -> String {
    format!("what call {serial} brought")
}

/// A reply as bytes.
fn write_reply(folder: &str, reply: &Reply, serial: usize, is_head: bool) -> Vec<u8> {
    if reply.ending == Ending::Nothing {
        return Vec::new();
    }
    let mut text = String::new();
    for (status, fields) in &reply.interim {
        text.push_str(&format!("HTTP/1.1 {status} Interim\r\n"));
        put_fields(&mut text, folder, fields);
        text.push_str("\r\n");
    }
    text.push_str(&format!("HTTP/1.1 {} Status\r\n", reply.status));
    if reply.is_dated && !reply.fields.iter().any(|field| field.name == "date") {
        text.push_str(&format!("date: {}\r\n", date_in(0)));
    }
    put_fields(&mut text, folder, &reply.fields);
    if reply.status == 304 {
        return (text + "\r\n").into_bytes();
    }
    text.push_str(&format!("{SERIAL}: {serial}\r\n"));
    let content = reply.content.clone().unwrap_or_else(|| default_content(serial));
    put_content(&mut text, reply, &content, is_head);
    text.into_bytes()
}

/// The fields that frame the content, and the content.
fn put_content(text: &mut String, reply: &Reply, content: &str, is_head: bool) {
    let length = content.len();
    let framing = match reply.ending {
        _ if reply.status == 204 => String::new(),
        Ending::Length => format!("content-length: {length}\r\n"),
        Ending::CutLength => format!("content-length: {}\r\n", length + 100),
        Ending::Chunked | Ending::CutChunks => "transfer-encoding: chunked\r\n".into(),
        Ending::Close | Ending::Nothing => "connection: close\r\n".into(),
    };
    text.push_str(&framing);
    text.push_str("\r\n");
    if is_head || reply.status == 204 {
        return;
    }
    match reply.ending {
        Ending::Chunked => {
            text.push_str(&format!("{length:x}\r\n{content}\r\n0\r\n"));
            put_fields(text, "", &reply.trailers);
            text.push_str("\r\n");
        }
        Ending::CutChunks => text.push_str(&format!("{length:x}\r\n{content}\r\n")),
        _ => text.push_str(content),
    }
}

fn put_fields(text: &mut String, folder: &str, fields: &[Field]) {
    for Field { name, value } in fields {
        text.push_str(&format!("{name}: {}\r\n", written(value, folder)));
    }
}

/// The value of a field as it is sent.
pub(crate) fn written(value: &Value, folder: &str) -> String {
    match value {
        Value::Text(text) => text.replace("{rule}", folder),
        Value::DateIn(seconds) => date_in(*seconds),
        Value::Target(target) => format!("/{folder}/{target}"),
    }
}

fn date_in(seconds: i64) -> String {
    let span = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    let then = if seconds < 0 { now.checked_sub(span) } else { now.checked_add(span) };
    httpdate::fmt_http_date(then.unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{confirms, confirms_what_it_is_not, fresh, hangs_up, status};

    fn text(reply: &Reply, is_head: bool) -> String {
        String::from_utf8(write_reply("r1", reply, 7, is_head)).unwrap()
    }

    #[test]
    fn a_reply_has_its_serial_and_its_length_and_a_304_has_neither() {
        let whole = text(&fresh().content("abc").undated(), false);
        let fields = "cache-control: max-age=3600\r\nserial: 7\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(whole, format!("HTTP/1.1 200 Status\r\n{fields}"));
        let not_modified = text(&status(304).with("etag", "\"a\"").undated(), false);
        assert_eq!(not_modified, "HTTP/1.1 304 Status\r\netag: \"a\"\r\n\r\n");
    }

    #[test]
    fn a_reply_with_a_tag_confirms_that_tag_alone_unless_it_lies() {
        let asks = |tag: &str| Fields(vec![("if-none-match".into(), tag.into())]);
        let honest = confirms().with("etag", "W/\"a\"");
        assert!(is_confirmed(&honest, &asks("\"x\", W/\"a\"")));
        assert!(!is_confirmed(&honest, &asks("\"b\"")));
        assert!(is_confirmed(&confirms(), &asks("\"b\"")));
        assert!(is_confirmed(&confirms_what_it_is_not().with("etag", "\"a\""), &asks("\"b\"")));
        assert!(!is_confirmed(&honest, &Fields::default()));
        assert!(!is_confirmed(&fresh(), &asks("*")));
    }

    #[test]
    fn a_part_is_the_whole_for_whoever_asks_for_no_range() {
        let part = status(206).with("content-range", "bytes 0-0/3").content("a").or_whole("abc");
        let whole = whole(part);
        assert_eq!((whole.status, whole.content.as_deref()), (200, Some("abc")));
        assert!(whole.fields.is_empty());
        assert_eq!(super::whole(fresh()).content, None);
    }

    #[test]
    fn a_cut_names_more_than_it_brings_and_a_closed_connection_brings_nothing() {
        let cut = text(&fresh().content("abc").ending(Ending::CutLength), false);
        assert!(cut.contains("content-length: 103\r\n") && cut.ends_with("\r\n\r\nabc"));
        assert_eq!(text(&hangs_up(), false), "");
    }

    #[test]
    fn the_answer_to_head_and_a_204_have_no_content() {
        assert!(text(&fresh().content("abc"), true).ends_with("content-length: 3\r\n\r\n"));
        let no_content = text(&status(204).content("abc"), false);
        assert!(no_content.ends_with("\r\n\r\n") && !no_content.contains("content-length"));
    }
}
