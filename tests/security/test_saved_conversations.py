"""What was kept is checked before it is used: a conversation that is not as it was written never reaches an engine."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from corral.errors import EngineError
from corral.runner import kvfile
from corral.runner.client import RunnerClient
from corral.runner.kvcache import ConversationStore
from corral.runner.spec import SLOT_PART, RunnerSpec

TOKENS = range(1000, 1100)
STATE = struct.pack("<III", 0x67677371, 2, len(TOKENS)) + struct.pack(f"<{len(TOKENS)}I", *TOKENS) + b"\x5a" * 5000


class Engine:
    """The two calls of an engine that a store makes: writes `state`, remembers what it was given to read."""

    def __init__(self, folder: Path, state: bytes = STATE) -> None:
        self.folder = folder
        self.state = state
        self.read: list[bytes] = []

    async def slots(self) -> list[dict[str, Any]]:
        return [{"id": 0, "is_processing": False, "n_prompt_tokens": len(TOKENS)}]

    async def save_slot(self, slot: int, filename: str) -> None:
        (self.folder / filename).write_bytes(self.state)

    async def restore_slot(self, slot: int, filename: str) -> None:
        self.read.append((self.folder / filename).read_bytes())

    @property
    def client(self) -> RunnerClient:
        return cast("RunnerClient", self)


class Place:
    """A store with one conversation in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spec = RunnerSpec(Path("/models/a"), num_parallel=2)
        self.store = ConversationStore(root, 2**20, "engine 1")
        self.folder = self.folder_of(self.store, self.spec)
        self.engine = Engine(self.folder)

    @staticmethod
    def folder_of(store: ConversationStore, spec: RunnerSpec) -> Path:
        folder = store.folder(spec)
        assert folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        kvfile.make_part(folder / SLOT_PART)
        return folder

    @property
    def file(self) -> Path:
        (path,) = self.folder.glob("*.kv")
        return path

    async def restored(self) -> int:
        return await self.store.restore(self.engine.client, self.spec, 2)


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "kv")
    assert await made.store.save(made.engine.client, made.spec) == 1
    return made


async def test_what_was_saved_comes_back_as_it_was(place: Place) -> None:
    assert await place.restored() == 1
    assert place.engine.read == [STATE]


@pytest.mark.parametrize("at", [0, 5, 20, len(STATE) // 2, len(STATE) - 1])
async def test_one_flipped_bit_and_the_file_is_deleted_unread(place: Place, at: int) -> None:
    data = bytearray(STATE)
    data[at] ^= 1
    place.file.write_bytes(data)
    assert await place.restored() == 0
    assert place.engine.read == []
    if at >= 12:  # a damaged head is no conversation at all, and is swept with the next save
        assert list(place.folder.glob("*.kv")) == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def rename(path: Path) -> None:
    digest, size, tag = path.stem.split("-")
    path.rename(path.with_name(f"{digest}-{size}-{tag[::-1]}.kv"))


def link_elsewhere(path: Path) -> None:
    target = path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(target)


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [cut, lengthen, rename, link_elsewhere, make_fifo, make_folder])
async def test_whatever_else_became_of_the_file_it_is_not_used(place: Place, damage: Callable[[Path], None]) -> None:
    damage(place.file)
    assert await place.restored() == 0
    assert place.engine.read == []


async def test_a_file_of_another_model_engine_or_setting_is_not_used(place: Place) -> None:
    name, data = place.file.name, place.file.read_bytes()
    others = [
        (place.store, RunnerSpec(Path("/models/b"), num_parallel=2)),
        (place.store, RunnerSpec(Path("/models/a"), num_parallel=2, kv_cache_type="q8_0")),
        (place.store, RunnerSpec(Path("/models/a"), num_parallel=2, adapter_paths=(Path("/models/c"),))),
        (ConversationStore(place.root, 2**20, "engine 2"), place.spec),
    ]
    for store, spec in others:
        folder = place.folder_of(store, spec)
        (folder / name).write_bytes(data)
        engine = Engine(folder)
        assert await store.restore(engine.client, spec, 2) == 0
        assert engine.read == []


async def test_a_runner_cannot_make_a_file_that_passes(place: Place) -> None:
    """It knows the form of the names and all bytes, but not the key."""
    forged = kvfile.Seal(b"guessed" * 4, place.folder.name)
    with place.file.open("rb") as file:
        tag = forged.tag(file)
    digest, size, _ = place.file.stem.split("-")
    place.file.rename(place.file.with_name(f"{digest}-{size}-{tag}.kv"))
    assert await place.restored() == 0
    assert place.engine.read == []


async def test_what_a_runner_goes_on_writing_changes_nothing_that_was_kept(place: Place) -> None:
    (place.folder / SLOT_PART).write_bytes(b"changed my mind")
    assert await place.restored() == 1
    assert place.engine.read == [STATE]


async def test_a_runner_that_writes_nonsense_leaves_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path / "kv")
    for state in (b"", b"GGUF", STATE[:40], struct.pack("<III", 0x67677371, 2, 2**32 - 1) + b"x" * 100):
        place.engine.state = state
        assert await place.store.save(place.engine.client, place.spec) == 0
        assert list(place.folder.iterdir()) == [place.folder / SLOT_PART]
        assert (place.folder / SLOT_PART).stat().st_size == 0


async def test_names_that_nobody_knows_are_swept_and_the_bound_is_for_all_together(place: Place) -> None:
    kept = place.file
    for name in ("rubbish.kv", "big", "slot-0.part", f"{'0' * 32}-5-{'0' * 32}.kvx", "half.tmp"):
        (place.folder / name).write_bytes(b"x" * 1000)
    (place.folder / "link").symlink_to("/etc/passwd")
    older = place.folder_of(place.store, RunnerSpec(Path("/models/b"))) / kept.name
    older.write_bytes(b"x" * 2**20)
    os.utime(older, (1, 1))
    kvfile.sweep(place.root, 2**20)
    assert {path.name for path in place.folder.iterdir()} == {SLOT_PART, kept.name}
    assert not older.exists()


async def test_the_key_is_the_servers_alone_and_a_damaged_one_is_made_anew(place: Place) -> None:
    key = place.root / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert kvfile.server_key(key) == key.read_bytes()
    key.write_bytes(b"short")
    assert len(kvfile.server_key(key)) == 32
    assert await place.restored() == 0


async def test_an_engine_that_refuses_a_file_costs_only_that_file(place: Place) -> None:
    async def refuse(slot: int, filename: str) -> None:
        raise EngineError(400, "wrong architecture")

    place.engine.restore_slot = refuse  # type: ignore[method-assign]
    assert await place.restored() == 0
    assert list(place.folder.glob("*.kv")) == []
