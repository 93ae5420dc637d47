"""The scheduler: one task feeds the policy its events and performs its actions. Used by inference/ and server/.

Life of a request: `lease()` posts Requested and waits for its future. The owning task hands the event to the policy and
performs what comes back, which is never more than starting a task, setting a future or arming a timer, so that it
never waits. A Grant completes the future; leaving the context manager posts Ended. Whoever is cancelled, in whatever
phase, posts the same Ended, and the policy knows whether that was a waiting request or a lease: no lease can leak.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from corral.config import Settings
from corral.errors import CorralError, ServerClosing
from corral.runner.client import RunnerClient
from corral.runner.reading import Reading
from corral.runner.spec import Planned
from corral.sched.clock import Clock, LoopClock, Timer
from corral.sched.events import (
    Action,
    CancelAsked,
    Died,
    Ended,
    Event,
    Fail,
    Grant,
    Interrupt,
    Load,
    Loaded,
    LoadFailed,
    NodeJoined,
    NodeReported,
    Notify,
    ReadMemory,
    RenewAsked,
    Requested,
    RunnerReported,
    ShutdownAsked,
    Stop,
    Stopped,
    Ticked,
    UnloadAsked,
)
from corral.sched.hostmemory import HostMemory
from corral.sched.launch import Conversations, Launcher, NodeSource, Readings
from corral.sched.leased import LeasedRunner
from corral.sched.listing import describe_request, describe_runner
from corral.sched.live import LiveRunner
from corral.sched.members import Members
from corral.sched.memory import LEAST_CHECKPOINTS, HostFigures
from corral.sched.policy import Policy
from corral.sched.remember import LoadedList, Remembered
from corral.sched.request import Lease, LeaseRequest, LoadedModel, RequestInfo
from corral.sched.state import Limits, limits_of
from corral.sched.survey import Survey

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Request:
    """What the scheduler keeps of a request besides the policy's record."""

    want: LeaseRequest
    arrived: float
    granted: asyncio.Future[Grant]
    leased: LeasedRunner | None = None
    lease: Lease | None = None


class Scheduler:
    """Which runners exist and who uses them. All methods belong to the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        launcher: Launcher,
        *,
        clock: Clock | None = None,
        host_memory: HostMemory | None = None,
        limits: Limits | None = None,
        cluster: NodeSource | None = None,
    ) -> None:
        """cluster: where runners are on other machines, which join through `nodes`; None = on this one only."""
        self._settings = settings
        self._launcher = launcher
        self._conversations: Conversations | None = getattr(launcher, "conversations", None)
        self._readings: Readings | None = getattr(launcher, "reading", None)
        self._clock: Clock = clock or LoopClock()
        self._arrived = asyncio.Event()  # set, and replaced by another, at every request
        self._limits = limits
        self._clustered = cluster is not None
        self._policy = Policy(limits or limits_of(settings, None), clustered=self._clustered)
        self._survey = Survey(host_memory or HostMemory(), cluster, self._policy.limits.node_wait_s)
        self.nodes = Members(self._post, lambda: self._policy.nodes)
        self._events: asyncio.Queue[Event] = asyncio.Queue()  # bounded by the requests and runners there are
        self._requests: dict[str, _Request] = {}
        self._live: dict[int, LiveRunner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._owner: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._empty = asyncio.Event()  # no runner left
        self._empty.set()
        self._closing = False
        self._closed = False
        self._list = LoadedList(settings)

    def __repr__(self) -> str:
        return f"Scheduler({self._policy!r}, requests={list(self._requests)})"

    @property
    def is_clustered(self) -> bool:
        """Whether runners are on the nodes of a cluster."""
        return self._clustered

    @property
    def host(self) -> HostFigures:
        """What the host has, as last read; zeros until then. Of a cluster: what its largest node has."""
        return self._survey.host

    # ---- life

    async def start(self, load: Callable[[Remembered], Awaitable[None]] | None = None) -> None:
        """Start the owning task, which reads the host's figures first; with `load`, load preloaded and restored models.

        `load` gets one model at a time in the background; what it raises is logged. Finding GPUs may take seconds:
        requests may come meanwhile, and their loads wait.
        """
        self._owner = asyncio.create_task(self._own(), name="scheduler")
        if load is not None:
            self._spawn(self._list.load_all(await self._list.to_load(), load))

    async def figures(self) -> HostFigures:
        """What the host has, as last read; waits for the first reading. Of a cluster: what its largest node has.

        Raises NoNode when no node joins a cluster in `Limits.node_wait_s`.
        """
        return await self._survey.last_read()

    async def figures_now(self) -> HostFigures:
        """What the host has, read for this; of a cluster: as last reported. Raises as `figures`."""
        return await self._survey.now()

    def reading(self, model_path: Path | None) -> Reading:
        """How fast this model's prompts are read here, as far as the launcher knows."""
        return Reading() if self._readings is None or model_path is None else self._readings.known(model_path)

    async def close(self, drain_s: float = 0.0) -> None:
        """Take no more requests, let the running ones end for at most `drain_s`, stop and reap every runner."""
        self._closing = True
        if self._owner is None or self._closed:
            return
        self._post(ShutdownAsked())
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(None if math.isinf(drain_s) else drain_s):
                await self._until_empty()
        except TimeoutError:
            self._post(ShutdownAsked(force=True))
            await self._until_empty()
        self._closed = True
        self._owner.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(self._owner, *self._tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        while not self._events.empty():  # whoever waits for these to be acted upon
            self._events.get_nowait()
            self._events.task_done()

    async def _until_empty(self) -> None:
        await self._events.join()
        await self._empty.wait()
        await self._events.join()

    # ---- leases

    @asynccontextmanager
    async def lease(self, want: LeaseRequest) -> AsyncIterator[Lease]:
        """The right to use a runner for `want`, loading it if necessary; waits its turn.

        Raises QueueFull, NotEnoughMemory, RunnerFailedToStart, RequestCanceled (by `cancel`), ServerClosing.
        Cancelling the wait takes the request out of the queue; a load that nobody else waits for is given up.
        On leaving, streams of the runner that are still open are closed, which ends their work in the engine.
        """
        if self._closing or self._owner is None:
            raise ServerClosing()
        request_id = want.request_id or secrets.token_hex(8)
        request = _Request(want, self._clock.now(), asyncio.get_running_loop().create_future())
        self._requests[request_id] = request
        self._arrived.set()
        self._arrived = asyncio.Event()
        self._post(Requested(request_id, want))
        try:
            await request.granted
            assert request.lease is not None
            yield request.lease
        finally:
            try:
                if request.leased is not None:
                    await request.leased.close()
            finally:
                if request.granted.done() and not request.granted.cancelled():
                    request.granted.exception()  # taken note of, although nobody may have awaited it
                del self._requests[request_id]
                self._post(Ended(request_id))

    async def next_request(self) -> None:
        """Until somebody asks for a lease."""
        await self._arrived.wait()

    async def unload(self, key: str) -> None:
        """The runner of this model goes: at once when idle, else as soon as it is. No runner is no error."""
        await self._tell(UnloadAsked(key))

    async def renew(self, runner_id: int) -> None:
        """Load an idle runner anew, with the settings that the launcher chooses now; no effect while it is in use."""
        await self._tell(RenewAsked(runner_id))

    def cancel(self, request_id: str, owner: str = "") -> bool:
        """End a request in whatever phase; its holder gets RequestCanceled. False when this owner has no such one."""
        request = self._requests.get(request_id)
        if request is None or request.want.caller.owner != owner:
            return False
        self._post(CancelAsked(request_id))
        return True

    async def report_failure(self, lease: Lease, error: CorralError) -> None:
        """A holder found its runner dead or hung: it is stopped, and waiting requests get another."""
        await self._tell(RunnerReported(lease.runner_id, error))

    # ---- lists

    def loaded(self) -> list[LoadedModel]:
        """The runners, the one that expires last first."""
        now = self._clock.now()
        rows = [describe_runner(runner, self._live.get(runner.id), now) for runner in self._policy.fleet]
        return sorted(rows, key=lambda row: row.expires_at, reverse=True)

    def requests(self, owner: str | None = None) -> list[RequestInfo]:
        """Requests that wait or run, the waiting ones in the order in which they will be served; owner: only these."""
        now = self._clock.now()

        def is_shown(want: LeaseRequest) -> bool:
            return owner is None or want.caller.owner == owner

        running = [
            describe_request(held, self._requests[held.request_id].lease, now)
            for runner in self._policy.fleet
            for held in runner.leases.values()
            if held.request_id in self._requests and is_shown(held.want)
        ]
        waiting = [place for place in self._policy.line(now) if is_shown(place.waiter.want)]
        return running + [describe_request(place, None, now) for place in waiting]

    # ---- the owning task

    def _post(self, event: Event) -> None:
        if not self._closed:  # afterwards there is neither a runner nor anybody to tell
            self._events.put_nowait(event)

    async def _tell(self, event: Event) -> None:
        """Post an event and wait until it has been acted upon."""
        if self._owner is not None and not self._closed:
            self._post(event)
            await self._events.join()

    async def _own(self) -> None:
        await self._survey.first()
        if self._limits is None and not self._clustered:  # which decides how many models may be loaded
            self._policy = Policy(limits_of(self._settings, len(self.host.devices)))
        while True:
            event = await self._events.get()
            try:
                self._take(event)
            except Exception:
                log.exception("the scheduler failed at %s", event)
                if isinstance(event, Requested):
                    self._fail(event.request_id, CorralError("internal error: see the server log"))
            finally:
                self._events.task_done()

    def _take(self, event: Event) -> None:
        if isinstance(event, Died):
            event = replace(event, was_met=self._was_met(event.runner_id))
        if isinstance(event, Died | Stopped | LoadFailed):
            self._live.pop(event.runner_id, None)
            _log_end(event)
        now = self._clock.now()
        for action in self._policy.handle(event, now):
            self._perform(action, now)
        if isinstance(event, NodeJoined | NodeReported):
            self._survey.note(event.figures)
        if not self._live:
            self._empty.set()
        self._arm_timer(now)
        if isinstance(event, Loaded | Stopped | Died) and not self._closing:
            ready = (runner for runner in self._policy.fleet if runner.state == "ready")
            if self._list.changed(tuple(Remembered(runner.name, runner.keep_alive_s) for runner in ready)):
                self._spawn(self._list.save())

    def _was_met(self, runner_id: int) -> bool:
        """Whether a request that has this runner now got anything of it, or it was started for one."""
        held = [each.leased for each in self._requests.values() if each.lease and each.lease.runner_id == runner_id]
        return not all(leased is not None and leased.may_be_gone for leased in held)

    def _arm_timer(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._policy.next_deadline(now)
        if deadline is not None and math.isfinite(deadline):
            self._timer = self._clock.call_at(deadline, lambda: self._post(Ticked()))

    def _perform(self, action: Action, now: float) -> None:
        match action:
            case Load():
                self._load(action)
            case Stop():
                log.info("stopping runner %d: %s", action.runner_id, action.reason)
                if action.runner_id in self._live:
                    self._live[action.runner_id].stop(save=action.reason not in {"failed", "lost"})
            case Grant():
                self._grant(action, now)
            case Fail():
                self._fail(action.request_id, action.error)
            case Interrupt():
                self._interrupt(action)
            case Notify():
                self._notify(action)
            case ReadMemory():
                self._survey.ask(action.node, self._post, self._spawn)

    def _load(self, action: Load) -> None:
        log.info("loading %s as runner %d", action.spec.model_path.name, action.runner_id)
        need = action.need
        planned = Planned(need.host_bytes, need.checkpoint_bytes, LEAST_CHECKPOINTS)
        handle = self._launcher.create(action.spec, planned, action.node)
        separate = self._settings.separates_keys
        live = LiveRunner(action.runner_id, handle, action.spec, self._conversations, self._post, separate=separate)
        self._live[action.runner_id] = live
        self._empty.clear()
        self._keep(live.begin())

    def _grant(self, action: Grant, now: float) -> None:
        request = self._requests.get(action.request_id)
        if request is None or request.granted.done():
            return  # it left a moment ago; its Ended is on its way
        runner = self._policy.fleet.by_id[action.runner_id]
        live = self._live[action.runner_id]
        hold = live.hold(request.want.caller.owner)
        request.leased = LeasedRunner(live.handle.client, hold, kept=live.granted)
        live.granted = True
        request.lease = Lease(
            id=action.request_id,
            runner=cast("RunnerClient", request.leased),
            spec=runner.spec,
            context_window=runner.context_window or runner.spec.context_window,
            load_duration_ns=round((now - request.arrived) * 1e9),
            slots=action.slots,
            runner_id=action.runner_id,
            gives_way=request.want.caller.gives_way,
            place=request.leased.place,
            notices=action.notices,
        )
        request.granted.set_result(action)

    def _interrupt(self, action: Interrupt) -> None:
        request = self._requests.get(action.request_id)
        if request is not None and request.leased is not None:
            request.leased.end(action.error, abort_calls=action.abort_calls)

    def _fail(self, request_id: str, error: CorralError) -> None:
        request = self._requests.get(request_id)
        if request is not None and not request.granted.done():
            request.granted.set_exception(error)

    def _notify(self, action: Notify) -> None:
        request = self._requests.get(action.request_id)
        if request is None or request.want.on_progress is None:
            return
        try:
            request.want.on_progress(action.progress)
        except Exception:
            log.exception("a progress callback failed")

    # ---- side tasks

    def _spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        self._keep(asyncio.create_task(run()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _log_end(event: Died | Stopped | LoadFailed) -> None:
    if isinstance(event, Stopped):
        log.info("runner %d is gone", event.runner_id)
    else:
        log.warning("runner %d failed: %s", event.runner_id, event.error)
