"""Conversations on disk: they survive the runner, are found again by prefix, and stay within their bound."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.runner.environment import runner_environment
from corral.runner.handle import RunnerHandle
from corral.runner.kvcache import ConversationStore
from corral.runner.kvfile import saved_in
from corral.runner.spec import LaunchOptions, RunnerSpec

pytestmark = pytest.mark.e2e
ENVIRON = {**runner_environment(), "OMP_WAIT_POLICY": "passive"}  # other tests may run beside this one
STORY = "The lighthouse keeper wrote in his book every evening, and this is what he wrote. " * 12


class Place:
    """A store and runners that use it."""

    def __init__(self, model: Path, folder: Path, max_bytes: int = 2**30) -> None:
        self.spec = RunnerSpec(model, context_window=1024, num_parallel=2, n_batch=32)
        self.store = ConversationStore(folder / "kv", max_bytes)
        self.folder = self.store.folder(self.spec)
        self.run = folder
        self.live: list[RunnerHandle] = []

    async def start(self) -> RunnerHandle:
        """A fresh runner with what was saved."""
        options = LaunchOptions(self.run / f"r{len(self.live)}", environ=ENVIRON, kv_dir=self.folder)
        handle = RunnerHandle(self.spec, options)
        self.live.append(handle)
        await handle.start()
        await self.store.restore(handle.client, self.spec, handle.info.slots)
        return handle

    async def leave(self, handle: RunnerHandle) -> int:
        """Save, then stop."""
        saved = await self.store.save(handle.client, self.spec)
        await handle.stop()
        return saved


async def ask(handle: RunnerHandle, prompt: str, n: int = 4) -> dict[str, Any]:
    body = {"prompt": prompt, "n_predict": n, "temperature": 0, "ignore_eos": True}
    events = [event async for event in handle.client.completion(body)]
    return {**events[-1], "text": "".join(event["content"] for event in events)}


Build = Callable[..., Place]


@pytest.fixture
async def build(models_dir: Path) -> AsyncIterator[Build]:
    places: list[Place] = []
    with tempfile.TemporaryDirectory(prefix="ck-") as folder:

        def make(max_bytes: int = 2**30, model: str = "smollm2.gguf") -> Place:
            places.append(Place(models_dir / model, Path(folder), max_bytes))
            return places[-1]

        yield make
        for place in places:
            for handle in place.live:
                await handle.stop()


@pytest.mark.parametrize("model", ["smollm2.gguf", "gemma3.gguf"])
async def test_the_next_turn_after_a_restart_reads_only_what_is_new(build: Build, model: str) -> None:
    place = build(model=model)
    first = await place.start()
    answer = await ask(first, STORY)
    turn = STORY + answer["text"] + " Then the storm came."
    expected = await ask(first, turn, 12)
    assert await place.leave(first) == 1
    second = await place.start()
    again = await ask(second, turn, 12)
    assert again["text"] == expected["text"]
    timings = again["timings"]
    assert timings["prompt_n"] < 0.1 * (timings["prompt_n"] + timings["cache_n"])


async def test_a_conversation_that_went_on_replaces_its_earlier_state(build: Build) -> None:
    place = build()
    first = await place.start()
    answer = await ask(first, STORY)
    await place.leave(first)
    second = await place.start()
    await ask(second, STORY + answer["text"] + " Then the storm came.")
    await place.leave(second)
    assert place.folder is not None
    saved = saved_in(place.folder)
    assert len(saved) == 1
    assert stat.S_IMODE(saved[0].path.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700


async def test_an_unused_conversation_stays_on_disk_over_another_unload(build: Build) -> None:
    place = build()
    first = await place.start()
    await ask(first, STORY)
    await place.leave(first)
    assert await place.leave(await place.start()) == 0
    assert place.folder is not None
    assert len(saved_in(place.folder)) == 1


async def test_the_bound_holds(build: Build) -> None:
    place = build(max_bytes=1000)
    first = await place.start()
    await ask(first, STORY)
    await place.leave(first)
    assert place.folder is not None
    assert [path.name for path in place.folder.iterdir()] == ["slot.part"]
    assert (place.folder / "slot.part").stat().st_size == 0


async def test_a_damaged_file_costs_a_prefill_not_an_error(build: Build) -> None:
    place = build()
    first = await place.start()
    answer = await ask(first, STORY)
    await place.leave(first)
    assert place.folder is not None
    (saved,) = saved_in(place.folder)
    with saved.path.open("r+b") as file:
        file.truncate(saved.size_bytes // 2)
    (place.folder / "rubbish.kv").write_bytes(b"x" * 100)
    second = await place.start()
    assert (await ask(second, STORY))["text"] == answer["text"]
    assert saved_in(place.folder) == []
    await place.leave(second)
    assert [path.name for path in place.folder.glob("rubbish*")] == []


async def test_one_flipped_bit_costs_a_prefill_not_a_wrong_answer(build: Build) -> None:
    place = build()
    first = await place.start()
    answer = await ask(first, STORY)
    await place.leave(first)
    assert place.folder is not None
    (saved,) = saved_in(place.folder)
    data = bytearray(saved.path.read_bytes())
    data[len(data) // 2] ^= 0x40
    saved.path.write_bytes(data)
    second = await place.start()
    again = await ask(second, STORY)
    assert again["text"] == answer["text"]
    assert again["timings"]["cache_n"] == 0
    assert saved_in(place.folder) == []


def test_other_ways_of_loading_have_other_folders(tmp_path: Path) -> None:
    store = ConversationStore(tmp_path, 1)
    spec = RunnerSpec(Path("m"))
    others = [
        replace(spec, model_path=Path("n")),
        replace(spec, kv_cache_type="q8_0"),
        replace(spec, adapter_paths=(Path("a"),)),
    ]
    assert len({store.folder(each) for each in (spec, *others)}) == 4
    assert store.folder(replace(spec, num_parallel=4, context_window=8192)) == store.folder(spec)
    assert store.folder(replace(spec, embedding=True)) is None
    assert ConversationStore(tmp_path, 0).folder(spec) is None
