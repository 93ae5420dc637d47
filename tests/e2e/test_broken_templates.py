"""A model whose chat template the engine refuses: the chat says so, all that needs no template works."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.ggufs import tiny_llama
from tests.fakes.made import made

pytestmark = pytest.mark.e2e
BROKEN = {
    "unclosed-for": "{% for m in messages %}{{ m.content }}",
    "unclosed-tag": "{% for m in messages",
    "unknown-filter": "{% for m in messages %}{{ m.content | frobnicate }}{% endfor %}",
    "stray-end": "{{ messages[0].content }}{% endif %}",
    "always-raises": "{{ raise_exception('never') }}",
    "garbage": "{{{{ %} }} {% ",
}
GOOD = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
FEW = {"num_predict": 3, "seed": 1, "temperature": 0}
HI = [{"role": "user", "content": "hi"}]
TRACES = ("while executing", "terminate", "exception", "llama-server process", "exit status", "0x", "C++", "jinja::")


@pytest.fixture(scope="module")
def broken(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Models `broken-NAME` and `fresh-NAME`, each with weights of its own."""
    folder = tmp_path_factory.mktemp("broken")
    with ExitStack() as stack:
        for seed, (name, template) in enumerate(BROKEN.items()):
            for kind, more in (("broken", 0), ("fresh", 100)):
                path = tiny_llama(folder / f"{kind}-{name}.gguf", chat_template=template, seed=seed + more)
                stack.enter_context(made(server, f"{kind}-{name}", {"m.gguf": path}))
        yield server


def refusal(server: ServerProcess, path: str, body: dict[str, Any]) -> tuple[int, str]:
    """Status and error of what must fail."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.post(path, body)
    with caught.value as error:
        told = json.load(error)["error"]
        return error.code, told if isinstance(told, str) else told["message"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_chat_says_what_is_wrong_and_closes_nothing(broken: ServerProcess, name: str) -> None:
    for _ in range(7):  # the circuit would open after five
        status, text = refusal(broken, "/api/chat", {"model": f"broken-{name}", "messages": HI, "options": FEW})
        assert status == 400
        assert "template" in text
        assert not any(word.lower() in text.lower() for word in TRACES), text
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/completions"):
        body = {"model": f"broken-{name}", "messages": HI, "prompt": "hi", "max_tokens": 3}
        assert refusal(broken, path, body)[0] == 400
    raw = {"model": f"broken-{name}", "prompt": "hello", "raw": True, "options": FEW}
    assert broken.post("/api/generate", raw)["eval_count"] == 3


@pytest.mark.parametrize("name", BROKEN)
def test_what_needs_no_template_works(broken: ServerProcess, name: str) -> None:
    model = f"fresh-{name}"
    assert broken.post("/api/tokenize", {"model": model, "content": "hello"})["tokens"]
    answer = broken.post(
        "/api/generate", {"model": model, "prompt": "hello", "template": "{{ .Prompt }}", "options": FEW}
    )
    assert answer["eval_count"] == 3
    mended = {"model": f"mended-{name}", "from": model, "template": GOOD}
    assert broken.post("/api/create", mended) == {"status": "success"}
    try:
        chat = broken.post("/api/chat", {"model": f"mended-{name}", "messages": HI, "options": FEW})
        assert chat["eval_count"] == 3
    finally:
        broken.request("DELETE", "/api/delete", {"model": f"mended-{name}"})
