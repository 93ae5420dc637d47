"""Who waits for what another reads can be cancelled like any other call, by whoever it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from corral.errors import RequestCanceled, RunnerDied, RunnerGone
from corral.runner.slotcopies import SlotCopies
from corral.runner.slothold import SlotHold
from corral.runner.slots import SlotTable
from corral.sched.leased import LeasedRunner

RULES = "These are the rules of the house, which everybody reads first. " * 10


class Client:
    """An engine that knows tokens, a token a character."""

    dies = False

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        if self.dies:
            raise RunnerDied
        return list(text.encode())

    async def save_slot(self, slot: int, file: str) -> None:
        raise AssertionError("nothing is read here")


class House:
    """Two requests with the same beginning, of which the first reads."""

    def __init__(self) -> None:
        self.client = Client()
        self.table, self.copies = SlotTable(2), SlotCopies("slot.copy")
        self.first, self.second = (
            LeasedRunner(self.client, SlotHold(self.table, "", self.copies), kept=True) for _ in range(2)
        )

    async def settle(self, leased: LeasedRunner, text: str) -> None:
        async def tokens() -> Any:
            return await leased.tokenize(text, add_special=True)

        await leased.place.settle({"prompt": text}, tokens, gives_way=False)

    async def wait(self) -> asyncio.Task[None]:
        """The second one, that waits by now."""
        await self.settle(self.first, RULES + "and the first one asks")
        waiting = asyncio.create_task(self.settle(self.second, RULES + "and so does the second"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert self.first.place.next_stop is not None
        return waiting


async def test_a_request_that_waits_is_cancelled_by_an_operator() -> None:
    house = House()
    waiting = await house.wait()
    house.second.end(RequestCanceled(), abort_calls=True)
    with pytest.raises(RequestCanceled):
        await asyncio.wait_for(waiting, 1)
    assert house.first.place.next_stop is None


async def test_one_that_waits_for_a_cancelled_one_goes_on_by_itself() -> None:
    house = House()
    waiting = await house.wait()
    house.first.end(RequestCanceled(), abort_calls=True)
    await house.first.close()
    await asyncio.wait_for(waiting, 1)


async def test_taking_a_slot_says_nothing_of_the_runner() -> None:
    """Who is told RunnerGone may ask again: nothing of its answer was there."""
    house = House()
    await house.settle(house.first, "short")
    assert house.first.may_be_gone
    house.client.dies = True
    with pytest.raises(RunnerGone):
        await house.first.tokenize("x")
