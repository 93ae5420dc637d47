"""An answer whose runner is lost goes on with another one, from where it was. Called by chat.py and generate.py.

The request is asked anew from its beginning, and what had been passed on is compared and left out (sent.py). So
whatever reads or binds the answer, parsers, grammars, calls, begins anew with it and needs to know nothing of this. The
answer can be made again when nothing in it was drawn by chance: at temperature 0, or with a seed.

| lost                                    | nothing was passed on          | something was               |
|-----------------------------------------|--------------------------------|-----------------------------|
| RunnerGone: dead before it was asked    | asked again                    | (cannot be)                 |
| NodeGone: with its machine              | asked again                    | goes on, or AnswerCutShort  |
| RunnerDied: killed, or crashed          | the error: it may be the cause | goes on, or AnswerCutShort  |

At most TRIES times; an engine that crashed by itself, which this very answer may be the cause of, only once more.
"""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

from corral.core import Delta, Done, Event, Progress
from corral.errors import AnswerCutShort, NodeGone, RunnerDied, RunnerGone
from corral.inference.preparing.choices import Choices
from corral.inference.progress import Emit
from corral.inference.running.sent import Differs, Sent
from corral.inference.telemetry import Telemetry

TRIES = 3
_CRASHES = frozenset({-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE})


class Attempt:
    """One answer over all the times that it is asked for; the use case tells it what it finds out.

    load_ns: what loading and waiting took, the runs between not counted.
    """

    def __init__(self) -> None:
        self.repeatable = False
        self.begun = False  # something of the answer was passed on
        self.load_ns = 0
        self._since_ns = time.perf_counter_ns()

    def restart(self) -> None:
        """The request is asked anew."""
        self._since_ns = time.perf_counter_ns()

    def prepared(self, choices: Choices) -> None:
        """The options are known."""
        values = choices.values
        self.repeatable = values["temperature"] <= 0 or values["top_k"] == 1 or values["seed"] >= 0

    def loaded(self) -> int:
        """The runner is there; nanoseconds of waiting so far."""
        self.load_ns += time.perf_counter_ns() - self._since_ns
        return self.load_ns

    def quiet(self, emit: Emit | None) -> Emit | None:
        """`emit` until the answer has begun: who reads one is not told of queues and loads."""

        def tell(progress: Progress) -> None:
            if emit is not None and not self.begun:
                emit(progress)

        return None if emit is None else tell


async def resumed(
    work: Callable[[Attempt], AsyncIterator[Event]],
    telemetry: Telemetry,
    told: Callable[[Exception], Exception] = lambda error: error,
) -> AsyncIterator[Event]:
    """The events of `work`, made anew when its runner is lost; none of the answer comes twice.

    Raises what `work` does, and AnswerCutShort where an answer that has begun cannot go on; as `told` words it.
    """
    attempt, sent = Attempt(), Sent()
    lost = RunnerDied()
    try:
        for tries in range(1, TRIES + 1):
            try:
                async with aclosing(cast("Any", work(attempt))) as events:
                    async for event in events:
                        if (left := _left(event, attempt, sent, again=tries > 1)) is not None:
                            yield left
                if tries > 1 and attempt.begun:
                    telemetry.resumed("went on")
                return
            except Differs:
                telemetry.resumed("differed")
                raise AnswerCutShort(lost, "made again it became another one") from None
            except RunnerDied as error:
                lost = error
                if not _may_ask_again(error, attempt, tries):
                    raise _given_up(error, attempt, telemetry) from None
            sent.rewind()
            attempt.restart()
    except Exception as error:
        telemetry.failed(error)
        if (other := told(error)) is not error:
            raise other from None
        raise


def _left(event: Event, attempt: Attempt, sent: Sent, *, again: bool) -> Event | None:
    """What of an event is to be passed on."""
    if isinstance(event, Delta):
        attempt.begun = True
        return sent.left(event) if attempt.repeatable else event
    if again and attempt.begun:
        if isinstance(event, Done):
            sent.check_complete()
        elif isinstance(event, Progress):
            return None
    return event


def _may_ask_again(error: RunnerDied, attempt: Attempt, tries: int) -> bool:
    most = 2 if isinstance(error, RunnerGone) or error.exit_code in _CRASHES else TRIES
    if tries >= most:
        return False
    return attempt.repeatable if attempt.begun else isinstance(error, RunnerGone | NodeGone)


def _given_up(error: RunnerDied, attempt: Attempt, telemetry: Telemetry) -> RunnerDied:
    if not attempt.begun:
        return error
    telemetry.resumed("given up" if attempt.repeatable else "by chance")
    if attempt.repeatable:
        return AnswerCutShort(error, "it was tried in vain")
    return AnswerCutShort(error, "it was drawn by chance, with neither a seed nor temperature 0")
