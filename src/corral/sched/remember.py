"""Which models a server loads at start: those of CORRAL_PRELOAD, and those loaded last (CORRAL_RESTORE), from a file.

The file is a convenience: one that cannot be read is no file.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.aio import run_blocking
from corral.config import Settings
from corral.errors import ModelNotFound
from corral.store.files import make_directory

log = logging.getLogger(__name__)
_MOST = 64


@dataclass(frozen=True, slots=True)
class Remembered:
    """A model to load at start; keep_alive_s None = the default, math.inf = for ever."""

    name: str
    keep_alive_s: float | None = None


class LoadedList:
    """The list and its file, in Corral's home; written only where the loaded set is to be restored."""

    def __init__(self, settings: Settings) -> None:
        self._preload = settings.preload
        self._restores = settings.restore_loaded
        self._path = settings.home / "loaded.json"
        self._models: tuple[Remembered, ...] | None = None

    async def to_load(self) -> list[Remembered]:
        """What is to be loaded at start, in this order."""
        models = [Remembered(name) for name in self._preload]
        if self._restores:
            names = {model.name for model in models}
            models += [model for model in await run_blocking(read_loaded, self._path) if model.name not in names]
        return models

    @staticmethod
    async def load_all(models: Iterable[Remembered], load: Callable[[Remembered], Awaitable[None]]) -> None:
        """One at a time; what fails is logged."""
        for model in models:
            try:
                await load(model)
            except ModelNotFound:
                log.warning("%s is to be loaded at start but does not exist", model.name)
            except Exception:
                log.warning("%s could not be loaded at start", model.name, exc_info=True)

    def changed(self, models: tuple[Remembered, ...]) -> bool:
        """Take note of what is loaded now; whether the file has to be written."""
        before, self._models = self._models, models
        return self._restores and models != before

    async def save(self) -> None:
        """Write what was noted last."""
        await run_blocking(write_loaded, self._path, self._models or ())


def write_loaded(path: Path, models: Sequence[Remembered]) -> None:
    """Replace the file."""
    rows = [
        {"name": model.name, "keep_alive_s": None if model.keep_alive_s == math.inf else model.keep_alive_s}
        | ({"forever": True} if model.keep_alive_s == math.inf else {})
        for model in models
    ]
    make_directory(path.parent)
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
