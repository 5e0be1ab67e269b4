//! What is asked and what is answered. The answer follows from the request alone, so that caller
//! and upstream agree on it without a word: every byte that comes back can be checked.
//!
//! The tenant is in the answer and not in the body: one who got another's would see it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use bytes::Bytes;
use fastrand::Rng;
use serde_json::{Value, json};

/// Tenants, each with a credential of its own.
pub(crate) const TENANTS: u8 = 6;
const CREDENTIAL: &str = "Bearer sk-soak-0123456789abcdef-";
/// Larger answers are not stored: the server's `entry_bytes_max` is set to it.
pub(crate) const STORED_BYTES_MAX: usize = 2 << 20;
/// The model whose entries live for seconds.
pub(crate) const SHORT_LIVED: &str = "soak-short";

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    Embedding,
    Chat,
    Stream,
}

/// What becomes of the question upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    /// An answer of some kilobytes, soon.
    Small,
    /// One of about a megabyte.
    Large,
    /// One that outgrows what is stored, and what the sockets between hold.
    Huge,
    /// A small one after a while.
    Late,
    /// Status 500.
    Refused,
    /// Half an answer, then the connection's end.
    Cut,
    /// Half an answer, then silence.
    Stalled,
}

const SHAPES: [(Shape, &str, &str); 3] = [
    (Shape::Embedding, "embedding", "/v1/embeddings"),
    (Shape::Chat, "chat", "/v1/chat/completions"),
    (Shape::Stream, "stream", "/v1/chat/completions"),
];
const FATES: [(Fate, &str); 7] = [
    (Fate::Small, "small"),
    (Fate::Large, "large"),
    (Fate::Huge, "huge"),
    (Fate::Late, "late"),
    (Fate::Refused, "refused"),
    (Fate::Cut, "cut"),
    (Fate::Stalled, "stalled"),
];

/// A model call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) tenant: u8,
    pub(crate) shape: Shape,
    pub(crate) fate: Fate,
    pub(crate) number: u64,
}

impl Question {
    /// Where it is asked.
    pub(crate) fn path(&self) -> &'static str {
        let found = SHAPES.iter().find(|(shape, ..)| *shape == self.shape);
        found.map_or("/", |(_, _, path)| *path)
    }

    /// The caller's `Authorization`.
    pub(crate) fn credential(&self) -> String {
        format!("{CREDENTIAL}{}", self.tenant)
    }

    /// The request's body; reusable, whatever its shape.
    pub(crate) fn body(&self) -> String {
        let shape = SHAPES.iter().find(|(shape, ..)| *shape == self.shape);
        let fate = FATES.iter().find(|(fate, _)| *fate == self.fate);
        let shape = shape.map_or("", |(_, name, _)| *name);
        let fate = fate.map_or("", |(_, name)| *name);
        let prompt = format!("soak {shape} {fate} {}", self.number);
        let model = if self.number.is_multiple_of(4) { SHORT_LIVED } else { "soak" };
        let body = match self.shape {
            Shape::Embedding => json!({"model": model, "input": prompt}),
            Shape::Chat | Shape::Stream => json!({
                "model": model,
                "temperature": 0,
                "stream": self.shape == Shape::Stream,
                "messages": [{"role": "user", "content": prompt}],
            }),
        };
        body.to_string()
    }

    /// The upstream's side: what a request asks; nothing if it is no question of ours.
    pub(crate) fn read(credential: &str, body: &[u8]) -> Option<Question> {
        let tenant = credential.strip_prefix(CREDENTIAL)?.parse().ok()?;
        let body: Value = serde_json::from_slice(body).ok()?;
        let prompt = body["input"].as_str().or(body["messages"][0]["content"].as_str())?;
        let mut words = prompt.strip_prefix("soak ")?.split(' ');
        let word = words.next()?;
        let (shape, ..) = *SHAPES.iter().find(|(_, name, _)| *name == word)?;
        let word = words.next()?;
        let (fate, _) = *FATES.iter().find(|(_, name)| *name == word)?;
        Some(Question { tenant, shape, fate, number: words.next()?.parse().ok()? })
    }

    /// The whole answer's body.
    pub(crate) fn answer(&self) -> Bytes {
        self.pieces().concat().into()
    }

    /// The answer's body as the upstream sends it: the events of a stream, else one piece.
    pub(crate) fn pieces(&self) -> Vec<Bytes> {
        let mut rng = Rng::with_seed(self.seed());
        let text = self.text(&mut rng);
        match self.shape {
            Shape::Embedding => vec![embedding(&text).to_string().into()],
            Shape::Chat => vec![chat(&text).to_string().into()],
            Shape::Stream => events(&text, rng.usize(4..24)),
        }
    }

    /// A sequence of its own for every question.
    fn seed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    fn text(&self, rng: &mut Rng) -> String {
        let sizes: Range<usize> = match self.fate {
            Fate::Small | Fate::Late | Fate::Refused | Fate::Cut | Fate::Stalled => 200..6_000,
            Fate::Large => 300_000..1_500_000,
            Fate::Huge => 12_000_000..14_000_000,
        };
        let size = rng.usize(sizes);
        let mut text = format!("tenant {} ", self.tenant);
        while text.len() < size {
            text.push_str(&format!("{:016x}", rng.u64(..)));
        }
        text
    }
}

fn embedding(text: &str) -> Value {
    json!({
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
        "model": "soak",
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
        "text": text,
    })
}

fn chat(text: &str) -> Value {
    let message = json!({"role": "assistant", "content": text, "refusal": null});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    json!({
        "id": "chatcmpl-soak",
        "object": "chat.completion",
        "created": 1_763_923_456,
        "model": "soak",
        "choices": [choice],
        "usage": {"prompt_tokens": 45, "completion_tokens": 55, "total_tokens": 100},
    })
}

fn events(text: &str, count: usize) -> Vec<Bytes> {
    let event = |delta: Value, finish_reason: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
        let chunk = json!({
            "id": "chatcmpl-soak",
            "object": "chat.completion.chunk",
            "created": 1_763_923_456,
            "model": "soak",
            "choices": [choice],
        });
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    // The text is ASCII, so that it may be cut anywhere.
    let length = text.len().div_ceil(count);
    let parts = (0..text.len()).step_by(length).map(|at| &text[at..text.len().min(at + length)]);
    let mut events: Vec<Bytes> =
        parts.map(|part| event(json!({"content": part}), Value::Null)).collect();
    events.push(event(json!({}), json!("stop")));
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upstream_reads_what_the_caller_asks() {
        for (shape, ..) in SHAPES {
            for (fate, _) in FATES {
                let asked = Question { tenant: 5, shape, fate, number: 12_345 };
                let read = Question::read(&asked.credential(), asked.body().as_bytes());
                assert_eq!(read, Some(asked));
            }
        }
    }

    #[test]
    fn an_answer_follows_from_the_question_and_from_nothing_else() {
        for (shape, ..) in SHAPES {
            let one = Question { tenant: 0, shape, fate: Fate::Small, number: 1 };
            assert_eq!(one.answer(), one.answer());
            assert_ne!(one.answer(), Question { number: 2, ..one }.answer());
            assert_ne!(one.answer(), Question { tenant: 1, ..one }.answer());
            assert_eq!(one.body(), Question { tenant: 1, ..one }.body());
        }
    }

    #[test]
    fn only_huge_answers_outgrow_what_is_stored() {
        for (fate, _) in FATES {
            let question = Question { tenant: 0, shape: Shape::Chat, fate, number: 7 };
            let outgrows = question.answer().len() > STORED_BYTES_MAX;
            assert_eq!(outgrows, fate == Fate::Huge, "{fate:?}");
        }
    }
}
