"""Classes of characters in regular expressions, as patterns of clients mean them. Pure; `patterns.py` calls it.

A pattern may be read by an ECMA-262 engine, by Python or by Rust, and their classes differ at the edges: Python's `\\d`
has every script's digits, its `\\s` has U+001C, ECMA's `.` no U+2028. What is written here is what all of them match,
so that an answer satisfies whoever checks it. A negated class takes the widest meaning of what it excludes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LAST = 0x10FFFF
_SPACES = r"\x{9}-\x{D} \x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"
_MAYBE_SPACES = r"\x{1C}-\x{1F}\x{85}\x{FEFF}"
_WORDS = "0-9A-Za-z_"
_MAYBE_WORDS = r"\p{L}\p{M}\p{N}\p{Pc}"
# what a shorthand matches everywhere, and what it matches anywhere; both as the inside of a class
_SHORTHANDS = {
    "d": ("0-9", r"0-9\p{Nd}"),
    "w": (_WORDS, _WORDS + _MAYBE_WORDS),
    "s": (_SPACES, _SPACES + _MAYBE_SPACES),
}
_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r"\x{9} ",
    "digit": "0-9",
    "lower": "a-z",
    "punct": r"!-/:-@\x{5B}-`{-~",
    "space": r"\x{9}-\x{D} ",
    "upper": "A-Z",
    "word": _WORDS,
    "xdigit": "0-9A-Fa-f",
}


def literal(code: int) -> str:
    """One character, by its code point, in a class or outside of one."""
    char = chr(code)
    return char if char.isascii() and (char.isalnum() or char == "_") else f"\\x{{{code:X}}}"


def shorthand(letter: str) -> str:
    """`\\d`, `\\W` and their like outside of a class."""
    narrow, wide = _SHORTHANDS[letter.lower()]
    return f"[{narrow}]" if letter.islower() else f"[^{wide}]"


def any_char(*, dot_all: bool) -> str:
    """What `.` matches."""
    return "(?s:.)" if dot_all else r"[^\x{A}\x{D}\x{2028}\x{2029}]"


def posix(name: str) -> str | None:
    """The inside of `[:name:]`; None when there is no such class."""
    return _POSIX.get(name)


@dataclass(slots=True)
class CharClass:
    """A class under construction."""

    negated: bool
    parts: list[str] = field(default_factory=list)

    def add_range(self, first: int, last: int) -> None:
        """Characters by code point, both ends included."""
        self.parts.append(literal(first) if first == last else f"{literal(first)}-{literal(last)}")

    def add_shorthand(self, letter: str) -> None:
        """`\\d` and its like; within a negated class what is excluded is what anybody takes for it."""
        narrow, wide = _SHORTHANDS[letter.lower()]
        if letter.islower():
            self.parts.append(wide if self.negated else narrow)
        else:
            self.parts.append(f"[^{narrow if self.negated else wide}]")

    def add(self, text: str) -> None:
        """Something that Rust understands as it is."""
        self.parts.append(text)

    def text(self) -> str:
        """The class in Rust's words."""
        return f"[{'^' if self.negated else ''}{''.join(self.parts)}]"
