"""Answers that repeat their prompt are drafted from it: the same text, and the answer tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess, create_golden_models, start_server

MODEL = "smollm2:135m"
TEXT = (
    "The old railway station in Kyoto was built at a time when trains were still a novelty, and the people of the "
    "town came every evening to watch the engines arrive. A clerk with a silver watch stood at the gate and wrote "
    "the number of every wagon into a green book. When the war ended, the green books were put into a cellar, where "
    "a student found them sixty years later and began to copy them by hand."
)
AGAIN = "\n\n".join((TEXT, TEXT, TEXT.partition(" and the people")[0]))


@pytest.fixture(scope="module")
def drafting(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[ServerProcess]:
    server = start_server(tmp_path_factory.mktemp("drafting"))
    create_golden_models(server, models_dir, MODEL)
    yield server
    server.stop()


def ask(server: ServerProcess, prompt: str, **options: Any) -> dict[str, Any]:
    settings = {"temperature": 0, "num_predict": 60, "num_ctx": 1024, "repeat_penalty": 1.0, **options}
    body = {"model": MODEL, "prompt": prompt, "raw": True, "stream": False, "options": settings}
    answer: dict[str, Any] = server.post("/api/generate", body)
    return answer


def test_a_text_that_is_written_again_is_drafted_and_stays_the_same(drafting: ServerProcess) -> None:
    drafted = ask(drafting, AGAIN)
    assert drafted["draft_count"] >= 16
    assert drafted["draft_accepted_count"] >= drafted["draft_count"] / 2
    plain = ask(drafting, AGAIN, draft_num_predict=0)
    assert "draft_count" not in plain
    assert drafted["response"] == plain["response"]
    assert drafted["eval_count"] == plain["eval_count"] == 60


def test_nothing_is_drafted_where_nothing_repeats(drafting: ServerProcess) -> None:
    answer = ask(drafting, "Bridges have a long history. The oldest", num_predict=24)
    assert not answer.keys() & {"draft_count", "draft_accepted_count"}


def test_a_stream_brings_every_drafted_token_and_the_stop_text_holds(drafting: ServerProcess) -> None:
    options = {"temperature": 0, "num_ctx": 1024, "repeat_penalty": 1.0, "stop": ["silver"]}
    body = {"model": MODEL, "prompt": AGAIN, "raw": True, "options": options}
    *pieces, end = list(drafting.stream("/api/generate", body))
    text = "".join(piece["response"] for piece in pieces)
    assert text.endswith("A clerk with a ")
    assert end["done_reason"] == "stop"
    assert end["draft_count"] > 0
