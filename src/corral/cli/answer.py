"""An answer on its way to the screen: word wrap, thinking, tool calls, and the statistics at its end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corral.cli.api import AnswerCutShort
from corral.cli.console import Console
from corral.cli.progress import Progress, show_translation
from corral.cli.table import width_of
from corral.durations import format_duration
from corral.errors import CorralError

if TYPE_CHECKING:
    from corral.cli.markdown import MarkdownBlocks  # imported on use: rich costs more than all of the CLI

_GREY, _BOLD, _RESET = "\x1b[38;5;245m", "\x1b[1m", "\x1b[0m"
_CONTROL = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: 0x2421}
_CONTROL |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)  # C1: single-byte forms of the same
_MARGIN = 5  # columns kept free at the right
_NARROWEST = 10  # no wrapping below this


class WordWrap:
    """Breaks lines between words by moving a started word to the next line. Keep one per paragraph of output.

    feed() returns what to write: each character at once, escapes to take back a word that does not fit.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._line = 0
        self._word = ""

    def feed(self, text: str) -> str:
        """The text with its breaks."""
        if self._columns < _NARROWEST:
            return text
        return "".join(self._char(char) for char in text)

    def _char(self, char: str) -> str:
        width = width_of(char)
        if char in "\r\n":
            self._line, self._word = 0, ""
            return char
        if self._line + 1 <= self._columns - _MARGIN:
            self._line += width
            self._word = "" if width >= 2 or char in " \t" else self._word + char
            return char
        word, moved = self._word, width_of(self._word)
        if moved > self._columns - 2 * _MARGIN:  # as wide as the line: break it where it stands
            self._line, self._word = width, char
            return f"\n{char}"
        back = f"\x1b[{moved}D" if moved else ""
        if char in " \t" and not word:
            self._line, self._word = 0, ""
            return f"{back}\x1b[K\n"
        self._line = moved + width
        self._word = "" if width >= 2 or char in " \t" else word + char
        return f"{back}\x1b[K\n{word}{char}"


@dataclass(frozen=True, slots=True)
class AnswerStyle:
    """How to print answers."""

    word_wrap: bool = True
    hide_thinking: bool = False
    markdown: bool = False


class AnswerPrinter:
    """Prints one answer piece by piece and collects it. Escapes are written to terminals only."""

    def __init__(self, console: Console, style: AnswerStyle) -> None:
        self._console = console
        self._style = style
        self._escapes = console.writes_terminal and console.color
        self._wraps = style.word_wrap and console.writes_terminal
        self._wrap = self._new_wrap()
        self._markdown = self._new_markdown() if style.markdown and console.writes_terminal else None
        self._in_thinking = False
        self.content = ""
        self.thinking = ""

    def _new_wrap(self) -> WordWrap:
        return WordWrap(self._console.size().columns if self._wraps else 0)

    def _new_markdown(self) -> MarkdownBlocks:
        from corral.cli.markdown import MarkdownBlocks

        return MarkdownBlocks(self._console.size().columns, color=self._escapes)

    def shows(self, thinking: str, content: str) -> bool:
        """Whether a piece will be seen."""
        return bool(content) or bool(thinking and not self._style.hide_thinking)

    def add(self, thinking: str, content: str, tool_calls: Sequence[Mapping[str, Any]]) -> None:
        """Print a piece of the answer."""
        self.thinking += thinking
        self.content += content
        if thinking and not self._style.hide_thinking:
            if not self._in_thinking:
                self._in_thinking = True
                self._write(self._marked("Thinking...\n") + (_GREY if self._escapes else ""))
            self._write(self._wrap.feed(self._shown(thinking)))
        if self._in_thinking and (content or tool_calls):
            self._close_thinking()
        if content:
            shown = self._shown(content)
            self._write(self._markdown.feed(shown) if self._markdown else self._wrap.feed(shown))
        if tool_calls:
            self._write("\n".join(self._tool_call(call) for call in tool_calls))

    def finish(self) -> None:
        """End the answer, also one that was cut while the model thought."""
        if self._in_thinking:
            self._close_thinking()
        if self._markdown:
            self._write(self._markdown.finish())

    def break_off(self) -> None:
        """End the line of an answer that goes no further."""
        self.finish()
        if self.content or (self.thinking and not self._style.hide_thinking):
            self._write("\n")

    def _shown(self, text: str) -> str:
        """The text as a terminal may get it: a model's control characters move no cursor and set no title."""
        return text.translate(_CONTROL) if self._console.writes_terminal else text

    def _close_thinking(self) -> None:
        self._in_thinking = False
        newline = "" if self.thinking.endswith("\n") else "\n"
        self._write(newline + self._marked("...done thinking.\n\n"))
        self._wrap = self._new_wrap()

    def _marked(self, text: str) -> str:
        return f"{_GREY}{_BOLD}{text}{_RESET}" if self._escapes else text

    def _tool_call(self, call: Mapping[str, Any]) -> str:
        function = call.get("function") or {}
        arguments = json.dumps(function.get("arguments") or {}, ensure_ascii=False, separators=(",", ":"))
        text = f"  Model called a non-existent function '{function.get('name', '')}()' with arguments: {arguments}"
        return self._marked(text)

    def _write(self, text: str) -> None:
        self._console.print(text, end="")


def print_answer(
    console: Console, printer: AnswerPrinter, events: Iterator[dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """Print a stream of /api/generate or /api/chat to its end, with a spinner until the first visible piece.

    Returns the last object and whether the user cancelled with Ctrl+C; cancelling closes the connection. Raises what
    the stream raises, and AnswerCutShort where it ends without its last object; what is shown ends its line then.
    """
    last: dict[str, Any] = {}
    cancelled = False
    with Progress(console) as waiting:
        waiting.status("")
        try:
            with closing(events):  # type: ignore[type-var]
                for last in events:
                    show_translation(waiting, last)
                    message = last.get("message") or last
                    thinking = str(message.get("thinking") or "")
                    content = str(message.get("content") or message.get("response") or "")
                    calls = message.get("tool_calls") or []
                    if printer.shows(thinking, content) or calls or last.get("done"):
                        waiting.stop(clear=True)
                    printer.add(thinking, content, calls)
            if not last.get("done"):
                raise AnswerCutShort
        except CorralError:
            waiting.stop(clear=True)
            printer.break_off()
            raise
        except KeyboardInterrupt:
            cancelled = True
        finally:
            waiting.stop(clear=True)
            printer.finish()
    return last, cancelled


def format_stats(done: Mapping[str, Any]) -> str:
    """The statistics of an answer's last object; lines whose value is 0 are left out."""
    lines = [("total duration", _duration(done.get("total_duration")))]
    lines.append(("load duration", _duration(done.get("load_duration"))))
    for label in ("prompt eval", "eval"):
        key = label.replace(" ", "_")
        count, nanoseconds = int(done.get(f"{key}_count") or 0), int(done.get(f"{key}_duration") or 0)
        cached = int(done.get(f"{key}_cached_count") or 0)
        found = f" ({cached} cached)" if cached else ""
        lines.append((f"{label} count", f"{count} token(s){found}" if count else ""))
        lines.append((f"{label} duration", _duration(nanoseconds)))
        lines.append((f"{label} rate", f"{count / (nanoseconds / 1e9):.2f} tokens/s" if nanoseconds else ""))
    return "".join(f"{label + ':':<22}{value}\n" for label, value in lines if value)


def _duration(nanoseconds: Any) -> str:
    return format_duration(int(nanoseconds) / 1e9) if nanoseconds else ""
