"""Models as one file: out and in again with the same digests, and nothing taken from a file that lies."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.ggufs import tiny_llama
from tests.fakes.stores import add_model

from corral.errors import BlobNotFound, CorralError, DigestMismatch
from corral.names import ModelName
from corral.store import ModelStore
from corral.store.archive import REF_NAME, ArchiveRefused, export, import_archive

NAMES = [ModelName.parse(name) for name in ("tiny:1", "team/other:2", "tiny:again")]
TEXTS = {"template": "{{ .Prompt }}", "system": "Be brief."}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    folder = tmp_path_factory.mktemp("archive")
    store = ModelStore(folder / "models")
    add_model(store, "tiny:1", tiny_llama(folder / "a.gguf"), texts=TEXTS)
    add_model(store, "team/other:2", tiny_llama(folder / "b.gguf", seed=2))
    store.manifests.write(NAMES[2], store.manifests.read(NAMES[0]).raw)
    return store


@pytest.fixture(scope="module")
def archive(store: ModelStore) -> Path:
    target = store.root.parent / "models.tar"
    assert export(store, NAMES, target) == target.stat().st_size
    return target


Members = list[tuple[tarfile.TarInfo, bytes]]


def members(archive: Path) -> Members:
    with tarfile.open(archive) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def rewritten(path: Path, parts: Members) -> Path:
    with tarfile.open(path, "w") as tar:
        for member, data in parts:
            tar.addfile(member, io.BytesIO(data))
    return path


def test_models_come_back_with_their_digests(store: ModelStore, archive: Path, tmp_path: Path) -> None:
    mine = ModelStore(tmp_path / "models")
    told: list[tuple[int, int]] = []
    taken = list(import_archive(mine, archive, lambda done, total: told.append((done, total))))
    assert {each.name for each in taken} == set(NAMES)
    for name in NAMES:
        manifest = mine.manifests.read(name)
        assert manifest.raw == store.manifests.read(name).raw
        for digest in manifest.digests:
            mine.blobs.verify(digest)
    assert told == sorted(told)
    assert told[-1][0] <= told[-1][1] == archive.stat().st_size
    assert list(import_archive(mine, archive)) == taken


def test_the_same_models_give_the_same_bytes(store: ModelStore, archive: Path, tmp_path: Path) -> None:
    export(store, NAMES[::-1], tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()


def test_it_is_an_image_layout(archive: Path) -> None:
    found = {member.name: data for member, data in members(archive)}
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    entries = json.loads(found["index.json"])["manifests"]
    assert [entry["annotations"][REF_NAME] for entry in entries] == sorted(name.full for name in NAMES)
    assert all(len(found[f"blobs/sha256/{entry['digest'][7:]}"]) == entry["size"] for entry in entries)


def test_a_damaged_blob_is_not_exported_and_leaves_no_file(store: ModelStore, tmp_path: Path) -> None:
    copied = ModelStore(tmp_path / "models")
    list(import_archive(copied, _exported(store, tmp_path)))
    weights = copied.blobs.path(copied.manifests.read(NAMES[0]).layers[0].digest)
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(DigestMismatch):
        export(copied, NAMES[:1], tmp_path / "bad.tar")
    weights.unlink()
    with pytest.raises(BlobNotFound):
        export(copied, NAMES[:1], tmp_path / "bad.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.tar", "models"]


def _exported(store: ModelStore, folder: Path) -> Path:
    export(store, NAMES, folder / "good.tar")
    return folder / "good.tar"


def _linked(parts: Members) -> None:
    member, _ = parts[-1]
    member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0


def _hard_linked(parts: Members) -> None:
    parts[-1][0].type, parts[-1][0].linkname = tarfile.LNKTYPE, parts[-2][0].name


def _device(parts: Members) -> None:
    parts[-1][0].type = tarfile.CHRTYPE


def _outside(parts: Members) -> None:
    parts[-1][0].name = "blobs/sha256/../../../outside"


def _elsewhere(parts: Members) -> None:
    parts[-1][0].name = "/etc/cron.d/x"


def _changed(parts: Members) -> None:
    parts[-1] = (parts[-1][0], parts[-1][1][:-1] + b"!")


def _lost(parts: Members) -> None:
    del parts[-1]


def _shorter(parts: Members) -> None:
    parts[-1][0].size -= 1


def _without_index(parts: Members) -> None:
    del parts[1]


def _index(change: Callable[[dict[str, Any]], object]) -> Callable[[Members], None]:
    def apply(parts: Members) -> None:
        document = json.loads(parts[1][1])
        change(document)
        data = json.dumps(document).encode()
        parts[1][0].size = len(data)
        parts[1] = (parts[1][0], data)

    return apply


def _name(text: Any) -> Callable[[Members], None]:
    return _index(lambda document: document["manifests"][0]["annotations"].update({REF_NAME: text}))


@pytest.mark.parametrize(
    "spoil",
    [
        _linked,
        _hard_linked,
        _device,
        _outside,
        _elsewhere,
        _changed,
        _lost,
        _shorter,
        _without_index,
        _name("../../etc:x"),
        _name(None),
        _index(lambda document: document.update(manifests=[])),
        _index(lambda document: document.update(manifests=5)),
        _index(lambda document: document["manifests"].append(7)),
        _index(lambda document: document["manifests"][0].update(digest="sha256:" + "0" * 64)),
        _index(lambda document: document["manifests"][0].update(digest=None)),
    ],
)
def test_what_is_not_as_it_should_be_names_no_model(
    archive: Path, tmp_path: Path, spoil: Callable[[Members], None]
) -> None:
    parts = members(archive)
    spoil(parts)
    mine = ModelStore(tmp_path / "models")
    with pytest.raises(CorralError):
        list(import_archive(mine, rewritten(tmp_path / "bad.tar", parts)))
    assert mine.manifests.names() == []
    assert not (tmp_path / "outside").exists()
    for digest in mine.blobs.digests():
        mine.blobs.verify(digest)


def test_cut_anywhere_it_is_refused(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    for cut in (0, 100, 512, 1500, len(data) // 2, len(data) - 20_000):
        (tmp_path / "cut.tar").write_bytes(data[:cut])
        mine = ModelStore(tmp_path / f"models{cut}")
        with pytest.raises(CorralError):
            list(import_archive(mine, tmp_path / "cut.tar"))
        assert mine.manifests.names() == []


def test_a_head_that_claims_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    member = tarfile.TarInfo("././@PaxHeader")
    member.type, member.size = tarfile.XHDTYPE, 3 * 2**30
    with (tmp_path / "bomb.tar").open("wb") as file:
        file.write(member.tobuf(tarfile.USTAR_FORMAT))
        file.truncate(4 * 2**30)  # sparse
    with pytest.raises(ArchiveRefused, match="too large"):
        list(import_archive(ModelStore(tmp_path / "models"), tmp_path / "bomb.tar"))


def test_one_large_manifest_under_many_names_is_refused(tmp_path: Path) -> None:
    """Seven megabytes of archive would be as many gigabytes, of memory and of the disk."""
    raw = json.dumps({"schemaVersion": 2, "config": None, "layers": [], "x": "a" * 7 * 2**20}).encode()
    digest = hashlib.sha256(raw).hexdigest()
    entries = [{"digest": f"sha256:{digest}", "annotations": {REF_NAME: f"m{number}"}} for number in range(20)]
    parts: Members = []
    for name, data in (("index.json", json.dumps({"manifests": entries}).encode()), (f"blobs/sha256/{digest}", raw)):
        member = tarfile.TarInfo(name)
        member.size = len(data)
        parts.append((member, data))
    mine = ModelStore(tmp_path / "models")
    with pytest.raises(ArchiveRefused, match="bytes together"):
        list(import_archive(mine, rewritten(tmp_path / "bad.tar", parts)))
    assert mine.manifests.names() == []
