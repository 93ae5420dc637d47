"""glimmer: messages with a header, `<|start|>assistant to=NAME<|message|>…<|eom|>`, calls in `<atem:function_calls>`.

| recipient         | the message is                                                        |
|-------------------|-----------------------------------------------------------------------|
| self              | thinking                                                              |
| a tool            | a call; what is none is a failure                                     |
| user, none, other | content; but one that is nothing but a call for a known tool is that  |

A tool `read` may be addressed as `read.read`, the name space that the template shows. A new header may begin inside a
message. Source: ollama model/parsers/glimmer.go, 2026-08. Departure: text of 256 characters without the end of a header
is content at once, not only at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from corral.answer.jsontext import Unreadable
from corral.answer.parsers.arguments import Schemas, typed_value
from corral.answer.parsers.marked import Kind, MarkedParser, Mode
from corral.answer.parsers.pieces import BLANKS, Marks
from corral.core import Delta, Tool
from corral.goquote import quote

_START, _MESSAGE, _MESSAGE_END, _TURN_END = "<|start|>", "<|message|>", "<|eom|>", "<|eot|>"
_ASSISTANT = "assistant"
_CALLS, _CALLS_END = "<atem:function_calls>", "</atem:function_calls>"
_INVOKE, _INVOKE_END = '<atem:invoke name="', "</atem:invoke>"
_PARAMETER, _PARAMETER_END = '<atem:parameter name="', "</atem:parameter>"
_NAME_END = '">'
_LONGEST_HEADER = 256

_ENDS = Marks(_MESSAGE_END, _TURN_END, _START)
_HEADER = Mode(Kind.COLLECTED, Marks(_MESSAGE))
_CONTENT = Mode(Kind.CONTENT, _ENDS, hold_blanks=False)
_MAYBE_CALL = Mode(Kind.CONTENT, end_blanks=True)  # at the beginning of a content
_THINKING = Mode(Kind.THINKING, _ENDS, hold_blanks=False)
_UNWANTED = Mode(Kind.DROPPED, _ENDS, hold_blanks=False)
_CALLING = Mode(Kind.COLLECTED, Marks(_CALLS_END))
_CALLED = Mode(Kind.COLLECTED, _ENDS)  # behind the end of a call
_STARTED = Mode(Kind.DROPPED)  # behind a `<|start|>` inside a message


class GlimmerParser(MarkedParser):
    """`thinks`: the request wants the thinking."""

    def __init__(self, tools: Sequence[Tool], *, thinks: bool) -> None:
        super().__init__(_HEADER)
        self._thinking = _THINKING if thinks else _UNWANTED
        self._schemas = Schemas(tools)
        self._tools = frozenset(tool.name for tool in tools if tool.name)
        recipients = ("", *(f" to={name}" for name in ("self", "user", *self._tools)))
        self._headers = tuple(f"{_ASSISTANT}{to}{_MESSAGE}" for to in recipients)
        self._longest_header = max(map(len, self._headers))
        self._recipient = ""
        self._tool = ""  # that the recipient is
        self._blanks_before = ""  # what may be a call
        self._body = ""  # of the call being read
        self._around = _CONTENT  # the message a `<|start|>` was found in
        self._ended = False

    def finish(self) -> list[Delta]:
        """What was held back when the text ended."""
        self._ended = True
        return super().finish()

    def _meet(self, mark: str, text: str) -> None:
        if mark == _MESSAGE:
            self._address(_header(text))
        elif mark == _CALLS_END:
            self._body += text + mark
            self._enter(_CALLED)
        elif mark == _START:
            self._body += text
            self._around = self._mode
            self._enter(_STARTED)
        else:
            if self._mode is _CALLED:
                self._read_call(self._body + text)
            self._enter(_HEADER)

    def _read(self) -> bool:
        if self._mode is _HEADER:
            return self._read_header()
        if self._mode is _MAYBE_CALL:
            return self._read_maybe_call()
        return self._read_started() if self._mode is _STARTED else super()._read()

    def _end(self, text: str, partial: str) -> None:
        if self._mode is _HEADER:
            self._say((text + partial).removeprefix(_START + _ASSISTANT))
        else:
            self._read_call(self._body + text + partial)

    def _address(self, recipient: str) -> None:
        """A message for the recipient begins."""
        self._recipient, self._tool, self._body, self._blanks_before = recipient, self._resolve(recipient), "", ""
        if recipient == "self":
            self._enter(self._thinking)
        elif self._tool:
            self._enter(_CALLING)
        else:
            self._enter(_MAYBE_CALL if self._tools else _CONTENT)

    def _resolve(self, name: str) -> str:
        """The tool that a recipient or an invocation means; "" if none."""
        space, _, function = name.partition(".")
        if name in self._tools:
            return name
        return function if function in self._tools and space == function.partition(".")[0] else ""

    def _read_header(self) -> bool:
        """What is too long for a header is content, whether the end of one follows or not."""
        most = _LONGEST_HEADER + len(_MESSAGE)
        seen = self._text.peek(most)
        if _MESSAGE in seen:
            return super()._read()
        if len(seen) < most:
            return False
        if seen.startswith(_START + _ASSISTANT):
            self._text.skip(len(_START + _ASSISTANT))
        self._enter(_CONTENT)
        return True

    def _read_maybe_call(self) -> bool:
        self._blanks.append(self._text.blanks())
        seen = self._text.peek(len(_CALLS))
        if seen == _CALLS:
            self._text.skip(len(seen))
            self._body, self._blanks_before = seen, "".join(self._blanks)
            self._enter(_CALLING)
        elif _CALLS.startswith(seen):
            return False
        else:
            self._enter(_CONTENT, keep_blanks=True)
        return True

    def _read_started(self) -> bool:
        """A `<|start|>` in a message begins the next one if a header follows that could be one; else it is text."""
        seen = self._text.peek(self._longest_header)
        header = next((header for header in self._headers if seen.startswith(header)), "")
        if not header and not self._ended and any(header.startswith(seen) for header in self._headers):
            return False
        in_call = self._around is _CALLED
        if header:
            if in_call:
                self._read_call(self._body)
            self._text.skip(len(header))
            self._address(_header(header.removeprefix(_ASSISTANT).removesuffix(_MESSAGE)))
            return True
        if in_call:
            self._body += _START
        else:
            self._say(_START, self._around.kind)
        self._enter(self._around)
        return True

    def _read_call(self, body: str) -> None:
        try:
            name, arguments = self._parsed(body.strip(BLANKS))
        except Unreadable as error:
            if self._tool:
                self._fail(body, f"parse Glimmer call to {self._recipient}: {error}")
            else:
                self._say(self._blanks_before + body)
            return
        tool = self._resolve(name)
        if self._tool and tool != self._tool:
            self._fail(body, f"Glimmer recipient {quote(self._recipient)} does not match ATEM invoke {quote(name)}")
        elif not tool:
            self._say(self._blanks_before + body)
        else:
            self._call(tool, {key: typed_value(raw, self._schemas.types(tool, key)) for key, raw in arguments})

    def _parsed(self, body: str) -> tuple[str, list[tuple[str, str]]]:
        """The name of an invocation and its parameters' texts."""
        if not (body.startswith(_CALLS) and body.endswith(_CALLS_END)):
            raise Unreadable("missing ATEM function_calls wrapper")
        invoke = body.removeprefix(_CALLS).removesuffix(_CALLS_END).strip(BLANKS)
        if not (invoke.startswith(_INVOKE) and invoke.endswith(_INVOKE_END)):
            raise Unreadable("missing ATEM invoke wrapper")
        name, rest = _invoked_name(invoke.removeprefix(_INVOKE))
        if not rest.endswith(_INVOKE_END):
            raise Unreadable("malformed ATEM invoke name")
        return name, _parameters(rest.removesuffix(_INVOKE_END).removeprefix("\n").removesuffix("\n"))


def _header(text: str) -> str:
    """The recipient in a header."""
    return text.removeprefix(_START + _ASSISTANT).strip(BLANKS).removeprefix("to=").strip(BLANKS)


def _invoked_name(text: str) -> tuple[str, str]:
    """The name up to the end of its attribute, and what follows; a message's mark that strayed into it is left out.

    Where the parameters follow such a mark at once, the mark stands for the end of the attribute.
    """
    name: list[str] = []
    at = 0
    while True:
        end, stray = text.find(_NAME_END, at), text.find(_MESSAGE, at)
        if stray < 0 or 0 <= end < stray:
            break
        name.append(text[at:stray])
        at = stray + len(_MESSAGE)
        if text.startswith(_PARAMETER, at):
            return "".join(name), text[at:]
    if end < 0:
        raise Unreadable("malformed ATEM invoke name")
    return "".join([*name, text[at:end]]), text[end + len(_NAME_END) :]


def _parameters(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        if not text.startswith(_PARAMETER, at):
            raise Unreadable("malformed ATEM parameter")
        at += len(_PARAMETER)
        name_end = text.find(_NAME_END, at)
        if name_end < 0:
            raise Unreadable("malformed ATEM parameter name")
        name, start = text[at:name_end], name_end + len(_NAME_END)
        end = text.find(_PARAMETER_END, start)
        if end < 0:
            raise Unreadable(f"unterminated ATEM parameter {quote(name)}")
        found.append((name, text[start:end]))
        at = end + len(_PARAMETER_END)
        at += text.startswith("\n", at)
    return found
