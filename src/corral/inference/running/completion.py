"""Running a text as /completion: its images placed, the engine's events read through a parser of answers.

Called by generate.py and by both ways of chatting.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from corral.answer.outputs import OutputParser
from corral.core import Delta, Event
from corral.errors import InvalidRequest
from corral.inference.running.cachereport import report_cache
from corral.inference.running.lastturn import LastTurn
from corral.inference.running.longtext import check_length
from corral.inference.running.prefill import Events, engine_events
from corral.inference.running.run import Run, logprobs_of, progress_of
from corral.inference.running.window import overflow_notice, window_of
from corral.sched.request import Lease

_IMAGE_MARK = re.compile(r"\[img-(\d+)\]")


async def place_images(lease: Lease, text: str, images: Sequence[bytes]) -> dict[str, Any]:
    """A prompt with its images: `[img-N]` becomes the engine's marker, the data follow in the order of the marks.

    One that ends with an image gets a line end: the engine's server stops at a prompt whose last token is none of text.
    """
    marker = str((await lease.runner.props()).get("media_marker", "<__media__>"))
    order: list[int] = []

    def place(match: re.Match[str]) -> str:
        number = int(match.group(1))
        if number >= len(images) or number in order:
            return match.group()
        order.append(number)
        return marker

    await check_length(lease, text, window_of(lease))
    if marker in text:
        raise InvalidRequest(f"the prompt must not contain {marker!r}", field="prompt")
    marked = _IMAGE_MARK.sub(place, text)
    if marked.endswith(marker):
        marked += "\n"
    data = [base64.b64encode(images[number]).decode() for number in order]
    return {"prompt_string": marked, "multimodal_data": data}


async def run_completion(
    lease: Lease,
    body: dict[str, Any],
    run: Run,
    parser: OutputParser | None = None,
    turn: LastTurn | None = None,
) -> AsyncIterator[Event]:
    """Deltas and progress of one /completion call; at the end `run` knows its reason, counts and times.

    turn: where the prompt's last turn begins, for engines that keep checkpoints.
    """
    async with aclosing(_events(lease, body, run, turn)) as source:
        async for event in source:
            if event.get("prompt_progress"):
                if body.get("return_progress"):
                    yield progress_of(event["prompt_progress"])
                continue
            going = _take(event, run, lease)
            if run.max_tokens:
                for delta in _deltas(event, run, parser):
                    yield delta
            if not going:
                break
    if parser is not None:
        for delta in parser.finish():
            yield delta
        run.notices.extend(parser.notices)
        run.failure = parser.failure
    if run.wants_cache:
        run.cache = await report_cache(lease, partial(_prompt_tokens, lease, body.get("prompt")), run)


def _events(lease: Lease, body: Mapping[str, Any], run: Run, turn: LastTurn | None) -> Events:
    asked = {**body, "return_progress": True}
    tokens = partial(_prompt_tokens, lease, body.get("prompt"))
    return engine_events(lease, lease.runner.completion, asked, tokens, run, turn)


async def _prompt_tokens(lease: Lease, prompt: object) -> Sequence[int] | None:
    if isinstance(prompt, str):
        return await lease.runner.tokenize(prompt, add_special=True)
    return prompt if isinstance(prompt, list) else None


def _take(event: Mapping[str, Any], run: Run, lease: Lease) -> bool:
    """Note an event; False when it is the last one to read."""
    if event.get("stop"):
        run.timings = event.get("timings", {})
        run.reason = "length" if event.get("stop_type") == "limit" else "stop"
        run.stop_sequence = event.get("stopping_word") or None
        run.fills(window_of(lease))
        if event.get("truncated"):
            run.notices.append(overflow_notice(lease, stopped=run.window > 0))
        return False
    run.prompt_tokens = event.get("tokens_evaluated", run.prompt_tokens)
    going = run.take_piece(event["content"])
    lease.eval_tokens = run.events
    if run.window_full:
        run.notices.append(overflow_notice(lease, stopped=True))
    return going


def _deltas(event: Mapping[str, Any], run: Run, parser: OutputParser | None) -> list[Delta]:
    piece = event.get("content", "")
    probabilities = event.get("completion_probabilities")
    logprobs = logprobs_of(probabilities, run) if probabilities else ()
    if parser is None:
        return [Delta(content=piece, logprobs=logprobs)] if piece or logprobs else []
    deltas = parser.feed(piece) if piece else []
    if parser.thinking and not event.get("stop"):  # the last event brings no token
        run.thinking_tokens += 1
    if not logprobs:
        return deltas
    if not deltas:
        return [Delta(logprobs=logprobs)]
    return [replace(deltas[0], logprobs=logprobs), *deltas[1:]]
