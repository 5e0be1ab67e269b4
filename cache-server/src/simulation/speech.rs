//! What the simulated model says: words drawn by a hash of what it was asked.

use serde_json::Value;

const WORDS: [&str; 48] = [
    "light",
    "scatters",
    "because",
    "small",
    "particles",
    "bend",
    "short",
    "waves",
    "more",
    "than",
    "long",
    "ones",
    "so",
    "the",
    "sky",
    "looks",
    "blue",
    "while",
    "evening",
    "turns",
    "red",
    "and",
    "water",
    "keeps",
    "its",
    "colour",
    "when",
    "depth",
    "grows",
    "every",
    "answer",
    "here",
    "is",
    "made",
    "of",
    "such",
    "words",
    "drawn",
    "in",
    "a",
    "fixed",
    "order",
    "from",
    "what",
    "you",
    "asked",
    "with",
    "care",
];

/// What was said, and what it is charged at.
pub(super) struct Speech {
    /// The words, each with the space behind it.
    pub(super) words: Vec<String>,
    /// Whether it was cut at the limit that the request named.
    pub(super) is_cut: bool,
    /// Tokens read.
    pub(super) input_tokens: u64,
}

impl Speech {
    /// Answers `asked`, in at most `tokens_max` tokens (one a word).
    pub(super) fn about(asked: &Value, tokens_max: Option<u64>) -> Speech {
        let text = question(asked).to_string();
        let mut drawn = blake3::Hasher::new().update(text.as_bytes()).finalize_xof();
        let mut next = || {
            let mut byte = [0];
            drawn.fill(&mut byte);
            usize::from(byte[0])
        };
        let length = 40 + next() % 81;
        let mut words = vec!["(simulated)".to_owned()];
        words.extend((0..length).map(|_| WORDS[next() % WORDS.len()].to_owned()));
        let limit = usize::try_from(tokens_max.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let is_cut = words.len() > limit;
        words.truncate(limit);
        let last = words.len().saturating_sub(1);
        for (index, word) in words.iter_mut().enumerate() {
            word.push_str(if index < last { " " } else { "." });
        }
        Speech { words, is_cut, input_tokens: tokens_in(asked) }
    }

    /// The whole text.
    pub(super) fn text(&self) -> String {
        self.words.concat()
    }

    /// Tokens written.
    pub(super) fn output_tokens(&self) -> u64 {
        self.words.len() as u64
    }
}

/// What is asked, without how it is to be delivered: neither a stream nor a limit makes another
/// text. `serde_json` sorts members, so that their order makes none either.
fn question(asked: &Value) -> Value {
    const DELIVERY: [&str; 5] =
        ["stream", "stream_options", "max_tokens", "max_completion_tokens", "max_output_tokens"];
    let mut question = asked.clone();
    if let Some(members) = question.as_object_mut() {
        members.retain(|name, _| !DELIVERY.contains(&name.as_str()));
    }
    let generation = question.get_mut("generationConfig").and_then(Value::as_object_mut);
    if let Some(members) = generation {
        members.remove("maxOutputTokens");
    }
    question
}

/// About four characters a token, as providers tell their users.
pub(super) fn tokens_in(asked: &Value) -> u64 {
    (question(asked).to_string().len() as u64).div_ceil(4)
}

/// Whether this holds a question at all: text, or a list with something in it.
pub(super) fn says_something(question: &Value) -> bool {
    match question {
        Value::String(text) => !text.is_empty(),
        Value::Array(parts) => !parts.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => false,
    }
}

/// An id that is the same for the same request.
pub(super) fn id(prefix: &str, asked: &Value, number: u64) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(asked.to_string().as_bytes()).update(&number.to_le_bytes());
    format!("{prefix}{}", &hasher.finalize().to_hex()[..24])
}

/// A unit vector that stands for `input`, of as many dimensions as were asked for, within reason.
#[expect(clippy::cast_possible_truncation, reason = "embeddings are single precision")]
pub(super) fn embedding(input: &Value, asked_dimensions: &Value) -> Vec<f32> {
    const DIMENSIONS: u64 = 256;
    const DIMENSIONS_MAX: u64 = 4096;
    let dimensions = asked_dimensions.as_u64().unwrap_or(DIMENSIONS).clamp(1, DIMENSIONS_MAX);
    let mut drawn = blake3::Hasher::new().update(input.to_string().as_bytes()).finalize_xof();
    let raw: Vec<f64> = (0..dimensions)
        .map(|_| {
            let mut bits = [0; 2];
            drawn.fill(&mut bits);
            f64::from(i16::from_le_bytes(bits))
        })
        .collect();
    let length = raw.iter().map(|part| part * part).sum::<f64>().sqrt().max(1.0);
    raw.iter().map(|part| (part / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_same_question_gets_the_same_answer_and_another_another() {
        let say = |prompt: &str| Speech::about(&json!({"prompt": prompt}), None).text();
        assert_eq!(say("why?"), say("why?"));
        assert_ne!(say("why?"), say("how?"));
        assert!(say("why?").starts_with("(simulated) "));
    }

    #[test]
    fn streaming_changes_nothing_about_what_is_said() {
        let plain = Speech::about(&json!({"prompt": "x"}), None).text();
        let streamed = Speech::about(&json!({"prompt": "x", "stream": true}), None).text();
        assert_eq!(plain, streamed);
    }

    #[test]
    fn a_limit_cuts_the_same_text_and_says_so() {
        let whole = Speech::about(&json!({"prompt": "x"}), None);
        let cut = Speech::about(&json!({"prompt": "x", "max_tokens": 5}), Some(5));
        assert!(cut.is_cut && cut.output_tokens() == 5);
        assert_eq!(cut.words[..4], whole.words[..4]);
        assert_eq!(cut.input_tokens, whole.input_tokens);
        assert!(!Speech::about(&json!({"prompt": "x"}), Some(500)).is_cut);
    }

    #[test]
    fn an_embedding_is_a_unit_vector() {
        let length: f32 = embedding(&json!("x"), &json!(64)).iter().map(|part| part * part).sum();
        assert!((length - 1.0).abs() < 1e-3);
    }
}
