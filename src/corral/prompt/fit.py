"""Fits a conversation and a prompt into the context window, and says what it dropped. `inference/` calls it.

Source of the rules: ollama server/prompt.go and llm/llama_server.go, 2026-08 (spec native §4.5). Unlike Ollama, no
message disappears in silence: every cut is a Notice, or an error where the caller asked for one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from corral.core import Message, Notice
from corral.errors import ContextOverflow

IMAGE_TOKENS = 768  # Ollama's estimate for one image, whatever the projector
OnOverflow = Literal["drop", "error"]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The messages that stay; `dropped` are places in the original list; tokens as counted, images included."""

    messages: tuple[Message, ...]
    dropped: tuple[int, ...] = ()
    prompt_tokens: int = 0
    notices: tuple[Notice, ...] = ()


async def fit_messages(
    messages: Sequence[Message],
    count: Callable[[Sequence[Message]], Awaitable[int]],
    context_window: int,
    *,
    image_tokens: int = 0,
    templated: bool = False,
    on_overflow: OnOverflow = "drop",
) -> Fitted:
    """Drops the oldest messages until the rest fits; system messages and the last message always stay.

    `count` renders and tokenizes (no specials, no images); it is called some log2(n) + 1 times. `image_tokens` is
    IMAGE_TOKENS for a model with a projector, else 0. `templated`, by the engine: images of kept system
    messages count too. Raises ContextOverflow when something would have to be dropped and `on_overflow` is "error".
    """
    last = len(messages) - 1

    async def measure(start: int) -> int:
        candidate = _candidate(messages, start)
        pictured = candidate if templated else messages[start:]
        return await count(candidate) + image_tokens * sum(len(message.images) for message in pictured)

    whole = await measure(0) if messages else 0
    if last <= 0 or whole <= context_window:
        return Fitted(tuple(messages), prompt_tokens=whole)
    if on_overflow == "error":
        raise ContextOverflow(whole, context_window)
    # Fewer messages never need more tokens, so the first start that fits is found by bisection.
    low, high = 1, last
    sizes: dict[int, int] = {}
    while low < high:
        middle = (low + high) // 2
        sizes[middle] = await measure(middle)
        low, high = (low, middle) if sizes[middle] <= context_window else (middle + 1, high)
    size = sizes.get(low)
    dropped = tuple(i for i in range(low) if messages[i].role != "system")
    kept = _candidate(messages, low)
    tokens = await measure(low) if size is None else size
    notices = (_dropped_notice(messages, dropped, whole, tokens, context_window),) if dropped else ()
    return Fitted(tuple(kept), dropped, tokens, notices)


def _candidate(messages: Sequence[Message], start: int) -> list[Message]:
    return [*(message for message in messages[:start] if message.role == "system"), *messages[start:]]


def _dropped_notice(
    messages: Sequence[Message], dropped: Sequence[int], whole: int, tokens: int, context_window: int
) -> Notice:
    places = f"message {dropped[0]}" if len(dropped) == 1 else f"{len(dropped)} messages, {dropped[0]} to {dropped[-1]}"
    roles = [messages[i].role for i in dropped[:20]]
    shown = ", ".join(roles) + (", …" if len(dropped) > len(roles) else "")
    images = sum(len(messages[i].images) for i in dropped)
    facts = {
        "dropped": len(dropped),
        "first": dropped[0],
        "last": dropped[-1],
        "roles": roles,
        "dropped_images": images,
        "prompt_tokens": whole,
        "kept_tokens": tokens,
        "context_window": context_window,
    }
    text = f"the oldest part of the conversation was dropped to fit num_ctx {context_window}: {places} ({shown})"
    return Notice("history_truncated", text, facts)


def prompt_limit(context_window: int, keep: int) -> int:
    """How many tokens a cut prompt has: about half of what is not kept makes room for the answer."""
    if context_window <= 1:
        return 0
    keep = max(0, min(keep, context_window - 1))
    return context_window - max((context_window - keep) // 2, 1)


def needs_cut(prompt_tokens: int, context_window: int) -> bool:
    """Whether a prompt leaves no room for even one token."""
    return context_window > 1 and prompt_tokens > context_window - 1


def cut_prompt(
    tokens: Sequence[int],
    context_window: int,
    keep: int,
    *,
    adds_bos: bool = False,
    on_overflow: OnOverflow = "drop",
) -> tuple[list[int], tuple[Notice, ...]]:
    """The first `keep` tokens (negative: as many as fit, one more with a BOS) and the newest ones; a Notice if cut.

    Raises ContextOverflow when a cut is needed and `on_overflow` is "error" (also for a request with `shift: false`).
    """
    if not needs_cut(len(tokens), context_window):
        return list(tokens), ()
    if on_overflow == "error":
        raise ContextOverflow(len(tokens), context_window)
    kept = (len(tokens) if keep < 0 else keep) + adds_bos
    kept = min(kept, context_window - 1)
    limit = prompt_limit(context_window, kept)
    dropped = len(tokens) - limit
    text = f"the prompt was cut to fit num_ctx {context_window}: {dropped} tokens after the first {kept} were dropped"
    facts = {
        "dropped_tokens": dropped,
        "kept_first": kept,
        "prompt_tokens": len(tokens),
        "kept_tokens": limit,
        "context_window": context_window,
    }
    return [*tokens[:kept], *tokens[kept + dropped :]], (Notice("prompt_truncated", text, facts),)
