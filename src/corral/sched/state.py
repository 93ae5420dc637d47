"""The policy's records: limits, waiting requests, runners and their leases. Data with small derived values only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from corral.config import Settings
from corral.core import Notice
from corral.names import ModelName
from corral.runner.spec import RunnerSpec
from corral.sched.memory import MemoryEstimate
from corral.sched.nodes import HERE
from corral.sched.request import LeaseRequest

if TYPE_CHECKING:
    from corral.sched.lines import Line


@dataclass(frozen=True, slots=True)
class Limits:
    """The policy's constants; seconds where the name ends in _s. pinned: SHORT names, lower case.

    max_loaded: runners on one node; 0 = by its devices.
    """

    max_loaded: int = 3
    max_queue: int = 512
    keep_alive_s: float = 300.0
    keep_alive_min_s: float = 0.0
    keep_alive_max_s: float = math.inf
    pinned: frozenset[str] = frozenset()
    turn_s: float = 10.0  # a model with requests keeps its place so long while another model's requests wait
    residence_loads: float = 2.0  # a runner that displaced another stays, idle, so many times its load time ...
    residence_max_s: float = 10.0  # ... at most so long, so that A-B-A-B requests do not spend their time loading
    background_patience_s: float = 20.0  # after so long a background request counts as interactive
    batch_patience_s: float = 30.0  # after so long a line of a batch starts beside others' requests
    batch_times: int = 5  # a line that has given way so often goes on beside others, one at a time
    batch_quiet_s: float = 30.0  # a model that others used more recently is not evicted for a batch
    memory_age_s: float = 2.0  # figures older than this are read again before a load
    node_wait_s: float = 30.0  # a request waits so long for a node where there is none
    replica_wait_s: float = 10.0  # a model gets one more runner, elsewhere, when its queue or batch waits longer ...
    replica_idle_s: float = 60.0  # ... and loses it when it has been idle so long
    spread: bool = (
        True  # new runners go to the nodes with the most free memory, else to those with the least that holds
    )
    places_of: Mapping[str, frozenset[str]] = field(default_factory=dict)  # nodes by SHORT name, lower case
    breaker_failures: int = 5
    breaker_window_s: float = 60.0
    breaker_cooldown_s: float = 15.0
    breaker_cooldown_max_s: float = 300.0

    def places(self, devices: int) -> int:
        """How many runners a node with so many GPUs may have."""
        return self.max_loaded or 3 * max(1, devices)

    def keep_alive(self, asked_s: float, name: str) -> float:
        """A keep_alive within the operator's floor and ceiling; pinned models stay for ever."""
        if name.lower() in self.pinned:
            return math.inf
        return min(max(asked_s, self.keep_alive_min_s), self.keep_alive_max_s)


def limits_of(settings: Settings, devices: int | None = 0) -> Limits:
    """The policy's limits from the settings; `devices` is the number of GPUs, None = each node's own counts."""
    return Limits(
        max_loaded=settings.max_loaded_models or (0 if devices is None else 3 * max(1, devices)),
        max_queue=settings.max_queue,
        keep_alive_s=settings.keep_alive_s,
        keep_alive_min_s=settings.keep_alive_min_s,
        keep_alive_max_s=settings.keep_alive_max_s,
        pinned=frozenset(_short(name) for name in settings.pinned),
        spread=settings.cluster_placement == "spread",
        places_of=_places(settings.cluster_pin),
    )


def _short(name: str) -> str:
    return ModelName.parse(name).short.lower()


def _places(pins: Sequence[str]) -> dict[str, frozenset[str]]:
    """`model=node`, as often as wanted, as the nodes of each model."""
    places: dict[str, frozenset[str]] = {}
    for pin in pins:
        name, _, node = pin.rpartition("=")
        places[_short(name.strip())] = places.get(_short(name.strip()), frozenset()) | {node.strip()}
    return places


@dataclass(frozen=True, slots=True)
class Launch:
    """What of a request decides how a load goes: the model, and all of the spec that the request asks for itself.

    What one such launch failed at says nothing of another: a window, a thread count or a template of a client's own.
    """

    key: str
    spec: RunnerSpec

    @classmethod
    def of(cls, want: LeaseRequest) -> Launch:
        """Fields that are ours to choose are left open, whatever was chosen this time."""
        return _launch(want.key, want.spec, want.automatic)


@lru_cache(maxsize=1024)
def _launch(key: str, spec: RunnerSpec, automatic: frozenset[str]) -> Launch:
    chosen = automatic | ({"n_ubatch"} if "n_batch" in automatic else frozenset())
    return Launch(key, replace(spec, **{name: _DEFAULTS[name] for name in chosen & _DEFAULTS.keys()}))


_DEFAULTS: Mapping[str, Any] = {item.name: item.default for item in fields(RunnerSpec) if item.default is not MISSING}


@dataclass(slots=True)
class Waiter:
    """A request that has not been granted. told: what its client was last told; line: where it stands (fairness.py)."""

    id: str
    want: LeaseRequest
    arrived: float
    told: tuple[str, int, int] = ("", 0, 0)
    line: Line | None = None
    aged: bool = False  # it was a background request and is served as an interactive one
    launch: Launch = field(init=False)

    def __post_init__(self) -> None:
        self.launch = Launch.of(self.want)

    @property
    def client(self) -> str:
        """Whom its turn is charged to."""
        return self.want.caller.client

    @property
    def blob(self) -> str:
        """The digest of its model's weights."""
        return self.want.spec.model_path.name.replace("-", ":", 1)

    @property
    def gives_way(self) -> bool:
        """Whether it is a line of a batch."""
        return self.want.caller.gives_way

    def is_background(self, now: float, limits: Limits) -> bool:
        """Whether interactive requests go first."""
        if self.want.caller.priority != "background":
            return self.gives_way
        return now < self.arrived + limits.background_patience_s  # as the timers have it, to the last bit

    def is_overdue(self, now: float, limits: Limits) -> bool:
        """Whether it has waited for more than a turn, so that others have to make room."""
        return not self.gives_way and now >= self.arrived + limits.turn_s


@dataclass(slots=True)
class Held:
    """A granted lease."""

    request_id: str
    want: LeaseRequest
    slots: int
    arrived: float
    started: float
    leaving: bool = False  # it was told to end for another
    patient: bool = False  # a line that goes on beside others, having waited or given way for so long

    @property
    def gives_way(self) -> bool:
        """Whether it is a line of a batch."""
        return self.want.caller.gives_way


@dataclass(slots=True)
class Runner:
    """One runner from Load until it is gone.

    last_idle: when it last became idle (None = never was); unload_asked: when it was told to go once idle.
    planned_window: tokens, before memory lowered it: a request for more does not ask for the same in vain.
    shape: number of what requests compare it by (stock.py). leaving: its node is to be emptied; no more requests.
    extra: one more beside others of its model, which goes when it was idle for spare_s. wakes_at: when it is looked at.
    displaced: another runner had to go for it. last_try: loaded with less after running out of memory.
    notices: what everybody it serves must be told.
    renewal: on its way out to be loaded anew, or being loaded so: nobody waits for it, and yet it is wanted.
    """

    id: int
    key: str
    name: str
    digest: str
    details: Mapping[str, Any]
    spec: RunnerSpec
    launch: Launch
    automatic: frozenset[str]
    need: MemoryEstimate
    keep_alive_s: float
    pinned: bool
    load_started: float
    node: str = HERE
    planned_window: int = 0
    state: Literal["loading", "ready", "stopping"] = "loading"
    translating: tuple[int, int] = (0, 0)  # before its engine starts: bytes of its files so far, and in all
    slots: int = 1
    context_window: int = 0
    measured_bytes: int = 0
    ready_at: float = 0.0
    last_used: float = 0.0
    last_idle: float | None = None
    unload_asked: float | None = None
    displaced: bool = False
    last_try: bool = False
    renewal: bool = False
    shape: int = 0
    leaving: bool = False
    extra: bool = False
    spare_s: float = math.inf
    wakes_at: float = math.inf
    persons: int = 0  # leases that are no lines of batches, as fleet.py counted them
    notices: tuple[Notice, ...] = ()
    leases: dict[str, Held] = field(default_factory=dict)

    @property
    def free_slots(self) -> int:
        """Slots nobody holds; 0 unless ready."""
        return self.slots - sum(held.slots for held in self.leases.values()) if self.state == "ready" else 0

    @property
    def spares_last_slot(self) -> bool:
        """Whether its last free slot is for requests that are not large."""
        return self.free_slots == 1 and any(held.want.large for held in self.leases.values())

    @property
    def clients(self) -> frozenset[str]:
        """Whom it serves now."""
        return frozenset(held.want.caller.client for held in self.leases.values())

    @property
    def is_idle(self) -> bool:
        """Ready and held by nobody."""
        return self.state == "ready" and not self.leases

    @property
    def held_bytes(self) -> int:
        """Host memory that comes back when it goes."""
        return self.measured_bytes or self.need.host_bytes

    def expires_at(self, now: float) -> float:
        """When it will go if nobody asks for it any more; the rules of spec native-api 1.6."""
        if self.unload_asked is not None:
            return self.unload_asked
        stays_s = min(self.keep_alive_s, self.spare_s) if self.extra else self.keep_alive_s
        return (now if self.last_idle is None else self.last_idle) + stays_s

    def resides_until(self, limits: Limits) -> float:
        """Until when it may not be evicted for a request that is not overdue."""
        if not self.displaced:
            return self.ready_at
        return self.ready_at + min(limits.residence_loads * (self.ready_at - self.load_started), limits.residence_max_s)
