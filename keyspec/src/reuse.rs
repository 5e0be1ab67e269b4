//! Whether an answer may be given again: a decision on facts, a policy and a declaration.

use std::fmt;
use std::str::FromStr;

use crate::meaning::Meaning;
use crate::never::NeverReason;
use crate::route::{Kind, ModelRoute};

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
        }
    }
}

/// Decides whether answers to a request are reused. `declared` says that the request carries
/// `Cache-Server-Reuse: yes` or `new`.
///
/// # Errors
/// When they are not, with the reason and what would change it.
pub fn reusable(
    route: ModelRoute,
    meaning: &Meaning,
    policy: ReusePolicy,
    declared: bool,
) -> Result<Because, NotReused> {
    if let Some(reason) = meaning.never {
        return Err(NotReused::Never(reason));
    }
    if declared {
        return Ok(Because::Declared);
    }
    match policy {
        ReusePolicy::Any => Ok(Because::PolicyAny),
        ReusePolicy::Declared => Err(NotReused::NotDeclared),
        ReusePolicy::Deterministic if meaning.stores_by_default => Err(NotReused::StoresByDefault),
        ReusePolicy::Deterministic => deterministic(route, meaning),
    }
}

fn deterministic(route: ModelRoute, meaning: &Meaning) -> Result<Because, NotReused> {
    if route.kind() != Kind::Generation {
        return Ok(Because::NotSampled);
    }
    if meaning.temperature_is_zero {
        return Ok(Because::TemperatureZero);
    }
    if meaning.has_seed { Ok(Because::Seed) } else { Err(NotReused::NotDeterministic) }
}
