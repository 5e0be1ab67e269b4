//! `keyspec key`: the key alone on a line, or why there is none.

use std::process::ExitCode;

use keyspec::{Key, ReusePolicy};
use serde_json::json;

use crate::Usage;
use crate::arguments::KeyArguments;
use crate::request::{self, Described, Said};

/// The exit code where a request has no key or may not be cached.
const NO_KEY: u8 = 3;

pub(crate) fn run(arguments: &KeyArguments) -> Result<ExitCode, Usage> {
    let described = Described::of(&arguments.request)?;
    let body = request::body(arguments.body.as_deref())?;
    let found = find(&described, &body, arguments.request.reuse);
    let usable = found.key.filter(|_| found.refused.is_none() || arguments.force);
    if arguments.request.json {
        println!("{}", as_json(&found));
    } else if let Some(key) = usable {
        println!("{key}");
    }
    match (usable, &found.refused) {
        (None, Some(Refused { code, why })) => {
            eprintln!("keyspec: {code}: {why}");
            Ok(ExitCode::from(NO_KEY))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// What a request comes to.
struct Found {
    /// None if its body is not keyable.
    key: Option<Key>,
    /// Why it may not be cached, if it may not.
    refused: Option<Refused>,
}

struct Refused {
    /// A short stable word.
    code: &'static str,
    why: String,
}

fn find(described: &Described, body: &[u8], policy: ReusePolicy) -> Found {
    let spec = &described.spec;
    let meaning = match spec.read_as(described.content_type(), body) {
        Ok(meaning) => meaning,
        Err(reason) => {
            let refused = Refused { code: reason.code(), why: reason.to_string() };
            return Found { key: None, refused: Some(refused) };
        }
    };
    let key = Some(spec.key(&described.keyed(), &meaning));
    let said = described.said();
    if said == Said::DoNotReuse {
        let why = "The request says Cache-Server-Reuse: no.".into();
        return Found { key, refused: Some(Refused { code: "reuse-no", why }) };
    }
    let decision = spec.reusable(&described.method, &meaning.facts, policy, said == Said::Reuse);
    let refused = decision.err();
    let refused = refused.map(|why| Refused { code: why.code(), why: why.advice().to_owned() });
    Found { key, refused }
}

fn as_json(Found { key, refused }: &Found) -> serde_json::Value {
    let key = key.map(|key| key.to_string());
    match refused {
        None => json!({ "key": key, "cached": true }),
        Some(Refused { code, why }) => {
            json!({ "key": key, "cached": false, "reason": code, "why": why })
        }
    }
}
