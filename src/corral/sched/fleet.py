"""The policy's runners: which exist, which suits a request, starting and stopping them. Pure; owned by policy.py."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import count

from corral.core import Notice
from corral.runner.spec import RunnerSpec
from corral.sched.events import Action, Load, Loaded, Stop
from corral.sched.lines import Line
from corral.sched.memory import SMALL_WINDOWS, MemoryEstimate
from corral.sched.nodeindex import Nodes
from corral.sched.nodes import HERE
from corral.sched.state import Limits, Runner, Waiter
from corral.sched.stock import Stock


class Fleet:
    """All runners from Load until they are gone; what is to be done to them goes to `act`.

    touched: models whose runners have changed since the policy last looked; wake: note when to look at a runner.
    """

    def __init__(
        self,
        limits: Limits,
        act: Callable[[Action], None],
        nodes: Nodes,
        wake: Callable[[float, int], None],
    ) -> None:
        self.limits = limits
        self._act = act
        self._wake = wake
        self._last_id = 0
        self._shapes = count(1)
        self._displacing: set[str] = set()  # models that another one had to go for
        self._stocks: dict[str, Stock] = {}
        self._empty = Stock()
        self.nodes = nodes
        self.by_id: dict[int, Runner] = {}
        self.touched: dict[str, None] = {}
        self._changed: dict[int, None] = {}  # runners, since stop_expired
        self.idle: OrderedDict[int, None] = OrderedDict()  # idle runners, longest unused first
        self.with_lines: dict[int, None] = {}  # runners that serve lines of batches

    def __iter__(self) -> Iterator[Runner]:
        return iter(tuple(self.by_id.values()))

    def __repr__(self) -> str:
        return f"Fleet({list(self.by_id.values())})"

    def of(self, key: str) -> Stock:
        """The runners of one model."""
        return self._stocks.get(key, self._empty)

    def suitable(self, waiter: Waiter) -> Runner | None:
        """A runner, ready or loading, that can serve this request: one with a free slot if there is."""
        assert waiter.line is not None
        return self.of(waiter.want.key).any_for(waiter.line)

    def file(self, runner: Runner, now: float = 0.0) -> None:
        """Take note that something of a runner has changed."""
        self.touched[runner.key] = self._changed[runner.id] = None
        self._stocks.setdefault(runner.key, Stock()).file(runner, self._shapes)
        self.nodes.changed(runner.node, self.on(runner.node))
        self._count(runner, sum(not held.gives_way for held in runner.leases.values()))
        if not runner.is_idle:
            self.idle.pop(runner.id, None)
        elif runner.id not in self.idle:
            self.idle[runner.id] = None
        if runner.is_idle:
            self.wake(runner, runner.expires_at(now))

    def _count(self, runner: Runner, persons: int) -> None:
        self.nodes[runner.node].persons += persons - runner.persons
        runner.persons = persons
        if len(runner.leases) > persons:
            self.with_lines[runner.id] = None
        else:
            self.with_lines.pop(runner.id, None)

    def wake(self, runner: Runner, when: float) -> None:
        """Look at a runner at this time at the latest."""
        if when < runner.wakes_at:
            runner.wakes_at = when
            self._wake(when, runner.id)

    def woken(self, runner_id: int, now: float) -> None:
        """The time has come to look at a runner."""
        runner = self.by_id[runner_id]
        runner.wakes_at = math.inf
        self.touched[runner.key] = self._changed[runner_id] = None
        limits = self.limits
        moments = [
            runner.resides_until(limits),
            runner.ready_at + limits.turn_s,
            runner.last_used + limits.batch_quiet_s,
        ]
        if runner.is_idle:
            moments.append(runner.expires_at(now))
        self.wake(runner, min((moment for moment in moments if moment > now), default=math.inf))

    def load(
        self, head: Waiter, need: MemoryEstimate, now: float, *, node: str = HERE, last_try: bool, extra: bool = False
    ) -> Runner:
        """Start a runner for this request on a node, in the form that `need` has."""
        want = head.want
        self._last_id += 1
        asked = self.limits.keep_alive_s if want.keep_alive_s is None else want.keep_alive_s
        runner = Runner(
            id=self._last_id,
            key=want.key,
            name=want.name,
            digest=want.digest,
            details=want.details,
            spec=_in_form(want.spec, want.memory, need, want.automatic),
            launch=head.launch,
            automatic=want.automatic,
            planned_window=want.spec.context_window,
            need=need,
            keep_alive_s=self.limits.keep_alive(asked, want.name),
            pinned=want.name.lower() in self.limits.pinned,
            load_started=now,
            node=node,
            slots=need.slots,
            displaced=want.key in self._displacing,
            last_try=last_try,
            extra=extra,
            spare_s=self.limits.replica_idle_s,
        )
        self._displacing.discard(want.key)
        self._begin(runner)
        return runner

    def _begin(self, runner: Runner) -> None:
        self.by_id[runner.id] = runner
        self.nodes[runner.node].runners[runner.id] = None
        self.file(runner)
        self._act(Load(runner.id, runner.key, runner.spec, runner.need, runner.node))

    def begin_renewal(self, runner_id: int) -> None:
        """Stop this runner to load it anew, unless it is in use or about to go anyway."""
        runner = self.by_id.get(runner_id)
        if runner is not None and runner.is_idle and runner.unload_asked is None:
            runner.renewal = True
            self.stop("renew", [runner])

    def end_renewal(self, gone: Runner, now: float) -> None:
        """Load a runner that was stopped for this again; it expires when the former one would have."""
        self._last_id += 1
        runner = replace(gone, id=self._last_id, state="loading", load_started=now, measured_bytes=0, leases={})
        self._begin(runner)

    def remove(self, runner_id: int) -> Runner | None:
        """It is gone; what was read of its node's memory before is no longer so."""
        runner = self.by_id.pop(runner_id, None)
        if runner is None:
            return None
        self.idle.pop(runner_id, None)
        self._count(runner, 0)
        self.with_lines.pop(runner_id, None)
        self.touched[runner.key] = None
        stock = self._stocks[runner.key]
        stock.remove(runner)
        if not stock.runners:
            del self._stocks[runner.key]
        elif all(other.extra for other in stock.runners.values()):
            next(iter(stock.runners.values())).extra = False
        node = self.nodes[runner.node]
        del node.runners[runner_id]
        node.figures = None
        self.nodes.changed(node.id, self.on(node.id))
        return runner

    def became_ready(self, event: Loaded, now: float) -> Runner | None:
        """Take the engine's own figures; None when it is to stop anyway."""
        runner = self.by_id.get(event.runner_id)
        if runner is None or runner.state != "loading":
            return None
        runner.state, runner.renewal = "ready", False
        runner.slots, runner.context_window = max(1, event.slots), event.context_window
        runner.measured_bytes = event.measured_bytes
        runner.ready_at = runner.last_used = now
        runner.notices = ()
        runner.leaving = self.nodes[runner.node].state == "draining"
        self.nodes[runner.node].figures = None  # read before it took its memory
        if event.device_error and runner.need.gpu_share:
            runner.need = replace(runner.need, gpu_share=0.0)
            text = f"the model was to use a GPU, but computes on the CPU: {event.device_error}"
            runner.notices = (Notice("computes_on_cpu", text, {"reason": event.device_error}),)
        self.file(runner, now)
        self.wake(runner, runner.resides_until(self.limits))
        self.wake(runner, now + self.limits.turn_s)
        return runner

    def evict(self, runner_ids: Iterable[int], reason: str, *, in_favour_of: Waiter) -> None:
        """Stop idle runners for another model, which is to have its time then, unless it is for a batch."""
        if not in_favour_of.gives_way:
            self._displacing.add(in_favour_of.want.key)
        self.stop(reason, [self.by_id[runner_id] for runner_id in runner_ids])

    def stop(self, reason: str, runners: Iterable[Runner]) -> None:
        """Stop those that are not stopping already."""
        for runner in runners:
            if runner.state != "stopping":
                runner.state = "stopping"
                self.file(runner)
                self._act(Stop(runner.id, reason))

    def stop_expired(self, now: float) -> None:
        """Stop those that changed lately, are idle, and whose keep_alive has run out."""
        changed, self._changed = self._changed, {}
        runners = [self.by_id[name] for name in changed if name in self.by_id]
        self.stop("expire", [runner for runner in runners if runner.is_idle and runner.expires_at(now) <= now])

    def abort_unwanted(self, key: str, lines: Iterable[Line]) -> None:
        """Loads of a model that nobody waits for any more are given up: stop means stop."""
        stock = self.of(key)
        wanted = {runner.id for line in lines for runner in stock.loading_for(line)}
        unwanted = [runner for runner in stock.loading() if not runner.renewal and runner.id not in wanted]
        self.stop("aborted", unwanted)

    def ask_to_go(self, now: float, key: str | None = None) -> None:
        """Runners of this model (None = all) go once they are idle."""
        for runner in self:
            if key in {None, runner.key}:
                runner.unload_asked, runner.keep_alive_s = now, 0.0
                self.file(runner, now)

    def leave(self, node: str, now: float) -> None:
        """The runners of a node take no more requests and go once they are idle; those that load are given up."""
        runners = self.on(node)
        for runner in runners:
            runner.leaving, runner.unload_asked, runner.keep_alive_s = True, now, 0.0
            self.file(runner, now)
        self.nodes.changed(node, runners)
        self.stop("drain", [runner for runner in runners if runner.state == "loading"])

    def on(self, node: str) -> list[Runner]:
        """The runners of one node."""
        return [self.by_id[runner_id] for runner_id in self.nodes[node].runners]

    def others_idle(self, node: str) -> list[Runner]:
        """Idle runners of a node that may go when memory ran out there."""
        return [runner for runner in self.on(node) if runner.is_idle and not runner.pinned]

    def smaller_form(self, runner: Runner) -> MemoryEstimate | None:
        """What to try after `runner` ran out of memory: less of what is ours to choose; None = nothing left to try.

        Source: ollama server/sched.go, load OOM (spec native-api 7.6): once, with a smaller automatic window.
        """
        if runner.last_try:
            return None
        need = runner.need
        window = next((size for size in SMALL_WINDOWS if size < need.context_window), need.context_window)
        smaller = need.at(
            context_window=window if "context_window" in runner.automatic else None,
            slots=1 if "num_parallel" in runner.automatic else None,
        )
        return smaller if smaller != need or self.others_idle(runner.node) else None


def _in_form(spec: RunnerSpec, planned: MemoryEstimate, form: MemoryEstimate, automatic: frozenset[str]) -> RunnerSpec:
    """The spec with what is ours to choose as the form has it."""
    if form.slots != planned.slots:
        spec = replace(spec, num_parallel=form.slots)
    if form.context_window != planned.context_window:
        spec = replace(spec, context_window=form.context_window)
    if "n_gpu_layers" in automatic and form.gpu_share < 1.0:
        spec = replace(spec, n_gpu_layers=form.device_layers)  # by itself the engine puts all of them on the GPUs
    return spec


def grant_notices(runner: Runner, waiter: Waiter) -> tuple[Notice, ...]:
    """What the holder must be told: of its runner, and that its window is smaller than planned."""
    asked, got = waiter.want.spec.context_window, runner.spec.context_window
    if got >= asked:
        return runner.notices
    text = f"num_ctx was lowered from {asked} to {got} to fit in memory"
    return (*runner.notices, Notice("num_ctx_lowered", text, {"planned": asked, "num_ctx": got}))
