"""The configuration as nginx reads it, from `nginx -T`: which file is included in which block.

`-T` prints every file it read under a line `# configuration file PATH:`, so includes and their globs
are resolved against what was printed, never against the disk. Only nesting, `include`, `server_name`,
`listen` and `add_header` matter here.
"""

import os
import re

# Deepest nesting of blocks and includes; nginx itself gives up earlier.
DEPTH_MAX = 64
FILE_MARK = re.compile(r"^# configuration file (/.*):$", re.MULTILINE)
TOKEN = re.compile(
    r"""[ \t\r\n]+|\#[^\n]*
    |(?P<mark>[;{}])
    |"(?P<double>(?:[^"\\]|\\.)*)"?
    |'(?P<single>(?:[^'\\]|\\.)*)'?
    |(?P<bare>(?:\\.|\$\{[^}\s;]*\}?|[^\\;{\s])+)
    |\\""",
    re.VERBOSE | re.DOTALL,
)


class Node:
    """A directive, with a block or without."""

    def __init__(self, words, block):
        self.name = words[0]
        self.args = words[1:]
        self.block = block


class Level:
    """A block some file is included in, and what that block itself does."""

    def __init__(self, node):
        self.name = node.name
        self.args = node.args
        self.server_names = []
        # Arguments of each `listen`.
        self.listens = []
        self.adds_headers = False

    def answers_for(self, domain):
        """Whether a server of these names may answer for a domain; patterns count as a yes."""
        return not self.server_names or any(_may_mean(name.lower(), domain) for name in self.server_names)


def _may_mean(name, domain):
    if name in (domain, "_", "") or name.startswith("~") or name.endswith(".*"):
        return True
    if name.startswith("*."):
        return domain.endswith(name[1:])
    return name.startswith(".") and (domain == name[1:] or domain.endswith(name))


class Sighting:
    """One place a wanted file is included in: the blocks around it, outermost first."""

    def __init__(self, file, levels):
        self.file = file
        self.levels = levels

    @property
    def innermost(self):
        """Name of the innermost block."""
        return self.levels[-1].name if self.levels else ""

    @property
    def server(self):
        """The server around it."""
        return next((level for level in self.levels if level.name == "server"), None)


def sightings(dump, wanted):
    """Every place the wanted files are included in."""
    files = _split(dump)
    if not files:
        return []
    base = os.path.dirname(next(iter(files)))
    walk = _Walk({path: parse(text) for path, text in files.items()}, base, wanted)
    walk.block(next(iter(walk.files.values())), [], 0)
    return walk.found


class _Walk:
    def __init__(self, files, base, wanted):
        self.files = files
        self.base = base
        self.wanted = wanted
        self.found = []

    def included(self, node):
        """The files an include means. A wanted one counts although it is not there yet."""
        if not node.args:
            return []
        pattern = glob(os.path.join(self.base, node.args[0]))
        return sorted(path for path in {*self.files, *self.wanted} if pattern.fullmatch(path))

    def opened(self, nodes, depth):
        """The directives of a block with its includes opened, and the wanted files among these."""
        out, seen = [], []
        for node in nodes:
            if node.name != "include" or depth > DEPTH_MAX:
                out.append(node)
                continue
            for path in self.included(node):
                if path in self.wanted:
                    seen.append(path)
                elif path in self.files:
                    more, there = self.opened(self.files[path], depth + 1)
                    out.extend(more)
                    seen.extend(there)
        return out, seen

    def block(self, nodes, levels, depth):
        if depth > DEPTH_MAX:
            return
        nodes, seen = self.opened(nodes, depth)
        if levels:
            levels[-1].adds_headers = any(node.name == "add_header" for node in nodes)
            levels[-1].server_names = [
                name for node in nodes if node.name == "server_name" for name in node.args
            ]
            levels[-1].listens = [node.args for node in nodes if node.name == "listen"]
        self.found.extend(Sighting(path, list(levels)) for path in seen)
        for node in nodes:
            if node.block is not None:
                self.block(node.block, [*levels, Level(node)], depth + 1)


def _split(dump):
    """The files of a dump by path, in the order printed."""
    marks = list(FILE_MARK.finditer(dump))
    ends = [mark.start() for mark in marks[1:]] + [len(dump)]
    files = {}
    for mark, end in zip(marks, ends):
        files.setdefault(mark.group(1), dump[mark.end() + 1 : end])
    return files


def glob(pattern):
    """Shell-style match of a whole path: wildcards stay within a component and match no leading dot."""
    out, place = [], 0
    while place < len(pattern):
        char = pattern[place]
        start = place == 0 or pattern[place - 1] == "/"
        hidden = r"(?!\.)" if start and char in "*?[" else ""
        place += 1
        if char == "*":
            out.append(hidden + "[^/]*")
        elif char == "?":
            out.append(hidden + "[^/]")
        elif char == "[" and "]" in pattern[place + 1 :]:
            end = pattern.index("]", place + 1)
            body = pattern[place:end].replace("\\", r"\\")
            body = "^" + body[1:] if body[0] in "!^" else body
            out.append(f"{hidden}(?!/)[{body}]")
            place = end + 1
        else:
            out.append(re.escape(char))
    return re.compile("".join(out), re.DOTALL)


def parse(text):
    """The directives of a file."""
    return _nodes(_Tokens(text), 0)


class _Tokens:
    def __init__(self, text):
        self.text = text
        self.place = 0

    def next(self):
        """The next word or mark as (kind, text); None at the end."""
        while self.place < len(self.text):
            token = TOKEN.match(self.text, self.place)
            self.place = token.end()
            if token.lastgroup == "mark":
                return "mark", token.group()
            if token.lastgroup in ("double", "single"):
                return "word", re.sub(r"\\(.)", r"\1", token.group(token.lastgroup), flags=re.DOTALL)
            if token.lastgroup == "bare":
                return "word", token.group()
        return None

    def skip_block(self):
        """Skips what belongs to another language, up to the brace that closes it."""
        depth = 1
        while depth and self.place < len(self.text):
            depth += {"{": 1, "}": -1}.get(self.text[self.place], 0)
            self.place += 1


def _nodes(tokens, depth):
    nodes, words = [], []
    while True:
        token = tokens.next()
        if token is None or token == ("mark", "}"):
            return nodes
        if token[0] == "word":
            words.append(token[1])
            continue
        block = None
        if token[1] == "{":
            if depth > DEPTH_MAX or (words and words[0].endswith("_by_lua_block")):
                tokens.skip_block()
                block = []
            else:
                block = _nodes(tokens, depth + 1)
        if words:
            nodes.append(Node(words, block))
        words = []
