"""What a person notices of a batch: the first token of a chat beside one, as a ratio to the same chat alone."""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import ServerProcess, create_golden_models, start_server
from tests.fakes.processes import until

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

MODEL = "smollm2:135m"
LINES = 400
ROUNDS = 9


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[ServerProcess]:
    server = start_server(tmp_path_factory.mktemp("batches"), env={"CORRAL_TUNE": "off"})
    create_golden_models(server, models_dir, MODEL)
    yield server
    server.stop()


def first_token_s(server: ServerProcess, number: int) -> float:
    """Of a chat with a prompt that no slot knows, of some 280 tokens whatever its number, from 100."""
    words = " ".join(f"w{number}x{place % 83}" for place in range(40))
    options = {"temperature": 0, "num_predict": 4}
    body = {"model": MODEL, "messages": [{"role": "user", "content": words}], "options": options}
    began = time.perf_counter()
    for line in server.stream("/api/chat", body):
        if line["message"]["content"]:
            return time.perf_counter() - began
    raise AssertionError("no token")


def begin_batch(server: ServerProcess) -> str:
    rows = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": MODEL,
                "messages": [{"role": "user", "content": f"Tell me about the number {number}, at length."}],
                "max_tokens": 200,
            },
        }
        for number in range(LINES)
    ]
    data = "\n".join(json.dumps(row) for row in rows)
    parts = f"--b\r\n{_PURPOSE}\r\n\r\nbatch\r\n--b\r\n{_FILE}\r\n\r\n{data}\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    request = urllib.request.Request(f"{server.url}/v1/files", parts.encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        source = json.loads(answer.read())["id"]
    wanted = {"input_file_id": source, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return str(server.request("POST", "/v1/batches", wanted)["id"])


_PURPOSE = 'Content-Disposition: form-data; name="purpose"'
_FILE = 'Content-Disposition: form-data; name="file"; filename="in.jsonl"'


def until_batch_runs(server: ServerProcess) -> None:
    """Until three lines are being answered, as when nobody else has been there."""

    def answering() -> bool:
        rows = server.request("GET", "/api/requests")["requests"]
        return len([row for row in rows if row["priority"] == "batch" and row["eval_tokens"] > 4]) >= 3

    until(answering, 60, "lines are answered")


def test_a_chat_beside_a_batch_has_its_first_token_as_if_alone(measured: ServerProcess) -> None:
    first_token_s(measured, 100)
    alone = [first_token_s(measured, 101 + number) for number in range(ROUNDS)]
    batch = begin_batch(measured)
    beside = []
    for number in range(ROUNDS):
        until_batch_runs(measured)
        beside.append(first_token_s(measured, 201 + number))
    counts = measured.request("GET", f"/v1/batches/{batch}")["request_counts"]
    measured.request("POST", f"/v1/batches/{batch}/cancel", {})
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"\nfirst token beside a batch / alone: {ratio:.2f}; alone {_ms(alone)}, beside {_ms(beside)}; {counts}")
    assert ratio <= 1.3


def _ms(times: list[float]) -> str:
    return f"{statistics.median(times) * 1000:.0f} ms (worst {max(times) * 1000:.0f})"
