//! Whose entry it is: credentials as presented, and the tenant scope that stands for them.
//!
//! Secrets are read, digested and forgotten here. Nothing in this module prints one.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use http::{HeaderMap, HeaderName, header};

use crate::query;

/// Separates these digests from every other use of BLAKE3. All nodes and tools must agree.
const CREDENTIAL_CONTEXT: &str = "cache-server 2026-11 keyspec credential digest v1";
const SCOPE_CONTEXT: &str = "cache-server 2026-11 keyspec tenant scope v1";
/// Its key, which is the same for each scope.
static SCOPE_KEY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(SCOPE_CONTEXT));

/// Whose entries a request may see. Part of every key, each kind under its own tag: a tenant
/// *named* `anonymous` is not [`TenantScope::Anonymous`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum TenantScope {
    /// The caller presented no credential.
    Anonymous,
    /// The caller's credential is mapped to a tenant of this name.
    Named(Arc<str>),
    /// The caller's credentials are mapped to no tenant and are one by themselves: a digest of
    /// all of them.
    Credential([u8; 32]),
    /// The route shares entries between all callers (`scope = "shared"`).
    Shared,
}

impl fmt::Debug for TenantScope {
    /// Shows no more of a credential's digest than tells two apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Named(name) => write!(f, "Named({name:?})"),
            Self::Credential(digest) => {
                let [a, b, c, d, ..] = digest;
                write!(f, "Credential({a:02x}{b:02x}{c:02x}{d:02x}…)")
            }
            Self::Shared => f.write_str("Shared"),
        }
    }
}

/// The digest of one secret, for looking its tenant up.
///
/// Written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialDigest([u8; 32]);

impl CredentialDigest {
    /// Digests a secret: BLAKE3 `derive_key` under a context of this project. API keys are long
    /// and random, so that a fast hash hides them.
    pub fn of(secret: &[u8]) -> Self {
        Self(blake3::derive_key(CREDENTIAL_CONTEXT, secret))
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for CredentialDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for CredentialDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a credential digest is 64 lower-case hex digits")]
pub struct InvalidCredentialDigest;

impl FromStr for CredentialDigest {
    type Err = InvalidCredentialDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        crate::key::bytes_from_hex(text).map(Self).ok_or(InvalidCredentialDigest)
    }
}

/// Where a credential stood. The numbers are part of scopes: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Source {
    Authorization = 1,
    XApiKey = 2,
    ApiKey = 3,
    XGoogApiKey = 4,
    QueryKey = 5,
    OpenAiOrganization = 6,
    OpenAiProject = 7,
    Cookie = 8,
    XPortkeyApiKey = 9,
    CfAigAuthorization = 10,
    OcpApimSubscriptionKey = 11,
    XLitellmApiKey = 12,
    HeliconeAuth = 13,
    Apikey = 14,
    XAuthToken = 15,
}

impl Source {
    /// Whether `Bearer` may stand before the secret.
    fn has_a_scheme(self) -> bool {
        matches!(self, Source::Authorization | Source::CfAigAuthorization | Source::HeliconeAuth)
    }
}

/// What providers take.
static SECRET_HEADERS: [(HeaderName, Source); 4] = [
    (header::AUTHORIZATION, Source::Authorization),
    (HeaderName::from_static("x-api-key"), Source::XApiKey),
    (HeaderName::from_static("api-key"), Source::ApiKey),
    (HeaderName::from_static("x-goog-api-key"), Source::XGoogApiKey),
];

/// What gateways take, beside a provider's or in its place: Portkey, Cloudflare AI Gateway, Azure API
/// Management, LiteLLM, Helicone, Kong, and others.
static GATEWAY_HEADERS: [(HeaderName, Source); 7] = [
    (HeaderName::from_static("x-portkey-api-key"), Source::XPortkeyApiKey),
    (HeaderName::from_static("cf-aig-authorization"), Source::CfAigAuthorization),
    (HeaderName::from_static("ocp-apim-subscription-key"), Source::OcpApimSubscriptionKey),
    (HeaderName::from_static("x-litellm-api-key"), Source::XLitellmApiKey),
    (HeaderName::from_static("helicone-auth"), Source::HeliconeAuth),
    (HeaderName::from_static("apikey"), Source::Apikey),
    (HeaderName::from_static("x-auth-token"), Source::XAuthToken),
];

/// Not secret, but they choose within an account what a credential sees.
static SCOPE_HEADERS: [(HeaderName, Source); 2] = [
    (HeaderName::from_static("openai-organization"), Source::OpenAiOrganization),
    (HeaderName::from_static("openai-project"), Source::OpenAiProject),
];

/// Whether a header counts in the tenant's scope, wherever cookies do not.
#[must_use]
pub fn is_credential(header: &HeaderName) -> bool {
    let mut all = SECRET_HEADERS.iter().chain(&GATEWAY_HEADERS).chain(&SCOPE_HEADERS);
    all.any(|(name, _)| name == header)
}

/// The query member that Google's APIs accept a key in. It is never part of a key's query.
pub(crate) const CREDENTIAL_QUERY_NAME: &[u8] = b"key";

/// The credentials of one request.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    headers: &'a HeaderMap,
    query: Option<&'a str>,
    with_cookies: bool,
    /// Whether some are for a gateway. Few callers have one: to see that there is none is quicker than to look
    /// for each.
    to_gateway: bool,
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} hidden)", self.secrets().count())
    }
}

impl<'a> Credentials<'a> {
    /// The credentials in these headers and this raw query: `Authorization`, `x-api-key`,
    /// `api-key`, `x-goog-api-key`, those of well-known gateways, and the query's `key`, all values of
    /// each. An empty value is none.
    pub fn from_request(headers: &'a HeaderMap, query: Option<&'a str>) -> Credentials<'a> {
        let to_gateway = headers.keys().any(is_for_gateway);
        Self { headers, query, with_cookies: false, to_gateway }
    }

    /// The same with `Cookie`, which tells callers apart wherever the rules of HTTP decide. It is
    /// part of the scope, and no secret that a tenant is known by.
    #[must_use]
    pub fn with_cookies(self) -> Credentials<'a> {
        Self { with_cookies: true, ..self }
    }

    /// Whether there are cookies that count.
    pub fn has_cookies(&self) -> bool {
        self.cookies().next().is_some()
    }

    /// Whether no secret was presented.
    pub fn is_empty(&self) -> bool {
        self.secrets().next().is_none()
    }

    /// One digest for each presented secret, for looking tenants up.
    ///
    /// `Bearer ` in front of an `Authorization` is not part of the secret, so that one key has
    /// one digest however it is sent. Other schemes are part of it.
    pub fn secret_digests(&self) -> impl Iterator<Item = CredentialDigest> {
        self.secrets().map(|(_, secret)| CredentialDigest::of(&secret))
    }

    /// The scope of a caller that is mapped to no tenant: a digest of every credential with
    /// where it stood, and of `OpenAI-Organization` and `OpenAI-Project`. With none of these,
    /// [`TenantScope::Anonymous`].
    pub fn own_scope(&self) -> TenantScope {
        let mut hasher = blake3::Hasher::new_from_context_key(&SCOPE_KEY);
        let mut parts = 0;
        let in_headers = self.header_values(&SCOPE_HEADERS).chain(self.cookies());
        for (source, value) in self.secrets().chain(in_headers) {
            hasher.update(&[source as u8]);
            hasher.update(&(value.len() as u64).to_le_bytes());
            hasher.update(&value);
            parts += 1;
        }
        match parts {
            0 => TenantScope::Anonymous,
            _ => TenantScope::Credential(*hasher.finalize().as_bytes()),
        }
    }

    /// A scope of the presented secrets alone, each once, wherever they stood: whoever shows the same ones
    /// in another place, or for another project, is taken or refused for the same. With none of these,
    /// [`TenantScope::Anonymous`].
    pub fn scope_of_secrets(&self) -> TenantScope {
        let mut digests: Vec<[u8; 32]> = self.secret_digests().map(|digest| digest.0).collect();
        if digests.is_empty() {
            return TenantScope::Anonymous;
        }
        digests.sort_unstable();
        digests.dedup();
        TenantScope::Credential(*blake3::hash(digests.as_flattened()).as_bytes())
    }

    fn cookies(&self) -> impl Iterator<Item = (Source, Cow<'a, [u8]>)> {
        static COOKIES: (HeaderName, Source) = (header::COOKIE, Source::Cookie);
        self.header_values(self.with_cookies.then_some(&COOKIES))
    }

    fn secrets(&self) -> impl Iterator<Item = (Source, Cow<'a, [u8]>)> {
        let to_gateway = self.to_gateway.then_some(&GATEWAY_HEADERS).into_iter().flatten();
        let in_headers = self.header_values(SECRET_HEADERS.iter().chain(to_gateway));
        let in_query = self
            .query
            .into_iter()
            .flat_map(query::pairs)
            .filter(|pair| *pair.name.bytes == *CREDENTIAL_QUERY_NAME)
            .map(|pair| (Source::QueryKey, pair.decoded_value()));
        in_headers.chain(in_query).filter(|(_, secret)| !secret.is_empty())
    }

    fn header_values(
        &self,
        wanted: impl IntoIterator<Item = &'static (HeaderName, Source)>,
    ) -> impl Iterator<Item = (Source, Cow<'a, [u8]>)> {
        let headers = self.headers;
        wanted.into_iter().flat_map(move |&(ref name, source)| {
            headers.get_all(name).iter().map(move |value| {
                let value = value.as_bytes().trim_ascii();
                let bearer = source.has_a_scheme().then(|| without_bearer(value));
                (source, Cow::Borrowed(bearer.unwrap_or(value)))
            })
        })
    }
}

fn is_for_gateway(header: &HeaderName) -> bool {
    // Most names have another length than all of these.
    GATEWAY_HEADERS.iter().any(|(name, _)| name == header)
}

/// RFC 6750, section 2.1; schemes are case-insensitive (RFC 9110, section 11.1).
fn without_bearer(value: &[u8]) -> &[u8] {
    match value.split_at_checked(6) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer") => match rest.first() {
            None => rest,
            Some(b' ') => rest.trim_ascii_start(),
            Some(_) => value,
        },
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn digests(pairs: &[(&'static str, &'static str)], query: Option<&str>) -> Vec<String> {
        let headers = headers(pairs);
        let credentials = Credentials::from_request(&headers, query);
        credentials.secret_digests().map(|digest| digest.to_string()).collect()
    }

    fn scope(pairs: &[(&'static str, &'static str)], query: Option<&str>) -> TenantScope {
        Credentials::from_request(&headers(pairs), query).own_scope()
    }

    #[test]
    fn one_secret_has_one_digest_however_it_is_sent() {
        let expected = vec![CredentialDigest::of(b"sk-1/2").to_string()];
        assert_eq!(digests(&[("authorization", "Bearer sk-1/2")], None), expected);
        assert_eq!(digests(&[("authorization", "bEARER   sk-1/2")], None), expected);
        assert_eq!(digests(&[("x-api-key", "sk-1/2")], None), expected);
        assert_eq!(digests(&[("api-key", "sk-1/2")], None), expected);
        assert_eq!(digests(&[("x-goog-api-key", "sk-1/2")], None), expected);
        assert_eq!(digests(&[("cf-aig-authorization", "Bearer sk-1/2")], None), expected);
        assert_eq!(digests(&[], Some("alt=sse&key=sk-1%2F2")), expected);
        assert_eq!(digests(&[], Some("k%65y=sk-1%2f2")), expected);
    }

    #[test]
    fn other_schemes_are_part_of_the_secret() {
        let expected = vec![CredentialDigest::of(b"Basic abc").to_string()];
        assert_eq!(digests(&[("authorization", "Basic abc")], None), expected);
        let expected = vec![CredentialDigest::of(b"Bearerx").to_string()];
        assert_eq!(digests(&[("authorization", "Bearerx")], None), expected);
    }

    #[test]
    fn every_repeated_credential_counts() {
        let twice = [("x-api-key", "a"), ("x-api-key", "b"), ("authorization", "Bearer c")];
        assert_eq!(digests(&twice, Some("key=d&key=e")).len(), 5);
        assert_ne!(scope(&twice, None), scope(&twice[1..], None));
    }

    #[test]
    fn an_empty_credential_is_none() {
        let empty = [("x-api-key", ""), ("authorization", "Bearer ")];
        assert!(Credentials::from_request(&headers(&empty), Some("key=&key")).is_empty());
        assert_eq!(scope(&empty, Some("key=")), TenantScope::Anonymous);
        assert!(!Credentials::from_request(&HeaderMap::new(), Some("key=k")).is_empty());
    }

    #[test]
    fn callers_without_credentials_are_anonymous() {
        assert_eq!(scope(&[("accept", "*/*")], Some("alt=sse")), TenantScope::Anonymous);
        assert_eq!(scope(&[], None), TenantScope::Anonymous);
    }

    #[test]
    fn different_credentials_are_different_scopes() {
        let key = ("authorization", "Bearer k");
        let scopes = [
            scope(&[], None),
            scope(&[key], None),
            scope(&[("authorization", "Bearer other")], None),
            scope(&[("x-api-key", "k")], None),
            scope(&[("api-key", "k")], None),
            scope(&[("x-goog-api-key", "k")], None),
            scope(&[("x-portkey-api-key", "k")], None),
            scope(&[("cf-aig-authorization", "Bearer k")], None),
            scope(&[("ocp-apim-subscription-key", "k")], None),
            scope(&[("x-litellm-api-key", "k")], None),
            scope(&[("helicone-auth", "Bearer k")], None),
            scope(&[("apikey", "k")], None),
            scope(&[("x-auth-token", "k")], None),
            scope(&[], Some("key=k")),
            scope(&[key, ("openai-organization", "org")], None),
            scope(&[key, ("openai-project", "org")], None),
            scope(&[key, ("x-api-key", "k")], None),
            scope(&[("openai-organization", "org")], None),
        ];
        for (index, scope) in scopes.iter().enumerate() {
            assert!(!scopes[..index].contains(scope), "scope {index} repeats another");
        }
    }

    #[test]
    fn the_same_secrets_have_one_scope_wherever_and_however_often_they_stand() {
        let of = |pairs: &[(&'static str, &'static str)], query| {
            Credentials::from_request(&headers(pairs), query).scope_of_secrets()
        };
        let k = of(&[("authorization", "Bearer k")], None);
        assert_eq!(k, of(&[("x-api-key", "k")], None));
        assert_eq!(k, of(&[("x-api-key", "k"), ("authorization", "Bearer k")], Some("key=k")));
        assert_eq!(k, of(&[("api-key", "k"), ("openai-project", "p")], None));
        assert_ne!(k, of(&[("api-key", "k"), ("x-api-key", "other")], None));
        assert_eq!(of(&[("openai-project", "p")], None), TenantScope::Anonymous);
    }

    #[test]
    fn a_secret_is_never_printed() {
        let headers = headers(&[("authorization", "Bearer hunter2")]);
        let credentials = Credentials::from_request(&headers, Some("key=hunter3"));
        let printed = format!("{credentials:?} {:?}", credentials.own_scope());
        assert!(!printed.contains("hunter"), "{printed}");
        assert!(printed.starts_with("Credentials(2 hidden) Credential("), "{printed}");
    }

    #[test]
    fn a_digest_reads_back_as_it_is_written_and_in_no_other_form() {
        let digest = CredentialDigest::of(b"sk-test");
        let text = digest.to_string();
        assert_eq!(text.parse(), Ok(digest));
        for bad in [&text[1..], &text.to_uppercase(), &format!("{text}0"), "", &"g".repeat(64)] {
            assert_eq!(bad.parse::<CredentialDigest>(), Err(InvalidCredentialDigest), "{bad}");
        }
    }
}
