"""Chunked prefill: how a prompt gets into the engine when others are served by the same runner.

The engine works in steps of up to `n_batch` prompt tokens, one size for its whole life. Large steps read fastest; but
what it does for others, a token for a running answer or noticing that a client has left, happens between two steps.
So a prompt that is alone is read by the call that answers it, in full steps. When others are there, that call is
closed, and the prompt goes on in small calls, each with a piece more of it, until it is read or alone again; the engine
finds what it has read already by its common prefix. Then the call is made anew, and answers.

| the runner's other requests    | a piece is                                          |
|--------------------------------|-----------------------------------------------------|
| none                           | all of it                                           |
| wait for their first token     | one full step, so that each gets every other step   |
| at least one answers           | as many tokens as the engine reads in `_step_s`     |

A line of a batch neither begins nor goes on while another request waits for its first token, and counts as nobody's
company: a prompt beside lines only is alone.

An engine that keeps checkpoints is stopped where the last turn begins, so that it keeps one there (lastturn.py).

All calls of a request go to one slot, and a call waits there until the one before has left it. What another request has
read, or is reading, of the same beginning is brought there first; one that reads stops where others need a copy
(runner/slothold.py).

Called by completion.py and enginechat.py around their calls.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from corral.inference.running.lastturn import BEHIND, LastTurn
from corral.inference.running.run import Run
from corral.sched.request import Lease

_LOG = logging.getLogger(__name__)
STEP_S = 0.12  # the longest that a running answer should wait for its next token: about eight tokens a second,
_STEP_IN_TOKENS = 10  # nor much longer than it waits when it is alone,
_LEAST_STEP_S = 0.03  # as far as calls so small make sense
_FIRST_PIECE = 16  # tokens, until the engine's speed is known
_SMALLEST_PIECE = 4
_REST = 8  # tokens that are left to the call that answers
_WORTHWHILE_STEPS = 1.5  # one step is under way already when the engine reports; less than half a step more is let be

Events = AsyncGenerator[dict[str, Any], None]
PromptTokens = Callable[[], Awaitable[Sequence[int] | None]]


async def engine_events(
    lease: Lease,
    call: Callable[[dict[str, Any], float], Events],
    body: dict[str, Any],
    prompt_tokens: PromptTokens,
    run: Run,
    turn: LastTurn | None = None,
) -> Events:
    """The events of one engine call that answers, its `prompt_progress` among them.

    call: makes the call with this body, which has `return_progress`, and `run.gather_s`; made again when the prompt had
    to go on in pieces.
    prompt_tokens: the whole prompt as the engine reads it, or None when it cannot be cut (images). `run` is told what
    was read how. turn: where the last turn begins, if the engine should keep a checkpoint there.
    """
    prompt = _Prompt(lease, _once(prompt_tokens), run)
    with _counted(lease) as answers:
        await prompt.may_go_on()
        if lease.spec.paced:
            await lease.place.settle(body, prompt.tokens, gives_way=lease.gives_way)
            await prompt.may_go_on()
        if turn is not None and prompt.begins_anew(turn):
            async for read in prompt.to_turn(turn):
                yield {"prompt_progress": read}
        while True:
            began = time.perf_counter()
            async with aclosing(call(body, run.gather_s)) as source:
                async for event in source:
                    report = event.get("prompt_progress")
                    if report is None:
                        answers()
                    elif prompt.must_yield(report):
                        break
                    yield event
                else:
                    return
            run.prefill_ms += (time.perf_counter() - began) * 1000
            async for piece in prompt.in_pieces():
                yield {"prompt_progress": piece}


@contextlib.contextmanager
def _counted(lease: Lease) -> Iterator[Callable[[], None]]:
    """Count this request among those of its runner; the value, when called, counts it as answering."""
    sharing, counts = lease.runner.sharing, not lease.gives_way
    sharing.requests += 1
    sharing.count(others=counts)
    reading, answering = True, False

    def answers() -> None:
        nonlocal reading, answering
        if not reading:
            return
        reading = False
        lease.place.end_reading()
        if counts:
            answering = True
            sharing.count(answering=1)

    try:
        yield answers
    finally:
        sharing.requests -= 1
        sharing.count(-counts, -answering)


class _Prompt:
    """One prompt on its way: how much of it is read, and whether it can be cut."""

    def __init__(self, lease: Lease, tokens: PromptTokens, run: Run) -> None:
        self._lease = lease
        self.tokens = tokens
        self._run = run
        self._read = 0
        self._handed_over = 0  # in pieces
        self._is_whole = not lease.spec.paced  # not to be cut (again)

    @property
    def _is_alone(self) -> bool:
        return self._lease.runner.sharing.others <= (0 if self._lease.gives_way else 1)

    @property
    def _has_company(self) -> bool:
        """Whether there is a reason to read in pieces."""
        return not self._is_alone or self._lease.place.next_stop is not None

    async def may_go_on(self) -> None:
        """At once, but for a line of a batch: when nobody else waits for a first token."""
        if self._lease.gives_way:
            await self._lease.runner.sharing.quiet.wait()

    def must_yield(self, report: dict[str, Any]) -> bool:
        """Whether the engine's call has to end for others; the report is corrected to tell of the whole prompt."""
        self._run.prompt_tokens = report["total"]
        if self._run.cached_at_first is None:
            self._run.cached_at_first = report["cache"]
            self._lease.place.found(report["cache"], report["total"])
        elif report["cache"] < self._handed_over and not self._is_whole:
            text = "the engine found %d of %d tokens that it had read; the rest of the prompt is read whole"
            _LOG.info(text, report["cache"], self._handed_over)
            self._is_whole = True
            self._lease.place.end_reading()
        report["cache"] = self._run.cached_at_first
        self._read = report["processed"]
        self._tell(report)
        if self._is_whole or self._lease.place.next_stop is not None:
            return not self._is_whole
        left = report["total"] - report["processed"]
        worthwhile = _REST if self._lease.gives_way else _WORTHWHILE_STEPS * self._lease.spec.n_batch
        return not self._is_alone and left > worthwhile

    def begins_anew(self, turn: LastTurn) -> bool:
        """Whether to stop where this turn begins; it is noted as read."""
        prompts, owner = self._lease.runner.sharing.prompts, self._lease.runner.owner
        if owner is None:
            return False
        known = [text for whose, text in prompts if whose == owner]
        prompts.append((owner, turn.text))
        return self._is_alone and turn.needs_stop(known, self._lease.spec.n_batch)

    async def to_turn(self, turn: LastTurn) -> AsyncIterator[Mapping[str, Any]]:
        """Read on to where a turn begins, or until others come; the engine's reports."""
        tokens, before = (
            await self.tokens(),
            await self._lease.runner.tokenize(turn.text[: turn.start], add_special=True),
        )
        place = len(before) - 1  # the last token may take in what follows
        if tokens is None or place <= 0 or list(tokens[:place]) != before[:place]:
            return
        stop = place + BEHIND
        began = time.perf_counter()
        async with aclosing(
            self._lease.runner.completion(_reading(tokens[:stop]) | {"return_progress": True})
        ) as source:
            async for event in source:
                report = event.get("prompt_progress")
                if report is None:
                    self._handed_over = stop
                    continue
                report["total"] = len(tokens)
                if self.must_yield(report):
                    break
                yield report
        self._run.prefill_ms += (time.perf_counter() - began) * 1000

    async def in_pieces(self) -> AsyncIterator[Mapping[str, Any]]:
        """Read on in pieces, until the prompt is read or nobody else is there; a report after each."""
        tokens = await self.tokens()
        if tokens is None:
            self._is_whole = True
            self._lease.place.end_reading()
            return
        await self._lease.place.hand_over(self._read)
        self._is_whole = len(tokens) <= self._read
        size = _FIRST_PIECE
        await self.may_go_on()
        while self._has_company and (left := len(tokens) - self._read - _REST) > 0:
            if not self._lease.runner.sharing.answering:
                size = self._lease.spec.n_batch
            stop = self._lease.place.next_stop or len(tokens)
            self._read += min(size, left, stop - self._read)
            began = time.perf_counter()
            timings = await self._call(tokens[: self._read])
            size = _next_size(timings, _step_s(self._lease.runner.sharing.token_s), self._lease.spec.n_batch)
            self._run.prefill_ms += (time.perf_counter() - began) * 1000
            self._handed_over = self._read
            await self._lease.place.hand_over(self._read)
            report = {"processed": self._read, "total": len(tokens), "cache": self._run.cached_at_first or 0}
            self._tell(report)
            yield report
            await self.may_go_on()

    def _tell(self, report: Mapping[str, int]) -> None:
        """Who asks for the requests under way sees how far this one's prompt is."""
        self._lease.prompt_tokens = report["total"]
        self._lease.processed_tokens = report["processed"]
        self._lease.cached_tokens = report["cache"]

    async def _call(self, tokens: Sequence[int]) -> Mapping[str, Any]:
        """Have these tokens read; the engine's timings."""
        timings: Mapping[str, Any] = {}
        async with aclosing(self._lease.runner.completion(_reading(tokens))) as source:
            async for event in source:
                timings = event.get("timings", timings)
        return timings


def _once(prompt_tokens: PromptTokens) -> PromptTokens:
    """Asked for once: others may want them too."""
    asked: list[Sequence[int] | None] = []

    async def tokens() -> Sequence[int] | None:
        if not asked:
            asked.append(await prompt_tokens())
        return asked[0]

    return tokens


def _reading(tokens: Sequence[int]) -> dict[str, Any]:
    """A call that has these tokens read, and answers nothing."""
    return {
        "prompt": list(tokens),
        "n_predict": 0,
        "cache_prompt": True,
        "response_fields": ["stop", "timings"],  # not the prompt, which would come back each time
    }


def _step_s(token_s: float) -> float:
    """How long a piece may take beside an answer whose tokens take so long when it is alone (0 = not known)."""
    return min(STEP_S, max(_LEAST_STEP_S, _STEP_IN_TOKENS * token_s)) if token_s else STEP_S


def _next_size(timings: Mapping[str, Any], piece_s: float, step: int) -> int:
    """Tokens that take piece_s at the speed of the last piece."""
    read, took_ms = timings.get("prompt_n", 0), timings.get("prompt_ms", 0.0)
    if not read or took_ms <= 0:
        return _FIRST_PIECE
    return max(_SMALLEST_PIECE, min(step, int(read * piece_s * 1000 / took_ms)))
