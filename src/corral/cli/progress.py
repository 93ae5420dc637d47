"""Progress of transfers: events become a stack of bars and spinners on a terminal, plain lines anywhere else.

`Spinner` and `Bar` are numbers and their text at a moment; `Progress` owns the screen and the thread that redraws it
every 100 ms. Time comes from the clock passed in. Source of the layout: ollama progress/, 2026-08.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from corral.cli.console import Console
from corral.cli.formats import human_bytes
from corral.cli.table import width_of

Clock = Callable[[], float]  # seconds, monotonic
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_REDRAW_S = 0.1
_SAMPLES = 10
_SUFFIX_COLUMNS = 31
_SYNC_ON, _SYNC_OFF = "\x1b[?2026h", "\x1b[?2026l"
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Spinner:
    """A status without an amount."""

    def __init__(self, message: str, clock: Clock) -> None:
        self.message = message
        self._clock = clock
        self._started_s = clock()
        self.stopped = False

    def stop(self) -> None:
        """Show no frame any more."""
        self.stopped = True

    def text(self, columns: int) -> str:
        """The line now."""
        message = f"{self.message.strip()} " if self.message.strip() else ""
        if self.stopped:
            return message
        return f"{message}{_FRAMES[int((self._clock() - self._started_s) / _REDRAW_S) % len(_FRAMES)]} "


class Bar:
    """Bytes of one digest; the rate is that of the last ten seconds or so."""

    def __init__(self, label: str, total: int, completed: int, clock: Clock) -> None:
        self.label = label
        self.total = total
        self.completed = completed
        self._clock = clock
        self._first = (clock(), completed)
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self.stopped = False

    def update(self, completed: int) -> None:
        """Set the bytes done; all of them stops the bar."""
        self.completed = min(completed, self.total)
        self.stopped = self.completed >= self.total
        now = self._clock()
        if not self._samples or now - self._samples[-1][0] > 1:
            self._samples.append((now, self.completed))

    @property
    def percent(self) -> float:
        """0 to 100; 0 when the total is unknown."""
        return self.completed / self.total * 100 if self.total > 0 else 0.0

    def rate(self) -> float:
        """Bytes a second, 0 while unknown."""
        if not self._samples:
            return 0.0
        start = self._first if len(self._samples) == 1 else self._samples[0]
        end = self._samples[-1]
        seconds = int(end[0] - start[0] + 0.5)
        return (end[1] - start[1]) / seconds if seconds else 0.0

    def text(self, columns: int) -> str:
        """The line now, as wide as the terminal."""
        head = f"{self.label.strip()} {self.percent:3.0f}%"
        room = columns - width_of(head) - _SUFFIX_COLUMNS - 5
        filled = max(int(room * self.percent / 100), 0)
        return f"{head} ▕{'█' * filled}{' ' * max(room - filled, 0)}▏ {self._suffix()}"

    def _suffix(self) -> str:
        if self.stopped:
            return f"{human_bytes(self.total):>6}{'':25}"
        amount = f"{human_bytes(self.completed):>6}/{human_bytes(self.total):>6}"
        rate = self.rate()
        if rate <= 0:
            return f"{amount}{'':18}"
        left = format_remaining(int((self.total - self.completed) / rate))
        return f"{amount}  {human_bytes(int(rate)):>6}/s  {left:>6}"


def format_remaining(seconds: int) -> str:
    """Time to go: `12s`, `3m4s`, `2h5m`, `99h+`."""
    hours, rest = divmod(seconds, 3600)
    if hours >= 100:
        return "99h+"
    if hours:
        return f"{hours}h{rest // 60}m"
    return f"{rest // 60}m{rest % 60}s" if rest >= 60 else f"{rest}s"


class Progress:
    """The lines on the error stream, in order of appearance. Leaving the `with` block draws them a last time."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live = console.shows_progress
        self._lines: list[Spinner | Bar] = []
        self._drawn = 0
        self._spinner: Spinner | None = None
        self._bars: dict[str, Bar] = {}
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def status(self, message: str) -> Spinner:
        """Show a status without an amount; the one before stops spinning. The same text again changes nothing."""
        if self._spinner is not None and self._spinner.message == message:
            return self._spinner
        if self._spinner is not None:
            self._spinner.stop()
        self._spinner = self.spin(message)
        return self._spinner

    def spin(self, message: str) -> Spinner:
        """Add a spinner of its own, beside the current status."""
        spinner = Spinner(message, self._clock)
        self._add(spinner, message)
        return spinner

    def transfer(self, digest: str, label: str, total: int, completed: int) -> Bar:
        """Set the bytes done of a digest; its first event adds the bar."""
        if self._spinner is not None:
            self._spinner.stop()
        bar = self._bars.get(digest)
        if bar is None:
            bar = self._bars[digest] = Bar(label, total, completed, self._clock)
            amount = f" {human_bytes(total)}" if total else ""
            self._add(bar, f"{label}{amount}")
        bar.update(completed)
        return bar

    def stop(self, *, clear: bool = False) -> None:
        """End the redrawing; `clear` takes the lines off the screen. Doing it twice does nothing."""
        if self._spinner is not None:
            self._spinner.stop()
        if self._thread is None:
            return
        self._done.set()
        self._thread.join()
        self._thread = None
        self._draw()
        if clear:
            up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
            self._console.note(f"{up}\x1b[1G\x1b[J{_SHOW_CURSOR}", end="")
        else:
            self._console.note(_SHOW_CURSOR)
        self._lines.clear()
        self._drawn = 0

    def _add(self, line: Spinner | Bar, plain: str) -> None:
        if not self._live:
            if plain.strip():
                self._console.note(plain)
            return
        with self._lock:
            self._lines.append(line)
        if self._thread is None:
            self._done.clear()
            self._thread = threading.Thread(target=self._redraw, name="corral-progress", daemon=True)
            self._thread.start()

    def _redraw(self) -> None:
        self._draw()
        while not self._done.wait(_REDRAW_S):
            self._draw()

    def _draw(self) -> None:
        size = self._console.size()
        with self._lock:
            # a line that the terminal breaks in two would be drawn one line too high the next time
            lines = [clipped(line.text(size.columns), size.columns) for line in self._lines[-size.lines :]]
            up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
            body = "\x1b[K\n".join(lines) + "\x1b[K"
            self._console.note(f"{_SYNC_ON}{_HIDE_CURSOR}{up}\x1b[1G{body}{_SHOW_CURSOR}{_SYNC_OFF}", end="")
            self._drawn = len(lines)


def clipped(text: str, columns: int) -> str:
    """The text, cut to a terminal's width."""
    while width_of(text) > columns:
        text = text[: -max(1, (width_of(text) - columns) // 2)]
    return text


def show_translation(progress: Progress, event: Mapping[str, Any]) -> None:
    """A bar for the event of a waiting request that tells of its model's file being translated; others show nothing."""
    told = event.get("progress") or {}
    if told.get("stage") == "translating":
        label = "translating for the engine:"
        progress.transfer(label, label, int(told.get("total") or 0), int(told.get("processed") or 0))


def follow(
    progress: Progress,
    events: Iterable[Mapping[str, Any]],
    label: Callable[[str, str], str],
    *,
    skip_empty: bool = False,
) -> list[Mapping[str, Any]]:
    """Show a transfer's events to their end; returns the `warnings` of the last one.

    `label` makes a bar's label of (status, digest). `skip_empty`: a pull's events without bytes draw no bar.
    """
    warnings: list[Mapping[str, Any]] = []
    for event in events:
        digest, status = str(event.get("digest") or ""), str(event.get("status") or "")
        warnings += event.get("warnings") or []
        if not digest and event.get("total"):
            progress.transfer(status, f"{status}:", int(event["total"]), int(event.get("completed") or 0))
        elif not digest:
            progress.status(status)
        elif event.get("completed") or not skip_empty:
            total, completed = int(event.get("total") or 0), int(event.get("completed") or 0)
            progress.transfer(digest, label(status, digest), total, completed)
    return warnings
