"""The base of the parsers: modes, what text is in each, and which marks end it. One small subclass a model family.

A mode says what its text is: thinking, content, dropped, or collected until it is whole (a call). A subclass says in
`_meet` what a mark means in a mode, and in `_end` what a text is worth that the answer's end cut off.

Nothing raises, whatever the model writes, and nothing is lost in silence. Ollama has two ways with a call it cannot
read, and the recorded cases hold both, so there are two here:

| Ollama                          | here                                                                              |
|---------------------------------|-----------------------------------------------------------------------------------|
| drops it, goes on               | `_unread`: a Notice `tool_call_unparsed` with the text; content as Ollama's       |
| fails the request, with a text  | `_fail`: the call's text becomes content, with the Notice; `failure` is the error |

Where calls are shown while they are written (`show_calls`; modes with a `head`, whose calls are JSON), a call that has
been shown and cannot be read is neither dropped nor content: its pieces end as broken, with all that was written.

`failure` carries Ollama's own words (`AnswerUnreadable`, status 500), so that who wants Ollama's answer can raise it
(strict requests do); everyone else gets all that the model wrote. Reading goes on behind either.

Blanks: those before a mark belong to nobody and are dropped. So text ends without its blanks until more follows;
whether they are content at the very end is the mode's `end_blanks`. A partial mark at the very end is text.
Where Ollama's result depends on the borders between pieces (it does for blanks), this gives the same for all borders.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from corral.answer.callpieces import WrittenCall
from corral.answer.parsers.pieces import BLANKS, Marks, Pieces
from corral.answer.toolcalls import new_call_id
from corral.core import CallPiece, Delta, Notice, ToolCall
from corral.errors import AnswerUnreadable

_NOTED = 2000  # characters of an unread call in its notice
_MOST_NOTICES = 16
_DROPPED = "the model wrote a tool call that cannot be read; it is left out of the content"
_KEPT = "the model wrote a tool call that cannot be read; it is in the content"
_SHOWN = "the model wrote a tool call that cannot be read; it was sent while it was written, and is no JSON"


class Kind(Enum):
    """What a text is."""

    THINKING = auto()
    CONTENT = auto()
    DROPPED = auto()  # written by the model, for nobody: thinking that the request switched off
    COLLECTED = auto()  # part of something that is read when it is whole


@dataclass(frozen=True, slots=True)
class Mode:
    """What text is, up to one of the marks. hold_blanks: blanks wait until it is known whether a mark follows.

    head: what a call that is collected begins with, when its arguments are JSON; many: there may be several.
    """

    kind: Kind
    marks: Marks | None = None  # None: to the end
    hold_blanks: bool = True
    end_blanks: bool = False
    head: re.Pattern[str] | None = None
    many: bool = False


_Part = tuple[Kind, list[str]] | list[ToolCall] | CallPiece


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
        self._out: list[_Part] = []
        self._calls = 0
        self._shows = False
        self._written: deque[WrittenCall] = deque()  # calls of this mode, shown or not; the last is being written

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends inside the thinking."""
        return self._mode.kind is Kind.THINKING

    def show_calls(self) -> None:
        """From now on, calls are shown while they are written, where their form allows it."""
        self._shows = True

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
            self._abandon()
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

    def _name_of(self, head: re.Match[str]) -> str:
        """The function of a call that is being written, by the head of its mode; "" when it is not to be shown."""
        return head["name"].strip(BLANKS)

    # What they do with it

    def _enter(self, mode: Mode, *, skip_blanks: bool = False, keep_blanks: bool = False) -> None:
        """Changes the mode. skip_blanks: those that come next; keep_blanks: those held before the mark are text.

        Blanks that stand between two texts of the content stay.
        """
        if keep_blanks:
            self._flush_blanks(self._mode.kind)
        self._blanks = []
        self._abandon()
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
        written = self._shown_call()
        if written is not None:
            call = self._end_shown(written, call)
        self._calls = call.index + 1
        last = self._out[-1] if self._out else None
        if isinstance(last, list):
            last.append(call)
        else:
            self._out.append([call])

    def _unread(self, text: str, why: str = "") -> None:
        """A call that Ollama drops."""
        self._note(_SHOWN if self._break_off() else _DROPPED, text, why)

    def _fail(self, text: str, why: str) -> None:
        """A call for which Ollama fails the request, and its words for it."""
        broken = self._break_off()
        if not broken:
            self._say(text)
        self._note(_SHOWN if broken else _KEPT, text, why)
        self.failure = self.failure or AnswerUnreadable(why)

    def _collect(self, text: str) -> None:
        """Part of what is read when it is whole; of a call as much is shown as can be."""
        self._collected.append(text)
        if not self._shows or self._mode.head is None:
            return
        while text:
            if not self._written or (self._written[-1].closed and self._mode.many):
                self._written.append(WrittenCall(self._mode.head, self._name_of, self._next_index, new_call_id))
            self._out += self._written[-1].feed(text)
            text = self._written[-1].take_rest() if self._mode.many else ""

    # How calls are shown

    @property
    def _next_index(self) -> int:
        return self._calls + sum(written.announced for written in self._written)

    def _shown_call(self) -> WrittenCall | None:
        """The call that is read next, if the client was shown it."""
        written = self._written.popleft() if self._written else None
        return written if written is not None and written.announced else None

    def _end_shown(self, written: WrittenCall, call: ToolCall) -> ToolCall:
        """The call under the id and index that the client knows."""
        shown = replace(call, id=written.id)
        piece = written.ended(shown)
        self._out.append(piece)
        return shown if piece.end == "whole" else replace(call, index=call.index + 1)

    def _abandon(self) -> None:
        """What was shown and not read is no call."""
        while self._written:
            name = self._written[0].name
            if self._break_off():
                self._note(_SHOWN, name, "it was not finished")

    def _break_off(self) -> bool:
        """End the call that is read next, if the client was shown it, as none."""
        written = self._shown_call()
        if written is None:
            return False
        self._out.append(written.ended(None))
        self._calls += 1
        return True

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
            self._collect(text)
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
        shown = text if len(text) <= _NOTED else text[:_NOTED] + "…"
        self.notices.append(Notice("tool_call_unparsed", message, {"text": shown} | ({"reason": why} if why else {})))

    def _taken(self) -> list[Delta]:
        out, self._out = self._out, []
        return [_delta(part) for part in out]


def _delta(part: _Part) -> Delta:
    if isinstance(part, list):
        return Delta(tool_calls=tuple(part))
    if isinstance(part, CallPiece):
        return Delta(call_pieces=(part,))
    kind, texts = part
    return Delta(thinking="".join(texts)) if kind is Kind.THINKING else Delta(content="".join(texts))
