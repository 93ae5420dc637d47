"""The base of the parsers: modes, what text is in each, and which marks end it. One small subclass a model family.

A mode says what its text is: thinking, content, dropped, or collected until it is whole (a call). A subclass says in
`_meet` what a mark means in a mode, and in `_end` what a text is worth that the answer's end cut off.

Nothing raises, whatever the model writes, and nothing is lost in silence. Ollama has two ways with a call it cannot
read, and the recorded cases hold both, so there are two here:

| Ollama                          | here                                                                              |
|---------------------------------|-----------------------------------------------------------------------------------|
| drops it, goes on               | `_unread`: a Notice `tool_call_unparsed` with the text; content as Ollama's       |
| fails the request, with a text  | `_fail`: the call's text becomes content, with the Notice; `failure` is the error |

`failure` carries Ollama's own words (`AnswerUnreadable`, status 500), so that who wants Ollama's answer can raise it
(strict requests do); everyone else gets all that the model wrote. Reading goes on behind either.

Blanks: those before a mark belong to nobody and are dropped. So text ends without its blanks until more follows;
whether they are content at the very end is the mode's `end_blanks`. A partial mark at the very end is text.
Where Ollama's result depends on the borders between pieces (it does for blanks), this gives the same for all borders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from corral.answer.parsers.pieces import BLANKS, Marks, Pieces
from corral.answer.toolcalls import new_call_id
from corral.core import Delta, Notice, ToolCall
from corral.errors import AnswerUnreadable

_SHOWN = 2000  # characters of an unread call in its notice
_MOST_NOTICES = 16
_DROPPED = "the model wrote a tool call that cannot be read; it is left out of the content"
_KEPT = "the model wrote a tool call that cannot be read; it is in the content"


class Kind(Enum):
    """What a text is."""

    THINKING = auto()
    CONTENT = auto()
    DROPPED = auto()  # written by the model, for nobody: thinking that the request switched off
    COLLECTED = auto()  # part of something that is read when it is whole


@dataclass(frozen=True, slots=True)
class Mode:
    """What text is, up to one of the marks. hold_blanks: blanks wait until it is known whether a mark follows."""

    kind: Kind
    marks: Marks | None = None  # None: to the end
    hold_blanks: bool = True
    end_blanks: bool = False


@dataclass(slots=True)
class _Opening:
    """A text that may stand at the beginning of a mode, and the mode it leads to."""

    text: str
    mode: Mode
    behind_blanks: bool
    drops_blanks: bool


class MarkedParser:
    """Reads an answer; satisfies `outputs.OutputParser`."""

    def __init__(self, mode: Mode) -> None:
        self.notices: list[Notice] = []
        self.failure: AnswerUnreadable | None = None
        self._mode = mode
        self._text = Pieces()
        self._opening: _Opening | None = None
        self._skip_blanks = False
        self._said = False  # whether there is content yet
        self._blanks: list[str] = []  # held back
        self._collected: list[str] = []
        self._out: list[tuple[Kind, list[str]] | list[ToolCall]] = []
        self._calls = 0

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends inside the thinking."""
        return self._mode.kind is Kind.THINKING

    def feed(self, piece: str) -> list[Delta]:
        """The deltas a piece makes certain."""
        self._text.add(piece)
        while self._step():
            pass
        return self._taken()

    def finish(self) -> list[Delta]:
        """What was held back when the text ended."""
        self._opening = None
        while self._step():
            pass
        mode, rest = self._mode, self._text.rest()
        if mode.kind is Kind.COLLECTED:
            text, self._collected = "".join(self._collected), []
            self._end(text, rest)
        elif rest:
            self._pass(mode, rest)
        if mode.end_blanks:
            self._flush_blanks(mode.kind)
        return self._taken()

    # What subclasses say

    def _meet(self, mark: str, text: str) -> None:
        """What a mark of the current mode means; `text` is what was collected before it."""
        raise NotImplementedError

    def _end(self, text: str, partial: str) -> None:
        """The answer ended in a collecting mode; `partial` may be the beginning of a mark."""
        if (text + partial).strip(BLANKS):
            self._unread(text + partial)

    # What they do with it

    def _enter(self, mode: Mode, *, skip_blanks: bool = False, keep_blanks: bool = False) -> None:
        """Changes the mode. skip_blanks: those that come next; keep_blanks: those held before the mark are text.

        Blanks that stand between two texts of the content stay.
        """
        if keep_blanks:
            self._flush_blanks(self._mode.kind)
        self._blanks = []
        self._mode = mode
        self._skip_blanks = skip_blanks and not (mode.kind is Kind.CONTENT and self._said)

    def _await(self, text: str, mode: Mode, *, behind_blanks: bool = True, drops_blanks: bool = False) -> None:
        """The answer may open with `text`, which leads to `mode` and is dropped with the blanks around it.

        behind_blanks: blanks may stand before it; drops_blanks: they are dropped even if it does not come.
        """
        self._opening = _Opening(text, mode, behind_blanks, drops_blanks)

    def _say(self, text: str, kind: Kind = Kind.CONTENT) -> None:
        """Text for the client."""
        if not text or kind not in (Kind.CONTENT, Kind.THINKING):
            return
        self._said = self._said or kind is Kind.CONTENT
        last = self._out[-1] if self._out else None
        if isinstance(last, tuple) and last[0] is kind:
            last[1].append(text)
        else:
            self._out.append((kind, [text]))

    def _call(self, name: str, arguments: Mapping[str, Any]) -> None:
        """A tool call."""
        call = ToolCall(name, dict(arguments), new_call_id(), self._calls)
        self._calls += 1
        last = self._out[-1] if self._out else None
        if isinstance(last, list):
            last.append(call)
        else:
            self._out.append([call])

    def _unread(self, text: str, why: str = "") -> None:
        """A call that Ollama drops."""
        self._note(_DROPPED, text, why)

    def _fail(self, text: str, why: str) -> None:
        """A call for which Ollama fails the request, and its words for it."""
        self._say(text)
        self._note(_KEPT, text, why)
        self.failure = self.failure or AnswerUnreadable(why)

    # How it is read

    def _step(self) -> bool:
        """Reads on to the next mark; False when it needs more text."""
        if self._skip_blanks:
            self._text.blanks()
            if not self._text.peek(1):
                return False
            self._skip_blanks = False
        if self._opening is not None:
            return self._open(self._opening)
        return self._read()

    def _read(self) -> bool:
        mode = self._mode
        text, mark = self._text.until(mode.marks) if mode.marks is not None else (self._text.rest(), "")
        if mode.kind is Kind.COLLECTED:
            self._collected.append(text)
        else:
            self._pass(mode, text)
        if not mark:
            return False
        whole, self._collected = "".join(self._collected), []
        self._meet(mark, whole)
        return True

    def _open(self, opening: _Opening) -> bool:
        if opening.behind_blanks:
            blanks = self._text.blanks()
            if blanks and not opening.drops_blanks:
                self._blanks.append(blanks)
        seen = self._text.peek(len(opening.text))
        if seen == opening.text:
            self._text.skip(len(seen))
            self._opening = None
            self._enter(opening.mode, skip_blanks=opening.behind_blanks)
            return True
        if opening.text.startswith(seen):
            return False
        self._opening = None
        return True

    def _pass(self, mode: Mode, text: str) -> None:
        """Passes text on, and what of the blanks held back is now known to stand before text."""
        if not mode.hold_blanks:
            self._say(text, mode.kind)
            return
        core = text.rstrip(BLANKS)
        if core:
            self._flush_blanks(mode.kind)
            self._say(core, mode.kind)
        if len(core) < len(text):
            self._blanks.append(text[len(core) :])

    def _flush_blanks(self, kind: Kind) -> None:
        self._say("".join(self._blanks), kind)
        self._blanks = []

    def _note(self, message: str, text: str, why: str) -> None:
        if len(self.notices) >= _MOST_NOTICES:
            return
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        self.notices.append(Notice("tool_call_unparsed", message, {"text": shown} | ({"reason": why} if why else {})))

    def _taken(self) -> list[Delta]:
        out, self._out = self._out, []
        return [_delta(part) for part in out]


def _delta(part: tuple[Kind, list[str]] | list[ToolCall]) -> Delta:
    if isinstance(part, list):
        return Delta(tool_calls=tuple(part))
    kind, texts = part
    return Delta(thinking="".join(texts)) if kind is Kind.THINKING else Delta(content="".join(texts))
