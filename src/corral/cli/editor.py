"""The line editor of the REPL, on prompt_toolkit: keys, history, bracketed paste, and the external editor on Ctrl+G."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
import termios
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.bindings.completion import display_completions_like_readline
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.shortcuts import CompleteStyle

from corral.cli.console import Console
from corral.cli.history import History
from corral.errors import CorralError

_PROMPT, _MORE = ">>> ", "... "
_HINT, _MORE_HINT = "Send a message (/? for help)", "Press Enter to send"
_GREY = "#8a8a8a"
_TAB = " " * 8
Complete = Callable[[str], Iterable[str]]  # the line up to the cursor → words in place of its last one


class EditorFailed(CorralError):
    """The external editor is missing or ended with an error."""


class EditRequested(Exception):
    """Ctrl+G: the line so far is to be edited outside."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class QuietTerminal:
    """The terminal between two prompts: what is typed ahead is kept as it is for the next one, and not echoed.

    In the usual mode the kernel turns a typed-ahead Enter into a newline, which the next prompt would take for Ctrl+J.
    Ctrl+C stays a signal.
    """

    def __init__(self, console: Console) -> None:
        self._handle = console.stdin.fileno()
        self._usual: list[Any] = termios.tcgetattr(self._handle)

    def __enter__(self) -> Self:
        quiet = termios.tcgetattr(self._handle)
        quiet[0] &= ~termios.ICRNL
        quiet[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(self._handle, termios.TCSANOW, quiet)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        termios.tcsetattr(self._handle, termios.TCSADRAIN, self._usual)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The terminal in its usual mode, for another program."""
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()


class _Completer(Completer):
    """Hands the line up to the cursor on, and puts what comes back in place of its last word."""

    def __init__(self, complete: Complete) -> None:
        self._complete = complete

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """See prompt_toolkit."""
        line = document.text_before_cursor
        word = line.rpartition(" ")[2]
        for found in self._complete(line):
            yield Completion(found, start_position=-len(word), display=found.rstrip("/").rpartition("/")[2] or found)


class LineEditor:
    """Reads lines from the terminal. One at a time; not for output that is no terminal."""

    def __init__(self, console: Console, history: History, complete: Complete) -> None:
        self._history = history
        self._shown = InMemoryHistory(history.lines)
        # No cursor position requests: terminals that do not answer them get a warning, and we never need the answer.
        output = Vt100_Output(console.stdout, lambda: _size(console), enable_cpr=False)
        self._session: PromptSession[str] = PromptSession(
            history=self._shown,
            key_bindings=_bindings(),
            multiline=True,
            completer=_Completer(complete),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            prompt_continuation=_MORE,
            enable_suspend=True,
            input=create_input(console.stdin),
            output=output,
            color_depth=None if console.color else ColorDepth.DEPTH_1_BIT,
        )

    def read(self, *, more: bool = False, prefill: str = "") -> str:
        """The next line. Raises EOFError on Ctrl+D, KeyboardInterrupt on Ctrl+C, EditRequested on Ctrl+G."""
        hint = FormattedText([(_GREY, _MORE_HINT if more else _HINT)])
        line = self._session.prompt(_MORE if more else _PROMPT, placeholder=hint, default=prefill)
        if line.strip():
            self._history.add(line)
            for part in line.splitlines():
                self._shown.append_string(part)
        return line


def _size(console: Console) -> Size:
    size = console.size()
    return Size(rows=size.lines, columns=size.columns)


def _bindings() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.app.exit(result=event.current_buffer.text)

    @keys.add("c-j")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("tab")
    def _(event: KeyPressEvent) -> None:
        document = event.current_buffer.document
        if any(event.current_buffer.completer.get_completions(document, CompleteEvent(completion_requested=True))):
            display_completions_like_readline(event)
        else:
            event.current_buffer.insert_text(_TAB)

    @keys.add("c-g")
    def _(event: KeyPressEvent) -> None:
        event.app.exit(exception=EditRequested(event.current_buffer.text))

    return keys


def edit_outside(text: str, editor: str) -> str:
    """Let the user edit a text in their editor; trailing newlines are cut. Raises EditorFailed."""
    words = shlex.split(editor)
    if not words or shutil.which(words[0]) is None:
        name = words[0] if words else ""
        raise EditorFailed(f'editor "{name}" not found, set CORRAL_EDITOR to the path of your preferred editor')
    with tempfile.TemporaryDirectory(prefix="corral-prompt-") as folder:
        file = Path(folder) / "corral-prompt.txt"
        file.write_text(text, encoding="utf-8")
        result = subprocess.run([*words, str(file)], check=False)
        if result.returncode:
            raise EditorFailed(f"editor exited with error: exit status {result.returncode}")
        return file.read_text(encoding="utf-8", errors="replace").rstrip("\n")
