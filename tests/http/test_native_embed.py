"""POST /api/embed and /api/embeddings on a fake engine whose vectors follow from the tokens."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.fakes.runner import WIDTH
from tests.fakes.server import RunningServer


async def test_vectors_come_in_the_order_of_their_inputs(server: RunningServer) -> None:
    texts = [f"text number {n}" for n in range(70)]
    status, reply = await server.call("POST", "/api/embed", {"model": "vectors", "input": texts})
    assert status == 200
    assert list(reply) == ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]
    assert reply["prompt_eval_count"] == 210
    for place in (0, 33, 69):
        _, one = await server.call("POST", "/api/embed", {"model": "vectors", "input": texts[place]})
        assert reply["embeddings"][place] == one["embeddings"][0]


async def test_vectors_have_length_one_also_when_shortened(server: RunningServer) -> None:
    for dimensions, length in ((0, WIDTH), (3, 3), (-1, WIDTH), (WIDTH, WIDTH), (99, WIDTH)):
        body = {"model": "vectors", "input": "x", "dimensions": dimensions}
        _, reply = await server.call("POST", "/api/embed", body)
        vector = reply["embeddings"][0]
        assert len(vector) == length
        assert math.isclose(sum(value * value for value in vector), 1, abs_tol=1e-5)


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings"])
async def test_dimensions_that_the_vectors_do_not_have_are_told(server: RunningServer, path: str) -> None:
    for dimensions in (-1, WIDTH + 1):
        _, reply = await server.call("POST", path, {"model": "vectors", "input": "x", "dimensions": dimensions})
        [warning] = reply["warnings"]
        assert warning["code"] == "dimensions_ignored"
        assert (warning["dimensions"], warning["available"]) == (dimensions, WIDTH)
    for dimensions in (0, 1, WIDTH):
        _, reply = await server.call("POST", path, {"model": "vectors", "input": "x", "dimensions": dimensions})
        assert "warnings" not in reply


async def test_no_input_loads_the_model(server: RunningServer) -> None:
    empty: list[dict[str, Any]] = [{}, {"input": None}, {"input": ""}, {"input": []}]
    for body in empty:
        reply = await server.call("POST", "/api/embed", {"model": "vectors", **body})
        assert reply == (200, {"model": "vectors", "embeddings": []})
    assert len(server.launcher.runners) == 1


async def test_an_input_that_is_no_text_is_refused_before_the_model_is_looked_for(server: RunningServer) -> None:
    for wrong in (5, 0, False, {"a": 1}, ["a", 5], [["a"]]):
        reply = await server.call("POST", "/api/embed", {"model": "nope", "input": wrong})
        assert reply == (400, {"error": "invalid input type"})


async def test_a_long_input_is_cut_with_a_warning_or_refused(server: RunningServer) -> None:
    body: dict[str, Any] = {"model": "vectors", "input": ["short", "word " * 50], "options": {"num_ctx": 12}}
    _, reply = await server.call("POST", "/api/embed", body)
    assert reply["warnings"][0] | {"message": ""} == {
        "code": "input_truncated",
        "message": "",
        "inputs": [1],
        "longest_tokens": 51,
        "kept_tokens": 10,
    }
    error = {"error": "the input length exceeds the context length"}
    assert await server.call("POST", "/api/embed", body | {"truncate": False}) == (400, error)
    body["options"] = {"num_ctx": 1}
    error = {"error": "input after truncation exceeds maximum context length"}
    assert await server.call("POST", "/api/embed", body) == (400, error)


async def test_names_are_checked_with_this_routes_words(server: RunningServer) -> None:
    unknown = {"error": 'model "nope" not found, try pulling it first'}
    assert await server.call("POST", "/api/embed", {"model": "nope", "input": "x"}) == (404, unknown)
    assert await server.call("POST", "/api/embed", {"input": "x"}) == (404, {"error": "model '' not found"})
    assert await server.call("POST", "/api/embeddings", {"model": "nope", "prompt": "x"}) == (404, unknown)
    assert await server.call("POST", "/api/embeddings", {"prompt": "x"}) == (400, {"error": "model is required"})


async def test_a_chat_model_does_not_embed(server: RunningServer) -> None:
    reply = await server.call("POST", "/api/embed", {"model": "go", "input": "x"})
    assert reply == (400, {"error": '"go" does not support embeddings'})


async def test_the_old_route_gives_one_vector_and_nothing_else(server: RunningServer) -> None:
    status, reply = await server.call("POST", "/api/embeddings", {"model": "vectors", "prompt": "x"})
    assert (status, list(reply), len(reply["embedding"])) == (200, ["embedding"], WIDTH)
    assert await server.call("POST", "/api/embeddings", {"model": "vectors"}) == (200, {"embedding": []})
    body = {"model": "vectors", "prompt": "word " * 50, "options": {"num_ctx": 12}}
    error = {"error": "the input length exceeds the context length"}
    assert await server.call("POST", "/api/embeddings", body) == (400, error)


async def test_rerank_orders_documents(server: RunningServer) -> None:
    server.add("ranker", metadata={"llama.pooling_type": 4})
    body = {"model": "ranker", "query": "blue sky", "documents": ["red", "blue sky", "blue"], "top_n": 2}
    _, reply = await server.call("POST", "/api/rerank", body)
    assert [row["index"] for row in reply["results"]] == [1, 2]


async def test_tokens_there_and_back(server: RunningServer) -> None:
    _, reply = await server.call("POST", "/api/tokenize", {"model": "go", "text": "one two"})
    assert len(reply["tokens"]) == 2
    _, back = await server.call("POST", "/api/detokenize", {"model": "go", "tokens": reply["tokens"]})
    assert back == {"model": "go", "text": "one two"}


async def test_a_stream_flag_is_no_unknown_parameter(server: RunningServer) -> None:
    for path, field in (("/api/embed", "input"), ("/api/embeddings", "prompt")):
        _, reply = await server.call("POST", path, {"model": "vectors", field: "x", "stream": False})
        assert "warnings" not in reply
