"""Chunked prefill: who is alone reads in one call, who is not goes on in pieces and loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, cast

import pytest

from corral.inference.running.lastturn import BEHIND, LastTurn
from corral.inference.running.prefill import STEP_S, Events, engine_events
from corral.inference.running.run import Run
from corral.runner.sharing import Sharing
from corral.runner.spec import RunnerSpec
from corral.sched.leased import LeasedPlace
from corral.sched.request import Lease

PROMPT = list(range(1000))
STEP = 64


class Slot:
    """One slot of an engine that reads STEP tokens a step, at `ms_per_token`. `others`: sharing by step number."""

    def __init__(self, ms_per_token: float = 6.0) -> None:
        self.sharing = Sharing()
        self.owner: str | None = ""
        self.place = LeasedPlace()
        self.ms_per_token = ms_per_token
        self.tokens: list[int] = []
        self.calls: list[tuple[int, int, int]] = []  # (prompt tokens, found, read) of every call
        self.steps = 0
        self.before_step: dict[int, Any] = {}
        self.busy = 0
        self.forgetful = False
        self.lease: Lease | None = None  # of the last request

    def read(self, prompt: Sequence[int]) -> Iterator[dict[str, int]]:
        found = 0 if self.forgetful else min(len(self.tokens), len(prompt) - 1)
        assert self.tokens[:found] == list(prompt[:found])
        call = len(self.calls)
        self.calls.append((len(prompt), found, 0))
        self.tokens = list(prompt[:found])
        yield {"processed": found, "total": len(prompt), "cache": found, "time_ms": 0}
        while len(self.tokens) < len(prompt):
            self.steps += 1
            self.before_step.get(self.steps, lambda: None)()
            self.tokens = list(prompt[: len(self.tokens) + STEP])
            self.calls[call] = (len(prompt), found, len(self.tokens) - found)
            yield {"processed": len(self.tokens), "total": len(prompt), "cache": found, "time_ms": 0}

    async def completion(self, body: dict[str, Any], gather_s: float = 0.0) -> Events:
        found = 0
        self.busy += 1
        try:
            for report in self.read(body["prompt"]):
                found = report["cache"]
                await asyncio.sleep(0)
                if body.get("return_progress"):
                    yield {"prompt_progress": report}
            read = len(body["prompt"]) - found
            if body["n_predict"]:
                yield {"content": "word", "stop": False}
            timings = {"cache_n": found, "prompt_n": read, "prompt_ms": read * self.ms_per_token, "predicted_n": 1}
            yield {"content": "", "stop": True, "timings": timings | {"predicted_ms": 1.0}}
        finally:
            self.busy -= 1

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        return PROMPT[: len(text)]


def run_of() -> Run:
    return Run(started_ns=0, load_duration_ns=0, guard=None, max_tokens=8, want_top=0)


async def ask(
    slot: Slot,
    run: Run,
    *,
    paced: bool = True,
    cuttable: bool = True,
    turn: LastTurn | None = None,
    gives_way: bool = False,
) -> list[dict[str, Any]]:
    spec = RunnerSpec(cast("Any", "/m"), n_batch=STEP, paced=paced)
    lease = cast("Lease", SimpleNamespace(runner=slot, spec=spec, gives_way=gives_way, place=slot.place))
    slot.lease = lease

    async def tokens() -> list[int] | None:
        return PROMPT if cuttable else None

    body = {"prompt": PROMPT, "n_predict": 8, "return_progress": True}
    async with aclosing(engine_events(lease, slot.completion, body, tokens, run, turn)) as events:
        got = [event async for event in events]
    run.timings = got[-1]["timings"]
    return got


async def test_a_prompt_that_is_alone_is_read_by_one_call() -> None:
    slot = Slot()
    events = await ask(slot, run_of())
    assert slot.calls == [(1000, 0, 1000)]
    assert [event["content"] for event in events[-2:]] == ["word", ""]


async def test_beside_an_answer_it_goes_in_pieces_of_what_a_step_may_take() -> None:
    slot = Slot(ms_per_token=6.0)
    slot.sharing = Sharing(requests=1, others=1, answering=1)
    run = run_of()
    events = await ask(slot, run)
    first, *pieces, last = slot.calls
    assert first[:2] == (1000, 0)
    assert first[2] <= STEP  # one step is under way when the call is closed
    sizes = [size for _, _, size in pieces]
    assert sizes[0] == 16
    assert set(sizes[1:-1]) == {int(STEP_S * 1000 / 6)}
    assert last[2] <= 8 + 1
    assert sum(read for _, _, read in slot.calls) == 1000  # no token is read twice
    assert (slot.sharing.requests, slot.sharing.answering) == (1, 1)
    progress = [event["prompt_progress"] for event in events if "prompt_progress" in event]
    assert [p["processed"] for p in progress] == sorted(p["processed"] for p in progress)
    assert {(p["total"], p["cache"]) for p in progress} == {(1000, 0)}
    metrics = run.metrics()
    assert (metrics.prompt_tokens, metrics.cached_tokens) == (1000, 0)


async def test_beside_requests_that_wait_it_takes_every_other_full_step() -> None:
    slot = Slot()
    slot.sharing = Sharing(requests=1, others=1)
    await ask(slot, run_of())
    assert {read for _, _, read in slot.calls[1:-2]} == {STEP}


async def test_somebody_comes_and_goes_while_the_prompt_is_read() -> None:
    slot = Slot()

    def comes() -> None:
        slot.sharing.requests = slot.sharing.others = 2
        slot.sharing.answering = 1

    def goes() -> None:
        slot.sharing.requests = slot.sharing.others = 1
        slot.sharing.answering = 0

    slot.before_step = {3: comes, 8: goes}
    await ask(slot, run_of())
    whole = [call for call in slot.calls if call[0] == 1000]
    assert len(whole) == 2  # before and after
    assert whole[1][2] > 3 * STEP
    assert len(slot.calls) > 4
    assert slot.sharing.requests == 0


async def test_what_the_cache_had_is_told_as_cached_and_what_pieces_read_is_not() -> None:
    slot = Slot()
    slot.tokens = PROMPT[:600]
    slot.sharing = Sharing(requests=1, others=1, answering=1)
    run = run_of()
    await ask(slot, run)
    metrics = run.metrics()
    assert (metrics.prompt_tokens, metrics.cached_tokens) == (1000, 600)
    assert metrics.prompt_duration_ns > 0
    told = slot.lease
    assert told is not None
    assert (told.prompt_tokens, told.cached_tokens) == (1000, 600)
    assert 980 < told.processed_tokens <= 1000


@pytest.mark.parametrize("left", [STEP, 96])
async def test_a_rest_of_little_more_than_a_step_is_let_be(left: int) -> None:
    slot = Slot()
    slot.tokens = PROMPT[: 1000 - left]
    slot.sharing = Sharing(requests=1, others=1, answering=1)
    await ask(slot, run_of())
    assert slot.calls == [(1000, 1000 - left, left)]


@pytest.mark.parametrize("how", [{"paced": False}, {"cuttable": False}])
async def test_what_cannot_be_cut_is_read_whole(how: dict[str, Any]) -> None:
    slot = Slot()
    slot.sharing = Sharing(requests=1, others=1, answering=1)
    events = await ask(slot, run_of(), **how)
    assert slot.calls[-1][0] == 1000
    assert all(total == 1000 for total, _, _ in slot.calls)
    assert events[-2]["content"] == "word"


async def test_an_engine_that_forgets_is_asked_for_all_of_it_once() -> None:
    slot = Slot()
    slot.sharing = Sharing(requests=1, others=1, answering=1)
    slot.forgetful = True
    events = await ask(slot, run_of())
    assert events[-2]["content"] == "word"
    assert [total for total, _, _ in slot.calls].count(1000) == 2


async def test_leaving_while_pieces_are_read_gives_the_place_back() -> None:
    slot = Slot()
    slot.sharing = Sharing(requests=1, others=1, answering=1)
    task = asyncio.create_task(ask(slot, run_of()))
    while len(slot.calls) < 4:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (slot.busy, slot.sharing.requests) == (0, 1)


# ---- stops for others who have the same beginning


class Waited:
    """A place whose holder is waited for by others, from the start; each needs a copy at a token."""

    def __init__(self, *stops: int) -> None:
        self.stops = list(stops)
        self.copied: list[tuple[int, int]] = []  # (stop, tokens read by then)
        self.told: list[str] = []
        self.source = "slot"

    @property
    def next_stop(self) -> int | None:
        return min(self.stops, default=None)

    async def settle(self, body: dict[str, Any], tokens: Any, *, gives_way: bool) -> None:
        self.told.append("settled")

    async def hand_over(self, read: int) -> None:
        self.copied += [(stop, read) for stop in self.stops if stop <= read]
        self.stops = [stop for stop in self.stops if stop > read]

    def found(self, tokens: int, of: int) -> None:
        self.told.append(f"{tokens} of {of}")

    def end_reading(self) -> None:
        self.told.append("read")


@pytest.mark.parametrize("company", ["a request", "a line", "nobody else"])
async def test_reading_stops_where_others_need_a_copy(company: str) -> None:
    slot, place = Slot(), Waited(500, 717)
    slot.place = cast("LeasedPlace", place)
    slot.sharing = {"a request": Sharing(1, 1), "a line": Sharing(1), "nobody else": Sharing()}[company]
    run = run_of()
    await ask(slot, run)
    assert place.copied == [(500, 500), (717, 717)]
    assert sum(read for _, _, read in slot.calls) == 1000  # no token is read twice
    assert place.told[:3] == ["settled", "0 of 1000", "read"]
    assert run.metrics().cached_tokens == 0


async def test_who_comes_late_gets_a_copy_of_what_is_read_already() -> None:
    slot, place = Slot(), Waited()
    slot.place = cast("LeasedPlace", place)
    slot.before_step[10] = lambda: place.stops.append(100)
    await ask(slot, run_of())
    [(stop, read)] = place.copied
    assert stop == 100
    assert 9 * STEP <= read <= 11 * STEP
    assert sum(read for _, _, read in slot.calls) == 1000


async def test_on_a_fast_device_nothing_is_copied() -> None:
    slot, place = Slot(), Waited()
    slot.place = cast("LeasedPlace", place)
    await ask(slot, run_of(), paced=False)
    assert "settled" not in place.told


# ---- a stop where the last turn begins

TEXT = "".join(chr(32 + number % 90) for number in PROMPT)  # a token a character
TURN = LastTurn(TEXT, 701)


async def test_an_engine_with_checkpoints_stops_where_the_last_turn_begins() -> None:
    slot, run = Slot(), run_of()
    events = await ask(slot, run, turn=TURN)
    assert slot.calls == [(700 + BEHIND, 0, 700 + BEHIND), (1000, 700 + BEHIND, 300 - BEHIND)]
    progress = [event["prompt_progress"] for event in events if "prompt_progress" in event]
    assert [p["processed"] for p in progress] == sorted(p["processed"] for p in progress)
    assert {(p["total"], p["cache"]) for p in progress} == {(1000, 0)}
    assert (run.metrics().prompt_tokens, run.metrics().cached_tokens) == (1000, 0)
    assert list(slot.sharing.prompts) == [("", TEXT)]


@pytest.mark.parametrize("known", [TEXT[:720] + "?", TEXT[:900]], ids=["another tail", "the turn before"])
async def test_what_is_known_so_far_needs_no_stop(known: str) -> None:
    slot = Slot()
    slot.sharing.prompts.append(("", known))
    await ask(slot, run_of(), turn=TURN)
    assert slot.calls == [(1000, 0, 1000)]


async def test_another_owners_prompt_is_not_known_and_nobodys_is_not_kept() -> None:
    slot = Slot()
    slot.sharing.prompts.append(("another", TEXT))
    await ask(slot, run_of(), turn=TURN)
    assert len(slot.calls) == 2
    nobodys = Slot()
    nobodys.owner = None
    await ask(nobodys, run_of(), turn=TURN)
    assert nobodys.calls == [(1000, 0, 1000)]


async def test_others_end_the_call_to_the_last_turn_too() -> None:
    slot = Slot()

    def come() -> None:
        slot.sharing.requests += 1
        slot.sharing.others += 1

    slot.before_step[2] = come
    run = run_of()
    await ask(slot, run, turn=TURN)
    assert slot.calls[0][0] == 700 + BEHIND
    assert slot.calls[0][2] <= 3 * STEP
    assert sum(read for _, _, read in slot.calls) == 1000  # no token is read twice
    assert run.metrics().cached_tokens == 0


async def test_a_prompt_beside_others_makes_no_stop() -> None:
    slot = Slot()
    slot.sharing = Sharing(requests=1, others=1)
    await ask(slot, run_of(), turn=TURN)
    assert slot.calls[0][0] == 1000


async def test_a_prompt_beside_lines_of_batches_only_is_alone() -> None:
    slot = Slot()
    slot.sharing = Sharing(requests=3)
    await ask(slot, run_of())
    assert [read for _, _, read in slot.calls] == [1000]


@pytest.mark.parametrize(("token_s", "piece_s"), [(0.006, 0.06), (0.05, STEP_S), (0.0001, 0.03)])
async def test_beside_a_fast_answer_the_pieces_are_smaller(token_s: float, piece_s: float) -> None:
    slot = Slot(ms_per_token=3.0)
    slot.sharing = Sharing(requests=1, others=1, answering=1, token_s=token_s)
    await ask(slot, run_of())
    _, _, *pieces, _ = slot.calls
    assert {size for _, _, size in pieces[:-1]} == {round(piece_s * 1000 / 3)}


def test_how_fast_tokens_come_is_told_by_an_answer_that_is_long_enough() -> None:
    sharing = Sharing()
    sharing.note({"predicted_n": 1, "predicted_ms": 900.0})
    assert sharing.token_s == 0.0
    sharing.note({"predicted_n": 20, "predicted_ms": 200.0})
    assert sharing.token_s == 0.01


async def test_a_line_waits_while_another_waits_for_its_first_token() -> None:
    slot = Slot()

    def comes() -> None:
        slot.sharing.requests += 1
        slot.sharing.count(others=1)

    slot.before_step = {3: comes}
    reading = asyncio.create_task(ask(slot, run_of(), gives_way=True))
    for _ in range(100):
        await asyncio.sleep(0)
    assert slot.steps == 3  # the step that was under way is the last
    assert not reading.done()
    slot.sharing.count(answering=1)
    for _ in range(20):
        await asyncio.sleep(0.02)
        if len(slot.calls) > 3:
            break
    assert max(read for _, _, read in slot.calls[1:]) <= 20  # pieces of STEP_S, beside its answer
    slot.sharing.count(-1, -1)
    await reading
    assert slot.calls[-1][0] == 1000
    assert (slot.sharing.others, slot.sharing.answering) == (0, 0)


async def test_a_line_does_not_begin_while_another_waits_for_its_first_token() -> None:
    slot = Slot()
    slot.sharing.count(others=1)
    reading = asyncio.create_task(ask(slot, run_of(), gives_way=True))
    await asyncio.sleep(0.02)
    assert slot.calls == []
    slot.sharing.count(others=-1)
    await reading
    assert [read for _, _, read in slot.calls] == [1000]
