//! PHP source taken apart as far as an edit needs: what is code and what is not, which constants
//! it defines, and where a statement may be put before all others. Pure.

/// What a piece of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What is outside of PHP, with the tags around it.
    Html,
    Space,
    Comment,
    /// A string with its quotes, or a heredoc.
    Text,
    /// A name, a keyword or a number.
    Word,
    /// Any other character.
    Sign,
}

/// A piece of a file and where it ends.
#[derive(Debug, Clone, Copy)]
struct Piece<'a> {
    kind: Kind,
    text: &'a str,
    end: usize,
}

impl Piece<'_> {
    fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    fn is_sign(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }

    fn says(&self, content: &str) -> bool {
        let quoted = |quote: char| {
            self.text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) == Some(content)
        };
        self.kind == Kind::Text && (quoted('\'') || quoted('"'))
    }
}

/// The pieces of a file, one after the other, without a gap.
struct Pieces<'a> {
    text: &'a str,
    place: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let rest = &self.text[self.place..];
        let first = rest.chars().next()?;
        let (kind, length) = if self.place == 0 || rest.starts_with("?>") {
            (Kind::Html, html_length(rest))
        } else {
            code_piece(rest, first)
        };
        self.place += length;
        Some(Piece { kind, text: &rest[..length], end: self.place })
    }
}

/// The pieces that do something.
fn code(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let pieces = Pieces { text, place: 0 };
    pieces.filter(|piece| !matches!(piece.kind, Kind::Space | Kind::Comment))
}

/// Up to the end of the next opening tag.
fn html_length(text: &str) -> usize {
    for (at, _) in text.match_indices("<?") {
        let after = &text[at + 2..];
        if after.starts_with('=') {
            return at + 3;
        }
        let php = after.get(..3).is_some_and(|name| name.eq_ignore_ascii_case("php"));
        if php && after[3..].chars().next().is_none_or(char::is_whitespace) {
            return at + 5;
        }
    }
    text.len()
}

fn code_piece(rest: &str, first: char) -> (Kind, usize) {
    let until = |end: Option<usize>| end.unwrap_or(rest.len());
    let run = |more: fn(char) -> bool| until(rest.find(|c| !more(c)));
    if first.is_whitespace() {
        return (Kind::Space, run(char::is_whitespace));
    }
    if is_name(first) {
        return (Kind::Word, run(is_name));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, until(rest.find("*/").map(|at| at + 2)));
    }
    // `#[` begins an attribute.
    if rest.starts_with("//") || first == '#' && !rest.starts_with("#[") {
        // A closing tag ends such a comment as the line does.
        let line = until(rest.find('\n'));
        return (Kind::Comment, rest[..line].find("?>").unwrap_or(line));
    }
    if matches!(first, '\'' | '"' | '`') {
        return (Kind::Text, string_length(rest, first));
    }
    if let Some(length) = heredoc_length(rest) {
        return (Kind::Text, length);
    }
    (Kind::Sign, first.len_utf8())
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

fn string_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (place, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return place + 1;
        }
    }
    text.len()
}

/// A heredoc ends with a line that begins, but for blanks, with its label.
fn heredoc_length(text: &str) -> Option<usize> {
    let head = text.strip_prefix("<<<")?;
    let (opening, _) = head.split_once('\n')?;
    let label = opening.trim().trim_matches(['\'', '"']);
    if label.is_empty() || !label.chars().all(is_name) {
        return None;
    }
    let mut place = text.find('\n')? + 1;
    for line in text[place..].split_inclusive('\n') {
        let begins = line.trim_start_matches([' ', '\t']);
        if begins.strip_prefix(label).is_some_and(|after| !after.starts_with(is_name)) {
            return Some(place + (line.len() - begins.len()) + label.len());
        }
        place += line.len();
    }
    Some(text.len())
}

/// Whether code (no comment, no string) defines a constant of that name.
#[must_use]
pub fn defines(text: &str, constant: &str) -> bool {
    let pieces: Vec<_> = code(text).collect();
    pieces.iter().enumerate().any(|(place, piece)| {
        let rest = &pieces[place + 1..];
        if piece.is_word("define") {
            return matches!(rest, [open, name, ..] if open.is_sign("(") && name.says(constant));
        }
        let end = rest.iter().position(|piece| piece.is_sign(";")).unwrap_or(rest.len());
        let named = |pair: &[Piece<'_>]| {
            pair[0].kind == Kind::Word && pair[0].text == constant && pair[1].is_sign("=")
        };
        piece.is_word("const") && rest[..end].windows(2).any(named)
    })
}

/// Where the statements end that PHP demands before any other (`declare`, `namespace`), if the
/// file has any; it must begin with an opening tag.
///
/// # Errors
/// What of the file is not understood.
pub fn preamble(text: &str) -> Result<Option<usize>, &'static str> {
    let mut pieces = code(text).skip(1).peekable();
    let mut end = None;
    while let Some(piece) = pieces.next() {
        // `namespace\f()` is a call.
        let relative = pieces.peek().is_some_and(|next| next.is_sign("\\"));
        let last = if piece.is_word("declare") {
            pieces.find(|piece| piece.is_sign(")"));
            pieces.next()
        } else if piece.is_word("namespace") && !relative {
            pieces.find(|piece| piece.kind != Kind::Word && !piece.is_sign("\\"))
        } else if piece.kind == Kind::Html {
            return Err("it leaves PHP before its first statement");
        } else {
            break;
        };
        match last {
            Some(last) if last.is_sign(";") => end = Some(last.end),
            Some(_) | None => return Err("its `declare` or `namespace` does not end in `;`"),
        }
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_seen_in_code_only() {
        for text in [
            "<?php define('A', 1);",
            "<?php\nDEFINE ( /* x */ \"A\" , 1);",
            "<?php const B = 1, A=2;",
            "<?php $a = '/*'; define('A', 1); $b = '*/';",
            "<?php $a = <<<X\n it's\n  X . 'x'; define('A', 1);",
            "<?php $a = <<<'X'\n/*\nX;\ndefine('A', 1);",
            "<?php // it's ?>\n<b>it's</b>\n<?php define('A', 1);",
            "<?php #[Attribute] define('A', 1);",
        ] {
            assert!(defines(text, "A"), "{text}");
        }
        for text in [
            "<?php /* define('A', 1); */",
            "<?php # define('A', 1);\n// const A = 1;",
            "<?php $a = \"define('A', 1);\";",
            "<?php $a = <<<X\ndefine('A', 1);\nX;",
            "define('A', 1);",
            "<?php define('AA', 1); const AA = 1; $x = A == 1;",
        ] {
            assert!(!defines(text, "A"), "{text}");
        }
    }

    #[test]
    fn the_preamble_ends_where_any_statement_may_stand() {
        for (before, after) in [
            ("<?php\ndeclare(strict_types=1);", "\ndefine('A', 1);"),
            ("<?php /** declare(ticks=1); */ DECLARE ( strict_types = 1 ) /* ; */ ;", " $a;"),
            ("<?php\n// x;\ndeclare(encoding=')');\nnamespace A\\B;", "\nuse C;"),
            ("<?php\nnamespace A;", "\nnamespace\\f();"),
        ] {
            assert_eq!(preamble(&format!("{before}{after}")), Ok(Some(before.len())), "{before}");
        }
        for text in ["<?php\n", "<?php\n$declare;", "<?php\n\\f();", "<?php # declare(ticks=1);"] {
            assert_eq!(preamble(text), Ok(None), "{text}");
        }
        for text in [
            "<?php namespace A { f(); }",
            "<?php namespace { f(); }",
            "<?php declare(ticks=1) { f(); }",
            "<?php declare(strict_types=1) ?>",
            "<?php declare(strict_types=1",
            "<?php // x ?>\n<?php declare(strict_types=1);",
        ] {
            assert!(preamble(text).is_err(), "{text}");
        }
    }
}
