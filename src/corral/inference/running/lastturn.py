"""Where the last turn of a conversation begins in its prompt: from there on, its next version is likely to differ.

An engine takes back any number of tokens of a cache with full attention. One with sliding windows or recurrent layers
goes back only to a checkpoint, and makes those near the end of what a call reads. So prefill.py has a prompt read up to
its last turn first, by a call of its own, and the engine finds what stands before it again when a client changes or
moves what stands at the end, as agents do with reminders. Pure; made by ways/rendered.py: where the engine applies the
template, it knows by itself where a user's turns begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from corral.core import Message

BEHIND = 4  # tokens: how long before the end of what a call reads the engine makes its last checkpoint
_FOUND_BY = 200  # characters of a message by which it is found
_BYTES_PER_TOKEN = 2  # fewer than texts have on average, so that a text is rather taken for longer


@dataclass(frozen=True, slots=True)
class LastTurn:
    """A prompt's text, and the character at which what the user or a tool said last begins in it."""

    text: str
    start: int

    def needs_stop(self, known: Iterable[str], step: int) -> bool:
        """Whether reading has to stop there: what is new ends far behind it, and begins before it.

        known: prompts that the engine has read; step: tokens that it reads at once, which it does from a checkpoint on.
        """
        found = max((_common(self.text, other) for other in known), default=0)
        return found < self.start and len(self.text) - found > step * _BYTES_PER_TOKEN


def last_turn(text: str, messages: Sequence[Message]) -> LastTurn | None:
    """The last turn of a rendered prompt, found by what it says; None when the template has changed that."""
    turn = next((message for message in reversed(messages) if message.role in ("user", "tool")), None)
    said = "" if turn is None else turn.content.strip()[:_FOUND_BY]
    start = text.rfind(said) if said else -1
    return LastTurn(text, start) if start > 0 else None


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
