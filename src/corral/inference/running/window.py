"""The context window of a lease: how large it is, a prompt fitted into it, the notice that it ran full.

Called by generate.py, by both ways of chatting and by what runs them. Source of the cutting rules: ollama
llm/llama_server.go completionPromptForRequest, 2026-08.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from corral.core import GenerationParameters, Notice
from corral.errors import ContextOverflow, EngineError
from corral.inference.preparing.leasing import Prepared
from corral.inference.running.longtext import check_length, count_tokens, edge_tokens
from corral.prompt.fit import answer_room, cut_prompt, most_room, needs_cut
from corral.sched.request import Lease

TOO_LONG_WITHOUT_SHIFT = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)

_EXCEEDED = re.compile(r"\((\d+) tokens\).*\((\d+) tokens\)")  # Source: llama.cpp server-context.cpp, 2026-10


def window_of(lease: Lease) -> int:
    """Tokens per slot that the request may count on; the engine may have rounded them up."""
    return min(lease.spec.context_window, lease.context_window)


def surely_fits(size_bytes: int, window: int) -> bool:
    """Whether a text fits, with room for an answer, by its bytes alone: a token has one at least."""
    return size_bytes <= window - answer_room(window, -1)


def most_window(lease: Lease, prepared: Prepared) -> int:
    """The largest window that the request may come to have: where nobody named one, a prompt may make it grow."""
    trained = prepared.model.context_length if "context_window" in prepared.launch.automatic else 0
    return max(window_of(lease), trained)


async def missing(lease: Lease, prepared: Prepared, text: str, left_out: int = 0) -> int:
    """Tokens of window that a prompt and its answer need; 0 when the lease's window takes the prompt.

    left_out: as in `fit_prompt`.
    """
    window = window_of(lease)
    if len(text.encode()) < window:
        return 0
    tokens = left_out + await count_tokens(lease, text, most_window(lease, prepared), add_special=True)
    return tokens + most_room(int(prepared.choices.values["num_predict"])) if needs_cut(tokens, window) else 0


async def fit_prompt(
    lease: Lease,
    prepared: Prepared,
    text: str,
    parameters: GenerationParameters,
    notices: list[Notice],
    left_out: int = 0,
) -> str | list[int]:
    """The prompt as the engine takes it: the text, or its tokens with the middle cut out, and a notice of that.

    left_out: tokens that were in its middle, and are not in the text any more. Raises ContextOverflow when cutting is
    not allowed.
    """
    window = window_of(lease)
    refuses = prepared.choices.refuses_overflow
    if not (parameters.truncate or refuses):
        await check_length(lease, text, window)
        return text
    if window <= 1 or len(text.encode()) < window:
        return text
    tokens, count = await edge_tokens(lease, text, window)
    if not needs_cut(len(tokens), window):
        return tokens
    if not lease.spec.context_shift and not refuses:
        raise ContextOverflow(count + left_out, window, why=TOO_LONG_WITHOUT_SHIFT)
    keep = int(prepared.choices.values["num_keep"])
    kept, cut = cut_prompt(
        tokens,
        window,
        keep,
        adds_bos=_adds_bos(prepared, tokens),
        on_overflow="error" if refuses else "drop",
        total=count + left_out,
    )
    notices.extend(cut)
    return kept


def _adds_bos(prepared: Prepared, tokens: Sequence[int]) -> bool:
    header = prepared.model.header
    bos = header.get("tokenizer.ggml.bos_token_id") if header else None
    adds = header.get("tokenizer.ggml.add_bos_token", True) if header else False
    return bool(adds) and bool(tokens) and tokens[0] == bos


def overflow_notice(lease: Lease, *, stopped: bool) -> Notice:
    """The window ran full while the answer was written; stopped: which ended it."""
    window = window_of(lease)
    if lease.spec.context_shift and not stopped:
        text = f"the context window of {window} tokens ran full; the oldest tokens were dropped to go on"
        return Notice("context_shifted", text, {"context_window": window})
    return Notice("context_full", f"the context window of {window} tokens ran full", {"context_window": window})


def overflow_of(error: EngineError) -> ContextOverflow | None:
    """The engine's refusal of a prompt that does not fit, with its numbers and in its words; None for any other."""
    found = _EXCEEDED.search(error.message) if error.kind == "exceed_context_size_error" else None
    return ContextOverflow(int(found[1]), int(found[2]), why=error.message) if found else None
