"""The terminal as the commands see it: where to write, what is a terminal, how wide. Nobody else touches streams."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TextIO

_UNKNOWN_SIZE = os.terminal_size((80, 24))


@dataclass(frozen=True)
class Console:
    """Standard streams and what they are connected to; `color` is False when NO_COLOR asks so."""

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    color: bool = True

    @classmethod
    def standard(cls) -> Console:
        """The process's own streams; characters that their encoding lacks are written as `?`, never an error."""
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(errors="replace")
        return cls(sys.stdin, sys.stdout, sys.stderr)

    @property
    def reads_terminal(self) -> bool:
        """Whether a person types."""
        return self.stdin.isatty()

    @property
    def writes_terminal(self) -> bool:
        """Whether a person reads the output."""
        return self.stdout.isatty()

    @property
    def shows_progress(self) -> bool:
        """Whether the error stream can be redrawn."""
        return self.stderr.isatty()

    def size(self) -> os.terminal_size:
        """Columns and lines of the terminal behind the output, else behind the error stream, else 80 by 24."""
        for stream in (self.stdout, self.stderr):
            try:
                size = os.get_terminal_size(stream.fileno())
            except (OSError, ValueError):
                continue
            if size.columns:
                return size
        return _UNKNOWN_SIZE

    def print(self, text: str = "", *, end: str = "\n") -> None:
        """Write to the output at once."""
        self.stdout.write(text + end)
        self.stdout.flush()

    def note(self, text: str = "", *, end: str = "\n") -> None:
        """Write to the error stream at once."""
        self.stderr.write(text + end)
        self.stderr.flush()

    def read_all(self) -> str:
        """Everything on the input; bytes that are not UTF-8 become the replacement character."""
        buffer = getattr(self.stdin, "buffer", None)
        return self.stdin.read() if buffer is None else buffer.read().decode("utf-8", errors="replace")
