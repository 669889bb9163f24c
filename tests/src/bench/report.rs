//! What was measured, as tables that can be pasted into `docs/PERFORMANCE.md`.

use std::io::{self, Write};

/// One thing measured.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub what: String,
    pub ours: String,
    /// What it is held against, with its figure.
    pub against: String,
    pub ratio: String,
    pub aim: String,
    /// Whether the aim was met; `None`: there is none.
    pub met: Option<bool>,
}

impl Row {
    /// A row without an aim.
    #[must_use]
    pub fn new(what: impl Into<String>, ours: impl Into<String>) -> Self {
        Self { what: what.into(), ours: ours.into(), ..Self::default() }
    }

    /// What it is held against.
    #[must_use]
    pub fn against(mut self, other: impl Into<String>, ratio: impl Into<String>) -> Self {
        self.against = other.into();
        self.ratio = ratio.into();
        self
    }

    /// What it should be, and whether it is.
    #[must_use]
    pub fn aim(mut self, aim: impl Into<String>, met: bool) -> Self {
        self.aim = aim.into();
        self.met = Some(met);
        self
    }

    fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        }
    }
}

/// One section.
#[derive(Debug, Clone)]
pub struct Table {
    pub title: String,
    pub rows: Vec<Row>,
    /// What a reader has to know to believe the figures.
    pub notes: Vec<String>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a note.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// How many aims were met, and how many there are.
    #[must_use]
    pub fn aims(&self) -> (usize, usize) {
        let aims = self.rows.iter().filter_map(|row| row.met);
        (aims.clone().filter(|met| *met).count(), aims.count())
    }

    /// Writes it as Markdown, columns aligned.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let head = ["measured", "Hostler", "held against", "ratio", "aim", ""].map(str::to_owned);
        let mut lines = vec![head];
        lines.extend(self.rows.iter().map(|row| {
            [&row.what, &row.ours, &row.against, &row.ratio, &row.aim, row.verdict()]
                .map(ToString::to_string)
        }));
        let wide = |n: usize| lines.iter().map(|l| l[n].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(wide);
        writeln!(out, "\n### {}\n", self.title)?;
        for (number, line) in lines.iter().enumerate() {
            for (cell, width) in line.iter().zip(widths) {
                write!(out, "| {cell}{} ", " ".repeat(width - cell.chars().count()))?;
            }
            writeln!(out, "|")?;
            if number == 0 {
                let rule = widths.map(|width| "-".repeat(width + 2)).join("|");
                writeln!(out, "|{rule}|")?;
            }
        }
        for note in &self.notes {
            writeln!(out, "\n{note}")?;
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown_and_counts_its_aims() {
        let mut table = Table::new("One");
        table.row(Row::new("a", "1 ms").against("b 2 ms", "2 ×").aim("≥ 3 ×", false));
        table.row(Row::new("c", "1 ms").aim("≤ 2 ms", true));
        table.row(Row::new("d", "no aim"));
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(table.aims(), (1, 2));
        assert!(
            text.contains("| a        | 1 ms    | b 2 ms       | 2 ×   | ≥ 3 ×  | **missed** |")
        );
        assert_eq!(text.lines().filter(|line| line.starts_with('|')).count(), 5);
    }
}
