"""Writes shapes as rules of a grammar: JSON with fixed separators, properties in the schema's order. Pure.

`lark.py` calls it for formats and arguments of tools. Strings with patterns or lengths are left to llguidance's own
JSON (`%json`), which knows how they are escaped; everything else is written out, so that numbers end, and so that
what the compiler refuses has a place in the schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Protocol

from corral.constraint.charsets import literal
from corral.constraint.keywords import MAX_REPEAT
from corral.constraint.meeting import CannotHold, common_multiple, possible_number
from corral.constraint.numbers import OutOfReach, is_power_of_ten, number_terminal, number_text
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
)

# Fixed separators: with free whitespace small models write blank lines for ever (seen with SmolLM2).
_COMMA = '", "'
_COLON = '": "'
_LARGEST = 9223372036854774784  # the largest double below 2**63, which llguidance's integers have to hold
_MOST_STATES = 4000  # rules for one object whose properties are counted
_KEY = r'/[^"\\\x00-\x1F\x7F]*/'  # names are not escaped: an escape would be another way to write a taken name


class Grammar(Protocol):
    """What rules are added to; see lark.Lark."""

    def rule(self, body: str, *, attributes: str = "", terminal: bool = False, place: str = "") -> str:
        """Adds a rule and returns its name."""
        ...

    def name(self, *, terminal: bool = False) -> str:
        """The name of a rule to come."""
        ...

    def define(self, name: str, body: str) -> None:
        """Adds a rule under a name that was given before."""
        ...


class JsonRules:
    """Writes the values of one schema. `definitions`: see schema.Schema; all shapes are finished (finishing.py)."""

    def __init__(self, grammar: Grammar, definitions: Mapping[str, Shape]) -> None:
        self._grammar = grammar
        self._definitions = definitions
        self._named: dict[str, str] = {}  # definition → rule
        self._made: dict[str, str] = {}  # body → rule
        self._anything = ""
        self.leaves: dict[str, String] = {}  # rule → the string it is, for those that may turn out impossible

    def value(self, shape: Shape) -> str:
        """An expression for the values of a shape; raises CannotHold."""
        match shape:
            case Never():
                raise CannotHold(shape.why, shape.place)
            case Anything():
                return self._any()
            case Ref():
                return self._definition(shape.name)
            case Either():
                return self._rule(" | ".join(self.value(arm) for arm in shape.arms))
            case Array():
                return self._array(shape)
            case Object():
                return self._object(shape)
            case _:
                return self._simple(shape)

    def _simple(self, shape: Null | Boolean | Number | String) -> str:
        match shape:
            case Null():
                return '"null"'
            case Boolean():
                return self._rule(" | ".join(f'"{str(value).lower()}"' for value in shape.values), terminal=True)
            case Number():
                return self._number(shape)
            case String():
                return self._string(shape)

    def _rule(self, body: str, *, terminal: bool = False, place: str = "") -> str:
        if body not in self._made:
            self._made[body] = self._grammar.rule(body, terminal=terminal, place=place)
        return self._made[body]

    def _any(self) -> str:
        if not self._anything:
            self._anything = self._grammar.name()
            arms: list[Shape] = [Object(additional=ANYTHING), Array(), String(), Number(), Boolean(), Null()]
            self._grammar.define(self._anything, " | ".join(self.value(arm) for arm in arms))
        return self._anything

    def _definition(self, name: str) -> str:
        if name not in self._named:
            self._named[name] = self._grammar.name()
            self._grammar.define(self._named[name], self.value(self._definitions[name]))
        return self._named[name]

    # ---- strings and numbers

    def _string(self, shape: String) -> str:
        if shape.values is not None and not shape.patterns:
            return self._rule(" | ".join(_text(_quoted(value)) for value in shape.values), terminal=True)
        schema: dict[str, Any] = {"type": "string"}
        if shape.min_length:
            schema["minLength"] = shape.min_length
        if shape.max_length is not None:
            schema["maxLength"] = shape.max_length
        if shape.values is not None:
            schema["enum"] = list(shape.values)
        if shape.patterns:
            schema["allOf"] = [{"pattern": pattern} for pattern in shape.patterns]
        rule = self._rule(_json(schema), place=shape.place)
        self.leaves[rule] = shape
        return rule

    def _number(self, shape: Number) -> str:
        if shape.values is not None:
            return self._rule(" | ".join(_text(number_text(value)) for value in shape.values), terminal=True)
        multiple = shape.multiple
        if shape.whole and multiple is not None:
            multiple = common_multiple(multiple, Decimal(1))
        if multiple is None or is_power_of_ten(multiple) or (shape.whole and multiple == 1):
            multiple = None if shape.whole else multiple
            try:
                return self._rule(number_terminal(replace(shape, multiple=multiple)), terminal=True, place=shape.place)
            except OutOfReach as error:
                raise CannotHold(str(error), shape.place) from error
        return self._multiples(replace(shape, multiple=multiple))

    def _multiples(self, shape: Number) -> str:
        """llguidance knows multiples, but not negative ones."""
        zero = Bound(Decimal(0))
        above, below = possible_number(replace(shape, low=_higher(shape.low, zero)), ""), None
        if shape.low is None or shape.low.value < 0:
            turned = replace(shape, low=_turned(shape.high), high=_turned(shape.low))
            positive = Bound(Decimal(0), exclusive=True)
            below = possible_number(replace(turned, low=_higher(turned.low, positive)), "")
        arms = [self._rule(_json(_as_schema(above)), place=shape.place)] if isinstance(above, Number) else []
        if isinstance(below, Number):
            arms.append(f'"-" {self._rule(_json(_as_schema(below)), place=shape.place)}')
        if not arms:
            raise CannotHold("no multiple is in the range", shape.place)
        return self._rule(" | ".join(arms))

    # ---- arrays

    def _array(self, shape: Array) -> str:
        tail = self._more_items(shape)
        for at in reversed(range(len(shape.first))):
            comma = _COMMA + " " if at else ""
            body = f"{comma}{self.value(shape.first[at])} {tail}".strip()
            tail = body if at < shape.min_items else f"{self._grammar.rule(body)}?"
        return self._rule(f'"[" {tail} "]"' if tail else '"[]"')

    def _more_items(self, shape: Array) -> str:
        """The items behind the first ones."""
        before = len(shape.first)
        least = max(shape.min_items - before, 0)
        most = None if shape.max_items is None else shape.max_items - before
        if most is not None and most <= 0:
            return ""
        item = self.value(shape.rest)
        if before:
            return f"({_COMMA} {item}){_times(least, most)}"
        many = f"{item} ({_COMMA} {item}){_times(max(least - 1, 0), None if most is None else most - 1)}"
        return many if least else f"({many})?"

    # ---- objects

    def _object(self, shape: Object) -> str:
        items = [
            (f"{_text(_quoted(name) + ': ')} {self.value(value)}", name in shape.required)
            for name, value in shape.properties.items()
            if not isinstance(value, Never)
        ]
        need = shape.min_properties if shape.min_properties > len(shape.required) else 0
        others = self._others(shape)
        limited = shape.max_properties is not None and (others or shape.max_properties < len(items))
        body = _Members(self._grammar, items, others).body(need, shape.max_properties if limited else None, shape.place)
        return self._rule(f'"{{" {body} "}}"' if body else '"{}"')

    def _others(self, shape: Object) -> str:
        """One property that the schema does not name; "" when there is none."""
        taken = [f"~(/{'|'.join(map(_name_regex, shape.properties))}/)"] if shape.properties else []
        arms = [
            self._member([_matching(key), *taken], value)
            for key, value in shape.patterns
            if not isinstance(value, Never)
        ]
        if shape.additional is not None and not isinstance(shape.additional, Never):
            free = [f"~({_matching(key)})" for key, _ in shape.patterns]
            arms.append(self._member([*free, *taken], shape.additional))
        return "" if not arms else arms[0] if len(arms) == 1 else self._rule(" | ".join(arms))

    def _member(self, terms: Iterable[str], value: Shape) -> str:
        key = self._rule(" & ".join([_KEY, *terms]), terminal=True)
        quoted = self._rule(f'"\\"" {key} "\\""', terminal=True)
        return f"{quoted} {_COLON} {self.value(value)}"


class _Members:
    """What stands between the braces of one object: named items in their order, then others; commas in between."""

    def __init__(self, grammar: Grammar, items: list[tuple[str, bool]], others: str) -> None:
        self._grammar = grammar
        self._items = items
        self._others = others
        self._memo: dict[tuple[int, int, int | None, bool], str | None] = {}

    def body(self, need: int, room: int | None, place: str) -> str:
        """An expression for at least `need` and at most `room` members; raises CannotHold."""
        steps: list[set[tuple[int, int | None, bool]]] = [{(need, room, False)}]
        for _, required in self._items:
            reached = set()
            for state in steps[-1]:
                reached |= {_taken(state)} if state[1] != 0 else set()
                reached |= set() if required else {state}
            steps.append(reached)
        if sum(map(len, steps)) > _MOST_STATES + 2 * len(steps):
            raise CannotHold("so many properties cannot be counted", place)
        after = {state: self._end(*state) for state in steps[-1]}
        for (item, required), states in zip(reversed(self._items), reversed(steps[:-1]), strict=True):
            after = {state: self._step(item, required, state, after) for state in states}
        body = after[need, room, False]
        if body is None:
            raise CannotHold("no number of properties is possible", place)
        return body

    def _step(
        self, item: str, required: bool, state: tuple[int, int | None, bool], after: Mapping[Any, str | None]
    ) -> str | None:
        """The rest from an item on, which may be left out unless it is required."""
        started = state[2]
        rest = after.get(_taken(state)) if state[1] != 0 else None
        whole = f"{_COMMA} {item}" if started else item
        without = None if required else after.get(state)
        if rest is None:
            return without
        if without is None:
            return f"{whole} {rest}".strip()
        if rest == without:
            return self._grammar.rule(f"({whole})? {rest}".strip())
        return self._grammar.rule(f"{whole} {rest} | {without}" if without else f"({whole} {rest})?")

    def _end(self, need: int, room: int | None, started: bool) -> str | None:
        if not self._others or room == 0:
            return None if need else ""
        if need > 1:
            return None
        if started:
            many = f"({_COMMA} {self._others}){_times(1, room)}"
        else:
            many = f"{self._others} ({_COMMA} {self._others}){_times(0, None if room is None else room - 1)}"
        return many if need else f"({many})?"


def _taken(state: tuple[int, int | None, bool]) -> tuple[int, int | None, bool]:
    need, room, _ = state
    return max(0, need - 1), None if room is None else room - 1, True


def _times(least: int, most: int | None) -> str:
    if most is None or most > MAX_REPEAT:
        return "*" if not least else "+" if least == 1 else f"{{{least},}}"
    return f"{{{least},{most}}}"


def _json(schema: Mapping[str, Any]) -> str:
    return "%json " + json.dumps({"x-guidance": {"whitespace_flexible": False}, **schema})


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(value: str) -> str:
    """Exact text as a literal."""
    return json.dumps(value, ensure_ascii=False)


def _name_regex(name: str) -> str:
    return "".join(literal(ord(char)) for char in name)


def _matching(key: KeyPattern) -> str:
    terms = [f"/{pattern.removeprefix('^').removesuffix('$')}/" for pattern in key.engine]
    terms += [
        f"~({' & '.join('/' + one.removeprefix('^').removesuffix('$') + '/' for one in other)})"
        for other in key.excluded
    ]
    return f"({' & '.join(terms)})"


def _higher(bound: Bound | None, least: Bound) -> Bound:
    return least if bound is None or bound.value <= least.value else bound


def _turned(bound: Bound | None) -> Bound | None:
    return None if bound is None else Bound(-bound.value, bound.exclusive)


def _as_schema(shape: Number) -> dict[str, Any]:
    """Multiples that are not negative, for llguidance."""
    schema: dict[str, Any] = {"type": "integer" if shape.whole else "number", "multipleOf": float(shape.multiple or 1)}
    assert shape.low is not None
    schema["exclusiveMinimum" if shape.low.exclusive else "minimum"] = float(shape.low.value)
    if shape.high is not None and shape.high.value <= _LARGEST:
        schema["exclusiveMaximum" if shape.high.exclusive else "maximum"] = float(shape.high.value)
    else:
        schema["maximum"] = _LARGEST
    return schema
