"""Writes GBNF: around a grammar that a client brought, and for engines without llguidance. `fields.py` calls it."""

from __future__ import annotations

import re
from collections.abc import Sequence

_GBNF = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*|[A-Za-z0-9_-]+|.', re.DOTALL)
_GBNF_BLANKS = "[ \\t\\n]{0,4}"


def gbnf_choice(choices: Sequence[str]) -> str:
    """GBNF for one of several texts."""
    return "root ::= " + " | ".join(_gbnf_string(choice) for choice in choices)


def gbnf_after_thinking(text: str, open_tag: str, close_tag: str, *, inside: bool) -> str:
    """A client's GBNF with the thinking in front of it: required when the prompt opened it, else optional."""
    block = f"thought-0 {_GBNF_BLANKS}"
    head = block if inside else f"({_GBNF_BLANKS} {_gbnf_string(open_tag)} {block})?"
    return f"root ::= {head} answer-root\n{_renamed(text)}\n{_gbnf_until(close_tag)}"


def gbnf_behind(opening: str, text: str) -> str:
    """A client's GBNF with a fixed text in front of it."""
    return f"root ::= {_gbnf_string(opening)} answer-root\n{_renamed(text)}\n"


def _renamed(text: str) -> str:
    """A grammar whose root is called otherwise."""
    return "".join("answer-root" if part == "root" else part for part in _GBNF.findall(text))


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
