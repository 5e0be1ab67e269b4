//! The table: recorded, now, and what to do about the difference.

use std::fmt::Write as _;

use crate::recorded::{Finding, Row};
use crate::setting::Setting;

/// A row a subject, and below what the counts do not owe to the code, and what to do.
pub(crate) fn text(rows: &[Row], recorded: &Setting, now: &Setting) -> String {
    let names = rows.iter().map(|row| row.subject.name().len()).max().unwrap_or(0);
    let mut text = format!(
        "{:names$}  {:>10}  {:>10}  {:>10}  {:>9}\n",
        "instructions a request", "recorded", "now", "difference", "tolerance"
    );
    for row in rows {
        let recorded = row.recorded.map_or_else(|| "–".into(), grouped);
        let percent =
            row.percent().map_or_else(|| "–".into(), |percent| format!("{percent:+.1} %"));
        let _ = writeln!(
            text,
            "{:names$}  {recorded:>10}  {:>10}  {percent:>10}  {:>7.0} %  {}",
            row.subject.name(),
            grouped(row.now),
            row.subject.tolerance_percent(),
            word(row.finding()),
        );
    }
    let has = |finding| rows.iter().any(|row| row.finding() == finding);
    let differences = recorded.differences(now);
    for difference in &differences {
        let _ =
            writeln!(text, "The counts may differ for another reason than the code: {difference}.");
    }
    if has(Finding::Worse) {
        text.push_str(
            "Where they go: --profiles FOLDER, then callgrind_annotate on what is there.\n",
        );
    }
    if has(Finding::Better) || has(Finding::New) || !differences.is_empty() {
        text.push_str("`make bench-record` records the counts anew.\n");
    }
    text
}

fn word(finding: Finding) -> &'static str {
    match finding {
        Finding::Same => "as recorded",
        Finding::Worse => "WORSE",
        Finding::Better => "better: record it anew",
        Finding::New => "not recorded",
    }
}

/// A number with a comma before every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Subject;

    fn setting(rustc: &str) -> Setting {
        Setting {
            rustc: rustc.into(),
            valgrind: "3".into(),
            processor: "p".into(),
            features: Vec::new(),
        }
    }

    fn row(recorded: Option<u64>, now: u64) -> Row {
        Row { subject: Subject::MemoryHit, recorded, now }
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        let texts = [0, 999, 1_000, 33_907, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "33,907", "1,234,567"]);
    }

    #[test]
    fn the_table_says_what_to_do() {
        let one = setting("1");
        let same = text(&[row(Some(33_907), 33_910)], &one, &one);
        assert!(same.contains("33,907      33,910") && same.contains("as recorded"), "{same}");
        assert!(!same.contains("bench-record") && !same.contains("callgrind_annotate"), "{same}");
        let worse = text(&[row(Some(100), 200)], &one, &one);
        assert!(worse.contains("+100.0 %") && worse.contains("callgrind_annotate"), "{worse}");
        let better = text(&[row(Some(200), 100)], &one, &one);
        assert!(better.contains("-50.0 %") && better.contains("bench-record"), "{better}");
        let other = text(&[row(Some(100), 100)], &one, &setting("2"));
        assert!(
            other.contains("rustc was 1, and is 2") && other.contains("bench-record"),
            "{other}"
        );
    }
}
