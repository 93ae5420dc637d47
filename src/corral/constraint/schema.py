"""Reads JSON schemas into shapes, and says what of them cannot be held. `checks.py` calls it.

A format's schema is read strictly: what is wrong, or cannot be held, is an InvalidRequest that names keyword and place.
A tool's is read leniently: the keyword is left out and noted, the rest holds.

held             type enum const properties required additionalProperties patternProperties minProperties maxProperties
                 items prefixItems additionalItems minItems maxItems pattern format minLength maxLength minimum maximum
                 exclusiveMinimum exclusiveMaximum multipleOf anyOf allOf $ref; propertyNames by pattern or names
said to be loose uniqueItems; oneOf where its arms overlap; other propertyNames, unevaluatedItems
refused          not if then else contains minContains maxContains dependentRequired dependentSchemas dependencies
                 $dynamicRef $recursiveRef
without a word   annotations, unknown keywords, formats that are none of strings' (formats.py)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal, localcontext
from typing import Any

from corral.constraint.formats import format_pattern
from corral.constraint.keywords import Keywords, decimal_of, pointer, shown
from corral.constraint.meeting import CannotHold, Meetings, possible_array, possible_number, possible_string
from corral.constraint.numbers import out_of_reach
from corral.constraint.objects import ObjectReader
from corral.constraint.patterns import PatternError, search_patterns
from corral.constraint.references import References
from corral.constraint.shapes import (
    ANYTHING,
    TYPES,
    Anything,
    Array,
    Boolean,
    Bound,
    Never,
    Null,
    Number,
    Object,
    Ref,
    Shape,
    String,
    either,
)
from corral.core import Notice
from corral.gojson import encode

MAX_SCHEMA_BYTES = 256 * 1024
MAX_NODES = 5000  # subschemas: some ten times the largest published tool set
MAX_DEPTH = 48
_PRECISION = 1000  # of the arithmetic: more digits than a number may have
REFUSED = frozenset(
    ("not", "if", "then", "else", "contains", "minContains", "maxContains", "dependentRequired", "dependentSchemas")
) | {"dependencies", "$dynamicRef", "$recursiveRef"}
_EVERY_TYPE = ("null", "boolean", "number", "string", "array", "object")
_STRING_WORDS = ("minLength", "maxLength", "pattern", "format")
_NUMBER_WORDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_ARRAY_WORDS = ("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "unevaluatedItems")
_OBJECT_WORDS = (
    *("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"),
    *("propertyNames", "unevaluatedProperties"),
)
_WORDS_OF: Mapping[str, tuple[str, ...]] = {
    "number": _NUMBER_WORDS,
    "string": _STRING_WORDS,
    "array": _ARRAY_WORDS,
    "object": _OBJECT_WORDS,
}
_ALL_WORDS = frozenset(word for words in _WORDS_OF.values() for word in words)
_IN_PLACE = ("const", "enum", "allOf", "anyOf", "oneOf", "$ref")
# as hand-written tools name types
_OTHER_NAMES = {"int": "integer", "float": "number", "double": "number", "str": "string", "text": "string"} | {
    "bool": "boolean",
    "dict": "object",
    "list": "array",
    "none": "null",
}


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema that was read: its shape, the definitions that it refers to, and what is not held.

    loosened: keywords with the places where they are not held.
    """

    root: Shape
    definitions: Mapping[str, Shape] = field(default_factory=dict)
    loosened: dict[str, list[str]] = field(default_factory=dict)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What the answer is not held to."""
        if not self.loosened:
            return ()
        words = "; ".join(f"{keyword} at {', '.join(places)}" for keyword, places in self.loosened.items())
        text = f"the answer is not held to these parts of the schema: {words}"
        return (Notice("schema_not_enforced", text, {"keywords": self.loosened}),)


def read_schema(schema: Any, field: str, *, lenient: bool = False) -> Schema:
    """The schema's shape; raises InvalidRequest. A schema that says nothing means an object."""
    with localcontext(Context(prec=_PRECISION)):
        return _SchemaReader(field, schema, lenient=lenient).read()


class _SchemaReader:
    """One walk over one schema."""

    def __init__(self, field: str, schema: Any, *, lenient: bool) -> None:
        self._words = Keywords(field, lenient=lenient)
        self._schema = schema
        self._references = References(schema)
        self._definitions: dict[str, Shape] = {}
        self._to_make: dict[str, Callable[[], Shape]] = {}
        self._making: set[str] = set()
        self._meetings = Meetings(self._expand, self._define)
        self._objects = ObjectReader(self._words, self._meetings, self._value)
        self._one_ofs: list[tuple[list[Shape], list[Shape], str]] = []  # arms; what they are for a validator; place
        self._nodes = 0
        self._depth = 0

    def read(self) -> Schema:
        schema = self._schema
        if not isinstance(schema, dict | bool):
            self._words.fail(f"the schema must be an object, not {shown(schema)}", "#")
        if schema is False:
            self._words.fail("a schema that is false matches nothing", "#")
        if len(encode(schema)) > MAX_SCHEMA_BYTES:
            self._words.fail(f"the schema is larger than {MAX_SCHEMA_BYTES} bytes", "#")
        root = self._value(schema, "#")
        while self._to_make:
            self._expand(next(iter(self._to_make)))
        for arms, others, place in self._one_ofs:
            if not self._meetings.disjoint(arms, others):
                self._words.loosen("oneOf", place)
        root = Object() if isinstance(root, Anything) else root
        return Schema(root, self._definitions, self._words.loosened)

    # ---- definitions

    def _define(self, name: str, make: Callable[[], Shape]) -> None:
        if name not in self._definitions and name not in self._making:
            self._to_make.setdefault(name, make)

    def _expand(self, name: str) -> Shape:
        """What a definition allows; raises CannotHold when it is being made, which is when it refers to itself."""
        if name in self._definitions:
            return self._definitions[name]
        make = self._to_make.pop(name, None)
        if make is None:
            raise CannotHold("a definition that is combined with itself")
        self._making.add(name)
        try:
            made = make()
        finally:
            self._making.discard(name)
        self._definitions[name] = made
        return made

    def _reference(self, node: Mapping[str, Any], place: str) -> Shape:
        found = self._references.resolve(node["$ref"])
        if isinstance(found, str):
            self._words.bad("$ref", place, found)
            return ANYTHING
        target, at = found
        self._define(at, lambda: self._value(target, at))
        return Ref(at)

    # ---- nodes

    def _value(self, schema: Any, place: str) -> Shape:
        """The shape of a schema for a value. One that names no type, but has keywords of some, is of these."""
        return self._node(schema, place, _EVERY_TYPE if _names_types(schema) else _implied_types(schema))

    def _node(self, schema: Any, place: str, types: Sequence[str] = _EVERY_TYPE) -> Shape:
        """The shape of a schema; types: what it is about when it does not say."""
        if isinstance(schema, bool):
            return ANYTHING if schema else Never("nothing is allowed there", place)
        if not isinstance(schema, dict):
            if not self._words.lenient:
                self._words.fail(f"a schema must be an object or a boolean, not {shown(schema)}", place)
            self._words.loosen("schema", place)
            return ANYTHING
        with self._counted(place):
            for key in schema:
                if key in REFUSED:
                    self._words.bad(key, place, f'"{key}" is not supported')
            shape = self._typed(schema, place, types)
            for key in _IN_PLACE:
                if key in schema and (schema[key] is not None or key == "const"):
                    shape = self._joined(shape, key, schema, place)
            return shape

    @contextmanager
    def _counted(self, place: str) -> Iterator[None]:
        self._nodes += 1
        self._depth += 1
        try:
            if self._nodes > MAX_NODES or self._depth > MAX_DEPTH:
                self._words.fail(f"the schema has more than {MAX_NODES} parts or {MAX_DEPTH} levels", place)
            yield
        finally:
            self._depth -= 1

    def _joined(self, shape: Shape, key: str, node: Mapping[str, Any], place: str) -> Shape:
        """The shape and what a keyword like anyOf or enum adds to it."""
        at = pointer(place, key)
        try:
            if key == "allOf":
                for index, member in enumerate(self._words.list(node, key, place)):
                    shape = self._meetings.meet(shape, self._node(member, pointer(at, index)), at)
                return shape
            return self._meetings.meet(shape, self._alternatives(key, node, place), at)
        except CannotHold as error:
            self._words.bad(key, place, f'"{key}": {error}')
            return shape

    def _alternatives(self, key: str, node: Mapping[str, Any], place: str) -> Shape:
        if key == "$ref":
            return self._reference(node, place)
        at = pointer(place, key)
        if key == "const":
            return self._constant(node["const"], at)
        values = self._words.list(node, key, place)
        if not values:
            return ANYTHING
        if key == "enum":
            return _grouped([self._constant(value, pointer(at, index)) for index, value in enumerate(values)])
        arms = [self._value(arm, pointer(at, index)) for index, arm in enumerate(values)]
        if key == "oneOf":
            others = [self._node(arm, pointer(at, index)) for index, arm in enumerate(values)]
            self._one_ofs.append((arms, others, place))
        return either(arms)

    def _constant(self, value: Any, place: str) -> Shape:
        match value:
            case None:
                return Null()
            case bool():
                return Boolean((value,))
            case str():
                return String(values=(value,), place=place)
            case list():
                items = tuple(self._constant(item, pointer(place, at)) for at, item in enumerate(value))
                return possible_array(Array(items, ANYTHING, len(items), len(items), place))
            case dict():
                items_by_name = {name: self._constant(item, pointer(place, name)) for name, item in value.items()}
                nothing = Never("nothing else is allowed", place)
                return Object(items_by_name, tuple(items_by_name), additional=nothing, place=place)
        number = decimal_of(value)
        if number is None:
            raise CannotHold("a value that is no JSON")
        return Number(values=(number,), place=place)

    # ---- one type at a time

    def _typed(self, node: Mapping[str, Any], place: str, implied: Sequence[str]) -> Shape:
        types = self._types(node, place)
        if types is None and not any(node.get(word) is not None for word in _ALL_WORDS):
            return ANYTHING
        return either([self._of_type(name, node, place) for name in types or implied])

    def _types(self, node: Mapping[str, Any], place: str) -> list[str] | None:
        value = node.get("type")
        if value is None:
            return None
        names = value if isinstance(value, list) else [value]
        known = [self._type_name(name) for name in names]
        if "any" in known and self._words.lenient:
            return None
        found = [name for name in known if name in TYPES]
        if len(found) < len(names) or not found:
            self._words.bad("type", place, f'"type" must be one of {", ".join(sorted(TYPES))}, not {shown(value)}')
        return found or None

    def _type_name(self, name: Any) -> str:
        if not isinstance(name, str) or not self._words.lenient:
            return name if isinstance(name, str) else ""
        return _OTHER_NAMES.get(name.lower(), name.lower())

    def _of_type(self, name: str, node: Mapping[str, Any], place: str) -> Shape:
        match name:
            case "null":
                return Null()
            case "boolean":
                return Boolean()
            case "string":
                return self._string(node, place)
            case "array":
                return self._array(node, place)
            case "object":
                return self._objects.read(node, place)
            case _:
                return self._number(node, place, whole=name == "integer")

    def _string(self, node: Mapping[str, Any], place: str) -> Shape:
        low, high = self._words.count(node, "minLength", place), self._words.count(node, "maxLength", place)
        patterns = self._patterns(node, place)
        given = tuple((key, str(node[key])) for key in ("pattern", "format") if patterns and node.get(key) is not None)
        shape = String(low or 0, high, patterns, given=given, place=place)
        possible = possible_string(shape, pointer(place, "minLength"))
        if isinstance(possible, Never) and self._words.lenient:
            self._words.loosen("minLength", place)
            return replace(shape, min_length=0)
        return possible

    def _patterns(self, node: Mapping[str, Any], place: str) -> tuple[str, ...]:
        found: tuple[str, ...] = ()
        pattern, form = node.get("pattern"), format_pattern(node.get("format"))
        if pattern is not None:
            try:
                if not isinstance(pattern, str):
                    raise PatternError("it must be a regular expression")
                found = search_patterns(pattern)
            except PatternError as error:
                self._words.bad("pattern", place, f'"pattern" {shown(pattern)}: {error}')
        return found if form is None else (*found, form)

    def _number(self, node: Mapping[str, Any], place: str, *, whole: bool) -> Shape:
        low = self._bound(node, "minimum", "exclusiveMinimum", place)
        high = self._bound(node, "maximum", "exclusiveMaximum", place)
        multiple = self._words.number(node, "multipleOf", place)
        if multiple is not None and multiple <= 0:
            self._words.bad("multipleOf", place, f'"multipleOf" must be greater than 0, not {multiple}')
            multiple = None
        shape = Number(whole, low, high, multiple, place=place)
        for key, bound, without in (
            ("minimum", low, replace(shape, low=None)),
            ("maximum", high, replace(shape, high=None)),
        ):
            if (why := out_of_reach(shape)) and not out_of_reach(without):
                is_other = (
                    bound is not None and bound.exclusive and node.get(f"exclusive{key.capitalize()}") is not True
                )
                word = f"exclusive{key.capitalize()}" if is_other else key
                self._words.bad(word, place, f'"{word}" {shown(node.get(word))}: {why}')
                shape = without
        possible = possible_number(shape, pointer(place, "minimum"))
        if isinstance(possible, Never) and self._words.lenient:
            self._words.loosen("minimum", place)
            return replace(shape, low=None, high=None)
        return possible

    def _bound(self, node: Mapping[str, Any], key: str, exclusive_key: str, place: str) -> Bound | None:
        exclusive = node.get(exclusive_key)
        value = self._words.number(node, key, place)
        if isinstance(exclusive, bool):  # draft 4
            return None if value is None else Bound(value, exclusive)
        beyond = self._words.number(node, exclusive_key, place)
        if beyond is None or value is None:
            given = beyond if value is None else value
            return None if given is None else Bound(given, value is None)
        is_beyond = beyond >= value if key == "minimum" else beyond <= value
        return Bound(beyond, exclusive=True) if is_beyond else Bound(value)

    def _array(self, node: Mapping[str, Any], place: str) -> Shape:
        low, high = self._words.count(node, "minItems", place), self._words.count(node, "maxItems", place)
        items, key = node.get("items"), "items"
        first: list[Any] = []
        if isinstance(items, list):
            first, items, key = items, node.get("additionalItems"), "additionalItems"
        elif node.get("prefixItems") is not None:
            first = self._words.list(node, "prefixItems", place)
        if node.get("uniqueItems"):
            self._words.loosen("uniqueItems", place)
        if node.get("unevaluatedItems") not in (None, True):
            self._words.loosen("unevaluatedItems", place)
        where = pointer(place, "items" if key == "additionalItems" else "prefixItems")
        shape = Array(
            tuple(self._value(item, pointer(where, index)) for index, item in enumerate(first)),
            ANYTHING if items is None else self._value(items, pointer(place, key)),
            low or 0,
            high,
            place,
        )
        possible = possible_array(shape)
        if isinstance(possible, Never) and self._words.lenient:
            self._words.loosen("minItems", place)
            return possible_array(replace(shape, min_items=0))
        return possible


def _names_types(schema: Any) -> bool:
    """Whether a schema says which types it is about, itself or in its alternatives."""
    if not isinstance(schema, dict):
        return False
    if any(schema.get(key) is not None for key in ("type", "enum", "$ref")) or "const" in schema:
        return True
    lists = [schema.get(key) for key in ("allOf", "anyOf", "oneOf")]
    return any(_names_types(arm) for arms in lists if isinstance(arms, list) for arm in arms)


def _implied_types(schema: Any) -> Sequence[str]:
    """The types whose keywords a schema has; every one when it has none of these."""
    if not isinstance(schema, dict):
        return _EVERY_TYPE
    found = [name for name, words in _WORDS_OF.items() if any(schema.get(word) is not None for word in words)]
    return found or _EVERY_TYPE


def _grouped(shapes: list[Shape]) -> Shape:
    """Constants with all strings, and all numbers, in one."""
    strings = [value for shape in shapes if isinstance(shape, String) for value in shape.values or ()]
    numbers: list[Decimal] = [value for shape in shapes if isinstance(shape, Number) for value in shape.values or ()]
    place = next((shape.place for shape in shapes if isinstance(shape, String | Number)), "#")
    place = place.rpartition("/")[0]
    arms: list[Shape] = [String(values=tuple(dict.fromkeys(strings)), place=place)] if strings else []
    arms += [Number(values=tuple(dict.fromkeys(numbers)), place=place)] if numbers else []
    return either([*arms, *(shape for shape in shapes if not isinstance(shape, String | Number))])
