"""Reading one engine run: pieces through the output parser, counts and times, the end and its reason.

`Run` collects what the end of an answer needs; `completion.py` and `enginechat.py` feed it the
engine's events, each in its own form. The per-token path: one decoded event, one parser step, one Delta.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from corral.constraint.checks import check_answer
from corral.core import CacheReport, Constraint, Delta, Done, Event, Metrics, Notice, Progress, TokenLogprob, TokenProb
from corral.errors import CorralError
from corral.inference.running.repeats import RepeatGuard
from corral.inference.telemetry import Telemetry
from corral.runner.gathering import GATHER_S


@dataclass(slots=True)
class Run:
    """The state of one generation. started_ns: perf_counter when the request came; guard: None under a constraint."""

    started_ns: int
    load_duration_ns: int
    guard: RepeatGuard | None
    max_tokens: int  # 0: nothing the engine makes is passed on
    want_top: int  # alternatives to report with each token's logprob
    resumes: bool = False  # the answer had begun with another runner
    notices: list[Notice] = field(default_factory=list)
    control_names: Mapping[int, str] = field(default_factory=dict)  # of the tokens that have no text, by id
    gather_s: float = GATHER_S  # how long tokens of a fast answer may wait for each other
    strict: bool = False
    wants_cache: bool = False  # a report of what of the prompt had been read before
    cache: CacheReport | None = None
    window: int = 0  # tokens of prompt and answer at which the run stops; 0: the engine drops some, or stops by itself
    window_full: bool = False
    failure: CorralError | None = None  # of the answer's parser
    pieces: list[str] = field(default_factory=list)  # raw output
    content: list[str] = field(default_factory=list)  # the answer's text as passed on
    calls: int = 0  # of tools
    events: int = 0  # pieces the engine sent, which is tokens but for held-back ones
    thinking_tokens: int = 0
    first_token_ns: int = 0
    reason: str = ""
    stop_sequence: str | None = None
    timings: Mapping[str, Any] = field(default_factory=dict)
    prompt_tokens: int = 0
    cached_at_first: int | None = None  # prompt tokens the engine had when the request came; None = as timings say
    prefill_ms: float = 0.0  # reading the prompt before the call that timings tell of

    def take_piece(self, piece: str) -> bool:
        """Note a piece of raw output; False when the run must stop here: it repeats itself, or its window is full."""
        self.take_token()
        self.pieces.append(piece)
        if self.guard is not None and self.guard.trips(piece):
            self.notices.append(self.guard.notice())
            self.reason = "stop"
            return False
        if self.window and self.prompt_tokens + self.events >= self.window:
            self.reason, self.window_full = "length", True
            return False
        return True

    def passes(self, event: Event, telemetry: Telemetry) -> None:
        """Note an event that is passed on: the first one is timed, the content kept for the check at the end."""
        if isinstance(event, Delta):
            if not (self.content or self.resumes):
                telemetry.first_token((time.perf_counter_ns() - self.started_ns) / 1e9)
            self.content.append(event.content)
            self.calls += len(event.tool_calls)

    def take_token(self) -> None:
        """Note a token of the answer, or of a call that the engine reads by itself."""
        if not self.events:
            self.first_token_ns = time.perf_counter_ns()
        self.events += 1

    @property
    def text(self) -> str:
        """All raw output so far."""
        return "".join(self.pieces)

    def check(self, constraint: Constraint | None) -> None:
        """After an answer that ended by itself: note when it is not what was promised.

        Raises the parser's failure in a strict run.
        """
        if self.strict and self.failure is not None:
            raise self.failure
        if constraint is not None and self.reason == "stop" and self.max_tokens:
            notice = check_answer(constraint, "".join(self.content))
            self.notices.extend([notice] if notice else [])

    def check_called(self) -> None:
        """After an answer that had to call a tool: note when it does not."""
        if not self.calls and self.max_tokens:
            why = "no tool was called, although tool_choice asks for a call"
            self.notices.append(Notice("tool_choice_unmet", why))

    def fills(self, window: int) -> bool:
        """After the end: whether prompt and answer reached the context window; noted when that was the end."""
        parts = ("cache_n", "prompt_n", "predicted_n")
        full = self.window_full or sum(int(self.timings.get(part, 0)) for part in parts) >= window
        self.window_full = full and self.reason == "length"
        return full

    def done(self, context: tuple[int, ...] | None = None) -> Done:
        """The end event."""
        return Done(
            reason="length" if self.max_tokens == 0 else self.reason or "stop",
            metrics=self.metrics(),
            context=context,
            notices=tuple(self.notices),
            stop_sequence=self.stop_sequence,
            thinking_tokens=self.thinking_tokens,
            window_full=self.window_full,
            cache=self.cache,
        )

    def metrics(self) -> Metrics:
        """Counts and times by the engine's clock; by ours when it was stopped before it could tell."""
        now = time.perf_counter_ns()
        found = int(self.timings.get("cache_n", 0))  # what earlier calls of this request read is among it
        told = "predicted_n" in self.timings
        return Metrics(
            total_duration_ns=now - self.started_ns,
            load_duration_ns=self.load_duration_ns,
            prompt_tokens=found + int(self.timings["prompt_n"]) if told else self.prompt_tokens,
            cached_tokens=found if self.cached_at_first is None else min(found, self.cached_at_first),
            prompt_duration_ns=_nanoseconds(self.prefill_ms + self.timings.get("prompt_ms", 0.0)),
            eval_tokens=0 if self.max_tokens == 0 else int(self.timings["predicted_n"]) if told else self.events,
            drafted_tokens=int(self.timings.get("draft_n", 0)),
            accepted_tokens=int(self.timings.get("draft_n_accepted", 0)),
            eval_duration_ns=_nanoseconds(self.timings["predicted_ms"]) if told else max(0, now - self.first_token_ns),
        )


def _nanoseconds(milliseconds: float) -> int:
    return round(milliseconds * 1000) * 1000


def progress_of(report: Mapping[str, Any]) -> Progress:
    """The engine's `prompt_progress` as an event."""
    return Progress("prompt", processed=report["processed"], total=report["total"], cached=report["cache"])


def logprobs_of(entries: Iterable[Mapping[str, Any]], run: Run) -> tuple[TokenLogprob, ...]:
    """The engine's probabilities of generated tokens, with as many alternatives each as were asked for."""

    def text(entry: Mapping[str, Any]) -> str:
        return str(entry["token"] or run.control_names.get(entry.get("id", -1), ""))

    return tuple(
        TokenLogprob(
            text(entry),
            entry["logprob"],
            text(entry).encode(),
            tuple(
                TokenProb(text(top), top["logprob"], text(top).encode())
                for top in entry.get("top_logprobs", ())[: run.want_top]
            ),
        )
        for entry in entries
    )
