"""The server's grip on one runner process: spawn, wait until ready, watch, stop, reap. Used by sched/.

States, and what each call does from each:

            | start()          | stop()                    | process exits
  stopped   | spawn → starting | nothing                   | –
  starting  | error            | kill → dead               | dead; start() raises RunnerFailedToStart
  ready     | error            | ask, TERM, KILL → dead    | dead; calls raise RunnerDied or RunnerHung
  stopping  | error            | waits for the same end    | dead
  dead      | error            | nothing                   | –

One task per process, `_tend`, drains its output, reaps it and alone writes `dead`. A handle serves one process; a
new runner is a new handle.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from corral.aio import run_blocking
from corral.errors import (
    ChatTemplateUnusable,
    CorralError,
    RunnerDied,
    RunnerError,
    RunnerFailedToStart,
    RunnerHung,
    RunnerKilled,
    RunnerMisbehaved,
    RunnerOutgrown,
)
from corral.runner.client import RunnerClient
from corral.runner.endpoint import UnixSocket
from corral.runner.enginefiles import EngineFiles, OnProgress, Opened
from corral.runner.job import Job, Message
from corral.runner.logs import EngineLog
from corral.runner.output import ChildOutput
from corral.runner.slotfiles import SlotFiles
from corral.runner.spec import LaunchOptions, RunnerInfo, RunnerMemory, RunnerSpec, SandboxReport
from corral.runner.usage import UsageWatch, resident_bytes
from corral.runner.watch import Watchdog

_LOG = logging.getLogger(__name__)
_EXPLAIN_WAIT_S = 3.0  # a broken connection is noticed before the process is reaped
_FAILED_WAIT_S = 20.0  # a child that says it failed ends at once, on a busy host a little later
_PROPS_TIMEOUT_S = 60.0
_LOG_LAG_S = 0.5  # a line may come later than an answer that was sent after it
_WINDOW_STEP = 256  # llama.cpp rounds windows up to this
_ASK_SHARE = 0.5  # of the grace, before SIGTERM
_PROBE_S = (0.02, 0.5)  # first and longest wait between two looks at an external engine's /health


class State(enum.Enum):
    """See the table at the top of this file."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    DEAD = "dead"


class RunnerHandle:
    """One runner. `options.dir` is this runner's own directory here; it is made by start() and removed at the end.

    `files` finds or makes what the engine opens in the place of the spec's blobs; None = it opens these.
    `closed` is set when the process is gone and reaped (at once if it was never spawned).
    """

    def __init__(self, spec: RunnerSpec, options: LaunchOptions, files: EngineFiles | None = None) -> None:
        self.spec = spec
        self.options = options
        self._files = files
        self.state = State.STOPPED
        self.closed = asyncio.Event()
        self.exit_code: int | None = None
        self.info = RunnerInfo()
        self.socket_path = options.dir / "s.sock"
        self.client = RunnerClient(UnixSocket(self.socket_path), self._explain)
        self.client.connections.on_misbehaviour = self._end_alive
        self._log = EngineLog({str(path): path.name for path in spec.readable_paths})
        self._log.on_grammar_lost = self.client.note_grammar_lost
        self._output = ChildOutput(self._log)
        self._failure: CorralError | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._tending: asyncio.Task[None] | None = None
        self._watchdog: Watchdog | None = None
        self._usage: UsageWatch | None = None
        self._slot_files = SlotFiles()
        self._ended_at = 0.0

    def __repr__(self) -> str:
        return f"<RunnerHandle {self.spec.model_path.name} {self.state.value} pid={self.pid}>"

    @property
    def pid(self) -> int | None:
        """The process while it lives."""
        return self._process.pid if self._process is not None and not self.closed.is_set() else None

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The end of the engine's log, without server paths; once it has served, only what says why it ended."""
        if self._log.is_loading:
            return self._log.tail()
        return self._log.last_words(self._ended_at or time.monotonic(), self.client.calls.last_progress - _LOG_LAG_S)

    def memory(self) -> RunnerMemory:
        """What the process holds now. Reads /proc: call it through run_blocking."""
        return self._log.memory(*resident_bytes(self.pid))

    async def start(self, on_progress: OnProgress | None = None) -> None:
        """Spawn the process and wait until it serves; `on_progress` hears of files that are made for it first.

        Raises RunnerFailedToStart, and what EngineFiles.open raises. After an error or a cancellation the process is
        gone and reaped.
        """
        if self.state is not State.STOPPED:
            raise RunnerError(f"a runner starts once; this one is {self.state.value}")
        self.state = State.STARTING
        try:
            opened = await self._open(on_progress)
            began = time.monotonic()
            await self._spawn(opened)
            report = await self._wait_ready()
            await self._describe(report, time.monotonic() - began)
            await run_blocking(self._settle)
            if self.state is not State.STARTING:  # stop() came in between
                raise self._failed_load()
        except BaseException:
            await asyncio.shield(self._kill())
            raise
        self.state = State.READY
        self._watchdog = Watchdog(
            self.client,
            self.pid or 0,
            self.options.hang_timeout_s,
            self._hung,
            answers_in_steps=not self.options.llama_server,
        )

    async def stop(self, grace_s: float = 5.0) -> None:
        """End the process: close its stdin, then SIGTERM, then SIGKILL. Returns when it is reaped, never raises.

        Calls in flight end with RunnerDied. Cancelling the wait does not stop the stopping.
        """
        if self.state is State.STOPPED:
            self._finish(None)
        if self.closed.is_set():
            await self.client.close()
            return
        if self.state is not State.STOPPING:
            self.state = State.STOPPING
            await asyncio.shield(asyncio.ensure_future(self._end(grace_s)))
        await self.closed.wait()

    async def _end(self, grace_s: float) -> None:
        if self._process is None:  # being spawned; start() sees the state and gives up
            await self.closed.wait()
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        for wait_s, number in ((grace_s * _ASK_SHARE, signal.SIGTERM), (grace_s * (1 - _ASK_SHARE), signal.SIGKILL)):
            if await _within(self.closed.wait(), wait_s):
                break
            self._signal(number)
        await self._reaped()

    async def _reaped(self) -> None:
        """Until the process is gone and `_tend` has come to its end."""
        if self._tending is not None:
            await asyncio.wait({self._tending})
        await self.client.close()

    async def _kill(self) -> None:
        """The end of a failed start."""
        self._signal(signal.SIGKILL)
        if self._process is None:
            await self._output.finish()
            await run_blocking(self._slot_files.remove, self.options)
            self._finish(None)
        await self._reaped()

    def _signal(self, number: int) -> None:
        if self.pid is not None and self.pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    # ---- spawning

    async def _open(self, on_progress: OnProgress | None) -> Opened:
        opened = Opened(self.spec) if self._files is None else await self._files.open(self.spec, on_progress or _ignore)
        if self.state is not State.STARTING:  # stop() came in between
            opened.close()
            raise self._failed_load()
        names = zip(opened.spec.readable_paths, self.spec.readable_paths, strict=True)
        self._log.hide({str(path): blob.name for path, blob in names})
        return opened

    async def _spawn(self, opened: Opened) -> None:
        log_end, message_end = self._output.open()
        given_bytes = opened.memory_bytes
        try:
            self.options = await run_blocking(self._slot_files.make, self.options)
            job = Job(opened.spec, self.options, self.socket_path, os.getpid(), message_end)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "corral.runner.child",
                stdin=asyncio.subprocess.PIPE, stdout=log_end, stderr=log_end,
                cwd=self.options.dir, env=dict(self.options.environ), pass_fds=(message_end, *opened.descriptors),
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise RunnerFailedToStart(f"error starting llama-server: {error.strerror}") from error
        finally:
            os.close(log_end)
            os.close(message_end)
            opened.close()
        if self.state is not State.STARTING:
            self._signal(signal.SIGKILL)
        self._output.follow()
        self._usage = UsageWatch(self._process.pid, self.options, self._is_busy, self._outgrown, given_bytes)
        self._tending = asyncio.create_task(self._tend(self._process), name=f"runner {self._process.pid}")
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # it died at once; _tend knows
            self._process.stdin.write(job.to_json().encode() + b"\n")
            await self._process.stdin.drain()

    async def _tend(self, process: asyncio.subprocess.Process) -> None:
        """Until the process ends; then clean up after it."""
        exit_code = await process.wait()
        self._ended_at = time.monotonic()
        await self._output.finish()
        for watch in (self._watchdog, self._usage):
            if watch is not None:
                watch.close()
        if exit_code and self._usage is not None and self._usage.at_limit and self.state is not State.STOPPING:
            self._failure = self._failure or RunnerOutgrown("memory", self._usage.limit_bytes, self.last_lines)
        await run_blocking(self._slot_files.remove, self.options)
        self._finish(exit_code)
        await self.client.close()

    def _finish(self, exit_code: int | None) -> None:
        self.exit_code = exit_code
        self.state = State.DEAD
        self.closed.set()

    # ---- becoming ready

    async def _wait_ready(self) -> SandboxReport:
        """Wait for `ready` (or a healthy external engine); any log line restarts the stall limit."""
        gone = asyncio.create_task(self.closed.wait())
        try:
            message = await self._next_message(gone)
            report = SandboxReport()
            if message.event == "sandbox":
                report = SandboxReport(message.active, message.missing)
                if self.options.llama_server:
                    await self._wait_healthy(gone)
                    return report
                message = await self._next_message(gone)
            if message.event == "failed":
                await _within(self.closed.wait(), _FAILED_WAIT_S)
                raise self._failed_load()
            if message.event != "ready":
                raise RunnerFailedToStart("the model runner said what no runner says", self.last_lines)
            return report
        finally:
            gone.cancel()

    async def _next_message(self, gone: asyncio.Task[Any]) -> Message:
        waiting = asyncio.ensure_future(self._output.message())
        try:
            while not waiting.done():
                await asyncio.wait({waiting, gone}, timeout=self._stall_left(), return_when=asyncio.FIRST_COMPLETED)
                if not waiting.done():
                    self._check_alive()
            return waiting.result()
        finally:
            waiting.cancel()

    async def _wait_healthy(self, gone: asyncio.Task[Any]) -> None:
        """Look at /health after every log line, and now and then without one."""
        pause_s = _PROBE_S[0]
        while True:
            if await self.client.health(timeout_s=1.0):
                return
            self._check_alive()
            self._output.moved.clear()
            moved = asyncio.ensure_future(self._output.moved.wait())
            await asyncio.wait({moved, gone}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
            moved.cancel()
            pause_s = min(pause_s * 1.5, _PROBE_S[1])

    def _stall_left(self) -> float | None:
        if math.isinf(self.options.load_timeout_s):
            return None
        return max(0.0, self._output.last_at + self.options.load_timeout_s - time.monotonic())

    def _check_alive(self) -> None:
        if self.closed.is_set():
            raise self._failed_load()
        if self._stall_left() == 0.0:
            raise RunnerFailedToStart("timed out waiting for llama-server to start", self.last_lines)

    def _failed_load(self) -> RunnerFailedToStart:
        """Source of the words: ollama llm/llama_server.go (spec native-api 2.3)."""
        if self._failure is not None:
            starved = isinstance(self._failure, RunnerOutgrown) and self._failure.what == "memory"
            return RunnerFailedToStart(str(self._failure), out_of_memory=starved)
        if self._log.template_error:
            return ChatTemplateUnusable(self._log.template_error)
        code = self.exit_code
        how = "" if code is None else f": signal {-code}" if code < 0 else f": exit status {code}"
        lines = self.last_lines
        starved = code == -signal.SIGKILL or self._log.ran_out_of_memory  # by the kernel, or the engine says so
        return RunnerFailedToStart(f"llama-server process has terminated{how}", lines, out_of_memory=starved)

    async def _describe(self, report: SandboxReport, load_duration_s: float) -> None:
        try:
            props = await self.client.props(_PROPS_TIMEOUT_S)
        except TimeoutError:
            raise RunnerFailedToStart("the model runner does not say what it has loaded", self.last_lines) from None
        except RunnerDied as error:
            raise self._failed_load() from error
        memory = await run_blocking(self.memory)
        # more slots or tokens than were asked for would be promised to clients
        window = props.get("default_generation_settings", {}).get("n_ctx", self.spec.context_window)
        slots = min(props.get("total_slots", self.spec.num_parallel), self.spec.num_parallel)
        self.info = RunnerInfo(
            min(window, _rounded_up(self.spec.context_window)), max(1, slots), props.get("build_info", ""),
            report, memory, load_duration_s, props, Path(self.options.kernels).name,
            bool(self.options.huge_pages),
            self._log.device_error if self.spec.n_gpu_layers else "",
            self.options.kv_copy if self.spec.copies_slots else "",
        )  # fmt: skip
        self._log.loaded()
        if self.info.device_error:
            _LOG.warning("runner %s computes on the CPU: %s", self.pid, self.info.device_error)
        for name, why in report.missing.items():
            _LOG.info("runner %s: %s is not active: %s", self.pid, name, why)

    # ---- failing

    async def _explain(self) -> CorralError:
        """Why a connection broke: waits until the process is reaped, for a while."""
        await _within(self.closed.wait(), _EXPLAIN_WAIT_S)
        if not self.closed.is_set() and self.state is State.READY:
            self._end_alive(RunnerMisbehaved("it hung up in the middle of it"))
        return self.failure

    @property
    def failure(self) -> CorralError:
        """Why a runner that is gone is."""
        return self._failure or RunnerDied(self.exit_code, self.last_lines)

    def _is_busy(self) -> bool:
        return self.state is State.STARTING or len(self.client.calls) > 0

    def _settle(self) -> None:
        """Hold the runner to what it has taken for its load, and some room."""
        if self._usage is not None:
            self._usage.settle(self.options.memory_room_bytes)

    def _outgrown(self, what: str, limit: int) -> None:
        self._end_alive(RunnerOutgrown(what, limit, self.last_lines))

    def _hung(self, allowed_s: float) -> None:
        """The watchdog's verdict; SIGKILL ends a stopped process too."""
        self._end_alive(RunnerHung(round(allowed_s, 1), self.last_lines))

    def _end_alive(self, error: RunnerKilled) -> None:
        """Kill a runner that cannot be left alive; its calls end with this error."""
        if self._failure is None and not self.closed.is_set():
            _LOG.warning("runner %s is killed: %s", self.pid, error)
            self._failure = error
            self._signal(signal.SIGKILL)


def _rounded_up(tokens: int) -> int:
    """A window as an engine may round it."""
    return -(-tokens // _WINDOW_STEP) * _WINDOW_STEP


def _ignore(done: int, total: int) -> None:
    """Nobody wants to hear it."""


async def _within(waiting: Awaitable[Any], seconds: float) -> bool:
    """Whether it came to its end in time."""
    try:
        async with asyncio.timeout(seconds):
            await waiting
    except TimeoutError:
        return False
    return True
