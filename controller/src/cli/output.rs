//! Where output goes and what it looks like: stdout for data, stderr for people, colour only for
//! terminals that want it.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use super::error::CliError;

/// How data is written to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    // For people: columns without lines. (No doc comments here: they would stretch every --help.)
    Table,
    // For programs: the API's own documents.
    Json,
}

/// The process's two outputs.
#[derive(Debug, Clone)]
pub(super) struct Output {
    format: Format,
    /// Whether stdout takes colours.
    color: bool,
    /// Whether stderr takes colours.
    color_err: bool,
    /// Whether stdout is a terminal, whose width tables keep to.
    terminal: bool,
    /// Whether stderr is a terminal, on which progress may move.
    lively: bool,
}

impl Output {
    /// Looks at the terminal, `NO_COLOR`, `CLICOLOR_FORCE` and `TERM` once.
    pub(super) fn new(format: Format) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let forced = set("CLICOLOR_FORCE");
        let allowed = |terminal: bool| !set("NO_COLOR") && (forced || (terminal && !dumb));
        let (stdout, stderr) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            format,
            color: allowed(stdout),
            color_err: allowed(stderr),
            terminal: stdout,
            lively: stderr && !dumb,
        }
    }

    /// Whether documents are asked for instead of tables.
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether progress may be redrawn in place.
    pub(super) fn is_lively(&self) -> bool {
        self.lively
    }

    /// Writes a document as JSON to stdout.
    pub(super) fn json<T: Serialize>(&self, document: &T) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(document).map_err(CliError::Answer)?;
        self.text(&text)
    }

    /// Writes text to stdout, with a line end.
    pub(super) fn text(&self, text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(CliError::Output)
    }

    /// Says something to a person, on stderr.
    pub(super) fn say(&self, text: &str) {
        // Nobody listens on a closed stderr, and there is nowhere else to say so.
        writeln!(io::stderr().lock(), "{text}").ok();
    }

    /// A table of columns under a heading, without lines.
    pub(super) fn table(&self, heading: &[&str], rows: Vec<Vec<Cell>>) -> String {
        let mut table = self.bare();
        table.set_header(heading.iter().map(|name| self.styled_heading(name)).collect::<Vec<_>>());
        table.add_rows(rows);
        self.finish(&mut table)
    }

    /// A list of names and values.
    pub(super) fn pairs(&self, pairs: Vec<(&str, Cell)>) -> String {
        let mut table = self.bare();
        for (name, value) in pairs {
            table.add_row(vec![self.styled_heading(name), value]);
        }
        self.finish(&mut table)
    }

    fn bare(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if self.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        if self.terminal {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            if let Some(width) = terminal_width() {
                table.set_width(width);
            }
        }
        table
    }

    fn styled_heading(&self, name: &str) -> Cell {
        Cell::new(name).fg(Color::DarkGrey)
    }

    fn finish(&self, table: &mut Table) -> String {
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt()
    }

    /// Red text for stderr, if it takes colours.
    pub(super) fn red(&self, text: &str) -> String {
        if self.color_err { format!("\x1b[31m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Columns of the terminal, if they can be known (`COLUMNS` wins).
fn terminal_width() -> Option<u16> {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    columns.or_else(|| comfy_table::Table::new().width()).filter(|width| *width > 0)
}

/// A cell of foreign text: nothing in it can move the cursor or change colours.
pub(super) fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(clean(text.as_ref()))
}

/// A cell of text in a colour.
pub(super) fn colored(text: impl AsRef<str>, color: Color) -> Cell {
    cell(text).fg(color)
}

/// Text without control characters, except line ends and tabs: what hosts and sites say is shown,
/// never obeyed by the terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .filter(|c| !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Output {
        Output {
            format: Format::Table,
            color: false,
            color_err: false,
            terminal: false,
            lively: false,
        }
    }

    #[test]
    fn tables_are_columns_with_two_spaces_between() {
        let rows = vec![vec![cell("web1"), cell("yes")], vec![cell("db.example"), cell("no")]];
        assert_eq!(
            plain().table(&["NAME", "CONNECTED"], rows),
            "NAME        CONNECTED\nweb1        yes\ndb.example  no"
        );
    }

    #[test]
    fn colour_only_where_it_is_wanted() {
        let row = || vec![vec![colored("failed", Color::Red)]];
        assert!(!plain().table(&["STATE"], row()).contains('\x1b'));
        let colourful = Output { color: true, ..plain() };
        assert!(colourful.table(&["STATE"], row()).contains('\x1b'));
    }

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\r\x07c\n\td\u{202e}e"), "a[31mbc\n\tde");
    }
}
