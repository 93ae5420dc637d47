"""Writes grammars for the engine: llguidance's lark dialect, and GBNF where a client brought GBNF. Pure text.

`constraint.py` puts the pieces together. In lark, text never matches control tokens, so tags that are such tokens in
the model's vocabulary are written as `<[id]>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_GBNF = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*|[A-Za-z0-9_-]+|.', re.DOTALL)
_REGEX_SIGNS = re.compile(r"([\\.+*?()|\[\]{}^$#&\-~/])")  # not < and >: escaped they are word boundaries in Rust
_GBNF_BLANKS = "[ \\t\\n]{0,4}"
# Fixed separators: with free whitespace small models write blank lines for ever (seen with SmolLM2).
_JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "coerce_one_of": True}


@dataclass(slots=True)
class Lark:
    """A grammar under construction.

    specials: control tokens by their text. ends: tokens that end a turn; the engine's own idea of them may be another
    one than the model's, so they are written into the grammar.
    """

    specials: Mapping[str, int]
    ends: Sequence[int] = ()
    rules: list[str] = field(default_factory=list)
    _made: int = 0

    def rule(self, body: str, *, attributes: str = "", terminal: bool = False) -> str:
        """Adds a rule and returns its name; terminals are upper-case."""
        self._made += 1
        name = f"T{self._made}" if terminal else f"r{self._made}"
        self.rules.append(f"{name}{attributes}: {body}")
        return name

    def literal(self, text: str) -> str:
        """An expression for exact text, control tokens included."""
        return " ".join(
            f"<[{self.specials[part]}]>" if part in self.specials else json.dumps(part, ensure_ascii=False)
            for part in self._parts(text)
        )

    def json(self, schema: Any) -> str:
        """A rule for JSON of a schema that schema.py has cleaned."""
        if schema is True:
            schema = {}
        return self.rule("%json " + json.dumps({"x-guidance": _JSON_STYLE, **schema}))

    def free_text(self) -> str:
        """Any text; no control tokens."""
        return self.rule("/(?s:.*)/", terminal=True)

    def through(self, tag: str) -> str:
        """Any text up to and with the first `tag`, which may have control tokens in it.

        Lexemes are greedy: only a lazy one, or a control token behind the text, makes the tag reachable.
        """
        parts = self._parts(tag)
        at = next((place for place, part in enumerate(parts) if part in self.specials), None)
        if at is None:
            return self.rule(f"/(?s:.*){escape_regex(tag)}/", attributes="[lazy]")
        text = self.rule(f"/(?s:.*){escape_regex(parts[0])}/", terminal=True) if at else self.free_text()
        return f"{text} {self.literal(''.join(parts[at:]))}"

    def anything(self) -> str:
        """A rule for the rest of the text: whatever, control tokens of `specials` included."""
        text = self.rule("/(?s:.+)/", terminal=True)
        tokens = "".join(f" | <[{token}]>" for token in self.specials.values())
        return self.rule(f"({text}{tokens})*")

    def _parts(self, text: str) -> list[str]:
        """The text, cut before and behind every control token in it."""
        if not self.specials:
            return [text]
        pattern = "|".join(re.escape(special) for special in sorted(self.specials, key=len, reverse=True))
        return [part for part in re.split(f"({pattern})", text) if part]

    def text(self, start: str) -> str:
        """The finished grammar."""
        if self.ends:
            start = f"{self.rule(start)} (<[{','.join(map(str, self.ends))}]>)?"
        return "%llguidance {}\nstart: " + start + "\n" + "\n".join(self.rules) + "\n"


def escape_regex(text: str) -> str:
    """Text as a regular expression between slashes."""
    return _REGEX_SIGNS.sub(r"\\\1", text).replace("\n", "\\n").replace("\r", "\\r")


def regex_between_slashes(pattern: str) -> str:
    """A regular expression as a lark terminal."""
    escaped = re.sub(r"\\.|/", lambda m: m.group() if len(m.group()) == 2 else "\\/", pattern, flags=re.DOTALL)
    return "/" + escaped.replace("\n", "\\n") + "/"


def gbnf_defines_root(text: str) -> bool:
    """Whether a GBNF text has a rule named root."""
    return re.search(r"(?m)^\s*root\s*::=", text) is not None


def gbnf_choice(choices: Sequence[str]) -> str:
    """GBNF for one of several texts."""
    return "root ::= " + " | ".join(_gbnf_string(choice) for choice in choices)


def gbnf_after_thinking(text: str, open_tag: str, close_tag: str, *, inside: bool) -> str:
    """A client's GBNF with the thinking in front of it: required when the prompt opened it, else optional."""
    renamed = "".join("answer-root" if part == "root" else part for part in _GBNF.findall(text))
    block = f"thought-0 {_GBNF_BLANKS}"
    head = block if inside else f"({_GBNF_BLANKS} {_gbnf_string(open_tag)} {block})?"
    return f"root ::= {head} answer-root\n{renamed}\n{_gbnf_until(close_tag)}"


def _gbnf_until(tag: str) -> str:
    """Rules for any text up to and with its first `tag`: the automaton of Knuth, Morris and Pratt."""
    alphabet = sorted(set(tag))
    rules = []
    for state in range(len(tag)):
        arms = []
        for char in alphabet:
            seen = tag[:state] + char
            size = next(n for n in range(len(seen), -1, -1) if tag.startswith(seen[len(seen) - n :]))
            arms.append(_gbnf_string(char) + (f" thought-{size}" if size < len(tag) else ""))
        others = "".join(_gbnf_class_char(char) for char in alphabet)
        arms.append(f"[^{others}] thought-0")
        rules.append(f"thought-{state} ::= " + " | ".join(arms))
    return "\n".join(rules) + "\n"


def _gbnf_string(text: str) -> str:
    return '"' + "".join(_gbnf_char(char, '"\\') for char in text) + '"'


def _gbnf_class_char(char: str) -> str:
    return _gbnf_char(char, "[]^-\\")


def _gbnf_char(char: str, escaped: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    if char in named:
        return named[char]
    if char not in escaped:
        return char
    return "\\" + char if char in '"\\[]' else f"\\x{ord(char):02x}"
