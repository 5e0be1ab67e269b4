//! Model routes: the provider operations whose requests have a meaning beyond their bytes.

/// What an operation produces, which decides whether its answers are reused by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Text or other content sampled from a model.
    Generation,
    /// Vectors: the same input gives the same vector.
    Embedding,
    /// A classification: the same input gives the same scores while the model stays.
    Moderation,
    /// A number of tokens, computed and not sampled.
    TokenCount,
    /// What a tool server has to offer, or one of its resources (MCP).
    Listing,
    /// What a tool or a prompt of a tool server makes of its arguments (MCP).
    ToolCall,
    /// Anything else.
    Resource,
}

/// Whose wire format a route speaks. The upstream may be anyone who speaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// OpenAI, Azure OpenAI and the many that copy them.
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// Google Gemini, and Vertex AI for Google's models.
    Gemini,
}

/// A model operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModelRoute {
    /// `POST …/chat/completions`
    OpenAiChatCompletions,
    /// `POST …/completions`
    OpenAiCompletions,
    /// `POST …/responses`
    OpenAiResponses,
    /// `POST …/embeddings`
    OpenAiEmbeddings,
    /// `POST …/moderations`
    OpenAiModerations,
    /// `POST …/v1/messages`
    AnthropicMessages,
    /// `POST …/v1/messages/count_tokens`
    AnthropicCountTokens,
    /// `POST …/models/{model}:generateContent`
    GeminiGenerateContent,
    /// `POST …/models/{model}:streamGenerateContent`
    GeminiStreamGenerateContent,
    /// `POST …/models/{model}:countTokens`
    GeminiCountTokens,
    /// `POST …/models/{model}:embedContent`
    GeminiEmbedContent,
    /// `POST …/models/{model}:batchEmbedContents`
    GeminiBatchEmbedContents,
}

/// What a spec's requests are counted under, and what decides how their answers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// A model operation, also where a declared spec begins with its preset.
    Model(ModelRoute),
    /// Whatever else a spec was declared for.
    Declared,
    /// All else, by the rules of HTTP.
    Generic,
}

impl Route {
    /// The stable name, as in metrics. All declared specs share one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model(route) => route.name(),
            Self::Declared => "declared",
            Self::Generic => "http",
        }
    }
}

/// A request's route, and the model if the path names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteMatch<'p> {
    /// The route.
    pub route: ModelRoute,
    /// The model of a Gemini path, or the deployment of an Azure path: as written, still
    /// percent-encoded, never empty.
    pub model_in_path: Option<&'p str>,
}

impl ModelRoute {
    /// All routes, by provider.
    pub const ALL: [ModelRoute; 12] = [
        ModelRoute::OpenAiChatCompletions,
        ModelRoute::OpenAiCompletions,
        ModelRoute::OpenAiResponses,
        ModelRoute::OpenAiEmbeddings,
        ModelRoute::OpenAiModerations,
        ModelRoute::AnthropicMessages,
        ModelRoute::AnthropicCountTokens,
        ModelRoute::GeminiGenerateContent,
        ModelRoute::GeminiStreamGenerateContent,
        ModelRoute::GeminiCountTokens,
        ModelRoute::GeminiEmbedContent,
        ModelRoute::GeminiBatchEmbedContents,
    ];

    /// The stable name, as in configs, metrics and keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiChatCompletions => "openai.chat_completions",
            Self::OpenAiCompletions => "openai.completions",
            Self::OpenAiResponses => "openai.responses",
            Self::OpenAiEmbeddings => "openai.embeddings",
            Self::OpenAiModerations => "openai.moderations",
            Self::AnthropicMessages => "anthropic.messages",
            Self::AnthropicCountTokens => "anthropic.count_tokens",
            Self::GeminiGenerateContent => "gemini.generate_content",
            Self::GeminiStreamGenerateContent => "gemini.stream_generate_content",
            Self::GeminiCountTokens => "gemini.count_tokens",
            Self::GeminiEmbedContent => "gemini.embed_content",
            Self::GeminiBatchEmbedContents => "gemini.batch_embed_contents",
        }
    }

    /// The route of this [`name`](Self::name), if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|route| route.name() == name)
    }

    /// What the operation produces.
    pub const fn kind(self) -> Kind {
        match self {
            Self::OpenAiChatCompletions
            | Self::OpenAiCompletions
            | Self::OpenAiResponses
            | Self::AnthropicMessages
            | Self::GeminiGenerateContent
            | Self::GeminiStreamGenerateContent => Kind::Generation,
            Self::OpenAiEmbeddings | Self::GeminiEmbedContent | Self::GeminiBatchEmbedContents => {
                Kind::Embedding
            }
            Self::OpenAiModerations => Kind::Moderation,
            Self::AnthropicCountTokens | Self::GeminiCountTokens => Kind::TokenCount,
        }
    }

    /// Whose wire format it is.
    pub const fn provider(self) -> Provider {
        match self {
            Self::OpenAiChatCompletions
            | Self::OpenAiCompletions
            | Self::OpenAiResponses
            | Self::OpenAiEmbeddings
            | Self::OpenAiModerations => Provider::OpenAi,
            Self::AnthropicMessages | Self::AnthropicCountTokens => Provider::Anthropic,
            Self::GeminiGenerateContent
            | Self::GeminiStreamGenerateContent
            | Self::GeminiCountTokens
            | Self::GeminiEmbedContent
            | Self::GeminiBatchEmbedContents => Provider::Gemini,
        }
    }

    /// A path of this route, for explanations.
    pub const fn example_path(self) -> &'static str {
        match self {
            Self::OpenAiChatCompletions => "/v1/chat/completions",
            Self::OpenAiCompletions => "/v1/completions",
            Self::OpenAiResponses => "/v1/responses",
            Self::OpenAiEmbeddings => "/v1/embeddings",
            Self::OpenAiModerations => "/v1/moderations",
            Self::AnthropicMessages => "/v1/messages",
            Self::AnthropicCountTokens => "/v1/messages/count_tokens",
            Self::GeminiGenerateContent => "/v1beta/models/gemini:generateContent",
            Self::GeminiStreamGenerateContent => "/v1beta/models/gemini:streamGenerateContent",
            Self::GeminiCountTokens => "/v1beta/models/gemini:countTokens",
            Self::GeminiEmbedContent => "/v1beta/models/gemini:embedContent",
            Self::GeminiBatchEmbedContents => "/v1beta/models/gemini:batchEmbedContents",
        }
    }

    /// Patterns of the paths of this route, for finding what else is for them.
    pub(crate) const fn patterns(self) -> &'static [&'static str] {
        match self {
            Self::OpenAiChatCompletions => &["/**/chat/completions"],
            Self::OpenAiCompletions => &["/**/completions"],
            Self::OpenAiResponses => &["/**/responses"],
            Self::OpenAiEmbeddings => &["/**/embeddings"],
            Self::OpenAiModerations => &["/**/moderations"],
            Self::AnthropicMessages => &["/**/v1/messages", "/messages"],
            Self::AnthropicCountTokens => {
                &["/**/v1/messages/count_tokens", "/messages/count_tokens"]
            }
            Self::GeminiGenerateContent => {
                &["/**/models/{model}:generateContent", "/**/tunedModels/{model}:generateContent"]
            }
            Self::GeminiStreamGenerateContent => &[
                "/**/models/{model}:streamGenerateContent",
                "/**/tunedModels/{model}:streamGenerateContent",
            ],
            Self::GeminiCountTokens => {
                &["/**/models/{model}:countTokens", "/**/tunedModels/{model}:countTokens"]
            }
            Self::GeminiEmbedContent => {
                &["/**/models/{model}:embedContent", "/**/tunedModels/{model}:embedContent"]
            }
            Self::GeminiBatchEmbedContents => &[
                "/**/models/{model}:batchEmbedContents",
                "/**/tunedModels/{model}:batchEmbedContents",
            ],
        }
    }

    /// Matches a request by its method and the end of its path, without the query.
    ///
    /// Whole segments under any base path, by case, without tolerance for a trailing slash:
    /// a path that the upstream may read differently is better not recognised.
    pub fn match_request<'p>(method: &str, path: &'p str) -> Option<RouteMatch<'p>> {
        if method != "POST" {
            return None;
        }
        match_gemini(path).or_else(|| match_anthropic(path)).or_else(|| match_openai(path))
    }
}

fn match_gemini(path: &str) -> Option<RouteMatch<'_>> {
    let (parent, last) = path.rsplit_once('/')?;
    let collection = parent.rsplit_once('/').map_or(parent, |(_, segment)| segment);
    if !matches!(collection, "models" | "tunedModels") {
        return None;
    }
    let (model, verb) = ["%3A", "%3a", ":"].iter().find_map(|colon| last.rsplit_once(colon))?;
    let route = match verb {
        "generateContent" => ModelRoute::GeminiGenerateContent,
        "streamGenerateContent" => ModelRoute::GeminiStreamGenerateContent,
        "countTokens" => ModelRoute::GeminiCountTokens,
        "embedContent" => ModelRoute::GeminiEmbedContent,
        "batchEmbedContents" => ModelRoute::GeminiBatchEmbedContents,
        _ => return None,
    };
    (!model.is_empty()).then_some(RouteMatch { route, model_in_path: Some(model) })
}

/// `messages` is the whole path or follows `v1`: OpenAI's `/v1/threads/{id}/messages` is
/// another thing.
fn match_anthropic(path: &str) -> Option<RouteMatch<'_>> {
    let ends_with = |end: &str| {
        path.strip_suffix(end).is_some_and(|base| base.is_empty() || base.ends_with("/v1"))
    };
    let route = if ends_with("/messages") {
        ModelRoute::AnthropicMessages
    } else if ends_with("/messages/count_tokens") {
        ModelRoute::AnthropicCountTokens
    } else {
        return None;
    };
    Some(RouteMatch { route, model_in_path: None })
}

fn match_openai(path: &str) -> Option<RouteMatch<'_>> {
    const ENDS: [(&str, ModelRoute); 5] = [
        ("/chat/completions", ModelRoute::OpenAiChatCompletions),
        ("/completions", ModelRoute::OpenAiCompletions),
        ("/responses", ModelRoute::OpenAiResponses),
        ("/embeddings", ModelRoute::OpenAiEmbeddings),
        ("/moderations", ModelRoute::OpenAiModerations),
    ];
    let (base, route) =
        ENDS.iter().find_map(|(end, route)| Some((path.strip_suffix(end)?, *route)))?;
    Some(RouteMatch { route, model_in_path: azure_deployment(base) })
}

/// The deployment in `…/openai/deployments/{name}` (Azure OpenAI REST reference).
fn azure_deployment(base: &str) -> Option<&str> {
    let (parent, name) = base.rsplit_once('/')?;
    (parent.ends_with("/openai/deployments") && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> Option<ModelRoute> {
        ModelRoute::match_request("POST", path).map(|matched| matched.route)
    }

    fn model(path: &str) -> Option<&str> {
        ModelRoute::match_request("POST", path)?.model_in_path
    }

    #[test]
    fn every_route_is_found_by_its_name() {
        for route in ModelRoute::ALL {
            assert_eq!(ModelRoute::from_name(route.name()), Some(route));
        }
        assert_eq!(ModelRoute::from_name("openai"), None);
    }

    #[test]
    fn openai_paths_match_under_any_base() {
        for base in ["", "/v1", "/openai/v1", "/api/v3/anything"] {
            let at = |end: &str| route(&format!("{base}{end}"));
            assert_eq!(at("/chat/completions"), Some(ModelRoute::OpenAiChatCompletions));
            assert_eq!(at("/completions"), Some(ModelRoute::OpenAiCompletions));
            assert_eq!(at("/responses"), Some(ModelRoute::OpenAiResponses));
            assert_eq!(at("/embeddings"), Some(ModelRoute::OpenAiEmbeddings));
            assert_eq!(at("/moderations"), Some(ModelRoute::OpenAiModerations));
        }
    }

    #[test]
    fn a_match_begins_at_a_segment() {
        assert_eq!(route("/v1/xcompletions"), None);
        assert_eq!(route("/v1/myresponses"), None);
        assert_eq!(route("/xv1/messages"), None);
        assert_eq!(route("/xmodels/gemini-2.5-pro:generateContent"), None);
        // Under the base `/xchat` this is `completions`, as any base may come before it.
        assert_eq!(route("/xchat/completions"), Some(ModelRoute::OpenAiCompletions));
    }

    #[test]
    fn only_the_exact_path_matches() {
        let others = [
            "",
            "/",
            "chat/completions/",
            "/v1/chat/completions/",
            "/v1/Chat/Completions/x",
            "/V1/MESSAGES",
            "/v1/chat/completions/chatcmpl-1",
            "/v1/responses/resp_1/cancel",
            "/v1/messages/batches",
            "/v1/models",
        ];
        for path in others {
            assert_eq!(route(path), None, "{path}");
        }
    }

    #[test]
    fn only_post_matches() {
        for method in ["GET", "PUT", "post", "QUERY", ""] {
            assert_eq!(ModelRoute::match_request(method, "/v1/responses"), None, "{method}");
        }
    }

    #[test]
    fn anthropic_messages_are_not_openai_thread_messages() {
        assert_eq!(route("/v1/messages"), Some(ModelRoute::AnthropicMessages));
        assert_eq!(route("/anthropic/v1/messages"), Some(ModelRoute::AnthropicMessages));
        assert_eq!(route("/messages"), Some(ModelRoute::AnthropicMessages));
        assert_eq!(route("/v1/messages/count_tokens"), Some(ModelRoute::AnthropicCountTokens));
        assert_eq!(route("/messages/count_tokens"), Some(ModelRoute::AnthropicCountTokens));
        assert_eq!(route("/v1/threads/thread_1/messages"), None);
        assert_eq!(route("/anthropic/messages"), None);
        assert_eq!(route("/v1/count_tokens"), None);
    }

    #[test]
    fn gemini_paths_name_the_model() {
        let verbs = [
            ("generateContent", ModelRoute::GeminiGenerateContent),
            ("streamGenerateContent", ModelRoute::GeminiStreamGenerateContent),
            ("countTokens", ModelRoute::GeminiCountTokens),
            ("embedContent", ModelRoute::GeminiEmbedContent),
            ("batchEmbedContents", ModelRoute::GeminiBatchEmbedContents),
        ];
        for (verb, expected) in verbs {
            for colon in [":", "%3A", "%3a"] {
                let path = format!("/v1beta/models/gemini-2.5-flash{colon}{verb}");
                assert_eq!(route(&path), Some(expected), "{path}");
                assert_eq!(model(&path), Some("gemini-2.5-flash"), "{path}");
            }
        }
        assert_eq!(model("/v1beta/tunedModels/mine-1:generateContent"), Some("mine-1"));
        assert_eq!(
            model("/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-pro:countTokens"),
            Some("gemini-2.5-pro")
        );
    }

    #[test]
    fn a_gemini_path_needs_a_model_and_a_known_verb() {
        for path in [
            "/v1beta/models/:generateContent",
            "/v1beta/models/gemini",
            "/v1beta/models/gemini:predict",
            "/v1beta/models/gemini:generatecontent",
            "/v1beta/files/gemini:generateContent",
            "generateContent",
        ] {
            assert_eq!(route(path), None, "{path}");
        }
    }

    #[test]
    fn azure_paths_name_the_deployment() {
        let path = "/openai/deployments/prod-4o/chat/completions";
        assert_eq!(route(path), Some(ModelRoute::OpenAiChatCompletions));
        assert_eq!(model(path), Some("prod-4o"));
        assert_eq!(model("/azure/openai/deployments/e3/embeddings"), Some("e3"));
        assert_eq!(model("/openai/deployments//embeddings"), None);
        assert_eq!(model("/v1/chat/completions"), None);
    }
}
