"""The set of loaded models as a file, so that a restarted server can load them again (CORRAL_RESTORE).

Blocking; the scheduler calls it through `aio.run_blocking`. The file is a convenience: one that cannot be read is no
file.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)
_MOST = 64


@dataclass(frozen=True, slots=True)
class Remembered:
    """A model to load at start; keep_alive_s None = the default, math.inf = for ever."""

    name: str
    keep_alive_s: float | None = None


def write_loaded(path: Path, models: Sequence[Remembered]) -> None:
    """Replace the file."""
    rows = [
        {"name": model.name, "keep_alive_s": None if model.keep_alive_s == math.inf else model.keep_alive_s}
        | ({"forever": True} if model.keep_alive_s == math.inf else {})
        for model in models
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    partial.write_text(json.dumps(rows))
    partial.replace(path)


def read_loaded(path: Path) -> list[Remembered]:
    """What was loaded last; empty when there is no readable file."""
    try:
        rows = json.loads(path.read_text())
        return [_read_row(row) for row in rows][:_MOST]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("the list of loaded models cannot be read: %s", error)
        return []


def _read_row(row: object) -> Remembered:
    if not isinstance(row, dict):
        raise ValueError(row)
    seconds = row.get("keep_alive_s")
    if row.get("forever"):
        seconds = math.inf
    if not isinstance(row["name"], str) or not isinstance(seconds, int | float | None):
        raise ValueError(row)
    return Remembered(row["name"], None if seconds is None else float(seconds))
