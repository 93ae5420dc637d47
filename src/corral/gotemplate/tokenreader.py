"""The tokens of a Go template as its parser takes them: looked at, pushed back, expected; and its errors, with place.

`parser.py` builds on it. Source: Go text/template/parse parse.go, go1.26.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from corral.errors import TemplateError
from corral.gotemplate.lexer import Kind, Positions, Token, tokenize


@dataclass(slots=True)
class Mark:
    """Where reading is, as offsets: the token read last, and the beginning of the action that is being read."""

    read: int | None = None
    action: int | None = None


class TokenReader:
    """A template's tokens, with as much looking ahead as the grammar needs. `mark` is the parser's to change."""

    def __init__(self, source: str) -> None:
        self.mark = Mark()
        self._positions = Positions(source)
        self._tokens: Iterator[Token] = tokenize(source)
        self._pushed: list[Token] = []
        self._last: Token | None = None

    def _next(self) -> Token:
        if self._pushed:
            return self._pushed.pop()
        if self._last is None or self._last.kind not in (Kind.EOF, Kind.ERROR):
            self._last = next(self._tokens)
            self.mark.read = self._last.pos
        return self._last

    def _peek(self) -> Token:
        token = self._next()
        self._pushed.append(token)
        return token

    def _next_word(self) -> Token:
        """The next token that is no blank."""
        while (token := self._next()).kind is Kind.SPACE:
            pass
        return token

    def _peek_word(self) -> Token:
        token = self._next_word()
        self._pushed.append(token)
        return token

    def _expect(self, kind: Kind, context: str) -> Token:
        token = self._next_word()
        if token.kind is not kind:
            self._unexpected(token, context)
        return token

    def _fail(self, why: str, pos: int) -> NoReturn:
        raise self._error(why, pos)

    def _error(self, why: str, pos: int) -> TemplateError:
        read = self.mark.read
        return self._positions.error(why, pos, line=0 if read is None else self._positions.line(read))

    def _unexpected(self, token: Token, context: str) -> NoReturn:
        if token.kind is not Kind.ERROR:
            self._fail(f"unexpected {token} in {context}", token.pos)
        extra = ""
        started = 0 if self.mark.action is None else self._positions.line(self.mark.action)
        if started and started != self._positions.line(token.pos):
            extra = f" started at :{started}" if token.text.endswith(" action") else f" in action started at :{started}"
        self._fail(token.text + extra, token.pos)
