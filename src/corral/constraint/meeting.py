"""What two shapes both allow. Pure; schema.py calls it for allOf and for keywords beside anyOf, enum and $ref.

Shapes that refer to themselves meet without end, so what two definitions both allow is a definition of its own, made
once, on demand.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

from corral.constraint.keywords import pointer
from corral.constraint.shapes import (
    ANYTHING,
    Anything,
    Array,
    Boolean,
    Bound,
    Either,
    KeyPattern,
    Never,
    Null,
    Number,
    Object,
    Ref,
    Shape,
    String,
    either,
)

_MOST_MEETINGS = 20_000  # a schema of ordinary size needs some hundreds
_LONGEST_CHAIN = 64  # of definitions that are only references
_DEEPEST_LOOK = 3  # how deep a property may stand that tells objects apart


class CannotHold(Exception):
    """Values that cannot be written down; `place`: where in the schema, if that is known."""

    def __init__(self, why: str, place: str = "") -> None:
        self.place = place
        super().__init__(why)


class Meetings:
    """Joins shapes of one schema. `expand`: what a definition allows; `define`: makes one of a function, by name."""

    def __init__(self, expand: Callable[[str], Shape], define: Callable[[str, Callable[[], Shape]], None]) -> None:
        self._expand = expand
        self._define = define
        self._open: dict[tuple[str, int], str] = {}  # a definition and what it is being joined to → the name of both
        self._repeated: set[tuple[str, int]] = set()
        self._count = 0

    def meet(self, one: Shape, two: Shape, place: str) -> Shape:
        """What both allow; raises CannotHold. `place`: where the schema asks for it."""
        self._count += 1
        if self._count > _MOST_MEETINGS:
            raise CannotHold("the schema combines too many alternatives")
        if isinstance(one, Never) or isinstance(two, Anything):
            return one
        if isinstance(two, Never) or isinstance(one, Anything):
            return two
        if isinstance(one, Ref) or isinstance(two, Ref):
            return self._with_ref(one, two, place)
        if isinstance(one, Either):
            return either([self.meet(arm, two, place) for arm in one.arms])
        if isinstance(two, Either):
            return either([self.meet(one, arm, place) for arm in two.arms])
        return self._typed(one, two, place)

    def value_of(self, shape: Object, name: str) -> Shape:
        """What the property of this name may be."""
        if name in shape.properties:
            return shape.properties[name]
        found = next((value for pattern, value in shape.patterns if key_matches(pattern, name)), None)
        if found is not None:
            return found
        return ANYTHING if shape.additional is None else shape.additional

    def expand(self, shape: Shape) -> Shape:
        """What a reference leads to, through all that it leads through; any other shape is returned as it is."""
        for _ in range(_LONGEST_CHAIN):
            if not isinstance(shape, Ref):
                return shape
            shape = self._expand(shape.name)
        raise CannotHold("a definition that only refers to itself")

    def disjoint(self, arms: Sequence[Shape], others: Sequence[Shape]) -> bool:
        """Whether it is plain that no value of an arm is allowed by one of the others at another place."""
        return all(
            self._apart(one, two) for at, one in enumerate(arms) for there, two in enumerate(others) if at != there
        )

    def _apart(self, one: Shape, two: Shape, depth: int = 0) -> bool:
        if depth > _DEEPEST_LOOK:
            return False
        try:
            one, two = self.expand(one), self.expand(two)
        except CannotHold:
            return False
        match one, two:
            case (Never(), _) | (_, Never()):
                return True
            case (Anything(), _) | (_, Anything()):
                return False
            case Either(), _:
                return all(self._apart(arm, two, depth) for arm in one.arms)
            case _, Either():
                return all(self._apart(one, arm, depth) for arm in two.arms)
            case Object(), Object():
                names = dict.fromkeys([*one.required, *two.required])
                return any(self._values_apart(one, two, name, depth) for name in names)
            case Array(), Array():
                return False
        return isinstance(self._typed(one, two, ""), Never)

    def _values_apart(self, one: Object, two: Object, name: str, depth: int) -> bool:
        """Whether the values of a property, which one of the two has to have, tell them apart."""
        try:
            values = self.value_of(one, name), self.value_of(two, name)
        except CannotHold:
            return False
        return self._apart(*values, depth + 1)

    def _with_ref(self, one: Shape, two: Shape, place: str) -> Shape:
        if isinstance(one, Ref) and isinstance(two, Ref):
            if one == two:
                return one
            first, second = sorted((one.name, two.name))
            name = f"{first} & {second}"
            self._define(name, lambda: self.meet(self._expand(first), self._expand(second), place))
            return Ref(name)
        reference, other = (one, two) if isinstance(one, Ref) else (two, one)
        assert isinstance(reference, Ref)
        key = (reference.name, id(other))
        if key in self._open:  # the definition leads back to itself: so does what it is joined to
            self._repeated.add(key)
            return Ref(self._open[key])
        self._open[key] = f"{reference.name} & {self._count}"
        expanded = self._expand(reference.name)
        met = self.meet(expanded, two, place) if reference is one else self.meet(one, expanded, place)
        name = self._open.pop(key)
        if key in self._repeated:
            self._define(name, lambda: met)
        return met

    def _typed(self, one: Shape, two: Shape, place: str) -> Shape:
        match one, two:
            case Null(), Null():
                return one
            case Boolean(), Boolean():
                values = tuple(value for value in one.values if value in two.values)
                return Boolean(values) if values else Never("true and false exclude each other", place)
            case Number(), Number():
                return meet_numbers(one, two, place)
            case String(), String():
                return meet_strings(one, two, place)
            case Array(), Array():
                return self._arrays(one, two, place)
            case Object(), Object():
                return self._objects(one, two, place)
        return Never("the types exclude each other", place)

    def _arrays(self, one: Array, two: Array, place: str) -> Shape:
        size = max(len(one.first), len(two.first))
        first = [self.meet(_item(one, at), _item(two, at), place) for at in range(size)]
        met = Array(
            tuple(first),
            self.meet(one.rest, two.rest, place),
            max(one.min_items, two.min_items),
            smaller(one.max_items, two.max_items),
            one.place,
        )
        return possible_array(met)

    def _objects(self, one: Object, two: Object, place: str) -> Shape:
        names = dict.fromkeys([*one.properties, *two.properties])
        properties = {name: self.meet(self.value_of(one, name), self.value_of(two, name), place) for name in names}
        said = [shape.additional for shape in (one, two) if shape.additional is not None]
        return Object(
            properties,
            tuple(dict.fromkeys([*one.required, *two.required])),
            self._key_patterns(one, two, place),
            None if not said else said[0] if len(said) == 1 else self.meet(said[0], said[1], place),
            max(one.min_properties, two.min_properties),
            smaller(one.max_properties, two.max_properties),
            one.closing or two.closing,
            one.place,
        )

    def _key_patterns(self, one: Object, two: Object, place: str) -> tuple[tuple[KeyPattern, Shape], ...]:
        if one.patterns and two.patterns:
            raise CannotHold("patternProperties in several schemas that are to hold together")
        mine, other = (one, two) if one.patterns else (two, one)
        beside = ANYTHING if other.additional is None else other.additional
        return tuple((pattern, self.meet(value, beside, place)) for pattern, value in mine.patterns)


def _item(shape: Array, at: int) -> Shape:
    return shape.first[at] if at < len(shape.first) else shape.rest


def smaller(one: int | None, two: int | None) -> int | None:
    """The smaller limit; None is no limit."""
    return two if one is None else one if two is None else min(one, two)


def key_matches(pattern: KeyPattern, name: str) -> bool:
    """Whether a property name matches; raises CannotHold when Python cannot tell."""
    if pattern.python is None:
        raise CannotHold("a pattern of names that Python cannot match beside properties")
    return all(re.search(one, name) for one in pattern.python) and not any(
        re.search(one, name) for one in pattern.python_excluded
    )


def possible_array(shape: Array) -> Shape:
    """The array, without items that cannot be; Never when they have to be."""
    first, most = list(shape.first), shape.max_items
    impossible = next((at for at, item in enumerate(first) if isinstance(item, Never)), None)
    if impossible is None and isinstance(shape.rest, Never):
        impossible = len(first)
    if impossible is not None:
        most = impossible if most is None else min(most, impossible)
    if most is not None and shape.min_items > most:
        return Never(f'"minItems" is {shape.min_items}, and {most} are possible', pointer(shape.place, "minItems"))
    return replace(shape, first=tuple(first[:most]), max_items=most)


def meet_strings(one: String, two: String, place: str) -> Shape:
    """What both allow."""
    values = one.values if two.values is None else two.values
    if one.values is not None and two.values is not None:
        values = tuple(value for value in one.values if value in two.values)
    met = String(
        max(one.min_length, two.min_length),
        smaller(one.max_length, two.max_length),
        tuple(dict.fromkeys([*one.patterns, *two.patterns])),
        values,
        (*one.given, *two.given),
        two.place if two.patterns else one.place,
    )
    return possible_string(met, place)


def possible_string(shape: String, place: str) -> Shape:
    """The string, values of the wrong length left out; Never when none is left."""
    if shape.max_length is not None and shape.min_length > shape.max_length:
        return Never(f'"minLength" {shape.min_length} is greater than "maxLength" {shape.max_length}', place)
    if shape.values is None:
        return shape
    most = math.inf if shape.max_length is None else shape.max_length
    values = tuple(value for value in shape.values if shape.min_length <= len(value) <= most)
    if not values:
        return Never("none of the values is left", place)
    return replace(shape, values=values, min_length=0, max_length=None)


def meet_numbers(one: Number, two: Number, place: str) -> Shape:
    """What both allow."""
    values = one.values if two.values is None else two.values
    if one.values is not None and two.values is not None:
        values = tuple(value for value in one.values if value in two.values)
    met = Number(
        one.whole or two.whole,
        _higher(one.low, two.low),
        _lower(one.high, two.high),
        common_multiple(one.multiple, two.multiple),
        values,
        one.place,
    )
    return possible_number(met, place)


def possible_number(shape: Number, place: str) -> Shape:
    """The number, values out of range left out; Never when none is left."""
    if shape.values is not None:
        values = tuple(value for value in shape.values if _allows(shape, value))
        return Number(values=values, place=shape.place) if values else Never("none of the values is left", place)
    low, high = shape.low, shape.high
    if low is None or high is None:
        return shape
    step = shape.multiple if shape.multiple is not None else Decimal(1) if shape.whole else None
    if shape.whole and step is not None and step % 1 != 0:
        step = common_multiple(step, Decimal(1))
    first = low.value if step is None else _first_multiple(low, step)
    if first > high.value or (first == high.value and (high.exclusive or (step is None and low.exclusive))):
        return Never('no number is in the range of "minimum", "maximum" and "multipleOf"', place)
    return shape


def _first_multiple(low: Bound, step: Decimal) -> Decimal:
    first = (low.value / step).to_integral_value(rounding="ROUND_CEILING") * step
    return first + step if low.exclusive and first == low.value else first


def _allows(shape: Number, value: Decimal) -> bool:
    step = shape.multiple
    return not (
        (shape.whole and value % 1 != 0)
        or (step is not None and value % step != 0)
        or (shape.low is not None and (value < shape.low.value or (shape.low.exclusive and value == shape.low.value)))
        or (
            shape.high is not None
            and (value > shape.high.value or (shape.high.exclusive and value == shape.high.value))
        )
    )


def _higher(one: Bound | None, two: Bound | None) -> Bound | None:
    if one is None or two is None:
        return one or two
    return max(one, two, key=lambda bound: (bound.value, bound.exclusive))


def _lower(one: Bound | None, two: Bound | None) -> Bound | None:
    if one is None or two is None:
        return one or two
    return min(one, two, key=lambda bound: (bound.value, not bound.exclusive))


def common_multiple(one: Decimal | None, two: Decimal | None) -> Decimal | None:
    """The least common multiple; None says nothing."""
    if one is None or two is None:
        return one or two
    scale = Decimal(10) ** -min(int(one.as_tuple().exponent), int(two.as_tuple().exponent), 0)
    return Decimal(math.lcm(int(one * scale), int(two * scale))) / scale
