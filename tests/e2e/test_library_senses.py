"""Library models with their encoders inside, on a real server: they see and hear on every API, as real Ollama does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.library import GOLDEN, KitModel, add_kit_model
from tests.fakes.made import refused

from corral.store import ModelStore

pytestmark = pytest.mark.e2e
EYES, EYES_TOO, BOTH = (KitModel(GOLDEN, name) for name in ("gemma3-vision-q4", "ministral-3", "gemma4"))
SQUARE, WIDE = (EYES.medium(name) for name in ("square64.png", "wide96x40.png"))
TONE, SWEEP = (EYES.medium(name) for name in ("tone.wav", "sweep.wav"))
TOLERANCE = 0.5  # of the kit's checker


@pytest.fixture(scope="module")
def library(server: ServerProcess) -> Iterator[ServerProcess]:
    """The models in the store as a pull leaves them."""
    store = ModelStore(server.models)
    names = [add_kit_model(store, model.name) for model in (EYES, EYES_TOO, BOTH)]
    yield server
    for name in names:
        server.post("/api/generate", {"model": name.short, "keep_alive": 0})
        server.request("DELETE", "/api/delete", {"model": name.short})


def chat(server: ServerProcess, model: KitModel, *media: str, **options: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model.name,
        "messages": [{"role": "user", "content": "What is in the picture?", "images": list(media)}],
        "options": {"temperature": 0, "num_predict": 1, **options},
        "logprobs": True,
        "top_logprobs": 5,
    }
    answer: dict[str, Any] = server.post("/api/chat", body)
    return answer


def likeliest(answer: dict[str, Any]) -> dict[str, float]:
    """The first token's best, by their texts."""
    return {top["token"]: top["logprob"] for top in answer["logprobs"][0]["top_logprobs"]}


def drawn(entries: list[dict[str, Any]]) -> list[float]:
    return [entry["logprob"] for entry in entries]


@pytest.mark.parametrize("model", [EYES, EYES_TOO, BOTH], ids=lambda model: model.name)
def test_show_says_what_works(library: ServerProcess, model: KitModel) -> None:
    shown = library.post("/api/show", {"model": model.name})
    assert sorted(shown["capabilities"]) == model.reference["api"]["capabilities"]


@pytest.mark.parametrize("model", [EYES, EYES_TOO], ids=lambda model: model.name)
def test_pictures_in_a_chat_are_what_they_are_in_ollama(library: ServerProcess, model: KitModel) -> None:
    path = GOLDEN / "references" / f"{model.name}.json"
    for wanted in json.loads(path.read_text())["alt"]["api"]["images"]:
        found = likeliest(chat(library, model, model.medium(wanted["image"])))
        common = wanted["top"].keys() & found.keys()
        assert len(common) >= 3
        assert {token: found[token] for token in common} == pytest.approx(
            {token: wanted["top"][token] for token in common}, abs=TOLERANCE
        )


def test_two_pictures_keep_their_places(library: ServerProcess) -> None:
    def ask(*pictures: str) -> list[float]:
        prompt = "<start_of_turn>user\nfirst [img-0] then [img-1] done<end_of_turn>\n<start_of_turn>model\n"
        body = {"model": EYES.name, "prompt": prompt, "raw": True, "images": list(pictures), "logprobs": True}
        reply = library.post("/api/generate", {**body, "options": {"temperature": 0, "num_predict": 1}})
        return drawn(reply["logprobs"])

    first = ask(SQUARE, WIDE)
    assert ask(SQUARE, WIDE) == pytest.approx(first, abs=1e-2)
    assert ask(WIDE, SQUARE) != pytest.approx(first, abs=2e-2)
    both, one = chat(library, EYES, SQUARE, WIDE), chat(library, EYES, SQUARE)
    assert both["prompt_eval_count"] > one["prompt_eval_count"] + 4


def test_openai_and_anthropic_show_the_same_picture(library: ServerProcess) -> None:
    seen = []
    for picture in (SQUARE, WIDE):
        url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
        asked = {"model": EYES.name, "temperature": 0, "max_tokens": 1}
        parts = [url, {"type": "text", "text": "What is in the picture?"}]  # in the order of a native message
        reply = library.post(
            "/v1/chat/completions", {**asked, "messages": [{"role": "user", "content": parts}], "logprobs": True}
        )
        seen.append(drawn(reply["choices"][0]["logprobs"]["content"]))
        assert seen[-1] == pytest.approx(drawn(chat(library, EYES, picture)["logprobs"]), abs=0.1)
        source = {"type": "base64", "media_type": "image/png", "data": picture}
        blocks = [{"type": "image", "source": source}, {"type": "text", "text": "What is in the picture?"}]
        message = library.post("/v1/messages", {**asked, "messages": [{"role": "user", "content": blocks}]})
        assert message["usage"]["input_tokens"] + message["usage"].get("cache_read_input_tokens", 0) > 15
    assert seen[0] != pytest.approx(seen[1], abs=0.02)


def test_sounds_are_heard_in_a_chat_and_by_openais_part(library: ServerProcess) -> None:
    tone, sweep = (likeliest(chat(library, BOTH, sound)) for sound in (TONE, SWEEP))
    assert tone != sweep
    audio = {"type": "input_audio", "input_audio": {"data": TONE, "format": "wav"}}
    content = [{"type": "text", "text": "What do you hear?"}, audio]
    asked = {"model": BOTH.name, "messages": [{"role": "user", "content": content}], "max_tokens": 1}
    with_sound = library.post("/v1/chat/completions", asked)["usage"]["prompt_tokens"]
    asked["messages"] = [{"role": "user", "content": content[:1]}]
    assert with_sound >= library.post("/v1/chat/completions", asked)["usage"]["prompt_tokens"] + 20


def test_a_picture_and_a_sound_go_together(library: ServerProcess) -> None:
    both = chat(library, BOTH, SQUARE, TONE)["prompt_eval_count"]
    assert both > chat(library, BOTH, SQUARE)["prompt_eval_count"] + 15
    assert both > chat(library, BOTH, TONE)["prompt_eval_count"] + 15


def test_a_model_that_only_sees_refuses_a_sound_by_the_name_of_the_sense(library: ServerProcess) -> None:
    status, text = refused(library, "/api/generate", {"model": EYES.name, "prompt": "x", "images": [TONE]})
    assert (status, text) == (400, '"gemma3-vision-q4:latest" does not support audio: it hears no sounds')


def test_the_window_has_room_for_pictures(library: ServerProcess) -> None:
    chat(library, EYES, SQUARE, num_ctx=256)
    (row,) = [row for row in library.request("GET", "/api/ps")["models"] if row["name"].startswith(EYES.name)]
    assert row["context_length"] >= 2048


def test_a_recording_is_written_down_by_a_library_model(library: ServerProcess) -> None:
    body = {"model": BOTH.name, "file": TONE, "options": {"num_predict": 3}}
    answer = library.request("POST", "/v1/audio/transcriptions", body)
    assert answer["usage"]["input_tokens"] > 20
