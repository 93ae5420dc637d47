"""What the requests of one runner have to know of each other. A RunnerClient has it; who makes the calls keeps it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PROMPTS_KNOWN = 8  # two of each slot, mostly
_LEAST_TOKENS = 8  # of an answer that tells how fast they come


@dataclass(slots=True)
class Sharing:
    """Of the requests that are under way, and of prompts.

    requests: how many it serves, lines of batches too; others: how many of them are none; answering: how many of
    those answer already; quiet: set while all of those do. token_s: seconds that a token took of the last answer that
    was made alone; 0 = there was none. prompts: the newest that it was given, where it matters how much of the next one
    it has read, as (owner, text).
    """

    requests: int = 0
    others: int = 0
    answering: int = 0
    token_s: float = 0.0
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    prompts: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_PROMPTS_KNOWN))

    def __post_init__(self) -> None:
        self.count()

    def count(self, others: int = 0, answering: int = 0) -> None:
        """Add to the counts of requests that are no lines."""
        self.others += others
        self.answering += answering
        if self.others > self.answering:
            self.quiet.clear()
        else:
            self.quiet.set()

    def note(self, timings: Mapping[str, Any]) -> None:
        """The engine's timings of an answer that was made alone."""
        tokens = timings.get("predicted_n", 0)
        if tokens >= _LEAST_TOKENS:
            self.token_s = timings.get("predicted_ms", 0.0) / tokens / 1000
