"""Texts far beyond the context window: counted and cut without tokenizing all of them.

A tokenizer reads a megabyte in seconds, and of a prompt of many windows nearly all of it is thrown away. So such a
text's first and last tokens are made, more than a window of each, and how many it has is told as `at least`. Tokens
near the two cuts could be others than in the whole text: they are left out. Called by window.py, by both ways of
chatting, generate.py and embed.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from corral.core import AtLeast
from corral.errors import ContextOverflow
from corral.sched.request import Lease

_WHOLE_CHARACTERS = 16  # for each token of the window: a text of no more is tokenized whole
_WHOLE_ANYWAY = 2**16  # characters
_FIRST_CHARACTERS = 6  # for each token of the window: the first try, doubled until there are enough
_SEAM = 64  # tokens


def is_far_beyond(characters: int, window: int) -> bool:
    """Whether a text is too long to be tokenized whole for this window."""
    return characters > max(_WHOLE_ANYWAY, _WHOLE_CHARACTERS * window)


async def edge_tokens(lease: Lease, text: str, window: int) -> tuple[list[int], int]:
    """A prompt's tokens, and how many there are; of one far beyond the window more than a window of each end."""
    if is_far_beyond(len(text), window):
        head = await _enough(lambda size: _tokens(lease, text[:size]), window, len(text) // 2)
        tail = await _enough(lambda size: _tokens(lease, text[-size:]), window, len(text) // 2) if head else None
        if head and tail:
            tokens = head[:-_SEAM] + tail[_SEAM:]
            return tokens, AtLeast(len(tokens))
    tokens = await _tokens(lease, text)
    return tokens, len(tokens)


async def first_tokens(lease: Lease, text: str, window: int, *, add_special: bool = False) -> tuple[list[int], int]:
    """The same without the end: more than a window of a long text's beginning."""
    if is_far_beyond(len(text), window):
        head = await _enough(lambda size: _tokens(lease, text[:size], add_special=add_special), window, len(text) // 2)
        if head:
            return head[:-_SEAM], AtLeast(len(head) - _SEAM)
    tokens = await _tokens(lease, text, add_special=add_special)
    return tokens, len(tokens)


async def count_tokens(lease: Lease, text: str, window: int, *, add_special: bool = False) -> int:
    """How many tokens a text has; of one far beyond the window as many as prove it."""
    return (await first_tokens(lease, text, window, add_special=add_special))[1]


async def check_length(lease: Lease, text: str, window: int) -> None:
    """Refuse what the engine would refuse, before it has tokenized all of it. Raises ContextOverflow."""
    if is_far_beyond(len(text), window):
        tokens = await count_tokens(lease, text, window)
        if tokens > window:
            raise ContextOverflow(tokens, window)


async def _tokens(lease: Lease, text: str, *, add_special: bool = True) -> list[int]:
    return await lease.runner.tokenize(text, add_special=add_special)


async def _enough(make: Callable[[int], Awaitable[list[int]]], window: int, most: int) -> list[int] | None:
    """More than a window of tokens from one end of a text; None when that takes more than `most` characters."""
    size = max(_FIRST_CHARACTERS * window, _WHOLE_ANYWAY // 4)
    while size <= most:
        tokens = await make(size)
        if len(tokens) > window + 2 * _SEAM:
            return tokens
        size *= 2
    return None
