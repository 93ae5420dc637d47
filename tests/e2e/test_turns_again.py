"""What is read again when a conversation comes back changed, with each kind of memory that an engine has of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.ggufs import CHATML, tiny_llama
from tests.fakes.layouts import pairs
from tests.fakes.library import GOLDEN, KitModel
from tests.fakes.made import made

pytestmark = pytest.mark.e2e

GO = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
REMINDER = "Remember to answer with whole files only, and to name each of them."
TRAINED = 8192


class Told(NamedTuple):
    """How much of a prompt the engine read."""

    prompt: int
    read: int


def _of_family(family: str, path: Path) -> Path:
    pair = pairs()[family]
    more = {f"{family}.context_length": TRAINED, "tokenizer.chat_template": CHATML}
    return replace(pair, keys=pair.keys | more).write_native(path)


def _weights(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.gguf"
    if kind == "full":
        return tiny_llama(path, context_length=TRAINED)
    if kind == "sliding":
        return KitModel(GOLDEN, "gemma3-text").weights
    return _of_family({"hybrid": "lfm2", "recurrent": "nemotron_h_moe"}[kind], path)


@pytest.fixture(
    scope="module",
    params=["full-jinja", "full-go", "hybrid-go", "recurrent-jinja", "sliding-go"],
)
def model(
    request: pytest.FixtureRequest, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A model of a kind, its template applied by the engine or here."""
    kind, way = request.param.split("-")
    path = _weights(kind, tmp_path_factory.mktemp("again"))
    with made(server, request.param, {"m.gguf": path}, **({"template": GO} if way == "go" else {})) as name:
        yield name


def ask(server: ServerProcess, model: str, texts: list[str], **options: Any) -> Told:
    """Texts of system, user, assistant, user …"""
    roles = ["system"] + ["user", "assistant"] * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    told = {"temperature": 0, "seed": 1, "num_predict": 4, "num_ctx": 4096, **options}
    reply = server.post("/api/chat", {"model": model, "messages": messages, "options": told})
    return Told(reply["prompt_eval_count"], reply["prompt_eval_count"] - reply.get("prompt_eval_cached_count", 0))


def conversation(tag: str) -> list[str]:
    """Three turns, the last one short; of 1,500 tokens or more, told apart from others by their first words."""
    lines = [f"{tag} {number} the file" for number in range(50)]
    return [" ".join(lines), "look at: " + " ".join(lines[::-1]), "It is a file. " * 8, "Now change it."]


def test_a_changed_tail_reads_the_last_turn_again(server: ServerProcess, model: str) -> None:
    *before, last = conversation(f"{model} tail")
    first = ask(server, model, [*before, f"{last} Make it blue, and tell what you did. {REMINDER}"])
    again = ask(server, model, [*before, f"{last} Make it green, and tell what you did. {REMINDER}"])
    assert first.read > 1500
    assert again.read < 256


def test_a_reminder_that_moves_reads_what_follows_it(server: ServerProcess, model: str) -> None:
    *before, last = conversation(f"{model} moved")
    first = ask(server, model, [*before, f"{last} {REMINDER}"])
    again = ask(server, model, [*before, last, "Done.", f"And the other one? {REMINDER}"])
    third = ask(server, model, [*before, last, "Done.", "And the other one?", "Done.", f"And the last? {REMINDER}"])
    assert first.read > 1500
    assert max(again.read, third.read) < 400


def test_another_window_and_an_unload_read_the_last_turn_again(server: ServerProcess, model: str) -> None:
    *before, last = conversation(f"{model} window")
    first = ask(server, model, [*before, f"{last} {REMINDER}"])
    wider = ask(server, model, [*before, last, "Done.", f"And the other one? {REMINDER}"], num_ctx=6144)
    server.post("/api/generate", {"model": model, "keep_alive": 0})
    later = ask(server, model, [*before, last, "Done.", f"And another one? {REMINDER}"], num_ctx=6144)
    assert first.read > 1500
    assert max(wider.read, later.read) < 400
