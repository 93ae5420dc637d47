"""Slots of several owners: nobody's call finds what another's left, each finds its own, whatever comes in between."""

from __future__ import annotations

import asyncio
from array import array
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import EngineError
from corral.runner.client import RunnerClient
from corral.runner.slotcopies import SlotCopies
from corral.runner.slothold import SlotHold
from corral.runner.slots import SlotTable

LONG = "a conversation that is long enough to be worth finding again, "


class Engine:
    """Slots as llama.cpp keeps them, and whose text is in each, which an engine does not know."""

    def __init__(self, count: int) -> None:
        self.texts = [""] * count
        self.writers = [""] * count
        self.asked: list[str] = []

    @property
    def client(self) -> RunnerClient:
        return cast("RunnerClient", self)

    def serve(self, owner: str, fields: dict[str, Any], text: str) -> int:
        """A call with these fields; how much of it was found."""
        slot = fields["id_slot"]
        found = 0
        if fields["cache_prompt"]:
            assert self.writers[slot] == owner, "what another left was looked at"
            held = self.texts[slot]
            found = next(
                (n for n, (a, b) in enumerate(zip(held, text, strict=False)) if a != b), min(len(held), len(text))
            )
        self.texts[slot], self.writers[slot] = text, owner
        return found

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        self.asked.append("tokenize")
        return [1, *text.encode()] if add_special else list(text.encode())

    async def apply_template(self, body: dict[str, Any]) -> str:
        self.asked.append("template")
        if any(message["role"] == "bad" for message in body["messages"]):
            raise EngineError(500, "no such role")
        return "".join(f"<{message['role']}>{message['content']}" for message in body["messages"])

    async def hold_only(self, slot: int, token: int, *, keeping: bool) -> None:
        self.serve("nobody", {"id_slot": slot, "cache_prompt": keeping}, "")


def separated(count: int) -> SlotTable:
    return SlotTable(count, separate=True)


def hold_of(slots: SlotTable, owner: str) -> SlotHold:
    return SlotHold(slots, owner, SlotCopies(""))


async def ask(slots: SlotTable, engine: Engine, owner: str, text: str) -> int:
    """One whole request."""
    hold = hold_of(slots, owner)
    fields = await hold.fields(engine.client, {"prompt": text})
    found = engine.serve(owner, fields, text)
    hold.reached()
    hold.leave()
    return found


STEPS = st.lists(
    st.tuples(
        st.sampled_from("ABC"), st.sampled_from(["x", "y", "xy"]), st.sampled_from(["whole", "lost", "given up"])
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(count=st.integers(1, 4), steps=STEPS, order=st.randoms())
async def test_no_call_looks_at_what_another_left(count: int, steps: list[tuple[str, str, str]], order: Any) -> None:
    """Calls that end, that are given up before the engine begins, and that are given up while it works, overlapping."""
    slots, engine = separated(count), Engine(count)
    open_holds: list[tuple[SlotHold, str, str]] = []
    for owner, text, how in steps:
        if len(open_holds) == count:
            hold, whose, prompt = open_holds.pop(order.randrange(count))
            engine.serve(whose, await hold.fields(engine.client, {"prompt": prompt}), prompt)  # once more
            hold.reached()
            hold.leave()
        hold, prompt = hold_of(slots, owner), text * 50
        fields = await hold.fields(engine.client, {"prompt": prompt})
        if how != "given up":
            engine.serve(owner, fields, prompt)
        if how == "whole":
            hold.reached()
            open_holds.append((hold, owner, prompt))
        else:
            hold.leave()


async def test_each_finds_its_own_as_long_as_there_is_a_slot_for_it() -> None:
    slots, engine = separated(4), Engine(4)
    texts = {(owner, n): f"{owner}{n} {LONG}" for owner in "AB" for n in range(2)}
    for (owner, _), text in texts.items():
        assert await ask(slots, engine, owner, text) == 0
    for (owner, _), text in texts.items():
        assert await ask(slots, engine, owner, text + "and on") == len(text)


async def test_the_same_text_is_read_anew_for_every_owner() -> None:
    slots, engine = separated(3), Engine(3)
    for owner in "ABC":
        assert await ask(slots, engine, owner, LONG) == 0


async def test_whoever_has_many_slots_gives_one_to_whoever_has_none_and_not_his_last() -> None:
    slots, engine = separated(3), Engine(3)
    for n in range(3):
        await ask(slots, engine, "A", f"{n} {LONG}")
    await ask(slots, engine, "B", LONG)
    for n in range(5):  # new ones of his own now take the place of his own
        await ask(slots, engine, "A", f"{n}{n} {LONG}")
    assert await ask(slots, engine, "B", LONG) == len(LONG)


async def test_a_common_beginning_does_not_cost_another_conversation_while_there_is_room() -> None:
    slots, engine = separated(2), Engine(2)
    system = "You are a helpful assistant. " * 3
    first, second = system + "1" * 400, system + "2" * 400
    await ask(slots, engine, "A", first)
    await ask(slots, engine, "A", second)
    assert await ask(slots, engine, "A", first) == len(first)
    assert await ask(slots, engine, "A", second) == len(second)
    assert await ask(slots, engine, "A", system + "3" * 400) == len(system)


async def test_without_an_owner_nothing_is_found_and_nothing_is_left() -> None:
    slots, engine = separated(1), Engine(1)
    assert await ask(slots, engine, "", LONG) == 0
    assert await ask(slots, engine, "", LONG) == 0
    assert slots.owned() == []


async def test_all_calls_of_a_lease_go_to_one_slot() -> None:
    """A prompt that is read in pieces goes on where it was, though others ask in between."""
    slots, engine = separated(2), Engine(2)
    hold = hold_of(slots, "A")
    first = await hold.fields(engine.client, {"prompt": LONG})
    hold.reached()
    await ask(slots, engine, "B", LONG)
    second = await hold.fields(engine.client, {"prompt": [1, 2, 3]})
    assert (first["id_slot"], second) == (second["id_slot"], {"id_slot": first["id_slot"], "cache_prompt": True})


@pytest.mark.parametrize("form", ["text", "ids", "chat"])
async def test_a_restored_conversation_is_known_by_its_tokens_whatever_form_the_prompt_has(form: str) -> None:
    slots, engine = separated(3), Engine(3)
    rendered = f"<user>{LONG}"
    slots.put(1, "A", array("I", [1, *rendered.encode()]).tobytes())
    slots.put(2, "A", array("I", [1, *b"something else " * 9]).tobytes())
    bodies: dict[str, dict[str, Any]] = {
        "text": {"prompt": rendered},
        "ids": {"prompt": [1, *rendered.encode()]},
        "chat": {"messages": [{"role": "user", "content": LONG}]},
    }
    fields = await hold_of(slots, "A").fields(engine.client, bodies[form])
    assert fields == {"id_slot": 1, "cache_prompt": True}
    assert (await hold_of(slots, "B").fields(engine.client, bodies[form]))["cache_prompt"] is False


async def test_a_conversation_that_outgrows_its_text_form_stays_where_it_is() -> None:
    """Long prompts reach the engine as ids, short ones as text."""
    slots, engine = separated(3), Engine(3)
    hold = hold_of(slots, "A")
    first = await hold.fields(engine.client, {"prompt": LONG})
    hold.reached()
    hold.leave()
    grown = [1, *(LONG + "and on").encode()]
    assert (await hold_of(slots, "A").fields(engine.client, {"prompt": grown}))["id_slot"] == first["id_slot"]


async def test_the_engine_is_asked_nothing_more_where_forms_agree() -> None:
    slots, engine = separated(2), Engine(2)
    for n in range(3):
        await ask(slots, engine, "A", f"{n} {LONG}")
    assert engine.asked == []


async def test_pictures_and_what_a_template_refuses_are_left_to_the_call_itself() -> None:
    slots, engine = separated(2), Engine(2)
    slots.put(0, "A", array("I", [1, 2, 3]).tobytes())
    bodies: list[dict[str, Any]] = [
        {"messages": [{"role": "bad", "content": ""}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"prompt": {"prompt_string": "x", "multimodal_data": []}},
    ]
    for body in bodies:
        hold = hold_of(slots, "A")
        assert (await hold.fields(engine.client, body))["cache_prompt"] is False
        hold.leave()


async def test_a_call_that_cannot_name_its_slot_is_alone_and_finds_nothing_of_others() -> None:
    slots, engine = separated(2), Engine(2)
    busy = hold_of(slots, "A")
    await busy.fields(engine.client, {"prompt": LONG})
    engine.texts[0], engine.writers[0] = LONG, "A"
    busy.reached()
    order: list[str] = []

    async def decide() -> None:
        async with hold_of(slots, "B").alone(engine.client):
            order.append("alone")
            assert LONG not in engine.texts
            await asyncio.sleep(0)
            order.append("done")

    async def chat() -> None:
        hold = hold_of(slots, "A")
        await hold.fields(engine.client, {"prompt": LONG})
        order.append("chat")
        hold.leave()

    async with asyncio.TaskGroup() as group:
        group.create_task(decide())
        await asyncio.sleep(0)
        group.create_task(chat())
        await asyncio.sleep(0)
        assert order == []
        busy.leave()
    assert order == ["alone", "done", "chat"]
    assert {owner for _, owner in slots.owned()} <= {"B"}
