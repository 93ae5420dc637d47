"""What one request has read of a prompt, others have copied: from free slots, and from those that read just now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from corral.errors import EngineError
from corral.runner.client import RunnerClient
from corral.runner.slotcopies import SlotCopies
from corral.runner.slothold import FEWEST_TOKENS, SlotHold
from corral.runner.slots import SlotTable

RULES = "These are the rules of the house, which everybody reads first. " * 10
TALK = RULES + "A long conversation follows, with one turn after the other. " * 40


class Engine:
    """Slots as llama.cpp keeps them: texts, a token a character; whose is in which, which an engine does not know."""

    def __init__(self, count: int, *, saves: bool = True) -> None:
        self.texts = [""] * count
        self.writers = [""] * count
        self.file = ("", "")
        self.saves = saves
        self.tried = 0
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def client(self) -> RunnerClient:
        return cast("RunnerClient", self)

    async def save_slot(self, slot: int, filename: str) -> None:
        self.tried += 1
        await self.gate.wait()
        if not self.saves:
            raise EngineError(501, "not supported")
        self.file = self.texts[slot], self.writers[slot]

    async def restore_slot(self, slot: int, filename: str) -> None:
        self.texts[slot], self.writers[slot] = self.file

    async def completion(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        self.texts[body["id_slot"]] = ""
        yield {"stop": True}


class House:
    """A runner with some slots, and what its requests do."""

    def __init__(self, count: int = 4, *, saves: bool = True, separate: bool = False) -> None:
        self.engine = Engine(count, saves=saves)
        self.table = SlotTable(count, separate=separate)
        self.copies = SlotCopies("slot.copy")

    def hold(self, owner: str = "A") -> SlotHold:
        return SlotHold(self.table, owner, self.copies)

    async def settle(self, hold: SlotHold, text: str, *, cuttable: bool = True, gives_way: bool = False) -> None:
        async def tokens() -> list[int] | None:
            return [ord(letter) for letter in text] if cuttable else None

        await hold.settle(self.engine.client, {"prompt": text}, tokens, gives_way=gives_way)

    async def read(self, hold: SlotHold, text: str, upto: int | None = None) -> int:
        """Read a prompt, or a piece of it; how much was found."""
        fields = await hold.fields(self.engine.client, {"prompt": text})
        slot, found = fields["id_slot"], 0
        if fields["cache_prompt"]:
            held = self.engine.texts[slot]
            assert not self.table.separate or self.engine.writers[slot] in ("", hold.owner), "another's was looked at"
            found = next(
                (n for n, (a, b) in enumerate(zip(held, text, strict=False)) if a != b), min(len(held), len(text))
            )
        self.engine.texts[slot] = text[: upto or len(text)]
        self.engine.writers[slot] = hold.owner
        hold.reached()
        return min(found, upto or found)

    async def ask(self, text: str, owner: str = "A") -> tuple[int, str]:
        """One whole request: how much was found, and where."""
        hold = self.hold(owner)
        await self.settle(hold, text)
        found = await self.read(hold, text)
        hold.leave()
        return found, hold.source


async def turn() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_small_requests_take_each_others_place_and_not_a_long_conversations() -> None:
    house = House(3)
    await house.ask(TALK)
    for number in range(12):
        await house.ask(f"{number}: what is this about? {'x' * 100}")
    assert await house.ask(TALK + "And the next turn.") == (len(TALK), "slot")


async def test_a_conversation_that_nobody_goes_on_with_gives_way_in_the_end() -> None:
    house = House(2)
    await house.ask(TALK)
    for number in range(60):
        await house.ask(f"{number}{number}: what is this about? {'x' * 100}")
    assert (await house.ask(TALK))[0] < 10


async def test_a_common_beginning_is_copied_and_the_conversation_that_has_it_stays() -> None:
    house = House()
    await house.ask(TALK)
    question = RULES + "What is the first of them?"
    assert await house.ask(question) == (len(RULES), "copied")
    assert await house.ask(TALK + "On.") == (len(TALK), "slot")
    assert await house.ask(question) == (len(question), "slot")
    assert house.copies.count == 1


async def test_a_short_beginning_is_read_again() -> None:
    house = House()
    await house.ask("You are kind. " + "1" * 900)
    assert await house.ask("You are kind. " + "2" * 900) == (0, "slot")
    assert house.engine.tried == 0


async def test_a_giant_is_not_copied_for_its_first_words() -> None:
    house = House()
    await house.ask(RULES[:300] + "x" * 20_000)
    assert await house.ask(RULES + "?") == (0, "slot")
    assert house.engine.tried == 0


async def test_who_comes_while_a_beginning_is_read_waits_for_it_and_reads_no_more_than_the_rest() -> None:
    house = House()
    first, others = house.hold(), [house.hold() for _ in range(3)]
    await house.settle(first, RULES + "one of them asks")
    waiting = [asyncio.create_task(house.settle(hold, f"{RULES}{n} asks")) for n, hold in enumerate(others)]
    await turn()
    assert first.next_stop == len(RULES)
    await house.read(first, RULES + "one of them asks", 300)
    await first.hand_over(house.engine.client, 300)
    assert not any(task.done() for task in waiting)
    await house.read(first, RULES + "one of them asks", len(RULES))
    await first.hand_over(house.engine.client, len(RULES))
    await asyncio.gather(*waiting)
    assert [await house.read(hold, f"{RULES}{n} asks") for n, hold in enumerate(others)] == [len(RULES)] * 3
    assert first.next_stop is None
    assert {hold.source for hold in others} == {"copied"}
    assert house.engine.tried == 1


async def test_who_waits_is_waited_for_by_those_who_share_more_with_it() -> None:
    house = House()
    first, second, third = (house.hold() for _ in range(3))
    more = RULES + "The same document for two of them. " * 20
    await house.settle(first, RULES + "!" * 50)
    waiting = [
        asyncio.create_task(house.settle(second, more + "second asks")),
        asyncio.create_task(house.settle(third, more + "third asks")),
    ]
    await turn()
    assert (first.next_stop, second.next_stop) == (len(RULES), len(more))
    await house.read(first, RULES + "!" * 50, len(RULES))
    await first.hand_over(house.engine.client, len(RULES))
    await waiting[0]
    assert not waiting[1].done()
    assert await house.read(second, more + "second asks", len(more)) == len(RULES)
    await second.hand_over(house.engine.client, len(more))
    await waiting[1]
    assert await house.read(third, more + "third asks") == len(more)


async def test_when_the_one_that_reads_leaves_what_it_has_read_is_used() -> None:
    house = House()
    first, second = house.hold(), house.hold()
    await house.settle(first, RULES + "one of them asks")
    waiting = asyncio.create_task(house.settle(second, RULES + "two"))
    await turn()
    await house.read(first, RULES + "one of them asks", 400)
    first.leave()
    await waiting
    assert await house.read(second, RULES + "two") == 400


async def test_who_waited_for_an_answer_that_began_reads_by_itself() -> None:
    house = House()
    first, second = house.hold(), house.hold()
    await house.settle(first, RULES + "one of them asks")
    waiting = asyncio.create_task(house.settle(second, RULES + "two"))
    await turn()
    first.end_reading()
    await waiting
    assert await house.read(second, RULES + "two") == 0


@pytest.mark.parametrize("how", ["a picture", "a line"])
async def test_what_cannot_be_cut_and_what_gives_way_is_not_waited_for(how: str) -> None:
    house = House()
    first, second = house.hold(), house.hold()
    await house.settle(first, RULES + "one of them asks", cuttable=how != "a picture", gives_way=how == "a line")
    await house.settle(second, RULES + "two")
    assert first.next_stop is None


async def test_a_line_waits_for_a_line() -> None:
    house = House()
    first, second = house.hold(), house.hold()
    await house.settle(first, RULES + "one of them asks", gives_way=True)
    waiting = asyncio.create_task(house.settle(second, RULES + "two", gives_way=True))
    await turn()
    assert first.next_stop == len(RULES)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert first.next_stop is None  # whoever leaves is not waited for


async def test_a_slot_is_nobodys_to_take_until_its_copy_is_made_though_all_have_left() -> None:
    house = House(2)
    await house.ask(TALK)
    house.engine.gate.clear()
    hold = house.hold()
    settling = asyncio.create_task(house.settle(hold, RULES + "?"))
    await turn()
    settling.cancel()
    await asyncio.wait([settling])
    hold.leave()
    other = asyncio.create_task(house.ask("something else " * 20))
    await turn()
    assert not other.done()
    house.engine.gate.set()
    assert await other == (0, "slot")
    assert await house.ask(TALK) == (len(TALK), "slot")


async def test_an_engine_that_cannot_copy_is_asked_three_times() -> None:
    house = House(4, saves=False)
    for number in range(8):
        found, source = await house.ask(RULES + f"{number} asks " * 300)
        assert source == "slot"
        assert found in (0, len(RULES))
    assert house.engine.tried == 3


async def test_nothing_is_copied_from_one_owner_to_another() -> None:
    house = House(4, separate=True)
    await house.ask(TALK, "A")
    assert await house.ask(RULES + "B asks", "B") == (0, "slot")
    first, second = house.hold("A"), house.hold("B")
    await house.settle(first, "A" + TALK)
    await house.settle(second, "A" + TALK)
    assert first.next_stop is None
    second.leave()
    assert await house.ask(RULES + "1 asks", "A") == (len(RULES), "copied")
    assert house.engine.tried == 1


async def test_a_lease_with_two_prompts_has_one_slot() -> None:
    house = House(2)
    for _ in range(3):
        hold = house.hold()
        for text in (RULES, RULES + "And once more."):
            await house.settle(hold, text)
            await house.read(hold, text)
        hold.leave()
    assert await house.ask(RULES + "And once more.") == (len(RULES) + 14, "slot")


async def test_where_tokens_came_from_is_counted() -> None:
    house = House()
    await house.ask(TALK)
    hold = house.hold()
    await house.settle(hold, RULES + "who?")
    hold.found(len(RULES), len(RULES) + 4)
    assert house.table.tokens == {"copied": len(RULES), "read": 4}
    assert len(RULES) > FEWEST_TOKENS
