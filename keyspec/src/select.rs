//! Which named things of a request count: pairs of a query, fields of a form, parts of a body.

use std::borrow::Cow;

/// All but a deny-list, or an allow-list alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// What does not count, and why.
    pub(crate) ignored: Vec<(Box<str>, Cow<'static, str>)>,
    /// If set, nothing else counts.
    pub(crate) only: Option<Vec<Box<str>>>,
    /// What an omission means: a pair that says it counts for nothing.
    pub(crate) defaults: Vec<(Box<str>, Box<str>)>,
}

/// Why something does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Omitted<'s> {
    /// It is left out, and why.
    LeftOut(&'s str),
    /// It says what its omission means.
    Default,
}

impl Selection {
    /// Why what has this name does not count, if it does not.
    pub(crate) fn left_out(&self, name: &[u8]) -> Option<&str> {
        let ignored = self.ignored.iter().find(|(known, _)| known.as_bytes() == name);
        if let Some((_, why)) = ignored {
            return Some(why);
        }
        let only = self.only.as_ref()?;
        let listed = only.iter().any(|known| known.as_bytes() == name);
        (!listed).then_some("the spec keys only what it lists")
    }

    /// Why what has this name and value does not count, if it does not. `may_be_default` unless
    /// something else has its name: which of several counts is for the upstream, so that one that
    /// says the default may count too.
    pub(crate) fn omitted(
        &self,
        name: &[u8],
        value: &[u8],
        may_be_default: bool,
    ) -> Option<Omitted<'_>> {
        match self.left_out(name) {
            Some(why) => Some(Omitted::LeftOut(why)),
            None => (may_be_default && self.is_default(name, value)).then_some(Omitted::Default),
        }
    }

    fn is_default(&self, name: &[u8], value: &[u8]) -> bool {
        let says = |(known, default): &(Box<str>, Box<str>)| {
            known.as_bytes() == name && default.as_bytes() == value
        };
        self.defaults.iter().any(says)
    }
}
