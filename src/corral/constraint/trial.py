"""`Trial`: compiles grammars for real before the engine gets them, in a child with limits. Owned by `inference/`.

The engine answers a grammar that it cannot compile without any grammar, so what it would say has to be known first. Its
compiler is llguidance; the same version of it, as a library, runs in compiler.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import selectors
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

from corral.errors import QueueFull

_WALL_S = 60.0  # the limit that counts is on processor time, compiler.CPU_S
_KEPT = 512  # verdicts; agents send the same tools with every request
_MOST_WAITING = 64
_LEFT = (0, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)  # exit codes that are no verdict
_TOO_SLOW = "it takes too long to compile"
_TOO_LARGE = "it takes too much memory to compile"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a grammar, "" if nothing is; the line of its text, 0 = not known.

    unsatisfiable: it compiles, but no text matches what stands on that line.
    """

    fault: str = ""
    line: int = 0
    unsatisfiable: bool = False


class Trial:
    """One child, started when it is first needed; one grammar at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._kept: OrderedDict[bytes, Verdict] = OrderedDict()
        self._waiting = 0
        # A thread of its own: a grammar may take seconds, which the executor of aio.py must not be waiting for.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="corral-trial")

    async def check(self, grammar: str) -> Verdict:
        """The verdict on a grammar; raises QueueFull when too many wait for theirs."""
        key = sha256(grammar.encode("utf-8", "surrogatepass")).digest()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if self._waiting >= _MOST_WAITING:
            raise QueueFull(_MOST_WAITING)
        self._waiting += 1
        try:
            verdict = await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, grammar)
        finally:
            self._waiting -= 1
        self._kept[key] = verdict
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return verdict

    def close(self) -> None:
        """End the child. Blocking, for some milliseconds."""
        process = self._process
        if process is not None:
            process.kill()
            self._thread.submit(self._end).result()
        self._thread.shutdown()

    def _ask(self, grammar: str) -> Verdict:
        line = json.dumps({"grammar": grammar}).encode() + b"\n"
        for _ in range(2):  # a child that had nothing to do may just have left
            process = self._started()
            assert process.stdin is not None
            try:
                process.stdin.write(line)
                process.stdin.flush()
            except OSError:
                self._end()
                continue
            answer = self._read(process)
            if answer:
                return Verdict(**json.loads(answer))
            code = self._end()
            if code not in _LEFT:
                return Verdict(_TOO_SLOW if code in (-signal.SIGPROF, -signal.SIGKILL) else _TOO_LARGE)
        raise OSError("the grammar compiler does not start")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "corral.constraint.compiler"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return self._process

    def _read(self, process: subprocess.Popen[bytes]) -> bytes:
        """A line of the child's; b"" when it ended, or was ended because it takes too long."""
        assert process.stdout is not None
        deadline = time.monotonic() + _WALL_S
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(deadline - time.monotonic()):
                process.kill()
        return process.stdout.readline()

    def _end(self) -> int:
        """The exit code of the child, which is gone then."""
        process, self._process = self._process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what was left to write has no reader
                pipe.close()
        try:
            return process.wait(1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
