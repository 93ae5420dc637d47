"""What JSON values a schema allows, as plain data: made by schema.py, joined by meeting.py, written by jsonrules.py.

A schema is a set of values; a shape says which, type by type, without keywords that refer to each other:

Shape = Never | Anything | Ref | Either | Null | Boolean | Number | String | Array | Object
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Never:
    """No value at all; `why` and `place` (a JSON pointer) say what excludes them."""

    why: str
    place: str


@dataclass(frozen=True, slots=True)
class Anything:
    """Every value."""


@dataclass(frozen=True, slots=True)
class Ref:
    """What the definition of this name allows; definitions can refer to themselves."""

    name: str


@dataclass(frozen=True, slots=True)
class Either:
    """What any of the arms allows."""

    arms: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Null:
    """null"""


@dataclass(frozen=True, slots=True)
class Boolean:
    """true, false or both."""

    values: tuple[bool, ...] = (False, True)


@dataclass(frozen=True, slots=True)
class Bound:
    """An end of a range."""

    value: Decimal
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Number:
    """Numbers; values: only these, when not None."""

    whole: bool = False
    low: Bound | None = None
    high: Bound | None = None
    multiple: Decimal | None = None
    values: tuple[Decimal, ...] | None = None
    place: str = "#"


@dataclass(frozen=True, slots=True)
class String:
    """Strings; patterns: in the engine's words, all of which must match; values: only these, when not None.

    given: the keywords, with their values, that the patterns were made of.
    """

    min_length: int = 0
    max_length: int | None = None
    patterns: tuple[str, ...] = ()
    values: tuple[str, ...] | None = None
    given: tuple[tuple[str, str], ...] = ()
    place: str = "#"

    @property
    def keyword(self) -> str:
        """The keyword that says most about it."""
        if self.given:
            return self.given[0][0]
        return "enum" if self.values is not None else "minLength" if self.min_length else "maxLength"


@dataclass(frozen=True, slots=True)
class Array:
    """Lists: the first items one by one, then any number of `rest`."""

    first: tuple[Shape, ...] = ()
    rest: Shape = field(default_factory=Anything)
    min_items: int = 0
    max_items: int | None = None
    place: str = "#"


@dataclass(frozen=True, slots=True)
class KeyPattern:
    """Property names that match some patterns and not others.

    engine: all of which match. excluded: groups of which not all match. python, python_excluded: the same for Python,
    to tell which known names are meant; `python` is None when Python has no such pattern.
    """

    engine: tuple[str, ...]
    python: tuple[str, ...] | None
    excluded: tuple[tuple[str, ...], ...] = ()
    python_excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Object:
    """Objects. `additional`: what other properties may be; None when the schema does not say.

    closing: the schema names properties, so that others are only allowed when it says so.
    """

    properties: Mapping[str, Shape] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    patterns: tuple[tuple[KeyPattern, Shape], ...] = ()
    additional: Shape | None = None
    min_properties: int = 0
    max_properties: int | None = None
    closing: bool = False
    place: str = "#"


Shape = Never | Anything | Ref | Either | Null | Boolean | Number | String | Array | Object
Typed = Null | Boolean | Number | String | Array | Object

ANYTHING = Anything()
TYPES: Mapping[str, type] = {
    "null": Null,
    "boolean": Boolean,
    "number": Number,
    "integer": Number,
    "string": String,
    "array": Array,
    "object": Object,
}


def either(arms: Iterable[Shape]) -> Shape:
    """The arms, without those that allow nothing; the first of these when there is no other."""
    flat: list[Shape] = []
    for arm in arms:
        flat += arm.arms if isinstance(arm, Either) else [arm]
    left = [arm for arm in flat if not isinstance(arm, Never)]
    if not left:
        return flat[0] if flat else Never("no alternative is left", "#")
    if len(left) == 1:
        return left[0]
    return ANYTHING if ANYTHING in left else Either(tuple(left))
