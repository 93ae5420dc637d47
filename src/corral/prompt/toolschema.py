"""A tool's JSON schema as Ollama decodes it: the keywords it keeps, typed, in the order it prints them. Pure.

A schema's other keywords are lost to the model there and here; `gorender.schema_notices` tells which.
Source: ollama api/types.go ToolFunctionParameters, ToolProperty, 2026-08.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from corral.core import Tool
from corral.prompt.govalues import sorted_maps


@dataclass(frozen=True, slots=True)
class Property:
    """One property of an object; `properties` is None where the schema has none, which differs from empty."""

    any_of: tuple[Property, ...] = ()
    types: tuple[str, ...] = ()
    items: Any = None
    description: str = ""
    enum: tuple[Any, ...] = ()
    properties: dict[str, Property] | None = None
    required: tuple[str, ...] = ()

    def wire(self) -> dict[str, Any]:
        """Its JSON, keys in Ollama's order; what is empty is left out."""
        nested = self.properties
        return _present(
            anyOf=[choice.wire() for choice in self.any_of] or None,
            type=type_wire(self.types) if self.types else None,
            items=sorted_maps(self.items),
            description=self.description or None,
            enum=sorted_maps(self.enum) or None,
            properties=None if nested is None else {name: prop.wire() for name, prop in nested.items()},
            required=list(self.required) or None,
        )


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a function takes."""

    type: str = ""
    defs: Any = None
    items: Any = None
    required: tuple[str, ...] = ()
    properties: dict[str, Property] | None = None

    def wire(self) -> dict[str, Any]:
        """Its JSON, keys in Ollama's order: `type` and `properties` always, the rest where there is some."""
        optional = _present(
            **{"$defs": sorted_maps(self.defs), "items": sorted_maps(self.items)},
            required=list(self.required) or None,
        )
        nested = self.properties
        properties = None if nested is None else {name: prop.wire() for name, prop in nested.items()}
        return {"type": self.type, **optional, "properties": properties}


def parameters_of(tool: Tool) -> Parameters:
    """The tool's schema, read leniently: the first of several types counts, a keyword of a wrong type does not."""
    schema = tool.parameters
    return Parameters(
        next(iter(_types(schema.get("type"))), ""),
        schema.get("$defs"),
        schema.get("items"),
        _texts(schema.get("required")),
        _properties(schema.get("properties")),
    )


def type_wire(types: tuple[str, ...]) -> Any:
    """A property's type in JSON: one name bare, several as a list."""
    return types[0] if len(types) == 1 else list(types)


def _property(schema: Any) -> Property:
    if not isinstance(schema, Mapping):
        return Property()
    any_of, enum = schema.get("anyOf"), schema.get("enum")
    return Property(
        tuple(map(_property, any_of)) if isinstance(any_of, list) else (),
        _types(schema["type"]) if "type" in schema else (),
        schema.get("items"),
        _text(schema.get("description")),
        tuple(enum) if isinstance(enum, list) else (),
        _properties(schema.get("properties")),
        _texts(schema.get("required")),
    )


def _properties(value: Any) -> dict[str, Property] | None:
    return {str(name): _property(item) for name, item in value.items()} if isinstance(value, Mapping) else None


def _types(value: Any) -> tuple[str, ...]:
    """A null is one type without a name: Go decodes it as an empty string."""
    return _texts(value) if isinstance(value, list) else (_text(value),)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, value)) if isinstance(value, list) else ()


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
