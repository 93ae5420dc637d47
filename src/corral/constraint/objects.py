"""Reads what a schema says of objects. Pure; schema.py calls it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from corral.constraint.keywords import Keywords, pointer
from corral.constraint.meeting import CannotHold, Meetings, key_matches
from corral.constraint.patterns import PatternError, search_patterns
from corral.constraint.shapes import ANYTHING, Either, KeyPattern, Never, Object, Ref, Shape, String

_MOST_PATTERNS = 4  # of names in one object: each subset of them is a kind of name of its own


class ObjectReader:
    """Part of reading one schema; `value` reads a subschema."""

    def __init__(self, words: Keywords, meetings: Meetings, value: Callable[[Any, str], Shape]) -> None:
        self._words = words
        self._meetings = meetings
        self._value = value

    def read(self, node: Mapping[str, Any], place: str) -> Shape:
        """The shape."""
        low, high = self._words.count(node, "minProperties", place), self._words.count(node, "maxProperties", place)
        named = self._words.map(node, "properties", place)
        shape = Object(
            {name: self._value(child, pointer(place, "properties", name)) for name, child in named.items()},
            self._words.names(node, "required", place),
            self._patterns(node, place),
            self._additional(node, place),
            low or 0,
            high,
            closing=node.get("properties") is not None or node.get("unevaluatedProperties") is False,
            place=place,
        )
        try:
            shape = self._with_patterns(self._with_names(shape, node, place), place)
        except CannotHold as error:
            self._words.bad("patternProperties", place, str(error))
            shape = replace(shape, patterns=())
        return self._sound(shape, place)

    def _patterns(self, node: Mapping[str, Any], place: str) -> tuple[tuple[KeyPattern, Shape], ...]:
        """The patterns of names, made so that no name matches two of them."""
        found: list[tuple[KeyPattern, Shape]] = []
        plain: list[KeyPattern] = []
        for text, child in self._words.map(node, "patternProperties", place).items():
            value = self._value(child, pointer(place, "patternProperties", text))
            try:
                if len(plain) >= _MOST_PATTERNS:
                    raise CannotHold(f"more than {_MOST_PATTERNS} patterns")
                key = key_pattern(text)
                both = [(_both(one, key), self._meetings.meet(shape, value, place)) for one, shape in found]
            except (PatternError, CannotHold) as error:
                self._words.bad("patternProperties", place, f'"patternProperties" {text!r}: {error}')
                continue
            alone = key
            for other in plain:
                alone = _without(alone, other)
            found = [*both, *((_without(one, key), shape) for one, shape in found), (alone, value)]
            plain.append(key)
        return tuple(found)

    def _additional(self, node: Mapping[str, Any], place: str) -> Shape | None:
        for key in ("additionalProperties", "unevaluatedProperties"):
            if node.get(key) is None:
                continue
            if key == "unevaluatedProperties" and node[key] is False:
                return None  # objects are closed by what they are made of, which is what this asks for
            return self._value(node[key], pointer(place, key))
        return None

    def _with_names(self, shape: Object, node: Mapping[str, Any], place: str) -> Object:
        """What `propertyNames` leaves of it."""
        schema = node.get("propertyNames")
        if schema in (None, True) or schema == {}:
            return shape
        names = self._value(schema, pointer(place, "propertyNames"))
        if isinstance(names, Ref):
            names = self._meetings.expand(names)
        if isinstance(names, Either):
            names = next((arm for arm in names.arms if isinstance(arm, String)), names)
        if not isinstance(names, String) or shape.patterns:
            self._words.loosen("propertyNames", place)
            return shape
        rest = ANYTHING if shape.additional is None else shape.additional
        nothing = Never("no property has such a name", pointer(place, "propertyNames"))
        if names.values is not None and not names.patterns:
            values = {name: shape.properties.get(name, rest) for name in names.values}
            return replace(shape, properties=values, additional=nothing, closing=False)
        lengths = f"^(?s:.{{{names.min_length},{'' if names.max_length is None else names.max_length}}})$"
        text = schema.get("pattern") if isinstance(schema, dict) and set(schema) <= {"pattern", "type"} else None
        if shape.properties and text is None:
            self._words.loosen("propertyNames", place)
            return shape
        python = None if text is None else _python(text)
        key = KeyPattern((*names.patterns, lengths), None if python is None else (python,))
        kept = {name: value for name, value in shape.properties.items() if key_matches(key, name)}
        closed = shape.closing and shape.additional is None
        return replace(
            shape, properties=kept, patterns=() if closed else ((key, rest),), additional=nothing, closing=False
        )

    def _with_patterns(self, shape: Object, place: str) -> Object:
        """Named properties are also what the patterns that match them say."""
        if not shape.patterns or not shape.properties:
            return shape
        rest = replace(shape, properties={}, additional=None)
        made = {
            name: self._meetings.meet(value, self._meetings.value_of(rest, name), place)
            for name, value in shape.properties.items()
        }
        return replace(shape, properties=made)

    def _sound(self, shape: Object, place: str) -> Shape:
        """The object; leniently, without what makes it impossible."""
        if not self._words.lenient:
            return shape
        if isinstance(shape.additional, Never) and not shape.patterns:
            known = tuple(name for name in shape.required if name in shape.properties)
            if known != shape.required:
                self._words.loosen("required", place)
                shape = replace(shape, required=known)
        if shape.max_properties is not None and shape.max_properties < max(len(shape.required), shape.min_properties):
            self._words.loosen("maxProperties", place)
            shape = replace(shape, max_properties=None)
        return shape


def key_pattern(text: str) -> KeyPattern:
    """A pattern of names; raises PatternError."""
    python = _python(text)
    return KeyPattern(search_patterns(text), None if python is None else (python,))


def _both(one: KeyPattern, two: KeyPattern) -> KeyPattern:
    known = None if one.python is None or two.python is None else (*one.python, *two.python)
    return replace(one, engine=(*one.engine, *two.engine), python=known)


def _without(one: KeyPattern, other: KeyPattern) -> KeyPattern:
    known = None if one.python is None or other.python is None else one.python
    return replace(
        one,
        python=known,
        excluded=(*one.excluded, other.engine),
        python_excluded=(*one.python_excluded, *(other.python or ())),
    )


def _python(text: str) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            re.compile(text)
        except (re.error, RecursionError, OverflowError):
            return None
    return text
