"""What server and agent say to each other: frozen nouns, a line of JSON each.

The server sends `Order`s, the agent answers `Told`s. Paths are the sender's; only their names, which are digests, mean
anything to the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from corral.errors import (
    BlobNotFound,
    ChatTemplateUnusable,
    CorralError,
    InvalidGGUF,
    NotEnoughSpace,
    RegistryError,
    RunnerDied,
    RunnerFailedToStart,
    RunnerHung,
    RunnerMisbehaved,
    RunnerOutgrown,
    UntranslatableModel,
)
from corral.runner.spec import Planned, RunnerInfo, RunnerSpec
from corral.sched.memory import HostFigures

MAX_LINE_BYTES = 8 * 2**20  # a report names every blob of a node, a ready runner its model's template


class Problem(msgspec.Struct, frozen=True):
    """An error as it goes over the wire: its class, and the facts that it is made of again."""

    kind: str
    facts: tuple[Any, ...] = ()
    out_of_memory: bool = False


class Source(msgspec.Struct, frozen=True):
    """Where a blob can be had: a listener's address, and the token for its blobs."""

    host: str
    port: int
    token: str


class Need(msgspec.Struct, frozen=True):
    """A blob that a runner opens. sources: nearest first."""

    digest: str
    size_bytes: int
    sources: tuple[Source, ...] = ()


class Beat(msgspec.Struct, frozen=True, tag=True):
    """The sender is there."""


class ReportAsked(msgspec.Struct, frozen=True, tag=True):
    """Report now."""


class Create(msgspec.Struct, frozen=True, tag=True):
    """Fetch what is missing and start a runner."""

    id: int
    spec: RunnerSpec
    planned: Planned
    needs: tuple[Need, ...]


class End(msgspec.Struct, frozen=True, tag=True):
    """Stop a runner in whatever state, with its conversations saved where it is well."""

    id: int
    grace_s: float


class Condemn(msgspec.Struct, frozen=True, tag=True):
    """Kill a runner whose answer was none."""

    id: int
    what: str
    text: str


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The first line of an agent. share: the token for its blobs."""

    version: str
    pid: int
    share: str


class Report(msgspec.Struct, frozen=True, tag=True):
    """What a node has. blobs: None = as last told."""

    figures: HostFigures
    blobs: tuple[str, ...] | None = None


class Making(msgspec.Struct, frozen=True, tag=True):
    """A runner's files come or are made."""

    id: int
    done_bytes: int
    total_bytes: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    """A runner serves, behind the relay's token."""

    id: int
    spec: RunnerSpec
    info: RunnerInfo
    pid: int
    token: str


class Lost(msgspec.Struct, frozen=True, tag=True):
    """A runner goes on without a grammar that it was given."""

    id: int
    why: str


class Ended(msgspec.Struct, frozen=True, tag=True):
    """A runner is gone and reaped, or never came to be."""

    id: int
    problem: Problem
    exit_code: int | None = None
    last_lines: tuple[str, ...] = ()


Order = Beat | ReportAsked | Create | End | Condemn
Told = Hello | Beat | Report | Making | Ready | Lost | Ended


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value))


def _path(kind: type, value: Any) -> Any:
    if issubclass(kind, Path) and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind)


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)
_ORDERS: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order, dec_hook=_path)
_TOLD: msgspec.json.Decoder[Told] = msgspec.json.Decoder(Told, dec_hook=_path)


def line(message: Order | Told) -> bytes:
    """A message as it is sent."""
    return _ENCODER.encode(message) + b"\n"


def read_order(text: bytes) -> Order:
    """The inverse; raises msgspec.DecodeError."""
    return _ORDERS.decode(text)


def read_told(text: bytes) -> Told:
    """The inverse; raises msgspec.DecodeError."""
    return _TOLD.decode(text)


# class -> the attributes that its constructor takes, in order
_FACTS: dict[type[CorralError], tuple[str, ...]] = {
    RunnerFailedToStart: ("reason", "last_lines"),
    ChatTemplateUnusable: ("why",),
    RunnerDied: ("exit_code", "last_lines"),
    RunnerHung: ("deadline_s", "last_lines"),
    RunnerOutgrown: ("what", "limit", "last_lines"),
    RunnerMisbehaved: ("what",),
    NotEnoughSpace: ("need_bytes", "free_bytes"),
    UntranslatableModel: ("part", "why"),
    InvalidGGUF: ("why", "offset"),
    BlobNotFound: ("digest",),
}
_BY_NAME = {kind.__name__: kind for kind in _FACTS}


def problem_of(error: BaseException) -> Problem:
    """An error for the wire; one without a form of its own is a runner that failed to start."""
    facts = _FACTS.get(type(error))  # type: ignore[arg-type]
    if facts is None:
        is_ours = isinstance(error, CorralError | RegistryError)
        text = str(error) if is_ours else getattr(error, "strerror", None) or "see the log of the node's agent"
        return Problem(RunnerFailedToStart.__name__, (text if is_ours else f"error starting the runner: {text}", ()))
    values = tuple(_fact(getattr(error, name)) for name in facts)
    return Problem(type(error).__name__, values, bool(getattr(error, "out_of_memory", False)))


def error_of(problem: Problem) -> CorralError:
    """The error again."""
    kind = _BY_NAME.get(problem.kind, RunnerDied)
    facts = [tuple(fact) if isinstance(fact, list) else fact for fact in problem.facts]
    more: dict[str, Any] = {"out_of_memory": problem.out_of_memory} if kind is RunnerFailedToStart else {}
    try:
        return kind(*facts, **more)
    except TypeError:  # another version's
        return RunnerDied()


def _fact(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
