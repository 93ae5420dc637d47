"""A program in tmux, a real terminal emulator of a chosen size, and the screen as a person sees it."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence

DEADLINE_S = 30.0


class Pane:
    """One pane of a tmux server of its own."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    def tmux(self, *words: str) -> str:
        """A command to tmux."""
        done = subprocess.run(["tmux", "-L", self._socket, *words], capture_output=True, text=True, check=False)
        return done.stdout

    def keys(self, *names: str) -> None:
        """Press keys, by tmux's names."""
        self.tmux("send-keys", "-t", "corral", *names)

    def resize(self, columns: int, lines: int) -> None:
        """Another size."""
        self.tmux("resize-window", "-t", "corral", "-x", str(columns), "-y", str(lines))

    @property
    def screen(self) -> str:
        """What is on the screen now, blanks at the ends of lines left out."""
        return self.tmux("capture-pane", "-p", "-t", "corral")

    def wait_for(self, *texts: str, gone: Sequence[str] = ()) -> str:
        """Return the screen when it shows all texts and none of `gone`; AssertionError with it at the deadline."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            screen = self.screen
            if all(text in screen for text in texts) and not any(text in screen for text in gone):
                return screen
            assert time.monotonic() < deadline, f"{texts} never came, or {list(gone)} stayed; the screen:\n{screen}"
            time.sleep(0.05)

    def wait_for_end(self) -> None:
        """Return when the program has ended, and tmux with it."""
        deadline = time.monotonic() + DEADLINE_S
        while self.tmux("list-sessions"):
            assert time.monotonic() < deadline, f"still there:\n{self.screen}"
            time.sleep(0.05)


@contextlib.contextmanager
def in_tmux(command: Sequence[str], environ: Mapping[str, str], columns: int, lines: int) -> Iterator[Pane]:
    """Start a program; tmux and all in it end with the block."""
    pane = Pane(f"corral-test-{uuid.uuid4().hex[:12]}")
    size = ("-x", str(columns), "-y", str(lines))
    words = ["env", "-i", *(f"{name}={value}" for name, value in environ.items()), *command]
    pane.tmux("-f", "/dev/null", "new-session", "-d", "-s", "corral", *size, shlex.join(words))
    try:
        yield pane
    finally:
        pane.tmux("kill-server")
