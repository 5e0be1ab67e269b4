//! An explanation in plain words.

use std::fmt;

use super::{Explanation, Line, Place, Treatment};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = if self.declared_spec { "declared" } else { "a preset" };
        writeln!(f, "Spec: {}, version {}, {origin}", self.spec, self.spec_version)?;
        match (&self.key, &self.not_keyable) {
            (Some(key), _) => writeln!(f, "Key: {key}")?,
            (None, Some(why)) => writeln!(f, "Key: none, because {} ({})", why.message, why.code)?,
            (None, None) => {}
        }
        let may = if self.reuse.may { "yes" } else { "no" };
        writeln!(f, "May be cached: {may} ({}). {}", self.reuse.code, self.reuse.sentence)?;
        writeln!(f, "\nThe key is made of:")?;
        let width = self.fields.iter().map(|field| field.name.chars().count()).max().unwrap_or(0);
        for field in &self.fields {
            writeln!(f, "  {:width$}  {}", field.name, field.value)?;
        }
        more(f, self.more_fields)?;
        self.fmt_lines(f, "\nIn the body, this counts:", |line| line.treatment.counts())?;
        self.fmt_lines(f, "\nThis does not count:", |line| !line.treatment.counts())?;
        more(f, self.more_lines)
    }
}

impl Explanation {
    fn fmt_lines(
        &self,
        f: &mut fmt::Formatter<'_>,
        title: &str,
        is_meant: impl Fn(&Line) -> bool,
    ) -> fmt::Result {
        let mut lines = self.lines.iter().filter(|line| is_meant(line)).peekable();
        if lines.peek().is_some() {
            writeln!(f, "{title}")?;
        }
        lines.try_for_each(|line| writeln!(f, "  {line}"))
    }
}

fn more(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    if count > 0 { writeln!(f, "  and {count} more") } else { Ok(()) }
}

impl Treatment {
    /// Whether it is in the key.
    pub const fn counts(self) -> bool {
        match self {
            Treatment::Keyed
            | Treatment::KeyedInOrder
            | Treatment::KeyedAsSet
            | Treatment::KeyedUnknown => true,
            Treatment::LeftOut | Treatment::SaysDefault => false,
        }
    }
}

impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Treatment::Keyed => "keyed",
            Treatment::KeyedInOrder => "keyed with the order of its members",
            Treatment::KeyedAsSet => "keyed as a set: order and repeats do not count",
            Treatment::KeyedUnknown => "unknown to the preset, keyed to be safe",
            Treatment::LeftOut | Treatment::SaysDefault => "left out",
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Member => "",
            Place::Field => "field ",
            Place::Part => "part ",
            Place::Query => "query ",
            Place::Header => "header ",
            Place::Path => "path parameter ",
        };
        write!(f, "{place}{}", self.at)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        match &self.why {
            Some(why) => write!(f, ": {}, {why}", self.treatment),
            None if self.treatment == Treatment::Keyed => Ok(()),
            None => write!(f, ": {}", self.treatment),
        }
    }
}
