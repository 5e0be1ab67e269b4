//! Requests whose answers are never reused, even when reuse is declared: the answer depends on
//! something that is not in the request, or the call does more than answer.

use crate::deciding::Deciding;
use crate::json::{Object, Value, View};
use crate::route::{Kind, ModelRoute, Provider};

/// Why a request's answers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NeverReason {
    /// The answer depends on state kept at the upstream: `previous_response_id`,
    /// `conversation`, a stored `prompt` without its version, a `container`.
    UpstreamState,
    /// `background: true`: the answer is a ticket, and the result is fetched later by its id.
    Background,
    /// `store: true`: the caller wants the upstream to keep a record of this very call.
    UpstreamStores,
    /// The upstream runs tools of its own, such as a web search, whose results change.
    ServerTool,
    /// A message of the Model Context Protocol that is no call for a result: it opens or steers a
    /// session, watches something, or is a notification.
    NoCall,
}

/// The reason, if there is one.
pub(crate) fn reason(route: ModelRoute, top: &Deciding<'_>) -> Option<NeverReason> {
    match (route.provider(), route.kind()) {
        (Provider::OpenAi, Kind::Generation) => openai(route, top),
        (Provider::Anthropic, Kind::Generation) => anthropic(top),
        // Tools are counted and not run, but the tools of an MCP server are listed by asking it.
        (Provider::Anthropic, Kind::TokenCount) => mcp_servers(top),
        (Provider::Gemini, Kind::Generation) => gemini(top),
        _ => None,
    }
}

fn openai(route: ModelRoute, top: &Deciding<'_>) -> Option<NeverReason> {
    let responses = route == ModelRoute::OpenAiResponses;
    if top.previous_response_id.is_some() || top.conversation.is_some() {
        return Some(NeverReason::UpstreamState);
    }
    if responses && (top.prompt.is_some_and(has_no_version) || refers_to_items(top)) {
        return Some(NeverReason::UpstreamState);
    }
    if top.background.is_some_and(is_true) {
        return Some(NeverReason::Background);
    }
    if top.store.is_some_and(is_true) {
        return Some(NeverReason::UpstreamStores);
    }
    let searches = top.web_search_options.is_some()
        || top.search_parameters.is_some()
        || top.enable_search.is_some_and(is_true)
        || [top.data_sources, top.plugins].into_iter().flatten().any(is_not_empty)
        || top.model.is_some_and(is_search_model);
    let runs_tools = searches || tools(top).any(is_openai_server_tool);
    runs_tools.then_some(NeverReason::ServerTool)
}

fn anthropic(top: &Deciding<'_>) -> Option<NeverReason> {
    if top.container.is_some() {
        return Some(NeverReason::UpstreamState);
    }
    if tools(top).any(|tool| has_type(tool, is_anthropic_server_tool)) {
        return Some(NeverReason::ServerTool);
    }
    mcp_servers(top)
}

fn mcp_servers(top: &Deciding<'_>) -> Option<NeverReason> {
    top.mcp_servers.is_some_and(is_not_empty).then_some(NeverReason::ServerTool)
}

/// `cachedContent` is no reason: the upstream makes its name once, and only the lifetime of
/// what it names can be changed after (Gemini API, caching). So the name is as good as the
/// content.
fn gemini(top: &Deciding<'_>) -> Option<NeverReason> {
    tools(top).any(is_gemini_server_tool).then_some(NeverReason::ServerTool)
}

/// All but what is known to run at the caller: providers of this form have tools of their own
/// (`web_search_preview_2025_03_11`, `x_search`, `browser_search`), and more of them each month.
/// Gateways take those of other providers as well, which have a member for each thing that they are, and no
/// type (`{"googleSearch":{}}`).
fn is_openai_server_tool(tool: Value<'_>) -> bool {
    let View::Object(tool) = tool.view() else { return false };
    match tool.get("type").map(Value::view) {
        Some(View::String(kind)) => {
            !matches!(&*kind.unescaped(), "function" | "custom" | "apply_patch")
        }
        Some(_) => false,
        None => !["function", "name"].iter().any(|name| tool.get(name).is_some()),
    }
}

/// Likewise. A search among the tools of the request has its answer in the request.
fn is_anthropic_server_tool(kind: &str) -> bool {
    const AT_THE_CALLER: [&str; 5] =
        ["bash_", "text_editor_", "computer_", "memory_", "tool_search_tool_"];
    kind != "custom" && !AT_THE_CALLER.iter().any(|prefix| kind.starts_with(prefix))
}

/// A Gemini tool is an object with a member for each thing it is. All but function
/// declarations and computer use run at the upstream, and so may those yet unknown.
fn is_gemini_server_tool(tool: Value<'_>) -> bool {
    const AT_THE_CALLER: [&str; 4] =
        ["functionDeclarations", "function_declarations", "computerUse", "computer_use"];
    let View::Object(tool) = tool.view() else { return false };
    tool.members().any(|(name, value)| {
        !matches!(value.view(), View::Null) && !AT_THE_CALLER.iter().any(|known| name.is(known))
    })
}

/// Models that search the web by themselves: OpenAI's, dated names among them; any with OpenRouter's suffix;
/// Perplexity's; Groq's compound systems.
fn is_search_model(model: Value<'_>) -> bool {
    let View::String(model) = model.view() else { return false };
    let model = model.unescaped();
    let name = model.rsplit('/').next().unwrap_or_default();
    if name.ends_with("online") || name.starts_with("sonar") || name.starts_with("compound") {
        return true;
    }
    let infix = b"-search-";
    // Few models have it, and a name is short: quicker than to set up a search.
    model.as_bytes().windows(infix.len()).any(|part| part == infix)
        && (model.contains("-search-preview") || model.contains("-search-api"))
}

/// Responses: whether the input holds items that are kept upstream, by their ids. The type of such a
/// reference may be left out.
fn refers_to_items(top: &Deciding<'_>) -> bool {
    elements_of(top.input).any(|item| {
        has_type(item, |kind| kind == "item_reference")
            || matches!(item.view(), View::Object(item) if is_an_id_alone(item))
    })
}

fn is_an_id_alone(item: Object<'_>) -> bool {
    let says_more = ["type", "role", "content"].iter().any(|name| item.get(name).is_some());
    !says_more && matches!(item.get("id").map(Value::view), Some(View::String(_)))
}

fn tools<'d>(top: &Deciding<'d>) -> impl Iterator<Item = Value<'d>> + use<'d> {
    elements_of(top.tools)
}

/// The elements of a list, or the value itself where it is one object.
fn elements_of(value: Option<Value<'_>>) -> impl Iterator<Item = Value<'_>> {
    let elements = value.and_then(|value| match value.view() {
        View::Array(array) => Some(array.elements()),
        _ => None,
    });
    let single = value.filter(|value| matches!(value.view(), View::Object(_)));
    elements.into_iter().flatten().chain(single)
}

fn has_type(tool: Value<'_>, is_meant: fn(&str) -> bool) -> bool {
    let View::Object(tool) = tool.view() else { return false };
    match tool.get("type").map(Value::view) {
        Some(View::String(kind)) => is_meant(&kind.unescaped()),
        _ => false,
    }
}

fn has_no_version(prompt: Value<'_>) -> bool {
    matches!(prompt.view(), View::Object(prompt) if prompt.get("version").is_none())
}

fn is_true(value: Value<'_>) -> bool {
    matches!(value.view(), View::Bool(true))
}

fn is_not_empty(value: Value<'_>) -> bool {
    match value.view() {
        View::Array(array) => array.elements().next().is_some(),
        _ => true,
    }
}
