//! Answers that are figures and never streams: embeddings, moderations, token counts.
//! They are whole when what was asked for is in them.

use serde::Deserialize;
use serde::de::IgnoredAny;

use keyspec::ModelRoute;

use super::gemini::UsageMetadata;
use super::members::{Few, TokenCount, object};
use super::openai_choices::TokenUsage;
use super::{Report, Unstorable};

/// The members of all these answers; which one counts is the route's matter.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    #[serde(rename = "type")]
    kind: Option<String>,
    object: Option<String>,
    error: Option<IgnoredAny>,
    model: Option<String>,
    /// OpenAI embeddings.
    data: Few<IgnoredAny>,
    /// OpenAI moderations.
    results: Few<IgnoredAny>,
    usage: Option<TokenUsage>,
    /// Anthropic token counts.
    input_tokens: TokenCount,
    /// Gemini token counts.
    #[serde(rename = "totalTokens")]
    total_tokens: TokenCount,
    /// Gemini embedContent.
    embedding: Option<Embedding>,
    /// Gemini batchEmbedContents.
    embeddings: Few<Embedding>,
    #[serde(rename = "usageMetadata")]
    usage_metadata: Option<UsageMetadata>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Embedding {
    values: Few<IgnoredAny>,
}

impl Embedding {
    fn is_empty(&self) -> bool {
        self.values.members.is_empty()
    }
}

/// Examines a JSON answer of one of these routes.
pub(super) fn examine(route: ModelRoute, text: &str) -> Report {
    let Some(answer) = object::<Answer>(text) else {
        return Report::unstorable(Unstorable::Malformed);
    };
    let mut report = Report::faultless();
    report.note(verdict(route, &answer));
    report.usage = answer.usage.as_ref().map(TokenUsage::total).unwrap_or_default();
    if let Some(usage) = &answer.usage_metadata {
        report.usage = usage.total();
    }
    report.note_model(answer.model);
    report
}

fn verdict(route: ModelRoute, answer: &Answer) -> Result<(), Unstorable> {
    let said_error = |member: &Option<String>| member.as_deref() == Some("error");
    if answer.error.is_some() || said_error(&answer.kind) || said_error(&answer.object) {
        return Err(Unstorable::ErrorAnswer);
    }
    match route {
        ModelRoute::OpenAiEmbeddings => present(!answer.data.members.is_empty()),
        ModelRoute::OpenAiModerations => present(!answer.results.members.is_empty()),
        ModelRoute::AnthropicCountTokens => counted(answer.input_tokens),
        ModelRoute::GeminiCountTokens => counted(answer.total_tokens),
        ModelRoute::GeminiEmbedContent => {
            present(answer.embedding.as_ref().is_some_and(|embedding| !embedding.is_empty()))
        }
        ModelRoute::GeminiBatchEmbedContents => present(batch_is_whole(&answer.embeddings)),
        // The routes that generate are examined elsewhere.
        _ => Err(Unstorable::Malformed),
    }
}

/// A batch may be longer than what is kept of a list; then its first members speak for it.
fn batch_is_whole(batch: &Few<Embedding>) -> bool {
    !batch.members.is_empty() && !batch.members.iter().any(Embedding::is_empty)
}

fn present(is_there: bool) -> Result<(), Unstorable> {
    if is_there { Ok(()) } else { Err(Unstorable::NoChoices) }
}

/// Without its number a token count says nothing.
fn counted(count: TokenCount) -> Result<(), Unstorable> {
    if count.0.is_some() { Ok(()) } else { Err(Unstorable::Malformed) }
}
