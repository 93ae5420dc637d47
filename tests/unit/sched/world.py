"""The policy's surroundings for its tests: a clock that is moved by hand, and a book of what the policy wanted done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from corral.core import Caller, Progress
from corral.errors import CorralError, RunnerDied, RunnerFailedToStart
from corral.runner.spec import RunnerSpec
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
    NodeDrainAsked,
    NodeJoined,
    NodeLost,
    NodeReported,
    Notify,
    ReadMemory,
    RenewAsked,
    Requested,
    ShutdownAsked,
    Stop,
    Stopped,
    Ticked,
    UnloadAsked,
)
from corral.sched.memory import RUNNER_OVERHEAD_BYTES, DeviceFigures, HostFigures, MemoryEstimate
from corral.sched.policy import Policy
from corral.sched.request import LeaseRequest
from corral.sched.state import Limits, Runner

GIB = 2**30
ALL_AUTOMATIC = frozenset({"context_window", "n_batch", "use_mmap", "num_parallel", "n_threads"})


def size(
    gib: float, *, slots: int = 1, context_window: int = 4096, per_token: int = 0, gpu: float = 0.0, layers: int = 10
) -> MemoryEstimate:
    """An estimate of a runner that needs `gib` besides its KV cache; gpu: the part of it on GPUs."""
    return MemoryEstimate(
        weights_bytes=int(gib * GIB) - RUNNER_OVERHEAD_BYTES,
        kv_bytes_per_token=per_token,
        context_window=context_window,
        slots=slots,
        gpu_share=gpu,
        layers=layers,
    )


def want(
    key: str = "a",
    *,
    client: str = "c",
    priority: Any = "interactive",
    keep_alive_s: float | None = None,
    gib: float = 1.0,
    parallel: int = 1,
    slots: int = 1,
    context_window: int = 4096,
    least_window: int = 0,
    per_token: int = 0,
    gpu: float = 0.0,
    automatic: frozenset[str] = ALL_AUTOMATIC,
    on_progress: Callable[[Progress], None] | None = None,
    request_id: str = "",
    large: bool = False,
    prefixes: tuple[str, ...] = (),
    given_way: int = 0,
    left: int = 0,
    **spec: Any,
) -> LeaseRequest:
    """A request for model `key`; `parallel` is the number of slots its runner would have."""
    return LeaseRequest(
        key=key,
        name=f"{key}:latest",
        digest=f"digest-{key}",
        spec=RunnerSpec(Path(f"/{key}"), context_window=context_window, num_parallel=parallel, **spec),
        automatic=automatic,
        keep_alive_s=keep_alive_s,
        caller=Caller(client, "/api/chat", priority, given_way=given_way, left=left),
        memory=size(gib, slots=parallel, context_window=context_window, per_token=per_token, gpu=gpu),
        slots=slots,
        on_progress=on_progress,
        request_id=request_id,
        large=large,
        least_window=least_window,
        prefixes=prefixes,
    )


class World:
    """Feeds a policy and books its actions. Requests for memory figures are answered at once, from `free_gib`."""

    def __init__(
        self, *, free_gib: float = 1000.0, gpu_gib: float | None = None, clustered: bool = False, **limits: Any
    ) -> None:
        self.policy = Policy(Limits(**limits), clustered=clustered)
        self.now = 0.0
        self.free_gib = free_gib
        self.gpu_gib = gpu_gib  # free on the one GPU; None = there is none
        self.log: list[Action] = []
        self.granted: dict[str, int] = {}  # request -> runner, in order
        self.failed: dict[str, CorralError] = {}
        self.interrupted: dict[str, CorralError] = {}
        self.loads: list[Load] = []
        self.stops: list[tuple[str, str]] = []  # (model, reason)
        self.node_gib: dict[str, float] = {}  # free on a cluster's nodes
        self.reasons: dict[int, str] = {}  # of stops, by runner
        self._keys: dict[int, str] = {}  # model by runner
        self.told: dict[str, list[Progress]] = {}

    def send(self, event: Event) -> list[Action]:
        """One event; what came back, with what followed from a memory reading."""
        actions = self.policy.handle(event, self.now)
        for action in actions:
            self._book(action)
        for action in tuple(actions):
            if isinstance(action, ReadMemory) and action.node in self.policy.nodes:
                actions += self.send(NodeReported(action.node, self.figures(action.node)))
        self.log += actions
        return actions

    def figures(self, node: str = "") -> HostFigures:
        """What is free on a node now."""
        cards = () if self.gpu_gib is None else (DeviceFigures(int(1e12), int(self.gpu_gib * GIB)),)
        return HostFigures(int(1e12), int(self.node_gib.get(node, self.free_gib) * GIB), cards)

    def join(self, *nodes: str, gib: float | None = None, blobs: Iterable[str] = ()) -> None:
        """Machines of a cluster, each with so much free, come up."""
        for node in nodes:
            self.node_gib[node] = self.free_gib if gib is None else gib
            self.send(NodeJoined(node, self.figures(node), frozenset(blobs)))

    def lose(self, node: str) -> None:
        """A machine dies."""
        self.send(NodeLost(node, "it does not answer"))

    def drain(self, node: str) -> None:
        """A machine is to be emptied."""
        self.send(NodeDrainAsked(node))

    def on(self, node: str) -> list[str]:
        """The models of the runners on a node."""
        return sorted(runner.key for runner in self.policy.fleet if runner.node == node)

    def _book(self, action: Action) -> None:
        match action:
            case Grant():
                assert action.request_id not in self.granted, "granted twice"
                self.granted[action.request_id] = action.runner_id
            case Fail():
                assert action.request_id not in self.granted, "failed after its grant"
                assert action.request_id not in self.failed, "failed twice"
                self.failed[action.request_id] = action.error
            case Interrupt():
                self.interrupted[action.request_id] = action.error
            case Load():
                self.loads.append(action)
                self._keys[action.runner_id] = action.key
            case Stop():
                self.stops.append((self._keys[action.runner_id], action.reason))
                self.reasons[action.runner_id] = action.reason
            case Notify():
                self.told.setdefault(action.request_id, []).append(action.progress)
            case ReadMemory():
                pass

    def ask(self, *request_ids: str, **wish: Any) -> None:
        """Requests of these ids, all alike."""
        for request_id in request_ids:
            self.send(Requested(request_id, want(**wish)))

    def runner(self, key: str = "a") -> Runner:
        """The newest runner of a model."""
        return [runner for runner in self.policy.fleet if runner.key == key][-1]

    def has_runner(self, key: str) -> bool:
        """Whether there is one, in whatever state."""
        return any(runner.key == key for runner in self.policy.fleet)

    def ready(self, key: str = "a", *, after: float = 0.0, slots: int | None = None, gib: float = 0.0) -> None:
        """The loading runner of this model gets ready."""
        self.now += after
        runner = self.runner(key)
        count = runner.spec.num_parallel if slots is None else slots
        self.send(Loaded(runner.id, count, runner.spec.context_window, int(gib * GIB)))

    def load_fails(self, key: str = "a", *, out_of_memory: bool = False, text: str = "bad tensor") -> None:
        """The loading runner of this model gives up."""
        error = RunnerFailedToStart("llama-server process has terminated: exit status 1", (text,))
        self.send(LoadFailed(self.runner(key).id, error, out_of_memory))

    def dies(self, key: str = "a") -> None:
        """The ready runner of this model crashes."""
        self.send(Died(self.runner(key).id, RunnerDied(-11, ("segmentation fault",))))

    def gone(self, key: str) -> None:
        """The stopping runner of this model is reaped."""
        self.send(Stopped(self.runner(key).id))

    def end(self, *request_ids: str) -> None:
        """Their holders are done, or have left."""
        for request_id in request_ids:
            self.send(Ended(request_id))

    def cancel(self, request_id: str) -> None:
        """DELETE /api/requests/{id}."""
        self.send(CancelAsked(request_id))

    def unload(self, key: str = "a") -> None:
        """keep_alive 0 without a prompt."""
        self.send(UnloadAsked(key))

    def shut_down(self, *, force: bool = False) -> None:
        """SIGTERM."""
        self.send(ShutdownAsked(force))

    def renew(self, key: str = "a") -> None:
        """The host has changed since the load."""
        self.send(RenewAsked(self.runner(key).id))

    def wait(self, seconds: float) -> None:
        """Let time pass, with a tick at every moment the policy named."""
        until = self.now + seconds
        while (deadline := self.policy.next_deadline(self.now)) is not None and deadline <= until:
            self.now = deadline
            self.send(Ticked())
        self.now = until

    def serve(self, key: str = "a", **wish: Any) -> None:
        """Load a model and leave it idle."""
        request_id = f"load-{key}-{len(self.log)}"
        self.ask(request_id, key=key, **wish)
        if request_id not in self.granted:
            self.ready(key)
        self.end(request_id)
