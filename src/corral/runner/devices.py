"""The GPUs that the engine can use, as it names them; asked in a short-lived child, so that no driver loads here.

`python -m corral.runner.devices` prints one JSON line, a list of devices. Besides child.py the only module that imports
the binding, and only as that child. `DeviceProbe` is the parent's side, made by launch.py: it asks once, and again
(free memory changes) only where there are GPUs. With a CPU build of the engine a server starts this child once.
An external llama-server is asked with its own `--list-devices`.
"""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

_LOG = logging.getLogger(__name__)
PROBE_DEADLINE_S = 15  # drivers that have to wake a card take seconds; a hung one must not keep models from loading
_GPU_TYPES = frozenset({"GPU", "IGPU"})
_LISTED = re.compile(r"^\s+(?P<name>\S+): (?P<description>.*) \((?P<total>\d+) MiB, (?P<free>\d+) MiB free\)\s*$")
_NOT_GPUS = ("CPU", "BLAS", "RPC")


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU; bytes. shares_host_memory: an integrated one, whose memory is the host's."""

    name: str
    description: str
    free_bytes: int
    total_bytes: int
    shares_host_memory: bool = False


class DeviceProbe:
    """Asks for the GPUs. environ: the child's whole environment; llama_server: an external engine to ask instead.

    ask: runs the child and returns its output (blocking; raises OSError or SubprocessError); tests have their own.
    """

    def __init__(
        self, environ: Mapping[str, str], llama_server: str = "", ask: Callable[[], str] | None = None
    ) -> None:
        self._parse = _parse_listed if llama_server else _parse_json
        words = [llama_server, "--list-devices"] if llama_server else [sys.executable, "-P", "-m", __name__]
        self._ask = ask or (lambda: _run(words, environ))
        self._known: tuple[Device, ...] | None = None

    @property
    def may_exist(self) -> bool:
        """False once it is known that the engine can use none."""
        return self._known != ()

    def read(self) -> tuple[Device, ...]:
        """The GPUs with what is free now; blocking, for PROBE_DEADLINE_S at most. None found: that is remembered.

        A probe that fails is logged and changes nothing: the GPUs known so far, at first none.
        """
        if self._known == ():
            return ()
        try:
            self._known = _with_totals(self._parse(self._ask()), self._known or ())
        except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError) as error:
            self._known = self._known or ()
            _LOG.warning("the engine's devices cannot be read (%s); going on with %d GPUs", error, len(self._known))
        return self._known


def _with_totals(devices: tuple[Device, ...], before: tuple[Device, ...]) -> tuple[Device, ...]:
    """A GPU that is full to the last byte tells 0 of everything, for its driver cannot even begin."""
    totals = {device.name: device.total_bytes for device in before}
    return tuple(
        device if device.total_bytes else replace(device, total_bytes=totals.get(device.name, 0)) for device in devices
    )


def _run(words: list[str], environ: Mapping[str, str]) -> str:
    return subprocess.run(
        words,
        env=dict(environ),
        cwd="/",  # builds of llama.cpp look for backends in the current folder
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PROBE_DEADLINE_S,
        check=True,
    ).stdout


def _parse_json(text: str) -> tuple[Device, ...]:
    """The child's output; drivers may print lines of their own before it."""
    rows = json.loads(text.strip().splitlines()[-1]) if text.strip() else []
    return tuple(
        Device(
            str(row["name"]),
            str(row["description"]),
            int(row["memory_free"]),
            int(row["memory_total"]),
            shares_host_memory=row["type"] == "IGPU",
        )
        for row in rows
        if row["type"] in _GPU_TYPES
    )


def _parse_listed(text: str) -> tuple[Device, ...]:
    """`llama-server --list-devices`: `  CUDA0: NVIDIA H200 (143156 MiB, 142000 MiB free)`."""
    found = (match for line in text.splitlines() if (match := _LISTED.match(line)))
    return tuple(
        Device(row["name"], row["description"], int(row["free"]) * 2**20, int(row["total"]) * 2**20)
        for row in found
        if not row["name"].startswith(_NOT_GPUS)
    )


def main() -> None:
    """The child: print what the binding sees."""
    signal.alarm(PROBE_DEADLINE_S)  # a hung driver must not outlive the server that asked
    import xllamacpp

    rows: list[dict[str, Any]] = [
        {
            "name": device["name"],
            "description": device["description"],
            "type": device["type"].name.rpartition("_")[2],
            "memory_free": device["memory_free"],
            "memory_total": device["memory_total"],
        }
        for device in xllamacpp.get_device_info()
    ]
    sys.stdout.write(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
