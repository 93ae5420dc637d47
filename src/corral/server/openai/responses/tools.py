"""Tools of the Responses API as the shared nouns of core.py, and their names back. Pure.

Tools may lie in namespaces (Codex: its MCP servers, its sub-agents). The model sees one name, `namespace.tool`, in the
list and in the history; calls go back with both parts. Source: ollama openai/responses.go, 2026-08; OpenAI's SDK types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from corral.api.bodies import text_at
from corral.core import Notice, Tool
from corral.errors import InvalidRequest
from corral.server.openai.messages import make_tool

_HABITUAL = ("web_search", "web_search_preview")  # agents offer it beside their own tools, whatever the model


class OfferedTools:
    """The tools of a request. `tools`: those that can be called here."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}  # by full name; the first of a name counts
        self._parts: dict[str, tuple[str, str]] = {}  # full name -> namespace, name
        self._missing: list[str] = []  # types that need a cloud, or a grammar of their own

    @property
    def tools(self) -> tuple[Tool, ...]:
        """In the order offered."""
        return tuple(self._tools.values())

    def add(self, items: Sequence[Any], namespace: str = "") -> None:
        """Read entries of `tools`; raises InvalidRequest naming the entry that cannot be read."""
        for number, item in enumerate(items):
            where = f"tools[{number}]"
            if not isinstance(item, Mapping):
                raise InvalidRequest(f"{where}: expected an object", field="tools")
            kind, name = text_at(item, "type", where), text_at(item, "name", where)
            if kind == "namespace" and isinstance(item.get("tools"), list):
                self.add(item["tools"], name)
            elif kind == "function" and name:
                full = full_name(namespace, name)
                tool = make_tool(full, item.get("description"), item.get("parameters"), where)
                self._tools.setdefault(full, tool)
                self._parts[full] = (namespace, name)
            else:
                self._missing.append(kind)

    def notices(self) -> list[Notice]:
        """Names the kinds of tools that are not to be had here."""
        told = [kind for kind in self._missing if kind not in _HABITUAL or not self._tools]
        return [Notice("tool_ignored", f'tool of type "{kind}" is not available here', {"tool": kind}) for kind in told]

    def parts_of(self, full: str) -> tuple[str, str]:
        """(namespace or "", name) of a tool that the model has called."""
        return self._parts.get(full, ("", full))


def full_name(namespace: str, name: str) -> str:
    """The one name that the model sees."""
    prefix = f"{namespace}." if namespace else ""
    return name if name.startswith(prefix) else prefix + name


def joined_choice(choice: Any) -> Any:
    """A `tool_choice`, its tools by the names that the model sees."""
    if isinstance(choice, list):
        return [joined_choice(item) for item in choice]
    if not isinstance(choice, Mapping):
        return choice
    joined = {**choice, **({"tools": joined_choice(choice["tools"])} if "tools" in choice else {})}
    if isinstance(choice.get("namespace"), str) and isinstance(choice.get("name"), str):
        joined["name"] = full_name(choice["namespace"], choice["name"])
    return joined
