"""The values of a schema's keywords, checked, and what becomes of wrong ones. Used by schema.py and objects.py."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NoReturn

from corral.errors import InvalidRequest

MAX_REPEAT = 20_000  # lengths and counts; each costs the engine states
_MOST_SHOWN = 40  # characters of a wrong value in an error
_MOST_DIGITS = 400  # of a number: a double has no more


def pointer(place: str, *parts: object) -> str:
    """A JSON pointer with more parts behind it."""
    return "/".join([place, *(str(part).replace("~", "~0").replace("/", "~1") for part in parts)])


def shown(value: Any) -> str:
    """A value as the caller wrote it, in JSON; the beginning of a long one."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


class Keywords:
    """Reads keywords of one schema. A keyword that is null counts as left out: generators write it so."""

    def __init__(self, field: str, *, lenient: bool) -> None:
        self.field = field
        self.lenient = lenient
        self.loosened: dict[str, list[str]] = {}  # keyword → places

    def fail(self, why: str, place: str) -> NoReturn:
        """Refuse the schema."""
        raise InvalidRequest(f"invalid {self.field}: {why} (at {place})", field=self.field)

    def bad(self, key: str, place: str, why: str) -> None:
        """A keyword at this place cannot be held: refuse the schema, or go on without it."""
        if not self.lenient:
            self.fail(why, pointer(place, key))
        self.loosen(key, place)

    def loosen(self, key: str, place: str) -> None:
        """Note that a keyword is not held."""
        places = self.loosened.setdefault(key, [])
        if place not in places:
            places.append(place)

    def count(self, node: Mapping[str, Any], key: str, place: str) -> int | None:
        """A length or a number of items. A lower one that is too large cannot be held, an upper one is none."""
        value = node.get(key)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.bad(key, place, f'"{key}" must be a whole number from 0 on, not {shown(value)}')
            return None
        if value <= MAX_REPEAT:
            return value
        if key.startswith("min"):
            self.bad(key, place, f'"{key}" is {shown(value)}: above {MAX_REPEAT} it cannot be held')
        return None

    def number(self, node: Mapping[str, Any], key: str, place: str) -> Decimal | None:
        """A number."""
        value = node.get(key)
        if value is None:
            return None
        made = decimal_of(value)
        if made is None:
            self.bad(key, place, f'"{key}" must be a number, not {shown(value)}')
        return made

    def names(self, node: Mapping[str, Any], key: str, place: str) -> tuple[str, ...]:
        """A list of property names."""
        value = node.get(key)
        if value is None:
            return ()
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            return tuple(dict.fromkeys(value))
        if not self.lenient or not isinstance(value, bool):  # drafts 3 and before had a boolean
            self.bad(key, place, f'"{key}" must be a list of names, not {shown(value)}')
        return ()

    def map(self, node: Mapping[str, Any], key: str, place: str) -> Mapping[str, Any]:
        """An object of schemas."""
        value = node.get(key)
        if value is None:
            return {}
        if isinstance(value, dict):
            return value
        self.bad(key, place, f'"{key}" must be an object, not {shown(value)}')
        return {}

    def list(self, node: Mapping[str, Any], key: str, place: str) -> list[Any]:
        """A list with something in it; [] when there is none."""
        value = node.get(key)
        if value is None:
            return []
        if isinstance(value, list) and value:
            return value
        self.bad(key, place, f'"{key}" must be a list that is not empty, not {shown(value)}')
        return []


def decimal_of(value: object) -> Decimal | None:
    """A JSON number, exactly; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    made = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return made if abs(made.adjusted()) <= _MOST_DIGITS else None
