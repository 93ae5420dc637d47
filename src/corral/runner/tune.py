"""Launch settings that suit the host: threads, how they wait for each other, flash attention. Used by launch.py.

What is known and where it comes from, best first:

1. measured: `measure` ran the candidates for this (model, host, engine) and `<home>/tuning.json` remembers the best;
2. the host's load at the moment of the launch: other processes' share of the cores is theirs;
3. one thread a core.

llama.cpp's CPU backend is built on OpenMP here: its threads meet at hundreds of barriers a token, and spin there. On
idle cores spinning is fastest; when another process has the core, the one that is waited for cannot run (measured on
a busy 2-core host, SmolLM2: default spinning 4.5 tok/s, short spinning 19, none 32, one thread 34). A runner lives
long and the host's load changes, so the wait is short even on an idle host and absent on a busy one.

Measuring is bounded (`_CANDIDATES` × `MEASURE_S`), one at a time, and never on a request's path: the caller decides
when (`corral tune`, an idle server).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from corral.aio import run_blocking
from corral.errors import CorralError
from corral.runner.client import RunnerClient
from corral.runner.spec import RunnerSpec

_LOG = logging.getLogger(__name__)
MEASURE_S = 10.0  # the longest one candidate may take, its load left out
_MEASURED_TOKENS = 32
_PROMPT_TOKENS = 256  # flash attention shows at some depth only
_MOST_REMEMBERED = 200
_BUSY_CORES = 0.5  # that much taken by others counts as a busy host
_SPIN_SHORT, _SPIN_NEVER = 2000, 0  # GOMP_SPINCOUNT


@dataclass(frozen=True, slots=True)
class Tuning:
    """Settings for one launch."""

    n_threads: int
    spin: int = _SPIN_SHORT
    flash_attention: bool | None = None
    decode_per_s: float = 0.0  # as measured; 0 = not measured

    def apply(self, spec: RunnerSpec) -> RunnerSpec:
        """The spec with what it leaves open filled in; what a user set stays."""
        flash = self.flash_attention if spec.flash_attention is None else spec.flash_attention
        return replace(spec, n_threads=spec.n_threads or self.n_threads, flash_attention=flash)

    def environment(self) -> dict[str, str]:
        """Variables for the OpenMP runtime, which reads them once, when it is loaded."""
        policy = "passive" if self.spin == _SPIN_NEVER else "active"
        return {"OMP_WAIT_POLICY": policy, "GOMP_SPINCOUNT": str(self.spin), "OMP_NUM_THREADS": str(self.n_threads)}


class TunedRunner(Protocol):
    """What `measure` needs of a runner."""

    client: RunnerClient

    async def start(self) -> None:
        """Until it serves."""

    async def stop(self) -> None:
        """Until it is reaped."""


class Tuner:
    """What is known about launching on this host. One file, read once, written whole; a damaged one is started anew.

    threads: the user's number for all runners, 0 = choose.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self._path = path
        self._threads = threads
        self._known = _read(path)
        self._cores = usable_cores()
        self._host = host_name(self._cores)

    def choose(self, spec: RunnerSpec) -> Tuning:
        """The settings for a launch now."""
        known = self._known.get(tuning_key(spec, self._host))
        best = Tuning(self._cores) if known is None else Tuning(**known)
        busy = other_load() >= _BUSY_CORES
        return replace(best, n_threads=self._threads or best.n_threads, spin=_SPIN_NEVER if busy else best.spin)

    async def measure(self, spec: RunnerSpec, launch: Callable[[RunnerSpec, Tuning], Awaitable[TunedRunner]]) -> Tuning:
        """Try the candidates, remember and return the best; `launch` makes a runner that is not started.

        A candidate that fails or is too slow loses. When all fail, the choice without measuring is returned.
        """
        best = self.choose(spec)
        for candidate in candidates(self._cores, spec):
            rate = 0.0
            with contextlib.suppress(CorralError, TimeoutError):
                rate = await _decode_rate(await launch(candidate.apply(spec), candidate))
            _LOG.info("tuning %s: %s gives %.1f tokens/s", spec.model_path.name, candidate, rate)
            if rate > best.decode_per_s:
                best = replace(candidate, decode_per_s=rate)
        if best.decode_per_s:
            self._known[tuning_key(spec, self._host)] = asdict(best)
            while len(self._known) > _MOST_REMEMBERED:
                del self._known[next(iter(self._known))]
            await run_blocking(_write, self._path, self._known)
        return best


def candidates(cores: int, spec: RunnerSpec) -> list[Tuning]:
    """What is worth trying: all cores, half, one; flash attention on and off where the user left it open."""
    counts = sorted({cores, max(1, cores // 2), 1}, reverse=True)
    flashes = (None, False) if spec.flash_attention is None and not spec.kv_cache_type else (None,)
    return [Tuning(count, flash_attention=flash) for count in counts for flash in flashes]


def usable_cores() -> int:
    """Cores that this process may run on, a container's CPU quota included."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return max(1, cores)


def other_load() -> float:
    """Cores' worth of work waiting or running in the last minute."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return 0.0


def host_name(cores: int) -> str:
    """A name for (host, engine): a result holds for nothing else."""
    try:
        engine = version("xllamacpp")
    except PackageNotFoundError:
        engine = ""
    return "\0".join((platform.machine(), platform.processor(), str(cores), engine))


def tuning_key(spec: RunnerSpec, host: str) -> str:
    """A name for (model, host, engine)."""
    parts = (str(spec.model_path), spec.kv_cache_type, str(spec.n_gpu_layers), host)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


async def _decode_rate(runner: TunedRunner) -> float:
    """Tokens a second of a short answer after a short prompt; the runner is stopped whatever happens."""
    try:
        await runner.start()
        body = {"prompt": list(range(1000, 1000 + _PROMPT_TOKENS)), "n_predict": _MEASURED_TOKENS, "ignore_eos": True}
        async with asyncio.timeout(MEASURE_S):
            began = time.monotonic()
            async for event in runner.client.completion(body):
                last = event
        timings = last.get("timings", {})
        return float(timings.get("predicted_per_second", _MEASURED_TOKENS / (time.monotonic() - began)))
    finally:
        await runner.stop()


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(path.read_text())
        return {key: asdict(Tuning(**value)) for key, value in known.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        _LOG.warning("%s is not usable, tuning starts anew: %s", path.name, error)
        return {}


def _write(path: Path, known: dict[str, dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(known, indent=1))
    part.replace(path)
