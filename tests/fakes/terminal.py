"""A child process on a pseudo-terminal, and what a person would see of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[=>])")
DEADLINE_S = 20.0


class TerminalChild:
    """A command whose three streams are one terminal of 80 by 24; `screen` is all it wrote, escapes taken out."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=dict(environ),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl+C is a signal
        )
        os.close(slave)
        self.raw = ""

    @property
    def screen(self) -> str:
        """Everything written so far, without escapes and carriage returns."""
        return _ESCAPES.sub("", self.raw).replace("\r", "")

    def type(self, text: str) -> None:
        """Press keys; Enter is a carriage return."""
        os.write(self._master, text.encode())

    def wait_for(self, text: str, *, times: int = 1, raw: bool = False) -> None:
        """Return when the text was written this often; AssertionError with the screen at the deadline."""
        deadline = time.monotonic() + DEADLINE_S
        while (self.raw if raw else self.screen).count(text) < times:
            assert self._read(deadline), f"{text!r} never came; the screen:\n{self.screen}"

    def wait(self) -> int:
        """The exit status, when the child ends by itself."""
        deadline = time.monotonic() + DEADLINE_S
        while self._read(deadline):
            pass
        return self.process.wait(max(deadline - time.monotonic(), 0.1))

    def close(self) -> None:
        """Kill what still runs."""
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _read(self, deadline: float) -> bool:
        """Take what is there; False at the end of the output or at the deadline."""
        ready, _, _ = select.select([self._master], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux: EIO once the child has closed its end
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)


@contextlib.contextmanager
def on_terminal(command: Sequence[str], environ: Mapping[str, str]) -> Iterator[TerminalChild]:
    """Run a command on a terminal; it is dead when the block ends."""
    child = TerminalChild(command, environ)
    try:
        yield child
    finally:
        child.close()
