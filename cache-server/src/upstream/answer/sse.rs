//! Event streams by the rules of the WHATWG HTML standard, section 9.2 (server-sent
//! events): lines end in LF, CRLF or CR, a blank line ends an event, and an event that no
//! blank line ended was never sent.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memchr2;

use super::Unstorable;

/// One event. `id` and `retry` are of no interest here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event<'a> {
    /// The `event` field; empty when there was none.
    pub(super) name: &'a str,
    /// The `data` lines, joined by LF.
    pub(super) data: Cow<'a, str>,
}

/// What a reader makes of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The stream goes on.
    More,
    /// This was the stream's terminal event.
    Last,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// After its terminal event; a [`DONE`], comments and blank lines may follow that.
    Terminal,
    /// After a whole event, but none that was terminal.
    Unterminated,
    /// Inside an event.
    Cut,
    /// Something else follows the terminal event.
    Overrun,
}

impl Ending {
    /// The verdict on a stream that has to end with a terminal event.
    pub(super) fn verdict(self) -> Result<(), Unstorable> {
        match self {
            Self::Terminal => Ok(()),
            Self::Unterminated | Self::Cut => Err(Unstorable::StreamIncomplete),
            Self::Overrun => Err(Unstorable::DataAfterEnd),
        }
    }
}

/// What ends the streams of choices, and what some servers end every stream with.
pub(super) const DONE: &str = "[DONE]";

/// Hands every event to `read`, up to the terminal one. A [`DONE`] may follow that.
pub(super) fn walk(stream: &str, mut read: impl FnMut(&Event<'_>) -> Step) -> Ending {
    let mut events = Events::new(stream);
    let terminated = events.by_ref().any(|event| read(&event) == Step::Last);
    let is_done = |event: Event<'_>| event.name.is_empty() && event.data.trim() == DONE;
    match (terminated, events.is_silent()) {
        (true, true) => Ending::Terminal,
        (true, false) if events.next().is_some_and(is_done) && events.is_silent() => {
            Ending::Terminal
        }
        (true, false) => Ending::Overrun,
        (false, true) => Ending::Unterminated,
        (false, false) => Ending::Cut,
    }
}

/// The events of a stream, in order.
pub(super) struct Events<'a> {
    /// What follows the last event handed out.
    rest: &'a str,
}

impl<'a> Events<'a> {
    pub(super) fn new(stream: &'a str) -> Self {
        Self { rest: stream.strip_prefix('\u{feff}').unwrap_or(stream) }
    }

    /// Nothing but comments and blank lines is left.
    fn is_silent(&self) -> bool {
        self.rest.split(['\n', '\r']).all(|line| line.is_empty() || line.starts_with(':'))
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        let mut unread = self.rest;
        let mut fields = Fields::default();
        while let Some((end, next)) = line_end(unread.as_bytes()) {
            let line = &unread[..end];
            unread = &unread[next..];
            if !line.is_empty() {
                fields.read(line);
            } else if let Some(event) = std::mem::take(&mut fields).dispatch() {
                self.rest = unread;
                return Some(event);
            }
        }
        None
    }
}

/// The fields of the event being read.
#[derive(Default)]
struct Fields<'a> {
    name: &'a str,
    data: Option<Cow<'a, str>>,
}

impl<'a> Fields<'a> {
    /// Reads a line that is not blank. A comment has an empty field name.
    fn read(&mut self, line: &'a str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value,
            "data" => self.add_data(value),
            _ => {}
        }
    }

    fn add_data(&mut self, line: &'a str) {
        match &mut self.data {
            None => self.data = Some(Cow::Borrowed(line)),
            Some(data) => {
                let data = data.to_mut();
                data.push('\n');
                data.push_str(line);
            }
        }
    }

    /// A block without data is no event.
    fn dispatch(self) -> Option<Event<'a>> {
        self.data.map(|data| Event { name: self.name, data })
    }
}

/// Where the first line ends and where the next begins; `None` without a line end.
fn line_end(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = memchr2(b'\n', b'\r', bytes)?;
    let width = if bytes[end..].starts_with(b"\r\n") { 2 } else { 1 };
    Some((end, end + width))
}

/// Splits an event stream at its event boundaries, for replaying it piece by piece.
///
/// Each piece ends with the blank line that ends its event; what has no such end is the
/// last piece. The pieces share the stream's memory, none is empty, and together they are
/// the stream, byte for byte.
#[derive(Clone, Debug)]
pub struct EventFrames {
    rest: Bytes,
}

impl EventFrames {
    /// Splits a stream that is complete.
    #[must_use]
    pub fn new(stream: Bytes) -> Self {
        Self { rest: stream }
    }
}

impl Iterator for EventFrames {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.rest.is_empty() {
            return None;
        }
        let end = first_boundary(&self.rest).unwrap_or(self.rest.len());
        Some(self.rest.split_to(end))
    }
}

/// Where the first blank line after a line that is not blank ends.
fn first_boundary(stream: &[u8]) -> Option<usize> {
    let mut start = 0;
    let mut inside_event = false;
    while let Some((end, next)) = line_end(&stream[start..]) {
        start += next;
        if end > 0 {
            inside_event = true;
        } else if inside_event {
            return Some(start);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(stream: &str) -> Vec<(&str, String)> {
        Events::new(stream).map(|event| (event.name, event.data.into_owned())).collect()
    }

    fn ending(stream: &str) -> Ending {
        walk(stream, |event| if event.data == "end" { Step::Last } else { Step::More })
    }

    fn frames(stream: &str) -> Vec<Bytes> {
        EventFrames::new(Bytes::copy_from_slice(stream.as_bytes())).collect()
    }

    /// Streams made of the bytes that matter to the parser.
    fn streams() -> impl Strategy<Value = String> {
        let pieces = ["\n", "\r", "\r\n", ":", " ", "data", "data: ", "event: ", "x", "é"];
        proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..40)
            .prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn lines_end_in_lf_crlf_or_cr() {
        for line_end in ["\n", "\r\n", "\r"] {
            let stream = "event: a\ndata: 1\n\ndata: 2\n\n".replace('\n', line_end);
            assert_eq!(events(&stream), [("a", "1".to_owned()), ("", "2".to_owned())]);
        }
    }

    #[test]
    fn data_lines_are_joined_and_one_leading_space_is_dropped() {
        assert_eq!(events("data: a\ndata:b\ndata\ndata:  c\n\n"), [("", "a\nb\n\n c".to_owned())]);
    }

    #[test]
    fn comments_unknown_fields_and_a_byte_order_mark_are_no_events() {
        assert_eq!(events("\u{feff}data: 1\n: ping\nid: 7\n\n: ping\n\n"), [("", "1".to_owned())]);
    }

    #[test]
    fn an_event_name_without_data_does_not_pass_to_the_next_event() {
        assert_eq!(events("event: a\n\ndata: 1\n\n"), [("", "1".to_owned())]);
    }

    #[test]
    fn an_event_without_its_blank_line_was_never_sent() {
        assert_eq!(events("data: 1\n\ndata: 2\n"), [("", "1".to_owned())]);
        assert_eq!(ending("data: end"), Ending::Cut);
        assert_eq!(ending("data: end\n"), Ending::Cut);
        assert_eq!(ending("data: end\n\n"), Ending::Terminal);
        assert_eq!(ending("data: 1\n\n"), Ending::Unterminated);
    }

    #[test]
    fn only_comments_and_blank_lines_may_follow_the_terminal_event() {
        assert_eq!(ending("data: end\n\n\n: ping\n\n\r\n: pi"), Ending::Terminal);
        for more in ["data: 1\n\n", "data: end\n\n", "data", "event: x\n\n", "x"] {
            assert_eq!(ending(&format!("data: end\n\n{more}")), Ending::Overrun, "{more}");
        }
    }

    #[test]
    fn a_frame_is_an_event_with_its_blank_line() {
        let pieces = frames("data: 1\n\n: ping\r\n\r\n\ndata: 2\r\rdata: 3");
        assert_eq!(pieces, ["data: 1\n\n", ": ping\r\n\r\n", "\ndata: 2\r\r", "data: 3"]);
        assert_eq!(frames(""), Vec::<Bytes>::new());
    }

    proptest! {
        #[test]
        fn frames_concatenate_to_the_stream(stream: Vec<u8>) {
            let pieces: Vec<Bytes> = EventFrames::new(Bytes::from(stream.clone())).collect();
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
            prop_assert_eq!(pieces.concat(), stream);
        }

        #[test]
        fn frames_never_cut_an_event(stream in streams()) {
            let pieces = frames(&stream);
            let from_frames: Vec<_> = pieces
                .iter()
                .flat_map(|piece| events(std::str::from_utf8(piece).unwrap()))
                .collect();
            prop_assert_eq!(pieces.concat(), stream.as_bytes());
            prop_assert_eq!(from_frames, events(&stream));
        }
    }
}
