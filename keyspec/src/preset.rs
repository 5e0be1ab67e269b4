//! What each route leaves out of its keys below the top level, where it keeps member order, and
//! which headers it keys: tables, each line with its reason.
//!
//! Everything not listed here is in the key, members nobody has heard of included.

use crate::route::{ModelRoute, Provider};
use crate::shapes::{self, CACHE_CONTROL_WHY, Known};
use crate::spec::Dialect;

/// A member that a preset leaves out of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it stands: names between points, `[]` for any element of an array.
    pub path: &'static str,
    /// Why the answer does not depend on it.
    pub why: &'static str,
}

const fn left_out(path: &'static str, why: &'static str) -> LeftOut {
    LeftOut { path, why }
}

/// Prompt caching, Anthropic documentation. Content blocks nest: a tool result holds blocks, a
/// document's source too, and a search result in a tool result. Each path ends at a block's own
/// member, so that a `cache_control` in a tool call's `input` is never meant.
const ANTHROPIC_CACHE_CONTROL: &[LeftOut] = &[
    left_out("system[].cache_control", CACHE_CONTROL_WHY),
    left_out("tools[].cache_control", CACHE_CONTROL_WHY),
    left_out("messages[].content[].cache_control", CACHE_CONTROL_WHY),
    left_out("messages[].content[].source.content[].cache_control", CACHE_CONTROL_WHY),
    left_out("messages[].content[].content[].cache_control", CACHE_CONTROL_WHY),
    left_out("messages[].content[].content[].source.content[].cache_control", CACHE_CONTROL_WHY),
    left_out("messages[].content[].content[].content[].cache_control", CACHE_CONTROL_WHY),
];

/// The Model Context Protocol, revision 2026-07-28.
const MCP: &[LeftOut] = &[
    left_out("params._meta.progressToken", "names the call in notices on its progress"),
    left_out("params._meta.traceparent", "names a trace; no two requests would share a key"),
    left_out("params._meta.tracestate", "belongs to the trace"),
    left_out("params._meta.baggage", "belongs to the trace"),
];

/// The members that a preset leaves out: those of the top level (`shapes`), then those below.
pub(crate) fn left_out_of(dialect: Dialect) -> impl Iterator<Item = LeftOut> {
    let top = shapes::members(dialect).iter().filter_map(|(name, known)| match known {
        Known::LeftOut(why) => Some(left_out(name, why)),
        Known::Keyed => None,
    });
    top.chain(left_out_below(dialect).iter().copied())
}

const fn left_out_below(dialect: Dialect) -> &'static [LeftOut] {
    match dialect {
        Dialect::Model(ModelRoute::AnthropicMessages | ModelRoute::AnthropicCountTokens) => {
            ANTHROPIC_CACHE_CONTROL
        }
        Dialect::Mcp => MCP,
        Dialect::Model(_) | Dialect::Http => &[],
    }
}

/// Paths under which members keep their order: structured output follows the order of the
/// schema's members, so that two orders are two requests.
pub(crate) const fn schema_paths(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Model(route) => schema_paths_of_model(route),
        // What a tool or a prompt is given is data, whose order does not count.
        Dialect::Mcp | Dialect::Http => &[],
    }
}

const fn schema_paths_of_model(route: ModelRoute) -> &'static [&'static str] {
    match route {
        ModelRoute::OpenAiChatCompletions => OPENAI_CHAT_SCHEMAS,
        ModelRoute::OpenAiCompletions => OPENAI_COMPLETIONS_SCHEMAS,
        // A namespace has tools of its own.
        ModelRoute::OpenAiResponses => {
            &["text.format.schema", "tools[].parameters", "tools[].tools[].parameters"]
        }
        ModelRoute::OpenAiEmbeddings | ModelRoute::OpenAiModerations => &[],
        ModelRoute::AnthropicMessages | ModelRoute::AnthropicCountTokens => {
            &["tools[].input_schema", "output_format.schema", "output_config.format.schema"]
        }
        ModelRoute::GeminiGenerateContent | ModelRoute::GeminiStreamGenerateContent => {
            GEMINI_GENERATE_SCHEMAS
        }
        ModelRoute::GeminiCountTokens => GEMINI_COUNT_SCHEMAS,
        ModelRoute::GeminiEmbedContent | ModelRoute::GeminiBatchEmbedContents => &[],
    }
}

/// The later ones are of servers that speak this format: a schema beside `json_object` (llama.cpp, Together
/// AI), structural tags in their two forms, and vLLM's and llama.cpp's own members.
const OPENAI_CHAT_SCHEMAS: &[&str] = &[
    "response_format.json_schema.schema",
    "tools[].function.parameters",
    "functions[].parameters",
    "response_format.schema",
    "response_format.structures[].schema",
    "response_format.format",
    "guided_json",
    "structured_outputs.json",
    "json_schema",
];

const OPENAI_COMPLETIONS_SCHEMAS: &[&str] = &[
    "response_format.json_schema.schema",
    "response_format.schema",
    "response_format.structures[].schema",
    "response_format.format",
    "guided_json",
    "structured_outputs.json",
    "json_schema",
];

/// Google's servers read the names of their JSON form and those of the protocol alike.
const GEMINI_GENERATE_SCHEMAS: &[&str] = &[
    "generationConfig|generation_config.responseSchema|response_schema",
    "generationConfig|generation_config.responseJsonSchema|response_json_schema",
    "generationConfig|generation_config._responseJsonSchema",
    "tools[].functionDeclarations|function_declarations[].parameters|response",
    "tools[].functionDeclarations|function_declarations[].parametersJsonSchema|parameters_json_schema",
    "tools[].functionDeclarations|function_declarations[].responseJsonSchema|response_json_schema",
];

/// A count is given contents and tools by themselves (Vertex AI) or a whole generation request.
const GEMINI_COUNT_SCHEMAS: &[&str] = &[
    "generationConfig|generation_config.responseSchema|response_schema",
    "generationConfig|generation_config.responseJsonSchema|response_json_schema",
    "generationConfig|generation_config._responseJsonSchema",
    "tools[].functionDeclarations|function_declarations[].parameters|response",
    "tools[].functionDeclarations|function_declarations[].parametersJsonSchema|parameters_json_schema",
    "tools[].functionDeclarations|function_declarations[].responseJsonSchema|response_json_schema",
    "generateContentRequest|generate_content_request.generationConfig|generation_config.responseSchema|response_schema",
    "generateContentRequest|generate_content_request.generationConfig|generation_config.responseJsonSchema|response_json_schema",
    "generateContentRequest|generate_content_request.generationConfig|generation_config._responseJsonSchema",
    "generateContentRequest|generate_content_request.tools[].functionDeclarations|function_declarations[].parameters|response",
    "generateContentRequest|generate_content_request.tools[].functionDeclarations|function_declarations[].parametersJsonSchema|parameters_json_schema",
    "generateContentRequest|generate_content_request.tools[].functionDeclarations|function_declarations[].responseJsonSchema|response_json_schema",
];

/// Headers that change the answer, lower-case. All others are forwarded and not keyed.
pub(crate) const fn keyed_headers(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Model(route) => match route.provider() {
            // Of Azure AI and Amazon Bedrock, which speak these formats too: another deployment, what becomes of
            // unknown members, and filters.
            Provider::OpenAi => &[
                "azureml-model-deployment",
                "extra-parameters",
                "openai-beta",
                "x-amzn-bedrock-guardrailidentifier",
                "x-amzn-bedrock-guardrailversion",
            ],
            Provider::Anthropic => &[
                "anthropic-beta",
                "anthropic-version",
                "x-amzn-bedrock-guardrailidentifier",
                "x-amzn-bedrock-guardrailversion",
            ],
            // Which fields of the answer are wanted.
            Provider::Gemini => &["x-goog-fieldmask"],
        },
        // Sessions ended with revision 2026-07-28; what one sees in an older one is its own.
        Dialect::Mcp => &["mcp-protocol-version", "mcp-session-id"],
        // `Vary` says it, which is the cache's to follow.
        Dialect::Http => &[],
    }
}
