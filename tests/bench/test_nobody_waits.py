"""`/api/version` answers within 100 ms, whatever hostile requests a whole server works on. `make bench`.

All of tests/security/test_a_whole_server.py, broken bodies, the files and manifests of test_numbers_from_files.py, and
several giants at once. What a single request took is printed: the longest waits, and the memory at its peak.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.security.test_a_whole_server import TRIES, Waiting, attacks, peak_mib, send, whole_server
from tests.security.test_numbers_from_files import FILES, MANIFESTS
from tests.security.test_request_numbers import calls
from tests.security.test_the_loop_serves import BROKEN, LONG, LOOP

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

LONGEST_S = 0.1
MOST_MIB = 200
SHOWN = 8
USER = {"role": "user", "content": "hi"}
Request = tuple[str, Any]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def more_attacks() -> Iterator[tuple[str, list[Request]]]:
    """(name, requests that are sent at once)."""
    for name, broken in BROKEN.items():
        yield name, [("/api/generate", broken), ("/v1/chat/completions", broken)]
    for name, data in FILES.items():
        yield f"file: {name}", [(f"/api/blobs/{digest_of(data)}", data)]
        create = {"model": "x", "files": {"m.gguf": digest_of(data)}, "quantize": "f16", "stream": False}
        yield f"create of {name}", [("/api/create", create)]
    few = {"options": {"num_predict": 1}, "stream": False}
    loop = {"model": "go", "prompt": "hi", "template": LOOP, **few}
    yield "five templates without end", [("/api/generate", loop)] * 5
    giant = {"model": "go", "messages": [{"role": "user", "content": LONG}, USER], **few}
    yield "four giants", [("/api/chat", giant)] * 4
    yield "a million ids", [("/api/generate", {"model": "go", "prompt": "x", "context": [1] * 1_000_000, **few})]
    yield "ids of a giant", [("/api/tokenize", {"model": "go", "content": LONG})] * 2
    for name, text in {"lists": "[" + "[]," * 999 + "[]]", "code": '{"code": "' + "{[,:" * 100_000 + '"}'}.items():
        body = {"model": "go", "messages": calls(text, 60 if name == "lists" else 12), "max_tokens": 1}
        yield f"calls with {name}", [("/v1/chat/completions", body)]
    yield (
        "all models, with manifests that are none",
        [("/api/show", {"model": f"bad{n}"}) for n in range(len(MANIFESTS))],
    )


def worst_wait(server: ServerProcess, requests: list[Request]) -> float:
    with Waiting(server) as waiting, ThreadPoolExecutor(len(requests)) as pool:
        list(pool.map(lambda request: send(server, *request), requests))
    return waiting.worst_s


def test_nobody_waits_for_a_tenth_of_a_second(tmp_path: Path) -> None:
    with whole_server(tmp_path) as server:
        folder = server.models / "manifests/registry.ollama.ai/library"
        for number, make in enumerate(MANIFESTS.values()):
            (folder / f"bad{number}").mkdir(parents=True)
            (folder / f"bad{number}/latest").write_text(make())
        waits: dict[str, float] = {}
        for name, requests in [*((name, [(path, body)]) for name, path, body in attacks()), *more_attacks()]:
            for _ in range(TRIES):  # a host that is never quite quiet
                waits[name] = min(waits.get(name, 1e9), worst_wait(server, requests))
                if waits[name] < LONGEST_S:
                    break
        with Waiting(server) as waiting:
            for _ in range(3):
                server.request("GET", "/api/tags")
        waits["list"] = waiting.worst_s
        peak = peak_mib(server)
    longest = sorted(waits.items(), key=lambda pair: -pair[1])
    print(f"\n{len(waits)} kinds of requests, {peak:.0f} MiB at the peak; longest waits, in ms:")
    for name, wait in longest[:SHOWN]:
        print(f"  {wait * 1000:5.0f}  {name}")
    assert longest[0][1] < LONGEST_S
    assert peak < MOST_MIB
