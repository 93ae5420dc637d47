"""What is in a runner's slots, and which of them a request gets.

By itself an engine takes the free slot that has most of a prompt, though a long conversation be lost for a short
question with the same beginning; and of two prompts that are read piece by piece one takes the other's slot. So each
call names its slot. It is the first of these that is free:

| (1) | one whose prompt the new one goes on from                                                    |
| (2) | one that is nobody's                                                                         |
| (3) | one that shares with the new prompt more than is lost, where that cannot be copied           |
|     | (slotcopies.py)                                                                              |
| (4) | the one that is worth least, of the owner who has most, of two such owners one's own          |

What a slot is worth: bytes that would be read again, plus what the last one given up was worth. So a small request
takes another small one's place, and a long conversation that nobody goes on with gives way in the end. Source: P. Cao,
S. Irani, Cost-Aware WWW Proxy Caching Algorithms, 1997 (GreedyDual-Size).

Where keys are separated, what stands in a slot counts for its owner only: another's call has it dropped
(`cache_prompt` false). A slot changes hands when the engine's first event arrives; until then, and when a call is given
up before, it is nobody's. Elsewhere all slots are EVERYBODYS.

sched/ makes a `SlotTable` per runner; a lease's share in it is a `SlotHold` (slothold.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from corral.runner.promptforms import MOST_BYTES, Prompt, kept_share, shared, shared_share, size

EVERYBODYS = "*"
SOURCES = ("read", "slot", "copied", "saved")  # where tokens of prompts come from, see SlotTable.tokens
WORTH_COPYING_BYTES = 256  # of text; some 64 tokens, which are read again as quickly
_KEPT_SHARE = 0.5  # of what a slot holds; with less it is not the same conversation
_KEPT_WHERE_COPIED = 0.8
_COPIED_FOR_READ = 32  # bytes, all that a slot holds, which are copied in the time that one is read at least
_SHARED_SHARE = 0.1  # of a new prompt; with less nothing is gained (llama.cpp's --slot-prompt-similarity)


@dataclass(eq=False, slots=True)
class Slot:
    """One slot. owner: "" = nobody's: empty, or not known. used: a count, higher is later; 0 = never."""

    id: int
    owner: str = ""
    prompt: Prompt = field(default_factory=dict)
    used: int = 0
    worth: int = 0
    busy: bool = False
    is_saved: bool = False  # it holds what an earlier runner read


class SlotTable:
    """A runner's slots. separate: what is in them is told apart by owner.

    tokens: of all prompts, counted by where they came from: "read", "slot" (the same slot had them), "copied" (another
    slot had), "saved" (a conversation of an earlier runner).
    """

    def __init__(self, count: int, *, separate: bool = False) -> None:
        self._slots = [Slot(number) for number in range(count)]
        self.separate = separate
        self.tokens: Counter[str] = Counter()
        self._uses = 0
        self._given_up = 0  # worth of the last slot that was
        self._alone = asyncio.Lock()  # held by whoever has all slots
        self._left = asyncio.Event()  # set, and replaced by another, when a slot is given back

    def __repr__(self) -> str:
        return f"SlotTable({self._slots})"

    def owned(self) -> list[tuple[int, str]]:
        """The slots that hold somebody's conversation, and whose; the one used last at the end."""
        return [(slot.id, slot.owner) for slot in sorted(self._slots, key=lambda slot: slot.used) if slot.owner]

    def put(self, slot: int, owner: str, tokens: bytes) -> None:
        """A saved conversation is in a slot again; tokens: 32 bits each."""
        self.fill(self._slots[slot], owner or EVERYBODYS, {"ids": tokens[:MOST_BYTES]})
        self._slots[slot].is_saved = True

    def fill(self, slot: Slot, owner: str, prompt: Prompt) -> None:
        """A slot holds this now."""
        slot.owner, slot.prompt, slot.is_saved = owner, prompt, False
        self._touch(slot)

    def incomparable(self, owner: str, prompt: Prompt) -> list[Slot]:
        """Free slots of the owner that are known in other forms than this prompt, unless one that is known fits."""
        if self._continued(owner, prompt, _KEPT_SHARE) is not None:
            return []
        known = [slot for slot in self._free(owner) if slot.prompt.keys() & {"text", "ids"}]
        return [slot for slot in known if not slot.prompt.keys() & prompt.keys()]

    def take(self, owner: str, prompt: Prompt, *, copies: bool = False) -> Slot:
        """The slot for a prompt; it is busy from now on. copies: a beginning can be brought here from another slot."""
        slot = self._continued(owner, prompt, _KEPT_WHERE_COPIED if copies else _KEPT_SHARE) or self._fresh()
        if slot is None and not copies:
            slot = self._similar(owner, prompt)
        if slot is None:
            slot = self._least(owner)
            self._given_up = max(self._given_up, slot.worth)
        slot.busy = True
        self._touch(slot)
        return slot

    def lender(self, owner: str, prompt: Prompt, place: Slot) -> Slot | None:
        """A free slot of the owner that has clearly more of a prompt than its own place has."""
        least = WORTH_COPYING_BYTES + (shared(place.prompt, prompt) if place.owner == owner else 0)
        having = [
            slot
            for slot in self._free(owner)
            if slot is not place and shared(slot.prompt, prompt) >= max(least, size(slot.prompt) // _COPIED_FOR_READ)
        ]
        return max(having, key=lambda slot: (shared(slot.prompt, prompt), -size(slot.prompt)), default=None)

    def best_shared(self, owner: str, prompt: Prompt) -> int:
        """Bytes of a prompt's beginning that some free slot of the owner has."""
        return max((shared(slot.prompt, prompt) for slot in self._free(owner)), default=0)

    def give_back(self, slot: Slot) -> None:
        """The lease has ended, or what was done with the slot besides."""
        slot.busy = False
        self._left.set()
        self._left = asyncio.Event()

    async def may_take(self) -> None:
        """Until nobody has all slots, and one is free: it may be lent for a moment."""
        while True:
            while self._alone.locked():
                async with self._alone:
                    pass
            if any(not slot.busy for slot in self._slots):
                return
            await self._left.wait()

    @contextlib.asynccontextmanager
    async def all_of_them(self, owner: str) -> AsyncIterator[list[Slot]]:
        """All slots for one owner, once the others' requests have ended; the value: those that hold another's."""
        async with self._alone:
            while any(slot.busy for slot in self._slots):
                await self._left.wait()
            yield [slot for slot in self._slots if slot.used and slot.owner != owner]
            for slot in self._slots:
                slot.owner, slot.prompt = owner, {}
                self._touch(slot)

    def _free(self, owner: str) -> list[Slot]:
        return [slot for slot in self._slots if not slot.busy and owner and slot.owner == owner]

    def _continued(self, owner: str, prompt: Prompt, least: float) -> Slot | None:
        """(1)"""
        free = self._free(owner)
        return _best([slot for slot in free if kept_share(slot.prompt, prompt) >= least], prompt)

    def _fresh(self) -> Slot | None:
        """(2)"""
        free = [slot for slot in self._slots if not slot.busy and not slot.owner]
        return min(free, key=lambda slot: slot.used, default=None)

    def _similar(self, owner: str, prompt: Prompt) -> Slot | None:
        """(3)"""
        cheap = [slot for slot in self._free(owner) if size(slot.prompt) <= 2 * shared(slot.prompt, prompt)]
        return _best(cheap, prompt)

    def _least(self, owner: str) -> Slot:
        """(4)"""
        free = [slot for slot in self._slots if not slot.busy]
        owners = [slot.owner for slot in self._slots]
        return min(free, key=lambda slot: (-owners.count(slot.owner), slot.owner != owner, slot.worth, slot.used))

    def _touch(self, slot: Slot) -> None:
        self._uses += 1
        slot.used = self._uses
        slot.worth = self._given_up + size(slot.prompt)


def _best(slots: list[Slot], prompt: Prompt) -> Slot | None:
    """The slot that shares most with the prompt, if that is worth anything; of several the one used longest ago."""
    worth = [slot for slot in slots if shared_share(slot.prompt, prompt) > _SHARED_SHARE]
    return max(worth, key=lambda slot: (shared_share(slot.prompt, prompt), -slot.used), default=None)
