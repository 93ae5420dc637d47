"""Reranking with a tiny cross-encoder on the real engine: the native route, and Cohere's and Jina's shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.made import made, refused
from tests.fakes.rankers import tiny_ranker

pytestmark = pytest.mark.e2e

MODEL = "ranker"
QUERY = "what is a panda?"
DOCUMENTS = ["hi", "the giant panda is a bear", "it is raining", "bamboo is eaten"]


@pytest.fixture(scope="module")
def ranker(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with made(server, MODEL, {"ranker.gguf": tiny_ranker(tmp_path_factory.mktemp("ranker") / "ranker.gguf")}):
        yield server


def ask(server: ServerProcess, route: str = "/api/rerank", **more: Any) -> Any:
    return server.post(route, {"model": MODEL, "query": QUERY, "documents": DOCUMENTS, **more})


def test_every_document_has_a_score_and_the_best_is_first(ranker: ServerProcess) -> None:
    reply = ask(ranker)
    scores = [result["relevance_score"] for result in reply["results"]]
    assert sorted(result["index"] for result in reply["results"]) == [0, 1, 2, 3]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4
    assert reply["prompt_eval_count"] > 40


def test_a_score_belongs_to_its_document_and_depends_on_the_query(ranker: ServerProcess) -> None:
    score = {result["index"]: result["relevance_score"] for result in ask(ranker)["results"]}
    for index, document in enumerate(DOCUMENTS):
        (alone,) = ask(ranker, documents=[document])["results"]
        assert alone["relevance_score"] == pytest.approx(score[index], abs=0.05)
    other = {result["index"]: result["relevance_score"] for result in ask(ranker, query="rain?")["results"]}
    assert all(abs(other[index] - score[index]) > 0.1 for index in score)


def test_top_n_keeps_the_best(ranker: ServerProcess) -> None:
    whole, best = ask(ranker)["results"], ask(ranker, top_n=2)["results"]
    assert [result["index"] for result in best] == [result["index"] for result in whole[:2]]


def test_the_shape_of_cohere_and_jina(ranker: ServerProcess) -> None:
    native = ask(ranker)["results"]
    texts = [{"text": document} for document in DOCUMENTS]
    for documents in (DOCUMENTS, texts):
        reply = ask(ranker, "/v1/rerank", documents=documents, top_n=3, return_documents=True)
        assert reply["model"] == MODEL
        assert [result["index"] for result in reply["results"]] == [result["index"] for result in native[:3]]
        assert [result["document"]["text"] for result in reply["results"]] == [
            DOCUMENTS[result["index"]] for result in native[:3]
        ]
        assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] > 40
    assert "document" not in ask(ranker, "/v1/rerank")["results"][0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"query": ""}, "query is required"),
        ({"documents": []}, "documents must be"),
        ({"documents": ["a", 3]}, "documents[1]"),
        ({"top_n": 0}, "top_n"),
    ],
)
def test_a_bad_request_is_named(ranker: ServerProcess, change: dict[str, Any], why: str) -> None:
    body = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS, **change}
    status, text = refused(ranker, "/v1/rerank", body)
    assert status == 400
    assert why in text


@pytest.mark.parametrize("route", ["/api/rerank", "/v1/rerank"])
@pytest.mark.parametrize("model", ["smollm2:135m", "all-minilm"])
def test_other_models_do_not_rank(server: ServerProcess, route: str, model: str) -> None:
    status, text = refused(server, route, {"model": model, "query": QUERY, "documents": DOCUMENTS})
    assert (status, text) == (400, f'"{model}" does not support rerank')


def test_systemone_is_404_for_a_model_that_makes_no_decisions(server: ServerProcess) -> None:
    assert refused(server, "/v1/systemone", {"model": "smollm2:135m"}) == (404, '"smollm2:135m" is no decision model')
