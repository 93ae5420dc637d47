"""Splits a Go template into text and the tokens of its actions. `parser.py` calls it.

Source: the language of Go's text/template; spec models §5.1. Spaces are tokens, because `.A.B` and `.A .B` differ.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from corral.errors import TemplateError


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
    CHAR = "character constant"
    STRING = "string"
    RAW_STRING = "raw string"
    PIPE = "|"
    OPEN = "("
    CLOSE = ")"
    COMMA = ","
    DECLARE = ":="
    ASSIGN = "="
    EOF = "EOF"


@dataclass(frozen=True, slots=True)
class Token:
    """A token, its text as written, and where it starts."""

    kind: Kind
    text: str
    pos: int


KEYWORDS = frozenset(("block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"))
_SPACE = " \t\r\n"
_RIGHT = re.compile(r"[ \t\r\n]+-}}|}}")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_NUMBER = (
    r"[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+"
    r"|(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]+)?)"
)
_TOKENS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (Kind.SPACE, re.compile(r"[ \t\r\n]+")),
    (Kind.NUMBER, re.compile(_NUMBER)),
    (Kind.FIELD, re.compile(r"\.[^\W\d]\w*")),
    (Kind.DOT, re.compile(r"\.")),
    (Kind.VARIABLE, re.compile(r"\$\w*")),
    (Kind.IDENTIFIER, re.compile(r"[^\W\d]\w*")),
    (Kind.STRING, re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')),
    (Kind.RAW_STRING, re.compile(r"`[^`]*`")),
    (Kind.CHAR, re.compile(r"'(?:[^'\\\n]|\\[^\n])*'")),
    (Kind.PIPE, re.compile(r"\|")),
    (Kind.OPEN, re.compile(r"\(")),
    (Kind.CLOSE, re.compile(r"\)")),
    (Kind.COMMA, re.compile(r",")),
    (Kind.DECLARE, re.compile(r":=")),
    (Kind.ASSIGN, re.compile(r"=")),
)
_WORDS = (Kind.FIELD, Kind.VARIABLE, Kind.IDENTIFIER, Kind.NUMBER)
_AFTER_WORD = frozenset(" \t\r\n.,|:()}=")
_UNTERMINATED = {'"': "unterminated quoted string", "`": "unterminated raw quoted string"}
_UNTERMINATED["'"] = "unterminated character constant"


class Positions:
    """Turns offsets of one source text into 1-based lines and columns."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._starts = [0, *(match.end() for match in re.finditer("\n", source))]

    def error(self, why: str, pos: int) -> TemplateError:
        """The error `why` at an offset."""
        line = bisect_right(self._starts, pos)
        return TemplateError(why, line, pos - self._starts[line - 1] + 1)


def tokenize(source: str, positions: Positions) -> Iterator[Token]:
    """Tokens of the whole source, EOF last; raises TemplateError."""
    pos = 0
    trim = False
    while True:
        start = source.find("{{", pos)
        end = len(source) if start < 0 else start
        text = source[pos:end]
        left_trim = start >= 0 and source[start + 2 : start + 3] == "-" and source[start + 3 : start + 4] in (*_SPACE,)
        text_pos = pos
        if trim:
            stripped = text.lstrip(_SPACE)
            text_pos += len(text) - len(stripped)
            text = stripped
        if left_trim:
            text = text.rstrip(_SPACE)
        if text:
            yield Token(Kind.TEXT, text, text_pos)
        if start < 0:
            yield Token(Kind.EOF, "", len(source))
            return
        inside = start + (3 if left_trim else 2)
        comment = _comment_end(source, inside, start, positions)
        if comment is not None:
            pos, trim = comment
            continue
        yield Token(Kind.LEFT, "{{", start)
        token = None
        for token in _inside(source, inside, start, positions):
            yield token
        assert token is not None
        pos = token.pos + len(token.text)
        trim = token.text != "}}"


def _comment_end(source: str, inside: int, start: int, positions: Positions) -> tuple[int, bool] | None:
    """Where a comment action ends and whether it trims; None if the action is no comment."""
    begin = inside
    while source[begin : begin + 1] in (*_SPACE,) and begin < inside + 1 and source[inside - 1] == "-":
        begin += 1  # after a trim marker exactly one blank may stand before the comment
    if not source.startswith("/*", begin):
        return None
    comment = _COMMENT.match(source, begin)
    if comment is None:
        raise positions.error("unclosed comment", start)
    right = _RIGHT.match(source, comment.end())
    if right is None:
        raise positions.error("comment ends before closing delimiter", start)
    return right.end(), right.group() != "}}"


def _inside(source: str, pos: int, start: int, positions: Positions) -> Iterator[Token]:
    """The tokens of one action, its right delimiter last."""
    depth = 0
    while True:
        right = _RIGHT.match(source, pos)
        if right is not None:
            if depth:
                raise positions.error("unclosed left paren", pos)
            yield Token(Kind.RIGHT, right.group(), pos)
            return
        if pos >= len(source):
            raise positions.error("unclosed action", start)
        token = _next(source, pos, positions)
        depth += (token.kind is Kind.OPEN) - (token.kind is Kind.CLOSE)
        if depth < 0:
            raise positions.error("unexpected right paren", pos)
        yield token
        pos += len(token.text)


def _next(source: str, pos: int, positions: Positions) -> Token:
    for kind, pattern in _TOKENS:
        found = pattern.match(source, pos)
        if found is None:
            continue
        text = found.group()
        end = found.end()
        if kind in _WORDS and end < len(source) and source[end] not in _AFTER_WORD:
            why = "bad number syntax" if kind is Kind.NUMBER else "bad character"
            raise positions.error(f'{why}: "{text}{source[end]}"' if kind is Kind.NUMBER else _bad(source[end]), pos)
        return Token(_word_kind(text) if kind is Kind.IDENTIFIER else kind, text, pos)
    if source[pos] in _UNTERMINATED:
        raise positions.error(_UNTERMINATED[source[pos]], pos)
    raise positions.error(f"unexpected {_bad(source[pos])} in command", pos)


def _bad(char: str) -> str:
    return f"bad character U+{ord(char):04X} {char!r}"


def _word_kind(text: str) -> Kind:
    if text in ("true", "false"):
        return Kind.BOOL
    return Kind.KEYWORD if text in KEYWORDS else Kind.IDENTIFIER
