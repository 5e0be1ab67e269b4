//! The way to a value as people read it: `messages[0].content`.

use crate::shown;
use crate::text::Text;

/// Where a walk through a body is. Its length is bounded by the depth of bodies and the length
/// of what is shown of a name.
#[derive(Default)]
pub(crate) struct Trail {
    written: String,
}

impl Trail {
    /// How long it is now, for coming back to.
    pub(crate) fn mark(&self) -> usize {
        self.written.len()
    }

    /// Back to where it was.
    pub(crate) fn back_to(&mut self, mark: usize) {
        self.written.truncate(mark);
    }

    pub(crate) fn member(&mut self, name: Text<'_>) {
        if !self.written.is_empty() {
            self.written.push('.');
        }
        self.written.push_str(&shown::name(name));
    }

    pub(crate) fn element(&mut self, index: usize) {
        self.written.push_str(&format!("[{index}]"));
    }

    pub(crate) fn any_element(&mut self) {
        self.written.push_str("[]");
    }

    /// The way, in words where it leads nowhere.
    pub(crate) fn at(&self) -> String {
        if self.written.is_empty() { "the top level".to_owned() } else { self.written.clone() }
    }
}
