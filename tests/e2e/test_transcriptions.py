"""Recordings through the real engine: a library model with ears writes down what it hears."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.library import GOLDEN, KitModel, translated, translated_projector
from tests.fakes.made import made, refused
from tests.fakes.sounds import mp3, wav

pytestmark = pytest.mark.e2e
MODEL, PATH = "ear", "/v1/audio/transcriptions"
EAR = KitModel(GOLDEN, "gemma4")


@pytest.fixture(scope="module")
def hearing(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("ear")
    projector = translated_projector(EAR.weights, folder / "mmproj.gguf")
    assert projector is not None
    with made(server, MODEL, {"m.gguf": translated(EAR.weights, folder / "m.gguf"), "mmproj.gguf": projector}):
        yield server


def sound(name: str) -> bytes:
    return (GOLDEN / "images" / name).read_bytes()


def transcribe(server: ServerProcess, data: bytes) -> dict[str, Any]:
    """The whole answer; random weights would go on and on, so it is cut after a few tokens."""
    file = base64.b64encode(data).decode()
    more = {"include": ["logprobs"], "options": {"num_predict": 4, "num_ctx": 1024}}
    answer: dict[str, Any] = server.request("POST", PATH, {"model": MODEL, "file": file, **more})
    return answer


def test_the_model_says_that_it_hears(hearing: ServerProcess) -> None:
    assert {"vision", "audio"} <= set(hearing.post("/api/show", {"model": MODEL})["capabilities"])


def test_another_sound_changes_the_words_and_the_same_sound_does_not(hearing: ServerProcess) -> None:
    first, again, other = (transcribe(hearing, sound(name)) for name in ("tone.wav", "tone.wav", "sweep.wav"))
    wanted = first["logprobs"][0]["logprob"]
    assert again["logprobs"][0]["logprob"] == pytest.approx(wanted, abs=1e-2)
    assert other["logprobs"][0]["logprob"] != pytest.approx(wanted, abs=0.02)


def test_longer_sounds_are_more_tokens(hearing: ServerProcess) -> None:
    short, long = (transcribe(hearing, wav(seconds))["usage"]["input_tokens"] for seconds in (1.0, 3.0))
    assert long - short == 50  # 25 a second


def test_mp3_is_heard_as_well(hearing: ServerProcess) -> None:
    assert transcribe(hearing, mp3(40))["usage"]["input_tokens"] > 0


def test_a_sound_too_long_for_the_window_is_refused(hearing: ServerProcess) -> None:
    file = base64.b64encode(wav(120.0)).decode()
    status, text = refused(hearing, PATH, {"model": MODEL, "file": file, "num_ctx": 1024})
    assert status == 400
    assert "maximum context length is 2048 tokens" in text


def test_a_sound_in_a_chat_is_heard(hearing: ServerProcess) -> None:
    with openai.OpenAI(base_url=f"{hearing.url}/v1", api_key="x", max_retries=0) as client:
        audio = {"type": "input_audio", "input_audio": {"data": EAR.medium("tone.wav"), "format": "wav"}}
        messages: Any = [{"role": "user", "content": [audio, {"type": "text", "text": "What do you hear?"}]}]
        reply = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=4, temperature=0)
    assert reply.usage is not None
    assert reply.usage.prompt_tokens > 20
