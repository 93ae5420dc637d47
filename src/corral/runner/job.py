"""What the parent sends down a child's stdin and what the child answers: one line of JSON each way. No I/O.

handle.py writes a `Job`; child.py answers on the message pipe with `sandbox`, then `ready` or `failed`. Stdin stays
open for the runner's life: its end of file is the order to exit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from corral.runner.hugepages import Way
from corral.runner.spec import LaunchOptions, RunnerSpec


@dataclass(frozen=True, slots=True)
class Job:
    """All that a child needs to know."""

    spec: RunnerSpec
    options: LaunchOptions
    socket_path: Path
    parent_pid: int
    message_fd: int

    @property
    def descriptors(self) -> set[int]:
        """What the child is to keep of what it inherits: the message pipe, and files that are in memory only."""
        files = {int(path.name) for path in self.spec.readable_paths if path.parent == Path("/proc/self/fd")}
        return {self.message_fd, *files}

    def to_json(self) -> str:
        """One line, without the environment (the child has it)."""
        options = {**asdict(self.options), "environ": {}}
        values = {
            "spec": json.loads(self.spec.to_json()),
            "options": options,
            "socket_path": str(self.socket_path),
            "parent_pid": self.parent_pid,
            "message_fd": self.message_fd,
        }
        return json.dumps(values, default=str)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of to_json; raises ValueError or KeyError for anything else."""
        values = json.loads(text)
        options: dict[str, Any] = values["options"]
        options["dir"] = Path(options["dir"])
        options["huge_pages"] = Way(options["huge_pages"])
        options["kv_dir"] = None if options["kv_dir"] is None else Path(options["kv_dir"])
        return cls(
            RunnerSpec.from_json(json.dumps(values["spec"])),
            LaunchOptions(**options),
            Path(values["socket_path"]),
            values["parent_pid"],
            values["message_fd"],
        )


def message(event: str, **facts: Any) -> bytes:
    """A child's message as it goes over the pipe."""
    return json.dumps({"event": event, **facts}).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Message:
    """What a child said."""

    event: str
    active: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


NONSENSE = Message("nonsense")


def read_message(line: bytes) -> Message:
    """A message as it came; raises ValueError for anything else."""
    try:
        values = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(values, dict) or values.get("event") not in {"sandbox", "ready", "failed"}:
        raise ValueError("not a runner's message")
    active, missing = values.get("active", []), values.get("missing", {})
    if not isinstance(active, list) or not isinstance(missing, dict):
        raise ValueError("not a runner's message")
    texts = [*active, *missing, *missing.values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("not a runner's message")
    return Message(values["event"], tuple(active), missing)
