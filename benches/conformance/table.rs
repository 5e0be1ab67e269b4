//! The table: what each cache keeps, by section and kind, and what is broken.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::products::Product;
use crate::rule::{Kind, Rule, Section};
use crate::run::Outcome;
use crate::verdict::{Count, broken, counts};

/// What became of all rules with one cache.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) product: Product,
    pub(crate) outcomes: Vec<Outcome>,
}

/// As text: the table, and what is broken by the caches that are named in `told`.
pub(crate) fn text(rules: &[Rule], results: &[Standing], told: &[Product]) -> String {
    let mut text = String::new();
    write_table(&mut text, rules, results);
    for result in results.iter().filter(|result| told.contains(&result.product)) {
        write_broken(&mut text, rules, result);
    }
    for result in results {
        write_total(&mut text, rules, result);
    }
    text
}

fn write_table(text: &mut String, rules: &[Rule], results: &[Standing]) {
    let columns: Vec<_> = results.iter().map(|result| counts(rules, &result.outcomes)).collect();
    let keys: BTreeMap<_, ()> = columns.iter().flatten().map(|(key, _)| (key, ())).collect();
    let _ = write!(text, "{:22}{:8}", "kept / shown", "");
    for result in results {
        let _ = write!(text, "{:>18}", result.product.name());
    }
    text.push('\n');
    for (section, kind) in keys.keys() {
        let _ = write!(text, "{:22}{:8}", written(section), word(*kind));
        for column in &columns {
            let count = column.get(&(section.clone(), *kind)).copied().unwrap_or_default();
            let _ = write!(text, "{:>18}", cell(count));
        }
        text.push('\n');
    }
    for kind in [Kind::Must, Kind::Should, Kind::May] {
        let _ = write!(text, "{:22}{:8}", "all", word(kind));
        for result in results {
            let _ = write!(text, "{:>18}", cell(total(rules, result, kind)));
        }
        text.push('\n');
    }
    text.push_str(
        "(+ n): rules that show nothing of this cache, as it does not keep what they need\n",
    );
}

fn write_broken(text: &mut String, rules: &[Rule], result: &Standing) {
    for kind in [Kind::Must, Kind::Should, Kind::May] {
        for (rule, wrong) in broken(rules, &result.outcomes, kind) {
            let (name, section) = (result.product.name(), written(&rule.section));
            let _ = write!(text, "\n{name}, {} ({section}): {}\n    {wrong}", word(kind), rule.id);
        }
    }
    text.push_str("\n\n");
}

fn write_total(text: &mut String, rules: &[Rule], result: &Standing) {
    let name = result.product.name();
    let of = |kind| {
        let count = total(rules, result, kind);
        format!("{} of {} {}", count.kept, count.kept + count.broken, word(kind))
    };
    let kinds = [of(Kind::Must), of(Kind::Should), of(Kind::May)].join(", ");
    let _ = writeln!(text, "{name} keeps {kinds}.");
}

fn total(rules: &[Rule], result: &Standing, kind: Kind) -> Count {
    let mut count = Count::default();
    let of_kind = rules.iter().zip(&result.outcomes).filter(|(rule, _)| rule.kind == kind);
    of_kind.for_each(|(_, outcome)| count.add(outcome));
    count
}

/// Every rule with its outcome, for those who look closer.
pub(crate) fn every(rules: &[Rule], result: &Standing) -> String {
    let mut text = String::new();
    for (rule, outcome) in rules.iter().zip(&result.outcomes) {
        let (name, section) = (result.product.name(), written(&rule.section));
        let (mark, why) = match outcome {
            Outcome::Kept => ("kept", ""),
            Outcome::Broken(why) => ("BROKEN", why.as_str()),
            Outcome::NotShown(why) => ("not shown", why.as_str()),
        };
        let _ =
            writeln!(text, "{name}\t{mark}\t{}\t{section}\t{}\t{why}", word(rule.kind), rule.id);
    }
    text
}

fn cell(count: Count) -> String {
    let shown = count.kept + count.broken;
    let more = match count.not_shown {
        0 => String::new(),
        more => format!(" (+{more})"),
    };
    format!("{}/{shown}{more}", count.kept)
}

fn written(section: &Section) -> String {
    let number: Vec<String> = section.number.iter().map(u16::to_string).collect();
    format!("RFC {} {}", section.rfc, number.join("."))
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Must => "MUST",
        Kind::Should => "SHOULD",
        Kind::May => "may",
    }
}
