//! Whether an answer may be given again: a decision on facts, a policy and a declaration.

use std::fmt;
use std::str::FromStr;

use crate::meaning::BodyFacts;
use crate::never::NeverReason;
use crate::route::Kind;
use crate::spec::{Dialect, KeySpec};

/// Which answers are reused. From a config's `reuse`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReusePolicy {
    /// Those that would come out the same, and those that the request declares reusable.
    #[default]
    Deterministic,
    /// Only those that the request declares reusable.
    Declared,
    /// All that can be keyed.
    Any,
}

impl fmt::Display for ReusePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deterministic => "deterministic",
            Self::Declared => "declared",
            Self::Any => "any",
        })
    }
}

/// The text is not a reuse policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reuse policy is one of: deterministic, declared, any")]
pub struct InvalidReusePolicy;

impl FromStr for ReusePolicy {
    type Err = InvalidReusePolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "deterministic" => Ok(Self::Deterministic),
            "declared" => Ok(Self::Declared),
            "any" => Ok(Self::Any),
            _ => Err(InvalidReusePolicy),
        }
    }
}

/// Why an answer may be reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Because {
    /// The request said `Cache-Server-Reuse: yes` or `new`.
    Declared,
    /// The policy is `any`.
    PolicyAny,
    /// The operation samples nothing: an embedding, a moderation, a token count.
    NotSampled,
    /// The temperature is 0.
    TemperatureZero,
    /// There is a seed.
    Seed,
    /// The spec says that the same request always gets the same answer.
    SpecDeterministic,
    /// The spec lists the tool.
    ToolListed,
    /// GET, HEAD and QUERY ask for nothing but an answer; the rules of HTTP decide what is stored.
    SafeMethod,
}

impl Because {
    /// A short stable token for logs and explanations.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::PolicyAny => "policy-any",
            Self::NotSampled => "not-sampled",
            Self::TemperatureZero => "temperature-zero",
            Self::Seed => "seed",
            Self::SpecDeterministic => "spec-deterministic",
            Self::ToolListed => "tool-listed",
            Self::SafeMethod => "safe-method",
        }
    }
}

/// Why an answer is not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotReused {
    /// Whatever the policy, and even when declared.
    Never(NeverReason),
    /// The upstream keeps a record of the call because the request does not forbid it, so reuse
    /// wants a declaration.
    StoresByDefault,
    /// The policy is `deterministic` and the answer is sampled.
    NotDeterministic,
    /// The policy is `declared` and the request declares nothing.
    NotDeclared,
    /// A tool may do more than answer: its calls are reused if the spec lists it.
    ToolNotListed,
    /// What a tool server offers changes when it pleases.
    ListingNotDeclared,
    /// The spec does not say that the same request always gets the same answer.
    SpecNotDeterministic,
    /// The method may do more than answer.
    UnsafeMethod,
}

impl NotReused {
    /// A short stable token, for the detail of a `Cache-Status`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Never(NeverReason::UpstreamState) => "upstream-state",
            Self::Never(NeverReason::Background) => "background",
            Self::Never(NeverReason::UpstreamStores) => "upstream-stores",
            Self::Never(NeverReason::ServerTool) => "server-tool",
            Self::StoresByDefault => "upstream-stores-by-default",
            Self::NotDeterministic => "not-deterministic",
            Self::NotDeclared => "not-declared",
            Self::Never(NeverReason::NoCall) => "no-call",
            Self::ToolNotListed => "tool-not-listed",
            Self::ListingNotDeclared => "listing-not-declared",
            Self::SpecNotDeterministic => "spec-not-deterministic",
            Self::UnsafeMethod => "unsafe-method",
        }
    }

    /// What the user would change to have the answer reused, in one sentence.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Never(NeverReason::UpstreamState) => {
                "The answer depends on state kept upstream (previous_response_id, conversation, \
                 container, or a prompt without a version): send the whole context instead."
            }
            Self::Never(NeverReason::Background) => {
                "A background call answers with a ticket and not a result: leave background out."
            }
            Self::Never(NeverReason::UpstreamStores) => {
                "store: true asks the upstream to record this very call: send store: false."
            }
            Self::Never(NeverReason::ServerTool) => {
                "The upstream runs tools whose results change, such as a web search: leave them \
                 out, or run them at the caller."
            }
            Self::StoresByDefault => {
                "Without store: false the upstream records each response: send store: false, or \
                 declare reuse with the request header Cache-Server-Reuse: yes, or set \
                 reuse = \"any\" on the [[route]]."
            }
            Self::NotDeterministic => {
                "Send temperature 0 or a seed; models that take no temperature never qualify by \
                 themselves: send the request header Cache-Server-Reuse: yes, or set \
                 reuse = \"any\" on the [[route]]."
            }
            Self::NotDeclared => {
                "This route reuses only what is declared: send the request header \
                 Cache-Server-Reuse: yes, or set reuse = \"any\" on the [[route]]."
            }
            Self::Never(NeverReason::NoCall) => {
                "The message is no call for a result, so there is nothing to reuse."
            }
            Self::ToolNotListed => {
                "A tool may do more than answer: list it in tools of its [[key_spec]], or send the \
                 request header Cache-Server-Reuse: yes."
            }
            Self::ListingNotDeclared => {
                "What a tool server offers may change: send the request header \
                 Cache-Server-Reuse: yes, or set reuse = \"any\" on the [[route]]."
            }
            Self::SpecNotDeterministic => {
                "Set deterministic = true in its [[key_spec]] if the same request always gets the \
                 same answer, or send the request header Cache-Server-Reuse: yes."
            }
            Self::UnsafeMethod => {
                "The method may do more than answer: declare a [[key_spec]] for the requests that \
                 do not."
            }
        }
    }
}

/// Decides whether answers to a request of a spec are reused.
pub(crate) fn decide(
    spec: &KeySpec,
    method: &str,
    facts: &BodyFacts,
    policy: ReusePolicy,
    declared: bool,
) -> Result<Because, NotReused> {
    if let Some(reason) = facts.never {
        return Err(NotReused::Never(reason));
    }
    if spec.dialect() == Dialect::Http && !spec.is_declared() {
        // A caller's word does not make a POST to anywhere repeatable.
        let is_safe = matches!(method, "GET" | "HEAD" | "QUERY");
        return if is_safe { Ok(Because::SafeMethod) } else { Err(NotReused::UnsafeMethod) };
    }
    if declared {
        return Ok(Because::Declared);
    }
    match policy {
        // What may do more than answer is never reused by a policy for all.
        ReusePolicy::Any if facts.kind == Kind::ToolCall => tool_call(spec, facts),
        ReusePolicy::Any => Ok(Because::PolicyAny),
        ReusePolicy::Declared => Err(NotReused::NotDeclared),
        ReusePolicy::Deterministic if facts.stores_by_default => Err(NotReused::StoresByDefault),
        ReusePolicy::Deterministic => deterministic(spec, facts),
    }
}

fn tool_call(spec: &KeySpec, facts: &BodyFacts) -> Result<Because, NotReused> {
    let listed = facts.tool.as_ref().is_some_and(|tool| spec.tools.contains(tool));
    if listed { Ok(Because::ToolListed) } else { Err(NotReused::ToolNotListed) }
}

fn deterministic(spec: &KeySpec, facts: &BodyFacts) -> Result<Because, NotReused> {
    if spec.is_deterministic {
        return Ok(Because::SpecDeterministic);
    }
    match facts.kind {
        Kind::Embedding | Kind::Moderation | Kind::TokenCount => Ok(Because::NotSampled),
        Kind::Generation if facts.temperature_is_zero => Ok(Because::TemperatureZero),
        Kind::Generation if facts.has_seed => Ok(Because::Seed),
        Kind::Generation => Err(NotReused::NotDeterministic),
        Kind::Listing => Err(NotReused::ListingNotDeclared),
        Kind::ToolCall => tool_call(spec, facts),
        Kind::Resource => Err(NotReused::SpecNotDeterministic),
    }
}
