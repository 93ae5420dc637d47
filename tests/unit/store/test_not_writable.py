"""A store of another user's: every write says so, without a path; reading goes on."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.stores import add_model

from corral.errors import StoreNotWritable
from corral.names import Digest, ModelName
from corral.store import ModelStore

NOBODY = 65534
NEW = Digest("ab" * 32)


@pytest.fixture
def foreign() -> Iterator[ModelStore]:
    """A store with the model `a` that this thread may read only."""
    folder = Path(tempfile.mkdtemp(prefix="corral-foreign-"))  # pytest's own folders are closed to others
    folder.chmod(0o755)
    store = ModelStore(folder / "models")
    add_model(store, "a", make_gguf(folder / "m.gguf", "llama", {"llama.context_length": 64}, {"w": (2, 2)}))
    store.root.chmod(0o555)
    for path in store.root.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    libc = ctypes.CDLL(None)
    libc.setfsuid(NOBODY if os.geteuid() == 0 else os.geteuid())  # of this thread only; root may write anything
    yield store
    libc.setfsuid(os.geteuid())
    for path in [store.root, *store.root.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def reserve(store: ModelStore) -> None:
    """What create and pull begin with."""
    with store.blobs.reserve([NEW]):
        pass


def download(store: ModelStore) -> None:
    """A blob that grows."""
    with store.blobs.partial(NEW):
        pass


WRITES: list[Callable[[ModelStore], Any]] = [
    lambda store: store.blobs.put(b"new"),
    lambda store: store.copy(ModelName.parse("a"), ModelName.parse("b")),
    lambda store: store.copy(ModelName.parse("a"), ModelName.parse("deep/er/b")),
    lambda store: store.delete(ModelName.parse("a")),
    lambda store: store.blobs.remove(store.blobs.digests()[0]),
    ModelStore.check_writable,
    reserve,
    download,
]


@pytest.mark.parametrize("write", WRITES)
def test_a_write_says_that_the_folder_cannot_be_written(
    foreign: ModelStore, write: Callable[[ModelStore], Any]
) -> None:
    with pytest.raises(StoreNotWritable) as caught:
        write(foreign)
    assert str(caught.value) == "the models folder cannot be written: permission denied"
    assert [row.name.short for row in foreign.list()] == ["a:latest"]


def test_a_folder_that_cannot_be_made_says_so(foreign: ModelStore) -> None:
    inside = ModelStore(foreign.root / "not" / "there")
    with pytest.raises(StoreNotWritable):
        inside.check_writable()
    with pytest.raises(StoreNotWritable):
        inside.blobs.put(b"new")
    assert inside.list() == []


def test_a_store_of_ours_is_written_and_nothing_of_it_stays(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "new" / "models")
    store.check_writable()
    assert list(store.root.iterdir()) == []
