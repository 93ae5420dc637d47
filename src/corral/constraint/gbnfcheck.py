"""Checks GBNF before the engine parses it. Pure; `checks.py` calls it.

llama.cpp's parser writes repetitions out, follows left recursion wherever it does not recognize it, and recurses as
deep as a grammar is nested: `"a"{2,1}` takes all memory, a rule that may be empty before itself never ends. So it is
read here by the same syntax first, and refused when it is wrong or larger than an answer can need.

grammar = { name "::=" alternatives newline }
item    = ( literal | class | token | name | "(" alternatives ")" | "." ) { "*" | "+" | "?" | "{" m [ "," [ n ] ] "}" }

Source: llama.cpp src/llama-grammar.cpp llama_grammar_parser, 2026-10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from corral.errors import InvalidRequest

MAX_REPEAT = 2000  # llama.cpp's own; an upper limit above it counts as none
_MOST_ELEMENTS = 400_000  # of all rules, written out
_MOST_DEPTH = 100  # groups within groups
_MOST_CHAIN = 500  # rules that begin with each other
_MOST_PATHS = 50_000  # ways in which rules begin with each other: the engine walks them all
_MOST_EMPTY = 50  # repetitions of something that may be empty
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_OR_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[A-Za-z0-9-]+")
_CHAR = re.compile(r'\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[trn\\"\[\]-])|[^\\]', re.DOTALL)
_TOKEN = re.compile(r"!?<(?:\[\d{1,9}\]|[^\[>\n][^>\n]{0,200})>")
_TIMES = re.compile(r"\{\s*(\d{1,18})\s*(,\s*(\d{1,18})?\s*)?\}")

Alternatives = list[list[str]]  # of the names of rules; "" is something that is none


def check_gbnf(text: str) -> None:
    """Raise InvalidRequest saying what is wrong, and where."""
    parser = _Parser(text)
    parser.parse()
    _check_recursion(parser)


@dataclass(frozen=True, slots=True)
class _Repetition:
    """Something that is repeated without end, or often."""

    name: str
    at: int


class _Parser:
    """Reads the text; `rules` has groups and repetitions as rules of their own, under names with a space."""

    def __init__(self, text: str) -> None:
        self.rules: dict[str, Alternatives] = {}
        self.repetitions: list[_Repetition] = []
        self._text = text
        self._at = 0
        self._elements = 0
        self._depth = 0
        self._used: dict[str, int] = {}  # name → where it is used first

    def parse(self) -> None:
        """All of it; raises InvalidRequest."""
        self._skip(lines=True)
        while self._at < len(self._text):
            self._rule()
        if "root" not in self.rules:
            self.fail('GBNF must define "root ::= …"')
        for name, at in self._used.items():
            if name not in self.rules:
                self.fail(f"the rule {name} is not defined", at)

    def fail(self, why: str, at: int | None = None) -> NoReturn:
        """Refuse the grammar; at: where in the text."""
        where = "" if at is None else f" (at line {self._text.count(chr(10), 0, at) + 1})"
        raise InvalidRequest(f"invalid grammar: {why}{where}", field="grammar")

    def _skip(self, *, lines: bool) -> None:
        found = (_SPACE_OR_LINES if lines else _SPACE).match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _take(self, sign: str, *, lines: bool) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        self._skip(lines=lines)
        return True

    def _rule(self) -> None:
        name = _NAME.match(self._text, self._at)
        if name is None:
            self.fail("a rule must begin with its name", self._at)
        self._at = name.end()
        self._skip(lines=False)
        if not self._take("::=", lines=True):
            self.fail('"::=" is missing behind the name of a rule', self._at)
        self.rules[name.group()] = self._alternatives(nested=False)
        if self._at < len(self._text) and self._text[self._at] not in "\r\n":
            self.fail(f"{self._text[self._at]!r} is not expected here", self._at)
        self._skip(lines=True)

    def _alternatives(self, *, nested: bool) -> Alternatives:
        found = [self._sequence(nested=nested)]
        while self._take("|", lines=True):
            found.append(self._sequence(nested=nested))
        return found

    def _sequence(self, *, nested: bool) -> list[str]:
        names: list[str] = []
        self._count(1)
        while (item := self._item(nested=nested)) is not None:
            name, size = item
            while (times := self._times(nested=nested)) is not None:
                if not size:
                    self.fail("nothing to repeat", self._at)
                name, size = self._repeated(name, size, *times)
            self._count(size)
            names += [name] if size else []
        return names

    def _count(self, elements: int) -> None:
        self._elements += elements
        if self._elements > _MOST_ELEMENTS:
            self.fail("it is too large when its repetitions are written out", self._at)

    def _item(self, *, nested: bool) -> tuple[str, int] | None:
        """The name of the next item, and how many elements the engine makes of it; None: there is none."""
        sign = self._text[self._at : self._at + 1]
        size = 1
        if sign == "(":
            return self._group(nested=nested), 1
        if sign in ('"', "["):
            size = self._chars('"' if sign == '"' else "]")
        elif sign == ".":
            self._at += 1
        elif token := _TOKEN.match(self._text, self._at):
            self._at = token.end()
        elif sign in ("<", "!"):
            self.fail("a token must be <text> or <[number]>", self._at)
        elif name := _NAME.match(self._text, self._at):
            self._used.setdefault(name.group(), self._at)
            self._at = name.end()
            self._skip(lines=nested)
            return name.group(), 1
        else:
            return None
        self._skip(lines=nested)
        return "", size

    def _chars(self, end: str) -> int:
        """A literal or a class; how many characters are in it."""
        start = self._at
        self._at += 1
        if end == "]" and self._text.startswith("^", self._at):
            self._at += 1
        size = 0
        while not self._text.startswith(end, self._at):
            char = _CHAR.match(self._text, self._at)
            if char is None:
                at_end = self._at >= len(self._text)
                self.fail("a quote or a class is not closed" if at_end else "an unknown escape", self._at)
            self._at = char.end()
            size += 1
        self._at += 1
        if end == "]" and not size:
            self.fail("an empty class", start)
        return size

    def _group(self, *, nested: bool) -> str:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            self.fail(f"more than {_MOST_DEPTH} groups within each other", self._at)
        self._take("(", lines=True)
        alternatives = self._alternatives(nested=True)
        if not self._take(")", lines=nested):
            self.fail("a group is not closed", self._at)
        self._depth -= 1
        return self._named(alternatives)

    def _named(self, alternatives: Alternatives) -> str:
        name = f"group {len(self.rules)}"
        self.rules[name] = alternatives
        return name

    def _times(self, *, nested: bool) -> tuple[int, int | None] | None:
        """The next repetition; None: there is none."""
        for sign, times in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign, lines=nested):
                return times
        if not self._text.startswith("{", self._at):
            return None
        found = _TIMES.match(self._text, self._at)
        if found is None:
            self.fail("a repetition must be {m}, {m,} or {m,n}", self._at)
        least = int(found[1])
        most = least if found[2] is None else None if found[3] is None else int(found[3])
        if most is not None and most < least:
            self.fail(f"{found.group()} is the wrong way around", self._at)
        if least > MAX_REPEAT:
            self.fail(f"more than {MAX_REPEAT} repetitions", self._at)
        self._at = found.end()
        self._skip(lines=nested)
        return least, None if most is not None and most > MAX_REPEAT else most

    def _repeated(self, name: str, size: int, least: int, most: int | None) -> tuple[str, int]:
        """An item that is repeated, as an item: as rules written out, and how many elements it has itself."""
        optional = 1 if most is None else most - least
        if size * max(least, most or 1) > _MOST_ELEMENTS:
            self.fail("it is too large when its repetitions are written out", self._at)
        self._count(optional * (size + 3))
        if most is None or most > _MOST_EMPTY:
            self.repetitions.append(_Repetition(name, self._at))
        if most == 0:
            return self._named([[]]), 1
        more = self._named([[name], []])
        return self._named([[name, more]]) if least else more, least * size + 1


def _check_recursion(parser: _Parser) -> None:
    rules = parser.rules
    empty = _empty_rules(rules)
    for repetition in parser.repetitions:
        if repetition.name in empty:
            parser.fail("it repeats something that may be empty", repetition.at)
    begins = {name: _begins(alternatives, empty) for name, alternatives in rules.items()}
    paths: dict[str, int] = {}
    depth: dict[str, int] = {}
    for name in rules:
        _measure(name, begins, paths, depth, parser)


def _empty_rules(rules: Mapping[str, Alternatives]) -> set[str]:
    """The rules that may be empty."""
    arms = [(name, arm) for name, alternatives in rules.items() for arm in alternatives if "" not in arm]
    waiting: dict[str, list[int]] = {}
    left = [len(arm) for _, arm in arms]  # parts that are not known to be empty
    for number, (_, arm) in enumerate(arms):
        for part in arm:
            waiting.setdefault(part, []).append(number)
    empty: set[str] = set()
    todo = [name for name, arm in arms if not arm]
    while todo:
        name = todo.pop()
        if name in empty:
            continue
        empty.add(name)
        for number in waiting.get(name, ()):
            left[number] -= 1
            if not left[number]:
                todo.append(arms[number][0])
    return empty


def _begins(alternatives: Alternatives, empty: set[str]) -> list[str]:
    """The rules that a rule may begin with."""
    found: list[str] = []
    for arm in alternatives:
        for part in arm:
            found += [part] if part else []
            if part not in empty:
                break
    return found


def _measure(
    name: str, begins: Mapping[str, list[str]], paths: dict[str, int], depth: dict[str, int], parser: _Parser
) -> None:
    """Count the ways from a rule through those it begins with; refuse circles, and too many."""
    todo = [(name, iter(begins[name]))]
    above = {name}
    while todo:
        current, rest = todo[-1]
        child = next(rest, None)
        if child is None:
            todo.pop()
            above.discard(current)
            paths[current] = 1 + sum(paths[one] for one in begins[current])
            depth[current] = 1 + max((depth[one] for one in begins[current]), default=0)
            if paths[current] > _MOST_PATHS or depth[current] > _MOST_CHAIN:
                parser.fail("too many rules begin with each other")
        elif child in above:
            parser.fail(f"left recursion: the rule {_readable(child, above)} begins with itself")
        elif child not in paths:
            above.add(child)
            todo.append((child, iter(begins[child])))


def _readable(name: str, circle: set[str]) -> str:
    """A name that the client wrote."""
    return name if " " not in name else next((one for one in sorted(circle) if " " not in one), "")
