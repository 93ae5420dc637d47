"""What the requests of one runner have to know of each other. A RunnerClient has it; who makes the calls keeps it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

_PROMPTS_KNOWN = 8  # two of each slot, mostly


@dataclass(slots=True)
class Sharing:
    """Of the requests that are under way, and of prompts.

    requests: how many it serves, lines of batches too; others: how many of them are none; answering: how many of
    those answer already; quiet: set while all of those do. prompts: the newest that it was given, where it matters how
    much of the next one it has read, as (owner, text).
    """

    requests: int = 0
    others: int = 0
    answering: int = 0
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
