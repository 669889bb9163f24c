"""PHP source taken apart as far as an edit needs: what is code and what is not, which constants it
defines, and where a statement may be put before all others. As agent/src/steps/php.rs does it."""

import re

HTML, SPACE, COMMENT, TEXT, WORD, SIGN = "html", "space", "comment", "text", "word", "sign"

OPENING = re.compile(r"<\?(?:=|php(?=\s|\Z))", re.IGNORECASE)
SPACES = re.compile(r"\s+")
NAME = re.compile(r"[A-Za-z0-9_\u0080-\U0010ffff]+")
REMARK = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
# A closing tag ends such a comment as the line does; `#[` begins an attribute.
LINE_REMARK = re.compile(r"(?://|\#(?!\[))(?:(?!\?>)[^\n])*")
STRING = re.compile(r"""(['"`])(?:\\.|(?!\1)[^\\])*(?:\1|\\?\Z)""", re.DOTALL)
HEREDOC = re.compile(r"<<<([^\n]*)\n")


class Piece:
    """A piece of a file and where it ends."""

    def __init__(self, kind, text, end):
        self.kind = kind
        self.text = text
        self.end = end

    def is_word(self, word):
        return self.kind == WORD and self.text.lower() == word

    def is_sign(self, sign):
        return self.kind == SIGN and self.text == sign

    def says(self, content):
        return self.kind == TEXT and self.text in (f"'{content}'", f'"{content}"')


def _pieces(text):
    """The pieces of a file, one after the other, without a gap."""
    place = 0
    while place < len(text):
        if place == 0 or text.startswith("?>", place):
            opening = OPENING.search(text, place)
            kind, end = HTML, opening.end() if opening else len(text)
        else:
            kind, end = _code_piece(text, place)
        yield Piece(kind, text[place:end], end)
        place = end


def _code_piece(text, place):
    for kind, pattern in (
        (SPACE, SPACES),
        (WORD, NAME),
        (COMMENT, REMARK),
        (COMMENT, LINE_REMARK),
        (TEXT, STRING),
    ):
        found = pattern.match(text, place)
        if found:
            return kind, found.end()
    end = _heredoc_end(text, place)
    return (TEXT, end) if end else (SIGN, place + 1)


def _heredoc_end(text, place):
    """A heredoc ends with a line that begins, but for blanks, with its label."""
    opening = HEREDOC.match(text, place)
    if not opening:
        return None
    label = opening.group(1).strip().strip("'\"")
    if not NAME.fullmatch(label):
        return None
    closing = re.compile(rf"^[ \t]*{re.escape(label)}(?![A-Za-z0-9_\u0080-\U0010ffff])", re.MULTILINE)
    found = closing.search(text, opening.end())
    return found.end() if found else len(text)


def _code(text):
    """The pieces that do something."""
    return [piece for piece in _pieces(text) if piece.kind not in (SPACE, COMMENT)]


def defines(text, constant):
    """Whether code (no comment, no string) defines a constant of that name."""
    pieces = _code(text)
    for place, piece in enumerate(pieces):
        rest = pieces[place + 1 :]
        if piece.is_word("define") and len(rest) > 1:
            if rest[0].is_sign("(") and rest[1].says(constant):
                return True
        elif piece.is_word("const"):
            end = next((at for at, one in enumerate(rest) if one.is_sign(";")), len(rest))
            for name, equals in zip(rest[:end], rest[1:end]):
                if name.kind == WORD and name.text == constant and equals.is_sign("="):
                    return True
    return False


class NotUnderstood(Exception):
    """What of a file is not understood."""


def preamble(text):
    """Where the statements end that PHP demands before any other (`declare`, `namespace`); None when
    the file has none. It must begin with an opening tag."""
    pieces = _code(text)[1:]
    place, end = 0, None

    def after(wanted):
        """The place behind the next piece of which that is true."""
        found = next((at for at in range(place, len(pieces)) if wanted(pieces[at])), len(pieces))
        return found + 1

    while place < len(pieces):
        piece = pieces[place]
        place += 1
        # `namespace\f()` is a call.
        relative = place < len(pieces) and pieces[place].is_sign("\\")
        if piece.is_word("declare"):
            place = after(lambda one: one.is_sign(")"))
            place += 1
        elif piece.is_word("namespace") and not relative:
            place = after(lambda one: one.kind != WORD and not one.is_sign("\\"))
        elif piece.kind == HTML:
            raise NotUnderstood("it leaves PHP before its first statement")
        else:
            break
        if place > len(pieces) or not pieces[place - 1].is_sign(";"):
            raise NotUnderstood("its `declare` or `namespace` does not end in `;`")
        end = pieces[place - 1].end
    return end
