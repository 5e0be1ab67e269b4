//! Requests of the Model Context Protocol over HTTP (revisions 2025-11-25 and 2026-07-28): one
//! JSON-RPC call a body. Which call it is stands in the body; the `Mcp-Method` and `Mcp-Name`
//! fields repeat it, and the upstream refuses a request in which they differ.

use crate::json::{Object, Value, View};
use crate::never::NeverReason;
use crate::route::Kind;

/// Longest tool name that is reported, in bytes as spelled in the body.
const TOOL_BYTES_MAX: usize = 256;

/// What a call asks for.
pub(crate) struct Call {
    pub(crate) kind: Kind,
    /// The tool, of a `tools/call`.
    pub(crate) tool: Option<Box<str>>,
    pub(crate) never: Option<NeverReason>,
}

/// Reads the call of a body.
pub(crate) fn call(top: Object<'_>) -> Call {
    let method = top.get("method").and_then(text).unwrap_or_default();
    let kind = match method.as_str() {
        // The six whose results carry `ttlMs` and `cacheScope` (2026-07-28, caching).
        "tools/list"
        | "prompts/list"
        | "resources/list"
        | "resources/templates/list"
        | "resources/read"
        | "server/discover" => Kind::Listing,
        _ => Kind::ToolCall,
    };
    let params = top.get("params").and_then(object);
    let tool = match method.as_str() {
        "tools/call" => params.and_then(|params| params.get("name")).and_then(short_text),
        _ => None,
    };
    Call { kind, tool, never: never(&method, top, params) }
}

fn never(method: &str, top: Object<'_>, params: Option<Object<'_>>) -> Option<NeverReason> {
    let is_known = matches!(
        method,
        "tools/list"
            | "tools/call"
            | "prompts/list"
            | "prompts/get"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
            | "server/discover"
            | "completion/complete"
    );
    // A notification has no id and gets no answer; what is not listed opens, steers or watches.
    if !is_known || top.get("id").is_none() {
        return Some(NeverReason::NoCall);
    }
    let params = params?;
    if params.get("inputResponses").is_some() || params.get("requestState").is_some() {
        return Some(NeverReason::UpstreamState);
    }
    params.get("task").map(|_| NeverReason::Background)
}

fn object(value: Value<'_>) -> Option<Object<'_>> {
    match value.view() {
        View::Object(object) => Some(object),
        _ => None,
    }
}

fn text(value: Value<'_>) -> Option<String> {
    short_text(value).map(Into::into)
}

fn short_text(value: Value<'_>) -> Option<Box<str>> {
    match value.view() {
        View::String(text) if text.raw_len() <= TOOL_BYTES_MAX => Some(text.unescaped().into()),
        _ => None,
    }
}
