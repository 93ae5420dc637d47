"""Splits a Go template into text and the tokens of its actions. `parser.py` calls it.

Spaces are tokens, because `.A.B` and `.A .B` differ; what cannot be read is a token of kind ERROR, the last one, so
that the parser finds its own errors before those that lie behind. Source: Go text/template/parse lex.go, go1.26.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import Enum

from corral.errors import TemplateError
from corral.goquote import quote


class Kind(Enum):
    """What a token is."""

    TEXT = "text"
    LEFT = "{{"
    RIGHT = "}}"
    SPACE = "space"
    FIELD = "field"
    DOT = "."
    VARIABLE = "variable"
    IDENTIFIER = "identifier"
    KEYWORD = "keyword"
    BOOL = "bool"
    NUMBER = "number"
    COMPLEX = "complex"
    CHAR_CONSTANT = "character constant"
    CHAR = "character"
    STRING = "string"
    RAW_STRING = "raw string"
    PIPE = "|"
    OPEN = "("
    CLOSE = ")"
    DECLARE = ":="
    ASSIGN = "="
    ERROR = "error"
    EOF = "EOF"


@dataclass(frozen=True, slots=True)
class Token:
    """A token, its text as written (an ERROR's is what is wrong), and where it starts."""

    kind: Kind
    text: str
    pos: int

    def __str__(self) -> str:
        """As Go's parser names it in errors."""
        if self.kind in (Kind.EOF, Kind.ERROR):
            return self.text
        if self.kind in (Kind.KEYWORD, Kind.DOT):
            return f"<{self.text}>"
        return quote(self.text) if len(self.text.encode()) <= _SHOWN else quote(self.text[:_SHOWN]) + "..."


KEYWORDS = frozenset(("block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"))
_SHOWN = 10  # of a long token
_SPACE = " \t\r\n"
_RIGHT = re.compile(r"[ \t\r\n]-}}|}}")
_SPACES = re.compile(r"[ \t\r\n]+")
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?|0[bB][01_]*(?:\.[01_]*)?|0[oO][0-7_]*(?:\.[0-7_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)
_QUOTED = {
    '"': (Kind.STRING, re.compile(r'"(?:[^"\\\n]|\\[^\n])*"'), "unterminated quoted string"),
    "'": (Kind.CHAR_CONSTANT, re.compile(r"'(?:[^'\\\n]|\\[^\n])*'"), "unterminated character constant"),
    "`": (Kind.RAW_STRING, re.compile(r"`[^`]*`"), "unterminated raw quoted string"),
}
_SIGNS = {"=": Kind.ASSIGN, "|": Kind.PIPE, "(": Kind.OPEN, ")": Kind.CLOSE}


class Positions:
    """Turns offsets of one source text into lines (from 1) and columns (in bytes from 0), as Go counts them."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._starts = [0, *(match.end() for match in re.finditer("\n", source))]

    def line(self, pos: int) -> int:
        """The line of an offset."""
        return bisect_right(self._starts, pos)

    def error(self, why: str, pos: int, *, line: int | None = None) -> TemplateError:
        """The error `why` at an offset; `line` where Go names another line than the offset's."""
        own = self.line(pos)
        start = self._starts[own - 1]
        return TemplateError(
            why, own if line is None else line, len(self._source[start:pos].encode("utf-8", "replace"))
        )


def tokenize(source: str) -> Iterator[Token]:
    """Tokens of the whole source, EOF or ERROR last."""
    pos = 0
    while True:
        start = source.find("{{", pos)
        end = len(source) if start < 0 else start
        trims = start >= 0 and source[start + 2 : start + 3] == "-" and _is_space(source[start + 3 : start + 4])
        text = source[pos:end].rstrip(_SPACE) if trims else source[pos:end]
        if text:
            yield Token(Kind.TEXT, text, pos)
        if start < 0:
            yield Token(Kind.EOF, "EOF", end)
            return
        inside = start + (4 if trims else 2)
        if source.startswith("/*", inside):
            last = yield from _comment(source, inside)
        else:
            yield Token(Kind.LEFT, "{{", start)
            last = yield from _Inside(source, inside).tokens()
        if last is None:
            return
        pos = last


def _comment(source: str, begin: int) -> Generator[Token, None, int | None]:
    """Reads a comment; its value is where the text behind it begins, None after an error."""
    end = source.find("*/", begin + 2)
    if end < 0:
        yield Token(Kind.ERROR, "unclosed comment", begin)
        return None
    right = _RIGHT.match(source, end + 2)
    if right is None:
        yield Token(Kind.ERROR, "comment ends before closing delimiter", begin)
        return None
    return _behind(source, right)


def _behind(source: str, right: re.Match[str]) -> int:
    """Where the text behind a closing delimiter begins; blanks are skipped when it trims."""
    spaces = _SPACES.match(source, right.end()) if len(right.group()) > 2 else None
    return spaces.end() if spaces else right.end()


class _Inside:
    """The tokens of one action."""

    def __init__(self, source: str, pos: int) -> None:
        self._source = source
        self._pos = pos
        self._depth = 0

    def tokens(self) -> Generator[Token, None, int | None]:
        """All of them, the closing delimiter last; the value is where the text behind begins, None after an error."""
        while True:
            right = _RIGHT.match(self._source, self._pos)
            if right is not None and not self._depth:
                yield Token(Kind.RIGHT, "}}", right.end() - 2)
                return _behind(self._source, right)
            token = self._error("unclosed left paren") if right is not None else self._next()
            yield token
            if token.kind is Kind.ERROR:
                return None
            self._pos += len(token.text)

    def _error(self, why: str) -> Token:
        return Token(Kind.ERROR, why, self._pos)

    def _token(self, kind: Kind, end: int) -> Token:
        return Token(kind, self._source[self._pos : end], self._pos)

    def _next(self) -> Token:
        char = self._source[self._pos : self._pos + 1]
        following = self._source[self._pos + 1 : self._pos + 2]
        if not char:
            return self._error("unclosed action")
        if _is_space(char):
            return self._space()
        if char in _SIGNS:
            return self._sign(char)
        if char == ":":
            return self._token(Kind.DECLARE, self._pos + 2) if following == "=" else self._error("expected :=")
        if char in _QUOTED:
            kind, pattern, why = _QUOTED[char]
            found = pattern.match(self._source, self._pos)
            return self._error(why) if found is None else self._token(kind, found.end())
        if char == "$" or (char == "." and not ("0" <= following <= "9")):
            return self._name(Kind.VARIABLE if char == "$" else Kind.FIELD)
        if char in ".+-" or "0" <= char <= "9":
            return self._number()
        if _is_word(char):
            return self._word()
        if char.isascii() and char.isprintable():
            return self._token(Kind.CHAR, self._pos + 1)
        return self._error(f"unrecognized character in action: {_code(char)}")

    def _space(self) -> Token:
        spaces = _SPACES.match(self._source, self._pos)
        assert spaces is not None
        # The last blank may belong to a delimiter that trims.
        trims = self._source.startswith("-}}", spaces.end())
        return self._token(Kind.SPACE, spaces.end() - trims)

    def _sign(self, char: str) -> Token:
        self._depth += (char == "(") - (char == ")")
        if self._depth < 0:
            return self._error("unexpected right paren")
        return self._token(_SIGNS[char], self._pos + 1)

    def _ends(self, end: int) -> bool:
        """Whether a name may end here."""
        char = self._source[end : end + 1]
        return not char or char in " \t\r\n.,|:()" or self._source.startswith("}}", end)

    def _run(self, start: int) -> int:
        while start < len(self._source) and _is_word(self._source[start]):
            start += 1
        return start

    def _name(self, kind: Kind) -> Token:
        end = self._pos + 1
        if self._ends(end):
            return self._token(Kind.DOT if kind is Kind.FIELD else kind, end)
        end = self._run(end)
        return self._token(kind, end) if self._ends(end) else self._bad(end)

    def _word(self) -> Token:
        end = self._run(self._pos)
        if not self._ends(end):
            return self._bad(end)
        word = self._source[self._pos : end]
        kind = Kind.KEYWORD if word in KEYWORDS else Kind.BOOL if word in ("true", "false") else Kind.IDENTIFIER
        return self._token(kind, end)

    def _bad(self, end: int) -> Token:
        return self._error(f"bad character {_code(self._source[end])}")

    def _number(self) -> Token:
        end, good = self._digits(self._pos)
        kind = Kind.NUMBER
        if good and self._source[end : end + 1] in ("+", "-"):
            end, good = self._digits(end)
            kind, good = Kind.COMPLEX, good and self._source[end - 1] == "i"
        return (
            self._token(kind, end)
            if good
            else self._error(f"bad number syntax: {quote(self._source[self._pos : end])}")
        )

    def _digits(self, start: int) -> tuple[int, bool]:
        """Where a number ends, and whether nothing wordlike follows; that character is taken too."""
        found = _NUMBER.match(self._source, start)
        end = start if found is None else found.end()
        wordlike = end < len(self._source) and _is_word(self._source[end])
        return end + wordlike, not wordlike


def _is_space(char: str) -> bool:
    return char != "" and char in _SPACE


def _is_word(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdecimal()


def _code(char: str) -> str:
    """Go's %#U."""
    shown = f" '{char}'" if char.isprintable() else ""
    return f"U+{ord(char):04X}{shown}"
