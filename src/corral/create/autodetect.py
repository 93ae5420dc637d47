"""Which of the known chat templates a GGUF's Jinja text is: the nearest by edit distance, if it is near enough.

`templates/known.json` lists the Jinja texts that model vendors published, with our name for each;
`templates/<name>.gotmpl` is the Go template that renders the same prompts, `templates/stops.json` its stop sequences.
Called by `flow.py` for uploaded weights. Source of the rule: ollama template/template.go Named, 2026-08.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

NEAR = 100  # an edit distance below this counts as the same template


@dataclass(frozen=True, slots=True)
class KnownTemplate:
    """A template we know: its name, its Go text, the sequences that end a turn."""

    name: str
    text: str
    stop: tuple[str, ...]


def detect_template(chat_template: str) -> KnownTemplate | None:
    """The known template nearest to a Jinja text, the first on ties; None when none is nearer than NEAR edits."""
    best, nearest = "", NEAR
    for name, jinja in _known():
        distance = edit_distance(chat_template, jinja, nearest)
        if distance < nearest:
            best, nearest = name, distance
    return known_template(best) if best else None


def known_template(name: str) -> KnownTemplate:
    """A known template by name; raises KeyError."""
    stops = _stops()[name]
    return KnownTemplate(name, _read(f"{name}.gotmpl"), tuple(stops))


def edit_distance(left: str, right: str, limit: int) -> int:
    """Levenshtein's distance between two texts in code points, or `limit` when it is not below it.

    Myers' bit-parallel method in Hyyrö's form: one column of the table is two big integers, so that comparing two
    texts of 4,600 characters takes some 20 ms.
    """
    if abs(len(left) - len(right)) >= limit:
        return limit
    if not left or not right:
        return min(limit, max(len(left), len(right)))
    width = len(left)
    mask, last = (1 << width) - 1, 1 << (width - 1)
    places: dict[str, int] = {}
    for index, char in enumerate(left):
        places[char] = places.get(char, 0) | 1 << index
    positive, negative, distance = mask, 0, width
    for index, char in enumerate(right):
        equal = places.get(char, 0)
        vertical = equal | negative
        horizontal = (((equal & positive) + positive) ^ positive) | equal
        up = negative | ~(horizontal | positive) & mask
        down = positive & horizontal
        distance += bool(up & last) - bool(down & last)
        if distance - (len(right) - 1 - index) >= limit:
            return limit  # each character left can bring it down by one at most
        up = (up << 1 | 1) & mask
        positive = (down << 1 | ~(vertical | up)) & mask
        negative = up & vertical
    return min(distance, limit)


@cache
def _known() -> tuple[tuple[str, str], ...]:
    return tuple((name, jinja) for name, jinja in json.loads(_read("known.json")))


@cache
def _stops() -> dict[str, list[str]]:
    stops: dict[str, list[str]] = json.loads(_read("stops.json"))
    return stops


def _read(name: str) -> str:
    return (resources.files("corral.create") / "templates" / name).read_text(encoding="utf-8")
