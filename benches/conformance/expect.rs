//! How a request and what is expected of its answer are written down.

use crate::rule::{Ask, Check, Field, Reply, Source, Value};

impl Ask {
    pub(crate) fn target(self, target: &'static str) -> Ask {
        Ask { target, ..self }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Ask {
        self.fields.push(Field { name, value: Value::Text(value.into()) });
        self
    }

    /// A field with a date so many seconds from now.
    pub(crate) fn date(mut self, name: &'static str, seconds: i64) -> Ask {
        self.fields.push(Field { name, value: Value::DateIn(seconds) });
        self
    }

    pub(crate) fn content(self, content: &'static str) -> Ask {
        Ask { content: Some(content), ..self }
    }

    pub(crate) fn callers(self, callers: usize) -> Ask {
        Ask { callers, ..self }
    }

    /// What the upstream says if it is asked.
    pub(crate) fn reply(self, reply: Reply) -> Ask {
        Ask { reply, ..self }
    }

    /// If this is not as expected, the rule shows nothing.
    pub(crate) fn prepares(self) -> Ask {
        Ask { prepares: true, ..self }
    }

    pub(crate) fn hit(mut self) -> Ask {
        self.expect.source = Some(Source::Cache);
        self
    }

    pub(crate) fn forwarded(mut self) -> Ask {
        self.expect.source = Some(Source::Upstream);
        self
    }

    /// The upstream is asked with this condition, and what is stored answers.
    pub(crate) fn revalidated_by(mut self, condition: &'static str) -> Ask {
        self.expect.source = Some(Source::Revalidated(condition));
        self
    }

    pub(crate) fn status(mut self, status: u16) -> Ask {
        self.expect.statuses = vec![status];
        self
    }

    pub(crate) fn status_of(mut self, statuses: &[u16]) -> Ask {
        self.expect.statuses = statuses.to_vec();
        self
    }

    /// It brings this, or what else it may bring.
    pub(crate) fn brings(mut self, content: &'static str) -> Ask {
        self.expect.contents.push(content);
        self
    }

    pub(crate) fn whole(mut self, is_whole: bool) -> Ask {
        self.expect.is_whole = Some(is_whole);
        self
    }

    pub(crate) fn calls(mut self, calls: usize) -> Ask {
        self.expect.calls = Some(calls);
        self
    }

    pub(crate) fn interim(mut self, statuses: &[u16]) -> Ask {
        self.expect.interim = Some(statuses.to_vec());
        self
    }

    pub(crate) fn check(mut self, check: Check) -> Ask {
        self.expect.fields.push(check);
        self
    }

    pub(crate) fn has(self, name: &'static str) -> Ask {
        self.check(Check::Has(name))
    }

    pub(crate) fn lacks(self, name: &'static str) -> Ask {
        self.check(Check::Lacks(name))
    }

    pub(crate) fn is(self, name: &'static str, value: impl Into<String>) -> Ask {
        self.check(Check::Is(name, value.into()))
    }

    /// The answer has this trailer field.
    pub(crate) fn trails(mut self, name: &'static str, value: &str) -> Ask {
        self.expect.trailers.push(Check::Is(name, value.to_owned()));
        self
    }

    /// The upstream is asked with this field.
    pub(crate) fn asks(mut self, name: &'static str, value: impl Into<String>) -> Ask {
        self.expect.asked.push(Check::Is(name, value.into()));
        self
    }

    /// The upstream is asked with this content.
    pub(crate) fn asks_content(mut self, content: &'static str) -> Ask {
        self.expect.asked_content = Some(content);
        self
    }
}
