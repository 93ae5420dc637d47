"""Launch settings that suit the host: threads, how they wait for each other, flash attention. Used by launch.py.

What is known and where it comes from, best first:

1. measured: `measure` ran the candidates for this (model, host, engine) and `<home>/tuning.json` remembers the best;
2. one thread a core;

and never more threads than others leave cores free (hostload.py), at least half of all.

llama.cpp's CPU backend is built on OpenMP here: its threads meet at hundreds of barriers a token, and spin there. On
idle cores spinning is fastest; when another process has the core, the one that is waited for cannot run. Measured with
SmolLM2 on two cores, tokens/s, mean of six rounds:

| others at work            | 0  | 1  | 2  | 5  |
|---------------------------|----|----|----|----|
| 2 threads, 2000 turns     | 68 | 24 | 30 | 9  |
| 2 threads, **1000 turns** | 65 | 30 | 33 | 12 |
| 2 threads, 300 turns      | 42 | 35 | 23 | 14 |
| 2 threads, asleep         | 20 | 33 | 19 | 12 |
| **1 thread**              | 42 | 43 | 31 | 15 |

So the wait is always 1000 turns, nearly the best when nobody else works and bearable when others come later; and on a
host that is busy at the launch there are fewer threads, which nothing else beats there. The runtime takes neither back,
so a runner that the host has outgrown is loaded anew while it is idle: `outdated` tells, server/renewal.py does it.

Measuring: the default first and last (so that a host that changed meanwhile is seen), half the threads, one thread, and
flash attention off with the best of them; another choice has to be a tenth faster than the default, counting a prompt
that is read as well as the answer, for what helps one can harm the other. Each candidate is a runner of its own, one at
a time, without the scheduler. The caller decides when: `corral tune`, or an idle server.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import platform
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from corral.aio import run_blocking
from corral.errors import CorralError
from corral.runner.client import RunnerClient
from corral.runner.hostload import HostLoad, usable_cores
from corral.runner.spec import RunnerSpec
from corral.store.files import make_directory

_LOG = logging.getLogger(__name__)
MEASURE_S = 10.0  # the longest one candidate may take, its load left out
_MEASURED_TOKENS = 32
_LEAST_TOKENS = 4
_WINDOW = 1024
_PROMPT_TOKENS = 300  # or so: flash attention shows at some depth only
_PROMPT = " ".join(map(str, range(96)))
_WORTHWHILE = 1.1  # less is noise
_MOST_REMEMBERED = 200
_SPIN = 1000  # GOMP_SPINCOUNT
_OUTGROWN = 0.25  # by so much the number of threads must be wrong before a runner is worth loading anew


@dataclass(frozen=True, slots=True)
class Tuning:
    """Settings for one launch."""

    n_threads: int
    flash_attention: bool | None = None
    decode_per_s: float = 0.0  # as measured; 0 = not measured

    def apply(self, spec: RunnerSpec) -> RunnerSpec:
        """The spec with what it leaves open filled in; what a user set stays."""
        flash = self.flash_attention if spec.flash_attention is None else spec.flash_attention
        return replace(spec, n_threads=spec.n_threads or self.n_threads, flash_attention=flash)

    def environment(self) -> dict[str, str]:
        """Variables for the OpenMP runtime, which reads them once, when it is loaded."""
        return {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": str(_SPIN), "OMP_NUM_THREADS": str(self.n_threads)}


@dataclass(frozen=True, slots=True)
class Trial:
    """A step of measuring: about to be tried, or chosen in the end."""

    tuning: Tuning
    chosen: bool = False

    def __str__(self) -> str:
        tuning = self.tuning
        flash = ", flash attention off" if tuning.flash_attention is False else ""
        rate = f", {tuning.decode_per_s:.1f} tokens/s" if self.chosen else ""
        return f"{'chosen' if self.chosen else 'measuring'}: {tuning.n_threads} threads{flash}{rate}"


class TunedRunner(Protocol):
    """What `measure` needs of a runner."""

    client: RunnerClient

    async def start(self) -> None:
        """Until it serves."""

    async def stop(self) -> None:
        """Until it is reaped."""


Launch = Callable[[RunnerSpec, Tuning], TunedRunner]  # makes a runner that is not started


class Speed(NamedTuple):
    """What a candidate brings; compared by `tokens_per_s`, of reading and answering as many tokens each."""

    tokens_per_s: float = 0.0
    decode_per_s: float = 0.0


class Tuner:
    """What is known about launching on this host. One file, read once, written whole; a damaged one is started anew.

    host_load: what others take of the cores. threads: the user's number for all runners, 0 = choose. host: what a
    result holds for besides the model.
    """

    def __init__(self, path: Path, host_load: HostLoad, threads: int = 0) -> None:
        self._path = path
        self._host_load = host_load
        self._threads = threads
        self._known = _read(path)
        self._cores = usable_cores()
        self.host = host_name(self._cores)

    def choose(self, spec: RunnerSpec) -> Tuning:
        """The settings for a launch now."""
        best = self._known.get(tuning_key(spec, self.host), Tuning(self._cores))
        return replace(best, n_threads=self._threads or min(best.n_threads, self._host_load.free_cores()))

    def outdated(self, spec: RunnerSpec, launched: RunnerSpec) -> bool:
        """Whether a runner launched as `launched` for `spec` would be launched clearly otherwise now."""
        now = self.choose(spec).apply(spec)
        apart = abs(now.n_threads - launched.n_threads)
        most = max(now.n_threads, launched.n_threads)
        return now.flash_attention != launched.flash_attention or (apart > 0 and apart >= _OUTGROWN * most)

    def knows(self, spec: RunnerSpec) -> bool:
        """Whether this model has been measured on this host."""
        return tuning_key(spec, self.host) in self._known

    async def measure(self, spec: RunnerSpec, launch: Launch, budget_s: float = math.inf) -> AsyncIterator[Trial]:
        """Try the candidates, remember the best: a Trial before each, and the choice last.

        A candidate that fails loses; when the default fails, nothing is remembered. When the budget is used up, what
        has not been tried is left out, and the default stays. Cancelling stops the runner and remembers nothing.
        """
        spec, began = _small(spec), time.monotonic()
        default = Tuning(spec.n_threads or self._threads or self._cores)
        plan = [default, *(replace(default, n_threads=count) for count in self._counts(spec))]
        tried: list[Tuning] = []
        speeds: dict[Tuning, Speed] = {}
        while (candidate := _next_to_try(plan, tried, speeds, _flash_is_open(spec))) is not None:
            if tried and time.monotonic() - began >= budget_s:
                break
            yield Trial(candidate)
            tried.append(candidate)
            speeds[candidate] = max(speeds.get(candidate, Speed()), await _try(candidate, spec, launch))
        best = max(speeds, key=lambda tuning: speeds[tuning])
        if candidate is not None or speeds[best].tokens_per_s < _WORTHWHILE * speeds[default].tokens_per_s:
            best = default
        best = replace(best, decode_per_s=speeds[best].decode_per_s)
        if best.decode_per_s:
            await self._remember(spec, best)
        yield Trial(best, chosen=True)

    def _counts(self, spec: RunnerSpec) -> list[int]:
        """Numbers of threads to try besides the default's; none where the user has set one."""
        if spec.n_threads or self._threads:
            return []
        return sorted({max(1, self._cores // 2), 1} - {self._cores}, reverse=True)

    async def _remember(self, spec: RunnerSpec, best: Tuning) -> None:
        self._known[tuning_key(spec, self.host)] = best
        while len(self._known) > _MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
        rows = {key: asdict(tuning) for key, tuning in self._known.items()}
        await run_blocking(_write, self._path, rows)


def _next_to_try(
    plan: list[Tuning], tried: list[Tuning], speeds: Mapping[Tuning, Speed], flash_is_open: bool
) -> Tuning | None:
    """What is planned, then flash attention off with the best of it, then the default again; None = done."""
    default = plan[0]
    if tried and not speeds[default].decode_per_s:
        return None
    if len(tried) < len(plan):
        return plan[len(tried)]
    if flash_is_open and all(tuning.flash_attention is not False for tuning in tried):
        return replace(max(speeds, key=lambda tuning: speeds[tuning]), flash_attention=False)
    return default if tried[-1] != default else None


def _small(spec: RunnerSpec) -> RunnerSpec:
    """As little beside the weights as a measurement needs; the names under which it is remembered stay."""
    window = min(spec.context_window, _WINDOW)
    return replace(
        spec,
        context_window=window,
        num_parallel=1,
        projector_paths=(),
        draft_path=None,
        draft_num_predict=0,
        speculation="",
    )


def _flash_is_open(spec: RunnerSpec) -> bool:
    return spec.flash_attention is None and not spec.kv_cache_type


def host_name(cores: int, kernels: str = "") -> str:
    """A name for (host, engine, kernels): a result holds for nothing else. kernels: "" = the engine's own."""
    try:
        engine = version("xllamacpp")
    except PackageNotFoundError:
        engine = ""
    return "\0".join((platform.machine(), platform.processor(), str(cores), engine, kernels))


def tuning_key(spec: RunnerSpec, host: str) -> str:
    """A name for (model, host, engine, kernels)."""
    parts = (str(spec.model_path), spec.kv_cache_type, str(spec.n_gpu_layers), host)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


async def _try(candidate: Tuning, spec: RunnerSpec, launch: Launch) -> Speed:
    speed = Speed()
    try:
        speed = await _speed(launch(candidate.apply(spec), candidate))
    except CorralError as error:
        _LOG.info("tuning %s: %s failed: %s", spec.model_path.name, candidate, error)
    _LOG.info("tuning %s: %s gives %.1f tokens/s", spec.model_path.name, candidate, speed.decode_per_s)
    return speed


async def _speed(runner: TunedRunner) -> Speed:
    """Of a short answer after a short prompt; the runner is stopped whatever happens.

    Zeros when MEASURE_S did not bring enough tokens.
    """
    body = {"prompt": _PROMPT, "n_predict": _MEASURED_TOKENS, "ignore_eos": True, "cache_prompt": False}
    count, began, first, last = 0, 0.0, 0.0, 0.0
    try:
        await runner.start()
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MEASURE_S):
                async for event in runner.client.completion(body):
                    if not event.get("stop"):
                        count, last = count + 1, time.monotonic()
                        first = first or last
    finally:
        await runner.stop()
    if count < _LEAST_TOKENS:
        return Speed()
    per_token_s = (last - first) / (count - 1)
    return Speed(1 / (per_token_s + (first - began) / _PROMPT_TOKENS), 1 / per_token_s)


def _read(path: Path) -> dict[str, Tuning]:
    names = {item.name for item in fields(Tuning)}
    try:
        rows = json.loads(path.read_text())
        return {
            key: Tuning(**{name: value for name, value in row.items() if name in names}) for key, row in rows.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        _LOG.warning("%s is not usable, tuning starts anew: %s", path.name, error)
        return {}


def _write(path: Path, known: dict[str, dict[str, Any]]) -> None:
    make_directory(path.parent)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(known, indent=1))
    part.replace(path)
