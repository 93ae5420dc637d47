"""Gemma 4's declarations of tools: JSON schemas in its own spelling. Source: ollama model/renderers/gemma4.go, 2026-08.

Properties come as a tool declares them (typed) or from inside `items` (plain JSON, as it came); both are written from
plain data here. Odd as some of it is, it is what the model's makers' template prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from corral.core import Tool
from corral.prompt.govalues import printed, upper
from corral.prompt.renderers.gemmavalues import write_value
from corral.prompt.toolschema import Property, parameters_of

QUOTE = '<|"|>'
_KEYWORDS = frozenset(("description", "type", "properties", "required", "nullable"))  # never names of properties here


def declaration(tool: Tool) -> str:
    """A tool as the model is told of it."""
    schema = parameters_of(tool)
    fields: list[str] = []
    if schema.properties:
        fields.append(f"properties:{{{_properties(_plain_properties(schema.properties))}}}")
    if schema.required:
        fields.append(f"required:{_names(schema.required)}")
    if schema.type:
        fields.append(f"type:{_quoted(upper(schema.type))}")
    has_schema = schema.properties is not None or bool(schema.type)
    parameters = f",parameters:{{{','.join(fields)}}}" if has_schema else ""
    return f"<|tool>declaration:{tool.name}{{description:{_quoted(tool.description)}{parameters}}}<tool|>"


def _plain_properties(properties: Mapping[str, Property]) -> dict[str, Any]:
    return {name: _plain(prop) for name, prop in properties.items()}


def _plain(prop: Property) -> dict[str, Any]:
    """A declared property as plain data."""
    types = prop.types or _union(prop)
    plain: dict[str, Any] = {}
    if types:
        plain["type"] = types[0] if len(types) == 1 else "[" + ", ".join(f"'{upper(name)}'" for name in types) + "]"
    if prop.description:
        plain["description"] = prop.description
    if prop.enum:
        plain["enum"] = list(prop.enum)
    if prop.items is not None:
        plain["items"] = prop.items
    if prop.properties is not None:
        plain["properties"] = _plain_properties(prop.properties)
    if prop.required:
        plain["required"] = list(prop.required)
    return plain


def _union(prop: Property) -> tuple[str, ...]:
    """The types of an anyOf whose choices are nothing but types; else none."""
    if not all(choice.types and choice == Property(types=choice.types) for choice in prop.any_of):
        return ()
    return tuple(dict.fromkeys(name for choice in prop.any_of for name in choice.types))


def _properties(properties: Mapping[str, Any]) -> str:
    return ",".join(
        f"{name}:{{{','.join(_property(schema))}}}"
        for name, schema in sorted(properties.items())
        if name not in _KEYWORDS and isinstance(schema, Mapping)
    )


def _property(schema: Mapping[str, Any]) -> list[str]:
    types = _type_names(schema.get("type"))
    kind = types[0] if types else ""
    fields: list[str] = []
    description = schema.get("description")
    if isinstance(description, str) and description:
        fields.append(f"description:{_quoted(description)}")
    enum, items = schema.get("enum"), schema.get("items")
    if kind == "STRING" and isinstance(enum, list) and enum:
        fields.append(f"enum:[{','.join(_quoted(printed(value)) for value in enum)}]")
    if kind == "ARRAY" and isinstance(items, Mapping) and items:
        fields.append(f"items:{{{','.join(_item_fields(items))}}}")
    if schema.get("nullable") is True:
        fields.append("nullable:true")
    if kind == "OBJECT":
        nested = schema.get("properties")
        fields.append(f"properties:{{{_properties(nested if isinstance(nested, Mapping) else schema)}}}")
        required = _texts(schema.get("required"))
        fields += [f"required:{_names(required)}"] if required else []
    return [*fields, *([_types(types)] if types else [])]


def _item_fields(items: Mapping[str, Any]) -> list[str]:
    """What an array holds; a `type` that is none leaves an empty field."""
    fields: list[str] = []
    for key, value in sorted(items.items()):
        if value is None:
            continue
        if key == "properties":
            fields.append(f"properties:{{{_properties(value) if isinstance(value, Mapping) else ''}}}")
        elif key == "required":
            fields.append(f"required:{_names(_texts(value))}")
        elif key == "type":
            fields.append(_types(_type_names(value)))
        else:
            fields.append(f"{key}:{write_value(value, QUOTE, key_quote=QUOTE)}")
    return fields


def _types(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"type:{_quoted(names[0]) if len(names) == 1 else _names(names)}"


def _type_names(value: Any) -> list[str]:
    return [upper(name) for name in ([value] if isinstance(value, str) else _texts(value))]


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _names(names: Sequence[str]) -> str:
    return f"[{','.join(map(_quoted, names))}]"


def _quoted(text: str) -> str:
    return QUOTE + text + QUOTE
