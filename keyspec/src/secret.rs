//! What is never shown: values under names of secrets, and pieces of text that look like keys.
//!
//! This errs on the side of hiding. An identifier hidden in an explanation costs a look at the
//! request; a key shown in one costs the key.

use std::ops::Range;

/// What is shown in a secret's place.
pub(crate) const HIDDEN: &str = "(hidden)";

/// Whole words of a name that make its value a secret.
const SECRET_WORDS: [&str; 17] = [
    "apikey",
    "auth",
    "authentication",
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "passphrase",
    "passwd",
    "password",
    "secret",
    "secrets",
    "sig",
    "signature",
    "token",
];

/// Two words in a row that do.
const SECRET_PAIRS: [(&str, &str); 7] = [
    ("api", "key"),
    ("access", "key"),
    ("private", "key"),
    ("session", "id"),
    ("encryption", "key"),
    ("subscription", "key"),
    ("virtual", "key"),
];

/// How keys of well-known issuers begin.
const KEY_PREFIXES: [&str; 17] = [
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "AIza",
    "eyJ",
    "hf_",
    "gsk_",
];

/// A run of letters and digits of this length is taken for random.
const RANDOM_BYTES_MIN: usize = 20;

/// Whether what stands under this name is a secret. Words are told apart by case and by what is
/// neither letter nor digit: `apiKey`, `api_key` and `X-Api-Key` are alike, `max_tokens` is none.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let words = words_of(name);
    let is_secret = |word: &String| SECRET_WORDS.contains(&word.as_str());
    let is_pair = |pair: &[String]| SECRET_PAIRS.contains(&(pair[0].as_str(), pair[1].as_str()));
    words.iter().any(is_secret) || words.windows(2).any(is_pair)
}

/// The words of a name, in lower case.
pub(crate) fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for character in name.chars() {
        let begins = !character.is_alphanumeric() || (was_lower && character.is_uppercase());
        if begins && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| character.is_alphanumeric()) {
            word.extend(character.to_lowercase());
        }
        was_lower = character.is_lowercase();
    }
    words
}

/// The pieces of a text that are not to be shown, in order. Found while asked for.
pub(crate) fn hidden_in(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    let mut before = "";
    std::iter::from_fn(move || {
        while let Some(word) = next_word(text, at) {
            let between = &text[at..word.start];
            let end = match secret_value(before, between) {
                Some(closing) => Some(value_end(text, word.start, closing)),
                None => looks_like_key(&text[word.clone()]).then_some(word.end),
            };
            before = &text[word.clone()];
            at = end.unwrap_or(word.end);
            if let Some(end) = end {
                return Some(word.start..end);
            }
        }
        None
    })
}

fn next_word(text: &str, from: usize) -> Option<Range<usize>> {
    let start = from + text[from..].find(is_of_word)?;
    let length = text[start..].find(|character| !is_of_word(character));
    Some(start..length.map_or(text.len(), |length| start + length))
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || "-_.+/~".contains(character)
}

/// Whether a secret follows this word and what stands after it, and the quote that closes it if
/// one does: `Bearer x`, `api_key=x`, and JSON within a text.
fn secret_value(word: &str, between: &str) -> Option<Option<char>> {
    let is_scheme = ["bearer", "basic"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
    if is_scheme && !between.is_empty() && between.chars().all(|blank| blank == ' ') {
        return Some(None);
    }
    let assigns = between.len() <= 16 && between.contains([':', '=']);
    if !assigns || !is_secret_name(word) {
        return None;
    }
    Some(between.chars().last().filter(|last| matches!(last, '"' | '\'')))
}

fn value_end(text: &str, start: usize, closing: Option<char>) -> usize {
    let is_end = |character: char| match closing {
        Some(closing) => character == closing,
        None => character.is_whitespace() || "\"',;&})]<".contains(character),
    };
    text[start..].find(is_end).map_or(text.len(), |length| start + length)
}

fn looks_like_key(word: &str) -> bool {
    let has_prefix = |piece: &str| {
        KEY_PREFIXES.iter().any(|prefix| piece.len() > prefix.len() && piece.starts_with(prefix))
    };
    let is_random = |run: &str| {
        run.len() >= RANDOM_BYTES_MIN
            && run.bytes().any(|byte| byte.is_ascii_digit())
            && run.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    word.split('/').any(has_prefix)
        || word.split(|character: char| !character.is_ascii_alphanumeric()).any(is_random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut shown = text.to_owned();
        for range in hidden_in(text).collect::<Vec<_>>().into_iter().rev() {
            shown.replace_range(range, HIDDEN);
        }
        shown
    }

    #[test]
    fn names_of_secrets_are_known_by_whole_words() {
        for name in ["authorization", "api_key", "apiKey", "APIKEY", "X-Api-Key", "authToken"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["max_tokens", "prompt_cache_key", "author", "content", "", "id", "session"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn what_looks_like_a_key_is_hidden_within_a_text() {
        let pairs = [
            ("use sk-abc123 now", "use (hidden) now"),
            ("Authorization: Bearer a!b c", "Authorization: (hidden) (hidden) c"),
            ("bearer x#y z", "bearer (hidden) z"),
            ("{\"password\": \"two words\"}", "{\"password\": \"(hidden)\"}"),
            ("token=a%b&x=1", "token=(hidden)&x=1"),
            ("id 0123456789abcdef0123456789abcdef.", "id (hidden)"),
        ];
        for (text, expected) in pairs {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn plain_text_and_model_names_are_shown() {
        let texts = [
            "claude-sonnet-4-20250514 and gpt-4o-2024-08-06",
            "2026-07-28T10:00:01.123Z",
            "6fa459ea-ee8a-3ca4-894e-db77e160355e",
            "a_long_snake_case_name_without_any_digit",
            "a/path/to/some/file.rs",
            "1234567890123456789012345",
        ];
        for text in texts {
            assert_eq!(shown(text), text);
        }
    }
}
