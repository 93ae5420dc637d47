"""What the engine opens: made once for all who wait, on a disk or, where none has room, in memory."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.fakes.ggufs import tiny_llama
from tests.fakes.library import add_kit_model
from tests.fakes.visions import tiny_projector

from corral.errors import NotEnoughSpace
from corral.runner.enginefiles import EngineFiles
from corral.runner.spec import RunnerSpec
from corral.store import ModelStore, derived
from corral.store.derived import OnBytes, Order, Pause

NAME = "gemma3-vision-q4"


def ignore(done: int, total: int) -> None:
    """Nobody wants to hear how far it is."""


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models")
    add_kit_model(store, NAME)
    return store


@pytest.fixture
def spec(store: ModelStore) -> RunnerSpec:
    model = store.load(store.resolve(NAME))
    assert model.weights is not None
    assert model.projector_sources == (model.weights,)
    return RunnerSpec(model.weights, model.projector_sources, translation=model.translation)


async def test_a_model_that_needs_nothing_is_opened_as_it_is(store: ModelStore, tmp_path: Path) -> None:
    spec = RunnerSpec(tiny_llama(tmp_path / "m.gguf"), (tiny_projector(tmp_path / "p.gguf"),))
    opened = await EngineFiles(store).open(spec, ignore)
    assert opened.spec == spec
    assert list(store.derived.files()) == []


async def test_the_files_are_made_and_take_the_blobs_places(store: ModelStore, spec: RunnerSpec) -> None:
    told: list[tuple[int, int]] = []
    opened = await EngineFiles(store).open(spec, lambda done, total: told.append((done, total)))
    text, projector = (store.derived.find(order) for order in EngineFiles(store).orders_of(spec))
    assert (opened.spec.model_path, opened.spec.projector_paths) == (text, (projector,))
    assert opened.descriptors == ()
    total = sum(order.size_bytes for order in EngineFiles(store).orders_of(spec))
    assert told[-1] == (total, total)
    assert told == sorted(told)


async def test_a_second_load_makes_nothing(store: ModelStore, spec: RunnerSpec) -> None:
    files = EngineFiles(store)
    first = await files.open(spec, ignore)
    made = first.spec.model_path.stat()
    told: list[int] = []
    assert await files.open(spec, lambda done, total: told.append(done)) == first
    assert told == []
    assert first.spec.model_path.stat().st_mtime_ns == made.st_mtime_ns


class Slow:
    """A store whose making waits; counts how often it was asked to make something."""

    def __init__(self, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go, self.orders = threading.Event(), threading.Event(), list[Order]()
        make = store.derived.make

        def slowly(order: Order, on_bytes: OnBytes, pause: Pause, *, more_bytes: int = 0) -> Path:
            self.orders.append(order)
            self.begun.set()
            while not self.go.wait(0.005):
                on_bytes(0)
            return make(order, on_bytes, pause, more_bytes=more_bytes)

        monkeypatch.setattr(store.derived, "make", slowly)


async def test_all_who_load_at_once_share_one_making(
    store: ModelStore, spec: RunnerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, files = Slow(store, monkeypatch), EngineFiles(store)
    loads = [asyncio.create_task(files.open(spec, ignore)) for _ in range(3)]
    await asyncio.to_thread(slow.begun.wait, 10)
    slow.go.set()
    opened = await asyncio.gather(*loads)
    assert len(slow.orders) == len(files.orders_of(spec))
    assert len({each.spec.model_path for each in opened}) == 1


async def test_a_load_that_is_given_up_leaves_the_making_to_the_next_one(
    store: ModelStore, spec: RunnerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, files = Slow(store, monkeypatch), EngineFiles(store)
    impatient = asyncio.create_task(files.open(spec, ignore))
    await asyncio.to_thread(slow.begun.wait, 10)
    impatient.cancel()
    await asyncio.wait({impatient})
    assert impatient.cancelled()
    again = asyncio.create_task(files.open(spec, ignore))
    slow.go.set()
    assert (await again).spec.model_path.exists()
    assert len(slow.orders) == 2  # text and projector, once each


async def test_closing_ends_what_a_load_that_was_given_up_has_left(
    store: ModelStore, spec: RunnerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, files = Slow(store, monkeypatch), EngineFiles(store)
    load = asyncio.create_task(files.open(spec, ignore))
    await asyncio.to_thread(slow.begun.wait, 10)
    load.cancel()
    await asyncio.wait({load})
    await files.close()
    assert list(store.derived.files()) == []


async def test_a_transfer_that_is_closed_does_not_stop_a_load(
    store: ModelStore, spec: RunnerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, files = Slow(store, monkeypatch), EngineFiles(store)
    load = asyncio.create_task(files.open(spec, ignore))
    async with aclosing(files.make(files.orders_of(spec))) as steps:
        await anext(steps)
        await asyncio.to_thread(slow.begun.wait, 10)
    slow.go.set()
    assert (await load).spec.model_path.exists()


async def test_closing_a_transfers_progress_ends_the_making(
    store: ModelStore, spec: RunnerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, files = Slow(store, monkeypatch), EngineFiles(store)
    async with aclosing(files.make(files.orders_of(spec))) as steps:
        assert (await anext(steps))[0] == 0
        await asyncio.to_thread(slow.begun.wait, 10)
    assert list(store.derived.files()) == []


async def test_without_room_on_a_disk_the_files_are_in_memory(
    store: ModelStore, spec: RunnerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derived, "free_bytes", lambda _: 0)
    opened = await EngineFiles(store, lambda: 2**40).open(spec, ignore)
    monkeypatch.undo()
    assert list(store.derived.files()) == []
    assert opened.spec.use_mmap is True  # no second copy
    assert opened.memory_bytes == sum(path.stat().st_size for path in opened.spec.readable_paths)
    on_disk = await EngineFiles(store).open(spec, ignore)
    for path, other in zip(opened.spec.readable_paths, on_disk.spec.readable_paths, strict=True):
        assert path.read_bytes() == other.read_bytes()
    for descriptor in opened.descriptors:
        with pytest.raises(PermissionError):  # not even a runner that has been taken over fills it
            os.ftruncate(descriptor, 2**40)
    opened.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened.descriptors[0])


async def test_without_room_anywhere_need_and_free_are_told(
    store: ModelStore, spec: RunnerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derived, "free_bytes", lambda _: 1000)
    need = sum(order.size_bytes for order in EngineFiles(store).orders_of(spec))
    with pytest.raises(NotEnoughSpace) as caught:
        await EngineFiles(store, lambda: need).open(spec, ignore)
    assert (caught.value.need_bytes, caught.value.free_bytes) == (need, 1000)
