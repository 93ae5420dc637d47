"""Embeddings of the imported MiniLM: the right document is found, order is kept, single requests are packed."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.made import refused

pytestmark = pytest.mark.e2e

MODEL = "all-minilm"
DOCUMENTS = [
    "Python is a high-level programming language known for its readability.",
    "The Eiffel Tower is a landmark in Paris, France.",
    "Cats sleep for most of the day.",
    "A recipe for tomato soup with basil.",
]


def embed(server: ServerProcess, texts: Any, **more: Any) -> Any:
    return server.post("/api/embed", {"model": MODEL, "input": texts, **more})["embeddings"]


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


@pytest.mark.parametrize(
    ("query", "best"),
    [("Which language should I code in?", 0), ("famous places in France", 1), ("a sleepy pet", 2), ("what to cook", 3)],
)
def test_semantic_search_ranks_the_right_document_first(server: ServerProcess, query: str, best: int) -> None:
    *vectors, asked = embed(server, [*DOCUMENTS, query])
    scores = [cosine(asked, vector) for vector in vectors]
    assert scores.index(max(scores)) == best


def test_a_batch_keeps_its_order_and_says_what_single_requests_say(server: ServerProcess) -> None:
    batch = embed(server, DOCUMENTS)
    assert [len(vector) for vector in batch] == [384] * 4
    for text, vector in zip(DOCUMENTS, batch, strict=True):
        assert cosine(embed(server, text)[0], vector) > 0.9999
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)
    assert embed(server, list(reversed(DOCUMENTS)))[0] == pytest.approx(batch[-1], abs=1e-3)


def test_dimensions_are_cut_and_normalised_again(server: ServerProcess) -> None:
    (whole,), (short,) = embed(server, DOCUMENTS[0]), embed(server, DOCUMENTS[0], dimensions=64)
    assert len(short) == 64
    assert math.hypot(*short) == pytest.approx(1, abs=1e-5)
    assert cosine(short, whole[:64]) > 0.9999


def test_what_is_too_long_is_cut_with_a_warning_for_its_item_or_refused(server: ServerProcess) -> None:
    texts = ["short", "word " * 2000]
    reply = server.post("/api/embed", {"model": MODEL, "input": texts})
    assert len(reply["embeddings"]) == 2
    (told,) = [warning for warning in reply["warnings"] if warning["code"] == "input_truncated"]
    assert 1 in told["inputs"]
    assert 0 not in told["inputs"]
    status, text = refused(server, "/api/embed", {"model": MODEL, "input": texts, "truncate": False})
    assert status == 400
    assert "context length" in text


def test_concurrent_single_requests_are_packed(server: ServerProcess) -> None:
    texts = [f"{DOCUMENTS[n % 4]} number {n}" for n in range(64)]
    embed(server, "warm")

    def timed(work: Any) -> tuple[float, Any]:
        start = time.perf_counter()
        result = work()
        return time.perf_counter() - start, result

    serial_s, one_by_one = timed(lambda: [embed(server, text)[0] for text in texts])
    with ThreadPoolExecutor(64) as pool:
        together_s, singles = timed(lambda: list(pool.map(lambda text: embed(server, text)[0], texts)))
    batch_s, batch = timed(lambda: embed(server, texts))
    print(f"64 embeddings: serial {serial_s:.2f} s, concurrent {together_s:.2f} s, batch {batch_s:.2f} s")
    for first, second, third in zip(one_by_one, singles, batch, strict=True):
        assert cosine(first, second) > 0.999
        assert cosine(first, third) > 0.999
    assert together_s < 2 * serial_s  # loose: a shared machine; the bench measures it
    assert batch_s < serial_s


@pytest.mark.parametrize("window", [3, 17, 250])
def test_a_window_that_no_step_of_the_engine_has_is_kept_to_the_token(server: ServerProcess, window: int) -> None:
    reply = server.post("/api/embed", {"model": MODEL, "input": "tea " * 300, "options": {"num_ctx": window}})
    assert reply["prompt_eval_count"] == window
    assert [warning["code"] for warning in reply["warnings"]] == ["input_truncated"]
