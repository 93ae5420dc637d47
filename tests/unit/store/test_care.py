"""Cleaning and checking: what nobody needs goes, what somebody is at work on stays, and every damage is reported."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.stores import add_model

from corral.names import Digest, ModelName
from corral.store import ModelConfig, ModelStore
from corral.store import manifests as media
from corral.store.care import Finding, Problem, Report, fsck, prune_at_start

OLD = time.time() - 7200
STRAY = Digest("5" * 64)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return make_gguf(tmp_path / "w.gguf", tensors={"t": (4, 32)})


def put_file(store: ModelStore, name: str, at: float = OLD) -> Path:
    path = store.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"stray")
    os.utime(path, (at, at))
    return path


def age_everything(store: ModelStore) -> None:
    for path in store.blobs.directory.iterdir():
        os.utime(path, (OLD, OLD))


def test_pruning_removes_what_nobody_needs_and_nothing_else(store: ModelStore, weights: Path) -> None:
    name = add_model(store, "m", weights)
    unreferenced, _ = store.blobs.put(b"nobody wants me")
    age_everything(store)
    young, _ = store.blobs.put(b"just uploaded")
    strays = ["sha256-123456789", f"{STRAY.filename}-partial", f"{STRAY.filename}-partial-0", "COPY123", "x.tmp"]
    for stray in strays:
        put_file(store, f"blobs/{stray}")
    fresh = put_file(store, f"blobs/{'6' * 64}.tmp", time.time())
    (store.blobs.directory / "split-gguf-1").mkdir()
    (store.manifests.directory / "empty/dirs/here").mkdir(parents=True)
    pruned = prune_at_start(store)
    expected = {f"blobs/{stray}" for stray in strays} | {f"blobs/{unreferenced.filename}"}
    assert set(pruned.files) == expected
    assert pruned.freed_bytes == 5 * len(strays) + 15
    assert pruned.refused == ""
    assert set(store.blobs.digests()) == {*store.manifests.read(name).digests, young}
    assert fresh.exists()
    assert (store.blobs.directory / "split-gguf-1").is_dir()
    assert not (store.manifests.directory / "empty").exists()
    assert store.load(name).header is not None


def test_pruning_an_empty_store_is_fine(store: ModelStore) -> None:
    assert prune_at_start(store).files == ()


def test_pruning_stops_at_an_unreadable_manifest(store: ModelStore) -> None:
    unreferenced, _ = store.blobs.put(b"maybe wanted")
    age_everything(store)
    store.manifests.write(ModelName.parse("bad"), b"{")
    pruned = prune_at_start(store)
    assert pruned.files == ()
    assert "bad:latest" in pruned.refused
    assert store.blobs.has(unreferenced)


def test_pruning_stops_at_a_manifest_under_an_invalid_name(store: ModelStore) -> None:
    unreferenced, _ = store.blobs.put(b"maybe wanted")
    age_everything(store)
    put_file(store, "manifests/host/name space/model/tag")
    assert "no valid name" in prune_at_start(store).refused
    assert store.blobs.has(unreferenced)


def test_no_prune_keeps_everything_but_dead_temp_files_of_ours(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, no_prune=True)
    unreferenced, _ = store.blobs.put(b"keep me")
    age_everything(store)
    partial = put_file(store, f"blobs/{STRAY.filename}-partial")
    dead = put_file(store, "blobs/corral-tmp-0123")
    assert prune_at_start(store).files == ("blobs/corral-tmp-0123",)
    assert store.blobs.has(unreferenced)
    assert partial.exists()
    assert not dead.exists()


def test_dead_temp_files_of_ours_go_whatever_their_age(store: ModelStore) -> None:
    names = ["blobs/corral-reserve-1", "blobs/corral-tmp-1", "manifests/corral-tmp-2"]
    for name in names:
        put_file(store, name, time.time())
    assert sorted(prune_at_start(store).files) == names


def test_pruning_leaves_what_somebody_is_writing(store: ModelStore) -> None:
    reserved, _ = store.blobs.put(b"about to be referred to")
    with store.blobs.writer() as writer, store.blobs.partial(STRAY) as partial, store.blobs.reserve([reserved]):
        assert partial is not None
        partial.write(b"half")
        writer.write(b"half")
        side = put_file(store, f"blobs/{STRAY.filename}-partial-3")
        age_everything(store)
        assert prune_at_start(store).files == ()
        assert side.exists()
        digest = writer.commit()
    assert store.blobs.has(digest)
    assert store.blobs.has(reserved)


def test_a_partial_lives_as_long_as_its_youngest_side_file(store: ModelStore) -> None:
    put_file(store, f"blobs/{STRAY.filename}-partial")
    side = put_file(store, f"blobs/{STRAY.filename}-partial-0", time.time())
    assert prune_at_start(store).files == ()
    os.utime(side, (OLD, OLD))
    assert len(prune_at_start(store).files) == 2


def test_old_blob_names_are_renamed(store: ModelStore) -> None:
    digest, _ = store.blobs.put(b"x")
    path = store.blobs.path(digest)
    path.rename(path.with_name(str(digest)))
    assert not store.blobs.has(digest)
    prune_at_start(store)
    assert store.blobs.has(digest)


def findings(report: Report) -> list[tuple[Problem, tuple[str, ...]]]:
    return [(finding.problem, finding.models) for finding in report.findings]


def test_a_sound_store_has_no_findings_and_every_byte_was_read(store: ModelStore, weights: Path) -> None:
    add_model(store, "m", weights, texts={"system": "x"}, parameters={"stop": ["a"]})
    seen: list[tuple[int, int]] = []
    report = fsck(store, on_progress=lambda done, total: seen.append((done, total)))
    assert report.findings == ()
    assert report.is_healthy
    total = sum(path.stat().st_size for path in store.blobs.directory.iterdir())
    assert (report.models, report.blobs, report.bytes_read) == (1, 4, total)
    assert seen[-1] == (total, total)


def test_a_flipped_bit_is_found_quarantined_and_named(store: ModelStore, weights: Path) -> None:
    name = add_model(store, "m", weights)
    path = store.load(name).weights
    assert path is not None
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    found = fsck(store)
    assert findings(found) == [(Problem.WRONG_DIGEST, ("m:latest",))]
    assert not found.is_healthy
    assert found.findings[0].repaired == ""
    assert path.exists()
    repaired = fsck(store, repair=True)
    file = f"blobs/{path.name}"
    assert repaired.findings[0].file == file
    assert repaired.findings[0].repaired == f"moved to quarantine/{file}"
    assert (store.root / "quarantine" / file).read_bytes() == bytes(raw)
    assert findings(fsck(store)) == [(Problem.MISSING_BLOB, ("m:latest",))]


def test_a_missing_blob_names_every_model_that_needs_it(store: ModelStore, weights: Path) -> None:
    one = add_model(store, "one", weights)
    add_model(store, "two", weights)
    path = store.load(one).weights
    assert path is not None
    path.unlink()
    assert findings(fsck(store)) == [(Problem.MISSING_BLOB, ("one:latest",)), (Problem.MISSING_BLOB, ("two:latest",))]


def test_manifests_that_cannot_be_read_are_found_and_moved_away(store: ModelStore) -> None:
    store.manifests.write(ModelName.parse("bad"), b"{")
    put_file(store, "manifests/host/name space/model/tag")
    problems = {problem for problem, _ in findings(fsck(store))}
    assert problems == {Problem.BAD_MANIFEST, Problem.BAD_NAME}
    fsck(store, repair=True)
    assert (store.root / "quarantine/manifests/registry.ollama.ai/library/bad/latest").read_bytes() == b"{"
    assert fsck(store).findings == ()


def test_layers_that_are_not_what_they_should_be_are_found(store: ModelStore, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"{{{ no gguf and no json")
    add_model(store, "weights", extra={media.MODEL: junk}, config=ModelConfig("gguf"))
    add_model(store, "params", extra={media.PARAMS: junk})
    assert sorted(findings(fsck(store))) == [
        (Problem.BAD_CONTENT, ("params:latest",)),
        (Problem.BAD_CONTENT, ("weights:latest",)),
    ]


def test_harmless_leftovers_are_told_apart(store: ModelStore, weights: Path) -> None:
    add_model(store, "m", weights)
    unreferenced, _ = store.blobs.put(b"nobody wants me")
    dead = put_file(store, "blobs/corral-tmp-9")
    put_file(store, f"blobs/{STRAY.filename}-partial")
    with store.blobs.writer() as writer:
        writer.write(b"alive")
        report = fsck(store, repair=True)
    assert report.is_healthy
    assert set(report.findings) == {
        Finding(Problem.UNREFERENCED_BLOB, f"blobs/{unreferenced.filename}"),
        Finding(Problem.LEFTOVER, "blobs/corral-tmp-9", repaired="deleted"),
        Finding(Problem.LEFTOVER, f"blobs/{STRAY.filename}-partial"),
    }
    assert not dead.exists()
    assert store.blobs.has(unreferenced)
