"""Images through the real engine, on a tiny LLaVA made through the API: they are seen, told apart and checked."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.ggufs import tiny_llama
from tests.fakes.made import made, refused
from tests.fakes.visions import IMAGE_TOKENS, bomb, picture, tiny_projector

pytestmark = pytest.mark.e2e

MODEL = "llava"
RED, BLUE = (200, 30, 30), (10, 10, 250)
ROUTES = ["/api/generate", "/api/chat"]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def llava(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("llava")
    files = {
        "llava.gguf": tiny_llama(folder / "llava.gguf", context_length=8192),
        "mmproj.gguf": tiny_projector(folder / "mmproj.gguf"),
    }
    with made(server, MODEL, files):
        yield server


def body_of(route: str, images: list[str], **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": MODEL,
        "options": {"temperature": 0, "seed": 1, "num_predict": 3},
        "logprobs": True,
        **more,
    }
    if route == "/api/generate":
        return {"prompt": "what is it?", "images": images, **body}
    return {"messages": [{"role": "user", "content": "what is it?", "images": images}], **body}


def look(server: ServerProcess, *images: bytes, route: str = "/api/chat", **more: Any) -> list[float]:
    """Log probabilities of the answer's tokens."""
    reply = server.post(route, body_of(route, [encoded(data) for data in images], **more))
    return [entry["logprob"] for entry in reply["logprobs"]]


def test_a_model_with_a_projector_has_vision(llava: ServerProcess) -> None:
    shown = llava.post("/api/show", {"model": MODEL})
    assert shown["capabilities"] == ["completion", "vision"]
    assert shown["projector_info"]["clip.projector_type"] == "mlp"


@pytest.mark.parametrize("route", ROUTES)
def test_another_image_changes_the_logits_and_the_same_image_does_not(llava: ServerProcess, route: str) -> None:
    red, blue = picture(color=RED), picture(color=BLUE)
    first = look(llava, red, route=route)
    assert look(llava, blue, route=route) != pytest.approx(first, abs=0.05)
    assert look(llava, red, route=route) == pytest.approx(first, abs=1e-3)
    assert look(llava, route=route) != pytest.approx(first, abs=0.05)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("route", ROUTES)
def test_every_format_shows_the_same_picture(llava: ServerProcess, route: str, kind: str) -> None:
    other = look(llava, picture(kind, color=RED), route=route)
    assert other == pytest.approx(look(llava, picture("PNG", color=RED), route=route), abs=0.2)


def test_many_images_are_seen_in_their_order(llava: ServerProcess) -> None:
    red, blue = picture(color=RED), picture(color=BLUE)
    counts = [llava.post("/api/chat", body_of("/api/chat", [encoded(red)] * n))["prompt_eval_count"] for n in (1, 2, 8)]
    assert counts[1] - counts[0] >= IMAGE_TOKENS
    assert counts[2] - counts[0] == 7 * (counts[1] - counts[0])
    assert look(llava, red, blue) != pytest.approx(look(llava, blue, red), abs=0.01)


def test_the_prompt_cache_does_not_mix_images_up(llava: ServerProcess) -> None:
    red, blue = encoded(picture(color=RED)), encoded(picture(color=BLUE))
    fresh = {}
    for image in (red, blue):
        reply = llava.post("/api/chat", body_of("/api/chat", [image]))
        fresh[image] = [entry["logprob"] for entry in reply["logprobs"]]
    with ThreadPoolExecutor(8) as pool:
        images = [red, blue] * 8
        replies = list(pool.map(lambda image: llava.post("/api/chat", body_of("/api/chat", [image])), images))
    for image, reply in zip(images, replies, strict=True):
        assert [entry["logprob"] for entry in reply["logprobs"]] == pytest.approx(fresh[image], abs=0.05)


def test_the_same_image_in_the_next_turn_comes_from_the_cache(llava: ServerProcess) -> None:
    turn = {"role": "user", "content": "what is it?", "images": [encoded(picture(color=(1, 99, 1)))]}
    options = {"temperature": 0, "num_predict": 1}
    first = llava.post("/api/chat", {"model": MODEL, "messages": [turn], "options": options})
    more = [turn, {"role": "assistant", "content": "a"}, {"role": "user", "content": "sure?"}]
    second = llava.post("/api/chat", {"model": MODEL, "messages": more, "options": options})
    assert second["prompt_eval_cached_count"] >= first["prompt_eval_count"] - 1


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (picture()[:60], "cannot be decoded"),
        (picture("JPEG")[:200], "cannot be decoded"),
        (picture("WEBP")[:40], "image 1 cannot be used"),
        (b"hello", "no PNG, JPEG, WebP, GIF or BMP image"),
        (bomb(), "more than 64000000 pixels"),
        (bomb(20_000, 10), "too many"),
        (picture(size=(1, 1)), "1 x 1 pixels are too few"),
    ],
)
def test_an_image_that_cannot_be_used_is_a_clear_400(llava: ServerProcess, route: str, data: bytes, why: str) -> None:
    status, text = refused(llava, route, body_of(route, [encoded(data)]))
    assert status == 400
    assert why in text


def test_the_second_of_two_images_is_named_when_it_is_bad(llava: ServerProcess) -> None:
    images = [encoded(picture()), encoded(b"hello")]
    assert refused(llava, "/api/chat", body_of("/api/chat", images))[1].startswith("image 2 cannot be used")


@pytest.mark.parametrize("size", [(2, 2), (3, 900), (1000, 4)])
def test_odd_shapes_work(llava: ServerProcess, size: tuple[int, int]) -> None:
    assert look(llava, picture(size=size))


@pytest.mark.parametrize("route", ROUTES)
def test_a_text_model_refuses_images(llava: ServerProcess, route: str) -> None:
    status, text = refused(llava, route, {**body_of(route, [encoded(picture())]), "model": "smollm2:135m"})
    assert (status, text) == (400, "Multimodal data provided, but model does not support multimodal requests.")


def test_openai_and_anthropic_images_are_the_native_ones(llava: ServerProcess) -> None:
    picked = {}
    for color in (RED, BLUE):
        data = encoded(picture(color=color))
        url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        parts = [url, {"type": "text", "text": "what is it?"}]
        asked = {"model": MODEL, "messages": [{"role": "user", "content": parts}], "temperature": 0, "max_tokens": 3}
        reply = llava.post("/v1/chat/completions", {**asked, "logprobs": True})
        picked[color] = [entry["logprob"] for entry in reply["choices"][0]["logprobs"]["content"]]
        assert reply["usage"]["prompt_tokens"] >= IMAGE_TOKENS
        source = {"type": "base64", "media_type": "image/png", "data": data}
        content = [{"type": "image", "source": source}, {"type": "text", "text": "what is it?"}]
        message = llava.post("/v1/messages", {**asked, "messages": [{"role": "user", "content": content}]})
        assert message["usage"]["input_tokens"] + message["usage"].get("cache_read_input_tokens", 0) >= IMAGE_TOKENS
    assert picked[RED] != pytest.approx(picked[BLUE], abs=0.05)
    assert picked[RED] == pytest.approx(look(llava, picture(color=RED)), abs=0.2)


def test_an_image_counts_as_768_tokens_when_history_is_cut_and_the_cut_is_told(llava: ServerProcess) -> None:
    image = encoded(picture())
    turns = [{"role": "user", "content": f"turn {n}", "images": [image]} for n in range(4)]
    asked = {"model": MODEL, "messages": turns, "options": {"num_ctx": 2048, "num_predict": 1, "temperature": 0}}
    (told,) = llava.post("/api/chat", asked)["warnings"]
    assert (told["code"], told["dropped"], told["dropped_images"]) == ("history_truncated", 2, 2)
    assert told["prompt_tokens"] > 4 * 768
    status, text = refused(llava, "/api/chat", {**asked, "options": {"num_ctx": 2048, "on_overflow": "error"}})
    assert status == 400
    assert "2048" in text


def test_the_guides_vision_example_runs(llava: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(picture("JPEG"))
    asked = {"model": "llava", "prompt": "Describe this image.", "images": [encoded(path.read_bytes())]}
    reply = llava.post("/api/generate", {**asked, "options": {"num_predict": 4, "temperature": 0}})
    assert reply["response"]
    assert reply["done"] is True


def test_the_openai_sdk_shows_a_picture(llava: ServerProcess) -> None:
    def ask(color: tuple[int, int, int]) -> list[float]:
        parts: Any = [
            {"type": "text", "text": "what is it?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded(picture(color=color))}"}},
        ]
        with openai.OpenAI(base_url=f"{llava.url}/v1", api_key="x", max_retries=0) as client:
            messages: Any = [{"role": "user", "content": parts}]
            reply = client.chat.completions.create(
                model=MODEL, messages=messages, max_tokens=3, temperature=0, seed=1, logprobs=True
            )
        logprobs = reply.choices[0].logprobs
        assert logprobs is not None
        return [token.logprob for token in logprobs.content or []]

    assert ask(RED) != pytest.approx(ask(BLUE), abs=0.05)


def test_the_anthropic_sdk_shows_a_picture(llava: ServerProcess) -> None:
    image = {"type": "base64", "media_type": "image/png", "data": encoded(picture(color=RED))}
    blocks: Any = [{"type": "image", "source": image}, {"type": "text", "text": "what is it?"}]
    with anthropic.Anthropic(base_url=llava.url, api_key="x", max_retries=0) as client:
        seen = client.messages.create(model=MODEL, max_tokens=3, messages=[{"role": "user", "content": blocks}])
        blind = client.messages.create(model=MODEL, max_tokens=3, messages=[{"role": "user", "content": blocks[1:]}])
    assert seen.usage.input_tokens >= blind.usage.input_tokens + IMAGE_TOKENS


def test_a_prompt_that_ends_with_its_image_is_answered(llava: ServerProcess) -> None:
    body = {"model": MODEL, "prompt": "look [img-0]", "raw": True, "images": [encoded(picture())]}
    reply = llava.post("/api/generate", {**body, "options": {"num_predict": 2, "temperature": 0}})
    assert reply["eval_count"] >= 1
