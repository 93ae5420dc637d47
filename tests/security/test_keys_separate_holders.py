"""Cross-user cache: what was asked with one key is invisible to another, on every way in which it could be found."""

from __future__ import annotations

import json
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess, servers
from tests.fakes.ggufs import tiny_llama
from tests.fakes.stores import add_model

from corral.store import ModelStore

pytestmark = pytest.mark.e2e

SECRET = "The code name of the project is REDFALCON and the launch date is the third of May. " * 3
GO = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
OPTIONS = {"temperature": 0, "seed": 1, "num_predict": 4}
WAYS = ["/api/generate", "/api/chat", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]


@dataclass
class Holder:
    """Somebody with a key."""

    server: ServerProcess
    key: str

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, decoded answer)."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text.strip() else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def ask(self, path: str, text: str, model: str = "jinja", **more: Any) -> dict[str, Any]:
        """One question; the whole answer."""
        if path.startswith("/api"):
            body: dict[str, Any] = {"options": OPTIONS, "stream": False}
        else:
            body = {"temperature": 0, "max_tokens": 4}
        turns = [{"role": "user", "content": text}]
        field = {"/api/generate": "prompt", "/v1/completions": "prompt", "/v1/responses": "input"}.get(path)
        if path == "/v1/responses":
            body = {"max_output_tokens": 16, "temperature": 0}
        status, answer = self.call(
            "POST", path, {"model": model, field or "messages": text if field else turns, **body, **more}
        )
        assert status == 200, answer
        found: dict[str, Any] = answer
        return found

    def cached(self, path: str, text: str, model: str = "jinja") -> tuple[int, int]:
        """How many prompt tokens of a question were found, and how many there are."""
        return counts(path, self.ask(path, text, model))


def counts(path: str, answer: dict[str, Any]) -> tuple[int, int]:
    if path.startswith("/api"):
        return answer.get("prompt_eval_cached_count", 0), answer["prompt_eval_count"]
    usage = answer["usage"]
    if path == "/v1/messages":  # its input_tokens are those that were read
        found = usage.get("cache_read_input_tokens", 0)
        return found, found + usage["input_tokens"]
    if path == "/v1/responses":
        return usage["input_tokens_details"]["cached_tokens"], usage["input_tokens"]
    return usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("held")
    store = ModelStore(folder / "models")
    add_model(store, "jinja", tiny_llama(folder / "a.gguf", seed=1, context_length=2048))
    add_model(store, "go", tiny_llama(folder / "b.gguf", seed=2, context_length=2048), texts={"template": GO})
    return store.root


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Any]:
    """Starts a server with these keys, two slots a model."""
    with tempfile.TemporaryDirectory(prefix="cr") as runtime:
        open_servers = []

        def begin(keys: str, **settings: object) -> ServerProcess:
            context = servers(tmp_path_factory.mktemp("keys"), store, Path(runtime))
            open_servers.append(context)
            return context.__enter__()(API_KEYS=keys, NUM_PARALLEL=2, CONTEXT_LENGTH=1024, TUNE="off", **settings)

        yield begin
        for context in open_servers:
            context.__exit__(None, None, None)


@pytest.fixture(scope="module")
def separated(start: Any) -> ServerProcess:
    return start("alpha-key,beta-key")  # type: ignore[no-any-return]


@pytest.fixture
def alpha(separated: ServerProcess) -> Holder:
    return Holder(separated, "alpha-key")


@pytest.fixture
def beta(separated: ServerProcess) -> Holder:
    return Holder(separated, "beta-key")


@pytest.mark.parametrize("path", WAYS)
@pytest.mark.parametrize("model", ["jinja", "go"])
def test_a_guess_tells_nothing_of_what_another_asked(alpha: Holder, beta: Holder, path: str, model: str) -> None:
    """Word by word, a found count is how a secret would be read out."""
    text = f"{path} {model} {SECRET}"
    alpha.cached(path, text, model)
    found, whole = beta.cached(path, text, model)
    assert found < whole / 4
    found, whole = alpha.cached(path, text, model)
    assert found >= whole - 2


def test_whoever_comes_first_or_last_and_however_often(alpha: Holder, beta: Holder) -> None:
    """Two slots, two holders, six conversations: slots go from one to the other again and again, without their text."""
    texts = {holder.key: [f"{n} {SECRET}" for n in range(3)] for holder in (alpha, beta)}
    asked: dict[str, set[str]] = {alpha.key: set(), beta.key: set()}
    for n, holder in [(n, holder) for n in (0, 1, 2, 0, 2, 1) for holder in (alpha, beta, beta)]:
        text = texts[holder.key][n]
        found, whole = holder.cached("/api/generate", text, "go")
        if text not in asked[holder.key]:
            assert found < whole / 2, (n, holder.key)
        asked[holder.key].add(text)


def test_a_saved_conversation_comes_back_for_its_owner_only(alpha: Holder, beta: Holder) -> None:
    text = f"kept {SECRET}"
    assert alpha.cached("/api/generate", text)[0] < 20
    assert alpha.call("POST", "/api/generate", {"model": "jinja", "keep_alive": 0})[0] == 200
    wait_unloaded(alpha)
    found, whole = beta.cached("/api/generate", text)
    assert found < whole / 2
    found, whole = alpha.cached("/api/generate", text)
    assert found >= whole - 2
    files = [path.name for path in (alpha.server.home / "kv").glob("*/*.kv")]
    assert files
    assert not [name for name in files if name.count("-") != 3]


def wait_unloaded(holder: Holder) -> None:
    deadline = time.monotonic() + 30
    while any(row["name"].startswith("jinja") for row in holder.call("GET", "/api/ps")[1]["models"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_requests_are_listed_to_and_canceled_by_their_own_holder_only(alpha: Holder, beta: Holder) -> None:
    long = {"num_predict": 400, "stop": [], "repeat_last_n": 0, "temperature": 1.5, "seed": 3}
    answers: list[tuple[int, Any]] = []
    body = {"model": "jinja", "prompt": "x", "raw": True, "stream": False, "options": long, "logit_bias": {}}

    def run() -> None:
        for _ in range(20):
            answers.append(alpha.call("POST", "/api/generate", body))
            if answers[-1][0] != 200:
                return

    thread = threading.Thread(target=run)
    thread.start()
    rows: list[dict[str, Any]] = []
    deadline = time.monotonic() + 60
    while thread.is_alive() and time.monotonic() < deadline:
        rows = alpha.call("GET", "/api/requests")[1]["requests"] or rows
        if rows:
            assert beta.call("GET", "/api/requests") == (200, {"requests": []})
            status, text = beta.call("DELETE", f"/api/requests/{rows[0]['id']}")
            assert (status, "not found" in text["error"]) == (404, True)
            if alpha.call("DELETE", f"/api/requests/{rows[0]['id']}")[0] == 200:
                break
    thread.join()
    assert rows[0]["client"] == "key:1"
    assert answers[-1][0] == 499


def test_a_response_is_kept_for_its_owner_only(alpha: Holder, beta: Holder) -> None:
    kept = alpha.ask("/v1/responses", "remember REDFALCON")["id"]
    for method in ("GET", "DELETE"):
        assert beta.call(method, f"/v1/responses/{kept}")[0] == 404
    body = {"model": "jinja", "input": "what was it?", "previous_response_id": kept, "max_output_tokens": 16}
    assert beta.call("POST", "/v1/responses", body)[0] == 404
    assert alpha.call("POST", "/v1/responses", body)[0] == 200
    assert alpha.call("GET", f"/v1/responses/{kept}")[1]["id"] == kept
    assert alpha.call("DELETE", f"/v1/responses/{kept}")[0] == 200


def test_one_key_alone_loses_nothing(start: Any) -> None:
    """Not even conversations that lost their slot: the engine's own store in RAM is on, as without keys."""
    server = start("only-key")
    holder = Holder(server, "only-key")
    texts = [f"{n} {SECRET}" for n in "abc"]
    for text in texts:
        holder.cached("/api/chat", text)
    for text in texts:
        found, whole = holder.cached("/api/chat", text)
        assert found >= whole - 2


def test_the_next_turn_reads_only_what_is_new_with_keys_as_without(alpha: Holder) -> None:
    for path in ("/api/chat", "/api/generate"):
        for model in ("jinja", "go"):
            whole = alpha.cached(path, f"{path} turn {SECRET}", model)[1]
            again, more = alpha.cached(path, f"{path} turn {SECRET}" + " And then?", model)
            assert again >= whole - 24  # what a template puts behind a question
            assert more > whole


def test_one_setting_shares_the_cache_and_nothing_else(start: Any) -> None:
    server = start("alpha-key,beta-key", SHARE_CACHE="true")
    alpha, beta = Holder(server, "alpha-key"), Holder(server, "beta-key")
    alpha.cached("/api/chat", SECRET)
    found, whole = beta.cached("/api/chat", SECRET)
    assert found >= whole - 2
    kept = alpha.ask("/v1/responses", "mine")["id"]
    assert beta.call("GET", f"/v1/responses/{kept}")[0] == 404
