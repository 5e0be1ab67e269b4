//! Declared specs through the front door: a file of them, the one that reads a request, and the
//! keys that come of it.

mod forms;
mod members;
mod refused;
mod routes;
mod rules;

use http::{HeaderMap, HeaderName, HeaderValue};
use keyspec::{Key, KeySpecs, KeyedRequest, NotKeyable, SpecError, TenantScope};

/// A file of one spec for `POST /x` that says this beside.
fn one(more: &str) -> String {
    format!("version = 1\n[[key_spec]]\nname = \"one\"\nversion = 1\npath = \"/x\"\n{more}\n")
}

fn specs(text: &str) -> KeySpecs {
    KeySpecs::from_toml(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refusal(text: &str) -> SpecError {
    match KeySpecs::from_toml(text) {
        Ok(_) => panic!("it should be refused:\n{text}"),
        Err(error) => error,
    }
}

/// A request as tests write it.
#[derive(Clone)]
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: &'a [(&'a str, &'a str)],
    content_type: Option<&'a str>,
    body: &'a [u8],
}

fn json(body: &str) -> Request<'_> {
    Request {
        method: "POST",
        path: "/x",
        query: None,
        headers: &[],
        content_type: Some("application/json"),
        body: body.as_bytes(),
    }
}

impl Request<'_> {
    fn key(&self, specs: &KeySpecs) -> Result<Key, NotKeyable> {
        let found = specs.find(self.method, self.path).expect("a spec reads it");
        let meaning = found.spec.read_as(self.content_type, self.body)?;
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let request = KeyedRequest {
            tenant: &TenantScope::Anonymous,
            upstream: "https://api.example.com",
            method: self.method,
            path: self.path,
            query: self.query,
            headers: &headers,
        };
        Ok(found.spec.key(&request, &meaning))
    }
}

/// Asserts which JSON bodies have the key of the first, under a spec that says this.
fn assert_bodies(more: &str, first: &str, same: &[&str], others: &[&str]) {
    let specs = specs(&one(more));
    let key = |body: &str| json(body).key(&specs).expect("keyable");
    for body in same {
        assert_eq!(key(body), key(first), "{more}: {body} is as good as {first}");
    }
    for body in others {
        assert_ne!(key(body), key(first), "{more}: {body} is not {first}");
    }
}
