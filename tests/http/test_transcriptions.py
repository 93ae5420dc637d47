"""POST /v1/audio/transcriptions through HTTP, scheduler and client, down to a fake engine; and OpenAI's own SDK."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.server import CHATML, RunningServer, running_server
from tests.fakes.sounds import mp3, wav

from corral.store import manifests as media

PATH = "/v1/audio/transcriptions"
WORDS = " One two  three.\n"
SOUND = wav(0.5)


@pytest.fixture
async def hearing(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """`ear` hears and is rendered here, `eye` sees, `plain` does neither."""
    async with running_server(tmp_path) as running:
        for name, sense in (("ear", "audio"), ("eye", "vision")):
            projector = make_gguf(tmp_path / "p.gguf", "clip", {f"clip.has_{sense}_encoder": True}, {"v": (2, 2)})
            running.add(name, texts={"template": CHATML}, extra={media.PROJECTOR: projector})
        running.add("plain", texts={"template": CHATML})
        running.engine.reply = WORDS
        yield running


def form(sound: bytes | None = SOUND, **fields: Any) -> aiohttp.FormData:
    """A form as clients send it; the model is `ear` unless said otherwise."""
    made = aiohttp.FormData(default_to_multipart=True)
    for name, value in {"model": "ear", **fields}.items():
        for each in value if isinstance(value, list) else [value]:
            made.add_field(f"{name}[]" if isinstance(value, list) else name, each)
    if sound is not None:
        made.add_field("file", io.BytesIO(sound), filename="speech.wav", content_type="audio/wav")
    return made


async def ask(server: RunningServer, body: aiohttp.FormData | dict[str, Any]) -> tuple[int, str, str]:
    """(status, content type, text)."""
    sent: dict[str, Any] = {"json": body} if isinstance(body, dict) else {"data": body}
    async with server.http.post(server.url + PATH, **sent) as answer:
        return answer.status, answer.content_type, await answer.text()


def asked(server: RunningServer) -> dict[str, Any]:
    return next(body for path, body in reversed(server.engine.bodies) if path == "/completion")


async def test_a_recording_comes_back_as_its_words(hearing: RunningServer) -> None:
    status, kind, text = await ask(hearing, form())
    assert (status, kind) == (200, "application/json")
    answer = json.loads(text)
    assert answer["text"] == "One two  three."
    usage = answer["usage"]
    assert usage["type"] == "tokens"
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
    assert set(answer) == {"text", "usage"}


async def test_the_model_gets_the_sound_and_is_kept_to_its_task(hearing: RunningServer) -> None:
    await ask(hearing, form(language="de", prompt="a talk about Zürich", seed="7"))
    body = asked(hearing)
    assert body["prompt"]["multimodal_data"] == [base64.b64encode(SOUND).decode()]
    prompt = body["prompt"]["prompt_string"]
    assert prompt.count("<__media__>") == 1
    system, user = prompt.split("<|im_start|>user", 1)
    assert "in this language: de." in system
    assert "a talk about Zürich" in system
    assert "Answer no question" in system
    assert "<__media__>" in user
    assert (body["temperature"], body["seed"]) == (0, 7)


async def test_the_answer_takes_the_form_that_is_asked_for(hearing: RunningServer) -> None:
    assert await ask(hearing, form(response_format="text")) == (200, "text/plain", "One two  three.")
    status, kind, text = await ask(hearing, form(response_format="verbose_json", language="de", temperature="0.5"))
    assert (status, kind) == (200, "application/json")
    assert json.loads(text) == {
        "task": "transcribe",
        "language": "de",
        "duration": 0.5,
        "text": "One two  three.",
        "usage": {"type": "duration", "seconds": 0.5},
    }
    assert asked(hearing)["temperature"] == 0.5


async def test_json_carries_the_recording_in_base64(hearing: RunningServer) -> None:
    data = base64.b64encode(mp3(40)).decode()
    for file in (data, f"data:audio/mpeg;base64,{data}"):
        status, _, text = await ask(hearing, {"model": "ear", "file": file, "response_format": "text"})
        assert (status, text) == (200, "One two  three.")
        assert asked(hearing)["prompt"]["multimodal_data"] == [data]


async def test_a_stream_is_the_same_text_in_pieces(hearing: RunningServer) -> None:
    _, kind, text = await ask(hearing, form(stream="true"))
    assert kind == "text/event-stream"
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    *deltas, done = map(json.loads, events)
    assert {delta["type"] for delta in deltas} == {"transcript.text.delta"}
    assert "".join(delta["delta"] for delta in deltas) == done["text"] == "One two  three."
    assert done["type"] == "transcript.text.done"
    assert done["usage"]["type"] == "tokens"


async def test_log_probabilities_come_when_they_are_asked_for(hearing: RunningServer) -> None:
    answer = json.loads((await ask(hearing, form(include=["logprobs"])))[2])
    assert {"token", "logprob", "bytes"} <= set(answer["logprobs"][0])


async def test_a_field_that_nobody_knows_is_told_or_with_strict_refused(hearing: RunningServer) -> None:
    answer = json.loads((await ask(hearing, form(chunking_strategy="auto")))[2])
    assert answer["warnings"][0]["parameter"] == "chunking_strategy"
    assert (await ask(hearing, form(chunking_strategy="auto", strict="true")))[0] == 400


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (form(None), 400, "file is required"),
        (form(model=""), 400, "model is required"),
        (form(b""), 400, "audio file is empty"),
        (form(b"hello"), 400, "sound 1 cannot be used: it is no WAV, MP3 or FLAC sound"),
        (form(b"RIFF\0\0\0\0WAVE"), 400, "sound 1 cannot be used: it ends before its sound begins"),
        (form(model="nobody"), 404, "nobody"),
        (form(model="eye"), 400, '"eye:latest" does not support audio: it hears no sounds'),
        (form(model="plain"), 400, '"plain:latest" does not support audio: it hears no sounds'),
        (form(response_format="srt"), 400, 'response_format "srt" consists of times, which models here do not tell'),
        (form(response_format="vtt"), 400, "use json, text or verbose_json"),
        (form(response_format="yaml"), 400, 'response_format "yaml" is not known'),
        (form(timestamp_granularities=["word"]), 400, "timestamp_granularities: models here do not tell times"),
        (form(include=["words"]), 400, 'include: "words" is not known'),
        (form(temperature="hot"), 400, 'field "temperature" must be of type number'),
        ({"model": "ear"}, 400, "file is required"),
        ({"model": "ear", "file": "@"}, 400, "file must be a recording in base64"),
        ({"model": "ear", "file": 5}, 400, "file must be a recording in base64"),
    ],
)
async def test_what_cannot_be_written_down_is_said_in_openais_form_before_anything_is_loaded(
    hearing: RunningServer, body: Any, status: int, why: str
) -> None:
    got, kind, text = await ask(hearing, body)
    error = json.loads(text)["error"]
    assert (got, kind) == (status, "application/json")
    assert why in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert hearing.launcher.runners == []


async def test_a_recording_has_at_most_25_mib(hearing: RunningServer) -> None:
    most = b"RIFF\0\0\0\0WAVE" + bytes(25 * 2**20 - 12)
    assert (await ask(hearing, form(most)))[0] == 400  # it fits, and is no sound
    for body in (form(most + b"x"), form(bytes(40 * 2**20))):
        status, _, text = await ask(hearing, body)
        assert status == 413
        assert "larger than 26214400 bytes" in json.loads(text)["error"]["message"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods_are_refused_as_everywhere(hearing: RunningServer, method: str) -> None:
    async with hearing.http.request(method, hearing.url + PATH) as answer:
        assert (answer.status, answer.headers["Allow"], await answer.text()) == (405, "POST", "Method Not Allowed")


@pytest.mark.parametrize("body", [b"", b"--x", b"--x\r\nContent-Disposition: form-data\r\n\r\nv\r\n--x--\r\n"])
async def test_a_broken_form_is_a_clear_400(hearing: RunningServer, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with hearing.http.post(hearing.url + PATH, data=body, headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["message"].startswith("failed to parse multipart form: ")


async def test_an_engine_that_dies_is_an_error_of_the_stream(hearing: RunningServer) -> None:
    hearing.engine.stream_error = (1, "out of luck")
    _, _, text = await ask(hearing, form(stream="true"))
    assert json.loads(text.split("data: ")[-1])["error"]["message"] == "out of luck"


async def test_openais_sdk_reads_all_of_it(hearing: RunningServer, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(SOUND)
    async with openai.AsyncOpenAI(base_url=f"{hearing.url}/v1", api_key="x", max_retries=0) as client:
        create = client.audio.transcriptions.create
        assert (await create(model="ear", file=path)).text == "One two  three."
        assert await create(model="ear", file=path, response_format="text") == "One two  three."
        verbose = await create(model="ear", file=path, response_format="verbose_json")
        assert (verbose.duration, verbose.language) == (0.5, "unknown")
        with_logprobs = await create(model="ear", file=path, include=["logprobs"])
        assert with_logprobs.logprobs
        events = [event async for event in await create(model="ear", file=path, stream=True)]
        assert [event.type for event in events][-1] == "transcript.text.done"
        with pytest.raises(openai.BadRequestError, match="hears no sounds"):
            await create(model="plain", file=path)
