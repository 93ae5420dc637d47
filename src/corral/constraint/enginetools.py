"""Tools' schemas as the engine's own converter can take them. Pure; `inference/` calls it for the engine's templates.

Where the engine renders the prompt it also makes a grammar of the tools' schemas, by a converter of its own. That one
takes all memory for bounds the wrong way around, fails the request for a keyword that is null, and leaves out in
silence what it does not know. The model reads the same schemas in its prompt, so they are changed as little as can be:
what the converter cannot take goes, what it leaves out stays and is told.

Source: llama.cpp common/json-schema.cpp, json-schema-to-grammar.cpp, 2026-10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from corral.constraint.keywords import pointer
from corral.constraint.patterns import PatternError, search_patterns
from corral.core import Notice, Tool

_MOST_DIGITS = 15  # of an integer's bounds
_MOST_REPEATED = 600  # items or characters at least; a grammar with more is refused
_LARGEST_INT = 2**31 - 1
_MOST_TIMES = 2000  # all repetitions of a pattern multiplied
_MOST_NODES = 3000
_MOST_LEVELS = 48
_LONGEST_NAME = 256  # of a property; llama.cpp's regular expressions recurse over it
_TYPES = ("null", "boolean", "number", "integer", "string", "array", "object")
_OTHER_TYPES = {"int": "integer", "float": "number", "double": "number", "str": "string", "bool": "boolean"} | {
    "dict": "object",
    "list": "array",
}
_MAPS = ("properties", "$defs", "definitions", "patternProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_UNKNOWN = (
    *("not", "if", "contains", "dependentRequired", "dependentSchemas", "dependencies", "patternProperties"),
    *("propertyNames", "minProperties", "maxProperties", "multipleOf", "unevaluatedProperties", "unevaluatedItems"),
)
_BRACES = re.compile(r"\{(\d*),?(\d*)\}")
_UNQUOTABLE = re.compile(r'[\]\^\\"-]')


def convertible(tools: Sequence[Tool]) -> tuple[tuple[Tool, ...], tuple[Notice, ...]]:
    """The tools with schemas that the converter takes, and which of their parts it does not hold."""
    made, notices = [], []
    for tool in tools:
        cleaner = _Cleaner()
        parameters = cleaner.clean(tool.parameters)
        made.append(replace(tool, parameters=parameters))
        if cleaner.loose:
            words = "; ".join(f"{keyword} at {', '.join(places)}" for keyword, places in cleaner.loose.items())
            text = f'calls of "{tool.name}" are not held to these parts of its schema: {words}'
            facts = {"tool": tool.name, "keywords": cleaner.loose}
            notices.append(Notice("tool_schema_not_enforced", text, facts))
    return tuple(made), tuple(notices)


def bare(tools: Sequence[Tool]) -> tuple[tuple[Tool, ...], tuple[Notice, ...]]:
    """The tools with nothing to convert, for an engine that refuses the others all the same."""
    text = "the engine refuses the tools' schemas; the model is told of the tools without them"
    notice = Notice("tool_schema_not_enforced", text, {"tools": [tool.name for tool in tools]})
    return tuple(replace(tool, parameters={"type": "object"}) for tool in tools), (notice,)


class _Cleaner:
    """One walk over one schema."""

    def __init__(self) -> None:
        self.loose: dict[str, list[str]] = {}  # keyword → places
        self._nodes = 0
        self._known: set[int] = set()  # cleaned schemas, by identity

    def clean(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The schema; `{"type": "object"}` when there is too much of it."""
        if not parameters:
            return {}
        root = self._node({**parameters, "type": "object"}, "#", 0)
        if self._nodes > _MOST_NODES:
            self.loose = {"schema": ["#"]}
            return {"type": "object"}
        self._references(root)
        return root

    def _lose(self, keyword: str, place: str) -> None:
        places = self.loose.setdefault(keyword, [])
        if place not in places:
            places.append(place)

    def _node(self, schema: Any, place: str, level: int) -> dict[str, Any]:
        self._nodes += 1
        if not isinstance(schema, dict) or level > _MOST_LEVELS or self._nodes > _MOST_NODES:
            if schema is not True:
                self._lose("schema", place)
            schema = {}
        made = {key: value for key, value in schema.items() if value is not None or key in ("const", "default")}
        for key in _UNKNOWN:
            if made.get(key) not in (None, False):
                self._lose(key, place)
        self._types(made, place)
        self._lists(made, place, level)
        self._maps(made, place, level)
        self._numbers(made, place)
        self._counts(made, place)
        self._strings(made, place)
        self._combinations(made, place)
        self._known.add(id(made))
        return made

    def _types(self, node: dict[str, Any], place: str) -> None:
        given = node.get("type")
        if given is None:
            return
        names = given if isinstance(given, list) else [given]
        known = [_OTHER_TYPES.get(name.lower(), name.lower()) for name in names if isinstance(name, str)]
        found = [name for name in known if name in _TYPES]
        if len(found) < len(names) and known != ["any"]:
            self._lose("type", place)
        del node["type"]
        if found:
            node["type"] = found if isinstance(given, list) and len(found) > 1 else found[0]

    def _lists(self, node: dict[str, Any], place: str, level: int) -> None:
        for key in (*_LISTS, "enum"):
            if key in node and not (isinstance(node[key], list) and node[key]):
                self._remove(node, key, place)
        for key in (*_LISTS, "items"):
            if isinstance(node.get(key), list):
                at = pointer(place, key)
                node[key] = [self._node(one, pointer(at, index), level + 1) for index, one in enumerate(node[key])]

    def _maps(self, node: dict[str, Any], place: str, level: int) -> None:
        for key in _MAPS:
            if isinstance(node.get(key), dict):
                node[key] = self._map(node[key], pointer(place, key), level + 1)
            elif key in node:
                self._remove(node, key, place)
        for key in ("items", "additionalProperties"):
            if isinstance(node.get(key), dict):
                node[key] = self._node(node[key], pointer(place, key), level + 1)
        if node.get("items") is True:
            del node["items"]
        elif "items" in node and not isinstance(node["items"], dict | list):
            self._remove(node, "items", place)
        self._required(node, place)

    def _map(self, schemas: Mapping[str, Any], place: str, level: int) -> dict[str, Any]:
        made = {}
        for name, schema in schemas.items():
            if len(name) > _LONGEST_NAME:
                self._lose("properties", place)
            else:
                made[name] = self._node(schema, pointer(place, name), level)
        return made

    def _required(self, node: dict[str, Any], place: str) -> None:
        if "required" in node and not isinstance(node["required"], list):
            del node["required"]
        additional = node.get("additionalProperties")
        if additional is not None and not isinstance(additional, bool | dict):
            self._remove(node, "additionalProperties", place)
        names = node.get("properties") or {}
        if additional not in (None, False) and any(_UNQUOTABLE.search(name) for name in names):
            node["additionalProperties"] = False

    def _remove(self, node: dict[str, Any], key: str, place: str) -> None:
        del node[key]
        self._lose(key, place)

    def _numbers(self, node: dict[str, Any], place: str) -> None:
        for key in (*_BOUNDS, *_COUNTS):
            value = node.get(key)
            if isinstance(value, float) and value.is_integer() and abs(value) < 10**_MOST_DIGITS:
                node[key] = int(value)
        for key in ("Minimum", "Maximum"):
            if isinstance(node.get(f"exclusive{key}"), bool):
                self._draft_4(node, key)
        self._bounds(node, place)

    def _counts(self, node: dict[str, Any], place: str) -> None:
        for key in _COUNTS:
            value = node.get(key, 0)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                self._remove(node, key, place)
            elif value > (_LARGEST_INT if key == "maxLength" else _MOST_REPEATED):
                del node[key]
                if key.startswith("min"):
                    self._lose(key, place)
        for low, high in (("minLength", "maxLength"), ("minItems", "maxItems")):
            if high in node and node.get(low, 0) > node[high]:
                self._remove(node, low, place)
                self._remove(node, high, place)
        if node.get("uniqueItems") is True:
            self._lose("uniqueItems", place)

    def _draft_4(self, node: dict[str, Any], key: str) -> None:
        """There, `exclusiveMinimum` says whether `minimum` is."""
        exclusive = node.pop(f"exclusive{key}")
        if exclusive and key.lower() in node:
            node[f"exclusive{key}"] = node.pop(key.lower())

    def _bounds(self, node: dict[str, Any], place: str) -> None:
        for key in _BOUNDS:
            value = node.get(key)
            if value is None:
                continue
            if _is_any_number(key, value):
                del node[key]
            elif isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= 10**_MOST_DIGITS:
                self._remove(node, key, place)
            elif "number" in _type_list(node):
                self._lose(key, place)
        low, high = (
            max((node[key] for key in ("minimum", "exclusiveMinimum") if key in node), default=None),
            min((node[key] for key in ("maximum", "exclusiveMaximum") if key in node), default=None),
        )
        exclusive = 1 if "exclusiveMinimum" in node or "exclusiveMaximum" in node else 0
        if low is not None and high is not None and low + 2 * exclusive > high:
            for key in _BOUNDS:
                if key in node:
                    self._remove(node, key, place)

    def _strings(self, node: dict[str, Any], place: str) -> None:
        if "format" in node and not isinstance(node["format"], str):
            del node["format"]
        if "pattern" not in node:
            return
        pattern = node["pattern"]
        if not _is_harmless(pattern):
            self._remove(node, "pattern", place)
            return
        if not (pattern.startswith("^") and pattern.endswith("$")):
            self._lose("pattern", place)  # the converter takes any string then
        for key in ("minLength", "maxLength"):
            if key in node:
                self._lose(key, place)

    def _combinations(self, node: dict[str, Any], place: str) -> None:
        """The converter looks at one keyword of a kind: references, then alternatives, then properties."""
        members = node.get("allOf")
        if members and len(members) == 1 and not set(members[0]) & set(node):
            del node["allOf"]
            node.update(members[0])
        elif members and not all(_is_object(member) for member in members):
            self._remove(node, "allOf", place)
        for key in ("anyOf", "oneOf"):
            if key in node and ("properties" in node or "allOf" in node):
                self._remove(node, key, place)

    # ---- references

    def _references(self, root: dict[str, Any]) -> None:
        """Take out references that lead nowhere, or back without a step into a value."""
        todo: list[tuple[Any, str]] = [(root, "#")]
        while todo:
            current, at = todo.pop()
            if isinstance(current, dict):
                if id(current) in self._known and "$ref" in current and not self._leads_on(current, root):
                    self._remove(current, "$ref", at)
                todo += [(child, pointer(at, name)) for name, child in current.items() if name not in ("enum", "const")]
            elif isinstance(current, list):
                todo += [(child, pointer(at, index)) for index, child in enumerate(current)]

    def _leads_on(self, node: dict[str, Any], root: dict[str, Any]) -> bool:
        """Whether a reference has a target from which none of the alternatives leads back to it."""
        target = _target(node["$ref"], root)
        if target is None or id(target) not in self._known:
            return False
        seen: set[int] = set()
        todo = [target]
        while todo:
            current = todo.pop()
            if current is node:
                return False
            if id(current) in seen:
                continue
            seen.add(id(current))
            todo += [arm for key in ("anyOf", "oneOf", "allOf") for arm in current.get(key) or ()]
            if "$ref" in current and (further := _target(current["$ref"], root)) is not None:
                todo.append(further)
        return True


def _is_any_number(key: str, value: Any) -> bool:
    """Whether a bound lies farther out than numbers that are meant, as clients say "any safe integer"."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    far: int = 10**_MOST_DIGITS
    return bool(value >= far if key.endswith("aximum") else value <= -far)


def _type_list(node: Mapping[str, Any]) -> list[Any]:
    given = node.get("type")
    return given if isinstance(given, list) else [given]


def _is_object(schema: Mapping[str, Any]) -> bool:
    return "properties" in schema or "$ref" in schema or schema.get("type") == "object"


def _is_harmless(pattern: Any) -> bool:
    """Whether a pattern can be written out: sound, and not repeated too often."""
    if not isinstance(pattern, str):
        return False
    try:
        search_patterns(pattern)
    except PatternError:
        return False
    times = 1
    for least, most in _BRACES.findall(pattern):
        times *= max(int(least or 0), int(most or 0), 1)
    return times <= _MOST_TIMES


def _target(reference: Any, root: dict[str, Any]) -> dict[str, Any] | None:
    """Where a reference leads, by the converter's own reading of pointers."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    target: Any = root
    for part in reference[2:].split("/"):
        if isinstance(target, list) and part.isdecimal() and int(part) < len(target):
            target = target[int(part)]
        elif isinstance(target, dict) and part in target:
            target = target[part]
        else:
            return None
    return target if isinstance(target, dict) else None
