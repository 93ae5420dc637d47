"""A key, or what could be tried against guesses of it, is in no answer, no list, no file and no line of the log."""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.e2e.conftest import ServerProcess, servers
from tests.fakes.ggufs import tiny_llama
from tests.fakes.stores import add_model

from corral.config import Settings
from corral.server.holders import Holders, holders_of
from corral.store import ModelStore

KEY = "sk-corral-0123456789"
_FIXED = sorted(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake"))
_LISTS = ("/api/ps?verbose=1", "/api/requests", "/api/tags", "/v1/files", "/v1/batches", "/metrics", "/api/nothing")
_LEAST = 6  # bytes of a digest that would tell a right guess from a wrong one


def traces() -> Iterator[tuple[str, bytes]]:
    """(what it is, how it would look) for the key itself, its encodings and every digest without a secret."""
    raw = KEY.encode()
    yield "the key", raw
    yield "the key in base64", base64.b64encode(raw)[:16]
    yield "the key in hex", raw.hex().encode()
    for name in _FIXED:
        for kind, text in (("key", raw), ("header", b"Bearer " + raw)):
            digest = hashlib.new(name, text, usedforsecurity=False).digest()
            yield f"{name} of the {kind}", digest[:_LEAST]
            yield f"{name} of the {kind} in hex", digest.hex()[: 2 * _LEAST].encode()
            yield f"{name} of the {kind} in base64", base64.b64encode(digest)[: _LEAST + 2]


def found_in(data: bytes) -> list[str]:
    return [what for what, trace in traces() if trace in data or trace.upper() in data]


def everything_told(server: ServerProcess, headers: dict[str, str]) -> bytes:
    """Answers with their heads, whatever their status."""
    told = []
    calls = [
        ("POST", "/api/generate", {"model": "tiny", "prompt": "a", "stream": False, "options": {"num_predict": 2}}),
        ("POST", "/v1/responses", {"model": "tiny", "input": "a", "max_output_tokens": 16}),
        ("POST", "/api/chat", {"model": "absent", "messages": []}),
        *(
            ("GET", path, None)
            for path in ("/api/ps?verbose=1", "/api/requests", "/api/tags", "/v1/files", "/v1/batches")
        ),
        ("GET", "/metrics", None),
        ("GET", "/api/nothing", None),
    ]
    for method, path, body in calls:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(server.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                told.append(str(answer.headers).encode() + answer.read())
        except urllib.error.HTTPError as error:
            with error:
                told.append(str(error.headers).encode() + error.read())
    return b"\n".join(told)


def running(server: ServerProcess, headers: dict[str, str]) -> bytes:
    """A list of requests with one of this caller's in it."""
    options = {"num_predict": 400, "stop": [], "repeat_last_n": 0, "temperature": 1.5}
    body = json.dumps({"model": "tiny", "prompt": "x", "raw": True, "options": options}).encode()
    for seed in range(50):
        request = urllib.request.Request(
            server.url + "/api/generate", body.replace(b"1.5", f"1.5{seed}".encode()), headers
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.readline()
            listing = urllib.request.Request(server.url + "/api/requests", headers=headers)
            with urllib.request.urlopen(listing, timeout=60) as listed:
                data: bytes = listed.read()
        if b'"client"' in data:
            return data
    raise AssertionError("no request was long enough to be seen")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    store = ModelStore(tmp_path / "models")
    add_model(store, "tiny", tiny_llama(tmp_path / "tiny.gguf", context_length=512))
    with tempfile.TemporaryDirectory(prefix="cr") as runtime, servers(tmp_path, store.root, Path(runtime)) as start:
        yield start(API_KEYS=f"{KEY},other", TUNE="off", DEBUG="1")


@pytest.mark.e2e
def test_nothing_that_is_told_or_kept_helps_to_guess_a_key(server: ServerProcess) -> None:
    own = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    told = everything_told(server, own) + running(server, own)
    told += everything_told(server, {"x-api-key": KEY, "Content-Type": "application/json"})
    told += everything_told(server, {"Authorization": f"Bearer {KEY}x", "Content-Type": "application/json"})
    assert b'"response"' in told
    assert found_in(told) == []
    server.stop()
    assert found_in("\n".join(server.log).encode()) == []
    files = [path for path in server.home.rglob("*") if path.is_file()]
    assert any("kv" in path.parts for path in files)
    for path in files:
        assert found_in(str(path).encode() + b"\0" + path.read_bytes()) == [], path


def test_the_id_of_a_holder_is_of_the_server_and_of_the_key_not_of_its_place() -> None:
    first, second = Holders([KEY, "other"], b"a" * 32), Holders([KEY, "other"], b"b" * 32)
    assert not first.ids & second.ids
    assert first.ids == Holders(["other", KEY], b"a" * 32).ids
    assert len(first.ids) == 2
    for owner in first.ids:
        assert found_in(owner.encode()) == []


@pytest.mark.parametrize(
    "shown", ["", KEY[:-1], KEY + "\0", KEY.upper(), f" {KEY}", hashlib.sha256(KEY.encode()).hexdigest()]
)
def test_what_is_nearly_a_key_is_none(shown: str) -> None:
    assert Holders([KEY], b"a" * 32).of(shown.encode()) is None


def test_a_list_without_a_key_is_no_list_of_one() -> None:
    assert not Holders([], b"")
    assert Holders([], b"").of(b"") is None


def test_the_secret_of_ids_is_for_its_owner_only(tmp_path: Path) -> None:
    settings = replace(Settings(), home=tmp_path / "home", api_keys=(KEY,))
    ids = holders_of(settings).ids
    (secret,) = (tmp_path / "home").rglob("key")
    assert secret.stat().st_mode & 0o077 == 0
    assert holders_of(settings).ids == ids
    secret.unlink()
    assert holders_of(settings).ids != ids
