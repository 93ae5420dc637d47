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

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from corral.constraint.lark import Lark
from corral.errors import InvalidRequest
from corral.prompt.renderers.gemmavalues import write_value
from corral.prompt.toolformat import ArgumentForm

_NAME = re.compile(r"[A-Za-z_][\w.$-]*")
_STRING_KEYWORDS = ("pattern", "format", "minLength", "maxLength")
_SCALARS = ("number", "integer", "boolean", "null")
_DEFINITIONS = ("$defs", "definitions")


class ArgumentGrammar:
    """Writes the rule for one tool's arguments into `lark`; `schema` has been cleaned by schema.py."""

    def __init__(self, lark: Lark, form: ArgumentForm, schema: Mapping[str, Any]) -> None:
        self._lark = lark
        self._form = form
        self._schema = schema
        self._definitions = {key: schema[key] for key in _DEFINITIONS if key in schema}
        self._known: dict[str, str] = {}  # what a reference means, and any value: the names of their rules
        self.loosened: list[str] = []  # parameters whose strings are not held to all of their schema

    def rule(self, function: str) -> str:
        """A rule for the arguments and what ends them; raises InvalidRequest for names that the form cannot carry."""
        lark, form = self._lark, self._form
        members = self._members(self._schema, self._member)
        return lark.rule(f"{lark.literal(form.opening.format(name=function))} {members} {lark.literal(form.ending)}")

    def _members(self, schema: Mapping[str, Any], member: Callable[[str, Any], str]) -> str:
        """The members of an object, separators between them only."""
        lark, separator = self._lark, self._form.separator
        required = set(schema.get("required", ()))
        between = f"{lark.literal(separator)} " if separator else ""
        later = first = '""'  # what may come behind a member, and where none has come yet
        for key, child in reversed(schema.get("properties", {}).items()):
            if not _NAME.fullmatch(key):
                raise InvalidRequest(f'the parameter "{key}" cannot be written in this model\'s calls', field="tools")
            written = member(key, child)
            own = lark.rule(f"{written} {later}")
            first = own if key in required else lark.rule(f"{own} | {first}")
            behind = lark.rule(f"{between}{written} {later}")
            later = behind if key in required else lark.rule(f"{behind} | {later}")
        return first

    def _member(self, key: str, schema: Any) -> str:
        """One parameter: its name, its value, the text behind it."""
        lark, form = self._lark, self._form
        return lark.rule(f"{lark.literal(form.key.format(key=key))} {self._value(key, schema)}")

    def _value(self, key: str, schema: Any) -> str:
        lark, close = self._lark, self._form.close
        behind = f" {lark.literal(close)}" if close else ""
        if self._form.quote == '"':
            return self._json(schema) + behind
        if self._form.quote:
            return self._marked(schema) + behind
        choices = _choices(schema)
        if choices is not None:
            return f"({' | '.join(lark.literal(_bare(choice)) for choice in choices)}){behind}"
        if not self._may_be_text(schema):
            return self._json(schema) + behind
        if any(word in schema for word in _STRING_KEYWORDS):
            self.loosened.append(key)
        return lark.across(close)

    def _json(self, schema: Any) -> str:
        return self._lark.json({**self._definitions, **schema} if isinstance(schema, dict) else schema)

    def _may_be_text(self, schema: Any) -> bool:
        """Whether a value may be a string, for all that is plain to see."""
        if not isinstance(schema, dict):
            return True
        kinds = schema.get("type")
        if kinds is not None:
            return "string" in (kinds if isinstance(kinds, list) else [kinds])
        options = schema.get("anyOf") or schema.get("oneOf")
        return not options or any(self._may_be_text(option) for option in options)

    # Strings between marks

    def _marked(self, schema: Any) -> str:
        """A value in the notation that has its own marks around strings."""
        if not isinstance(schema, dict) or "allOf" in schema:
            return self._any()
        choices = _choices(schema)
        if choices is not None:
            return self._one_of([self._lark.literal(write_value(choice, self._form.quote)) for choice in choices])
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        options = schema.get("anyOf") or schema.get("oneOf")
        if options:
            return self._one_of([self._marked(option) for option in options])
        kinds = schema.get("type")
        if kinds is None:
            return self._any()
        return self._one_of(
            [self._marked_kind(kind, schema) for kind in (kinds if isinstance(kinds, list) else [kinds])]
        )

    def _marked_kind(self, kind: str, schema: Mapping[str, Any]) -> str:
        lark = self._lark
        if kind in _SCALARS:
            return lark.json({**schema, "type": kind})
        if kind == "string":
            return self._string()
        if kind == "array":
            item = self._marked(schema.get("items", True))
            return lark.rule(f'"[" ({item} ("," {item})*)? "]"')
        if "properties" not in schema:
            return self._object(self._any())
        members = self._members(schema, lambda key, child: f"{lark.literal(f'{key}:')} {self._marked(child)}")
        return lark.rule(f'"{{" {members} "}}"')

    def _string(self) -> str:
        quote = self._form.quote
        return self._lark.rule(f"{self._lark.literal(quote)} {self._lark.through(quote)}")

    def _object(self, value: str) -> str:
        key = self._lark.rule("/[A-Za-z_][A-Za-z_0-9]*/", terminal=True)
        return self._lark.rule(f'"{{" ({key} ":" {value} ("," {key} ":" {value})*)? "}}"')

    def _any(self) -> str:
        """Any value."""
        return self._once(
            "",
            lambda name: self._one_of(
                [
                    self._string(),
                    self._lark.json({"type": list(_SCALARS)}),
                    self._lark.rule(f'"[" ({name} ("," {name})*)? "]"'),
                    self._object(name),
                ]
            ),
        )

    def _reference(self, reference: str) -> str:
        target: Any = self._schema
        for part in reference.removeprefix("#").split("/")[1:]:
            target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
        return self._once(reference, lambda name: self._marked(target))

    def _once(self, key: str, body: Callable[[str], str]) -> str:
        """The name of a rule that is written once and may hold itself."""
        if key not in self._known:
            self._known[key] = name = self._lark.name()
            self._lark.define(name, body(name))
        return self._known[key]

    def _one_of(self, bodies: Sequence[str]) -> str:
        return bodies[0] if len(bodies) == 1 else self._lark.rule(" | ".join(bodies))


def _choices(schema: Any) -> list[Any] | None:
    """The values that `enum` or `const` allow."""
    if not isinstance(schema, dict):
        return None
    if "const" in schema:
        return [schema["const"]]
    choices = schema.get("enum")
    return choices if isinstance(choices, list) else None


def _bare(value: Any) -> str:
    """A value as text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
