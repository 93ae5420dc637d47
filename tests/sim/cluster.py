"""A cluster that exists in numbers only: the real policy, with nodes, runners and clients that a clock moves.

`python -m tests.sim.plan` runs it at three sizes and draws the results; `tests/unit/sched/test_cluster_sim.py` holds a
small one to what it must keep.

The arrivals have the shape of public traces, as their papers give it and as far as it is remembered here; no trace is
read. Lengths: Azure's LLM inference trace of 2023, conversations, has prompts of 1,155 tokens and answers of 211 in the
mean, both with long tails (log-normal, sigma 1.0 and 0.9). Gaps: BurstGPT finds them gamma-distributed with a shape
below 1, which is burstier than Poisson (0.5 here). Models: popularity by Zipf's law, exponent 1.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corral.core import Caller
from corral.runner.spec import RunnerSpec
from corral.sched.events import (
    Died,
    Ended,
    Event,
    Fail,
    Grant,
    Interrupt,
    Load,
    Loaded,
    NodeJoined,
    NodeLost,
    NodeReported,
    ReadMemory,
    Requested,
    Stop,
    Stopped,
    Ticked,
)
from corral.sched.memory import HostFigures, MemoryEstimate
from corral.sched.policy import Policy
from corral.sched.request import LeaseRequest
from corral.sched.state import Limits

GIB = 2**30
PROMPT_TOKENS, PROMPT_SIGMA = 1155, 1.0
ANSWER_TOKENS, ANSWER_SIGMA = 211, 0.9
GAP_SHAPE = 0.5
READ_PER_S, WRITE_PER_S = 2000.0, 30.0  # tokens of a prompt and of an answer
COPY_PER_S = 1.0 * GIB  # from a peer
OPEN_PER_S = 2.0 * GIB  # from disk
REPORT_S = 1.0
SLOTS = 4
AUTOMATIC = frozenset({"context_window", "n_batch", "use_mmap", "num_parallel", "n_threads"})


@dataclass(frozen=True)
class Shape:
    """What is simulated. load: of what all slots of the cluster could serve; heavy: share of one greedy client."""

    nodes: int = 10
    clients: int = 1000
    models: int = 20
    seconds: float = 120.0
    load: float = 0.6
    heavy: float = 0.1
    lost: float = 0.02  # of the nodes die in the middle, and are back a while later
    seed: int = 1


@dataclass
class Outcome:
    """What came of it; times in seconds."""

    waits: array[float] = field(default_factory=lambda: array("d"))
    heavy_waits: array[float] = field(default_factory=lambda: array("d"))
    decision_s: array[float] = field(default_factory=lambda: array("d"))
    looked_at: array[int] = field(default_factory=lambda: array("l"))  # nodes, by event
    queue: list[tuple[float, int]] = field(default_factory=list)  # (time, requests that wait)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class _Machine:
    id: str
    total: int
    blobs: set[str]
    used: dict[int, int] = field(default_factory=dict)
    up: bool = True

    def figures(self) -> HostFigures:
        return HostFigures(self.total, self.total - sum(self.used.values()), (), 16)


class Simulation:
    """One run. `Outcome` is complete when `run` returns."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.chance = random.Random(shape.seed)
        self.limits = Limits(max_queue=10**6, max_loaded=3, keep_alive_s=300.0)
        self.policy = Policy(self.limits, clustered=True)
        self.outcome = Outcome()
        self.now = 0.0
        self._events: list[tuple[float, int, Event]] = []
        self._order = itertools.count()
        self._arrived: dict[str, tuple[float, float, bool]] = {}  # request -> (when, how long it is served, heavy)
        self._serving: dict[str, int] = {}
        self._runner: dict[int, Load] = {}
        self._models = [self._model(number) for number in range(shape.models)]
        weights = [1 / (number + 1) for number in range(shape.models)]
        self._popularity = list(itertools.accumulate(weights))
        self._machines = {machine.id: machine for machine in map(self._machine, range(shape.nodes))}

    def _model(self, number: int) -> tuple[RunnerSpec, MemoryEstimate]:
        gib = 2 ** self.chance.uniform(1.0, 5.0)
        spec = RunnerSpec(Path(f"/sha256-{number:064x}"), context_window=8192, num_parallel=SLOTS)
        need = MemoryEstimate(int(gib * GIB), kv_bytes_per_token=16384, context_window=8192, slots=SLOTS)
        return spec, need

    def _machine(self, number: int) -> _Machine:
        total = self.chance.choice((64, 128, 256)) * GIB
        picked = self.chance.choices(range(self.shape.models), cum_weights=self._popularity, k=6)
        return _Machine(f"n{number:04}", total, {f"sha256:{model:064x}" for model in picked})

    # ---- running

    def run(self) -> Outcome:
        """All of it."""
        shape = self.shape
        for machine in self._machines.values():
            self._send(NodeJoined(machine.id, machine.figures(), frozenset(machine.blobs)))
            self._later(self.chance.random() * REPORT_S, NodeReported(machine.id, machine.figures()))
        self._plan_losses()
        arrivals = self._arrivals()
        due = next(arrivals)
        while True:
            wake = self.policy.next_deadline(self.now)
            first = self._events[0][0] if self._events else shape.seconds
            moment = min(due[0], first, wake if wake is not None else shape.seconds)
            if moment >= shape.seconds:
                break
            self.now = max(self.now, moment)
            if moment == due[0]:
                self._send(due[1])
                due = next(arrivals)
            elif moment == first:
                self._deliver(heapq.heappop(self._events)[2])
            else:
                self._send(Ticked())
            if not self.outcome.queue or self.now - self.outcome.queue[-1][0] >= 1.0:
                self.outcome.queue.append((self.now, len(self.policy.queue)))
        for waiter in self.policy.queue:
            self._note_wait(waiter.id, self.now - waiter.arrived)
        return self.outcome

    def _arrivals(self) -> Any:
        shape, chance = self.shape, self.chance
        served_s = PROMPT_TOKENS / READ_PER_S + ANSWER_TOKENS / WRITE_PER_S
        rate = shape.load * shape.nodes * self.limits.max_loaded * SLOTS / served_s
        favourites = chance.choices(range(shape.models), cum_weights=self._popularity, k=shape.clients)
        when = 0.0
        for number in itertools.count():
            when += chance.gammavariate(GAP_SHAPE, 1 / (rate * GAP_SHAPE))
            heavy = chance.random() < shape.heavy
            client = 0 if heavy else chance.randrange(shape.clients)
            spec, need = self._models[favourites[client]]
            caller = Caller(f"c{client}", "/api/chat", "interactive")
            key = str(spec.model_path)
            want = LeaseRequest(key, key, "", spec, AUTOMATIC, caller=caller, memory=need, prefixes=(f"c{client}",))
            name = f"r{number}"
            reading = _lognormal(chance, PROMPT_TOKENS, PROMPT_SIGMA) / READ_PER_S
            writing = _lognormal(chance, ANSWER_TOKENS, ANSWER_SIGMA) / WRITE_PER_S
            self._arrived[name] = (when, reading + writing, heavy)
            yield when, Requested(name, want)

    def _plan_losses(self) -> None:
        middle = self.shape.seconds / 2
        count = round(self.shape.lost * self.shape.nodes)
        for name in self.chance.sample(sorted(self._machines), count):
            self._later(middle, NodeLost(name, "it does not answer"))
            machine = self._machines[name]
            self._later(middle + 20.0, NodeJoined(name, HostFigures(machine.total, machine.total, (), 16)))

    # ---- what the world does

    def _later(self, after: float, event: Event) -> None:
        heapq.heappush(self._events, (self.now + after, next(self._order), event))

    def _deliver(self, event: Event) -> None:
        match event:
            case NodeReported():
                machine = self._machines[event.node_id]
                self._later(REPORT_S, event)
                if machine.up:
                    self._send(NodeReported(machine.id, machine.figures(), frozenset(machine.blobs)))
            case NodeLost():
                machine = self._machines[event.node_id]
                machine.up, machine.used = False, {}
                self._send(event)
            case NodeJoined():
                self._machines[event.node_id].up = True
                self._send(event)
            case Ended():
                if self._serving.pop(event.request_id, None) is not None:
                    self._send(event)
            case Loaded() | Stopped() | Died():
                load = self._runner.get(event.runner_id)
                if load is not None and self._machines[load.node].up:
                    self._on_runner(event, load)
            case _:
                self._send(event)

    def _on_runner(self, event: Loaded | Stopped | Died, load: Load) -> None:
        machine = self._machines[load.node]
        if isinstance(event, Loaded):
            if load.runner_id not in machine.used:
                return  # it was stopped, or its machine died
            machine.blobs.add(load.spec.model_path.name.replace("-", ":", 1))
        else:
            machine.used.pop(load.runner_id, None)
            del self._runner[load.runner_id]
        self._send(event)

    def _send(self, event: Event) -> None:
        before = self.policy.nodes.looked_at
        began = time.thread_time()
        actions = self.policy.handle(event, self.now)
        self.outcome.decision_s.append(time.thread_time() - began)
        self.outcome.looked_at.append(self.policy.nodes.looked_at - before)
        for action in actions:
            self._perform(action)

    def _perform(self, action: Any) -> None:
        match action:
            case Load():
                self.outcome.counts["loads"] += 1
                self.outcome.counts["replicas"] += self.policy.fleet.by_id[action.runner_id].extra
                self._runner[action.runner_id] = action
                machine = self._machines[action.node]
                size = action.need.needed_bytes
                machine.used[action.runner_id] = action.need.host_bytes
                there = action.spec.model_path.name.replace("-", ":", 1) in machine.blobs
                self.outcome.counts["copies"] += not there
                took = 1.0 + size / OPEN_PER_S + (0.0 if there else size / COPY_PER_S)
                self._later(took, Loaded(action.runner_id, action.need.slots, 8192))
            case Stop():
                self.outcome.counts[f"stops: {action.reason}"] += 1
                self._later(0.5, Stopped(action.runner_id))
            case Grant():
                when, takes, _ = self._arrived[action.request_id]
                self._note_wait(action.request_id, self.now - when)
                self._serving[action.request_id] = action.runner_id
                self._later(takes, Ended(action.request_id))
            case Fail() | Interrupt():
                self.outcome.counts[f"errors: {type(action.error).__name__}"] += 1
                self._serving.pop(action.request_id, None)
                self._later(0.0, Ended(action.request_id)) if isinstance(action, Fail) else self._end(action)
            case ReadMemory():
                self._later(0.005, NodeReported(action.node, self._machines[action.node].figures()))

    def _end(self, action: Interrupt) -> None:
        self._serving[action.request_id] = 0
        self._later(0.001, Ended(action.request_id))

    def _note_wait(self, request_id: str, seconds: float) -> None:
        heavy = self._arrived.pop(request_id)[2]
        (self.outcome.heavy_waits if heavy else self.outcome.waits).append(seconds)


def _lognormal(chance: random.Random, mean: float, sigma: float) -> float:
    """By its mean: exp(mu + sigma²/2)."""
    return mean * chance.lognormvariate(-sigma * sigma / 2, sigma)
