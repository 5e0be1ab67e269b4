//! How the run goes, on stderr: a bar on a terminal, plain lines elsewhere.

use std::io::{self, BufRead, BufReader, Write as _};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::{Outcome, Tally};

/// Failures that are told one by one; further ones are only counted.
const FAILURES_TOLD: u64 = 20;

/// A larger file is not read twice for the sake of a bar.
const COUNTED_BYTES_MAX: u64 = 256 << 20;

/// Where the requests are that are still to come is known.
const BAR: &str = "{bar:20} {pos}/{len}, {eta} left; {wide_msg}";
/// It is not.
const SPINNER: &str = "{spinner} {pos} done in {elapsed}; {wide_msg}";

/// Tells how the run goes.
#[derive(Debug)]
pub(crate) struct Progress {
    on: Stderr,
    failures_told: u64,
}

#[derive(Debug)]
enum Stderr {
    Terminal(ProgressBar),
    Other,
}

impl Progress {
    /// For this process's stderr, and the requests of this file.
    pub(crate) fn of(file: &Path) -> Progress {
        let target = ProgressDrawTarget::stderr();
        // It draws nothing where there is no terminal, and no failure above that either.
        if target.is_hidden() {
            Progress { on: Stderr::Other, failures_told: 0 }
        } else {
            Progress::on_terminal(requests_in(file), target)
        }
    }

    fn on_terminal(requests: Option<u64>, target: ProgressDrawTarget) -> Progress {
        let template = if requests.is_some() { BAR } else { SPINNER };
        let style = ProgressStyle::with_template(template).expect("the templates are valid");
        let bar = ProgressBar::with_draw_target(requests, target).with_style(style);
        Progress { on: Stderr::Terminal(bar), failures_told: 0 }
    }

    /// How often to [`show`](Self::show).
    pub(crate) fn interval(&self) -> Duration {
        match self.on {
            Stderr::Terminal(_) => Duration::from_millis(250),
            Stderr::Other => Duration::from_secs(5),
        }
    }

    /// Shows the counts.
    pub(crate) fn show(&self, tally: &Tally, in_flight: usize) {
        let counts = tally.counts();
        match &self.on {
            Stderr::Terminal(bar) => {
                bar.set_position(tally.requests());
                bar.set_message(counts);
            }
            Stderr::Other => {
                let done = tally.requests();
                self.write(&format!("{done} done: {counts}; {in_flight} under way"));
            }
        }
    }

    /// Tells of a failure, up to a bound.
    pub(crate) fn tell(&mut self, outcome: &Outcome) {
        let Outcome::Failed { line, why } = outcome else { return };
        self.failures_told += 1;
        if self.failures_told <= FAILURES_TOLD {
            self.write(&format!("line {line}: {why}"));
        } else if self.failures_told == FAILURES_TOLD + 1 {
            self.write("further failures are only counted");
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Stderr::Terminal(bar) = &self.on {
            bar.finish_and_clear();
        }
    }

    /// A line of its own, above the bar if there is one.
    fn write(&self, line: &str) {
        match &self.on {
            Stderr::Terminal(bar) => bar.println(line),
            Stderr::Other => {
                // There is nobody left to tell when stderr is gone.
                let _ = writeln!(io::stderr().lock(), "{line}");
            }
        }
    }
}

/// How many requests a file holds, if that is quickly known. What comes through a pipe can be
/// read once only.
fn requests_in(file: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(file).ok()?;
    if !metadata.is_file() || metadata.len() > COUNTED_BYTES_MAX {
        return None;
    }
    let file = std::fs::File::open(file).ok()?;
    lines_with_text(BufReader::with_capacity(1 << 20, file)).ok()
}

/// Blank lines are no requests. Holds no line, however long.
fn lines_with_text(mut reader: impl BufRead) -> io::Result<u64> {
    let (mut lines, mut has_text) = (0, false);
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(lines + u64::from(has_text));
        }
        for byte in bytes {
            if *byte == b'\n' {
                lines += u64::from(has_text);
                has_text = false;
            } else {
                has_text |= !byte.is_ascii_whitespace();
            }
        }
        let taken = bytes.len();
        reader.consume(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache_status::CacheStatus;
    use indicatif::InMemoryTerm;

    /// What a terminal of 100 columns shows after one hit and one failure.
    fn shown(requests: Option<u64>) -> (Progress, InMemoryTerm) {
        let terminal = InMemoryTerm::new(10, 100);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let mut progress = Progress::on_terminal(requests, target);
        let mut tally = Tally::default();
        let failed = Outcome::Failed { line: 2, why: "status 503".to_owned() };
        for outcome in [Outcome::Answered(CacheStatus::Hit), failed] {
            tally.count(&outcome);
            progress.tell(&outcome);
        }
        progress.show(&tally, 3);
        (progress, terminal)
    }

    #[test]
    fn a_bar_counts_towards_the_requests_of_the_file_and_failures_stand_above_it() {
        let (progress, terminal) = shown(Some(4));
        let screen = terminal.contents();
        let lines: Vec<&str> = screen.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, "line 2: status 503"), "{screen}");
        assert!(lines[1].contains(" 2/4, "), "{screen}");
        assert!(lines[1].ends_with("; 1 hits, 0 fills, 0 bypasses, 1 failures"), "{screen}");
        progress.finish();
        assert_eq!(terminal.contents(), "line 2: status 503", "the bar is gone");
    }

    #[test]
    fn where_the_end_is_unknown_the_bar_claims_none() {
        let (_progress, terminal) = shown(None);
        let screen = terminal.contents();
        assert!(screen.contains(" 2 done in ") && screen.contains("; 1 hits, "), "{screen}");
    }

    #[test]
    fn lines_are_counted_as_they_are_read() {
        let cases = [("", 0), ("\n \r\n\n", 0), ("a\n\n b\r\nc", 3), ("a\nb\n", 2)];
        for (text, count) in cases {
            // A small buffer cuts lines anywhere.
            let reader = BufReader::with_capacity(1, text.as_bytes());
            assert_eq!(lines_with_text(reader).unwrap(), count, "{text:?}");
            let read = crate::record::read(text.as_bytes()).count();
            assert_eq!(u64::try_from(read).unwrap(), count, "{text:?}");
        }
    }

    #[test]
    fn a_pipe_is_not_read_for_its_count() {
        assert_eq!(requests_in(Path::new("/dev/null")), None);
    }
}
