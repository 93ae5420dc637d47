"""What of an answer has been passed on, and what is left of the same answer when it is made a second time. Pure.

`resuming.py` shows it every event: it notes what goes out, and in a later run takes from the events what went out
before. Text, thinking, calls, their pieces and the tokens of logprobs are compared each for itself, since an engine may
cut the same answer into other pieces; ids of calls are drawn anew each time, and the first one stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from corral.core import CallPiece, Delta, TokenLogprob, ToolCall


class Differs(Exception):
    """The second answer is another one: its text, or where it ended, differs from what was passed on."""


@dataclass(slots=True)
class _Text:
    """One text: its pieces as passed on, and how much of them a later run has said again."""

    pieces: list[str] = field(default_factory=list)
    whole: str = ""
    at: int = 0

    def rewind(self) -> None:
        self.whole, self.at = "".join(self.pieces), 0

    def left(self, text: str) -> str:
        """What of `text` is new; it is noted."""
        known = self.whole[self.at : self.at + len(text)]
        if not text.startswith(known):
            raise Differs
        self.at += len(known)
        new = text[len(known) :]
        if new:
            self.pieces.append(new)
        return new

    @property
    def is_complete(self) -> bool:
        return self.at >= len(self.whole)


@dataclass(slots=True)
class _Shown:
    """A call that is shown while it is written."""

    id: str
    name: str = ""
    arguments: _Text = field(default_factory=_Text)
    end: str = ""


class Sent:
    """All that was passed on of one answer."""

    def __init__(self) -> None:
        self._is_again = False
        self._content = _Text()
        self._thinking = _Text()
        self._tokens: list[str] = []  # of logprobs
        self._tokens_again = 0
        self._calls: list[ToolCall] = []
        self._calls_again = 0
        self._shown: dict[int, _Shown] = {}
        self._named_again: set[int] = set()

    def rewind(self) -> None:
        """The answer begins anew: what it says again is left out."""
        self._is_again = True
        for text in (self._content, self._thinking, *(shown.arguments for shown in self._shown.values())):
            text.rewind()
        self._tokens_again = self._calls_again = 0
        self._named_again.clear()

    def left(self, delta: Delta) -> Delta | None:
        """What of this piece is new; None when nothing is. Raises Differs."""
        if not (self._is_again or delta.tool_calls or delta.logprobs or delta.call_pieces):
            return delta if self._noted(delta) else None
        left = Delta(
            self._content.left(delta.content),
            self._thinking.left(delta.thinking),
            tuple(call for call in map(self._left_of_call, delta.tool_calls) if call is not None),
            tuple(entry for entry in delta.logprobs if self._is_new(entry)),
            tuple(piece for piece in map(self._left_of_piece, delta.call_pieces) if piece is not None),
        )
        return left if left != Delta() else None

    def _noted(self, delta: Delta) -> bool:
        """Note a piece of nothing but text that nobody has had; False when it is empty."""
        if delta.content:
            self._content.pieces.append(delta.content)
        if delta.thinking:
            self._thinking.pieces.append(delta.thinking)
        return bool(delta.content or delta.thinking)

    def check_complete(self) -> None:
        """At the end of a second answer: raises Differs when it is shorter than what was passed on."""
        texts = (self._content, self._thinking, *(shown.arguments for shown in self._shown.values()))
        if not all(text.is_complete for text in texts) or self._calls_again < len(self._calls):
            raise Differs
        if self._tokens_again < len(self._tokens):
            raise Differs

    def _is_new(self, entry: TokenLogprob) -> bool:
        self._tokens_again += 1
        if self._tokens_again > len(self._tokens):
            self._tokens.append(entry.token)
            return True
        if self._tokens[self._tokens_again - 1] != entry.token:
            raise Differs
        return False

    def _left_of_call(self, call: ToolCall) -> ToolCall | None:
        self._calls_again += 1
        if self._calls_again > len(self._calls):
            shown = self._shown.get(call.index)
            call = replace(call, id=shown.id) if shown is not None else call
            self._calls.append(call)
            return call
        if replace(self._calls[self._calls_again - 1], id=call.id) != call:
            raise Differs
        return None

    def _left_of_piece(self, piece: CallPiece) -> CallPiece | None:
        shown = self._shown.setdefault(piece.index, _Shown(piece.id))
        name = piece.name
        if piece.name and piece.index not in self._named_again:
            self._named_again.add(piece.index)
            name = "" if shown.name == piece.name else piece.name
            if shown.name and name:
                raise Differs
            shown.name = piece.name
        end = piece.end
        if piece.end and shown.end:
            if piece.end != shown.end:
                raise Differs
            end = ""
        shown.end = shown.end or piece.end
        arguments = shown.arguments.left(piece.arguments)
        left = replace(piece, id=shown.id, name=name, arguments=arguments, end=end)
        return left if name or arguments or end else None
