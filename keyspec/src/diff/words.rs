//! A comparison in plain words.

use std::fmt;

use super::{Difference, How, Joined, Part, Refused, Separating, Span, Verdict, Why};

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = String::new();
        let first = self.first_key.as_ref().unwrap_or(&none);
        let second = self.second_key.as_ref().unwrap_or(&none);
        match self.verdict {
            Verdict::Identical => {
                writeln!(f, "The two are the same request, with the key {first}.")
            }
            Verdict::SameKey => {
                writeln!(f, "The two have one key, {first}.\nWhat differs does not count:")?;
                self.joined.iter().try_for_each(|joined| writeln!(f, "  {joined}"))?;
                more(f, self.more_joined)
            }
            Verdict::DifferentKeys => {
                writeln!(f, "The two have different keys:\n  first   {first}\n  second  {second}")?;
                writeln!(f, "because they differ in:")?;
                self.separating.iter().try_for_each(|place| writeln!(f, "  {place}"))?;
                more(f, self.more_separating)
            }
            Verdict::NotKeyable => write!(f, "{}", self.refused),
        }
    }
}

fn more(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    if count > 0 { writeln!(f, "  and {count} more") } else { Ok(()) }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (which, refusal) in [("first", &self.first), ("second", &self.second)] {
            if let Some(why) = refusal {
                writeln!(f, "The {which} has no key, because {} ({}).", why.message, why.code)?;
            }
        }
        Ok(())
    }
}

impl Separating {
    /// The place in words: `messages[0].content`, `the header openai-beta`.
    pub fn place(&self) -> String {
        let at = &self.at;
        match self.part {
            Part::Tenant => "the tenant".to_owned(),
            Part::Upstream => "the upstream".to_owned(),
            Part::Method => "the method".to_owned(),
            Part::Path => "the path".to_owned(),
            Part::Query => format!("the query parameter {at}"),
            Part::Header => format!("the header {at}"),
            Part::Stream => "whether the answer is a stream".to_owned(),
            Part::Body if at.is_empty() => "the body".to_owned(),
            Part::Body => at.clone(),
        }
    }
}

impl fmt::Display for Separating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place())?;
        let first = self.first.as_deref().unwrap_or_default();
        let second = self.second.as_deref().unwrap_or_default();
        match self.how {
            How::Value | How::Count => write!(f, "{first} in the first, {second} in the second"),
            How::Type => {
                write!(f, "different kinds, {first} in the first, {second} in the second")
            }
            How::OnlyInFirst => write!(f, "only in the first, {first}"),
            How::OnlyInSecond => write!(f, "only in the second, {second}"),
            How::Order => {
                write!(f, "another order, which counts here; {first} in the first, ")?;
                write!(f, "{second} in the second")
            }
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end.saturating_sub(self.start) {
            0 => write!(f, "at byte {}", self.start),
            1 => write!(f, "byte {}", self.start),
            _ => write!(f, "bytes {}–{}", self.start, self.end - 1),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::WhiteSpace => "white space between values",
            Why::MemberOrder => "the order of members",
            Why::Escapes => "how strings are escaped",
            Why::NumberSpelling => "how numbers are spelled",
            Why::LeftOut => "what the spec leaves out",
            Why::SaysDefault => "a value that says what leaving it out means",
            Why::SetOrder => "the order of a set's elements",
            Why::SetRepeats => "elements that a set has more than once",
            Why::Boundary => "the boundary between parts",
            Why::PartOrder => "the order of parts",
            Why::PartSpelling => "how a part's head or end is written",
            Why::FieldOrder => "the order of fields",
            Why::FormSpelling => "how the form is escaped, or empty pieces in it",
            Why::QueryOrder => "the order of query parameters",
            Why::QuerySpelling => "how the query is escaped, or empty pieces in it",
            Why::Header => "a header",
            Why::MediaType => "the media type",
            Why::PathParameter => "path parameters that the spec leaves out",
            Why::HeadIsGet => "the method: HEAD is answered from what GET has stored",
        })
    }
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.why)?;
        match (self.why, &self.at) {
            (_, None) => {}
            (Why::LeftOut | Why::SaysDefault | Why::Header | Why::PathParameter, Some(at)) => {
                write!(f, ": {at}")?;
            }
            (_, Some(at)) => write!(f, ", first in {at}")?,
        }
        match &self.reason {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}
