//! The entry: one stored answer, and its binary form.
//!
//! The form is versioned and checksummed. Whatever reads one back gets the whole entry as it
//! was written, or an error that every tier treats as a miss: an unknown version, a cut, a
//! flipped bit. The prompt is not in it.
//!
//! ```text
//! version u8 · head length u32 · body length u64 · head · body · checksum (16 bytes)
//! ```
//! Integers are little-endian; the checksum is XXH3-128 over all that is before it. The head holds
//! every field but the body, each of fixed size or length-prefixed.
//!
//! The checksum finds damage. Against somebody who can write here none without a secret helps: they could
//! compute it too. So it is a quick one, and no cryptographic one that each read would pay for.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use http::header::ETAG;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use keyspec::Key;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use crate::cache::freshness::Ends;
use crate::cache::freshness::serve::{self, Stored};
use crate::clock::Timestamp;

/// The version that this build writes, and the only one that it reads.
pub const FORMAT_VERSION: u8 = 4;

/// A head larger than this is refused on both sides: header blocks are bounded long before.
const HEAD_BYTES_MAX: usize = 1 << 20;
const PRELUDE_BYTES: usize = 1 + 4 + 8;
const CHECKSUM_BYTES: usize = 16;
/// Beside a body this large, what is around it in the binary form is next to nothing.
const LARGE_BODY_BYTES: usize = 64 << 10;

/// One stored answer with all that is needed to judge, replay and purge it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key that it answers; compared on every read.
    pub key: Key,
    /// The tenant's label, for operators. Never a credential.
    pub tenant: Arc<str>,
    /// The route's name, such as `openai.embeddings`.
    pub route: Arc<str>,
    /// The model that answered, where the answer names one.
    pub model: Option<Arc<str>>,
    /// The answer's status.
    pub status: StatusCode,
    /// The fields that every caller may see.
    pub headers: HeaderMap,
    /// Its `ETag` was made here, from its bytes: the upstream does not know it.
    pub tag_is_ours: bool,
    /// The answer's bytes, unchanged.
    pub body: Bytes,
    /// What came after the bytes, as far as every caller may see it: never mixed with `headers`
    /// (RFC 9111 section 3.1). Bounded with them, by the head of the binary form.
    pub trailers: HeaderMap,
    /// When it was stored.
    pub stored: Timestamp,
    /// When the upstream generated it, as well as that is known.
    pub generated: Timestamp,
    /// Its age in seconds when it came (RFC 9111 section 4.2.3).
    pub initial_age_s: u32,
    /// Until when it may be used, and how.
    pub ends: Ends,
    /// Once stale, it answers nobody before the upstream has confirmed it.
    pub must_revalidate: bool,
    /// It says that there is nothing; kept in memory only.
    pub negative: bool,
    /// Whether it is no answer but a record of the variants under its key ([`variants`]).
    ///
    /// [`variants`]: crate::cache::variants
    pub is_variants: bool,
    /// The forwarded URL, without credentials.
    pub url: Arc<str>,
    /// The tags that it can be purged by.
    pub tags: Box<[Box<str>]>,
    /// Hashes of what a purge order may name: URL, route, tenant, model, tags.
    pub selectors: Box<[Selector]>,
    /// The newest purge order applied on this node when the fill began.
    pub purge_sequence: u64,
    /// The upstream's own id of the exchange, for operators alone.
    pub upstream_request_id: Option<Box<str>>,
    /// From asking the upstream to the end of its answer, in milliseconds.
    pub upstream_time_ms: u32,
    /// What the upstream charged for.
    pub usage: Usage,
    /// Reserved for compression; 0 is the identity.
    pub encoding: u8,
    /// Reserved for encryption at rest; 0 is none.
    pub key_id: u32,
}

/// Tokens as the upstream counted them. What is missing or no whole number counts as zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read, those of the provider's own prompt cache included.
    pub input_tokens: u64,
    /// Tokens written, reasoning included.
    pub output_tokens: u64,
}

impl Usage {
    /// The tokens of so many such answers.
    #[must_use]
    pub fn times(self, answers: u64) -> Usage {
        Usage {
            input_tokens: self.input_tokens.saturating_mul(answers),
            output_tokens: self.output_tokens.saturating_mul(answers),
        }
    }
}

/// A domain-tagged hash of one name under which an entry can be purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector([u8; Selector::BYTES]);

impl Selector {
    /// How long its bytes are.
    pub const BYTES: usize = 16;

    /// The selector of one key.
    #[must_use]
    pub fn key(key: &Key) -> Selector {
        Selector::of(b"key", &[key.as_bytes()])
    }

    /// The selector of a tag that the upstream gave its answer. It is no upstream's own: where
    /// two give the same tag, purging it purges at both.
    #[must_use]
    pub fn tag(tag: &str) -> Selector {
        Selector::of(b"tag", &[tag.as_bytes()])
    }

    /// The selector of a group of an origin (RFC 9875 section 2.1).
    #[must_use]
    pub fn group(origin: &str, group: &str) -> Selector {
        let origin_bytes = (origin.len() as u64).to_le_bytes();
        Selector::of(b"group", &[&origin_bytes, origin.as_bytes(), group.as_bytes()])
    }

    /// The selector of whatever is of any group of an origin.
    #[must_use]
    pub fn any_group(origin: &str) -> Selector {
        Selector::of(b"any group", &[origin.as_bytes()])
    }

    /// The selector of the forwarded URL, by its name.
    #[must_use]
    pub fn url(url: &str) -> Selector {
        Selector::of(b"url", &[url.as_bytes()])
    }

    /// The selector of a route's name.
    #[must_use]
    pub fn route(name: &str) -> Selector {
        Selector::of(b"route", &[name.as_bytes()])
    }

    /// The selector of a tenant's label.
    #[must_use]
    pub fn tenant(label: &str) -> Selector {
        Selector::of(b"tenant", &[label.as_bytes()])
    }

    /// The selector of the model that answered.
    #[must_use]
    pub fn model(name: &str) -> Selector {
        Selector::of(b"model", &[name.as_bytes()])
    }

    /// The selector of the model that was asked for at an upstream (as in keys), whatever name
    /// the one that answered goes by.
    #[must_use]
    pub fn asked_model(upstream: &str, model: &str) -> Selector {
        let upstream_bytes = (upstream.len() as u64).to_le_bytes();
        Selector::of(b"asked model", &[&upstream_bytes, upstream.as_bytes(), model.as_bytes()])
    }

    /// Its bytes, for storing.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Selector::BYTES] {
        &self.0
    }

    /// The selector of these bytes, as read back from storage.
    #[must_use]
    pub const fn of_bytes(bytes: [u8; Selector::BYTES]) -> Selector {
        Selector(bytes)
    }

    /// The last part needs no length before it, those before it do.
    fn of(domain: &[u8], parts: &[&[u8]]) -> Selector {
        let mut hasher = blake3::Hasher::new_derive_key("cache-server 2026 purge selector v1");
        hasher.update(&(domain.len() as u64).to_le_bytes()).update(domain);
        for part in parts {
            hasher.update(part);
        }
        let mut hash = [0; Selector::BYTES];
        hasher.finalize_xof().fill(&mut hash);
        Selector(hash)
    }
}

impl Entry {
    /// Seconds since the upstream generated it (RFC 9111 section 4.2.3).
    #[must_use]
    pub fn age_s(&self, now: Timestamp) -> u64 {
        serve::age_s(&self.facts(), now)
    }

    /// Whether the tag among these fields, to which an update has brought its own, is one that was made
    /// here.
    #[must_use]
    pub fn has_our_tag_still(&self, updated: &HeaderMap) -> bool {
        self.tag_is_ours && self.headers.get(ETAG) == updated.get(ETAG)
    }

    /// What of it decides on its use.
    #[must_use]
    pub fn facts(&self) -> Stored {
        Stored {
            ends: self.ends,
            generated: self.generated,
            initial_age_s: self.initial_age_s,
            must_revalidate: self.must_revalidate,
        }
    }

    /// The record of variants that stands under `key` beside this variant, in the place of the one
    /// `before`: of use for as long as the longest of them. Its selectors are those that all variants
    /// have: an order that names one of them leaves the others where they are found.
    #[must_use]
    pub fn record_of_variants(
        &self,
        key: Key,
        selectors: Box<[Selector]>,
        body: Bytes,
        before: Option<&Entry>,
    ) -> Entry {
        let last = self.ends.last().max(before.map_or(Timestamp(0), |record| record.ends.last()));
        let ends = Ends {
            fresh: last,
            stale_while_revalidate: last,
            stale_if_error: last,
            validate: last,
        };
        let sequence = before.map_or(0, |record| record.purge_sequence);
        Entry {
            key,
            is_variants: true,
            negative: false,
            headers: HeaderMap::new(),
            tag_is_ours: false,
            trailers: HeaderMap::new(),
            tags: Box::default(),
            selectors,
            body,
            ends,
            purge_sequence: self.purge_sequence.max(sequence),
            ..self.clone()
        }
    }

    /// Bytes that it takes while somebody works with it: its parts and what is around them. What memory
    /// keeps of it is another form, with a weight of its own.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Entry>() + self.body.len() + self.head_bytes()
    }

    /// Bytes of its binary form, near enough for planning.
    #[must_use]
    pub fn encoded_size(&self) -> usize {
        PRELUDE_BYTES + 176 + self.head_bytes() + self.body.len() + CHECKSUM_BYTES
    }

    fn head_bytes(&self) -> usize {
        let fields = self.headers.iter().chain(&self.trailers);
        let fields: usize =
            fields.map(|(name, value)| name.as_str().len() + value.len() + 48).sum();
        let tags: usize = self.tags.iter().map(|tag| tag.len() + 24).sum();
        fields
            + tags
            + self.url.len()
            + self.selectors.len() * Selector::BYTES
            + self.tenant.len()
            + self.route.len()
            + 64
    }

    /// Writes the binary form.
    ///
    /// # Errors
    /// Those of the writer, and `InvalidInput` for a header block over 1 MiB.
    pub fn write_to(&self, writer: &mut impl Write) -> io::Result<()> {
        let head = self.encode_head();
        if head.len() > HEAD_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "entry head over 1 MiB"));
        }
        let mut prelude = [0; PRELUDE_BYTES];
        prelude[0] = FORMAT_VERSION;
        prelude[1..5].copy_from_slice(&length_u32(head.len()).to_le_bytes());
        prelude[5..].copy_from_slice(&(self.body.len() as u64).to_le_bytes());
        let parts = [&prelude[..], &head, &self.body];
        for part in parts {
            writer.write_all(part)?;
        }
        writer.write_all(&checksum_of(parts))
    }

    /// Reads one binary form, of a body of at most `body_bytes_max`.
    ///
    /// # Errors
    /// `InvalidData` for an unknown version, sizes out of bounds, a wrong checksum or a
    /// malformed head; `UnexpectedEof` for one that is cut.
    pub fn read_from(reader: &mut impl Read, body_bytes_max: u64) -> io::Result<Entry> {
        let mut prelude = [0; PRELUDE_BYTES];
        reader.read_exact(&mut prelude)?;
        let (head_bytes, body_bytes) = sizes(&prelude, body_bytes_max)?;
        let head = read_bytes(reader, head_bytes)?;
        let body = read_bytes(reader, body_bytes)?;
        let mut checksum = [0; CHECKSUM_BYTES];
        reader.read_exact(&mut checksum)?;
        if checksum_of([&prelude, &head, &body]) != checksum {
            return Err(damaged("entry checksum does not match"));
        }
        Entry::decode_head(&head, Bytes::from(body))
    }

    /// Reads the binary form that these bytes are, of a body of at most `body_bytes_max`. A large body
    /// stays where it is, and keeps all of the bytes; a small one is copied, for they would count for more
    /// than it.
    ///
    /// # Errors
    /// As [`Entry::read_from`]; and `InvalidData` for bytes behind it.
    pub fn read_whole(bytes: &Bytes, body_bytes_max: u64) -> io::Result<Entry> {
        let (prelude, rest) = bytes.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
        let (head_bytes, body_bytes) = sizes(prelude, body_bytes_max)?;
        let checked_bytes = PRELUDE_BYTES + head_bytes + body_bytes;
        let (head, _) = rest.split_at_checked(head_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let (checked, checksum) =
            bytes.split_at_checked(checked_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        if checksum.len() != CHECKSUM_BYTES {
            return Err(damaged("the entry ends elsewhere"));
        }
        if xxh3_128(checked).to_le_bytes() != *checksum {
            return Err(damaged("entry checksum does not match"));
        }
        let body = PRELUDE_BYTES + head_bytes..checked_bytes;
        let body = match body_bytes {
            LARGE_BODY_BYTES.. => bytes.slice(body),
            _ => Bytes::copy_from_slice(&bytes[body]),
        };
        Entry::decode_head(head, body)
    }

    fn encode_head(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(176 + self.head_bytes());
        out.extend_from_slice(self.key.as_bytes());
        put_bytes(&mut out, self.tenant.as_bytes());
        put_bytes(&mut out, self.route.as_bytes());
        put_optional(&mut out, self.model.as_deref());
        out.extend_from_slice(&self.status.as_u16().to_le_bytes());
        for time in [
            self.stored,
            self.generated,
            self.ends.fresh,
            self.ends.stale_while_revalidate,
            self.ends.stale_if_error,
            self.ends.validate,
        ] {
            out.extend_from_slice(&time.0.to_le_bytes());
        }
        let flags = [self.must_revalidate, self.negative, self.is_variants, self.tag_is_ours];
        out.extend(flags.map(u8::from));
        put_bytes(&mut out, self.url.as_bytes());
        out.extend_from_slice(&length_u32(self.tags.len()).to_le_bytes());
        self.tags.iter().for_each(|tag| put_bytes(&mut out, tag.as_bytes()));
        out.extend_from_slice(&self.initial_age_s.to_le_bytes());
        out.extend_from_slice(&self.purge_sequence.to_le_bytes());
        put_optional(&mut out, self.upstream_request_id.as_deref());
        out.extend_from_slice(&self.upstream_time_ms.to_le_bytes());
        out.extend_from_slice(&self.usage.input_tokens.to_le_bytes());
        out.extend_from_slice(&self.usage.output_tokens.to_le_bytes());
        out.push(self.encoding);
        out.extend_from_slice(&self.key_id.to_le_bytes());
        out.extend_from_slice(&length_u32(self.selectors.len()).to_le_bytes());
        for selector in &self.selectors {
            out.extend_from_slice(&selector.0);
        }
        put_fields(&mut out, &self.headers);
        put_fields(&mut out, &self.trailers);
        out
    }

    fn decode_head(head: &[u8], body: Bytes) -> io::Result<Entry> {
        let mut from = Cursor(head);
        let entry = Entry {
            key: Key::from_bytes(from.array()?),
            tenant: from.text()?.into(),
            route: from.text()?.into(),
            model: from.optional_text()?.map(Into::into),
            status: StatusCode::from_u16(u16::from_le_bytes(from.array()?))
                .map_err(|_| damaged("status out of range"))?,
            stored: from.timestamp()?,
            generated: from.timestamp()?,
            ends: Ends {
                fresh: from.timestamp()?,
                stale_while_revalidate: from.timestamp()?,
                stale_if_error: from.timestamp()?,
                validate: from.timestamp()?,
            },
            must_revalidate: from.flag()?,
            negative: from.flag()?,
            is_variants: from.flag()?,
            tag_is_ours: from.flag()?,
            url: from.text()?.into(),
            tags: from.texts()?,
            initial_age_s: from.u32()?,
            purge_sequence: from.u64()?,
            upstream_request_id: from.optional_text()?,
            upstream_time_ms: from.u32()?,
            usage: Usage { input_tokens: from.u64()?, output_tokens: from.u64()? },
            encoding: from.array::<1>()?[0],
            key_id: from.u32()?,
            selectors: from.selectors()?,
            headers: from.fields()?,
            trailers: from.fields()?,
            body,
        };
        if from.0.is_empty() { Ok(entry) } else { Err(damaged("bytes after the entry's head")) }
    }
}

fn checksum_of(parts: [&[u8]; 3]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = Xxh3Default::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.digest128().to_le_bytes()
}

/// The sizes of head and body, as the prelude has them.
fn sizes(prelude: &[u8; PRELUDE_BYTES], body_bytes_max: u64) -> io::Result<(usize, usize)> {
    if prelude[0] != FORMAT_VERSION {
        return Err(damaged("unknown entry version"));
    }
    let head_bytes = u32::from_le_bytes(array(&prelude[1..5])?) as usize;
    let body_bytes = u64::from_le_bytes(array(&prelude[5..])?);
    if head_bytes > HEAD_BYTES_MAX || body_bytes > body_bytes_max {
        return Err(damaged("entry sizes out of bounds"));
    }
    Ok((head_bytes, usize::try_from(body_bytes).map_err(io::Error::other)?))
}

/// Reads the head's fields in order, each bounded by what is left.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or_else(|| damaged("entry head is cut"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        array(self.take(N)?)
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn timestamp(&mut self) -> io::Result<Timestamp> {
        Ok(Timestamp(self.u64()?))
    }

    fn flag(&mut self) -> io::Result<bool> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(damaged("flag out of range")),
        }
    }

    fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let count = self.u32()? as usize;
        self.take(count)
    }

    fn text(&mut self) -> io::Result<Box<str>> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| damaged("text is not UTF-8"))?;
        Ok(text.into())
    }

    /// Each takes four bytes or more, so that the count is bounded by what is left.
    fn texts(&mut self) -> io::Result<Box<[Box<str>]>> {
        let count = self.u32()?;
        (0..count).map(|_| self.text()).collect()
    }

    fn optional_text(&mut self) -> io::Result<Option<Box<str>>> {
        match self.array::<1>()?[0] {
            0 => Ok(None),
            _ => self.text().map(Some),
        }
    }

    fn selectors(&mut self) -> io::Result<Box<[Selector]>> {
        let count = self.u32()? as usize;
        let bytes = self
            .take(count.checked_mul(Selector::BYTES).ok_or_else(|| damaged("selector count"))?)?;
        bytes.chunks_exact(Selector::BYTES).map(|chunk| Ok(Selector(array(chunk)?))).collect()
    }

    fn fields(&mut self) -> io::Result<HeaderMap> {
        let count = self.u32()?;
        let mut fields = HeaderMap::new();
        for _ in 0..count {
            let name = HeaderName::from_bytes(self.bytes()?).map_err(|_| damaged("field name"))?;
            let value =
                HeaderValue::from_bytes(self.bytes()?).map_err(|_| damaged("field value"))?;
            fields.try_append(name, value).map_err(|_| damaged("too many fields"))?;
        }
        Ok(fields)
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&length_u32(bytes.len()).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    out.extend_from_slice(&length_u32(fields.len()).to_le_bytes());
    for (name, value) in fields {
        put_bytes(out, name.as_str().as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

fn put_optional(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_bytes(out, text.as_bytes());
    }
}

/// Lengths in a head are small; one that is not makes the head too large to be written at all.
fn length_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn array<const N: usize>(bytes: &[u8]) -> io::Result<[u8; N]> {
    bytes.try_into().map_err(|_| damaged("entry head is cut"))
}

/// Reads exactly `count` bytes without trusting `count` for the allocation: a damaged length
/// must not reserve more than what there is to read.
fn read_bytes(reader: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
    const TRUSTED: usize = 1 << 20;
    let mut bytes = Vec::with_capacity(count.min(TRUSTED));
    reader.take(count as u64).read_to_end(&mut bytes)?;
    if bytes.len() != count {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.shrink_to_fit();
    Ok(bytes)
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An entry with every field set to something of its own.
    pub(crate) fn sample(key: [u8; 32], body: &[u8]) -> Entry {
        let mut headers = HeaderMap::new();
        headers.append("content-type", HeaderValue::from_static("application/json"));
        headers.append("x-many", HeaderValue::from_static("one"));
        headers.append("x-many", HeaderValue::from_static("two"));
        let mut trailers = HeaderMap::new();
        trailers.append("x-checksum", HeaderValue::from_static("abc"));
        trailers.append("x-many", HeaderValue::from_static("three"));
        Entry {
            key: Key::from_bytes(key),
            tenant: "team-a".into(),
            route: "openai.embeddings".into(),
            model: Some("text-embedding-3-small".into()),
            status: StatusCode::OK,
            headers,
            tag_is_ours: true,
            body: Bytes::copy_from_slice(body),
            trailers,
            stored: Timestamp(1_000_000),
            generated: Timestamp(990_000),
            initial_age_s: 10,
            ends: Ends {
                fresh: Timestamp(2_000_000),
                stale_while_revalidate: Timestamp(3_000_000),
                stale_if_error: Timestamp(4_000_000),
                validate: Timestamp(5_000_000),
            },
            must_revalidate: true,
            negative: false,
            is_variants: false,
            url: "https://api.example/v1/embeddings".into(),
            tags: ["shop".into(), "all".into()].into(),
            selectors: Box::new([Selector::url("http://u/x"), Selector::route("r")]),
            purge_sequence: 7,
            upstream_request_id: Some("req_1".into()),
            upstream_time_ms: 812,
            usage: Usage { input_tokens: 11, output_tokens: 22 },
            encoding: 0,
            key_id: 0,
        }
    }

    fn encoded(entry: &Entry) -> Vec<u8> {
        let mut bytes = Vec::new();
        entry.write_to(&mut bytes).unwrap();
        bytes
    }

    /// Both ways of reading agree.
    fn decoded(bytes: &[u8]) -> io::Result<Entry> {
        let read = Entry::read_from(&mut &bytes[..], 1 << 20);
        let whole = Entry::read_whole(&Bytes::copy_from_slice(bytes), 1 << 20);
        assert_eq!(read.as_ref().ok(), whole.as_ref().ok());
        read
    }

    #[test]
    fn what_is_written_is_read_back_whole() {
        for body in [&b"{\"answer\":42}"[..], &[b'x'; LARGE_BODY_BYTES]] {
            let entry = sample([3; 32], body);
            assert_eq!(decoded(&encoded(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn the_form_of_this_version_is_pinned() {
        let bytes = encoded(&sample([3; 32], b"{\"answer\":42}"));
        // Servers of several releases share a Redis, and each finds its disk after an upgrade.
        let form = (FORMAT_VERSION, format!("{:032x}", xxh3_128(&bytes)));
        assert_eq!(
            form,
            (4, "7882d3c63f79cc6b4bf8439a5912c8bf".to_owned()),
            "another form is another version"
        );
    }

    #[test]
    fn an_unknown_version_is_refused() {
        let mut bytes = encoded(&sample([3; 32], b"x"));
        for version in [FORMAT_VERSION - 1, FORMAT_VERSION + 1] {
            bytes[0] = version;
            assert_eq!(decoded(&bytes).unwrap_err().to_string(), "unknown entry version");
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_refused() {
        let bytes = encoded(&sample([3; 32], b"the body"));
        for cut in 0..bytes.len() {
            assert!(decoded(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decoded(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_checksum_is_the_same_in_every_build_however_it_is_fed() {
        // The XXH3 family's own value of nothing.
        let of_nothing = 0x99aa_06d3_0147_98d8_6001_c324_468d_497f_u128.to_le_bytes();
        assert_eq!(checksum_of([b"", b"", b""]), of_nothing);
        let bytes: Vec<u8> = (0..=250).cycle().take(3000).collect();
        let (head, body) = bytes.split_at(700);
        let whole = xxh3_128(&bytes).to_le_bytes();
        assert_eq!(checksum_of([&head[..13], &head[13..], body]), whole);
    }

    #[test]
    fn a_body_over_the_bound_is_refused_before_it_is_read() {
        let bytes = encoded(&sample([3; 32], b"the body"));
        assert!(Entry::read_from(&mut &bytes[..], 7).is_err());
    }

    #[test]
    fn a_head_over_its_bound_is_refused_by_fields_and_trailers_alike() {
        let half = || HeaderValue::from_bytes(&vec![b'x'; HEAD_BYTES_MAX / 2]).unwrap();
        let mut entry = sample([3; 32], b"x");
        entry.headers.insert("x-half", half());
        assert_eq!(decoded(&encoded(&entry)).unwrap(), entry);
        let before = entry.head_bytes();
        entry.trailers.insert("x-half", half());
        assert!(entry.head_bytes() >= before + HEAD_BYTES_MAX / 2, "trailers weigh as fields do");
        let refused = entry.write_to(&mut Vec::new()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_record_of_variants_has_nothing_of_the_answer_beside_it() {
        let entry = sample([3; 32], b"x");
        let key = Key::from_bytes([4; 32]);
        let record = entry.record_of_variants(key, Box::default(), Bytes::new(), None);
        assert!(record.headers.is_empty() && record.trailers.is_empty() && !record.tag_is_ours);
    }

    #[test]
    fn selectors_of_different_kinds_never_meet() {
        assert_ne!(Selector::url("a"), Selector::route("a"));
        assert_ne!(Selector::tenant("a"), Selector::model("a"));
        assert_ne!(Selector::tag("a"), Selector::model("a"));
        assert_ne!(Selector::asked_model("", "a"), Selector::model("a"));
        assert_ne!(Selector::asked_model("ab", "c"), Selector::asked_model("a", "bc"));
        assert_ne!(Selector::group("", "a"), Selector::tag("a"));
        assert_ne!(Selector::group("a", ""), Selector::any_group("a"));
        assert_ne!(Selector::group("ab", "c"), Selector::group("a", "bc"));
        let key = Key::from_bytes([b'k'; 32]);
        assert_ne!(Selector::key(&key), Selector::tag(&"k".repeat(32)));
        assert_ne!(Selector::key(&key), Selector::key(&Key::from_bytes([b'l'; 32])));
    }

    #[test]
    fn a_selector_is_the_same_in_every_build() {
        // Entries and purge orders on disk hold these bytes.
        let hex = |selector: Selector| {
            selector.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(hex(Selector::url("http://u/x")), "b23aa41da69a10bbd7c686d16418d343");
        assert_eq!(hex(Selector::tag("news")), "024e9730c4e57f77ec2e53050508c076");
        let stored = Selector::asked_model("https://api.openai.com", "gpt-4o");
        assert_eq!(hex(stored), "48920c8fb387ae77b48a100b2d5e8c0e");
        assert_eq!(Selector::of_bytes(*stored.as_bytes()), stored);
    }

    #[test]
    fn age_grows_from_the_age_that_it_came_with() {
        let entry = sample([3; 32], b"x");
        assert_eq!(entry.age_s(Timestamp(1_000_000)), 10);
        assert_eq!(entry.age_s(Timestamp(1_005_999)), 15);
        assert_eq!(entry.age_s(Timestamp(1)), 10, "a clock that stepped back adds nothing");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decoded(&bytes);
            let mut known_version = bytes;
            if let Some(first) = known_version.first_mut() {
                *first = FORMAT_VERSION;
            }
            let _ = decoded(&known_version);
        }
    }
}
