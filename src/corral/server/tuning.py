"""Measuring launch settings: on demand (POST /api/tune), and once per model while nobody wants anything.

How is runner/tune.py's; here is when. A measurement runs runners of its own, one at a time, beside those of the
scheduler: so it needs memory for a second copy of the model, and a quiet host. The idle one begins when no request has
come for IDLE_S and the host's load is low, takes at most BUDGET_S (and the end of the candidate under way), and ends
the moment a request arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol, runtime_checkable

from corral.aio import run_blocking
from corral.core import Common, TransferStatus
from corral.errors import CorralError, InvalidRequest, NotEnoughMemory
from corral.inference import Inference
from corral.runner.hostload import HostLoad
from corral.runner.spec import RunnerSpec
from corral.runner.tune import Trial
from corral.sched import LoadedModel, Scheduler
from corral.sched.hostmemory import HostMemory
from corral.sched.memory import RUNNER_OVERHEAD_BYTES

log = logging.getLogger(__name__)
IDLE_S = 120.0
BUDGET_S = 60.0
_SPARE = 0.8  # of the free memory may be taken


@runtime_checkable
class MeasuringLauncher(Protocol):
    """A launcher that can measure; runner.launch.LocalLauncher is one."""

    host_load: HostLoad

    def is_tuned(self, spec: RunnerSpec) -> bool:
        """Whether the model has been measured on this host."""
        ...

    def measure(self, spec: RunnerSpec, budget_s: float = ..., host_bytes: int = ...) -> AsyncIterator[Trial]:
        """Try the candidates, which may take host_bytes with room, and remember the best."""
        ...


class TuningService:
    """One measurement at a time. launcher: one that is no MeasuringLauncher measures nothing."""

    def __init__(
        self, launcher: object, scheduler: Scheduler, inference: Inference, host_memory: HostMemory | None = None
    ) -> None:
        self._launcher = launcher if isinstance(launcher, MeasuringLauncher) else None
        self._scheduler = scheduler
        self._inference = inference
        self._host_memory = host_memory or HostMemory()
        self._one = asyncio.Lock()
        self._fruitless: set[str] = set()  # keys of models whose idle measurement gave nothing: not tried again

    async def measure(self, name: str) -> AsyncGenerator[TransferStatus, None]:
        """Measure a model now; a line per candidate, the choice, success.

        Raises ModelNotFound, InvalidRequest for a model that generates no text, NotEnoughMemory.
        """
        plan = await self._inference.plan_load(Common(model=name))
        if self._launcher is None and self._scheduler.nodes.rows():
            raise InvalidRequest("launch settings are measured on a model's own machine: not from a cluster's server")
        if self._launcher is None or plan.spec.embedding or plan.spec.rerank:
            raise InvalidRequest(f"{name} cannot be measured: it generates no text here", field="model")
        need = plan.memory.at(slots=1).needed_bytes
        async with self._one:
            free = await self._free_bytes()
            if need > free:
                raise NotEnoughMemory(name, need, free, "measuring loads the model a second time: unload it first")
            if self._scheduler.requests() or await self._launcher.host_load.is_busy():
                yield TransferStatus("the host is busy: the result may not hold when it is not")
            async for trial in self._launcher.measure(plan.spec, host_bytes=plan.memory.host_bytes):
                yield TransferStatus(str(trial))
        yield TransferStatus("success")

    async def run_when_idle(self) -> None:
        """Measure each loaded model once, when there is nothing else to do; until cancelled."""
        while self._launcher is not None:
            await self._until_idle()
            row = self._untuned(self._launcher)
            if row is None or row.spec is None or not await self._has_room(self._launcher, row):
                await self._scheduler.next_request()
                continue
            if self._scheduler.requests():  # come while we looked at the host
                continue
            log.info("measuring %s while idle", row.name)
            if await self._until_request(self._launcher, row.spec, row.size_bytes) and not self._launcher.is_tuned(
                row.spec
            ):
                self._fruitless.add(row.key)

    async def _until_idle(self) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._scheduler.next_request()
            except TimeoutError:
                if not self._scheduler.requests():
                    return

    def _untuned(self, launcher: MeasuringLauncher) -> LoadedModel | None:
        """On a GPU threads decide nothing, so only models that run on the CPU count."""
        for row in self._scheduler.loaded():
            spec = row.spec
            if spec is None or row.state != "ready" or row.size_vram_bytes or spec.embedding or spec.rerank:
                continue
            if row.key not in self._fruitless and not launcher.is_tuned(spec):
                return row
        return None

    async def _until_request(self, launcher: MeasuringLauncher, spec: RunnerSpec, size_bytes: int) -> bool:
        """Whether the measurement came to its end before somebody wanted something."""

        async def consume() -> None:
            async with self._one:
                async for trial in launcher.measure(spec, BUDGET_S, size_bytes + RUNNER_OVERHEAD_BYTES):
                    log.info("%s: %s", spec.model_path.name, trial)

        measuring = asyncio.create_task(consume())
        arriving = asyncio.create_task(self._scheduler.next_request())
        try:
            await asyncio.wait({measuring, arriving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            arriving.cancel()
            measuring.cancel()
            with contextlib.suppress(asyncio.CancelledError, CorralError):
                await measuring
        return not measuring.cancelled()

    async def _has_room(self, launcher: MeasuringLauncher, row: LoadedModel) -> bool:
        return row.size_bytes <= await self._free_bytes() and not await launcher.host_load.is_busy()

    async def _free_bytes(self) -> int:
        return int((await run_blocking(self._host_memory.read)).available_bytes * _SPARE)
