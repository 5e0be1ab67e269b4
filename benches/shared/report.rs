//! The report: one readable table a subject, and the same as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::rounds::{Figure, Rounds};

/// Where the text about the tables breaks.
const LINE_WIDTH: usize = 100;

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    /// How it was measured, in sentences.
    pub(crate) how: Vec<String>,
    /// On what and against whom: a name and what it is.
    pub(crate) about: BTreeMap<&'static str, String>,
    /// A table a subject.
    pub(crate) sections: Vec<Section>,
}

/// One table.
#[derive(Debug)]
pub(crate) struct Section {
    /// What it shows.
    title: String,
    heads: Vec<Head>,
    rows: Vec<Row>,
}

/// What is over a column, and with how many decimals it is shown.
#[derive(Clone, Copy, Debug)]
struct Head {
    name: &'static str,
    decimals: usize,
}

/// One contender's figures, in the order of the columns.
#[derive(Debug)]
struct Row {
    name: String,
    values: Vec<Option<f64>>,
}

/// A figure, and what is made of its rounds.
#[derive(Debug)]
pub(crate) struct Column<M> {
    head: Head,
    figure: Figure<M>,
    made: Made<M>,
}

/// What is made of the rounds of a figure.
#[derive(Debug)]
enum Made<M> {
    Of(fn(&Rounds<M>, usize, Figure<M>) -> Option<f64>),
    /// Held against another row.
    Against(usize, fn(&Rounds<M>, usize, usize, Figure<M>) -> Option<f64>),
}

impl<M> Column<M> {
    /// The median over the rounds.
    pub(crate) fn median(name: &'static str, decimals: usize, figure: Figure<M>) -> Column<M> {
        Column { head: Head { name, decimals }, figure, made: Made::Of(Rounds::median) }
    }

    /// The worst of the rounds, where more is worse.
    pub(crate) fn largest(name: &'static str, decimals: usize, figure: Figure<M>) -> Column<M> {
        Column { head: Head { name, decimals }, figure, made: Made::Of(Rounds::largest) }
    }

    /// The ratio to the first row.
    pub(crate) fn ratio(name: &'static str, figure: Figure<M>) -> Column<M> {
        Column::ratio_to(0, name, figure)
    }

    /// The ratio to another row.
    pub(crate) fn ratio_to(row: usize, name: &'static str, figure: Figure<M>) -> Column<M> {
        let made = Made::Against(row, Rounds::ratio);
        Column { head: Head { name, decimals: 2 }, figure, made }
    }

    /// What is more than in the first row.
    pub(crate) fn difference(name: &'static str, decimals: usize, figure: Figure<M>) -> Column<M> {
        Column { head: Head { name, decimals }, figure, made: Made::Against(0, Rounds::difference) }
    }

    /// How far the rounds lie apart.
    pub(crate) fn spread(figure: Figure<M>) -> Column<M> {
        Column {
            head: Head { name: "spread", decimals: 2 },
            figure,
            made: Made::Of(Rounds::spread),
        }
    }

    fn of(&self, rounds: &Rounds<M>, index: usize) -> Option<f64> {
        match self.made {
            Made::Of(made) => made(rounds, index, self.figure),
            Made::Against(other, made) => made(rounds, index, other, self.figure),
        }
    }
}

impl Head {
    fn show(self, value: Option<f64>) -> String {
        value.map_or_else(|| "–".into(), |value| format!("{value:.*}", self.decimals))
    }
}

impl Report {
    /// As text.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            wrap(&mut text, &section.title);
            section.write_rows(&mut text);
            text.push('\n');
        }
        for sentence in &self.how {
            wrap(&mut text, sentence);
        }
        text
    }

    /// As JSON, into a file.
    pub(crate) fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let sections: Vec<Value> = self.sections.iter().map(Section::json).collect();
        let all = json!({"about": self.about, "how": self.how, "sections": sections});
        let mut text = serde_json::to_string_pretty(&all)?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Section {
    /// The table of these contenders, by their names.
    pub(crate) fn new<M>(
        title: String,
        names: impl IntoIterator<Item = String>,
        rounds: &Rounds<M>,
        columns: &[Column<M>],
    ) -> Section {
        let row = |(index, name)| Row {
            name,
            values: columns.iter().map(|column| column.of(rounds, index)).collect(),
        };
        let rows = names.into_iter().enumerate().map(row).collect();
        Section { title, heads: columns.iter().map(|column| column.head).collect(), rows }
    }

    fn write_rows(&self, text: &mut String) {
        let width = |texts: &mut dyn Iterator<Item = &str>| {
            texts.map(|text| text.chars().count()).max().unwrap_or(0)
        };
        let names = width(&mut self.rows.iter().map(|row| row.name.as_str()));
        let shown: Vec<Vec<String>> = self.rows.iter().map(|row| self.show(row)).collect();
        let widths: Vec<usize> = self
            .heads
            .iter()
            .enumerate()
            .map(|(at, head)| {
                let mut cells = shown.iter().map(|row| row[at].as_str()).chain([head.name]);
                width(&mut cells)
            })
            .collect();
        let heads = self.heads.iter().map(|head| head.name);
        write_row(text, "", names, heads, &widths);
        for (row, cells) in self.rows.iter().zip(&shown) {
            write_row(text, &row.name, names, cells.iter().map(String::as_str), &widths);
        }
    }

    fn show(&self, row: &Row) -> Vec<String> {
        self.heads.iter().zip(&row.values).map(|(head, value)| head.show(*value)).collect()
    }

    fn json(&self) -> Value {
        let row = |row: &Row| {
            let named = self.heads.iter().zip(&row.values);
            let values: Map<String, Value> =
                named.map(|(head, value)| (head.name.to_owned(), json!(value))).collect();
            json!({"name": row.name, "values": values})
        };
        json!({"title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>()})
    }
}

fn write_row<'a>(
    text: &mut String,
    name: &str,
    name_width: usize,
    cells: impl Iterator<Item = &'a str>,
    widths: &[usize],
) {
    let _ = write!(text, "  {name:name_width$}");
    for (cell, width) in cells.zip(widths) {
        let _ = write!(text, "  {cell:>width$}");
    }
    text.push('\n');
}

/// Writes a text in lines of a readable width.
fn wrap(text: &mut String, sentences: &str) {
    let mut width = 0;
    for word in sentences.split(' ') {
        let letters = word.chars().count();
        if width > 0 && width + 1 + letters > LINE_WIDTH {
            text.push('\n');
            width = 0;
        } else if width > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += letters;
    }
    text.push('\n');
}
