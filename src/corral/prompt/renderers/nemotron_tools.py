"""What Nemotron is told of tools, and values as its template prints them: Python's words, Go's quotes.

Source: ollama model/renderers/nemotron3nano.go, 2026-08.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from corral.core import Tool
from corral.gojson import encode
from corral.goquote import quote
from corral.prompt.govalues import printed, sorted_maps, trim_space
from corral.prompt.renderers.qwencalls import HOW_TO_CALL
from corral.prompt.toolschema import Property, parameters_of

_WORDS = {None: "None", True: "True", False: "False"}


def declare_tools(tools: Sequence[Tool]) -> str:
    """The section on tools of the system message."""
    listed = "".join(map(_function, tools))
    return f"# Tools\n\nYou have access to the following functions:\n\n<tools>{listed}\n{HOW_TO_CALL}"


def template_value(value: Any) -> str:
    """Lists and objects as JSON, the rest as Python's str() has it."""
    if isinstance(value, dict | list):
        return _json(sorted_maps(value))
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    return printed(value)


def _function(tool: Tool) -> str:
    schema = parameters_of(tool)
    fields = [f"<name>{tool.name}</name>"]
    if tool.description:
        fields.append(f"<description>{trim_space(tool.description)}</description>")
    fields.append("<parameters>")
    for name, prop in (schema.properties or {}).items():
        fields += ["<parameter>", f"<name>{name}</name>", *_property(prop), "</parameter>"]
    extra = {"$defs": schema.defs, "items": schema.items}
    fields += [f"<{key}>{template_value(value)}</{key}>" for key, value in extra.items() if value is not None]
    if schema.required:
        fields.append(f"<required>{_json(list(schema.required))}</required>")
    return "\n" + "\n".join(["<function>", *fields, "</parameters>", "</function>"])


def _property(prop: Property) -> Iterator[str]:
    if prop.types:
        yield f"<type>{_type(prop.types)}</type>"
    if prop.description:
        yield f"<description>{trim_space(prop.description)}</description>"
    wire = prop.wire()
    for key in ("enum", "anyOf", "items", "properties", "required"):
        if key in wire:
            yield f"<{key}>{_json(wire[key])}</{key}>"


def _type(types: Sequence[str]) -> str:
    return types[0] if len(types) == 1 else "[" + ", ".join(f"'{name}'" for name in types) + "]"


def _json(value: Any) -> str:
    """JSON with blanks, whose strings are quoted as Go does in its sources."""
    match value:
        case str():
            return quote(value)
        case dict():
            return "{" + ", ".join(f"{quote(key)}: {_json(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_json, value)) + "]"
        case _:
            return encode(value)
