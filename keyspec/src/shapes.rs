//! The top-level members that each preset knows, each with a decision: keyed, or left out and
//! why.
//!
//! A member that nobody has heard of is keyed, which is safe: at worst a hit is missed. Whether
//! that is meant or an oversight can only be told of members that are listed. So what is
//! documented is listed here, one decision a line and none by default, and whoever adds a member
//! to the requests of the tests has to decide on it. The members that presets leave out are
//! taken from here, so that nothing is said twice.

use crate::route::ModelRoute;
use crate::spec::Dialect;

/// What a preset does with a member that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is part of the key.
    Keyed,
    /// It is not, and why the answer does not depend on it.
    LeftOut(&'static str),
}

/// A top-level member and the decision on it.
pub(crate) type Member = (&'static str, Known);

const fn keyed(name: &'static str) -> Member {
    (name, Known::Keyed)
}

const fn left_out(name: &'static str, why: &'static str) -> Member {
    (name, Known::LeftOut(why))
}

const USER: Member =
    left_out("user", "names the end user for abuse detection; the model does not see it");
const REQUEST_ID: Member =
    left_out("request_id", "names one request for tracing; no two requests would share a key");

pub(crate) const CACHE_CONTROL_WHY: &str =
    "marks the upstream's prompt cache; it changes the price alone";

/// Create chat completion, OpenAI API reference; the last are of Azure OpenAI and of vLLM.
const OPENAI_CHAT: &[Member] = &[
    keyed("audio"),
    keyed("frequency_penalty"),
    keyed("function_call"),
    keyed("functions"),
    keyed("logit_bias"),
    keyed("logprobs"),
    keyed("max_completion_tokens"),
    keyed("max_tokens"),
    keyed("messages"),
    left_out("metadata", "labels a stored completion; not echoed, and a stored one is not reused"),
    keyed("modalities"),
    keyed("model"),
    keyed("n"),
    keyed("parallel_tool_calls"),
    keyed("prediction"),
    keyed("presence_penalty"),
    left_out("prompt_cache_key", "routes to a machine with a warm prompt cache"),
    left_out("prompt_cache_retention", "says how long the upstream keeps its prompt cache"),
    keyed("reasoning_effort"),
    keyed("response_format"),
    left_out("safety_identifier", "names the end user for abuse detection"),
    keyed("seed"),
    keyed("service_tier"),
    keyed("stop"),
    keyed("store"),
    keyed("stream"),
    keyed("stream_options"),
    keyed("temperature"),
    keyed("tool_choice"),
    keyed("tools"),
    keyed("top_logprobs"),
    keyed("top_p"),
    USER,
    keyed("verbosity"),
    keyed("web_search_options"),
    keyed("data_sources"),
    keyed("guided_json"),
    REQUEST_ID,
    keyed("structured_outputs"),
];

/// Create completion, OpenAI API reference; the last are of vLLM.
const OPENAI_COMPLETIONS: &[Member] = &[
    keyed("best_of"),
    keyed("echo"),
    keyed("frequency_penalty"),
    keyed("logit_bias"),
    keyed("logprobs"),
    keyed("max_tokens"),
    keyed("model"),
    keyed("n"),
    keyed("presence_penalty"),
    keyed("prompt"),
    keyed("seed"),
    keyed("stop"),
    keyed("stream"),
    keyed("stream_options"),
    keyed("suffix"),
    keyed("temperature"),
    keyed("top_p"),
    USER,
    keyed("guided_json"),
    REQUEST_ID,
    keyed("response_format"),
    keyed("structured_outputs"),
];

/// Create a model response, OpenAI API reference. A Response object echoes `user`, `metadata`,
/// `safety_identifier`, `prompt_cache_key` and `prompt_cache_retention`: a caller would be shown
/// another caller's. All stay in the key.
const OPENAI_RESPONSES: &[Member] = &[
    keyed("background"),
    keyed("context_management"),
    keyed("conversation"),
    keyed("include"),
    keyed("input"),
    keyed("instructions"),
    keyed("max_output_tokens"),
    keyed("max_tool_calls"),
    keyed("metadata"),
    keyed("model"),
    keyed("parallel_tool_calls"),
    keyed("previous_response_id"),
    keyed("prompt"),
    keyed("prompt_cache_key"),
    keyed("prompt_cache_retention"),
    keyed("reasoning"),
    keyed("safety_identifier"),
    keyed("service_tier"),
    keyed("store"),
    keyed("stream"),
    keyed("stream_options"),
    keyed("temperature"),
    keyed("text"),
    keyed("tool_choice"),
    keyed("tools"),
    keyed("top_logprobs"),
    keyed("top_p"),
    keyed("truncation"),
    keyed("user"),
];

/// Create embeddings, OpenAI API reference.
const OPENAI_EMBEDDINGS: &[Member] = &[
    keyed("dimensions"),
    keyed("encoding_format"),
    keyed("input"),
    keyed("model"),
    USER,
    REQUEST_ID,
];

/// Create moderation, OpenAI API reference.
const OPENAI_MODERATIONS: &[Member] = &[keyed("input"), keyed("model"), USER, REQUEST_ID];

/// Create a Message, Anthropic API reference, beta members among them.
const ANTHROPIC_MESSAGES: &[Member] = &[
    left_out("cache_control", CACHE_CONTROL_WHY),
    keyed("container"),
    keyed("context_management"),
    keyed("inference_geo"),
    keyed("max_tokens"),
    keyed("mcp_servers"),
    keyed("messages"),
    left_out("metadata", "names the end user for abuse detection; the model does not see it"),
    keyed("model"),
    keyed("output_config"),
    keyed("output_format"),
    keyed("service_tier"),
    keyed("speed"),
    keyed("stop_sequences"),
    keyed("stream"),
    keyed("system"),
    keyed("temperature"),
    keyed("thinking"),
    keyed("tool_choice"),
    keyed("tools"),
    keyed("top_k"),
    keyed("top_p"),
];

/// Count tokens in a Message, Anthropic API reference. It takes no `metadata`.
const ANTHROPIC_COUNT_TOKENS: &[Member] = &[
    left_out("cache_control", CACHE_CONTROL_WHY),
    keyed("context_management"),
    keyed("mcp_servers"),
    keyed("messages"),
    keyed("model"),
    keyed("output_config"),
    keyed("output_format"),
    keyed("speed"),
    keyed("system"),
    keyed("thinking"),
    keyed("tool_choice"),
    keyed("tools"),
];

/// generateContent, Gemini API and Vertex AI. Google's servers read the names of their JSON form
/// and those of the protocol alike.
const GEMINI_GENERATE: &[Member] = &[
    keyed("cachedContent"),
    keyed("cached_content"),
    keyed("contents"),
    keyed("generationConfig"),
    keyed("generation_config"),
    left_out("labels", "labels the request for billing; the model does not see it"),
    keyed("model"),
    keyed("modelArmorConfig"),
    keyed("model_armor_config"),
    keyed("safetySettings"),
    keyed("safety_settings"),
    keyed("serviceTier"),
    keyed("service_tier"),
    keyed("store"),
    keyed("systemInstruction"),
    keyed("system_instruction"),
    keyed("toolConfig"),
    keyed("tool_config"),
    keyed("tools"),
];

/// countTokens, Gemini API (contents, or a whole request) and Vertex AI.
const GEMINI_COUNT_TOKENS: &[Member] = &[
    keyed("contents"),
    keyed("generateContentRequest"),
    keyed("generate_content_request"),
    keyed("generationConfig"),
    keyed("generation_config"),
    keyed("instances"),
    keyed("model"),
    keyed("systemInstruction"),
    keyed("system_instruction"),
    keyed("tools"),
];

/// embedContent, Gemini API and Vertex AI.
const GEMINI_EMBED: &[Member] = &[
    keyed("autoTruncate"),
    keyed("auto_truncate"),
    keyed("content"),
    keyed("embedContentConfig"),
    keyed("embed_content_config"),
    keyed("model"),
    keyed("outputDimensionality"),
    keyed("output_dimensionality"),
    keyed("taskType"),
    keyed("task_type"),
    keyed("title"),
];

/// batchEmbedContents, Gemini API.
const GEMINI_BATCH_EMBED: &[Member] = &[keyed("requests")];

/// JSON-RPC 2.0. The answer carries the request's `id`, so whoever reuses it must set that.
const MCP: &[Member] = &[
    left_out("id", "numbers the caller's requests; a reused answer is given the asking one's"),
    keyed("jsonrpc"),
    keyed("method"),
    keyed("params"),
];

/// The members that the preset of a dialect knows.
pub(crate) const fn members(dialect: Dialect) -> &'static [Member] {
    match dialect {
        Dialect::Model(ModelRoute::OpenAiChatCompletions) => OPENAI_CHAT,
        Dialect::Model(ModelRoute::OpenAiCompletions) => OPENAI_COMPLETIONS,
        Dialect::Model(ModelRoute::OpenAiResponses) => OPENAI_RESPONSES,
        Dialect::Model(ModelRoute::OpenAiEmbeddings) => OPENAI_EMBEDDINGS,
        Dialect::Model(ModelRoute::OpenAiModerations) => OPENAI_MODERATIONS,
        Dialect::Model(ModelRoute::AnthropicMessages) => ANTHROPIC_MESSAGES,
        Dialect::Model(ModelRoute::AnthropicCountTokens) => ANTHROPIC_COUNT_TOKENS,
        Dialect::Model(
            ModelRoute::GeminiGenerateContent | ModelRoute::GeminiStreamGenerateContent,
        ) => GEMINI_GENERATE,
        Dialect::Model(ModelRoute::GeminiCountTokens) => GEMINI_COUNT_TOKENS,
        Dialect::Model(ModelRoute::GeminiEmbedContent) => GEMINI_EMBED,
        Dialect::Model(ModelRoute::GeminiBatchEmbedContents) => GEMINI_BATCH_EMBED,
        Dialect::Mcp => MCP,
        Dialect::Http => &[],
    }
}
