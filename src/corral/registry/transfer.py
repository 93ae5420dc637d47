"""`BlobDownload`: one blob from a registry into the store. Pull runs it, shared, through inflight.py.

Several ranges at once write in place into `<blob>-partial`; beside each part its progress is remembered (parts.py), so
that a kill costs only what was not yet written. A hash follows the finished front of the file while the rest still
arrives. The bytes get the blob's name after their digest has been checked, never before.

| met on the way                        | what happens                                                              |
|---------------------------------------|---------------------------------------------------------------------------|
| cut, stall, reset                     | the part goes on from its last byte; failures without progress count      |
| 200 to a Range, 416, a wrong range    | the blob starts over, in one stream without ranges                        |
| sizes that contradict the manifest    | refused                                                                   |
| wrong bytes                           | deleted; once more from the start, then DigestMismatch                    |
| no more tries, 4xx                    | the next mirror, with what is there so far; after the last the error      |
| full disk                             | NotEnoughSpace; the partial file is deleted                               |
| cancelled                             | what has arrived is written and remembered                                |
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import IO

import aiohttp
from yarl import URL

from corral.aio import run_settled
from corral.errors import CorralError, DigestMismatch, NotEnoughSpace, RegistryError
from corral.names import Digest
from corral.registry import parts as part_files
from corral.registry.client import RegistryClient, Repository, Unreachable
from corral.registry.parts import Part
from corral.registry.rate import RateLimit
from corral.store.blobs import BlobStore
from corral.store.files import writing_to_store

_log = logging.getLogger(__name__)

_WRITE_BYTES = 2**20
_SYNC_BYTES = 64 * 2**20
_FLUSH_S = 1.0  # a slow stream is written this often even when it has less than _WRITE_BYTES
_HASH_STEP_BYTES = 16 * 2**20
_HASH_CHUNK_BYTES = 2**20
_LOCK_RETRY_S = 0.5
MAX_STREAMS = 16
_CONTENT_RANGE = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+|\*)\Z")


class _StartOver(Exception):
    """The server cannot continue where we stopped."""


@dataclass(frozen=True, slots=True)
class Downloading:
    """What all downloads of a server share."""

    client: RegistryClient
    blobs: BlobStore
    rate: RateLimit
    streams: int


class BlobDownload:
    """One blob on its way; `completed` of `size` bytes have arrived. `run` once."""

    def __init__(self, shared: Downloading, digest: Digest, size: int, sources: Sequence[Repository]) -> None:
        assert sources, "a blob needs at least one source"
        self.digest = digest
        self.size = size
        self._shared = shared
        self._sources = sources
        self._streams = max(1, min(MAX_STREAMS, shared.streams))
        self._partial = shared.blobs.partial_path(digest)
        self._parts: list[Part] = []
        self._hash = hashlib.sha256()
        self._hashed = 0  # bytes from the start that are in the hash
        self._grown = asyncio.Event()
        self._direct: URL | None = None  # where the current source redirected to; asked again when it refuses

    @property
    def completed(self) -> int:
        """Bytes that are in the file; goes back to 0 when the blob has to start over."""
        return sum(part.completed for part in self._parts)

    async def run(self) -> None:
        """Fetch, verify, store. Raises RegistryError, DigestMismatch, NotEnoughSpace."""
        async with self._locked_file() as file:
            if await run_settled(self._is_there):
                return  # another process finished it while we waited for the lock
            await run_settled(self._prepare, file)
            try:
                await self._fetch_verified(file)
            except NotEnoughSpace:
                await run_settled(self._delete)
                raise
            await run_settled(self._adopt)

    @contextlib.asynccontextmanager
    async def _locked_file(self) -> AsyncIterator[IO[bytes]]:
        while True:
            context = self._shared.blobs.partial(self.digest)
            file = await run_settled(context.__enter__)
            try:
                if file is not None:
                    yield file
                    return
            finally:
                await run_settled(context.__exit__, None, None, None)
            await asyncio.sleep(_LOCK_RETRY_S)  # flock has no event to wait for; only another process can hold it

    def _is_there(self) -> bool:
        blobs = self._shared.blobs
        if blobs.has(self.digest) and blobs.size(self.digest) == self.size:
            self._parts = [Part(0, 0, self.size, self.size)]
            self._delete()
            return True
        return False

    def _prepare(self, file: IO[bytes]) -> None:
        self._parts = part_files.load(self._partial, self.size, streams=self._streams)
        self._shared.blobs.check_space(self.size - self.completed)
        with writing_to_store(self._shared.blobs.root, self.size):
            os.ftruncate(file.fileno(), self.size)
            part_files.save_all(self._partial, self._parts)

    def _adopt(self) -> None:
        with writing_to_store(self._shared.blobs.root, self.size):
            self._shared.blobs.adopt(self._partial, self.digest)
        part_files.forget(self._partial)

    def _delete(self) -> None:
        self._partial.unlink(missing_ok=True)
        part_files.forget(self._partial)

    async def _fetch_verified(self, file: IO[bytes]) -> None:
        """Go through the sources until the bytes are right; the last one gets a second chance at wrong bytes."""
        sources, is_last_chance = deque(self._sources), False
        while True:
            problem = await self._try_source(sources[0], file)
            if problem is None:
                return
            is_wrong = isinstance(problem, DigestMismatch)
            if is_wrong and len(sources) == 1 and not is_last_chance:
                is_last_chance = True
                continue
            sources.popleft()
            if not sources:
                if is_wrong:
                    await run_settled(self._delete)
                raise problem

    async def _try_source(self, source: Repository, file: IO[bytes]) -> CorralError | None:
        """What went wrong; None when the bytes are there and right. Wrong bytes are gone afterwards."""
        self._direct = None
        try:
            await self._fetch_with_restarts(source, file)
        except RegistryError as error:
            _log.info("blob %s from %s: %s", self.digest.short, source.place, error)
            return error
        got = Digest(self._hash.hexdigest())
        if got == self.digest:
            return None
        place = source.place
        _log.warning("blob %s from %s has the digest %s; these bytes are thrown away", self.digest, place, got)
        is_foreign = self._direct is not None
        await run_settled(self._start_over, file, self._streams)
        # What lies behind a redirect is not told: the registry may have chosen a place that only we can see.
        told = "" if is_foreign else f", got {got}"
        text = f"digest mismatch, file must be downloaded again: want {self.digest}{told}"
        return DigestMismatch(str(self.digest), str(got), text)

    async def _fetch_with_restarts(self, source: Repository, file: IO[bytes]) -> None:
        for _ in range(self._shared.client.policy.tries):
            try:
                return await self._fetch(source, file)
            except _StartOver:
                await run_settled(self._start_over, file, 1)
        raise RegistryError(f"blob {self.digest} was cut too often, and the registry cannot continue where it was cut")

    def _start_over(self, file: IO[bytes], streams: int) -> None:
        part_files.forget(self._partial)
        with writing_to_store(self._shared.blobs.root, self.size):
            os.ftruncate(file.fileno(), 0)
            os.ftruncate(file.fileno(), self.size)
        self._parts = part_files.plan(self.size, streams=streams)
        self._hash, self._hashed = hashlib.sha256(), 0

    async def _fetch(self, source: Repository, file: IO[bytes]) -> None:
        """All missing parts, the lower ones first, and the hash over everything."""
        waiting = deque(part for part in self._parts if not part.is_done)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hash_along(file))
                for _ in range(min(self._streams, len(waiting))):
                    group.create_task(self._work(source, file, waiting))
        except ExceptionGroup as failed:
            raise _gravest(failed) from None

    async def _work(self, source: Repository, file: IO[bytes], waiting: deque[Part]) -> None:
        while waiting:
            await self._fetch_part(source, file, waiting.popleft())

    async def _fetch_part(self, source: Repository, file: IO[bytes], part: Part) -> None:
        policy, failures = self._shared.client.policy, 0
        while not part.is_done:
            before = part.completed
            try:
                await self._attempt(source, file, part)
                problem = "unexpected EOF"
            except (aiohttp.ClientError, TimeoutError, Unreachable) as error:
                problem = str(error) or type(error).__name__
            if part.completed > before:
                failures = 0
            if part.is_done:
                return
            failures += 1
            if failures >= policy.tries:
                raise RegistryError(f"max retries exceeded: {problem}")
            if part.completed == before or failures > 1:
                await policy.sleep(policy.delay_s(failures))

    async def _attempt(self, source: Repository, file: IO[bytes], part: Part) -> None:
        whole = part.completed == 0 and part.size == self.size
        headers = {"Accept-Encoding": "identity"}
        if not whole:
            headers["Range"] = f"bytes={part.start}-{part.end - 1}"
        canonical = source.url("blobs", str(self.digest))
        url = self._direct or canonical
        try:
            async with self._shared.client.open(source, "GET", url, headers=headers, is_patient=False) as response:
                self._check(response, part, whole=whole, told=source.owns(response.url))
                self._direct = None if response.url == canonical else response.url
                await self._receive(response, file, part)
        except RegistryError as error:
            if error.status == 416:
                raise _StartOver from error
            if url == canonical or not error.status:
                raise
            self._direct = None  # a signed URL that has expired, most likely: ask the registry for a new one

    def _check(self, response: aiohttp.ClientResponse, part: Part, *, whole: bool, told: bool) -> None:
        """Refuse answers that are not the bytes asked for; `told`: say how many there are. Raises _StartOver,
        RegistryError.
        """
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() and "Content-Encoding" not in response.headers else None
        if response.status == 206:
            match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            if not match:
                raise _StartOver
            total = None if match[3] == "*" else int(match[3])
            if total in {None, self.size} and int(match[1]) != part.start:
                raise _StartOver
        elif total in {None, self.size} and not whole:
            raise _StartOver
        if total is not None and total != self.size:
            has = f"{total} bytes" if told else "another size"
            raise _WrongSize(f"blob {self.digest} has {has}, the manifest says {self.size}")

    async def _receive(self, response: aiohttp.ClientResponse, file: IO[bytes], part: Part) -> None:
        """Take the body, writing behind the reading: what aiohttp still buffers when a connection breaks is lost."""
        rate, clock = self._shared.rate, asyncio.get_running_loop().time
        chunks: list[bytes] = []
        received, written, written_at = part.completed, part.completed, clock()
        writing: asyncio.Task[None] | None = None
        try:
            async for data in _pieces(response.content, rate):
                chunks.append(data[: part.size - received])
                received += len(chunks[-1])
                if received >= part.size:
                    return  # more than asked for is not read; whether these bytes are right, the digest says
                await rate.take(len(data))
                if received - written >= _WRITE_BYTES or clock() - written_at >= _FLUSH_S:
                    if writing is not None:
                        await writing
                    writing = asyncio.create_task(self._write(file, part, chunks))
                    chunks, written, written_at = [], received, clock()
        finally:
            if writing is not None:
                await writing
            if chunks:
                await self._write(file, part, chunks)

    async def _write(self, file: IO[bytes], part: Part, chunks: list[bytes]) -> None:
        await run_settled(self._write_now, file, part, chunks)
        self._grown.set()

    def _write_now(self, file: IO[bytes], part: Part, chunks: list[bytes]) -> None:
        position = part.start
        with writing_to_store(self._shared.blobs.root, self.size - position):
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    count = os.pwrite(file.fileno(), view, position)
                    view, position = view[count:], position + count
            if position // _SYNC_BYTES != part.start // _SYNC_BYTES:
                os.fdatasync(file.fileno())  # while others receive, rather than all of it at the end
            part.completed = position - part.offset
            part_files.save(self._partial, part)

    async def _hash_along(self, file: IO[bytes]) -> None:
        while self._hashed < self.size:
            self._grown.clear()
            front = self._front()
            if front == self._hashed:
                await self._grown.wait()
            else:
                await run_settled(self._hash_to, file, min(front, self._hashed + _HASH_STEP_BYTES))

    def _front(self) -> int:
        """How many bytes from the start are there without a gap."""
        for part in self._parts:
            if not part.is_done:
                return part.start
        return self.size

    def _hash_to(self, file: IO[bytes], end: int) -> None:
        buffer = memoryview(bytearray(_HASH_CHUNK_BYTES))
        while self._hashed < end:
            count = os.preadv(file.fileno(), [buffer[: end - self._hashed]], self._hashed)
            if not count:
                raise RegistryError(f"the partial file of blob {self.digest} was cut while it was read")
            self._hash.update(buffer[:count])
            self._hashed += count


class _WrongSize(RegistryError):
    """A registry whose sizes contradict each other; status 0, so that no other URL of it is tried."""


async def _pieces(content: aiohttp.StreamReader, rate: RateLimit) -> AsyncIterator[bytes]:
    """The body as it comes, uncopied; in smaller pieces under a rate limit."""
    if rate.is_limited:
        async for data in content.iter_chunked(rate.chunk_bytes):
            yield data
    else:
        async for data, _ in content.iter_chunks():
            yield data


def _gravest(failed: ExceptionGroup[Exception]) -> Exception:
    """The error to report when several parts failed at once: a full disk, then a restart, then the first."""
    flat = [error for error in failed.exceptions if not isinstance(error, ExceptionGroup)]
    for kind in (NotEnoughSpace, _StartOver):
        for error in flat:
            if isinstance(error, kind):
                return error
    return flat[0] if flat else failed
