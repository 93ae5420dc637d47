"""Clients that crowd, stall, leave and vanish: the others are served, and a slot is free at once."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.processes import open_files, until
from tests.fakes.rawclient import RawClient

pytestmark = pytest.mark.e2e

Serve = Callable[..., ServerProcess]
FREE_S = 1.0  # a slot is free so soon after its client has left
COUNT = {
    "model": "smollm2",
    "raw": True,
    "prompt": "Numbers: 1, 2, 3, 4, 5, 6,",
    "options": {"temperature": 0, "num_predict": 2000, "num_ctx": 4096},
}
SHORT = {**COUNT, "options": {**COUNT["options"], "num_predict": 2}}  # type: ignore[dict-item]
TINY = {"model": "tiny", "prompt": "hello", "options": {"num_predict": 8, "seed": 1}}


def long_prompt(salt: object) -> dict[str, Any]:
    """A request that stays in prefill for many seconds, unlike any other in its first words."""
    return {**COUNT, "prompt": f"{salt} " + "some words to read " * 800}


def requests_of(server: ServerProcess) -> list[dict[str, Any]]:
    """GET /api/requests."""
    rows: list[dict[str, Any]] = server.request("GET", "/api/requests")["requests"]
    return rows


def is_running(server: ServerProcess) -> bool:
    return any(row["state"] == "running" for row in requests_of(server))


def is_quiet(server: ServerProcess) -> bool:
    return not requests_of(server)


@pytest.fixture
def one_slot(one_slot_server: ServerProcess) -> Iterator[ServerProcess]:
    """A server with one slot, and smollm2 loaded."""
    one_slot_server.post("/api/generate", SHORT)
    yield one_slot_server
    until(lambda: is_quiet(one_slot_server), 5, "no request left behind")


def assert_slot_is_free(server: ServerProcess) -> None:
    """The list is empty within a second, and the engine serves the next request at once."""
    until(lambda: is_quiet(server), FREE_S, "the request to leave the list")
    began = time.monotonic()
    assert server.post("/api/generate", SHORT)["eval_count"] == 2
    assert time.monotonic() - began < 4, "the engine was still at work for the client that left"


@pytest.mark.parametrize("leave", ["close", "vanish"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_leaves_in_prefill_frees_its_slot(one_slot: ServerProcess, leave: str, stream: bool) -> None:
    with RawClient(one_slot.port) as client:
        client.post("/api/generate", {**long_prompt(f"{leave} {stream}"), "stream": stream})
        until(lambda: is_running(one_slot), 5, "the request to run")
        time.sleep(0.5)  # well inside the prefill, which takes ten times as long
        client.vanish() if leave == "vanish" else client.socket.close()
        assert_slot_is_free(one_slot)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_leaves_in_decode_frees_its_slot(one_slot: ServerProcess, stream: bool) -> None:
    with RawClient(one_slot.port) as client:
        client.post("/api/generate", {**COUNT, "stream": stream})
        until(lambda: any(row["eval_tokens"] > 2 for row in requests_of(one_slot)), 30, "tokens")
        client.vanish()
        assert_slot_is_free(one_slot)


def test_a_client_that_leaves_the_queue_is_forgotten(one_slot: ServerProcess) -> None:
    with RawClient(one_slot.port) as running, RawClient(one_slot.port) as queued:
        running.post("/api/generate", COUNT)
        running.receive()
        queued.post("/api/generate", {**SHORT, "stream": False})
        until(lambda: len(requests_of(one_slot)) == 2, 5, "one in the queue")
        queued.vanish()
        until(lambda: len(requests_of(one_slot)) == 1, FREE_S, "the queue to be empty")
        assert is_running(one_slot)


@pytest.mark.parametrize("phase", ["queue", "prefill", "decode"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_delete_of_a_request_ends_it_in_every_phase(one_slot: ServerProcess, phase: str, stream: bool) -> None:
    body = {**(long_prompt(f"{phase} {stream}") if phase == "prefill" else COUNT), "stream": stream}
    with RawClient(one_slot.port) as other, RawClient(one_slot.port) as client:
        if phase == "queue":
            other.post("/api/generate", COUNT)
            other.receive()
        client.post("/api/generate", body)
        wanted: dict[str, Callable[[dict[str, Any]], bool]] = {
            "queue": lambda row: row["state"] == "queued",
            "prefill": lambda row: row["state"] == "running" and row["running_s"] > 0.3,
            "decode": lambda row: row["eval_tokens"] > 2,
        }
        (row,) = until(lambda: [row for row in requests_of(one_slot) if wanted[phase](row)], 30, phase)
        one_slot.request("DELETE", f"/api/requests/{row['id']}")
        until(lambda: row["id"] not in {each["id"] for each in requests_of(one_slot)}, FREE_S, "its end")
        assert b"request canceled" in client.receive_answer()
        if phase == "queue":
            other.vanish()
        assert_slot_is_free(one_slot)


def test_delete_of_an_unknown_request_is_404(one_slot: ServerProcess) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        one_slot.request("DELETE", "/api/requests/nothing")
    with caught.value:
        assert caught.value.code == 404


def test_unload_while_busy_lets_the_answer_end_first(one_slot: ServerProcess) -> None:
    body = {**COUNT, "options": {"temperature": 0, "num_predict": 40}}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(one_slot.post, "/api/generate", body)
        until(lambda: is_running(one_slot), 5, "the request to run")
        asked = one_slot.post("/api/generate", {"model": "smollm2", "keep_alive": 0})
        assert asked["done_reason"] == "unload"
        assert answer.result(60)["eval_count"] == 40
    until(lambda: not one_slot.request("GET", "/api/ps")["models"], 10, "the model to go")


def test_three_hundred_clients_on_four_slots_are_all_answered(serve: Serve) -> None:
    server = serve(NUM_PARALLEL=4)
    server.post("/api/generate", TINY)
    files = open_files(server.pid)
    assert crowd(server, 300) == {200: 300}
    until(lambda: is_quiet(server), 5, "no request left behind")
    until(lambda: open_files(server.pid) <= files + 4, 10, "connections closed")


def test_a_crowd_over_the_queue_bound_gets_503_and_when_to_come_back(serve: Serve) -> None:
    server = serve(NUM_PARALLEL=4, MAX_QUEUE=8)
    server.post("/api/generate", SHORT)
    with ExitStack() as stack:
        holders = [stack.enter_context(RawClient(server.port)) for _ in range(4)]
        for client in holders:
            client.post("/api/generate", COUNT)
            client.receive()
        answers = crowd(server, 60, SHORT, holders)
    assert answers[200] == 8
    assert answers[503] == 52


def crowd(
    server: ServerProcess, size: int, body: dict[str, Any] = TINY, holders: Sequence[RawClient] = ()
) -> Counter[int]:
    """So many clients at once; how often each status came. `holders` of slots leave when all but 8 were refused."""
    statuses: Counter[int] = Counter()
    lock = threading.Lock()

    def ask() -> None:
        status = 0
        data = json.dumps({**body, "stream": False}).encode()
        try:
            with urllib.request.urlopen(f"{server.url}/api/generate", data, timeout=120) as response:
                assert json.load(response)["done"]
                status = response.status
        except urllib.error.HTTPError as error:
            with error:
                status = error.code if int(error.headers["Retry-After"]) >= 1 else -1
        with lock:
            statuses[status] += 1

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(size)]
    for thread in threads:
        thread.start()
    if holders:
        until(lambda: statuses[503] == size - 8, 60, "the refusals")
    for holder in holders:
        holder.vanish()
    for thread in threads:
        thread.join(120)
    return statuses


def test_a_reader_of_one_byte_a_second_holds_up_nobody_and_holds_no_slot(one_slot: ServerProcess) -> None:
    body = {**COUNT, "options": {"temperature": 0, "num_predict": 200}, "logprobs": True, "top_logprobs": 20}
    with RawClient(one_slot.port, receive_buffer=2048) as slow:
        slow.post("/api/generate", body)
        until(lambda: is_running(one_slot), 5, "the request to run")
        answer = slow.socket.recv(1)
        until(lambda: is_quiet(one_slot), 60, "its slot back although its answer is not read")
        assert one_slot.post("/api/generate", SHORT)["eval_count"] == 2
        answer += slow.receive_answer()
        assert b'"done_reason":"length"' in answer
        assert len(answer) > 200_000, "more than the kernel buffers for it"
