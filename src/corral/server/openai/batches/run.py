"""One batch on its way: its input read, its lines asked, its results written to files. lane.py has one per batch.

| status      | what is done                                                        | killed in the middle            |
|-------------|---------------------------------------------------------------------|---------------------------------|
| validating  | the input is read through; no lines, or too many: failed            | begins anew                     |
| in_progress | lines are asked, several at once; each result goes to the journal   | goes on with lines not in it    |
| cancelling  | what is being asked is given up                                     | goes on with finalizing's work  |
| finalizing  | the journal becomes the output file and the error file              | both are written anew           |
| completed, expired, cancelled, failed: the end; the input's link and the journal are deleted                        |

A line that had to give way, or found the server full or closing, is asked again; one whose engine failed, three times.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from corral.aio import run_blocking, run_settled
from corral.api.batches import (
    BatchError,
    BatchErrors,
    BatchObject,
    ExpiresAfter,
    LineAnswer,
    LineError,
    LineResult,
    RequestCounts,
)
from corral.errors import BodyTooLarge, NotEnoughSpace
from corral.server.openai.batches.asking import Answered
from corral.server.openai.batches.journal import Journal
from corral.server.openai.batches.lines import MAX_LINES, Input, Line, read_input, read_line
from corral.server.openai.batches.store import BatchStore
from corral.server.openai.encoding import encode_json, new_id, ordered_id
from corral.server.openai.files.store import FileStore

log = logging.getLogger(__name__)

Ask = Callable[[str, dict[str, Any], int], Awaitable[Answered]]  # (endpoint, body, times given way) -> answer
_MOST_ERRORS = 100  # named in the batch; every one has its line in the error file
_TRIES = 3
_PAUSES_S = (0.05, 0.5, 2.0, 5.0, 10.0)
_NOT_NOW = 503
_End = Literal["completed", "cancelled", "expired"]


class BatchRun:
    """One batch. `batch` is as clients see it, up to date."""

    def __init__(
        self, batch: BatchObject, store: BatchStore, files: FileStore, ask: Ask, workers: Callable[[], int]
    ) -> None:
        """workers: how many lines may be under way now; may grow at any time, as nodes join."""
        self.batch = batch
        self._store = store
        self._files = files
        self._ask = ask
        self._workers = workers
        self._cancelled = asyncio.Event()
        self._writing = asyncio.Lock()
        self._source = Input(self._input, batch.endpoint)
        self._journal: Journal | None = None

    @property
    def _input(self) -> Path:
        return self._store.place(self.batch.id) / "input.jsonl"

    async def cancel(self) -> None:
        """Ask no more lines. Returns when that is kept."""
        self.batch.status, self.batch.cancelling_at = "cancelling", _now()
        await run_settled(self._store.save, self.batch)
        self._cancelled.set()

    async def run(self) -> None:
        """Bring the batch to its end. Cancellation leaves it to be gone on with; other errors make it fail."""
        try:
            await self._run()
        except (NotEnoughSpace, BodyTooLarge) as error:
            await self._fail("no_space", str(error))
        except Exception:
            log.exception("batch %s has failed", self.batch.id)
            await self._fail("internal_error", "the batch could not be carried on: see the server log")
        finally:
            if self._journal is not None:
                await run_settled(self._journal.close)

    async def _run(self) -> None:
        batch = self.batch
        self._source = await run_blocking(read_input, self._input, batch.endpoint)
        if batch.status == "validating":
            if wrong := _wrong_as_a_whole(self._source):
                await self._fail(*wrong)
                return
            await self._become("in_progress")
        self._journal = await run_blocking(Journal, self._store.place(batch.id) / "results", len(self._source))
        self._count()
        end: _End = "cancelled" if batch.status == "cancelling" else "completed"
        if batch.status == "in_progress":
            end = await self._answer_all()
        await self._finish(end)

    # ---- asking

    async def _answer_all(self) -> _End:
        """Ask what has no result yet, until all have one, the time is over, or somebody cancels."""
        work = asyncio.ensure_future(self._work_off())
        cancelled = asyncio.ensure_future(self._cancelled.wait())
        try:
            left_s = max(0.0, self.batch.expires_at - time.time())
            await asyncio.wait({work, cancelled}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                return "completed"
            return "cancelled" if cancelled.done() else "expired"
        finally:
            for task in (work, cancelled):
                task.cancel()
            await asyncio.gather(work, cancelled, return_exceptions=True)

    async def _work_off(self) -> None:
        assert self._journal is not None
        left = iter([index for index in range(len(self._source)) if index not in self._journal])
        started = 0
        async with asyncio.TaskGroup() as group:

            def start_more() -> None:
                nonlocal started
                while started < self._workers():
                    started += 1
                    group.create_task(self._work(left, start_more))

            start_more()

    async def _work(self, left: Iterator[int], start_more: Callable[[], None]) -> None:
        for index in left:
            start_more()
            found = await run_blocking(read_line, self._source, index)
            if isinstance(found, Line):
                answer = await self._answer(found)
                response = LineAnswer(answer.status, new_id("req_"), answer.body)
                result = LineResult(new_id("batch_req_"), found.custom_id, response, None)
            else:
                result = LineResult(new_id("batch_req_"), found[0], None, found[1])
                self._tell(found[1])
            await self._keep(index, result)

    async def _answer(self, line: Line) -> Answered:
        tries = given_way = refused = 0
        while True:
            answer = await self._ask(self.batch.endpoint, line.body, given_way)
            if answer.status == _NOT_NOW:
                refused, given_way = refused + answer.later, given_way + (not answer.later)
                await asyncio.sleep(_PAUSES_S[min(refused, len(_PAUSES_S) - 1)])
                continue
            tries += 1
            if answer.status < 500 or tries == _TRIES:
                return answer
            log.warning("batch %s: a line got %d, and is asked again", self.batch.id, answer.status)

    async def _keep(self, index: int, result: LineResult) -> None:
        assert self._journal is not None
        answered = result.response is not None and result.response.status_code == 200
        data = await run_blocking(encode_json, result)
        async with self._writing:
            self._files.check_results(self._journal.size_bytes + len(data))
            await run_settled(self._journal.append, index, data, answered=answered)
        self._count()

    def _tell(self, error: LineError) -> None:
        self.batch.errors = self.batch.errors or BatchErrors(data=[])
        if len(self.batch.errors.data) < _MOST_ERRORS:
            self.batch.errors.data.append(BatchError(error.code, error.message, error.line))

    def _count(self) -> None:
        assert self._journal is not None
        self.batch.request_counts = RequestCounts(len(self._source), self._journal.ok, self._journal.failed)

    # ---- the end

    async def _finish(self, end: _End) -> None:
        assert self._journal is not None
        batch = self.batch
        self._count()  # a result may have been kept by a worker that was given up
        if end == "expired":
            await run_settled(self._expire)
        batch.output_file_id = ordered_id("file-") if self._journal.ok else None
        batch.error_file_id = ordered_id("file-") if self._journal.failed else None
        if end == "cancelled":
            await run_settled(self._store.save, batch)
        else:
            await self._become("finalizing")
        await run_settled(self._write_files)
        await self._become(end)
        await run_settled(self._store.forget_work, batch.id)

    def _expire(self) -> None:
        """A result for every line that was not asked in time."""
        assert self._journal is not None
        for index, number in enumerate(self._source.numbers):
            if index not in self._journal:
                found = read_line(self._source, index)
                custom_id = found.custom_id if isinstance(found, Line) else found[0]
                error = LineError("batch_expired", "the batch's completion window has ended before this line", number)
                result = encode_json(LineResult(new_id("batch_req_"), custom_id, None, error))
                self._journal.append(index, result, answered=False, durable=False)
        self._count()

    def _write_files(self) -> None:
        assert self._journal is not None
        for file_id, kind in ((self.batch.output_file_id, "output"), (self.batch.error_file_id, "error")):
            if file_id is not None:
                temporary = self._files.folder / f".corral-tmp-{file_id}"
                self._journal.write(temporary, answered=kind == "output")
                name = f"{self.batch.id}_{kind}.jsonl"
                after = self.batch.output_expires_after
                expires_after_s = after.seconds if isinstance(after, ExpiresAfter) else 0
                self._files.add(
                    file_id,
                    temporary,
                    name=name,
                    purpose="batch_output",
                    expires_after_s=expires_after_s,
                    bounded=False,
                )

    async def _become(self, status: str) -> None:
        self.batch.status = status
        setattr(self.batch, f"{status}_at", _now())
        await run_settled(self._store.save, self.batch)

    async def _fail(self, code: str, message: str) -> None:
        """The end of a batch that cannot go on; what it has so far is written, where that is possible."""
        self.batch.errors = self.batch.errors or BatchErrors(data=[])
        self.batch.errors.data.insert(0, BatchError(code, message))
        if self._journal is not None and not self.batch.output_file_id:
            self.batch.output_file_id = ordered_id("file-") if self._journal.ok else None
            self.batch.error_file_id = ordered_id("file-") if self._journal.failed else None
            try:
                await run_settled(self._write_files)
            except (NotEnoughSpace, OSError):
                self.batch.output_file_id = self.batch.error_file_id = None
        with suppress(NotEnoughSpace, OSError):
            await self._become("failed")
            if self.batch.output_file_id or self._journal is None:
                await run_settled(self._store.forget_work, self.batch.id)


def _wrong_as_a_whole(source: Input) -> tuple[str, str] | None:
    """Code and text of what makes an input unusable."""
    if source.too_many:
        return "too_many_requests", f"the input has more than {MAX_LINES} lines"
    return None if len(source) else ("empty_file", "the input has no lines")


def _now() -> int:
    return int(time.time())
