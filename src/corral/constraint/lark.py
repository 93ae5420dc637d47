"""Writes grammars in llguidance's lark dialect. Pure text; `fields.py` puts the pieces together.

In lark, text never matches control tokens, so tags that are such tokens in the model's vocabulary are written as
`<[id]>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from corral.constraint.jsonrules import JsonRules
from corral.constraint.schema import Schema
from corral.constraint.shapes import String

# Texts that are control tokens of some models.
_LIKE_CONTROL = re.compile(r"<(?!\[\d)[^<>\s]{1,60}>|\[/?[A-Z_]{3,40}\]")
_FIRST_LINE = 3  # of the rules in the text
_REGEX_SIGNS = re.compile(r"([\\.+*?()|\[\]{}^$#&\-~/])")  # not < and >: escaped they are word boundaries in Rust


@dataclass(slots=True)
class Lark:
    """A grammar under construction.

    specials: control tokens by their text. ends: tokens that end a turn; the engine's own idea of them may be another
    one than the model's, so they are written into the grammar.
    """

    specials: Mapping[str, int] = field(default_factory=dict)
    ends: Sequence[int] = ()
    rules: list[str] = field(default_factory=list)
    _places: dict[str, str] = field(default_factory=dict)  # rule → the place in its schema, where that is known
    _leaves: dict[str, String] = field(default_factory=dict)  # rule → the string of a schema that it is
    _made: int = 0

    def rule(self, body: str, *, attributes: str = "", terminal: bool = False, place: str = "") -> str:
        """Adds a rule and returns its name; terminals are upper-case."""
        name = self.name(terminal=terminal)
        self.rules.append(f"{name}{attributes}: {body}")
        if place:
            self._places[name] = place
        return name

    def name(self, *, terminal: bool = False) -> str:
        """The name of a rule to come, for one that holds itself; `define` adds it."""
        self._made += 1
        return f"T{self._made}" if terminal else f"r{self._made}"

    def define(self, name: str, body: str) -> None:
        """Adds a rule under a name that was given before."""
        self.rules.append(f"{name}: {body}")

    def literal(self, text: str) -> str:
        """An expression for exact text, control tokens included."""
        return " ".join(
            f"<[{self.specials[part]}]>" if part in self.specials else json.dumps(part, ensure_ascii=False)
            for part in self._parts(text)
        )

    def regex(self, patterns: Sequence[str]) -> str:
        """A terminal for text that all the patterns match (patterns.whole_patterns)."""
        return self.rule(" & ".join(f"/{pattern}/" for pattern in patterns), terminal=True)

    def json(self, schema: Schema) -> str:
        """An expression for JSON of a finished schema; raises CannotHold when nothing satisfies it."""
        rules = JsonRules(self, schema.definitions)
        made = rules.value(schema.root)
        self._leaves |= rules.leaves
        return made

    def place_at(self, line: int) -> str:
        """The place in the schema that a line of the text was made for; "" when that is not known."""
        return self._places.get(self._rule_at(line), "")

    def leaf_at(self, line: int) -> String | None:
        """The string of a schema that a line of the text is, if it is one."""
        return self._leaves.get(self._rule_at(line))

    def _rule_at(self, line: int) -> str:
        at = line - _FIRST_LINE
        return re.split(r"[\[:]", self.rules[at], maxsplit=1)[0] if 0 <= at < len(self.rules) else ""

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

    def across(self, tag: str) -> str:
        """As `through`, but other control tokens may stand in the text.

        What is text in the tag before its first control token is not insisted on.
        """
        parts = self._parts(tag)
        at = next((place for place, part in enumerate(parts) if part in self.specials), None)
        if at is None:
            return self.through(tag)
        text = self.rule("/(?s:.+)/", terminal=True)
        others = "".join(f" | <[{token}]>" for special, token in self.specials.items() if special != parts[at])
        return f"{self.rule(f'({text}{others})*')} {self.literal(''.join(parts[at:]))}"

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
        body = f"start: {start}\n" + "\n".join(self.rules) + "\n"
        # Text that can be only one thing is forced as tokens, and those of the engine may be control tokens, which are
        # no text for llguidance: it gives the grammar up then.
        options = '{"no_forcing": true}' if _LIKE_CONTROL.search(body) else "{}"
        return f"%llguidance {options}\n{body}"


def escape_regex(text: str) -> str:
    """Text as a regular expression between slashes."""
    return _REGEX_SIGNS.sub(r"\\\1", text).replace("\n", "\\n").replace("\r", "\\r")
