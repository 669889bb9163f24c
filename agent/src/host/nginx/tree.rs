//! The configuration as nginx reads it, from `nginx -T`: which file is included in which block.
//!
//! `-T` prints every file it read under a line `# configuration file PATH:`, so includes and
//! their globs are resolved against what was printed, never against the disk. Directives are not
//! interpreted; only nesting, `include`, `server_name`, `listen` and `add_header` matter here.

mod pass;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use self::pass::passed_to;
use super::listen::Listen;

/// Deepest nesting of blocks and includes; nginx itself gives up earlier.
const DEPTH_MAX: usize = 64;
const FILE_MARK: &str = "# configuration file ";

/// A directive, with a block or without.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    name: String,
    args: Vec<String>,
    block: Option<Vec<Node>>,
}

/// A block some file is included in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// `http`, `server`, `location`, `if` …
    pub name: String,
    pub args: Vec<String>,
    /// Of a `server`: the names it answers to.
    pub server_names: Vec<String>,
    /// Of a `server`: where it listens.
    pub listens: Vec<Listen>,
    /// Whether the block itself (not one around or in it) adds response headers; headers added
    /// by the wanted files do not count.
    pub adds_headers: bool,
    /// Whether the block itself passes requests to a FastCGI server.
    pub passes_fastcgi: bool,
    /// Where to, as it stands there.
    pub fastcgi_pass: Option<String>,
    /// Whether the block itself turns a FastCGI cache on; by the wanted files does not count.
    pub caches: bool,
}

/// One place a wanted file is included in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub file: PathBuf,
    /// The blocks around it, outermost first.
    pub levels: Vec<Level>,
}

impl Sighting {
    /// The innermost block, by name; empty at the top of the configuration.
    #[must_use]
    pub fn innermost(&self) -> &str {
        self.levels.last().map_or("", |level| level.name.as_str())
    }

    /// The server around it.
    #[must_use]
    pub fn server(&self) -> Option<&Level> {
        self.levels.iter().find(|level| level.name == "server")
    }
}

impl Level {
    /// Whether a server of these names may answer for `domain`. Patterns that are not literal
    /// count as a yes: the probe has the last word.
    #[must_use]
    pub fn answers_for(&self, domain: &str) -> bool {
        self.server_names.is_empty()
            || self.server_names.iter().any(|name| {
                let name = name.to_ascii_lowercase();
                name == domain
                    || name.starts_with('~')
                    || name == "_"
                    || name.is_empty()
                    || name.ends_with(".*")
                    || name.strip_prefix("*.").is_some_and(|rest| below(domain, rest))
                    || name
                        .strip_prefix('.')
                        .is_some_and(|rest| domain == rest || below(domain, rest))
            })
    }
}

fn below(domain: &str, parent: &str) -> bool {
    domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

/// Finds every place the wanted files are included in.
#[must_use]
pub fn sightings(dump: &str, wanted: &[PathBuf]) -> Vec<Sighting> {
    let files = split(dump);
    let Some((main, text)) = files.first() else { return Vec::new() };
    let by_path: BTreeMap<&Path, &str> = files.iter().map(|(path, text)| (*path, *text)).collect();
    let walk = Walk { files: &by_path, base: main.parent().unwrap_or(Path::new("/")), wanted };
    let mut found = Vec::new();
    walk.block(&parse(text), &mut Vec::new(), &mut found, 0);
    found
}

struct Walk<'a> {
    files: &'a BTreeMap<&'a Path, &'a str>,
    base: &'a Path,
    wanted: &'a [PathBuf],
}

impl Walk<'_> {
    fn included(&self, node: &Node) -> Vec<PathBuf> {
        let Some(pattern) = node.args.first() else { return Vec::new() };
        let full = self.base.join(pattern);
        let Some(pattern) = full.to_str() else { return Vec::new() };
        // A wanted file counts although it is not there yet: what would be included is asked.
        let printed = self.files.keys().copied();
        let wanted = self.wanted.iter().map(PathBuf::as_path);
        let all: BTreeSet<&Path> = printed.chain(wanted).collect();
        all.into_iter()
            .filter(|path| path.to_str().is_some_and(|path| matches(pattern, path)))
            .map(Path::to_path_buf)
            .collect()
    }

    /// The directives of a block with its includes opened, and the wanted files among these.
    fn opened(&self, nodes: &[Node], depth: usize) -> (Vec<Node>, Vec<PathBuf>) {
        let (mut out, mut seen) = (Vec::new(), Vec::new());
        for node in nodes {
            if node.name != "include" || depth > DEPTH_MAX {
                out.push(node.clone());
                continue;
            }
            for path in self.included(node) {
                if self.wanted.contains(&path) {
                    seen.push(path);
                } else if let Some(text) = self.files.get(path.as_path()) {
                    let (nodes, more) = self.opened(&parse(text), depth + 1);
                    out.extend(nodes);
                    seen.extend(more);
                }
            }
        }
        (out, seen)
    }

    fn block(
        &self,
        nodes: &[Node],
        levels: &mut Vec<Level>,
        found: &mut Vec<Sighting>,
        depth: usize,
    ) {
        if depth > DEPTH_MAX {
            return;
        }
        let (nodes, seen) = self.opened(nodes, depth);
        if let Some(level) = levels.last_mut() {
            let has = |name: &str| nodes.iter().any(|node| node.name == name);
            level.adds_headers = has("add_header");
            level.passes_fastcgi = has("fastcgi_pass");
            let pass = nodes.iter().find(|node| node.name == "fastcgi_pass");
            level.fastcgi_pass = pass.and_then(|node| node.args.first().cloned());
            level.caches = has("fastcgi_cache");
            level.server_names = nodes
                .iter()
                .filter(|node| node.name == "server_name")
                .flat_map(|node| node.args.clone())
                .collect();
            let listens: Vec<_> = nodes.iter().filter(|node| node.name == "listen").collect();
            level.listens = listens.iter().filter_map(|node| Listen::parse(&node.args)).collect();
            if listens.is_empty() && level.name == "server" {
                level.listens.push(Listen::usual());
            }
        }
        found.extend(seen.into_iter().map(|file| Sighting { file, levels: levels.clone() }));
        for node in nodes {
            let Some(block) = node.block else { continue };
            levels.push(Level {
                name: node.name,
                args: node.args,
                server_names: Vec::new(),
                listens: Vec::new(),
                adds_headers: false,
                passes_fastcgi: false,
                fastcgi_pass: None,
                caches: false,
            });
            self.block(&block, levels, found, depth + 1);
            levels.pop();
        }
    }
}

/// Splits a dump into its files, in the order printed.
fn split(dump: &str) -> Vec<(&Path, &str)> {
    let mut files = Vec::new();
    let mut open: Option<(&Path, usize)> = None;
    let mut offset = 0;
    for line in dump.split_inclusive('\n') {
        let name = line.trim_end().strip_prefix(FILE_MARK).and_then(|rest| rest.strip_suffix(':'));
        if let Some(name) = name.filter(|name| name.starts_with('/')) {
            if let Some((path, start)) = open.take() {
                files.push((path, &dump[start..offset]));
            }
            open = Some((Path::new(name), offset + line.len()));
        }
        offset += line.len();
    }
    if let Some((path, start)) = open {
        files.push((path, &dump[start..]));
    }
    files
}

/// Shell-style match of a whole path: `*` and `?` stay within a component and do not match a
/// leading dot, as in glob(3), which nginx uses.
fn matches(pattern: &str, path: &str) -> bool {
    fn inner(pattern: &[u8], text: &[u8], at_start: bool) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), first) => {
                let hidden = at_start && first == Some(&b'.');
                inner(&pattern[1..], text, false) && !hidden
                    || first.is_some_and(|byte| *byte != b'/')
                        && !hidden
                        && inner(pattern, &text[1..], false)
            }
            (Some(b'?'), Some(byte)) => {
                *byte != b'/'
                    && !(at_start && *byte == b'.')
                    && inner(&pattern[1..], &text[1..], false)
            }
            (Some(b'['), Some(byte)) => match class(&pattern[1..], *byte) {
                Some((true, rest)) => inner(rest, &text[1..], false),
                Some((false, _)) => false,
                None => *byte == b'[' && inner(&pattern[1..], &text[1..], false),
            },
            (Some(a), Some(b)) => a == b && inner(&pattern[1..], &text[1..], *b == b'/'),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
    inner(pattern.as_bytes(), path.as_bytes(), true)
}

/// Whether a byte is in a `[...]` class, and what follows the class; `None` when it never ends.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, body) = match pattern.first() {
        Some(b'!' | b'^') => (true, &pattern[1..]),
        _ => (false, pattern),
    };
    let end = body.iter().skip(1).position(|c| *c == b']')? + 1;
    let (set, rest) = (&body[..end], &body[end + 1..]);
    let mut place = 0;
    let mut hit = false;
    while place < set.len() {
        if place + 2 < set.len() && set[place + 1] == b'-' {
            hit |= (set[place]..=set[place + 2]).contains(&byte);
            place += 3;
        } else {
            hit |= set[place] == byte;
            place += 1;
        }
    }
    Some((hit != negated, rest))
}

fn parse(text: &str) -> Vec<Node> {
    let mut tokens = Tokens { text: text.as_bytes(), place: 0 };
    block(&mut tokens, 0)
}

fn block(tokens: &mut Tokens<'_>, depth: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut words: Vec<String> = Vec::new();
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) => words.push(word),
            Token::End => {
                if let Some(node) = node(&mut words, None) {
                    nodes.push(node);
                }
            }
            Token::Open => {
                let foreign = words.first().is_some_and(|name| name.ends_with("_by_lua_block"));
                let inner = if foreign || depth > DEPTH_MAX {
                    tokens.skip_block();
                    Vec::new()
                } else {
                    block(tokens, depth + 1)
                };
                if let Some(node) = node(&mut words, Some(inner)) {
                    nodes.push(node);
                }
            }
            Token::Close => return nodes,
        }
    }
    nodes
}

fn node(words: &mut Vec<String>, block: Option<Vec<Node>>) -> Option<Node> {
    let mut words = std::mem::take(words).into_iter();
    Some(Node { name: words.next()?, args: words.collect(), block })
}

enum Token {
    Word(String),
    End,
    Open,
    Close,
}

struct Tokens<'a> {
    text: &'a [u8],
    place: usize,
}

impl Tokens<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.place).copied()
    }

    fn next(&mut self) -> Option<Token> {
        loop {
            match self.peek()? {
                b'#' => {
                    while self.peek().is_some_and(|byte| byte != b'\n') {
                        self.place += 1;
                    }
                }
                byte if byte.is_ascii_whitespace() => self.place += 1,
                b';' => return self.single(Token::End),
                b'{' => return self.single(Token::Open),
                b'}' => return self.single(Token::Close),
                quote @ (b'"' | b'\'') => return Some(self.quoted(quote)),
                _ => return Some(self.bare()),
            }
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it ends a match whose other arms are optional")]
    fn single(&mut self, token: Token) -> Option<Token> {
        self.place += 1;
        Some(token)
    }

    fn quoted(&mut self, quote: u8) -> Token {
        self.place += 1;
        let mut word = Vec::new();
        while let Some(byte) = self.peek() {
            self.place += 1;
            match byte {
                b'\\' => {
                    word.extend(self.peek());
                    self.place += 1;
                }
                byte if byte == quote => break,
                byte => word.push(byte),
            }
        }
        Token::Word(String::from_utf8_lossy(&word).into_owned())
    }

    fn bare(&mut self) -> Token {
        let start = self.place;
        let mut variable = false;
        while let Some(byte) = self.peek() {
            match byte {
                b'\\' => self.place += 1,
                b'{' if self.place > start && self.text[self.place - 1] == b'$' => variable = true,
                b'}' if variable => variable = false,
                b';' | b'{' => break,
                byte if byte.is_ascii_whitespace() => break,
                _ => {}
            }
            self.place += 1;
        }
        let end = self.place.min(self.text.len());
        self.place = end;
        Token::Word(String::from_utf8_lossy(&self.text[start..end]).into_owned())
    }

    /// Skips what belongs to another language, up to the brace that closes it.
    fn skip_block(&mut self) {
        let mut depth = 1;
        while let Some(byte) = self.peek() {
            self.place += 1;
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = r#"# configuration file /etc/nginx/nginx.conf:
user www-data;
http {
    # include "not this";
    log_format a '$host { ; } "${request}"';
    include sites/*.conf;
    include /etc/nginx/hostler/*/http.conf;
    content_by_lua_block { local a = { b = "}" } }
}
# configuration file /etc/nginx/sites/a.conf:
server {
    server_name a.test *.b.test;
    add_header X-Frame-Options DENY;
    include hostler/e/server.conf;
    location / { try_files $uri /index.php?$args; }
    location ~ \.php$ { include snippets/php.conf; include hostler/e/location.conf; }
}
# configuration file /etc/nginx/snippets/php.conf:
fastcgi_pass unix:/run/php.sock;
# configuration file /etc/nginx/hostler/e/server.conf:
add_header X-Hostler-Cache $hostler;
# configuration file /etc/nginx/hostler/e/location.conf:
fastcgi_cache x;
# configuration file /etc/nginx/hostler/e/http.conf:
"#;

    fn all() -> Vec<Sighting> {
        let wanted = ["http", "server", "location"]
            .map(|name| PathBuf::from(format!("/etc/nginx/hostler/e/{name}.conf")));
        sightings(DUMP, &wanted)
    }

    #[test]
    fn every_file_is_seen_in_its_block() {
        let mut blocks: Vec<_> = all()
            .iter()
            .map(|sighting| {
                let path: Vec<_> =
                    sighting.levels.iter().map(|level| level.name.as_str()).collect();
                (sighting.file.file_name().unwrap().to_owned(), path.join(" "))
            })
            .collect();
        blocks.sort();
        assert_eq!(
            blocks,
            [
                ("http.conf".into(), "http".to_owned()),
                ("location.conf".into(), "http server location".to_owned()),
                ("server.conf".into(), "http server".to_owned()),
            ]
        );
    }

    #[test]
    fn a_level_says_what_it_does_itself() {
        let sightings = all();
        let location = sightings.iter().find(|s| s.innermost() == "location").unwrap();
        let server = location.server().unwrap();
        assert!(server.adds_headers, "the server's own header was not seen");
        assert!(server.answers_for("a.test") && server.answers_for("x.b.test"));
        assert!(!server.answers_for("b.test") && !server.answers_for("c.test"));
        let inner = location.levels.last().unwrap();
        assert!(inner.passes_fastcgi, "an included fastcgi_pass was not seen");
        assert!(!inner.adds_headers && !inner.caches, "our own files were counted");
        assert_eq!(inner.args, ["~", r"\.php$"]);
    }

    #[test]
    fn globs_match_as_the_shell_does() {
        assert!(matches("/a/*.conf", "/a/b.conf"));
        assert!(!matches("/a/*.conf", "/a/.b.conf"), "a hidden file matched");
        assert!(!matches("/a/*", "/a/b/c"), "a star matched a slash");
        assert!(matches("/a/?[b-d]/x", "/a/zc/x") && !matches("/a/?[!b-d]/x", "/a/zc/x"));
        assert!(matches("/a/*server.conf", "/a/server.conf"));
    }
}
