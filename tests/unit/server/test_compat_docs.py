"""docs/compatibility.md speaks of every field that the wire shapes know, under the heading of its route."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from corral.api.anthropic import MessagesRequest
from corral.api.openai import ChatCompletionRequest, CompletionRequest, EmbeddingRequest
from corral.api.responses import ResponsesRequest
from corral.server.openai.responses.store import MAX_BYTES, MAX_RESPONSES

PAGE = Path(__file__).parents[3] / "docs" / "compatibility.md"


def section(title: str) -> str:
    return next(part for part in PAGE.read_text().split("\n## ") if part.startswith(title))


@pytest.mark.parametrize(
    ("title", "shape"),
    [
        ("POST /v1/chat/completions", ChatCompletionRequest),
        ("POST /v1/completions", CompletionRequest),
        ("POST /v1/embeddings", EmbeddingRequest),
        ("POST /v1/responses", ResponsesRequest),
        ("POST /v1/messages", MessagesRequest),
    ],
)
def test_every_field_of_a_request_is_documented(title: str, shape: type[msgspec.Struct]) -> None:
    documented = section(title) + section("All routes")
    names = [field.encode_name for field in msgspec.structs.fields(shape)]
    assert [name for name in names if f"`{name}`" not in documented] == []


def test_the_bounds_of_kept_responses_are_those_of_the_code() -> None:
    assert f"the newest {MAX_RESPONSES:,} responses ({MAX_BYTES // 2**20} MiB)" in PAGE.read_text()
