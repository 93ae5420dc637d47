"""A server for `corral run` when none answers: started detached, logging to `<home>/logs/server.log`, left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from corral.cli.api import ServerError, ServerNotRunning, ServerUnreachable, is_loopback
from corral.cli.context import Context
from corral.cli.progress import Progress
from corral.errors import CorralError
from corral.store.files import make_directory

START_DEADLINE_S = 60.0
_POLL_S = 0.05
_LOG_LIMIT_BYTES = 10 * 2**20  # above this the last log is kept beside the new one
_SHOWN_LINES = 5

Launch = Callable[[Path], "subprocess.Popen[bytes]"]


class CannotStop(CorralError):
    """`stop --server` cannot end the server."""


class ServerDidNotStart(CorralError):
    """The server in the background ended, or was not ready in time; the last lines of its log say why."""

    def __init__(self, how: str, log: Path, lines: list[str]) -> None:
        tail = "".join(f"\n  {line}" for line in lines)
        super().__init__(f"the corral server {how}; its log is {log}{':' if tail else ''}{tail}")


def start_server(context: Context, launch: Launch | None = None, deadline_s: float = START_DEADLINE_S) -> None:
    """Start a server and return when it answers.

    Raises ServerDidNotStart when it exits without another one answering (two commands may start one at once), or at
    the deadline; then, and on Ctrl+C, it is stopped and reaped.
    """
    log = _open_log(context.settings.home)
    with Progress(context.console) as progress:
        home = Path.home()
        shown = f"~/{log.relative_to(home)}" if log.is_relative_to(home) else log
        progress.status(f"starting the corral server in the background, log: {shown}")
        child = (launch or _launch)(log)
        ready = False
        try:
            ready = _wait_until_ready(context, child, log, deadline_s)
        finally:
            if not ready:
                _stop(child)
            progress.stop(clear=True)
    if context.console.shows_progress:
        context.console.note("started the corral server; `corral stop --server` ends it")


def stop_server(context: Context, deadline_s: float = START_DEADLINE_S) -> None:
    """End the server on this machine, by the signal that has it unload its models, and return when it is gone.

    Raises CannotStop for one elsewhere, or of another make, or that is still there at the deadline.
    """
    pid = int((context.api.get("/api/status?verbose=1").get("server") or {}).get("pid") or 0)
    if not is_loopback(context.settings.host) or not _is_server(pid):
        raise CannotStop(f"the server at {context.settings.host.url} is not a corral server of this machine")
    os.kill(pid, signal.SIGTERM)
    deadline_s += time.monotonic()
    with Progress(context.console) as progress:
        progress.status("stopping the corral server")
        while _is_server(pid):
            if time.monotonic() > deadline_s:
                raise CannotStop(f"the corral server, process {pid}, does not end")
            time.sleep(_POLL_S)
        progress.stop(clear=True)
    context.console.note("the corral server has stopped")


def _is_server(pid: int) -> bool:
    """Whether a process is there and is a corral server: the number alone may be of a container, or reused."""
    if pid <= 0:
        return False
    asked = subprocess.run(["ps", "-o", "stat=,command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, command = asked.stdout.strip().partition(" ")
    return "corral" in command and {"serve", "start"} & set(command.split()) != set() and not state.startswith("Z")


def _wait_until_ready(context: Context, child: subprocess.Popen[bytes], log: Path, limit_s: float) -> bool:
    deadline_s = time.monotonic() + limit_s
    while True:
        exit_code = child.poll()  # before asking: an answer after the exit is another server's, and good enough
        try:
            context.api.server_version(timeout_s=5)
        except (ServerNotRunning, ServerUnreachable, ServerError):
            if exit_code is not None:
                raise ServerDidNotStart(f"exited with status {exit_code}", log, _tail(log)) from None
            if time.monotonic() > deadline_s:
                raise ServerDidNotStart(f"was not ready after {limit_s:g} s", log, _tail(log)) from None
        else:
            return True
        time.sleep(_POLL_S)


def _open_log(home: Path) -> Path:
    log = home / "logs" / "server.log"
    make_directory(log.parent)
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_name("server.log.1"))
    return log


def _launch(log: Path) -> subprocess.Popen[bytes]:
    """A session of its own, so that neither Ctrl+C here nor closing the terminal reaches it."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "corral", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _tail(log: Path) -> list[str]:
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-_SHOWN_LINES:]
