"""Taking over other programs' models: shared on disk, not copied, hashed before they are trusted."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.stores import add_model

from corral.store import ModelStore, adopt
from corral.store.adopt import Adopted, import_hf_cache, import_lmstudio, import_ollama
from corral.store.care import fsck


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "mine")


def weights(path: Path, **metadata: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return make_gguf(path, metadata={"general.file_type": 15, **metadata}, tensors={"t": (4, 32)})


def taken(results: list[Adopted]) -> list[str]:
    assert [result.skipped for result in results if result.skipped] == []
    return [result.name for result in results]


def test_an_ollama_store_is_taken_over_with_its_manifests(store: ModelStore, tmp_path: Path) -> None:
    theirs = ModelStore(tmp_path / "ollama")
    name = add_model(theirs, "someone/m:v1", weights(tmp_path / "w.gguf"), texts={"system": "hi"})
    results = list(import_ollama(store, theirs.root))
    assert taken(results) == ["someone/m:v1"]
    model = store.load(name)
    assert model.manifest.raw == theirs.manifests.read(name).raw
    assert results[0].size_bytes == model.size_bytes
    assert fsck(store).findings == ()
    assert taken(list(import_ollama(store, theirs.root))) == ["someone/m:v1"]  # again: nothing to do, nothing lost


def test_files_are_linked_where_the_file_system_has_no_reflinks(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopt, "_reflink", lambda *_: False)
    path = weights(tmp_path / "lm/publisher/repo-GGUF/repo.Q4_K_M.gguf")
    results = list(import_lmstudio(store, tmp_path / "lm"))
    assert taken(results) == ["publisher/repo:Q4_K_M"]
    model = store.load(store.resolve("publisher/repo:q4_k_m"))
    assert model.weights is not None
    assert model.weights.samefile(path)
    assert (model.parent_model, model.family, model.quantization_level) == (path.name, "llama", "Q4_K_M")
    assert fsck(store).findings == ()


def test_what_cannot_be_shared_is_left_out_unless_copies_are_allowed(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_file_system(*_: object) -> None:
        raise OSError(errno.EXDEV, "cross-device link")

    monkeypatch.setattr(adopt, "_reflink", lambda *_: False)
    monkeypatch.setattr(Path, "hardlink_to", other_file_system)
    path = weights(tmp_path / "lm/p/r/r-Q8_0.gguf")
    (result,) = list(import_lmstudio(store, tmp_path / "lm"))
    assert result.skipped == "r-Q8_0.gguf is on another file system; it could only be copied"
    assert store.blobs.digests() == []
    assert store.manifests.names() == []
    assert taken(list(import_lmstudio(store, tmp_path / "lm", copy=True))) == ["p/r:Q8_0"]
    model = store.load(store.resolve("p/r:Q8_0"))
    assert model.weights is not None
    assert not model.weights.samefile(path)


def test_projectors_go_to_every_model_of_their_folder(store: ModelStore, tmp_path: Path) -> None:
    folder = tmp_path / "lm/p/vision"
    for quant in ("Q4_0", "F16"):
        weights(folder / f"vision-{quant}.gguf", **{"x.y": quant})
    make_gguf(folder / "mmproj-F16.gguf", "clip", {"clip.has_vision_encoder": True})
    assert taken(list(import_lmstudio(store, tmp_path / "lm"))) == ["p/vision:F16", "p/vision:Q4_0"]
    assert [row.capabilities for row in store.list()] == [("completion", "vision")] * 2
    assert len(store.load(store.resolve("p/vision:F16")).projectors) == 1


def test_a_hub_cache_is_taken_over_under_the_names_pull_would_use(store: ModelStore, tmp_path: Path) -> None:
    repository = tmp_path / "hub/models--Some.Org--Repo-GGUF"
    blob = weights(repository / "blobs/abc")
    for revision, at in (("old", 1), ("new", 2)):
        link = repository / f"snapshots/{revision}/repo-{revision}-Q5_K_M.gguf"
        link.parent.mkdir(parents=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
        os.utime(link.parent, (at, at))
    assert taken(list(import_hf_cache(store, tmp_path / "hub"))) == ["hf.co/Some-Org/Repo-GGUF:Q5_K_M"]
    model = store.load(store.resolve("hf.co/some-org/repo-gguf:q5_k_m"))
    assert model.parent_model == "repo-new-Q5_K_M.gguf"


def test_what_is_wrong_with_one_model_does_not_stop_the_others(store: ModelStore, tmp_path: Path) -> None:
    folder = tmp_path / "lm/p/r"
    weights(folder / "good.gguf")
    (folder / "junk.gguf").write_bytes(b"JUNK")
    weights(folder / "part-00001-of-00002.gguf")
    (folder / "broken.gguf").symlink_to(folder / "nowhere.gguf")
    results = {result.source.name: result for result in import_lmstudio(store, tmp_path / "lm")}
    assert results["good.gguf"].skipped == ""
    assert results["good.gguf"].name == "p/r:Q4_K_M"
    assert "magic" in results["junk.gguf"].skipped
    assert "split model" in results["part-00001-of-00002.gguf"].skipped
    assert len(results) == 3


def test_an_ollama_blob_that_does_not_hash_to_its_name_is_not_taken(store: ModelStore, tmp_path: Path) -> None:
    theirs = ModelStore(tmp_path / "ollama")
    name = add_model(theirs, "m", weights(tmp_path / "w.gguf"))
    path = theirs.load(name).weights
    assert path is not None
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    (result,) = list(import_ollama(store, theirs.root))
    assert "digest mismatch" in result.skipped
    assert store.manifests.names() == []


def test_a_name_that_another_model_has_is_not_overwritten(store: ModelStore, tmp_path: Path) -> None:
    theirs = ModelStore(tmp_path / "ollama")
    add_model(theirs, "m", weights(tmp_path / "a.gguf"))
    mine = add_model(store, "M", weights(tmp_path / "b.gguf", **{"x.y": 1}))
    before = store.manifests.read(mine).raw
    (result,) = list(import_ollama(store, theirs.root))
    assert "another model is already called" in result.skipped
    assert store.manifests.read(mine).raw == before


def test_a_file_that_changes_while_it_is_taken_is_not_trusted(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = weights(tmp_path / "lm/p/r/r.gguf")

    def change_then_fail(*_: object) -> bool:
        path.write_bytes(path.read_bytes() + b"more")
        return False

    monkeypatch.setattr(adopt, "_reflink", change_then_fail)
    (result,) = list(import_lmstudio(store, tmp_path / "lm"))
    assert "changed while it was read" in result.skipped
    assert store.blobs.digests() == []
