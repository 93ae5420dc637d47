"""Parses and prepares the harmony format of gpt-oss: channels, recipients, function names. `outputs.py` composes it.

`<|start|>assistant<|channel|>analysis<|message|>…<|end|>`: analysis is thinking, final and commentary are content, any
of them with a recipient (`to=functions.f`) is a tool call. Source: ollama harmony/harmonyparser.go, 2026-08; text that
does not follow the format is content, never lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from corral.answer.thinking import overlap
from corral.answer.toolcalls import loads_object, new_call_id
from corral.core import Delta, Message, Notice, Tool, ToolCall
from corral.gotemplate import Template

START, END, MESSAGE, CHANNEL, CONSTRAIN = "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>"
PRESERVED_TOKENS = (START, END, MESSAGE, CHANNEL, CONSTRAIN)
_BUILT_IN = frozenset(("browser.open", "browser.search", "browser.find", "python"))


def uses_harmony(family: str, template: Template) -> bool:
    """Whether a model speaks harmony: family gptoss or gpt-oss and both markers in its template."""
    return family in ("gptoss", "gpt-oss") and template.contains(START) and template.contains(END)


class FunctionNames:
    """Functions under names that harmony allows, and back."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._original: dict[str, str] = {}
        self.tools = tuple(replace(tool, name=self._add(tool.name)) for tool in tools)

    def original(self, name: str) -> str:
        """The client's name of a function the model called."""
        return self._original.get(name, name)

    def _add(self, name: str) -> str:
        base = name if name in _BUILT_IN else _identifier(name)
        candidate, count = base, 2
        while candidate in self._original:
            candidate = f"{base}_{count}"
            count += 1
        self._original[candidate] = name
        return candidate


def _identifier(name: str) -> str:
    replaced = ("_" if char in " -." else char for char in name)
    kept = "".join(char for char in replaced if char.isalpha() or char.isdigit() or char in "_$")
    if not kept:
        return "unnamed"
    return "_" + kept if kept[0].isdigit() else kept


@dataclass(frozen=True, slots=True)
class Header:
    """What stands between the start and the message marker."""

    role: str = ""
    channel: str = ""
    recipient: str = ""


def parse_header(raw: str) -> Header:
    """Role, channel and recipient of a header."""
    raw = raw.replace(CONSTRAIN, " " + CONSTRAIN, 1).strip()
    before, found, after = raw.partition(CHANNEL)
    channel = ""
    if found:
        channel = after.split(maxsplit=1)[0] if after and not after[0].isspace() else ""
        raw = (before + after[len(channel) :]).strip()
    words = raw.split()
    if not words:
        return Header(channel=channel)
    role, rest = words[0], words[1:]
    if role.startswith("to="):
        return Header("tool", channel, role[3:])
    recipient = rest[0][3:] if rest and rest[0].startswith("to=") else ""
    return Header(role, channel, recipient)


class HarmonyParser:
    """Incremental parser; satisfies `outputs.OutputParser`."""

    def __init__(
        self, names: FunctionNames, last: Message | None = None, *, new_id: Callable[[], str] = new_call_id
    ) -> None:
        self.notices: list[Notice] = []
        self._names = names
        self._new_id = new_id
        self._calls = 0
        self._header: Header | None = None  # of the message being read
        self._in_header = False
        self._call_text = ""
        self._held = START + "assistant"
        if last is not None and last.role == "assistant" and (last.content or last.thinking):
            channel = "final" if last.content else "analysis"
            self._held += f"{CHANNEL}{channel}{MESSAGE}"

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends inside the analysis."""
        return self._kind() == "thinking"

    def feed(self, piece: str) -> list[Delta]:
        """The deltas this piece makes certain."""
        self._held += piece
        deltas: list[Delta] = []
        while self._advance(deltas):
            pass
        return deltas

    def finish(self) -> list[Delta]:
        """What is left at the end: a tool call (its terminator ends the generation), or text in no message."""
        deltas: list[Delta] = []
        held, self._held = self._held, ""
        if self._header is not None:
            self._emit(held, deltas)
            self._end_message(deltas)
        elif self._in_header and CHANNEL not in held:
            text = held.removeprefix("assistant")
            if text.strip():
                self._stray(text, deltas)
        elif not self._in_header and held.strip():
            self._stray(held, deltas)
        return deltas

    def _advance(self, deltas: list[Delta]) -> bool:
        """One step of the machine; False when more text is needed."""
        if self._header is not None:
            return self._content(deltas)
        marker = MESSAGE if self._in_header else START
        before, found, after = self._held.partition(marker)
        if not found:
            return False
        self._held = after
        if self._in_header:
            self._header = parse_header(before)
        elif before.strip():
            self._stray(before, deltas)
        self._in_header = not self._in_header
        return True

    def _content(self, deltas: list[Delta]) -> bool:
        before, found, after = self._held.partition(END)
        if found:
            self._held = after
            self._emit(before, deltas)
            self._end_message(deltas)
            return True
        split = len(self._held) - overlap(self._held, END)
        before, self._held = self._held[:split], self._held[split:]
        self._emit(before, deltas)
        return False

    def _kind(self) -> str:
        if self._header is None:
            return ""
        if self._header.recipient and self._header.channel in ("analysis", "commentary", ""):
            return "call"
        return "thinking" if self._header.channel == "analysis" else "content"

    def _emit(self, text: str, deltas: list[Delta]) -> None:
        kind = self._kind()
        if kind == "call":
            self._call_text += text
        elif text:
            deltas.append(Delta(thinking=text) if kind == "thinking" else Delta(content=text))

    def _end_message(self, deltas: list[Delta]) -> None:
        header, call, text = self._header, self._kind() == "call", self._call_text
        self._header, self._call_text = None, ""
        if not call or header is None:
            return
        arguments = loads_object(text)
        if arguments is None:
            self.notices.append(
                Notice("tool_call_unparsed", "the model's tool call has no valid arguments", {"text": text[:200]})
            )
            deltas.append(Delta(content=text))
            return
        name = self._names.original(header.recipient.removeprefix("functions."))
        deltas.append(Delta(tool_calls=(ToolCall(name, arguments, self._new_id(), self._calls),)))
        self._calls += 1

    def _stray(self, text: str, deltas: list[Delta]) -> None:
        self.notices.append(Notice("harmony_format", "the model left its message format; its text is in the content"))
        deltas.append(Delta(content=text))
