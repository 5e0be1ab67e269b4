//! A digest for each value of a body, of what of it is keyed: two values have one digest exactly
//! when they are keyed alike. So two bodies are compared from the top, and what is alike is
//! never entered.

use crate::canonical;
use crate::json::{Document, Object, Value, View};
use crate::paths::Place;

/// Half of a BLAKE3 hash: nobody finds two values with one.
pub(crate) type Digest = [u8; 16];

/// The digests of a body's values. As large as the body has values, which
/// [`VALUES_MAX`](crate::VALUES_MAX) bounds.
pub(crate) struct Digests(Vec<Digest>);

impl Digests {
    /// All values of a body that is read at `place`, in one pass. What is left out has none.
    pub(crate) fn of(document: &Document<'_>, place: Place<'_>) -> Digests {
        let mut digests = Digests(vec![[0; 16]; document.node_count()]);
        digests.note(document.root(), place);
        digests
    }

    pub(crate) fn get(&self, value: Value<'_>) -> Digest {
        self.0[value.index()]
    }

    /// The scan bounds the recursion.
    fn note(&mut self, value: Value<'_>, place: Place<'_>) -> Digest {
        let bytes = match value.view() {
            View::Array(array) => {
                let mut all: Vec<_> =
                    array.elements().map(|element| self.note(element, place.element())).collect();
                if place.is_set() {
                    all.sort_unstable();
                    all.dedup();
                }
                [b"[", all.as_flattened()].concat()
            }
            View::Object(object) => self.members(object, place),
            _ => canonical::of(value, place),
        };
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
        self.0[value.index()] = digest;
        digest
    }

    /// Names end with their quotation mark and digests have one length, so that no two objects
    /// have the same bytes.
    fn members(&mut self, object: Object<'_>, place: Place<'_>) -> Vec<u8> {
        let mut bytes = vec![b'{'];
        let mut put = |name: crate::text::Text<'_>, value| {
            let member_place = place.member(name);
            if !canonical::is_omitted(value, member_place) {
                name.put(&mut bytes);
                bytes.extend_from_slice(&self.note(value, member_place));
            }
        };
        if place.keeps_order() {
            object.members().for_each(|(name, value)| put(name, value));
        } else {
            object.sorted_members().for_each(|(name, value)| put(name, value));
        }
        bytes
    }
}
