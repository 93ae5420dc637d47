"""Calls as JSON objects, in the spellings that models use: which function one names, which arguments it brings.

`toolcalls.py` reads answers with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from corral.answer.callpieces import members_of, record_head
from corral.answer.jsontext import Unreadable, loads

_NAME_KEYS = ("name", "function", "tool", "tool_name")
_ARGUMENT_KEYS = ("arguments", "parameters")
_MAX_NESTING = 8  # levels of wrapping around a call, as in {"tool_calls": [{"function": {...}}]}

CALL_HEAD = record_head("|".join(_ARGUMENT_KEYS))
"""What a call looks like whose arguments have just begun."""


def named_by(head: re.Match[str], names: frozenset[str]) -> str:
    """The function that a call's first members name, as `calls_in` finds it in all of them; "" for none of `names`."""
    members = members_of(head)
    name = next((members[key] for key in _NAME_KEYS if isinstance(members.get(key), str)), "")
    return name if name in names else ""


def loads_object(text: str) -> dict[str, Any] | None:
    """A JSON object, or None for anything else; never raises."""
    try:
        value = loads(text)
    except Unreadable:
        return None
    return value if isinstance(value, dict) else None


def calls_in(text: str, before: str, names: frozenset[str]) -> list[tuple[str, dict[str, Any]]]:
    """The calls in one JSON object: it names its function, or the text before it does."""
    data = loads_object(text)
    if data is None:
        return []
    found = _search(data, names, _MAX_NESTING)
    if found or any(isinstance(data.get(key), str) for key in _NAME_KEYS):
        return found or []
    named = [(before.rfind(name) + len(name), len(name), name) for name in names if name and name in before]
    if not named:
        return []
    arguments = _arguments(data)
    return [(max(named)[2], data if arguments is None else arguments)]


def _search(data: Any, names: frozenset[str], depth: int) -> list[tuple[str, dict[str, Any]]] | None:
    """Calls anywhere in decoded JSON; None when a part of it calls something unknown."""
    if depth == 0 or not isinstance(data, dict | list):
        return []
    if isinstance(data, dict):
        own = _own_call(data, names)
        if own is not None:
            return own or None
    found: list[tuple[str, dict[str, Any]]] = []
    for value in data.values() if isinstance(data, dict) else data:
        inner = _search(value, names, depth - 1)
        if inner is None:
            return None
        found += inner
    return found


def _own_call(data: Mapping[str, Any], names: frozenset[str]) -> list[tuple[str, dict[str, Any]]] | None:
    """The call an object is; [] when it names an unknown function or has no arguments; None when it names none."""
    for key in _NAME_KEYS:
        name = data.get(key)
        if not isinstance(name, str):
            continue
        if name not in names:
            return [] if key == "name" else None
        arguments = _arguments(data)
        if arguments is None and set(data) <= {key, "type", "id"}:
            arguments = {}
        return [] if arguments is None else [(name, arguments)]
    for name in names & data.keys():
        value = data[name]
        arguments = value if isinstance(value, dict) else loads_object(value) if isinstance(value, str) else None
        if arguments is not None:
            return [(name, arguments)]
    return None


def _arguments(data: Mapping[str, Any]) -> dict[str, Any] | None:
    for key in _ARGUMENT_KEYS:
        value = data.get(key)
        if isinstance(value, dict):
            return value
        if isinstance(value, str):
            decoded = loads_object(value)
            if decoded is not None:
                return decoded
    return None
