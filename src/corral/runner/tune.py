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

So the wait is always 1000 turns, nearly the best when nobody else works and bearable when others come later (kernels
made here wait longer where that pays, kernels/barrier.h); and on a host that is busy at the launch there are fewer
threads, which nothing else beats there. The runtime takes neither back, so a runner that the host has outgrown is
loaded anew while it is idle: `outdated` tells, server/renewal.py does it.

Measuring: candidates.py says what is tried, the default first and last, so that a host that changed meanwhile is seen;
another choice has to be a tenth faster than it, counting a prompt that is read as well as the answer, for what helps
one can harm the other. Each candidate is a runner of its own, one at a time, without the scheduler. The caller decides
when: `corral tune`, or an idle server.
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
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from corral.aio import run_blocking
from corral.errors import CorralError
from corral.runner.candidates import Open, Speed, Tuning, candidates, fastest
from corral.runner.client import RunnerClient
from corral.runner.hostload import HostLoad, usable_cores
from corral.runner.spec import RunnerSpec
from corral.store.files import make_directory

_LOG = logging.getLogger(__name__)
MEASURE_S = 10.0  # the longest one candidate may take, its load left out
_MEASURED_TOKENS = 32
_LEAST_TOKENS = 4
_WINDOW = 1024
_LEAST_PROMPT = 300  # tokens: flash attention shows at some depth only
_STEPS = 3  # of the engine, that a prompt takes at least
_PROMPT = " ".join(map(str, range(96)))
_WORTHWHILE = 1.1  # less is noise
_MOST_REMEMBERED = 200
_SPIN = 1000  # GOMP_SPINCOUNT
_OUTGROWN = 0.25  # by so much the number of threads must be wrong before a runner is worth loading anew


@dataclass(frozen=True, slots=True)
class Trial:
    """A step of measuring: about to be tried, or chosen in the end."""

    tuning: Tuning
    chosen: bool = False

    def __str__(self) -> str:
        tuning = self.tuning
        if not self.chosen:
            return f"measuring: {tuning}"
        otherwise = tuning.flash_attention is False or not tuning.repacks
        said = " (rounds otherwise: greedy answers may differ where two words are as likely)" if otherwise else ""
        return f"chosen: {tuning}{said}, reads {tuning.read_per_s:.0f} and answers {tuning.decode_per_s:.1f} tokens/s"


class TunedRunner(Protocol):
    """What `measure` needs of a runner."""

    client: RunnerClient

    async def start(self) -> None:
        """Until it serves."""

    async def stop(self) -> None:
        """Until it is reaped."""


Launch = Callable[[RunnerSpec, Tuning], TunedRunner]  # makes a runner that is not started


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
        self._repacking = self._huge_pages = False

    def begin(self, host: str, *, repacking: bool, huge_pages: bool) -> None:
        """From now on it is about this host, with these things to vary: weights laid out anew, huge pages."""
        self.host, self._repacking, self._huge_pages = host, repacking, huge_pages

    def choose(self, spec: RunnerSpec) -> Tuning:
        """The settings for a launch now."""
        best = self._known.get(tuning_key(spec, self.host), Tuning(self._cores))
        if self._threads:
            return replace(best, n_threads=self._threads, prompt_threads=0)
        return best.at_most(self._host_load.free_cores())

    def outdated(self, spec: RunnerSpec, launched: RunnerSpec) -> bool:
        """Whether a runner launched as `launched` for `spec` would be launched clearly otherwise now."""
        now = self.choose(spec).apply(spec)
        if (now.flash_attention, now.repacks) != (launched.flash_attention, launched.repacks):
            return True
        pairs = (
            (now.n_threads, launched.n_threads),
            (now.prompt_threads or now.n_threads, launched.prompt_threads or launched.n_threads),
        )
        return any(ours != theirs and abs(ours - theirs) >= _OUTGROWN * max(ours, theirs) for ours, theirs in pairs)

    def knows(self, spec: RunnerSpec) -> bool:
        """Whether this model has been measured on this host."""
        return tuning_key(spec, self.host) in self._known

    async def measure(self, spec: RunnerSpec, launch: Launch, budget_s: float = math.inf) -> AsyncGenerator[Trial]:
        """Try the candidates, remember the best: a Trial before each, and the choice last.

        A candidate that fails loses; when the default fails, nothing is remembered. When the budget is used up,
        nothing more is tried but the default, once more. Cancelling stops the runner and remembers nothing.
        """
        varied, began = self._varied(spec), time.monotonic()
        spec = _small(spec)
        default = Tuning(spec.n_threads or self._threads or self._cores)
        speeds: dict[Tuning, Speed] = {}
        for candidate in candidates(default, varied, speeds):
            if speeds and candidate != default and time.monotonic() - began >= budget_s:
                continue
            yield Trial(candidate)
            speed = await _try(candidate, spec, launch)
            speeds[candidate] = max(speeds.get(candidate, Speed()), speed)
        best = fastest(speeds)
        if speeds[best].tokens_per_s < _WORTHWHILE * speeds[default].tokens_per_s:
            best = default
        chosen = replace(best, decode_per_s=speeds[best].decode_per_s, read_per_s=speeds[best].read_per_s)
        if chosen.decode_per_s:
            await self._remember(spec, chosen)
        yield Trial(chosen, chosen=True)

    def _varied(self, spec: RunnerSpec) -> Open:
        own_threads = spec.n_threads or self._threads
        return Open(
            () if own_threads else tuple(sorted({max(1, self._cores // 2), 1} - {self._cores}, reverse=True)),
            flash_attention=spec.flash_attention is None and not spec.kv_cache_type,
            repacking=self._repacking,
            huge_pages=self._huge_pages and not spec.use_mmap,
            step=spec.n_batch if spec.paced else 0,
        )

    async def _remember(self, spec: RunnerSpec, best: Tuning) -> None:
        self._known[tuning_key(spec, self.host)] = best
        while len(self._known) > _MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
        rows = {key: asdict(tuning) for key, tuning in self._known.items()}
        await run_blocking(_write, self._path, rows)


def _small(spec: RunnerSpec) -> RunnerSpec:
    """As little beside the weights as a measurement needs; the names under which it is remembered stay."""
    window = min(spec.context_window, max(_WINDOW, _prompt_tokens(spec) + 2 * _MEASURED_TOKENS))
    return replace(
        spec,
        context_window=window,
        num_parallel=1,
        projector_paths=(),
        draft_path=None,
        draft_num_predict=0,
        speculation="",
    )


def _prompt_tokens(spec: RunnerSpec) -> int:
    """Of the measured prompt: enough for several steps, as many for every candidate."""
    return max(_LEAST_PROMPT, _STEPS * spec.n_batch)


def openmp_environment(tuning: Tuning) -> dict[str, str]:
    """Variables for the OpenMP runtime, which reads them once, when it is loaded."""
    return {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": str(_SPIN), "OMP_NUM_THREADS": str(tuning.most_threads)}


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
    speed, prompt = Speed(), min(_prompt_tokens(spec), spec.context_window - 2 * _MEASURED_TOKENS)
    launched = replace(candidate.apply(spec), n_batch=candidate.step or spec.n_batch)
    try:
        speed = await _speed(launch(launched, candidate), max(1, prompt))
    except CorralError as error:
        _LOG.info("tuning %s: %s failed: %s", spec.model_path.name, candidate, error)
    _LOG.info(
        "tuning %s: %s reads %.0f and answers %.1f tokens/s",
        spec.model_path.name, candidate, speed.read_per_s, speed.decode_per_s,
    )  # fmt: skip
    return speed


async def _speed(runner: TunedRunner, prompt_tokens: int) -> Speed:
    """Of a short answer after a prompt of so many tokens; the runner is stopped whatever happens.

    Zeros when MEASURE_S did not bring enough tokens.
    """
    count, began, first, last = 0, 0.0, 0.0, 0.0
    try:
        await runner.start()
        tokens = await runner.client.tokenize(_PROMPT)
        body = {
            "prompt": (tokens * (prompt_tokens // len(tokens) + 1))[:prompt_tokens],
            "n_predict": _MEASURED_TOKENS,
            "ignore_eos": True,
            "cache_prompt": False,
        }
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
    answered_s = (last - first) / (count - 1)
    read_s = (first - began) / prompt_tokens
    return Speed(1 / (answered_s + read_s), 1 / answered_s, 1 / read_s)


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
