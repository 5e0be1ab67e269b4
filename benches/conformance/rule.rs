//! A rule, as data: what callers ask one after the other, what the upstream says to it, and what the
//! cache between them must, should or may make of it.

use std::time::Duration;

/// How long a pause is: what is fresh for a second is stale after it.
pub(crate) const PAUSE: Duration = Duration::from_millis(2_200);

/// How much the RFC leaves to a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// MUST or MUST NOT.
    Must,
    /// SHOULD, SHOULD NOT, or what the text encourages.
    Should,
    /// Allowed, and worth having.
    May,
}

/// Where a rule is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Section {
    /// The number of the RFC.
    pub(crate) rfc: u16,
    /// The number of the section within it, from the left.
    pub(crate) number: Vec<u16>,
}

/// One rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// The rule in a sentence, by which others name it.
    pub(crate) id: String,
    pub(crate) section: Section,
    pub(crate) kind: Kind,
    /// The rules without which this one shows nothing.
    pub(crate) given: Vec<&'static str>,
    pub(crate) steps: Vec<Step>,
}

/// A part of a rule.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Time passes.
    Pause(Duration),
    /// Somebody asks.
    Ask(Box<Ask>),
}

/// A request, what the upstream says if it is asked, and what is expected.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    /// What follows the rule's own folder in the target.
    pub(crate) target: &'static str,
    pub(crate) fields: Vec<Field>,
    pub(crate) content: Option<&'static str>,
    /// How many ask this at once.
    pub(crate) callers: usize,
    pub(crate) reply: Reply,
    pub(crate) expect: Expect,
    /// Whether the rule shows nothing, instead of being broken, if this is not as expected.
    pub(crate) prepares: bool,
}

/// A header or trailer field.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) value: Value,
}

/// The value of a field.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// As it is, but for `{rule}`, which is another word in each rule.
    Text(String),
    /// A date so many seconds from when it is sent.
    DateIn(i64),
    /// A target of this rule, as a path.
    Target(&'static str),
}

/// What the upstream says.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) ending: Ending,
    pub(crate) status: u16,
    pub(crate) fields: Vec<Field>,
    /// The content; one that tells the reply from others if there is none here.
    pub(crate) content: Option<String>,
    pub(crate) trailers: Vec<Field>,
    /// What a 200 instead brings to whoever does not ask for a range.
    pub(crate) unless_ranged: Option<&'static str>,
    /// Interim responses before it.
    pub(crate) interim: Vec<(u16, Vec<Field>)>,
    /// How long it takes.
    pub(crate) after: Duration,
    /// For whom it is a 304.
    pub(crate) confirms: Confirms,
    /// Whether it has a `Date`, if its fields name none.
    pub(crate) is_dated: bool,
}

/// For whom a reply is a 304.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirms {
    Nobody,
    /// For whoever has its tag; without a tag of its own, for whoever asks with a condition.
    Holders,
    /// For whoever asks with a condition, whatever its tag is.
    Anybody,
}

/// How a reply ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// After the length that its header names.
    Length,
    /// After a last chunk.
    Chunked,
    /// When the connection closes.
    Close,
    /// Before the length that its header names.
    CutLength,
    /// Before the last chunk.
    CutChunks,
    /// Before it begins.
    Nothing,
}

/// What is expected of an answer. What is not named is not looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expect {
    pub(crate) source: Option<Source>,
    /// The statuses that it may have.
    pub(crate) statuses: Vec<u16>,
    /// What it may bring.
    pub(crate) contents: Vec<&'static str>,
    pub(crate) fields: Vec<Check>,
    pub(crate) trailers: Vec<Check>,
    /// What the last request that reached the upstream had.
    pub(crate) asked: Vec<Check>,
    pub(crate) asked_content: Option<&'static str>,
    /// How many requests reached the upstream.
    pub(crate) calls: Option<usize>,
    /// The interim responses before it.
    pub(crate) interim: Option<Vec<u16>>,
    /// Whether it ends as its header says.
    pub(crate) is_whole: Option<bool>,
}

impl Expect {
    /// Whether nothing is looked at but that the reply came through.
    pub(crate) fn is_empty(&self) -> bool {
        let Expect { source, statuses, contents, fields, trailers, .. } = self;
        let Expect { asked, asked_content, calls, interim, is_whole, .. } = self;
        let of_answer = source.is_some() || !contents.is_empty() || is_whole.is_some();
        let of_calls = asked_content.is_some() || calls.is_some() || interim.is_some();
        let has_checks = [fields, trailers, asked].iter().any(|checks| !checks.is_empty());
        !(of_answer || of_calls || has_checks || !statuses.is_empty())
    }
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// From what was stored before, or from the cache itself.
    Cache,
    /// From the upstream, for this request.
    Upstream,
    /// From what was stored, after the upstream was asked with this condition.
    Revalidated(&'static str),
}

/// What is looked at in a field.
#[derive(Clone, Debug)]
pub(crate) enum Check {
    Has(&'static str),
    Lacks(&'static str),
    Is(&'static str, String),
    IsNot(&'static str, &'static str),
    AtLeast(&'static str, i64),
    Below(&'static str, i64),
    /// The last member of the list has this parameter: `hit`, or `fwd=stale`.
    Parameter(&'static str, &'static str),
    /// The last member of the list has this parameter, with whatever value.
    Names(&'static str, &'static str),
    /// The last member of the list lacks this parameter, with whatever value.
    NamesNo(&'static str, &'static str),
    Begins(&'static str, &'static str),
    Once(&'static str),
}

/// A rule that a cache must keep; the section is written as in "9111 4.2".
pub(crate) fn must(section: &str, id: impl Into<String>) -> Rule {
    Rule::new(Kind::Must, section, id.into())
}

/// A rule that a cache should keep.
pub(crate) fn should(section: &str, id: impl Into<String>) -> Rule {
    Rule::new(Kind::Should, section, id.into())
}

/// What a cache may do.
pub(crate) fn may(section: &str, id: impl Into<String>) -> Rule {
    Rule::new(Kind::May, section, id.into())
}

impl Rule {
    fn new(kind: Kind, section: &str, id: String) -> Rule {
        let (rfc, number) = section.split_once(' ').unwrap_or((section, ""));
        let number = number.split('.').filter_map(|part| part.parse().ok()).collect();
        let section = Section { rfc: rfc.parse().unwrap_or(0), number };
        Rule { id, section, kind, given: Vec::new(), steps: Vec::new() }
    }

    /// It shows something only of a cache that keeps this one, too.
    pub(crate) fn given(mut self, id: &'static str) -> Rule {
        self.given.push(id);
        self
    }

    pub(crate) fn ask(mut self, ask: Ask) -> Rule {
        self.steps.push(Step::Ask(Box::new(ask)));
        self
    }

    /// What was fresh for a second is stale now.
    pub(crate) fn pause(mut self) -> Rule {
        self.steps.push(Step::Pause(PAUSE));
        self
    }

    /// Asked for twice, with this reply the first time: a hit.
    pub(crate) fn hits(self, reply: Reply) -> Rule {
        self.ask(get().reply(reply)).ask(get().hit())
    }

    /// Asked for twice, with this reply the first time: no hit.
    pub(crate) fn misses(self, reply: Reply) -> Rule {
        self.ask(get().reply(reply)).ask(get().forwarded())
    }

    /// Asked for twice with a pause between: a hit.
    pub(crate) fn hits_later(self, reply: Reply) -> Rule {
        self.ask(get().reply(reply)).pause().ask(get().hit())
    }

    /// Asked for twice with a pause between: no hit.
    pub(crate) fn misses_later(self, reply: Reply) -> Rule {
        self.ask(get().reply(reply)).pause().ask(get().forwarded())
    }
}

pub(crate) fn get() -> Ask {
    ask("GET")
}

/// A request by this method, which the upstream answers without a lifetime.
pub(crate) fn ask(method: &'static str) -> Ask {
    Ask {
        method,
        target: "page",
        fields: Vec::new(),
        content: None,
        callers: 1,
        reply: ok(),
        expect: Expect::default(),
        prepares: false,
    }
}

/// A 200 without a lifetime.
pub(crate) fn ok() -> Reply {
    status(200)
}

/// A 200 with this `Cache-Control`.
pub(crate) fn says(cache_control: &str) -> Reply {
    ok().with("cache-control", cache_control)
}

/// A 200 that is fresh for an hour.
pub(crate) fn fresh() -> Reply {
    says("max-age=3600")
}

/// A 200 that is fresh for a second and has this tag.
pub(crate) fn brief(tag: &str) -> Reply {
    says("max-age=1").with("etag", tag)
}

/// A 304 for whoever has its tag, or, if it gets none, for whoever asks with a condition.
pub(crate) fn confirms() -> Reply {
    Reply { confirms: Confirms::Holders, ..ok() }
}

/// A 304 for whoever asks with a condition, also one with another tag.
pub(crate) fn confirms_what_it_is_not() -> Reply {
    Reply { confirms: Confirms::Anybody, ..ok() }
}

/// The connection closes instead of a reply.
pub(crate) fn hangs_up() -> Reply {
    Reply { ending: Ending::Nothing, ..ok() }
}

pub(crate) fn status(status: u16) -> Reply {
    Reply {
        ending: Ending::Length,
        status,
        fields: Vec::new(),
        content: None,
        trailers: Vec::new(),
        unless_ranged: None,
        interim: Vec::new(),
        after: Duration::ZERO,
        confirms: Confirms::Nobody,
        is_dated: true,
    }
}

impl Reply {
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.fields.push(Field { name, value: Value::Text(value.into()) });
        self
    }

    /// A field with a date so many seconds from now.
    pub(crate) fn date(mut self, name: &'static str, seconds: i64) -> Reply {
        self.fields.push(Field { name, value: Value::DateIn(seconds) });
        self
    }

    /// A field with the path of another target of this rule.
    pub(crate) fn pointing(mut self, name: &'static str, target: &'static str) -> Reply {
        self.fields.push(Field { name, value: Value::Target(target) });
        self
    }

    pub(crate) fn content(self, content: impl Into<String>) -> Reply {
        Reply { content: Some(content.into()), ..self }
    }

    /// Whoever does not ask for a range gets a 200 with all of this.
    pub(crate) fn or_whole(self, content: &'static str) -> Reply {
        Reply { unless_ranged: Some(content), ..self }
    }

    pub(crate) fn ending(self, ending: Ending) -> Reply {
        Reply { ending, ..self }
    }

    pub(crate) fn trailer(mut self, name: &'static str, value: &str) -> Reply {
        self.trailers.push(Field { name, value: Value::Text(value.to_owned()) });
        self.ending(Ending::Chunked)
    }

    pub(crate) fn interim(mut self, status: u16, name: &'static str, value: &str) -> Reply {
        self.interim.push((status, vec![Field { name, value: Value::Text(value.to_owned()) }]));
        self
    }

    pub(crate) fn after(self, after: Duration) -> Reply {
        Reply { after, ..self }
    }

    pub(crate) fn undated(self) -> Reply {
        Reply { is_dated: false, ..self }
    }
}
