"""Runners without processes, and a clock moved by hand, for the scheduler's tests. Nothing here sleeps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, cast

from corral.config import Settings
from corral.errors import CorralError, RunnerDied, RunnerFailedToStart
from corral.runner.client import RunnerClient
from corral.runner.slots import SlotTable
from corral.runner.spec import Planned, RunnerInfo, RunnerMemory, RunnerSpec
from corral.sched import HostFigures, HostMemory, LeaseRequest, Scheduler
from corral.sched.state import Limits

GIB = 2**30


class FakeClock:
    """A clock that stands still until `advance`."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.timers: dict[object, tuple[float, Callable[[], None]]] = {}

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(self)
        self.timers[timer] = (when, callback)
        return timer

    async def advance(self, seconds: float) -> None:
        """Run what is due, in order, and let everybody react."""
        until = self.time + seconds
        while due := [(when, timer) for timer, (when, _) in self.timers.items() if when <= until]:
            when, timer = min(due, key=lambda item: item[0])
            self.time = max(self.time, when)
            self.timers.pop(timer)[1]()
            await settle()
        self.time = until


class FakeTimer:
    """A timer of FakeClock."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def cancel(self) -> None:
        self._clock.timers.pop(self, None)


async def settle() -> None:
    """Let every task run until all wait for something that a test has to bring about."""
    for _ in range(50):
        await asyncio.sleep(0)


class FakeClient:
    """An engine that answers when it is told to."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[dict[str, Any] | Exception] = asyncio.Queue()
        self.answer: asyncio.Event = asyncio.Event()
        self.open_streams = 0
        self.closed_streams = 0

    async def completion(self, body: dict[str, Any], gather_s: float = 0.0) -> AsyncGenerator[dict[str, Any], None]:
        self.open_streams += 1
        try:
            while True:
                event = await self.events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.open_streams -= 1
            self.closed_streams += 1

    async def tokenize(self, text: str) -> list[int]:
        await self.answer.wait()
        return [1, 2, 3]


class FakeHandle:
    """A runner that starts when `begin` is set and dies when it is told to."""

    def __init__(self, spec: RunnerSpec, launcher: FakeLauncher) -> None:
        self.spec = spec
        self.launcher = launcher
        self.closed = asyncio.Event()
        self.started = asyncio.Event()
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.fake_client = FakeClient()
        self.info = RunnerInfo(
            context_window=spec.context_window,
            slots=spec.num_parallel,
            memory=RunnerMemory(weights_bytes=700, kv_cache_bytes=200, compute_bytes=100),
        )
        self.pid: int | None = None
        self.exit_code: int | None = None
        self.last_lines: tuple[str, ...] = ()
        self.calls: list[str] = []

    @property
    def failure(self) -> CorralError:
        return RunnerDied(self.exit_code, self.last_lines)

    @property
    def client(self) -> RunnerClient:
        return cast("RunnerClient", self.fake_client)

    async def start(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        self.calls.append("start")
        self.started.set()
        if self.launcher.start_at_once and not self.outcome.done():
            self.outcome.set_result(None)
        await self.outcome
        self.pid = 4711

    async def stop(self, grace_s: float = 5.0) -> None:
        self.calls.append("stop")
        self.closed.set()

    # ---- what tests do to it

    def get_ready(self) -> None:
        self.outcome.set_result(None)

    def fail(self, error: Exception | None = None) -> None:
        self.outcome.set_exception(error or RunnerFailedToStart("exit status 1", ("bad magic",)))

    def die(self, exit_code: int = -11) -> None:
        """What a crash does: calls under way get RunnerDied, and the process is gone."""
        self.exit_code = exit_code
        self.last_lines = ("segmentation fault",)
        self.fake_client.events.put_nowait(RunnerDied(exit_code, self.last_lines))
        self.closed.set()


class FakeConversations:
    """Notes what was saved and restored."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.error: Exception | None = None

    async def save(self, client: RunnerClient, spec: RunnerSpec, owned: SlotTable | None = None) -> int:
        self.calls.append(f"save {spec.model_path}")
        if self.error is not None:
            raise self.error
        return 1

    async def restore(self, client: RunnerClient, spec: RunnerSpec, slots: int, owned: SlotTable | None = None) -> int:
        self.calls.append(f"restore {spec.model_path} into {slots}")
        return 0


class FakeLauncher:
    """Makes FakeHandles and keeps them."""

    def __init__(self, *, start_at_once: bool = True) -> None:
        self.start_at_once = start_at_once
        self.handles: list[FakeHandle] = []
        self.nodes: list[str] = []  # of the handles
        self.conversations = FakeConversations()

    def create(self, spec: RunnerSpec, planned: Planned = Planned(), node: str = "") -> FakeHandle:  # noqa: B008  frozen
        handle = FakeHandle(spec, self)
        self.handles.append(handle)
        self.nodes.append(node)
        return handle

    @property
    def running(self) -> list[FakeHandle]:
        """Those that have been started and not reaped."""
        return [handle for handle in self.handles if handle.started.is_set() and not handle.closed.is_set()]


class FakeHostMemory(HostMemory):
    """A host with as much memory as it is told."""

    figures = HostFigures(64 * GIB, 64 * GIB)

    def read(self) -> HostFigures:
        return self.figures


@contextlib.asynccontextmanager
async def running_scheduler(
    launcher: FakeLauncher, settings: Settings | None = None, clock: FakeClock | None = None, **limits: Any
) -> AsyncIterator[Scheduler]:
    """A started scheduler; afterwards it is closed, and everything must be reaped."""
    scheduler = Scheduler(
        settings or Settings(),
        launcher,
        clock=clock or FakeClock(),
        host_memory=FakeHostMemory(),
        limits=Limits(**limits),
    )
    await scheduler.start()
    try:
        yield scheduler
    finally:
        await scheduler.close()
        assert launcher.running == []


class Client:
    """A task that takes a lease and holds it until it is told to leave."""

    def __init__(self, scheduler: Scheduler, want: LeaseRequest) -> None:
        self._scheduler = scheduler
        self._want = want
        self._leave = asyncio.Event()
        self.holding = asyncio.Event()
        self.lease: Any = None
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._scheduler.lease(self._want) as self.lease:
            self.holding.set()
            await self._leave.wait()

    async def leave(self) -> None:
        """End the lease and wait until it has ended."""
        self._leave.set()
        await self.task
        await settle()


async def slow_started(launcher: FakeLauncher, count: int = 1) -> None:
    """Until so many runners have been asked to start (the first figures are read on a thread)."""
    async with asyncio.timeout(30):
        while len(launcher.handles) < count:
            await asyncio.sleep(0)
        await launcher.handles[count - 1].started.wait()
