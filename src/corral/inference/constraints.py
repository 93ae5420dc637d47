"""A request's constraint as fields of the engine's two endpoints. Called by the two ways; grammars by prompt/."""

from __future__ import annotations

from typing import Any

from corral.core import Constraint


def completion_constraint(constraint: Constraint | None) -> dict[str, Any]:
    """Fields of /completion."""
    if constraint is None:
        return {}
    if constraint.kind == "json":
        return {"json_schema": {"type": "object"}}
    return {"json_schema": constraint.value}


def chat_constraint(constraint: Constraint | None) -> dict[str, Any]:
    """Fields of /v1/chat/completions."""
    if constraint is None:
        return {}
    if constraint.kind == "json":
        return {"response_format": {"type": "json_object"}}
    if constraint.kind == "schema":
        return {
            "response_format": {"type": "json_schema", "json_schema": {"name": "schema", "schema": constraint.value}}
        }
    return completion_constraint(constraint)
