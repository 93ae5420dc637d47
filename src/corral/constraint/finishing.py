"""Makes shapes ready to be written: objects closed, what cannot be taken out. Pure; `checks.py` and fields.py call it.

Whether an object is closed, and whether a value can be at all, is only known when everything is read and joined:
properties of `allOf` stand side by side, definitions refer to each other, and some strings turn out to be impossible
only when the engine's compiler has looked at them (`dead`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from corral.constraint.keywords import pointer
from corral.constraint.meeting import CannotHold, key_matches, possible_array
from corral.constraint.schema import Schema
from corral.constraint.shapes import ANYTHING, Array, Either, Never, Object, Ref, Shape, String, either

_MOST_NAMED = 400  # optional properties of one object; the engine follows all that may come next


def finished(schema: Schema, dead: Collection[String] = (), loose: Collection[String] = ()) -> Schema:
    """The schema with every shape in its final form; a root that is Never allows nothing.

    Raises CannotHold. dead: strings that no text can be; loose: strings that may be any text instead.
    """
    made = _Finisher(dict(schema.definitions), frozenset(dead), frozenset(loose))
    root = made.shape(schema.root)
    return Schema(root, made.definitions, schema.loosened)


class _Finisher:
    """One pass; definitions first, until it is known which of them have a value at all."""

    def __init__(self, definitions: dict[str, Shape], dead: frozenset[String], loose: frozenset[String]) -> None:
        self._dead = dead
        self._loose = loose
        self._possible: set[str] = set()
        found = True
        while found:  # a definition is possible when it is with those known so far; recursion must have a way out
            found = False
            for name, shape in reversed(definitions.items()):  # what was read later is what the earlier is made of
                if name not in self._possible and not isinstance(self.shape(shape), Never):
                    self._possible.add(name)
                    found = True
        self.definitions = {name: self.shape(definitions[name]) for name in self._possible}

    def shape(self, shape: Shape) -> Shape:
        """The final form."""
        match shape:
            case Ref():
                never = Never("no finite value is possible", shape.name.partition(" & ")[0])
                return shape if shape.name in self._possible else never
            case Either():
                return either([self.shape(arm) for arm in shape.arms])
            case String():
                return self._string(shape)
            case Array():
                first = tuple(self.shape(item) for item in shape.first)
                return possible_array(replace(shape, first=first, rest=self.shape(shape.rest)))
            case Object():
                return self._object(shape)
        return shape

    def _string(self, shape: String) -> Shape:
        if shape in self._dead:
            return Never(f'"{shape.keyword}": no text is possible', pointer(shape.place, shape.keyword))
        return String(place=shape.place) if shape in self._loose else shape

    def _object(self, shape: Object) -> Shape:
        additional = self._additional(shape)
        patterns = tuple((key, self.shape(value)) for key, value in shape.patterns)
        properties = {name: self.shape(value) for name, value in shape.properties.items()}
        for name in shape.required:
            if name not in properties:
                properties[name] = self._unnamed(shape, name, additional)
            value = properties[name]
            if isinstance(value, Never):
                return Never(f'the property "{name}" is required, and cannot be: {value.why}', value.place)
        optional = [
            name for name, value in properties.items() if name not in shape.required and not isinstance(value, Never)
        ]
        if len(optional) > _MOST_NAMED:
            raise CannotHold(f"more than {_MOST_NAMED} optional properties in one object", shape.place)
        others = [value for _, value in patterns] + [additional]
        return _countable(
            replace(shape, properties=properties, patterns=patterns, additional=additional),
            len(optional),
            others=any(not isinstance(value, Never) for value in others),
        )

    def _additional(self, shape: Object) -> Shape:
        if shape.additional is not None:
            return self.shape(shape.additional)
        if shape.closing and not shape.patterns:
            return Never("other properties are only allowed where additionalProperties says so", shape.place)
        return ANYTHING

    def _unnamed(self, shape: Object, name: str, additional: Shape) -> Shape:
        """The value of a property that is required and nowhere described."""
        found = next((value for key, value in shape.patterns if key_matches(key, name)), None)
        if found is not None:
            return self.shape(found)
        return ANYTHING if shape.additional is None else additional


def _countable(shape: Object, optional: int, *, others: bool) -> Shape:
    """The object, if its number of properties can be kept to."""
    required, least, most = len(shape.required), shape.min_properties, shape.max_properties
    if most is not None and max(required, least) > most:
        return Never(
            f'"maxProperties" is {most}, and {max(required, least)} are required', pointer(shape.place, "maxProperties")
        )
    if least > required + optional:
        if not others:
            return Never(f'"minProperties": fewer than {least} are allowed', pointer(shape.place, "minProperties"))
        if least > required + optional + 1:  # other names may be written twice, and count once
            raise CannotHold('"minProperties" above the number of named properties', shape.place)
    return shape
