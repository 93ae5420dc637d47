"""Prompts compared by what they begin with."""

from __future__ import annotations

from typing import Any

import pytest

from corral.runner.promptforms import beginning, shared


def seen(text: str, *media: str) -> dict[str, Any]:
    return {"prompt": {"prompt_string": text, "multimodal_data": [*media]}}


ONE, OTHER, THIRD = "QUJD" * 50_000, "QUJE" * 50_000, "QUJF" * 50_000
TEXT = "look: <__media_x1__> and <__media_x1__> what?"


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        (seen(TEXT, ONE, OTHER), seen(TEXT + " why?", ONE, OTHER), len("look:  and  what?") + 64),
        (seen(TEXT, ONE, OTHER), seen(TEXT, OTHER, ONE), len("look: ")),
        (seen(TEXT, ONE, OTHER), seen(TEXT, ONE, THIRD), len("look:  and ") + 32),
        (seen("<__media__>", ONE), seen("<__media__>", ONE[:-4]), 0),
        (seen("no picture"), {"prompt": "no picture at all"}, len("no picture")),
        (seen("a <__media__> in words"), seen("a <__media__> in words", ONE), len("a ")),
    ],
    ids=["goes on", "in another order", "another second one", "a shorter one", "none", "one that is not there"],
)
def test_pictures_tell_prompts_of_one_text_apart(first: dict[str, Any], second: dict[str, Any], common: int) -> None:
    found = shared(beginning(first), beginning(second))
    assert common <= found <= common + 2  # digests may begin alike
