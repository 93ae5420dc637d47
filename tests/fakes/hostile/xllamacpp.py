"""Stands in for the engine's binding, and attacks: `PYTHONPATH` of a runner's child leads here."""

from __future__ import annotations

import json
import os
from typing import Any

from attacks import attack  # type: ignore[import-not-found]  # beside this file, in the child

xllamacpp = None  # the binding's own module has a file; this one has no log to be flushed


class CommonParams:
    """Takes every setting."""

    def __init__(self) -> None:
        self.__dict__.update(model=_Anything(), mmproj=_Anything(), cpuparams=_Anything(), cpuparams_batch=_Anything())


class _Anything:
    def __getattr__(self, name: str) -> Any:
        return _Anything()


def __getattr__(name: str) -> Any:
    return _Anything()


class Server:
    """Never serves."""

    def __init__(self, params: CommonParams) -> None:
        attack(json.loads(os.environ["HOSTILE"]))
        raise RuntimeError("all was tried")
