"""Tools and the arguments of calls as JSON text, in the spellings that prompts use. Shared by the renderers.

All of it is Go's encoding: objects inside other data have sorted keys, `<`, `>` and `&` are escaped (`html`).
`spaced` puts a blank after every comma and colon, as Python's json.dumps does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from corral.core import Tool, ToolCall
from corral.gojson import encode
from corral.prompt.govalues import sorted_maps
from corral.prompt.toolschema import parameters_of


def tool_fields(tool: Tool) -> dict[str, Any]:
    """A whole tool as plain data, keys in Ollama's order."""
    return {"type": tool.type, "function": function_fields(tool)}


def function_fields(tool: Tool) -> dict[str, Any]:
    """Name, description if there is one, and parameters."""
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "parameters": parameters_of(tool).wire()}


def tool_json(tool: Tool, *, spaced: bool = True) -> str:
    """The whole tool."""
    return encode(tool_fields(tool), spaced=spaced)


def parameters_json(tool: Tool, *, html: bool = True, spaced: bool = True) -> str:
    """Only its parameters. What stands in `properties` is escaped even without `html`: Go encodes it beforehand."""
    wire = parameters_of(tool).wire()
    item, colon = (", ", ": ") if spaced else (",", ":")
    pairs = (
        encode(key) + colon + encode(value, html=html or key == "properties", spaced=spaced)
        for key, value in wire.items()
    )
    return "{" + item.join(pairs) + "}"


def arguments_json(call: ToolCall, *, spaced: bool = False) -> str:
    """A call's arguments in the order they were written."""
    return encode({name: sorted_maps(value) for name, value in call.arguments.items()}, spaced=spaced)


def value_json(value: Any, *, html: bool = True, spaced: bool = False) -> str:
    """One decoded JSON value."""
    return encode(sorted_maps(value), html=html, spaced=spaced)


def sorted_arguments(call: ToolCall) -> Iterable[tuple[str, Any]]:
    """A call's arguments by name."""
    return sorted(call.arguments.items())
