"""Regular expressions of clients, written anew for the engine. Pure; `schema.py` and `checks.py` call it.

JSON Schema's patterns are ECMA-262's, many are written for Python; the engine has Rust's, matched whole, without
look-around. So a pattern is read here and written in Rust's words: what both sides write alike and mean differently
(`[[a]`, `a{2`, `\\<`) gets the client's meaning, anchors become the ends, and what cannot be matched is refused.

    pattern     = alternative { "|" alternative }
    alternative = [ "^" ] { lookahead } { atom [ quantifier ] } [ "$" ]
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from dataclasses import dataclass
from typing import NoReturn

from corral.constraint.charsets import LAST, CharClass, any_char, literal, posix, shorthand

MAX_PATTERN = 4096  # characters
MAX_REPEAT = 20_000
_MAX_DEPTH = 64  # groups within groups
_ANYTHING = "(?s:.*)"
_QUANTIFIER = re.compile(r"\*|\+|\?|\{(?P<low>\d*)(?P<comma>,(?P<high>\d*))?\}")
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_ENDS = {"A": "^", "Z": "$", "z": "$"}  # as Python and others write them
_GROUP = re.compile(r"\?(?:P?<[A-Za-z_]\w*>|(?P<flags>[a-zA-Z-]*)(?P<close>[:)]))")
_LOOK = re.compile(r"\?<?[=!]")
_PROPERTY = re.compile(r"\{(\^?[A-Za-z0-9_=]{1,60})\}|[A-Z]")
_SURROGATES = (0xD800, 0xDC00, 0xE000)


class PatternError(Exception):
    """A pattern that cannot be matched, and why."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One alternative of a pattern; `begins` and `ends`: whether it is anchored there."""

    body: str
    begins: bool = False
    ends: bool = False


def search_patterns(pattern: str) -> tuple[str, ...]:
    """Rust patterns that all must match a whole text exactly where `pattern` matches somewhere in it.

    Raises PatternError.
    """
    reader = _Reader(pattern)
    alternatives = reader.pattern()
    whole = "|".join(
        ("" if one.begins else _ANYTHING) + one.body + ("" if one.ends else _ANYTHING) for one in alternatives
    )
    return (*reader.lookaheads, f"^(?:{whole})$")


def whole_patterns(pattern: str) -> tuple[str, ...]:
    """Rust patterns, without anchors, that all must match the whole text that `pattern` is to match.

    Raises PatternError.
    """
    reader = _Reader(pattern)
    whole = "|".join(one.body for one in reader.pattern())
    return (*(one[1:-1] for one in reader.lookaheads), f"(?:{whole})")


class _Reader:
    """Reads a pattern once, from left to right."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MAX_PATTERN:
            raise PatternError(f"longer than {MAX_PATTERN} characters")
        if any(unicodedata.category(char) == "Cs" for char in pattern):
            raise PatternError("half of a surrogate pair")
        self._text = pattern
        self._at = 0
        self._depth = 0
        self._dot_all = False
        self.lookaheads: list[str] = []  # at the pattern's beginning: each as a pattern of its own

    def pattern(self) -> list[Alternative]:
        """All of it."""
        flags = self._leading_flags()
        alternatives = self._alternatives(top=True)
        if self._at < len(self._text):
            self._fail("a group is closed that is not open")
        if self.lookaheads and len(alternatives) > 1:
            self._fail("look-ahead in an alternative")
        if flags:
            self.lookaheads = [f"^(?{flags}:{one[1:-1]})$" for one in self.lookaheads]
            return [Alternative(f"(?{flags}:{one.body})", one.begins, one.ends) for one in alternatives]
        return alternatives

    def _fail(self, why: str) -> NoReturn:
        raise PatternError(f"{why}, at character {self._at + 1}")

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _take(self, text: str) -> bool:
        if not self._peek(text):
            return False
        self._at += len(text)
        return True

    def _leading_flags(self) -> str:
        found = re.match(r"\(\?([a-zA-Z]+)\)", self._text)
        if found is None:
            return ""
        self._at = found.end()
        return self._flags(found[1])

    def _flags(self, letters: str) -> str:
        """Flags as Rust needs them; `s` is kept here, since every `.` is written out."""
        if not set(letters) <= set("isu"):
            self._fail(f"the flags {letters} are not supported")
        self._dot_all = self._dot_all or "s" in letters
        return "i" if "i" in letters else ""

    def _alternatives(self, *, top: bool) -> list[Alternative]:
        found = self._alternative(top=top)
        while self._take("|"):
            found += self._alternative(top=top)
        return found

    def _alternative(self, *, top: bool) -> list[Alternative]:
        """One alternative, or several when it is nothing but a group of them, whose anchors are the pattern's then."""
        begins = top and self._anchor("^")
        while begins and self._peek("(?="):
            self._lookahead()
        if top and self._peek("(") and (group := self._lone_group(begins=begins)):
            return group
        parts: list[str] = []
        ends = False
        while self._at < len(self._text) and not self._peek("|") and not self._peek(")"):
            if top and self._anchor("$"):
                ends = True
                if self._at < len(self._text) and self._text[self._at] not in "|)":
                    self._fail("$ inside of a pattern is not supported")
                break
            parts.append(self._term())
        return [Alternative("".join(parts), begins, ends)]

    def _anchor(self, sign: str) -> bool:
        found = False
        while self._take(sign) or self._named_anchor(sign):
            found = True
        return found

    def _named_anchor(self, sign: str) -> bool:
        if self._peek("\\") and _ENDS.get(self._text[self._at + 1 : self._at + 2]) == sign:
            self._at += 2
            return True
        return False

    def _lookahead(self) -> None:
        self._at += len("(?=")
        inner = self._nested()
        self.lookaheads.append(f"^(?:(?:{inner}){_ANYTHING})$")

    def _lone_group(self, *, begins: bool) -> list[Alternative]:
        """The alternatives of a group that is a whole alternative; none, and nothing read, if it is not one."""
        start, seen = self._at, len(self.lookaheads)
        inner: list[Alternative] = []
        with contextlib.suppress(PatternError):  # what is wrong is found again, and told, by who reads on
            if self._open_group(plain=True) is not None and self._depth < _MAX_DEPTH:
                self._depth += 1
                inner = self._alternatives(top=True)
        self._depth -= bool(inner)
        if inner and self._take(")"):
            ends = self._anchor("$")
            if self._at == len(self._text) or self._text[self._at] in "|)":
                return [Alternative(one.body, one.begins or begins, one.ends or ends) for one in inner]
        self._at = start
        del self.lookaheads[seen:]
        return []

    def _term(self) -> str:
        atom = self._atom()
        quantifier = self._quantifier()
        if quantifier and self._quantifier():
            self._fail("a quantifier behind a quantifier")
        return atom + quantifier

    def _quantifier(self) -> str:
        found = _QUANTIFIER.match(self._text, self._at)
        if found is None or found.group() == "{}":
            return ""
        if found.group() == "{,}":
            self._fail("{,} is no quantifier everywhere: write * or \\{,}")
        self._at = found.end()
        self._take("?")  # lazy or not, the same texts match
        if found.group() in "*+?":
            return found.group()
        low, high = found["low"] or "0", found["high"]
        if found["comma"] is None:
            high = low
        if max(int(low), int(high or 0)) > MAX_REPEAT:
            self._fail(f"repeats more than {MAX_REPEAT} times")
        if high and int(high) < int(low):
            self._fail(f"{found.group()} is the wrong way around")
        return f"{{{int(low)},{int(high) if high else ''}}}"

    def _atom(self) -> str:
        char = self._text[self._at]
        if char == "(":
            return self._group()
        if char == "[":
            return self._char_class()
        if char == "\\":
            return self._escape()
        if char in "*+?" or (char == "{" and self._is_quantifier()):
            self._fail("nothing to repeat")
        if char in "^$":
            self._fail(f"{char} inside of a pattern is not supported")
        self._at += 1
        return any_char(dot_all=self._dot_all) if char == "." else literal(ord(char))

    def _is_quantifier(self) -> bool:
        found = _QUANTIFIER.match(self._text, self._at)
        return found is not None and found.group() != "{}"

    def _group(self) -> str:
        dot_all = self._dot_all
        opened = self._open_group(plain=False)
        body = self._nested()
        self._dot_all = dot_all
        return f"(?{opened}:{body})"

    def _nested(self) -> str:
        """What stands in a group that is open; anchors have no place there."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._fail(f"more than {_MAX_DEPTH} groups within each other")
        bodies = [one.body for one in self._alternatives(top=False)]
        if not self._take(")"):
            self._fail("a group is not closed")
        self._depth -= 1
        return "|".join(bodies)

    def _open_group(self, *, plain: bool) -> str | None:
        """Reads `(` and what is behind it; the flags of the group, None when it is not `plain` but should be."""
        self._at += 1
        if not self._peek("?"):
            return ""
        if found := _LOOK.match(self._text, self._at):
            if plain:
                return None
            self._fail(f"({found.group()} (look-around) is not supported")
        group = _GROUP.match(self._text, self._at)
        if group is None or group["close"] == ")":
            if plain:
                return None
            self._fail("this kind of group is not supported")
        letters = group["flags"] or ""
        if letters and plain:
            return None
        self._at = group.end()
        return self._flags(letters)

    def _escape(self) -> str:
        """An escape outside of a class."""
        letter = self._text[self._at + 1 : self._at + 2]
        if letter and letter in "dwsDWS":
            self._at += 2
            return shorthand(letter)
        if letter and letter in "pP":
            return self._property()
        if letter and letter in "bB":
            self._fail(f"\\{letter} (word boundary) is not supported")
        return literal(self._escaped_char())

    def _property(self) -> str:
        negated = self._text[self._at + 1] == "P"
        found = _PROPERTY.match(self._text, self._at + 2)
        if found is None:
            self._fail("\\p must be followed by {…}")
        self._at = found.end()
        name = found[1] or found.group()
        return f"\\{'P' if negated else 'p'}{{{name}}}"

    def _escaped_char(self) -> int:
        """An escape that stands for one character."""
        if self._at + 1 >= len(self._text):
            self._fail("a \\ at the end")
        letter = self._text[self._at + 1]
        if letter in "xuU" and (found := self._hexadecimal()) is not None:
            return found
        if letter == "c" and re.match(r"[A-Za-z]", self._text[self._at + 2 :]):
            self._at += 3
            return ord(self._text[self._at - 1]) % 32
        if letter == "0" and not re.match(r"\d", self._text[self._at + 2 :]):
            self._at += 2
            return 0
        if letter in _CONTROLS:
            self._at += 2
            return _CONTROLS[letter]
        if letter.isdigit() or letter == "k":
            self._fail(f"\\{letter} (back-reference) is not supported")
        if letter.isascii() and letter.isalnum():
            self._fail(f"the escape \\{letter} is not supported")
        self._at += 2
        return ord(letter)

    def _hexadecimal(self) -> int | None:
        """`\\x41`, `\\u0041`, `\\u{41}`, `\\U00000041`, and pairs of surrogates."""
        found = re.compile(
            r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|[xu]\{([0-9a-fA-F]{1,8})\})"
        ).match(self._text, self._at)
        if found is None:
            return None
        code = int(next(group for group in found.groups() if group), 16)
        self._at = found.end()
        if _SURROGATES[0] <= code < _SURROGATES[1]:
            low = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})").match(self._text, self._at)
            if low is None:
                self._fail("half of a surrogate pair")
            self._at = low.end()
            return 0x10000 + ((code - _SURROGATES[0]) << 10) + int(low[1], 16) - _SURROGATES[1]
        if code > LAST or _SURROGATES[1] <= code < _SURROGATES[2]:
            self._fail("an escape that is no character")
        return code

    def _char_class(self) -> str:
        self._at += 1
        made = CharClass(self._take("^"))
        if self._peek("]"):
            self._fail("[] matches nothing, and other engines take the bracket for a character: write \\]")
        while not self._take("]"):
            if self._at >= len(self._text):
                self._fail("a class is not closed")
            if not self._special_member(made):
                self._range(made)
        return made.text()

    def _special_member(self, made: CharClass) -> bool:
        """A member that is more than a character; False when there is none here."""
        if found := re.compile(r"\[:(\^?)([a-z]+):\]").match(self._text, self._at):
            members = posix(found[2])
            if members is None:
                self._fail(f"{found.group()} is no class")
            made.add(f"[^{members}]" if found[1] else members)
            self._at = found.end()
            return True
        letter = self._text[self._at + 1 : self._at + 2] if self._peek("\\") else ""
        if letter and letter in "dwsDWS":
            made.add_shorthand(letter)
            self._at += 2
        elif letter and letter in "pP":
            made.add(self._property())
        else:
            return False
        return True

    def _range(self, made: CharClass) -> None:
        first = self._member()
        last = first
        if self._peek("-") and not self._peek("-]") and not re.match(r"-\\[dwsDWSpP]", self._text[self._at :]):
            self._at += 1
            if self._at >= len(self._text):
                self._fail("a class is not closed")
            last = self._member()
        if last < first:
            self._fail("a range is the wrong way around")
        made.add_range(first, last)

    def _member(self) -> int:
        if self._peek("\\b"):
            self._at += 2
            return 8
        if self._peek("\\"):
            return self._escaped_char()
        self._at += 1
        return ord(self._text[self._at - 1])
