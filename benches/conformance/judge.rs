//! Judging: is an answer as it is expected? Pure: what was seen goes in, what is wrong comes out.

use crate::caller::Answer;
use crate::message::Fields;
use crate::rule::{Ask, Check, Ending, Source};
use crate::upstream::{Call, SERIAL};

/// What is known of the calls of a rule when one of its answers is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls<'a> {
    /// All of the rule.
    pub(crate) all: &'a [Call],
    /// How many of them were made before this was asked.
    pub(crate) before: usize,
}

impl Calls<'_> {
    fn since(&self) -> &[Call] {
        &self.all[self.before.min(self.all.len())..]
    }

    /// The one that an answer comes from.
    fn of(&self, answer: &Answer) -> Option<(usize, &Call)> {
        let serial: usize = answer.head.fields.get(SERIAL)?.parse().ok()?;
        Some((serial, self.all.get(serial.checked_sub(1)?)?))
    }
}

/// Whether this answer is as expected.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn judge(ask: &Ask, answer: &Answer, calls: Calls<'_>) -> Result<(), String> {
    let expect = &ask.expect;
    if let Some(source) = expect.source {
        comes_from(source, answer, calls)?;
    }
    has_status(ask, answer, calls)?;
    brings_what_was_said(ask, answer, calls)?;
    for check in &expect.fields {
        holds(check, &answer.head.fields)?;
    }
    for check in &expect.trailers {
        holds(check, &answer.content.trailers).map_err(|wrong| format!("trailers: {wrong}"))?;
    }
    is_framed(ask, answer)?;
    was_asked(ask, calls)
}

fn comes_from(source: Source, answer: &Answer, calls: Calls<'_>) -> Result<(), String> {
    let status = answer.status;
    let is_new = calls.of(answer).map(|(serial, _)| serial > calls.before);
    let called = !calls.since().is_empty();
    match source {
        Source::Cache if is_new == Some(true) => Err("was asked of the upstream".into()),
        Source::Cache if is_new.is_none() && called => {
            Err(format!("was asked of the upstream, and is a {status} of the cache"))
        }
        Source::Upstream if is_new == Some(false) => Err("came from the cache".into()),
        Source::Upstream if is_new.is_none() && !called => {
            Err(format!("came from the cache, as a {status}"))
        }
        Source::Upstream if is_new.is_none() && !matches!(status, 304 | 416) => {
            Err(format!("is a {status} of the cache"))
        }
        Source::Revalidated(_) if !called => Err("came from the cache, not revalidated".into()),
        Source::Revalidated(condition) => {
            let asked = calls.since().iter().any(|call| call.fields.get(condition).is_some());
            if !asked {
                Err(format!("was asked of the upstream without {condition}"))
            } else if is_new == Some(true) {
                Err("was revalidated, and then asked for once more".into())
            } else {
                Ok(())
            }
        }
        Source::Cache | Source::Upstream => Ok(()),
    }
}

/// Its status is one that is expected, or that of the reply that it comes from.
fn has_status(ask: &Ask, answer: &Answer, calls: Calls<'_>) -> Result<(), String> {
    let status = answer.status;
    if !ask.expect.statuses.is_empty() {
        let is_one = ask.expect.statuses.contains(&status);
        let wanted: Vec<String> = ask.expect.statuses.iter().map(u16::to_string).collect();
        return is_one
            .then_some(())
            .ok_or_else(|| format!("has the status {status}, not {}", wanted.join(" or ")));
    }
    let replied = calls.of(answer).and_then(|(_, call)| call.status);
    match replied {
        Some(replied) if replied == status => Ok(()),
        Some(replied) => Err(format!("has the status {status}, not {replied}")),
        None if ask.reply.ending == Ending::Nothing || status == ask.reply.status => Ok(()),
        None => Err(format!("is a {status} of the cache")),
    }
}

/// Its content is one that is expected, or that of the reply that it comes from.
fn brings_what_was_said(ask: &Ask, answer: &Answer, calls: Calls<'_>) -> Result<(), String> {
    let content = &answer.content.text;
    let expected: Vec<&str> = match calls.of(answer) {
        _ if !ask.expect.contents.is_empty() => ask.expect.contents.clone(),
        Some((_, call)) if is_compared(ask, answer, call) => vec![&call.said],
        _ => return Ok(()),
    };
    let is_one = expected.iter().any(|expected| content == expected);
    is_one.then_some(()).ok_or_else(|| format!("brings {content:?}, not {}", expected.join(" or ")))
}

/// Whether an answer brings all of a reply: it is no part, and nothing was cut.
fn is_compared(ask: &Ask, answer: &Answer, call: &Call) -> bool {
    let has_content = ask.method != "HEAD" && !matches!(answer.status, 204 | 206 | 304);
    has_content && call.status == Some(answer.status) && answer.content.is_whole
}

/// Interim responses before it, and an end as its header says.
fn is_framed(ask: &Ask, answer: &Answer) -> Result<(), String> {
    if let Some(interim) = &ask.expect.interim
        && *interim != answer.interim
    {
        return Err(format!("came after interim responses {:?}, not {interim:?}", answer.interim));
    }
    match ask.expect.is_whole {
        Some(true) if !answer.content.is_whole => Err("is cut".into()),
        Some(false) if answer.content.is_whole && answer.status < 500 => {
            Err("looks whole, and is not".into())
        }
        _ => Ok(()),
    }
}

/// What reached the upstream is as expected.
fn was_asked(ask: &Ask, calls: Calls<'_>) -> Result<(), String> {
    let since = calls.since();
    if let Some(expected) = ask.expect.calls
        && since.len() != expected
    {
        return Err(format!("took {} calls of the upstream, not {expected}", since.len()));
    }
    if ask.expect.asked.is_empty() && ask.expect.asked_content.is_none() {
        return Ok(());
    }
    let last = since.last().ok_or("was not asked of the upstream")?;
    for check in &ask.expect.asked {
        holds(check, &last.fields).map_err(|wrong| format!("the upstream's request: {wrong}"))?;
    }
    match ask.expect.asked_content {
        Some(content) if content != last.content => {
            Err(format!("the upstream was asked with {:?}, not {content:?}", last.content))
        }
        _ => Ok(()),
    }
}

/// Whether a check of a field holds.
fn holds(check: &Check, fields: &Fields) -> Result<(), String> {
    let shown =
        |name: &str| fields.get(name).map_or("is missing".into(), |is| format!("is {is:?}"));
    let (holds, name, wanted) = match check {
        Check::Has(name) => (fields.get(name).is_some(), name, "be there".into()),
        Check::Lacks(name) => (fields.get(name).is_none(), name, "be missing".into()),
        Check::Is(name, value) => {
            (fields.get(name).as_ref() == Some(value), name, format!("be {value:?}"))
        }
        Check::IsNot(name, value) => {
            (fields.get(name).as_deref() != Some(*value), name, format!("not be {value:?}"))
        }
        Check::AtLeast(name, least) => {
            let number = number(fields, name);
            (number.is_some_and(|number| number >= *least), name, format!("be at least {least}"))
        }
        Check::Below(name, limit) => {
            let number = number(fields, name);
            (number.is_some_and(|number| number < *limit), name, format!("be below {limit}"))
        }
        Check::Parameter(name, wanted) => (
            last_parameters(fields, name).any(|parameter| parameter == *wanted),
            name,
            format!("have {wanted} in its last member"),
        ),
        Check::Names(name, wanted) => {
            (names(fields, name, wanted), name, format!("have {wanted}=… in its last member"))
        }
        Check::NamesNo(name, unwanted) => {
            (!names(fields, name, unwanted), name, format!("have no {unwanted} in its last member"))
        }
        Check::Begins(name, with) => (
            fields.get(name).is_some_and(|value| value.starts_with(with)),
            name,
            format!("begin with {with:?}"),
        ),
        Check::Once(name) => (fields.all(name).count() == 1, name, "be there once".into()),
    };
    holds.then_some(()).ok_or_else(|| format!("{name} {}, and should {wanted}", shown(name)))
}

fn number(fields: &Fields, name: &str) -> Option<i64> {
    fields.get(name)?.parse().ok()
}

/// Whether the last member of a list has a parameter of this name.
fn names(fields: &Fields, name: &str, parameter: &str) -> bool {
    let is_it = |of: String| of.split('=').next().is_some_and(|of| of == parameter);
    last_parameters(fields, name).any(is_it)
}

/// The parameters of the last member of a list, and before them its name.
fn last_parameters(fields: &Fields, name: &str) -> impl Iterator<Item = String> {
    let value = fields.get(name).unwrap_or_default();
    let members = split_outside_quotes(&value, ',');
    let last = members.last().cloned().unwrap_or_default();
    split_outside_quotes(&last, ';').into_iter().map(|part| part.trim().to_owned())
}

fn split_outside_quotes(text: &str, at: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut is_quoted = false;
    for letter in text.chars() {
        is_quoted ^= letter == '"';
        if letter == at && !is_quoted {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    parts
}

#[cfg(test)]
mod tests;
