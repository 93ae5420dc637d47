"""The Modelfile: its parser, its printer, and the texts `/api/show` makes of a model. Pure: no path is opened here.

The CLI parses a Modelfile, uploads what it names and sends a create request; the server parses the guide's `modelfile`
field. A Modelfile is a list of commands, `NAME value`, names in any case; the parser walks through these states:

| state     | on            | becomes                                                                       |
|-----------|---------------|-------------------------------------------------------------------------------|
| start     | `#`           | comment, to the end of the line                                               |
| start     | blank, newline| start                                                                         |
| start     | anything else | word                                                                          |
| word      | letter        | word; a blank ends it, anything else is an error                              |
| parameter | [A-Za-z0-9_]  | parameter; exactly one blank ends the name                                    |
| role      | letter        | role; exactly one blank ends it                                               |
| value     | newline       | start, or value while a quote opened at its start is not closed at its end    |

Quoting has no escapes: one or three double quotes around a value are taken off, what is between is verbatim and may
span lines. Characters that are not printable are dropped, tabs and newlines inside a value are kept.
Source: ollama parser/parser.go, server/images.go Model.String, 2026-08.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from corral.core import Message
from corral.errors import ModelfileError
from corral.goquote import quote
from corral.options import DEPRECATED, OPTIONS, parse_parameter

_SINGLE = frozenset(["template", "system", "adapter", "renderer", "parser", "requires"])  # the last one counts
_COMMANDS = _SINGLE | frozenset(["from", "license", "draft", "parameter", "message"])
_COMMAND_ERROR = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", "renderer", "parser", '
    '"parameter", "message", or "requires"'
)
_ROLES = frozenset(["system", "user", "assistant"])
_ROLE_ERROR = 'message role must be one of "system", "user", or "assistant"'
_EOF = "unexpected EOF"
_BLANKS = " \t"
_SPACE = " \t\r\n"
_SKIP = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_LETTERS = re.compile(r"[A-Za-z]*")
_PARAMETER_NAME = re.compile(r"[A-Za-z0-9_]*")
_LINE = re.compile(r"[^\r\n]*")
_NEWLINE = re.compile(r"[\r\n]")
_NUMBER = r"(?:0|[1-9]\d*)"
_LABELS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_SEMVER = re.compile(rf"v?{_NUMBER}(?:\.{_NUMBER}(?:\.{_NUMBER}(?:-{_LABELS})?(?:\+{_LABELS})?)?)?\Z")
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le"))


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `name` is lower-case; FROM is "model", a PARAMETER goes by its own name, as Ollama has it.

    The args of a "message" are `role: text`.
    """

    name: str
    args: str

    def __str__(self) -> str:
        if self.name == "model":
            return f"FROM {self.args}"
        if self.name == "message":
            role, _, text = self.args.partition(": ")
            return f"MESSAGE {role} {_quote(text)}"
        if self.name in _COMMANDS:
            return f"{self.name.upper()} {_quote(self.args)}"
        return f"PARAMETER {self.name} {_quote(self.args)}"


@dataclass(frozen=True, slots=True)
class CreateFields:
    """What a Modelfile asks for. `sources`: FROM arguments in order, paths or names, unresolved; so are the others."""

    sources: tuple[str, ...] = ()
    adapter: str = ""
    drafts: tuple[str, ...] = ()
    template: str = ""
    system: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    licenses: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    deprecated: tuple[str, ...] = ()  # parameters that were skipped: `parameter X is deprecated`


@dataclass(frozen=True, slots=True)
class Modelfile:
    """A parsed Modelfile: its commands in the order written."""

    commands: tuple[Command, ...]

    def __str__(self) -> str:
        return "".join(f"{command}\n" for command in self.commands)

    def to_create_fields(self) -> CreateFields:
        """The fields of a create request, parameters typed.

        Raises ModelfileError (version), InvalidRequest (unknown or badly typed parameter). Source: ollama
        parser/parser.go CreateRequest, 2026-08.
        """
        single: dict[str, str] = {}
        many: dict[str, list[str]] = {name: [] for name in ("model", "draft", "license", "message")}
        parameters: dict[str, list[str]] = {}
        deprecated: list[str] = []
        for command in self.commands:
            if command.name in many:
                many[command.name].append(command.args)
            elif command.name in DEPRECATED:
                deprecated.append(command.name)
            elif command.name in _SINGLE:
                single[command.name] = _version(command.args) if command.name == "requires" else command.args
            else:
                parameters.setdefault(command.name, []).append(command.args)
        adapter = single.pop("adapter", "")
        return CreateFields(
            sources=tuple(many["model"]),
            adapter=adapter,
            drafts=tuple(many["draft"]),
            licenses=tuple(many["license"]),
            messages=tuple(_message(args) for args in many["message"]),
            parameters=_typed(parameters),
            deprecated=tuple(deprecated),
            **single,
        )


def parse_modelfile(text: str | bytes) -> Modelfile:
    """Read a Modelfile; bytes are decoded by their byte order mark, UTF-8 without one.

    Raises ModelfileError: with the 1-based line for commands and roles, `unexpected EOF`, `no FROM line`.
    """
    source = _decode(text) if isinstance(text, bytes) else text.removeprefix("\ufeff")
    commands = _Parser(source).parse()
    if not any(command.name == "model" for command in commands):
        raise ModelfileError("no FROM line")
    return Modelfile(tuple(commands))


def _decode(data: bytes) -> str:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    return data.decode("utf-8", errors="replace")


def _version(text: str) -> str:
    if text and not _SEMVER.match(text):
        raise ModelfileError("requires must be a valid semver (e.g. 0.14.0)")
    return text.removeprefix("v")


def _message(args: str) -> Message:
    role, _, text = args.partition(": ")
    return Message(role=role, content=text)


def _typed(texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Typed values; each text of a single-valued parameter must be right, the last one counts."""
    values: dict[str, Any] = {}
    for name, given in texts.items():
        spec = OPTIONS.get(name)
        if spec is not None and spec.type == "array":
            values[name] = parse_parameter(name, given)
            continue
        for text in given:
            values[name] = parse_parameter(name, [text])
    return values


class _Parser:
    """One pass over the text; `at` is the index of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def parse(self) -> list[Command]:
        commands = []
        while not self._skip_to_word():
            name, role = self._word()
            value = self._value()
            commands.append(Command(name, f"{role}: {value}" if role else value))
        return commands

    def _skip_to_word(self) -> bool:
        """Pass blanks and comments; whether the text is at its end."""
        self.at = self._match(_SKIP, self.at)
        return self.at == len(self.text)

    def _word(self) -> tuple[str, str]:
        first = self.text[self.at]
        # Whatever begins a command is taken into the word: a stray `1` makes it unknown, an invisible mark is dropped.
        start, self.at = self.at + 1, self._match(_LETTERS, self.at + 1)
        word = ((first if first.isprintable() else "") + self.text[start : self.at]).lower()
        if self.at == len(self.text):
            raise ModelfileError(_EOF)
        if self.text[self.at] not in _BLANKS or word not in _COMMANDS:
            raise ModelfileError(_COMMAND_ERROR, self._line())
        self.at += 1
        if word == "parameter":
            return self._name(_PARAMETER_NAME), ""
        if word == "message":
            role = self._name(_LETTERS)
            if role not in _ROLES:
                self.at -= 1  # the blank that ended the role
                raise ModelfileError(_ROLE_ERROR, self._line())
            return word, role
        return ("model" if word == "from" else word), ""

    def _name(self, pattern: re.Pattern[str]) -> str:
        start, self.at = self.at, self._match(pattern, self.at)
        name = self.text[start : self.at]
        if self.at == len(self.text):
            raise ModelfileError(_EOF)
        if self.text[self.at] not in _BLANKS:
            raise ModelfileError(f"{_EOF}: {name}")
        self.at += 1
        return name

    def _value(self) -> str:
        """The value up to the newline that ends it. Closing is tested at line ends only, on the last line's end."""
        first = self._rest_of_line().strip(_SPACE)
        mark = next((quote for quote in ('"""', '"') if first.startswith(quote)), "")
        if len(first) >= 2 * len(mark) and first.endswith(mark):
            self.at += 1
            return first[len(mark) : len(first) - len(mark)] if mark else first
        parts = [first[len(mark) :] + self._blanks_cut]
        while self.at < len(self.text):
            parts.append(self.text[self.at])
            self.at += 1
            line = self._rest_of_line()
            end = line.rstrip(_SPACE)
            if end.endswith(mark):
                self.at += 1
                parts.append(end[: -len(mark)])
                return "".join(parts)
            parts.append(line)
        raise ModelfileError(_EOF)

    def _rest_of_line(self) -> str:
        """The printable characters and tabs up to the newline or the end; remembers the blanks at their end."""
        start, self.at = self.at, self._match(_LINE, self.at)
        line = self.text[start : self.at]
        if not line.isprintable():
            line = "".join(char for char in line if char == "\t" or char.isprintable())
        self._blanks_cut = line[len(line.rstrip(_SPACE)) :]
        return line

    def _match(self, pattern: re.Pattern[str], at: int) -> int:
        match = pattern.match(self.text, at)
        assert match is not None  # every pattern here matches the empty text
        return match.end()

    def _line(self) -> int:
        """The 1-based line as Ollama counts it: a newline that ends a word already belongs to the next line."""
        return 1 + len(_NEWLINE.findall(self.text, 0, self.at + 1))


def _quote(text: str) -> str:
    if "\n" in text or text.startswith(" ") or text.endswith(" "):
        return f'"""{text}"""' if '"' in text else f'"{text}"'
    return text


def model_commands(
    *,
    weights: str,
    adapters: Sequence[str] = (),
    draft: str = "",
    projectors: Sequence[str] = (),
    template: str | None = None,
    system: str = "",
    renderer: str = "",
    parser: str = "",
    parameters: Mapping[str, Any] | None = None,
    licenses: Sequence[str] = (),
    messages: Sequence[Message] = (),
) -> Modelfile:
    """The Modelfile of a stored model, in Ollama's order of commands; parameters are sorted by name.

    Without a template the default `{{ .Prompt }}` is printed.
    """
    commands = [Command("model", weights), *(Command("adapter", path) for path in adapters)]
    if draft:
        commands.append(Command("draft", draft))
    commands += [Command("model", path) for path in projectors]
    commands.append(Command("template", "{{ .Prompt }}" if template is None else template))
    named = (("system", system), ("renderer", renderer), ("parser", parser))
    commands += [Command(name, text) for name, text in named if text]
    for name, value in sorted((parameters or {}).items()):
        commands += [Command(name, _plain(item)) for item in (value if isinstance(value, list) else [value])]
    commands += [Command("license", text) for text in licenses]
    commands += [Command("message", f"{message.role}: {message.content}") for message in messages]
    return Modelfile(tuple(commands))


def format_modelfile(name: str, modelfile: Modelfile, *, safetensors: bool = False) -> str:
    """The `modelfile` text of /api/show; `name` is the model's short name. Safetensors models are printed FROM it."""
    head = '# Modelfile generated by "ollama show"\n'
    if safetensors:
        return head + str(Modelfile((Command("model", name), *modelfile.commands[1:])))
    return f"{head}# To build a new Modelfile based on this, replace FROM with:\n# FROM {name}\n\n{modelfile}"


def format_parameters(parameters: Mapping[str, Any]) -> str:
    """The `parameters` text of /api/show: a line a value, names padded to 30 columns, strings as Go quotes them."""
    return "\n".join(
        f"{name:<30} {quote(item) if isinstance(item, str) else _plain(item)}"
        for name, value in sorted(parameters.items())
        for item in (value if isinstance(value, list) else [value])
    )


def _plain(value: Any) -> str:
    """A value as PARAMETER can read it back: whole numbers without fraction or exponent."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)
