"""Texts far beyond the window: what is kept of them is what tokenizing all of it would keep, at a bounded cost."""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core import AtLeast
from corral.errors import ContextOverflow
from corral.inference.running.longtext import check_length, count_tokens, edge_tokens, first_tokens, is_far_beyond
from corral.sched.request import Lease

WINDOW = 512
FAR = 16 * WINDOW + 2**16


class Tokenizer:
    """A lease's runner: a token a word with the blanks before it, or a piece of a long word."""

    def __init__(self) -> None:
        self.read = 0
        self.runner = self

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        self.read += len(text)
        tokens = [hash(piece) for piece in re.findall(r"\s*\S{1,12}|\s+", text)]
        return [-1, *tokens] if add_special else tokens


def lease() -> tuple[Lease, Tokenizer]:
    tokenizer = Tokenizer()
    return cast("Lease", tokenizer), tokenizer


def prose(words: list[str], characters: int) -> str:
    text = " ".join(f"{word}{place}" for place, word in enumerate(words))
    return " ".join([text] * (characters // len(text) + 1))


@given(words=st.lists(st.text("abcde,.\n", min_size=1, max_size=9), min_size=3, max_size=9))
async def test_both_ends_are_as_in_the_whole_text(words: list[str]) -> None:
    text = prose(words, FAR)
    whole = await Tokenizer().tokenize(text, add_special=True)
    given_lease, _ = lease()
    tokens, count = await edge_tokens(given_lease, text, WINDOW)
    assert tokens[:WINDOW] == whole[:WINDOW]
    assert tokens[-WINDOW:] == whole[-WINDOW:]
    assert WINDOW < int(count) <= len(whole)


@pytest.mark.parametrize("megabytes", [1, 4])
async def test_what_is_read_follows_the_window_and_not_the_text(megabytes: int) -> None:
    text = prose(["some", "words"], megabytes * 2**20)
    given_lease, tokenizer = lease()
    await edge_tokens(given_lease, text, WINDOW)
    assert tokenizer.read < 2**17
    with pytest.raises(ContextOverflow, match="at least"):
        await check_length(given_lease, text, WINDOW)
    assert isinstance(await count_tokens(given_lease, text, WINDOW), AtLeast)
    tokens, _ = await first_tokens(given_lease, text, WINDOW)
    assert tokens[:WINDOW] == (await Tokenizer().tokenize(text))[:WINDOW]


async def test_a_text_of_few_tokens_is_read_whole_however_long_it_is() -> None:
    text = " " * FAR + "x"
    given_lease, _ = lease()
    assert is_far_beyond(len(text), WINDOW)
    assert await edge_tokens(given_lease, text, WINDOW) == (await Tokenizer().tokenize(text, add_special=True), 2)
    await check_length(given_lease, text, WINDOW)


def test_a_count_that_may_be_higher_says_so_but_to_programs() -> None:
    count: Any = AtLeast(5) + 2
    assert (f"{count}", str(count), f"{count:d}", count - 3) == ("at least 7", "at least 7", "7", 4)
    assert str(ContextOverflow(count, 4)).startswith("the prompt has at least 7 tokens")
    assert msgspec.json.encode(int(count)) == b"7"
