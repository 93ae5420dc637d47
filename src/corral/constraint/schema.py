"""Checks JSON schemas and regular expressions before the engine compiles them. `checks.py` and `fields.py` call it.

The engine answers a schema that it cannot compile with an unconstrained run and a line in its log, so whatever it
would refuse must be refused here. What it knows: llguidance's JSON schema subset, tried keyword by keyword.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn

from corral.core import Notice
from corral.errors import InvalidRequest
from corral.gojson import encode

MAX_SCHEMA_BYTES = 256 * 1024
MAX_NODES = 5000  # subschemas: some ten times the largest published tool set
MAX_DEPTH = 48
MAX_REPEAT = 20_000  # lengths and counts; each costs the engine states
MAX_PATTERN = 4096  # characters
_TYPES = frozenset(("string", "number", "integer", "boolean", "array", "object", "null"))
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "unknown")
)
_REFUSED = frozenset(
    ("not", "if", "then", "else", "contains", "minContains", "maxContains", "dependentRequired", "dependentSchemas")
) | {"dependencies", "$dynamicRef", "$recursiveRef"}
# Generators write these by themselves, and without them the answer is still of the right shape: said, not refused.
_LOOSENED = frozenset(("uniqueItems", "propertyNames", "unevaluatedProperties", "unevaluatedItems"))
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLES = ("items", "additionalProperties", "additionalItems")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_PAIRS = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties"))
_FOREIGN = re.compile(r"\\[pP](?:\{[^{}]*\}|[A-Za-z])|\\[xu]\{[0-9a-fA-F]+\}|\[:\^?[a-z]+:\]")
_UNSUPPORTED = re.compile(r"\(\?(?:[=!>(#]|<[=!])|\\[1-9bBAzZGkK]|\(\?P=")


class SchemaCheck:
    """One walk over one schema: refuses what cannot be enforced, collects what is only loosened."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._nodes = 0
        self._root: Any = None
        self.loosened: dict[str, list[str]] = {}  # keyword → places

    def clean(self, schema: Any) -> Any:
        """A copy that the engine compiles; raises InvalidRequest naming keyword and place."""
        if not isinstance(schema, dict | bool):
            self._fail("the schema must be an object", "#")
        if schema is False:
            self._fail("a schema that is false matches nothing", "#")
        if len(encode(schema)) > MAX_SCHEMA_BYTES:
            self._fail(f"the schema is larger than {MAX_SCHEMA_BYTES} bytes", "#")
        self._root = schema
        return self._node(schema, "#", 0)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What the answer is not held to."""
        if not self.loosened:
            return ()
        words = "; ".join(f"{keyword} at {', '.join(places)}" for keyword, places in self.loosened.items())
        text = f"the answer is not held to these parts of the schema: {words}"
        return (Notice("schema_not_enforced", text, {"keywords": self.loosened}),)

    def _fail(self, why: str, place: str) -> NoReturn:
        raise InvalidRequest(f"invalid {self._field}: {why} (at {place})", field=self._field)

    def _node(self, schema: Any, place: str, depth: int) -> Any:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            self._fail("a schema must be an object or a boolean", place)
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            self._fail(f"the schema has more than {MAX_NODES} parts or {MAX_DEPTH} levels", place)
        self._values(schema, place)
        kept: dict[str, Any] = {}
        for key, value in schema.items():
            if key in _REFUSED:
                self._fail(f'"{key}" is not supported', place)
            if self._is_loose(key, value):
                if value is not False or key.startswith("unevaluated"):
                    self.loosened.setdefault(key, []).append(place)
                continue
            kept[key] = self._child(key, value, f"{place}/{key}", depth + 1)
        return kept

    def _is_loose(self, key: str, value: Any) -> bool:
        return key in _LOOSENED or (key == "format" and not (isinstance(value, str) and value in _FORMATS))

    def _child(self, key: str, value: Any, place: str, depth: int) -> Any:
        if key in _MAPS:
            if not isinstance(value, dict):
                self._fail(f'"{key}" must be an object', place)
            return {name: self._node(child, f"{place}/{name}", depth) for name, child in value.items()}
        if key in _LISTS or (key == "items" and isinstance(value, list)):
            if not isinstance(value, list) or not value:
                self._fail(f'"{key}" must be a list that is not empty', place)
            return [self._node(child, f"{place}/{i}", depth) for i, child in enumerate(value)]
        if key in _SINGLES:
            return self._node(value, place, depth)
        return value

    def _values(self, schema: Mapping[str, Any], place: str) -> None:
        """The keywords whose value is not a schema."""
        types = schema.get("type", [])
        for name in types if isinstance(types, list) else [types]:
            if not isinstance(name, str) or name not in _TYPES:
                self._fail(f'"type" must be one of {", ".join(sorted(_TYPES))}', place)
        required = schema.get("required", [])
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            self._fail('"required" must be a list of names', place)
        if "enum" in schema and not (isinstance(schema["enum"], list) and schema["enum"]):
            self._fail('"enum" must be a list that is not empty', place)
        if "$ref" in schema:
            self._reference(schema["$ref"], place)
        for pattern in (schema.get("pattern"), *_names(schema.get("patternProperties"))):
            if pattern is not None:
                check_pattern(pattern, f'{self._field}: "pattern" at {place}', self._field)
        self._bounds(schema, place)

    def _bounds(self, schema: Mapping[str, Any], place: str) -> None:
        for key in _COUNTS:
            value = schema.get(key, 0)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_REPEAT:
                self._fail(f'"{key}" must be a whole number from 0 to {MAX_REPEAT}', place)
        for key in _NUMBERS:
            value = schema.get(key, 0)
            if isinstance(value, bool) or not isinstance(value, int | float):
                self._fail(f'"{key}" must be a number', place)
        for low, high in (*_PAIRS, ("minimum", "maximum")):
            if low in schema and high in schema and schema[low] > schema[high]:
                self._fail(f'"{low}" is greater than "{high}"', place)

    def _reference(self, reference: Any, place: str) -> None:
        if not isinstance(reference, str) or not reference.startswith("#"):
            self._fail('"$ref" must point into the schema itself ("#/$defs/…")', place)
        target = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, dict) else None
        if not isinstance(target, dict | bool):
            self._fail(f'"$ref" {reference} does not exist', place)


def _names(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else []


def check_pattern(pattern: Any, what: str, field: str) -> str:
    """The regular expression, if the engine's matcher takes it; raises InvalidRequest. `what` begins the message."""

    def fail(why: str) -> NoReturn:
        raise InvalidRequest(f"invalid {what}: {why}", field=field)

    if not isinstance(pattern, str) or not pattern:
        fail("must be a regular expression")
    if len(pattern) > MAX_PATTERN:
        fail(f"longer than {MAX_PATTERN} characters")
    plain = pattern.replace("\\\\", "")
    found = _UNSUPPORTED.search(plain)
    if found is not None:
        fail(f"{found.group()} (look-around, back-references and boundaries) is not supported")
    try:
        # Python's grammar is close enough to catch what no engine takes; classes only Rust knows are put aside.
        re.compile(_FOREIGN.sub("a", pattern).replace("(?<", "(?P<"))
    except (re.error, RecursionError, OverflowError) as error:
        fail(str(error))
    if any(int(number) > MAX_REPEAT for number in re.findall(r"\{(\d+)", plain) + re.findall(r",(\d+)\}", plain)):
        fail(f"repeats more than {MAX_REPEAT} times")
    return pattern
