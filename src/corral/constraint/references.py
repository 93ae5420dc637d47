"""Where the `$ref`s of a schema lead. Pure; schema.py asks."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from corral.constraint.keywords import pointer, shown


class References:
    """The targets in one schema. Nothing outside of it is ever fetched."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._anchors: dict[str, tuple[Any, str]] | None = None

    def resolve(self, reference: Any) -> tuple[Any, str] | str:
        """The target and its JSON pointer; or what is wrong with the reference."""
        if not isinstance(reference, str):
            return f'"$ref" must be a text, not {shown(reference)}'
        own = self._root.get("$id") if isinstance(self._root, dict) else None
        if isinstance(own, str) and own and reference.startswith(own.rstrip("#")):
            reference = "#" + reference[len(own.rstrip("#")) :].removeprefix("#")
        if not reference.startswith("#"):
            return f'"$ref" must point into the schema itself ("#/$defs/…"), not to {reference[:100]}'
        fragment = unquote(reference[1:])
        if fragment and not fragment.startswith("/"):
            return self._named().get(fragment) or f'"$ref" {reference[:100]} does not exist'
        target, place = self._root, "#"
        for part in fragment.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and name.isdecimal() and int(name) < len(target):
                target = target[int(name)]
            elif isinstance(target, dict) and name in target:
                target = target[name]
            else:
                return f'"$ref" {reference[:100]} does not exist'
            place = pointer(place, name)
        if not isinstance(target, dict | bool):
            return f'"$ref" {reference[:100]} is no schema'
        return target, place

    def _named(self) -> dict[str, tuple[Any, str]]:
        """Schemas that have a name of their own, `$anchor`."""
        if self._anchors is None:
            self._anchors = {}
            todo: list[tuple[Any, str]] = [(self._root, "#")]
            while todo:
                node, place = todo.pop()
                parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
                todo += [(part, pointer(place, name)) for name, part in parts]
                if isinstance(node, dict) and isinstance(node.get("$anchor"), str):
                    self._anchors[node["$anchor"]] = (node, place)
        return self._anchors
