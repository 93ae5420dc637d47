"""Grammars for arguments that are not one JSON object: each parameter as the model writes it, held to its schema.

Parameters come in the schema's order, required ones always. What a value may be, by how the model writes strings:

| `ArgumentForm.quote` | strings                                | everything else            |
|----------------------|----------------------------------------|----------------------------|
| none                 | bare, up to the text behind the value  | JSON                       |
| `"`                  | JSON                                   | JSON                       |
| another mark         | between marks, in lists and objects, too | as JSON, keys without quotes |

Strings outside of JSON are held to `enum` and `const` only; what else their schema says is reported by `loosened`.
`fields.py` calls it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from corral.constraint.jsonrules import JsonRules
from corral.constraint.lark import Lark
from corral.constraint.numbers import number_text
from corral.constraint.schema import Schema
from corral.constraint.shapes import (
    Anything,
    Array,
    Boolean,
    Either,
    Never,
    Null,
    Number,
    Object,
    Ref,
    Shape,
    String,
)
from corral.errors import InvalidRequest
from corral.prompt.toolformat import ArgumentForm

_NAME = re.compile(r"[A-Za-z_][\w.$-]*")
_LONGEST_CHAIN = 64  # of definitions that are only references


class ArgumentGrammar:
    """Writes the rule for one tool's arguments into `lark`; `schema` is finished (finishing.py)."""

    def __init__(self, lark: Lark, form: ArgumentForm, schema: Schema) -> None:
        self._lark = lark
        self._form = form
        self._schema = schema
        self._json = JsonRules(lark, schema.definitions)
        self._known: dict[str, str] = {}  # what a reference means, and any value: the names of their rules
        self.loosened: list[str] = []  # parameters whose strings are not held to all of their schema

    @property
    def names_any(self) -> bool:
        """Whether the schema names parameters, or says that there are none."""
        root = self._resolved(self._schema.root)
        return isinstance(root, Object) and (bool(root.properties) or isinstance(root.additional, Never))

    def rule(self, function: str) -> str:
        """A rule for the arguments and what ends them; raises InvalidRequest for names that the form cannot carry."""
        lark, form = self._lark, self._form
        root = self._resolved(self._schema.root)
        assert isinstance(root, Object)
        members = self._members(root, self._member)
        return lark.rule(f"{lark.literal(form.opening.format(name=function))} {members} {lark.literal(form.ending)}")

    def _resolved(self, shape: Shape) -> Shape:
        for _ in range(_LONGEST_CHAIN):
            if not isinstance(shape, Ref):
                break
            shape = self._schema.definitions[shape.name]
        return shape

    def _members(self, shape: Object, member: Callable[[str, Shape], str]) -> str:
        """The members of an object, separators between them only."""
        lark, separator = self._lark, self._form.separator
        between = f"{lark.literal(separator)} " if separator else ""
        later = first = '""'  # what may come behind a member, and where none has come yet
        for key, child in reversed(list(shape.properties.items())):
            if isinstance(child, Never):
                continue
            if not _NAME.fullmatch(key):
                raise InvalidRequest(f'the parameter "{key}" cannot be written in this model\'s calls', field="tools")
            written = member(key, child)
            own = lark.rule(f"{written} {later}")
            first = own if key in shape.required else lark.rule(f"{own} | {first}")
            behind = lark.rule(f"{between}{written} {later}")
            later = behind if key in shape.required else lark.rule(f"{behind} | {later}")
        return first

    def _member(self, key: str, shape: Shape) -> str:
        """One parameter: its name, its value, the text behind it."""
        lark, form = self._lark, self._form
        return lark.rule(f"{lark.literal(form.key.format(key=key))} {self._value(key, shape)}")

    def _value(self, key: str, shape: Shape) -> str:
        lark, close = self._lark, self._form.close
        behind = f" {lark.literal(close)}" if close else ""
        if self._form.quote == '"':
            return self._json.value(shape) + behind
        if self._form.quote:
            return self._marked(shape) + behind
        arms = self._arms(shape)
        choices = _choices(arms)
        if choices is not None:
            return f"({' | '.join(lark.literal(choice) for choice in choices)}){behind}"
        texts = [arm for arm in arms if isinstance(arm, String | Anything)]
        if not texts:
            return self._json.value(shape) + behind
        if any(isinstance(text, String) and (text.patterns or text.min_length or text.max_length) for text in texts):
            self.loosened.append(key)
        return lark.across(close)

    def _arms(self, shape: Shape) -> list[Shape]:
        """The alternatives of a value, references within them resolved once."""
        shape = self._resolved(shape)
        if not isinstance(shape, Either):
            return [shape]
        arms: list[Shape] = []
        for arm in map(self._resolved, shape.arms):
            arms += map(self._resolved, arm.arms) if isinstance(arm, Either) else [arm]
        return arms

    # Strings between marks

    def _marked(self, shape: Shape) -> str:
        """A value in the notation that has its own marks around strings."""
        match shape:
            case Ref():
                return self._once(shape.name, lambda: self._marked(self._schema.definitions[shape.name]))
            case Either():
                return self._one_of([self._marked(arm) for arm in shape.arms])
            case String():
                return self._string(shape)
            case Array():
                return self._list(shape)
            case Object() if shape.properties or isinstance(shape.additional, Never):
                members = self._members(
                    shape, lambda key, child: f"{self._lark.literal(f'{key}:')} {self._marked(child)}"
                )
                return self._lark.rule(f'"{{" {members} "}}"')
            case Object():
                return self._object(self._any())
            case Anything():
                return self._any()
        return self._json.value(shape)

    def _string(self, shape: String) -> str:
        quote = self._form.quote
        if shape.values is not None:
            return self._one_of([self._lark.literal(f"{quote}{value}{quote}") for value in shape.values])
        return self._lark.rule(f"{self._lark.literal(quote)} {self._lark.through(quote)}")

    def _list(self, shape: Array) -> str:
        items = [self._marked(item) for item in (*shape.first, shape.rest) if not isinstance(item, Never)]
        if not items:
            return '"[]"'
        item = self._one_of(items)
        return self._lark.rule(f'"[" ({item} ("," {item})*)? "]"')

    def _object(self, value: str) -> str:
        key = self._lark.rule("/[A-Za-z_][A-Za-z_0-9]*/", terminal=True)
        return self._lark.rule(f'"{{" ({key} ":" {value} ("," {key} ":" {value})*)? "}}"')

    def _any(self) -> str:
        """Any value."""
        scalars = Either((Number(), Boolean(), Null()))
        return self._once(
            "",
            lambda: self._one_of(
                [
                    self._string(String()),
                    self._json.value(scalars),
                    self._lark.rule(f'"[" ({self._known[""]} ("," {self._known[""]})*)? "]"'),
                    self._object(self._known[""]),
                ]
            ),
        )

    def _once(self, key: str, body: Callable[[], str]) -> str:
        """The name of a rule that is written once and may hold itself."""
        if key not in self._known:
            self._known[key] = self._lark.name()
            self._lark.define(self._known[key], body())
        return self._known[key]

    def _one_of(self, bodies: Sequence[str]) -> str:
        return bodies[0] if len(bodies) == 1 else self._lark.rule(" | ".join(bodies))


def _choices(arms: Sequence[Shape]) -> list[str] | None:
    """The texts that a value can be, when the schema names them all."""
    found: list[str] = []
    for arm in arms:
        match arm:
            case String(values=tuple() as values):
                found += values
            case Number(values=tuple() as numbers):
                found += map(number_text, numbers)
            case Null():
                found.append("null")
            case Boolean(values=(value,)):
                found.append(str(value).lower())
            case _:
                return None
    return found or None
