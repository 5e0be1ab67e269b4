//! What models pass to tools: arguments that have to be a JSON object, whole or put
//! together from a stream's pieces.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::{PARTS_MAX, Unstorable};

/// Which tool call a piece belongs to: the choice (or block, or output item) and, where
/// one choice makes several calls, the call's number.
pub(super) type CallPlace = (u64, Option<u64>);

/// The verdict on arguments that are complete. Any other JSON than an object is refused
/// too: no provider's tool takes it, and a cut number would pass.
pub(super) fn verdict(arguments: &str) -> Result<(), Unstorable> {
    let object = arguments.trim_start().starts_with('{')
        && serde_json::from_str::<IgnoredAny>(arguments).is_ok();
    if object { Ok(()) } else { Err(Unstorable::BadToolArguments) }
}

/// Arguments gathered from a stream, at most [`PARTS_MAX`] calls. Their bytes together
/// are fewer than the stream's.
#[derive(Default)]
pub(super) struct Gathered {
    calls: BTreeMap<CallPlace, String>,
}

impl Gathered {
    /// Adds a piece to a call, which may be the call's first and may be empty.
    pub(super) fn add(&mut self, place: CallPlace, piece: &str) -> Result<(), Unstorable> {
        if self.calls.len() >= PARTS_MAX && !self.calls.contains_key(&place) {
            return Err(Unstorable::TooManyParts);
        }
        self.calls.entry(place).or_default().push_str(piece);
        Ok(())
    }

    /// The verdict on all calls, once the stream has ended.
    pub(super) fn verdict(&self) -> Result<(), Unstorable> {
        self.calls.values().try_for_each(|arguments| verdict(arguments))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_a_json_object_or_nothing() {
        for good in ["{}", " {\"a\": [1, null]}\n"] {
            assert_eq!(verdict(good), Ok(()), "{good}");
        }
        for bad in ["", "{\"a\": 1", "{}{}", "12", "null", "\"{}\"", "[{}]"] {
            assert_eq!(verdict(bad), Err(Unstorable::BadToolArguments), "{bad}");
        }
    }

    #[test]
    fn pieces_of_two_calls_do_not_mix() {
        let mut gathered = Gathered::default();
        for (call, piece) in [(0, "{\"a\""), (1, "{"), (0, ":1}"), (1, "}")] {
            gathered.add((0, Some(call)), piece).unwrap();
        }
        assert_eq!(gathered.verdict(), Ok(()));
        gathered.add((0, Some(1)), "}").unwrap();
        assert_eq!(gathered.verdict(), Err(Unstorable::BadToolArguments));
    }

    #[test]
    fn one_call_beyond_the_bound_is_too_many() {
        let mut gathered = Gathered::default();
        for call in 0..PARTS_MAX as u64 {
            gathered.add((0, Some(call)), "{}").unwrap();
        }
        assert_eq!(gathered.add((0, Some(0)), " "), Ok(()));
        assert_eq!(gathered.add((0, None), ""), Err(Unstorable::TooManyParts));
    }
}
