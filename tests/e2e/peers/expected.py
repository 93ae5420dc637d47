"""What every peer's script needs: the server's address and models, and the one tool."""

import os
from typing import Any

URL = os.environ["PEER_URL"]
CHAT, TOOLS, EMBED = "smollm2:135m", "smollm2-tools", "all-minilm"
QUESTION = "What is the weather in Paris?"


def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"sunny in {city}"


def check_call(name: Any, arguments: Any) -> None:
    """The one call that the tool model makes."""
    assert name == "get_weather", name
    assert arguments == {"city": "Paris"}, arguments


def check_vectors(one: Any, many: Any) -> None:
    """Vectors of `Hello world`, alone and beside another text."""
    assert len(one) == len(many[0]) == len(many[1]) == 384
    assert abs(sum(x * x for x in one) - 1) < 1e-3
    assert max(abs(a - b) for a, b in zip(one, many[0], strict=True)) < 1e-3
    assert many[0] != many[1]
