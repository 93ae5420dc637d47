"""Fits a conversation and a prompt into the context window, and says what it dropped. `inference/` calls it.

What of a conversation may go, oldest first:

| kept                                    | because                                                                  |
|-----------------------------------------|--------------------------------------------------------------------------|
| system messages, wherever they stand    | they hold for all of it                                                  |
| from a user message to the end          | many templates want a user's turn first; a call keeps its results       |
| the last user message, and from a later call to the end | a long loop of calls is all there is after the question  |
| never less                              | an answer to nothing is worth nothing: ContextOverflow, with both numbers |

Source of the rules where nothing is said here: ollama server/prompt.go and llm/llama_server.go, 2026-08 (spec native
§4.5), which drops any message but the last. Unlike Ollama, no message disappears in silence: every cut is a Notice, or
an error where the caller asked for one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from corral.core import Message, Notice
from corral.errors import ContextOverflow

IMAGE_TOKENS = 768  # Ollama's estimate for one image, whatever the projector
_ROOM_SHARE = 8  # an answer gets a window's eighth
_MOST_ROOM = 2048  # tokens
OnOverflow = Literal["drop", "error"]
Kept = tuple[int, ...]  # places of messages, in order


@dataclass(frozen=True, slots=True)
class Fitted:
    """The messages that stay; `dropped` are places in the original list; tokens as counted, images included."""

    messages: tuple[Message, ...]
    dropped: tuple[int, ...] = ()
    prompt_tokens: int = 0
    notices: tuple[Notice, ...] = ()


def answer_room(context_window: int, num_predict: int) -> int:
    """Tokens of the window that are the answer's: as many as it may have, within bounds. num_predict: negative = any"""
    return min(context_window // _ROOM_SHARE, most_room(num_predict))


def most_room(num_predict: int) -> int:
    """The same in a window that is large enough."""
    return _MOST_ROOM if num_predict < 0 else min(_MOST_ROOM, num_predict)


async def fit_messages(
    messages: Sequence[Message],
    count: Callable[[Sequence[Message]], Awaitable[int]],
    context_window: int,
    *,
    room: int = 0,
    image_tokens: int = 0,
    on_overflow: OnOverflow = "drop",
    whole: int | None = None,
) -> Fitted:
    """Drops the oldest messages until the rest leaves `room` tokens, or as few messages as may be are left.

    `count` renders and tokenizes (no specials, no images); it is called some log2(n) + 2 times. `image_tokens` is
    IMAGE_TOKENS for a model with a projector, else 0. `whole`: tokens of all messages, where they have been counted.
    Raises ContextOverflow when something would have to be dropped and `on_overflow` is "error", or when what must stay
    does not fit.
    """

    async def measure(kept: Kept) -> int:
        candidate = [messages[place] for place in kept]
        return await count(candidate) + image_tokens * _images(candidate)

    everything = tuple(range(len(messages)))
    limit = context_window - room
    if whole is None:
        whole = await measure(everything) if messages else 0
    if whole <= limit:
        return Fitted(tuple(messages), prompt_tokens=whole)
    if on_overflow == "error":
        raise ContextOverflow(whole, context_window, limit)
    cuts = [everything, *_cuts(messages)]
    # Fewer messages never need more tokens, so the first cut that fits is found by bisection.
    low, high = min(1, len(cuts) - 1), len(cuts) - 1
    sizes = {0: whole}
    while low < high:
        middle = (low + high) // 2
        sizes[middle] = await measure(cuts[middle])
        low, high = (low, middle) if sizes[middle] <= limit else (middle + 1, high)
    kept = cuts[low]
    tokens = sizes[low] if low in sizes else await measure(kept)
    stays = [messages[place] for place in kept]
    if tokens > limit and needs_cut(tokens - image_tokens * _images(stays), context_window):
        # by its text alone: how large images are, the engine knows
        raise ContextOverflow(tokens, context_window, context_window - 1)
    dropped = tuple(sorted(set(everything) - set(kept)))
    notices = (_dropped_notice(messages, dropped, whole, tokens, context_window),) if dropped else ()
    return Fitted(tuple(stays), dropped, tokens, notices)


def _images(messages: Sequence[Message]) -> int:
    return sum(len(message.images) for message in messages)


def _cuts(messages: Sequence[Message]) -> list[Kept]:
    """What may stay when something has to go, the most first."""
    last = len(messages) - 1
    users = [place for place, message in enumerate(messages) if message.role == "user"]
    question = users[-1:]
    rounds = [
        place
        for place, message in enumerate(messages)
        if message.role == "assistant" and place > (question or [-1])[0] and (place < last or message.tool_calls)
    ]  # a last message of the assistant's is to be continued, and belongs to what is before it
    systems = [place for place, message in enumerate(messages) if message.role == "system"]

    def kept(start: int, *more: int) -> Kept:
        return tuple(sorted({*systems, *more, *range(start, len(messages))}))

    cuts = [kept(start) for start in users] + [kept(start, *question) for start in rounds]
    return [cut for before, cut in zip([tuple(range(len(messages))), *cuts], cuts, strict=False) if cut != before]


def _dropped_notice(
    messages: Sequence[Message], dropped: Sequence[int], whole: int, tokens: int, context_window: int
) -> Notice:
    places = f"message {dropped[0]}" if len(dropped) == 1 else f"{len(dropped)} messages, {dropped[0]} to {dropped[-1]}"
    roles = [messages[i].role for i in dropped[:20]]
    shown = ", ".join(roles) + (", …" if len(dropped) > len(roles) else "")
    facts = {
        "dropped": len(dropped),
        "first": dropped[0],
        "last": dropped[-1],
        "roles": roles,
        "dropped_images": _images([messages[place] for place in dropped]),
        "prompt_tokens": int(whole),
        "kept_tokens": int(tokens),
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
    total: int | None = None,
) -> tuple[list[int], tuple[Notice, ...]]:
    """The first `keep` tokens (negative: as many as fit, one more with a BOS) and the newest ones; a Notice if cut.

    total: how many the prompt has, where some of its middle are not among these (None = they are all here).
    Raises ContextOverflow when a cut is needed and `on_overflow` is "error" (also for a request with `shift: false`).
    """
    if not needs_cut(len(tokens), context_window):
        return list(tokens), ()
    total = len(tokens) if total is None else total
    if on_overflow == "error":
        raise ContextOverflow(total, context_window)
    kept = (len(tokens) if keep < 0 else keep) + adds_bos
    kept = min(kept, context_window - 1)
    limit = prompt_limit(context_window, kept)
    dropped = total - limit
    text = f"the prompt was cut to fit num_ctx {context_window}: {dropped} tokens after the first {kept} were dropped"
    facts = {
        "dropped_tokens": int(dropped),
        "kept_first": kept,
        "prompt_tokens": int(total),
        "kept_tokens": limit,
        "context_window": context_window,
    }
    return [*tokens[:kept], *tokens[kept + len(tokens) - limit :]], (Notice("prompt_truncated", text, facts),)
