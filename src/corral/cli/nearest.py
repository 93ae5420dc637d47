"""Did you mean: the stored models whose names are close to one that was not found. Asked only after the error."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from corral.cli.api import Api
from corral.errors import CorralError

_MOST = 3
_CLOSE = 0.6


def hint(api: Api, name: str) -> str:
    """Lines to put behind `model 'x' not found`; empty when nothing is close or the server does not say."""
    try:
        names = [str(model["name"]) for model in api.get("/api/tags").get("models") or []]
    except CorralError:
        return ""
    close = nearest(name, names)
    return "\n\nDid you mean this?\n" + "".join(f"\t{found}\n" for found in close) if close else ""


def nearest(name: str, names: Sequence[str]) -> list[str]:
    """The names that begin with what was typed, in any case, else those that look like it; best first."""
    typed = name.lower().removesuffix(":latest")
    begins = [found for found in names if found.lower().startswith(typed) and typed]
    if begins:
        return begins[:_MOST]
    bare = {found.lower().partition(":")[0]: found for found in reversed(names)}
    alike = difflib.get_close_matches(typed.partition(":")[0], bare, _MOST, _CLOSE)
    return [bare[found] for found in alike]
