"""Translated files: whole or not at all, one maker at a time, gone with their blob, proved by making them again."""

from __future__ import annotations

import fcntl
import threading
import time
from pathlib import Path

import pytest
from tests.fakes.library import add_kit_model

from corral.errors import BlobNotFound, NotEnoughSpace
from corral.gguf import read_header
from corral.names import Digest
from corral.store import ModelStore, derived
from corral.store.care import HARMLESS, Problem, fsck, prune_at_start
from corral.store.derived import DerivedStore, Order, Part, differs, order_for
from corral.translate import RULES_VERSION

NAME = "gemma3-vision-q4"


class Halt(Exception):
    """What a test stops a making with."""


def ignore(_: int) -> None:
    """Nobody wants to hear how far it is."""


def never() -> None:
    raise AssertionError("there is no other maker")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models", spare=tmp_path / "home")
    add_kit_model(store, NAME)
    return store


@pytest.fixture
def orders(store: ModelStore) -> list[Order]:
    """Both halves of a monolithic vision model."""
    weights = store.load(store.resolve(NAME)).weights
    assert weights is not None
    found = [order_for(read_header(weights), part) for part in Part]
    return [order for order in found if order is not None]


def make(store: ModelStore, order: Order) -> Path:
    return store.derived.make(order, ignore, never)


def files(store: ModelStore) -> list[Path]:
    return [found.path for found in store.derived.files()]


def test_a_monolithic_vision_model_gives_two_files_of_about_its_size(store: ModelStore, orders: list[Order]) -> None:
    paths = [make(store, order) for order in orders]
    folder = store.root / "derived" / orders[0].source.name / str(RULES_VERSION)
    assert paths == [folder / "text.gguf", folder / "projector.gguf"]
    assert [path.stat().st_size for path in paths] == [order.size_bytes for order in orders]
    assert [store.derived.find(order) for order in orders] == paths
    # the patch embedding is widened to float32, which is a sixth of this tiny model and a thousandth of a real one
    assert sum(order.size_bytes for order in orders) < 1.2 * orders[0].source.stat().st_size
    assert {found.path.parent for found in store.derived.files()} == {folder}


def test_blobs_stay_byte_for_byte(store: ModelStore, orders: list[Order]) -> None:
    before = {path.name: path.read_bytes() for path in store.blobs.directory.iterdir()}
    for order in orders:
        make(store, order)
    assert {path.name: path.read_bytes() for path in store.blobs.directory.iterdir()} == before


def test_what_is_there_is_not_made_again(store: ModelStore, orders: list[Order]) -> None:
    first = make(store, orders[0]).stat()
    again = make(store, orders[0]).stat()
    assert (first.st_ino, first.st_mtime_ns) == (again.st_ino, again.st_mtime_ns)


def test_a_model_in_the_engines_layout_needs_nothing(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    model = store.load(add_kit_model(store, "qwen3-next"))
    assert model.header is not None
    assert order_for(model.header, Part.PROJECTOR) is None


def test_a_making_that_ends_early_leaves_nothing(store: ModelStore, orders: list[Order]) -> None:
    def halt(_: int) -> None:
        raise Halt

    with pytest.raises(Halt):
        store.derived.make(orders[0], halt, never)
    assert files(store) == []
    assert not (store.root / "derived").exists()


def test_what_a_killed_maker_left_is_begun_anew(store: ModelStore, orders: list[Order]) -> None:
    path = make(store, orders[0])
    good = path.read_bytes()
    path.rename(path.with_name("text.gguf-partial"))
    path.with_name("text.gguf-partial").write_bytes(b"GGUF" + bytes(3 * len(good)))
    assert store.derived.find(orders[0]) is None
    assert make(store, orders[0]).read_bytes() == good
    assert files(store) == [path]


def test_a_file_of_the_wrong_size_is_not_used(store: ModelStore, orders: list[Order]) -> None:
    path = make(store, orders[0])
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert store.derived.find(orders[0]) is None
    assert make(store, orders[0]).read_bytes() == good


def test_who_comes_second_waits_for_the_maker_and_takes_his_file(store: ModelStore, orders: list[Order]) -> None:
    begun, go, pauses = threading.Event(), threading.Event(), []

    def slowly(_: int) -> None:
        begun.set()
        assert go.wait(10)

    def pause() -> None:
        pauses.append(store.derived.find(orders[0]))
        go.set()
        time.sleep(0.001)

    first = threading.Thread(target=lambda: store.derived.make(orders[0], slowly, never))
    first.start()
    assert begun.wait(10)
    second = DerivedStore(*store.derived.roots).make(orders[0], ignore, pause)  # another process has another object
    first.join()
    assert pauses[0] is None
    assert files(store) == [second]


def test_waiting_for_another_maker_can_be_given_up(store: ModelStore, orders: list[Order]) -> None:
    partial = make(store, orders[0]).with_name("text.gguf-partial")
    partial.with_name("text.gguf").rename(partial)

    def give_up() -> None:
        raise Halt

    with partial.open("rb") as maker:
        fcntl.flock(maker, fcntl.LOCK_EX)
        with pytest.raises(Halt):
            store.derived.make(orders[0], ignore, give_up)
    assert partial.exists()


def test_no_room_is_told_before_a_byte_is_written(
    store: ModelStore, orders: list[Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = sum(order.size_bytes for order in orders) - 1
    monkeypatch.setattr(derived, "free_bytes", lambda _: free)
    with pytest.raises(NotEnoughSpace) as caught:
        store.derived.make(orders[0], ignore, never, more_bytes=orders[1].size_bytes)
    assert (caught.value.need_bytes, caught.value.free_bytes) == (free + 1, free)
    assert files(store) == []


def test_a_full_store_sends_the_files_to_the_spare_place(
    store: ModelStore, orders: list[Order], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(derived, "free_bytes", lambda path: 2**40 if path.is_relative_to(tmp_path / "home") else 0)
    path = make(store, orders[0])
    assert path.is_relative_to(tmp_path / "home" / "derived")
    assert store.derived.find(orders[0]) == path


def test_somebody_elses_store_sends_the_files_to_the_spare_place(
    store: ModelStore, orders: list[Order], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(path: Path) -> None:
        if path.is_relative_to(store.root):
            raise PermissionError(13, "Permission denied")
        path.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(derived, "make_directory", refuse)
    assert make(store, orders[0]).is_relative_to(tmp_path / "home" / "derived")


def test_files_go_with_the_last_name_of_their_blob(store: ModelStore, orders: list[Order]) -> None:
    for order in orders:
        make(store, order)
    store.copy(store.resolve(NAME), store.resolve("second"))
    store.delete(store.resolve(NAME))
    assert len(files(store)) == 2
    store.delete(store.resolve("second"))
    assert files(store) == []
    assert not any((store.root / "derived").iterdir())


def test_a_model_removed_while_it_is_translated_leaves_nothing(store: ModelStore, orders: list[Order]) -> None:
    def remove(_: int) -> None:
        if store.blobs.has(Digest.parse(orders[0].source.name)):
            store.delete(store.resolve(NAME))

    with pytest.raises(BlobNotFound):
        store.derived.make(orders[0], remove, never)
    assert files(store) == []
    with pytest.raises(BlobNotFound):
        make(store, orders[0])
    assert files(store) == []


def test_an_empty_directory_that_is_cleaned_up_under_a_maker_is_made_again(
    store: ModelStore, orders: list[Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[Path] = []

    def make_and_clean(path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if not cleaned:
            cleaned.append(path)
            store.derived.prune(store.blobs.has)

    monkeypatch.setattr(derived, "make_directory", make_and_clean)
    assert make(store, orders[0]).exists()


def test_pruning_takes_what_nobody_can_use(store: ModelStore, orders: list[Order], tmp_path: Path) -> None:
    path = make(store, orders[0])
    blob_folder = path.parent.parent
    doomed = [
        blob_folder / str(RULES_VERSION - 1) / "text.gguf",  # by older rules
        blob_folder / str(RULES_VERSION) / "projector.gguf-partial",  # of a maker that was killed
        blob_folder.with_name("sha256-" + "0" * 64) / str(RULES_VERSION) / "text.gguf",  # of a blob that is gone
        tmp_path / "home" / "derived" / blob_folder.name / "0" / "text.gguf",
    ]
    for each in doomed:
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_bytes(b"GGUF")
    pruned = prune_at_start(store)
    assert pruned.freed_bytes == 4 * len(doomed)
    assert len(pruned.files) == len(doomed)
    assert files(store) == [path]
    assert not (tmp_path / "home" / "derived").exists()


def test_pruning_leaves_what_is_being_made(store: ModelStore, orders: list[Order]) -> None:
    def prune(_: int) -> None:
        assert prune_at_start(store).files == ()

    assert store.derived.make(orders[0], prune, never).exists()


def test_fsck_makes_every_file_again_and_compares(store: ModelStore, orders: list[Order]) -> None:
    paths = [make(store, order) for order in orders]
    assert fsck(store).findings == ()
    assert not any(differs(path, order) for path, order in zip(paths, orders, strict=True))


@pytest.mark.parametrize("place", ["header", "weights", "end"])
def test_fsck_finds_a_file_that_was_changed_and_repair_removes_it(
    store: ModelStore, orders: list[Order], place: str
) -> None:
    path = make(store, orders[0])
    data = bytearray(path.read_bytes())
    if place == "end":
        data += b"x"
    else:
        data[100 if place == "header" else orders[0].plan.data_offset + 4096] ^= 1
    path.write_bytes(data)
    [finding] = fsck(store).findings
    assert finding.problem is Problem.BAD_TRANSLATION
    assert finding.problem not in HARMLESS
    assert finding.models == (f"{NAME}:latest",)
    assert path.exists()
    assert fsck(store, repair=True).findings[0].repaired == "deleted"
    assert fsck(store).is_healthy
    assert not path.exists()


def test_fsck_tells_of_files_that_nobody_can_use(store: ModelStore, orders: list[Order]) -> None:
    old = make(store, orders[0]).parent.with_name("0") / "text.gguf"
    old.parent.mkdir()
    old.write_bytes(b"GGUF")
    report = fsck(store)
    assert [finding.problem for finding in report.findings] == [Problem.OLD_TRANSLATION]
    assert report.is_healthy
