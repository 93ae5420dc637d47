"""What the policy is told (events) and what it wants done (actions). Plain data; `scheduler.py` carries both.

| event          | when                                        | action     | means                                  |
|----------------|---------------------------------------------|------------|----------------------------------------|
| Requested      | a lease is asked for                        | Load       | start a runner, then Loaded/LoadFailed |
| Ended          | its holder is done, or left while waiting   | Stop       | stop a runner, later Stopped           |
| CancelAsked    | DELETE /api/requests/{id}                   | Grant      | the request may use the runner         |
| Translating    | its files are being made for the engine     |            |                                        |
| Loaded         | a runner is ready                           | Fail       | a waiting request gets this error      |
| LoadFailed     | it never got ready                          | Interrupt  | a running request gets this error      |
| Died           | a ready runner is gone                      | Notify     | tell a waiting request where it stands |
| Stopped        | a stopped runner is gone                    | ReadMemory | later NodeReported                     |
| RunnerReported | a holder found it hung or dead              |            |                                        |
| UnloadAsked    | keep_alive 0 without a prompt, corral stop  |            |                                        |
| RenewAsked     | an idle runner has been outgrown            |            |                                        |
| NodeJoined     | a machine is there, or there again          |            |                                        |
| NodeReported   | what it has now                             |            |                                        |
| NodeLost       | it is gone with all its runners             |            |                                        |
| NodeDrainAsked | it shall take nothing more                  |            |                                        |
| Ticked         | the time Policy.next_deadline named is here |            |                                        |
| ShutdownAsked  | drain; force = now                          |            |                                        |

Runners are named by a number that is never used twice, so an event about a former runner of the same model cannot be
taken for one about the present runner.
"""

from __future__ import annotations

from dataclasses import dataclass

from corral.core import Notice, Progress
from corral.errors import CorralError
from corral.runner.spec import RunnerSpec
from corral.sched.memory import HostFigures, MemoryEstimate
from corral.sched.nodes import HERE
from corral.sched.request import LeaseRequest


@dataclass(frozen=True, slots=True)
class Requested:
    """A lease is asked for; request_id is unique."""

    request_id: str
    want: LeaseRequest


@dataclass(frozen=True, slots=True)
class Ended:
    """A request is over: served, failed, or its client left, in whatever phase."""

    request_id: str


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Someone else than its client ends a request."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A runner is ready; slots and context_window as the engine has them; measured_bytes 0 = unknown.

    device_error: why the engine found no GPU, "" = it did, or did not look.
    """

    runner_id: int
    slots: int
    context_window: int
    measured_bytes: int = 0
    device_error: str = ""


@dataclass(frozen=True, slots=True)
class Translating:
    """Before the engine starts, a runner's files are written anew for it: bytes so far and in all."""

    runner_id: int
    processed: int
    total: int


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A runner never got ready and is gone."""

    runner_id: int
    error: CorralError
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class Died:
    """A ready runner is gone without having been stopped.

    was_met: whether a request that has it got anything of it; False = it died before any reached it.
    """

    runner_id: int
    error: CorralError
    was_met: bool = True


@dataclass(frozen=True, slots=True)
class Stopped:
    """A runner that was told to stop is gone."""

    runner_id: int


@dataclass(frozen=True, slots=True)
class RunnerReported:
    """A lease's holder says that its runner is unusable."""

    runner_id: int
    error: CorralError


@dataclass(frozen=True, slots=True)
class UnloadAsked:
    """The runner of this model shall go as soon as it is idle."""

    key: str


@dataclass(frozen=True, slots=True)
class RenewAsked:
    """A runner shall be loaded anew with the same spec, if it is idle: the host asks for other launch settings now."""

    runner_id: int


@dataclass(frozen=True, slots=True)
class NodeJoined:
    """A machine takes loads from now on; blobs: digests of those in its store."""

    node_id: str
    figures: HostFigures
    blobs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NodeReported:
    """What a node has: the answer to ReadMemory, or unasked. blobs: None = as before."""

    node_id: str
    figures: HostFigures
    blobs: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node is gone, and what ran there with it."""

    node_id: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class NodeDrainAsked:
    """A node shall take no load and no further request; its runners go as they become idle."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class ShutdownAsked:
    """Take no more; running requests may end, unless `force`."""

    force: bool = False


Event = (
    Requested
    | Ended
    | CancelAsked
    | Translating
    | Loaded
    | LoadFailed
    | Died
    | Stopped
    | RunnerReported
    | UnloadAsked
    | RenewAsked
    | NodeJoined
    | NodeReported
    | NodeLost
    | NodeDrainAsked
    | Ticked
    | ShutdownAsked
)


@dataclass(frozen=True, slots=True)
class Load:
    """Start a runner with this spec on a node; `need` is what was reckoned with for it."""

    runner_id: int
    key: str
    spec: RunnerSpec
    need: MemoryEstimate
    node: str = HERE


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a runner, whatever it does; reason is one word for the log and the metrics."""

    runner_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Grant:
    """A waiting request may use `slots` slots of the runner."""

    request_id: str
    runner_id: int
    slots: int
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Fail:
    """A waiting request ends with this error."""

    request_id: str
    error: CorralError


@dataclass(frozen=True, slots=True)
class Interrupt:
    """A running request ends with this error; abort_calls: also the calls to the engine that are under way."""

    request_id: str
    error: CorralError
    abort_calls: bool = True


@dataclass(frozen=True, slots=True)
class Notify:
    """A waiting request's place has changed."""

    request_id: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class ReadMemory:
    """Read a node's figures anew."""

    node: str = HERE


Action = Load | Stop | Grant | Fail | Interrupt | Notify | ReadMemory
