"""Which slot a request gets in a runner that several keys share: nothing read for one of them is found by another.

By itself an engine looks for a prompt's beginning in every slot, and tells how much it found. Here each call names its
slot, and what stands in it counts for its owner only: another's call has it dropped (`cache_prompt` false). A slot
changes hands when the engine's first event arrives; until then, and when a call is given up before, it is nobody's.

The slot of a request is the first of these that is free:

| (1) | one of the owner's, whose prompt the new one mostly goes on from                 |
| (2) | one that is nobody's                                                             |
| (3) | one of the owner's that shares a beginning with the new prompt                   |
| (4) | the one used longest ago of the owner who has most, of two such owners one's own |

sched/ makes an `OwnedSlots` per runner where keys are separated; elsewhere the engine chooses.
"""

from __future__ import annotations

import asyncio
import contextlib
from array import array
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from corral.errors import EngineError

if TYPE_CHECKING:
    from corral.runner.client import RunnerClient

_MOST_BYTES = 2**20  # of a prompt that are compared
_STEP_BYTES = 4096
_KEPT_SHARE = 0.5  # of what a slot holds; with less it is not the same conversation
_SHARED_SHARE = 0.1  # of a new prompt; with less nothing is gained (llama.cpp's --slot-prompt-similarity)

Prompt = dict[str, bytes]  # a prompt's beginning in one or more forms: chat (JSON), text, ids (32 bits a token)


@dataclass(eq=False, slots=True)
class Slot:
    """One slot. owner: "" = nobody's: empty, or not known. used: a count, higher is later; 0 = never."""

    id: int
    owner: str = ""
    prompt: Prompt = field(default_factory=dict)
    used: int = 0
    busy: bool = False


class OwnedSlots:
    """Whose conversations are in a runner's slots."""

    def __init__(self, count: int) -> None:
        self._slots = [Slot(number) for number in range(count)]
        self._uses = 0
        self._alone = asyncio.Lock()  # held by whoever has all slots
        self._left = asyncio.Event()  # set, and replaced by another, when a slot is given back

    def __repr__(self) -> str:
        return f"OwnedSlots({self._slots})"

    def hold(self, owner: str) -> SlotHold:
        """One lease's share in the slots; it takes a slot with its first call."""
        return SlotHold(self, owner)

    def owned(self) -> list[tuple[int, str]]:
        """The slots that hold somebody's conversation, and whose; the one used last at the end."""
        return [(slot.id, slot.owner) for slot in sorted(self._slots, key=lambda slot: slot.used) if slot.owner]

    def put(self, slot: int, owner: str, tokens: bytes) -> None:
        """A saved conversation is in a slot again; tokens: 32 bits each."""
        place = self._slots[slot]
        place.owner, place.prompt = owner, {"ids": tokens[:_MOST_BYTES]}
        self._touch(place)

    def incomparable(self, owner: str, prompt: Prompt) -> list[Slot]:
        """Free slots of the owner that are known in other forms than this prompt, unless one that is known fits."""
        if self._continued(owner, prompt) is not None:
            return []
        known = [slot for slot in self._free(owner) if slot.prompt.keys() & {"text", "ids"}]
        return [slot for slot in known if not slot.prompt.keys() & prompt.keys()]

    def take(self, owner: str, prompt: Prompt) -> Slot:
        """The slot for a prompt; it is busy from now on."""
        slot = self._continued(owner, prompt) or self._fresh() or self._similar(owner, prompt) or self._oldest(owner)
        slot.busy = True
        self._touch(slot)
        return slot

    def give_back(self, slot: Slot) -> None:
        """The lease has ended."""
        slot.busy = False
        self._left.set()
        self._left = asyncio.Event()

    async def may_take(self) -> None:
        """Until nobody has all slots."""
        while self._alone.locked():
            async with self._alone:
                pass

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

    def _continued(self, owner: str, prompt: Prompt) -> Slot | None:
        """(1)"""
        free = self._free(owner)
        return _best([slot for slot in free if _kept_share(slot.prompt, prompt) >= _KEPT_SHARE], prompt)

    def _fresh(self) -> Slot | None:
        """(2)"""
        free = [slot for slot in self._slots if not slot.busy and not slot.owner]
        return min(free, key=lambda slot: slot.used, default=None)

    def _similar(self, owner: str, prompt: Prompt) -> Slot | None:
        """(3)"""
        return _best(self._free(owner), prompt)

    def _oldest(self, owner: str) -> Slot:
        """(4); a scheduler that counts wrongly would find all of them busy, and the engine would let the call wait."""
        free = [slot for slot in self._slots if not slot.busy] or self._slots
        owners = [slot.owner for slot in self._slots]
        return min(free, key=lambda slot: (-owners.count(slot.owner), slot.owner != owner, slot.used))

    def _touch(self, slot: Slot) -> None:
        self._uses += 1
        slot.used = self._uses


class SlotHold:
    """One lease's slot: the same one for all its calls."""

    def __init__(self, slots: OwnedSlots, owner: str) -> None:
        self._slots = slots
        self.owner = owner
        self._slot: Slot | None = None
        self._prompt: Prompt = {}

    async def fields(self, client: RunnerClient, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a call's body has to say about its slot."""
        if self._slot is None:
            self._prompt = _beginning(body)
            await self._make_comparable(client, body)
            await self._slots.may_take()
            self._slot = self._slots.take(self.owner, self._prompt)
        own = bool(self.owner) and self._slot.owner == self.owner
        if not own:
            self._slot.owner, self._slot.prompt = "", {}
        return {"id_slot": self._slot.id, "cache_prompt": own}

    def reached(self) -> None:
        """An event of the call has come: the slot holds nothing but this lease's prompt."""
        if self._slot is not None and self._slot.prompt is not self._prompt:
            self._slot.owner, self._slot.prompt = self.owner, self._prompt

    def leave(self) -> None:
        """The lease has ended."""
        slot, self._slot = self._slot, None
        if slot is not None:
            self._slots.give_back(slot)

    @contextlib.asynccontextmanager
    async def alone(self, client: RunnerClient) -> AsyncIterator[None]:
        """For a call that cannot name its slot: all of them, with nothing of another owner's in them."""
        async with self._slots.all_of_them(self.owner) as foreign:
            for slot in foreign:
                await _empty(client, slot)
            yield

    async def _make_comparable(self, client: RunnerClient, body: Mapping[str, Any]) -> None:
        """Where only that can tell whether the owner's slots fit: prompts as token ids."""
        others = self._slots.incomparable(self.owner, self._prompt)
        if not others:
            return
        with contextlib.suppress(EngineError):  # the call itself will say what is wrong
            self._prompt |= await _ids(client, body)
            for slot in others:
                if "ids" not in slot.prompt:
                    ids = await client.tokenize(slot.prompt["text"].decode(errors="replace"), add_special=True)
                    slot.prompt["ids"] = _words(ids)


def _beginning(body: Mapping[str, Any]) -> Prompt:
    """The form in which a body has its prompt."""
    prompt = body.get("prompt")
    if isinstance(prompt, Mapping):
        prompt = prompt.get("prompt_string", "")
    if isinstance(prompt, str):
        return {"text": prompt.encode()[:_MOST_BYTES]}
    if isinstance(prompt, list):
        return {"ids": _words(prompt)}
    text = bytearray(msgspec.json.encode(body.get("tools")))
    for message in body.get("messages", ()):
        if len(text) < _MOST_BYTES:
            text += msgspec.json.encode(message)
    return {"chat": bytes(text[:_MOST_BYTES])}


async def _ids(client: RunnerClient, body: Mapping[str, Any]) -> Prompt:
    """A body's prompt as token ids, where it is text only."""
    prompt = body.get("prompt")
    if isinstance(prompt, Mapping) or any(isinstance(each["content"], list) for each in body.get("messages", ())):
        return {}
    if isinstance(prompt, list):
        return {"ids": _words(prompt)}
    text = prompt if isinstance(prompt, str) else await client.apply_template(dict(body))
    return {"ids": _words(await client.tokenize(text, add_special=True))}


def _words(ids: list[int]) -> bytes:
    return array("I", ids[: _MOST_BYTES // 4]).tobytes()


def _best(slots: list[Slot], prompt: Prompt) -> Slot | None:
    """The slot that shares most with the prompt, if that is worth anything; of several the one used longest ago."""
    worth = [slot for slot in slots if _shared_share(slot.prompt, prompt) > _SHARED_SHARE]
    return max(worth, key=lambda slot: (_shared_share(slot.prompt, prompt), -slot.used), default=None)


def _shared_share(held: Prompt, new: Prompt) -> float:
    """How much of the new prompt is held already."""
    return max(
        (_common(held[form], new[form]) / max(1, len(new[form])) for form in held.keys() & new.keys()), default=0
    )


def _kept_share(held: Prompt, new: Prompt) -> float:
    """How much of what is held the new prompt goes on with."""
    return max(
        (_common(held[form], new[form]) / max(1, len(held[form])) for form in held.keys() & new.keys()), default=0
    )


def _common(one: bytes, other: bytes) -> int:
    """Length of the common beginning."""
    end = min(len(one), len(other))
    at = 0
    while at < end and one[at : at + _STEP_BYTES] == other[at : at + _STEP_BYTES]:
        at += _STEP_BYTES
    while at < end and one[at] == other[at]:
        at += 1
    return min(at, end)


async def _empty(client: RunnerClient, slot: Slot) -> None:
    """Have a slot hold one token that says nothing."""
    slot.owner, slot.prompt = "", {}
    body = {"prompt": [0], "n_predict": 0, "cache_prompt": False, "id_slot": slot.id}
    async with contextlib.aclosing(client.completion(body)) as events:
        async for _ in events:
            pass
