"""Multimodal crashes and marks in texts: what a user writes is text; what is no picture goes no further."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.server import RunningServer
from tests.fuzz.histories import PICTURE

from corral.store import manifests as media

WHOLE = base64.b64decode(PICTURE)
HEADS = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "gif": b"GIF89a\xff\xff\xff\xff",
    "webp": b"RIFF\xff\xff\xff\xffWEBPVP8L",
    "bmp": b"BM" + b"\xff" * 20,
    "wav": b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff",
    "mp3": b"\xff\xfb\x90\x00" * 9,
    "flac": b"fLaC\xff\xff\xff\xff",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "zeros": bytes(64),
    "nothing": b"",
}


@pytest.fixture
def seeing(server: RunningServer, tmp_path: Path) -> RunningServer:
    """With a model `see`."""
    projector = make_gguf(tmp_path / "p.gguf", "clip", {"clip.has_vision_encoder": True}, {"v": (2, 2)})
    server.add("see", jinja="{{ messages }}", extra={media.PROJECTOR: projector})
    return server


async def look(server: RunningServer, data: bytes) -> int:
    """The status of a chat with such a picture."""
    image = base64.b64encode(data).decode()
    body = {"model": "see", "messages": [{"role": "user", "content": "x", "images": [image]}]}
    status, reply = await server.post("/api/chat", body)
    assert status in {200, 400}, reply
    return status


@pytest.mark.parametrize("kind", HEADS)
async def test_what_only_begins_like_a_picture_or_sound_is_refused(seeing: RunningServer, kind: str) -> None:
    assert await look(seeing, HEADS[kind]) == 400
    assert await look(seeing, HEADS[kind] + random.Random(kind).randbytes(400)) == 400


async def test_a_picture_that_was_cut_is_refused(seeing: RunningServer) -> None:
    assert await look(seeing, WHOLE) == 200
    for keep in (0.3, 0.6):
        assert await look(seeing, WHOLE[: int(len(WHOLE) * keep)]) == 400, keep


async def test_broken_pictures_end_in_an_answer_or_a_refusal(seeing: RunningServer) -> None:
    draw = random.Random(5)
    for _ in range(60):
        data = bytearray(WHOLE)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        await look(seeing, bytes(data[: draw.randint(1, len(data))]))


MARKS = [
    "<__media__>",
    "<image>",
    "[img-0]",
    "[img]",
    "<|image_pad|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<start_of_image>",
]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("model", ["go", "jinja", "see"])
async def test_a_mark_in_a_text_is_no_picture(seeing: RunningServer, model: str, mark: str) -> None:
    text = f"before {mark} {mark} after"
    for path, body in (
        ("/api/chat", {"messages": [{"role": "user", "content": text}]}),
        ("/api/generate", {"prompt": text}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": text}]}),
    ):
        seeing.engine.bodies.clear()
        status, reply = await seeing.post(path, {"model": model, **body})
        assert status == 200, reply
        sent = json.dumps(seeing.engine.bodies)
        assert '"multimodal_data": [' not in sent.replace('"multimodal_data": []', "")
        assert '"image_url"' not in sent
    one = {"model": "see", "messages": [{"role": "user", "content": text, "images": [PICTURE]}]}
    status, reply = await seeing.post("/api/chat", one)
    assert status == 200, reply
    got = [body for path, body in seeing.engine.bodies if path == "/v1/chat/completions"][-1]
    assert json.dumps(got).count('"image_url":') == 1
