"""The nouns of the scheduler's callers: what they ask for (`LeaseRequest`), what they get, and what can be listed.

No behaviour. `inference/` builds requests and holds leases; `server/` lists `LoadedModel`s and `RequestInfo`s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from corral.core import Caller, Notice, Progress
from corral.runner.spec import RunnerSpec
from corral.sched.leased import LeasedPlace
from corral.sched.memory import MemoryEstimate
from corral.sched.nodes import HERE

if TYPE_CHECKING:
    from corral.runner.client import RunnerClient


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """One request's wish for a runner.

    key: path of the weights; names that share a blob share a runner. automatic: fields of `spec` that nobody asked
    for, so that they neither force a reload nor must be kept when memory is short. slots: how many slots to take
    (at most all of the runner's). least_window: a runner that was to have a smaller window is no use, although the
    window is automatic. large: its texts keep a slot for long, so that others' must find one. prefixes: names of what
    its prompt begins with, the longest first (affinity.py). keep_alive_s: None = leave the runner's value; math.inf =
    for ever.
    """

    key: str
    name: str
    digest: str
    spec: RunnerSpec
    automatic: frozenset[str] = frozenset()
    keep_alive_s: float | None = None
    caller: Caller = field(default_factory=Caller)
    details: Mapping[str, Any] = field(default_factory=dict)
    memory: MemoryEstimate = field(default_factory=MemoryEstimate)
    on_progress: Callable[[Progress], None] | None = None
    slots: int = 1
    least_window: int = 0
    large: bool = False
    prefixes: tuple[str, ...] = ()
    request_id: str = ""  # "" = the scheduler makes one


@dataclass(slots=True)
class Lease:
    """A granted request: the right to use `slots` slots of a runner until the context manager is left.

    runner: its calls raise RequestCanceled once the request was cancelled. spec: as loaded, which may differ from the
    request in automatic fields. context_window: tokens a slot can hold, as the engine capped it. load_duration_ns: from
    the request to the grant. place: its share in the runner's slots. `note` keeps token counts for
    the list of requests.
    """

    id: str
    runner: RunnerClient
    spec: RunnerSpec
    context_window: int
    load_duration_ns: int
    slots: int = 1
    runner_id: int = 0
    gives_way: bool = False  # a line of a batch
    place: LeasedPlace = field(default_factory=LeasedPlace)
    notices: tuple[Notice, ...] = ()
    prompt_tokens: int = 0  # these four tell how far the request is; shown by `Scheduler.requests()`
    processed_tokens: int = 0
    cached_tokens: int = 0
    eval_tokens: int = 0


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One runner, for /api/ps. size_bytes = weights + KV cache + compute buffers (the weights' size until known).

    expires_at: when it last went idle + keep_alive; while it never was idle: now + keep_alive; about 292 years ahead
    for "for ever" (Source: ollama server/sched.go, spec native-api 1.6). memory: where size_bytes comes from; planned:
    the same parts as they were estimated before the load. prompts: where their tokens came from so far. build: the
    engine's own name for itself.
    spec: as planned, launched: with what the launcher filled in. load_s: how long the load took, age_s: since then,
    idle_s: since its last use; 0 while they mean nothing.
    """

    name: str
    key: str
    digest: str
    details: Mapping[str, Any]
    state: Literal["loading", "ready", "stopping"]
    size_bytes: int
    size_vram_bytes: int
    context_window: int
    expires_at: datetime
    slots: int
    active: int
    pid: int | None = None
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    kernels: str = ""  # the pack that it computes with; "" = the engine's own kernels
    huge_pages: bool = False
    memory: Mapping[str, int | str] = field(default_factory=dict)
    planned: Mapping[str, int] = field(default_factory=dict)
    prompts: Mapping[str, float] = field(default_factory=dict)
    build: str = ""
    spec: RunnerSpec | None = None
    launched: RunnerSpec | None = None
    runner_id: int = 0
    node: str = HERE  # "" = the server's own machine
    load_s: float = 0.0
    age_s: float = 0.0
    idle_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """One request that waits or runs. position is 1-based among the waiting, 0 when running; times are durations.

    prompt_tokens: of the whole prompt, 0 until the engine has told; processed_tokens: what of it is read, with the
    cached_tokens that were known before.
    """

    id: str
    model: str
    client: str
    route: str
    priority: str
    state: Literal["queued", "loading", "running"]
    position: int
    wait_s: float  # estimated, until it runs
    waited_s: float  # so far, or until it was granted
    running_s: float
    prompt_tokens: int = 0
    processed_tokens: int = 0
    cached_tokens: int = 0
    eval_tokens: int = 0
