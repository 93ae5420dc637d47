"""Endless reads: what lies in the store is read as a regular file within a bound, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.stores import add_model

from corral.errors import CorralError
from corral.gguf.reader import is_gguf, read_header
from corral.names import ModelName
from corral.regular import NotRegularFile, open_regular
from corral.store import ModelStore
from corral.store.care import prune_at_start

pytestmark = pytest.mark.timeout(60)


def to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


ENDLESS: list[Callable[[Path], None]] = [os.mkfifo, to_zero]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models")
    add_model(store, "m", make_gguf(tmp_path / "a.gguf", "llama", {"llama.context_length": 8}, {"w": (2, 2)}))
    return store


@pytest.mark.parametrize("put", ENDLESS)
def test_only_regular_files_are_opened(tmp_path: Path, put: Callable[[Path], None]) -> None:
    put(tmp_path / "x")
    for read in (open_regular, is_gguf, read_header):
        with pytest.raises(NotRegularFile):
            read(tmp_path / "x")
    (tmp_path / "y").write_bytes(b"GGUF")
    (tmp_path / "link").symlink_to("y")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"GGUF"


@pytest.mark.parametrize("put", ENDLESS)
def test_a_store_with_such_things_in_it_is_listed_cleaned_and_says_what_is_wrong(
    store: ModelStore, put: Callable[[Path], None]
) -> None:
    name = ModelName.parse("m")
    for blob in sorted(store.blobs.directory.glob("sha256-*")):
        kept = blob.read_bytes()
        blob.unlink()
        put(blob)
        with pytest.raises(CorralError):
            store.load(name)
        assert [row.name.short for row in store.list()] == ["m:latest"]
        prune_at_start(store)
        blob.unlink(missing_ok=True)
        blob.write_bytes(kept)
    manifest = store.manifests.path(name)
    manifest.unlink()
    put(manifest)
    with pytest.raises(CorralError, match="damaged"):
        store.load(name)
    prune_at_start(store)
