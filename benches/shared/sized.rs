//! Answers of other sizes than the usual one: how a request asks the upstream for them. The cache
//! forwards it and keys nothing by it, so that prompts of two sizes must differ.

use http::HeaderMap;

use crate::shared::exchange::{ANSWER_BYTES, CREDENTIAL, DELAY_FIELD, Question};

/// The sizes that can be asked for, about, in bytes.
pub(crate) const ANSWER_SIZES: [usize; 4] = [512, ANSWER_BYTES, 64 << 10, 1 << 20];
/// The field that says the size.
const SIZE_FIELD: &str = "x-bench-answer-bytes";

/// The lines by which HTTP/1.1 asks for an answer of this size; none for the usual one.
pub(crate) fn lines(answer_bytes: usize) -> String {
    if answer_bytes == ANSWER_BYTES {
        return String::new();
    }
    format!("{SIZE_FIELD}: {answer_bytes}\r\n")
}

/// All fields of a question that wants an answer of this size, for HTTP/2: the ones that HTTP/1.1
/// sends.
pub(crate) fn fields(question: Question, answer_bytes: usize) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("authorization", CREDENTIAL.into()),
        ("content-type", "application/json".into()),
        ("accept", "application/json".into()),
        ("user-agent", "side-by-side".into()),
        (DELAY_FIELD, question.delay_ms.to_string()),
    ];
    if answer_bytes != ANSWER_BYTES {
        fields.push((SIZE_FIELD, answer_bytes.to_string()));
    }
    fields
}

/// Which size a request asks for, if it does.
pub(crate) fn wanted(headers: &HeaderMap) -> Option<usize> {
    headers.get(SIZE_FIELD)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_size_is_asked_for_and_the_usual_one_is_not() {
        assert_eq!(lines(ANSWER_BYTES), "");
        assert_eq!(lines(512), "x-bench-answer-bytes: 512\r\n");
        let mut headers = HeaderMap::new();
        assert_eq!(wanted(&headers), None);
        headers.insert(SIZE_FIELD, "512".parse().unwrap());
        assert_eq!(wanted(&headers), Some(512));
        let question = Question::default();
        let sized = fields(question, 512);
        assert_eq!(sized.len(), fields(question, ANSWER_BYTES).len() + 1);
        assert!(sized.contains(&(SIZE_FIELD, "512".into())));
    }
}
