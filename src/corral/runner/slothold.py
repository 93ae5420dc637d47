"""One lease's share in a runner's slots: it takes one, and has in it what others have read of its prompt.

A prompt's beginning (system prompt, tools) is read once, whoever has it:

| it is                                           | then                                                        |
|-------------------------------------------------|-------------------------------------------------------------|
| in the slot that the request gets               | it is found there                                           |
| in another slot, which is free                  | it is copied from there                                     |
| being read by another request                   | it is waited for, and copied as soon as it is read          |
| in the slot of another request that answers     | it is read again: an engine lets go of a slot at the end    |

A request that reads is told where to stop for those that wait (`next_stop`), which inference/running/prefill.py does:
a cache with sliding windows cannot be cut, so that what is copied ends where the common beginning does. Only a request
that came earlier is waited for, so nobody waits in a circle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from corral.errors import CorralError, EngineError
from corral.runner.promptforms import Prompt, beginning, ids, shared, size, words
from corral.runner.slotcopies import PromptTokens, SlotCopies, Target
from corral.runner.slots import EVERYBODYS, WORTH_COPYING_BYTES, Slot, SlotTable

if TYPE_CHECKING:
    from corral.runner.client import RunnerClient

FEWEST_TOKENS = 64  # fewer are read as quickly
_REST = 8  # tokens that are left to the call that answers
_TRIES = 3


class _Follower:
    """A request that waits until `at` tokens of another's prompt are read."""

    def __init__(self, hold: SlotHold, target: Target, at: int) -> None:
        self.hold = hold
        self.target = target
        self.at = at
        self.served: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def end(self, *, served: bool) -> None:
        """It has what it waited for, or never will."""
        if not self.served.done():
            self.served.set_result(served)


class SlotHold:
    """One lease's slot: the same one for all its calls.

    copies: how slots are copied, with the requests that read now; one for all holds of a runner.
    """

    def __init__(self, table: SlotTable, owner: str, copies: SlotCopies) -> None:
        self._table = table
        self._copies = copies
        self.owner = owner if table.separate else EVERYBODYS
        self.source = "slot"  # what of the prompt was found came from there
        self._slot: Slot | None = None
        self._prompt: Prompt = {}
        self._tokens: PromptTokens = _unknown
        self._gives_way = False
        self._followers: list[_Follower] = []
        self._copying: asyncio.Task[bool] | None = None

    async def settle(
        self, client: RunnerClient, body: Mapping[str, Any], tokens: PromptTokens, *, gives_way: bool = False
    ) -> None:
        """Before the first call for a prompt: take a slot, and have in it what others have read, or are reading.

        A lease's next prompt goes on in the slot that it has. body: of the call. tokens: the prompt as the engine reads
        it; None when it cannot be cut. gives_way: others do not wait for this one.
        """
        if self._slot is not None:
            self._prompt = beginning(body)
            return
        await self._take(client, body, copies=self._copies.possible)
        if not self._copies.possible or not self.owner or size(self._prompt) < WORTH_COPYING_BYTES:
            return
        self._tokens, self._gives_way = tokens, gives_way
        self._copies.readers.append(self)
        tried: set[SlotHold] = set()
        for _ in range(_TRIES):
            leader, lender = self._leader(tried), self._lender()
            if leader is not None:
                tried.add(leader)
                if await self._follow(leader):
                    return
            elif lender is not None:
                await self._borrow(client, lender)
                return

    async def fields(self, client: RunnerClient, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a call's body has to say about its slot."""
        if self._slot is None:
            await self._take(client, body)
        assert self._slot is not None
        own = bool(self.owner) and self._slot.owner == self.owner
        if self._table.separate and not own:
            self._slot.owner, self._slot.prompt = "", {}
        return {"id_slot": self._slot.id, "cache_prompt": own or not self._table.separate}

    def reached(self) -> None:
        """An event of the call has come: the slot holds nothing but this lease's prompt."""
        if self._slot is not None and self._slot.prompt is not self._prompt:
            self._table.fill(self._slot, self.owner, self._prompt)

    def found(self, tokens: int, of: int) -> None:
        """So many of the prompt's tokens were in the slot when reading began."""
        self._table.tokens.update({self.source: tokens, "read": of - tokens})

    @property
    def next_stop(self) -> int | None:
        """The token at which reading has to stop next, for what is read to be copied; None = nobody waits."""
        return min((follower.at for follower in self._followers), default=None)

    async def hand_over(self, client: RunnerClient, read: int) -> None:
        """No call is under way, and so many tokens are read: copy them to those who wait for no more."""
        stop = self.next_stop
        if stop is None or read < stop or self._slot is None:
            return
        due = [follower for follower in self._followers if follower.at < max(stop + FEWEST_TOKENS, read + 1)]
        self._followers = [follower for follower in self._followers if follower not in due]
        copying = self._copies.start(client, self._slot, [follower.target for follower in due])
        self._copying = copying
        for follower in due:
            follower.hold._copying = copying

        def tell(task: asyncio.Task[bool]) -> None:
            done = not task.cancelled() and task.exception() is None and task.result()
            for follower in due:
                follower.end(served=done)

        copying.add_done_callback(tell)
        await asyncio.shield(copying)

    def end_reading(self) -> None:
        """The prompt is read, or given up: nobody need wait for it any longer."""
        if self in self._copies.readers:
            self._copies.readers.remove(self)
        followers, self._followers = self._followers, []
        for follower in followers:
            follower.end(served=False)

    def leave(self) -> None:
        """The lease has ended; what it has read is there for those who waited."""
        slot, self._slot = self._slot, None
        if slot is not None and self._copying is not None and not self._copying.done():
            self._copying.add_done_callback(lambda _: self._table.give_back(slot))
        elif slot is not None:
            self._table.give_back(slot)
        self.end_reading()

    @contextlib.asynccontextmanager
    async def alone(self, client: RunnerClient) -> AsyncIterator[None]:
        """For a call that cannot name its slot: all of them, with nothing of another owner's in them."""
        if not self._table.separate:
            yield
            return
        async with self._table.all_of_them(self.owner) as foreign:
            for slot in foreign:
                await _empty(client, slot)
            yield

    async def _take(self, client: RunnerClient, body: Mapping[str, Any], *, copies: bool = False) -> None:
        self._prompt = beginning(body)
        await self._make_comparable(client, body)
        await self._table.may_take()
        self._slot = self._table.take(self.owner, self._prompt, copies=copies)
        self.source = "saved" if self._slot.is_saved else "slot"

    def _leader(self, tried: set[SlotHold]) -> SlotHold | None:
        """The request that is reading clearly more of this prompt than any free slot has; one that came earlier."""
        readers = self._copies.readers
        earlier = [
            other
            for other in readers[: readers.index(self)]
            if other.owner == self.owner and other not in tried and (self._gives_way or not other._gives_way)
        ]
        leader = max(earlier, key=lambda other: shared(other._prompt, self._prompt), default=None)
        if leader is None:
            return None
        have = max(self._has(), self._table.best_shared(self.owner, self._prompt))
        return leader if shared(leader._prompt, self._prompt) >= have + WORTH_COPYING_BYTES else None

    def _has(self) -> int:
        """Bytes of the prompt that its own slot has."""
        assert self._slot is not None
        return shared(self._slot.prompt, self._prompt) if self._slot.owner == self.owner else 0

    def _lender(self) -> Slot | None:
        assert self._slot is not None
        return self._table.lender(self.owner, self._prompt, self._slot)

    async def _follow(self, leader: SlotHold) -> bool:
        """Wait until the common beginning is read, and is here; False when it will not be."""
        try:
            own, others = await _tokens_of(self), await _tokens_of(leader)
        except CorralError:
            return False  # its runner is gone, or it is: the call itself will say
        at = min(_common_tokens(own, others), len(own) - 1, len(others) - _REST)
        if at < FEWEST_TOKENS or leader not in self._copies.readers or self._slot is None:
            return False
        follower = _Follower(self, (self._slot, self._tokens), at)
        leader._followers.append(follower)
        try:
            served = await follower.served
        finally:
            if follower in leader._followers:
                leader._followers.remove(follower)
        if served:
            self.source = "copied"
        return served

    async def _borrow(self, client: RunnerClient, lender: Slot) -> None:
        """Copy what a free slot has."""
        assert self._slot is not None
        lender.busy = True
        self._copying = self._copies.start(client, lender, [(self._slot, self._tokens)])
        self._copying.add_done_callback(lambda _: self._table.give_back(lender))
        if await asyncio.shield(self._copying):
            self.source = "copied"

    async def _make_comparable(self, client: RunnerClient, body: Mapping[str, Any]) -> None:
        """Where only that can tell whether the owner's slots fit: prompts as token ids."""
        others = self._table.incomparable(self.owner, self._prompt)
        if not others:
            return
        with contextlib.suppress(EngineError):  # the call itself will say what is wrong
            self._prompt |= await ids(client, body)
            for slot in others:
                if "ids" not in slot.prompt:
                    tokens = await client.tokenize(slot.prompt["text"].decode(errors="replace"), add_special=True)
                    slot.prompt["ids"] = words(tokens)


async def _tokens_of(hold: SlotHold) -> Sequence[int]:
    """The prompt of a hold; empty when it cannot be cut."""
    return await hold._tokens() or ()


async def _unknown() -> None:
    return None


def _common_tokens(one: Sequence[int], other: Sequence[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


async def _empty(client: RunnerClient, slot: Slot) -> None:
    """Have a slot hold one token that says nothing."""
    slot.owner, slot.prompt = "", {}
    await client.hold_only(slot.id, 0, keeping=False)
