"""The harmony format of gpt-oss: its markers, its headers, the names it allows functions. parsers/harmony.py reads it.

Source: ollama harmony/harmonyparser.go, 2026-08.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from corral.core import Tool
from corral.gotemplate import Template

START, END, MESSAGE, CHANNEL, CONSTRAIN = "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>"
PRESERVED_TOKENS = (START, END, MESSAGE, CHANNEL, CONSTRAIN)
_BUILT_IN = frozenset(("browser.open", "browser.search", "browser.find", "python"))


def uses_harmony(family: str, template: Template) -> bool:
    """Whether a model speaks harmony: family gptoss or gpt-oss and both markers in its template."""
    return family in ("gptoss", "gpt-oss") and template.contains(START) and template.contains(END)


class FunctionNames:
    """Functions under names that harmony allows, and back."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._original: dict[str, str] = {}
        self.tools = tuple(replace(tool, name=self._add(tool.name)) for tool in tools)

    def original(self, name: str) -> str:
        """The client's name of a function the model called."""
        return self._original.get(name, name)

    def _add(self, name: str) -> str:
        base = name if name in _BUILT_IN else _identifier(name)
        candidate, count = base, 2
        while candidate in self._original:
            candidate = f"{base}_{count}"
            count += 1
        self._original[candidate] = name
        return candidate


def _identifier(name: str) -> str:
    replaced = ("_" if char in " -." else char for char in name)
    kept = "".join(char for char in replaced if char.isalpha() or char.isdigit() or char in "_$")
    if not kept:
        return "unnamed"
    return "_" + kept if kept[0].isdigit() else kept


@dataclass(frozen=True, slots=True)
class Header:
    """What stands between the start and the message marker."""

    role: str = ""
    channel: str = ""
    recipient: str = ""


def parse_header(raw: str) -> Header:
    """Role, channel and recipient of a header."""
    raw = raw.replace(CONSTRAIN, " " + CONSTRAIN, 1).strip()
    before, found, after = raw.partition(CHANNEL)
    channel = ""
    if found:
        channel = after.split(maxsplit=1)[0] if after and not after[0].isspace() else ""
        raw = (before + after[len(channel) :]).strip()
    words = raw.split()
    if not words:
        return Header(channel=channel)
    role, rest = words[0], words[1:]
    if role.startswith("to="):
        return Header("tool", channel, role[3:])
    recipient = rest[0][3:] if rest and rest[0].startswith("to=") else ""
    return Header(role, channel, recipient)
