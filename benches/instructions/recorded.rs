//! The record, and how a run compares with it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::measure::{self, Count};
use crate::setting::Setting;
use crate::subject::Subject;

/// What was counted once, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    /// How it was counted, for who reads the file.
    how: String,
    /// What the counts depend on beside the code.
    pub(crate) setting: Setting,
    /// Instructions a request, by the subject's name.
    instructions: BTreeMap<String, u64>,
}

impl Recorded {
    /// The record of these counts.
    pub(crate) fn new(setting: Setting, counts: &[Count]) -> Recorded {
        let named =
            counts.iter().map(|count| (count.subject.name().to_owned(), count.instructions));
        Recorded { how: measure::how(), setting, instructions: named.collect() }
    }

    /// Reads it.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Recorded> {
        let named = || format!("the record {} cannot be read: `make bench-record`", path.display());
        let text = std::fs::read_to_string(path).with_context(named)?;
        serde_json::from_str(&text).with_context(named)
    }

    /// Writes it.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        print!("{text}");
        Ok(())
    }
}

/// A subject, recorded and counted now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) subject: Subject,
    /// Nothing if the record does not have it.
    pub(crate) recorded: Option<u64>,
    pub(crate) now: u64,
}

/// What a row comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// As recorded, but for chance.
    Same,
    /// More than recorded.
    Worse,
    /// Less than recorded, so that the record would hide it if that were lost again.
    Better,
    /// It is not recorded.
    New,
}

impl Row {
    /// By how many per cent there are more instructions than recorded.
    pub(crate) fn percent(&self) -> Option<f64> {
        self.recorded.map(|recorded| (self.now as f64 / recorded as f64 - 1.0) * 100.0)
    }

    /// What it comes to.
    pub(crate) fn finding(&self) -> Finding {
        let tolerance = self.subject.tolerance_percent();
        match self.percent() {
            None => Finding::New,
            Some(percent) if percent > tolerance => Finding::Worse,
            Some(percent) if percent < -tolerance => Finding::Better,
            Some(_) => Finding::Same,
        }
    }
}

/// The counts beside the recorded ones.
pub(crate) fn compare(recorded: &Recorded, counts: &[Count]) -> Vec<Row> {
    let row = |count: &Count| Row {
        subject: count.subject,
        recorded: recorded.instructions.get(count.subject.name()).copied(),
        now: count.instructions,
    };
    counts.iter().map(row).collect()
}

/// The names of what takes more than recorded.
pub(crate) fn worse(rows: &[Row]) -> Vec<&'static str> {
    let worse = rows.iter().filter(|row| row.finding() == Finding::Worse);
    worse.map(|row| row.subject.name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting() -> Setting {
        Setting {
            rustc: "1".into(),
            valgrind: "3".into(),
            processor: "p".into(),
            features: vec!["avx2".into()],
        }
    }

    fn count(instructions: u64) -> Count {
        Count { subject: Subject::MemoryHit, instructions }
    }

    fn finding(recorded: u64, now: u64) -> Finding {
        compare(&Recorded::new(setting(), &[count(recorded)]), &[count(now)])[0].finding()
    }

    #[test]
    fn what_is_beyond_the_tolerance_is_found_in_both_directions() {
        assert_eq!(finding(100_000, 101_900), Finding::Same);
        assert_eq!(finding(100_000, 102_100), Finding::Worse);
        assert_eq!(finding(100_000, 98_100), Finding::Same);
        assert_eq!(finding(100_000, 97_900), Finding::Better);
        let unrecorded = compare(&Recorded::new(setting(), &[]), &[count(7)]);
        assert_eq!(unrecorded[0].finding(), Finding::New);
        assert!(worse(&unrecorded).is_empty());
        let worse_row = Row { subject: Subject::MemoryHit, recorded: Some(0), now: 1 };
        assert_eq!(worse(&[worse_row]), ["memory hit"]);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recorded.json");
        let record = Recorded::new(setting(), &[count(33_907)]);
        record.save(&path).unwrap();
        assert_eq!(Recorded::load(&path).unwrap(), record);
        std::fs::write(&path, "{}").unwrap();
        let why = format!("{:#}", Recorded::load(&path).unwrap_err());
        assert!(why.contains("make bench-record"), "{why}");
    }
}
