"""What no client should send: bodies too large or too deep, heads too long, nonsense; and the server stays quick."""

from __future__ import annotations

import json
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from tests.e2e.conftest import ServerProcess, create_golden_models
from tests.fakes.processes import resident_bytes
from tests.fakes.rawclient import RawClient

pytestmark = pytest.mark.e2e

Serve = Callable[..., ServerProcess]
QUICK_S = 0.1
MIB = 2**20


@pytest.fixture(autouse=True)
def survives(one_slot_server: ServerProcess) -> Iterator[None]:
    """Whatever was sent: the server still answers."""
    yield
    assert one_slot_server.process.poll() is None
    assert one_slot_server.request("GET", "/api/version")["version"]


def status_of(answer: bytes) -> int:
    """The status of a raw answer."""
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/v1/chat/completions", "/v1/messages"])
def test_a_body_over_the_bound_is_413_before_it_is_read(one_slot_server: ServerProcess, path: str) -> None:
    with RawClient(one_slot_server.port) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {257 * MIB}\r\n\r\n"
        client.socket.sendall(head.encode() + b"{")
        answer = client.receive()
    assert status_of(answer) == 413


def test_a_chunked_body_over_the_bound_is_413_and_costs_no_memory(serve: Serve) -> None:
    server = serve(MAX_BODY="1MiB")
    before = resident_bytes(server.pid)
    with RawClient(server.port) as client:
        client.socket.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        with suppress(ConnectionError):
            for _ in range(1024):
                client.socket.sendall(piece)
        assert status_of(client.receive()) == 413
    assert resident_bytes(server.pid) - before < 16 * MIB


@pytest.mark.parametrize("depth", [1_200, 100_000])
def test_json_nested_too_deep_is_400(one_slot_server: ServerProcess, depth: int) -> None:
    body = b'{"model":"tiny","prompt":"x","format":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    request = urllib.request.Request(f"{one_slot_server.url}/api/generate", body)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=20)
    with caught.value as refused:
        assert refused.code == 400
        assert json.load(refused)["error"]


@pytest.mark.parametrize("size", [70_000, 5_000_000])
def test_a_header_over_64_kib_is_431(one_slot_server: ServerProcess, size: int) -> None:
    with RawClient(one_slot_server.port) as client:
        with suppress(ConnectionError):
            client.socket.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * size + b"\r\n\r\n")
        answer = client.receive_all()
    if answer or size < MIB:  # who still sends when the connection closes may lose the answer
        assert status_of(answer) == 431


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,  # a TLS handshake
        b"\x00" * 4096,
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n{}",
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        b"GET /%ff%fe%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /api/version HTTP/1.1\r\nHost: \xff\xfe\r\nConnection: close\r\n\r\n",
    ],
    ids=["tls", "zeros", "short", "http2", "length", "chunk", "path", "host"],
)
def test_nonsense_on_the_socket_ends_that_connection_only(one_slot_server: ServerProcess, nonsense: bytes) -> None:
    with RawClient(one_slot_server.port, timeout_s=10) as client:
        client.socket.sendall(nonsense)
        answer = client.receive_all()
    assert not answer or status_of(answer) in {400, 403, 404, 501, 505}


def test_a_head_that_never_ends_holds_up_nobody(one_slot_server: ServerProcess) -> None:
    clients = [RawClient(one_slot_server.port) for _ in range(50)]
    try:
        for client in clients:
            client.socket.sendall(b"POST /api/chat HTTP/1.1\r\nHost: loc")
        began = time.monotonic()
        assert one_slot_server.request("GET", "/api/version")
        assert time.monotonic() - began < 1
    finally:
        for client in clients:
            client.vanish()


def test_version_stays_quick_while_models_are_created_loaded_and_used(
    one_slot_server: ServerProcess, models_dir: Path
) -> None:
    """The median of many, and nearly all: on a shared host a single one may be late through no fault of ours."""

    def upload_and_create() -> None:
        create_golden_models(one_slot_server, models_dir, "gemma3:270m", "all-minilm")

    def generate() -> None:
        body = {"model": "smollm2", "raw": True, "prompt": "1, 2, 3,", "keep_alive": 0}
        one_slot_server.post("/api/generate", {**body, "options": {"num_predict": 150, "temperature": 0}})

    times = []
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(work) for work in (upload_and_create, generate)]
        while not all(job.done() for job in jobs):
            began = time.monotonic()
            one_slot_server.request("GET", "/api/version")
            times.append(time.monotonic() - began)
            time.sleep(0.01)
    for job in jobs:
        job.result()
    assert len(times) > 50
    assert statistics.median(times) < QUICK_S / 4
    assert sorted(times)[int(len(times) * 0.98)] < QUICK_S, sorted(times)[-10:]
