//! The key: 32 bytes that stand for a request's meaning, and the preimage they digest.
//!
//! The preimage is a sequence of fields. Each has a tag, and what varies in length is preceded
//! by its length, what varies in number by its count. So it can be read back in one way only,
//! and no two different requests share one.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName};

use crate::KEY_SCHEMA_VERSION;
use crate::meaning::Meaning;
use crate::query;
use crate::select::Selection;
use crate::spec::BodyForm;
use crate::tenant::{CREDENTIAL_QUERY_NAME, TenantScope};

const DOMAIN: &[u8] = b"cache-server keyspec key";
const PREFIX: &str = "ks1_";

/// The key of an entry. Written as `ks1_` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 32]);

impl Key {
    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of these bytes, as read back from storage.
    pub const fn from_bytes(bytes: [u8; 32]) -> Key {
        Key(bytes)
    }
}

impl Key {
    /// Appends its text, for those who write it with every answer.
    pub fn push_onto(&self, text: &mut String) {
        // A string takes all that is written to it.
        let _ = self.write_to(text);
    }

    fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        out.write_str(PREFIX)?;
        out.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is {PREFIX} and 64 lower-case hex digits")]
pub struct InvalidKey;

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix(PREFIX).and_then(bytes_from_hex).map(Key).ok_or(InvalidKey)
    }
}

/// Reads 64 lower-case hex digits, and nothing else.
pub(crate) fn bytes_from_hex(text: &str) -> Option<[u8; 32]> {
    let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let hash = blake3::Hash::from_hex(text).ok().filter(|_| lower)?;
    Some(*hash.as_bytes())
}

/// What a request is keyed by, beside its body.
#[derive(Clone, Copy, Debug)]
pub struct KeyedRequest<'a> {
    /// Whose entries it may see.
    pub tenant: &'a TenantScope,
    /// The upstream's normalised base URL.
    pub upstream: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path as it is forwarded, without the query.
    pub path: &'a str,
    /// The raw query as it is forwarded, without the question mark. No query and an empty one
    /// are the same.
    pub query: Option<&'a str>,
    /// All headers; the spec selects among them.
    pub headers: &'a HeaderMap,
}

/// What a spec contributes to a key, beside the canonical form of the body.
pub(crate) struct Identity<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: u16,
    /// A digest of what a declared spec says; none of a preset.
    pub(crate) rules: Option<&'a [u8; 32]>,
    /// Which query parameters count.
    pub(crate) query: &'a Selection,
    /// Sorted, without repeats; empty for a preset.
    pub(crate) ignored: &'a [Box<str>],
    /// Sorted, without repeats; empty for a preset.
    pub(crate) kept: &'a [Box<str>],
    /// The keyed header fields, in a fixed order.
    pub(crate) headers: &'a [HeaderName],
}

/// Marks each field of a preimage. The numbers are part of keys: never reuse one.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Tag {
    Domain = 1,
    SchemaVersion = 2,
    SpecName = 3,
    SpecVersion = 4,
    Ignored = 5,
    Kept = 6,
    Anonymous = 7,
    Named = 8,
    Credential = 9,
    Shared = 10,
    Upstream = 11,
    Method = 12,
    Path = 13,
    Query = 14,
    Header = 15,
    Stream = 16,
    Body = 17,
    NoValue = 18,
    Decoded = 19,
    Verbatim = 20,
    Item = 21,
    Rules = 22,
    FormBody = 23,
    MultipartBody = 24,
    RawBody = 25,
    NoBody = 26,
}

/// The key of a request whose body means this.
pub(crate) fn derive(
    identity: &Identity<'_>,
    request: &KeyedRequest<'_>,
    meaning: &Meaning,
) -> Key {
    // Without `..`, so that a new field wants a decision here.
    let KeyedRequest { tenant, upstream, method, path, query, headers } = request;
    let mut preimage = Preimage(Vec::with_capacity(1024));
    preimage.field(Tag::Domain, DOMAIN);
    preimage.field(Tag::SchemaVersion, &KEY_SCHEMA_VERSION.to_le_bytes());
    preimage.identity(identity);
    preimage.tenant(tenant);
    preimage.field(Tag::Upstream, upstream.as_bytes());
    preimage.field(Tag::Method, method.as_bytes());
    preimage.field(Tag::Path, path.as_bytes());
    preimage.query(query.unwrap_or_default(), identity.query);
    preimage.headers(identity.headers, headers);
    preimage.field(Tag::Stream, &[u8::from(meaning.facts.stream)]);
    preimage.field(body_tag(meaning.facts.body), &meaning.digest);
    Key(*blake3::hash(&preimage.0).as_bytes())
}

/// Two bodies that are read differently never share a key, whatever their canonical forms.
fn body_tag(form: BodyForm) -> Tag {
    match form {
        BodyForm::Json | BodyForm::ByType => Tag::Body,
        BodyForm::Form => Tag::FormBody,
        BodyForm::Multipart => Tag::MultipartBody,
        BodyForm::Raw => Tag::RawBody,
        BodyForm::None => Tag::NoBody,
    }
}

/// Why a pair of a query does not count, if it does not: credentials never do.
pub(crate) fn left_out_of_query<'s>(name: &[u8], selection: &'s Selection) -> Option<&'s str> {
    if name == CREDENTIAL_QUERY_NAME {
        return Some("a credential, which counts as the tenant");
    }
    selection.left_out(name)
}

/// All pairs that count, sorted by name. Pairs of one name keep their order, which servers give
/// a meaning.
pub(crate) fn keyed_pairs<'q>(query: &'q str, selection: &Selection) -> Vec<query::Pair<'q>> {
    let counts = |pair: &query::Pair<'_>| left_out_of_query(&pair.name.bytes, selection).is_none();
    let mut pairs: Vec<_> = query::pairs(query).filter(counts).collect();
    pairs.sort_by(|a, b| a.name.cmp(&b.name));
    pairs
}

struct Preimage(Vec<u8>);

impl Preimage {
    fn field(&mut self, tag: Tag, bytes: &[u8]) {
        self.count(tag, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn count(&mut self, tag: Tag, count: usize) {
        self.0.push(tag as u8);
        self.0.extend_from_slice(&(count as u64).to_le_bytes());
    }

    fn identity(&mut self, identity: &Identity<'_>) {
        self.field(Tag::SpecName, identity.name.as_bytes());
        self.field(Tag::SpecVersion, &identity.version.to_le_bytes());
        for (tag, members) in [(Tag::Ignored, identity.ignored), (Tag::Kept, identity.kept)] {
            self.count(tag, members.len());
            for member in members {
                self.field(Tag::Item, member.as_bytes());
            }
        }
        if let Some(rules) = identity.rules {
            self.field(Tag::Rules, rules);
        }
    }

    fn tenant(&mut self, tenant: &TenantScope) {
        match tenant {
            TenantScope::Anonymous => self.field(Tag::Anonymous, b""),
            TenantScope::Named(name) => self.field(Tag::Named, name.as_bytes()),
            TenantScope::Credential(digest) => self.field(Tag::Credential, digest),
            TenantScope::Shared => self.field(Tag::Shared, b""),
        }
    }

    fn query(&mut self, query: &str, selection: &Selection) {
        let pairs = keyed_pairs(query, selection);
        self.count(Tag::Query, pairs.len());
        for pair in &pairs {
            self.component(Some(&pair.name));
            self.component(pair.value.as_ref());
        }
    }

    fn component(&mut self, component: Option<&query::Component<'_>>) {
        match component {
            None => self.field(Tag::NoValue, b""),
            Some(part) if part.verbatim => self.field(Tag::Verbatim, &part.bytes),
            Some(part) => self.field(Tag::Decoded, &part.bytes),
        }
    }

    fn headers(&mut self, names: &[HeaderName], headers: &HeaderMap) {
        self.count(Tag::Header, names.len());
        // Most requests have none: that is seen quicker by going through theirs than by looking for each.
        let has_some = headers.keys().any(|name| names.contains(name));
        for name in names {
            self.field(Tag::Item, name.as_str().as_bytes());
            let values = || has_some.then(|| headers.get_all(name)).into_iter().flatten();
            self.count(Tag::Header, values().count());
            values().for_each(|value| self.field(Tag::Item, value.as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_it_is_written_and_in_no_other_form() {
        let key = Key::from_bytes([0xab; 32]);
        let text = key.to_string();
        assert_eq!(text, format!("ks1_{}", "ab".repeat(32)));
        assert_eq!(format!("{key:?}"), text);
        assert_eq!(text.parse(), Ok(key));
        let bad = [&text[4..], &text[..67], &text.to_uppercase(), &format!("{text}0"), "ks1_", ""];
        for bad in bad {
            assert_eq!(bad.parse::<Key>(), Err(InvalidKey), "{bad}");
        }
        assert_eq!(format!("ks1_{}", "AB".repeat(32)).parse::<Key>(), Err(InvalidKey));
    }
}
