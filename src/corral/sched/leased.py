"""A runner's client as one lease sees it: calls end with the lease, and with its cancellation by somebody else.

`scheduler.py` wraps the client for every grant. DELETE /api/requests/{id} must end a request at once, yet its holder is
an async generator that different tasks may drive (the handler takes the first event, the response the others), so there
is no task to cancel for good. What is cancelled is the one call that is under way, in whatever task it is awaited; the
CancelledError becomes the lease's error at that same await, as `asyncio.timeout` does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from corral.errors import CorralError, NodeGone, RunnerDied, RunnerGone
from corral.runner.gathering import GATHER_S
from corral.runner.slotcopies import PromptTokens
from corral.runner.slothold import SlotHold

T = TypeVar("T")
_CLOSE_DEADLINE_S = 5.0


class LeasedPlace:
    """A `SlotHold` whose waiting ends with the lease; without one, nothing is shared and nothing is waited for."""

    def __init__(
        self, hold: SlotHold | None = None, client: Any = None, guard: Callable[..., Any] | None = None
    ) -> None:
        self._hold = hold
        self._client = client
        self._guard: Any = guard

    @property
    def next_stop(self) -> int | None:
        """SlotHold.next_stop."""
        return None if self._hold is None else self._hold.next_stop

    @property
    def source(self) -> str:
        """SlotHold.source."""
        return "slot" if self._hold is None else self._hold.source

    async def settle(self, body: dict[str, Any], tokens: PromptTokens, *, gives_way: bool) -> None:
        """SlotHold.settle."""
        if self._hold is not None:
            await self._guard(self._hold.settle(self._client, body, tokens, gives_way=gives_way), answers=False)

    async def hand_over(self, read: int) -> None:
        """SlotHold.hand_over."""
        if self._hold is not None:
            await self._guard(self._hold.hand_over(self._client, read))

    def found(self, tokens: int, of: int) -> None:
        """SlotHold.found."""
        if self._hold is not None:
            self._hold.found(tokens, of)

    def end_reading(self) -> None:
        """SlotHold.end_reading."""
        if self._hold is not None:
            self._hold.end_reading()


class LeasedRunner:
    """Forwards every attribute to the client; coroutines and async iterators are guarded.

    hold: what says in which slot the calls are made that leave something in one. kept: the runner was there before;
    when it dies before it answers anything, the error is RunnerGone.
    """

    def __init__(self, client: Any, hold: SlotHold | None = None, *, kept: bool = False) -> None:
        self._client = client
        self._hold = hold
        self.may_be_gone = kept  # it has answered nothing yet
        self._error: CorralError | None = None
        self._awaiting: set[asyncio.Task[Any]] = set()
        self._aborted: set[asyncio.Task[Any]] = set()
        self._streams: set[AsyncGenerator[Any, None]] = set()

    def __repr__(self) -> str:
        return f"LeasedRunner({self._client!r}, calls={len(self._awaiting)}, streams={len(self._streams)})"

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        return self._guarded_call(attribute) if callable(attribute) else attribute

    @property
    def owner(self) -> str | None:
        """Whose request it is, where keys are separated; None = nobody's, for whom nothing is kept."""
        return "" if self._hold is None else self._hold.owner or None

    @property
    def place(self) -> LeasedPlace:
        """The lease's share in the slots, for those who read its prompt."""
        return LeasedPlace(self._hold, self._client, self._guard)

    def completion(self, body: dict[str, Any], gather_s: float = GATHER_S) -> AsyncIterator[dict[str, Any]]:
        """RunnerClient.completion."""
        return self._stream(self._client.completion, body, gather_s)

    def chat(self, body: dict[str, Any], gather_s: float = GATHER_S) -> AsyncIterator[dict[str, Any]]:
        """RunnerClient.chat."""
        return self._stream(self._client.chat, body, gather_s)

    async def systemone(self, body: dict[str, Any]) -> dict[str, Any]:
        """RunnerClient.systemone."""
        call = self._guarded_call(self._client.systemone)
        async with self._hold.alone(self._client) if self._hold else contextlib.nullcontext():
            answer: dict[str, Any] = await call(body)
            return answer

    def end(self, error: CorralError, *, abort_calls: bool) -> None:
        """All further calls raise `error`; those under way too if `abort_calls`."""
        self._error = self._error or error
        if abort_calls:
            for task in self._awaiting - self._aborted:
                self._aborted.add(task)
                task.cancel()

    async def close(self) -> None:
        """Close the streams that the holder left open, so that the engine stops generating for nobody."""
        streams, self._streams = self._streams, set()
        for stream in streams:
            with contextlib.suppress(CorralError, TimeoutError, RuntimeError):
                async with asyncio.timeout(_CLOSE_DEADLINE_S):
                    await stream.aclose()
        if self._hold is not None:
            self._hold.leave()

    def _guarded_call(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self._guard(result) if inspect.isawaitable(result) else result

        return call

    async def _stream(
        self,
        call: Callable[[dict[str, Any], float], AsyncGenerator[dict[str, Any], None]],
        body: dict[str, Any],
        gather_s: float,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a call in the lease's slot. One layer for each token: every other one would cost."""
        hold = self._hold
        if hold is not None:
            body = {**body, **await self._guard(hold.fields(self._client, body), answers=False)}
        source = call(body, gather_s)
        self._streams.add(source)
        try:
            while True:
                try:
                    with _Guarded(self):
                        event = await anext(source)
                except StopAsyncIteration:
                    return
                if hold is not None:
                    hold.reached()
                yield event
        finally:
            self._streams.discard(source)
            await source.aclose()

    async def _guard(self, call: Awaitable[T], *, answers: bool = True) -> T:
        """answers: that it ends says that the runner is there."""
        try:
            with _Guarded(self, answers=answers):
                return await call
        finally:
            if inspect.iscoroutine(call):
                call.close()  # one that was never awaited; else nothing

    def _told(self, error: CorralError) -> CorralError:
        if self.may_be_gone and isinstance(error, RunnerDied) and not isinstance(error, NodeGone):
            return RunnerGone(error.exit_code, error.last_lines)
        return error


class _Guarded:
    """One await of a lease's: within the block the task that is in it can be told of the lease's end."""

    __slots__ = ("_answers", "_cancelling", "_is_inner", "_runner", "_task")

    def __init__(self, runner: LeasedRunner, *, answers: bool = True) -> None:
        self._runner = runner
        self._answers = answers

    def __enter__(self) -> None:
        runner, task = self._runner, asyncio.current_task()
        assert task is not None
        if runner._error is not None:
            raise runner._told(runner._error).with_traceback(None)
        self._task, self._cancelling = task, task.cancelling()
        self._is_inner = task in runner._awaiting
        runner._awaiting.add(task)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        runner, task = self._runner, self._task
        was_aborted = task in runner._aborted
        if not self._is_inner:
            runner._awaiting.discard(task)
            runner._aborted.discard(task)
        if error is None:
            runner.may_be_gone = runner.may_be_gone and not self._answers
        elif isinstance(error, RunnerDied):
            raise runner._told(error) from None
        elif was_aborted and isinstance(error, asyncio.CancelledError) and self._is_ours(task):
            assert runner._error is not None
            raise runner._error.with_traceback(None) from None

    def _is_ours(self, task: asyncio.Task[Any]) -> bool:
        """Whether nobody else has cancelled it too: a client that leaves at the same moment stays a cancellation."""
        return task.uncancel() <= self._cancelling
