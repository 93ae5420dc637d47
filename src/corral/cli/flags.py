"""Command-line flags as cobra's users know them: the table types, the parser, the error texts. Pure.

`commands.py` declares tables of these, `main.py` parses with them, `usage.py` prints them.

| written             | means                                                                     |
|---------------------|---------------------------------------------------------------------------|
| `--name=value`      | value, for every kind                                                     |
| `--name value`      | value, unless the flag has a value of its own when bare (bool, `--think`) |
| `-f value`, `-fvalue`, `-f=value` | the same, shorthand; bools may be bundled (`-vh`)           |
| `--`                | the rest is arguments                                                     |

Flags and arguments may be mixed. Source of rules and texts: spf13/pflag, as cobra 1.7 uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from corral.errors import CorralError

_TRUE = frozenset(["1", "t", "T", "true", "TRUE", "True"])
_FALSE = frozenset(["0", "f", "F", "false", "FALSE", "False"])


class UsageError(CorralError):
    """The command line itself is wrong; printed like any other error, without usage text."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. `bare`: its value when it stands alone (None: a value must follow); bools have "true"."""

    name: str
    kind: Literal["bool", "string", "int"]
    doc: str
    short: str = ""
    bare: str | None = None

    @property
    def alone(self) -> str | None:
        """What the flag means without a value, None when it needs one."""
        return "true" if self.kind == "bool" else self.bare


@dataclass(frozen=True, slots=True)
class Parsed:
    """Flags that were given, typed, and the arguments in order."""

    values: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    def given(self, name: str) -> bool:
        """Whether the flag was on the command line."""
        return name in self.values

    def flag(self, name: str) -> bool:
        """A bool flag's value; False when absent."""
        return bool(self.values.get(name, False))

    def text(self, name: str) -> str:
        """A string flag's value; "" when absent."""
        return str(self.values.get(name, ""))

    def number(self, name: str) -> int:
        """An int flag's value; 0 when absent."""
        return int(self.values.get(name, 0))


HELP = Flag("help", "bool", "", short="h")


def parse_flags(words: Sequence[str], flags: Sequence[Flag]) -> Parsed:
    """Split a command's words into flags and arguments; raises UsageError with pflag's text."""
    table = [*flags, HELP]
    values: dict[str, Any] = {}
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            rest += queue
            break
        if word.startswith("--"):
            _long(word, queue, table, values)
        elif word.startswith("-") and word != "-":
            _short(word, queue, table, values)
        else:
            rest.append(word)
    return Parsed(values, tuple(rest))


def _long(word: str, queue: list[str], table: Sequence[Flag], values: dict[str, Any]) -> None:
    name, equals, value = word[2:].partition("=")
    if not name or name.startswith("-"):
        raise UsageError(f"bad flag syntax: {word}")
    flag = next((flag for flag in table if flag.name == name), None)
    if flag is None:
        raise UsageError(f"unknown flag: --{name}")
    shown = f"-{flag.short}, --{name}" if flag.short else f"--{name}"
    if equals:
        values[name] = _typed(flag, value, shown)
    elif flag.alone is not None:
        values[name] = _typed(flag, flag.alone, shown)
    elif queue:
        values[name] = _typed(flag, queue.pop(0), shown)
    else:
        raise UsageError(f"flag needs an argument: --{name}")


def _short(word: str, queue: list[str], table: Sequence[Flag], values: dict[str, Any]) -> None:
    letters = word[1:]
    while letters:
        letter, tail = letters[0], letters[1:]
        flag = next((flag for flag in table if flag.short == letter), None)
        if flag is None:
            raise UsageError(f"unknown shorthand flag: '{letter}' in -{letters}")
        shown, rest, letters = f"-{letter}, --{flag.name}", letters, ""
        if tail.startswith("=") and len(tail) > 1:
            value = tail[1:]
        elif flag.alone is not None:
            value, letters = flag.alone, tail
        elif tail:
            value = tail
        elif queue:
            value = queue.pop(0)
        else:
            raise UsageError(f"flag needs an argument: '{letter}' in -{rest}")
        values[flag.name] = _typed(flag, value, shown)


def _typed(flag: Flag, value: str, shown: str) -> Any:
    if flag.kind == "bool":
        if value not in _TRUE | _FALSE:
            raise UsageError(_invalid(value, shown, "ParseBool"))
        return value in _TRUE
    if flag.kind == "int":
        try:
            number = int(value, 0)
        except ValueError:
            raise UsageError(_invalid(value, shown, "ParseInt")) from None
        if not -(2**63) <= number < 2**63:
            raise UsageError(_invalid(value, shown, "ParseInt", "value out of range"))
        return number
    return value


def _invalid(value: str, shown: str, function: str, why: str = "invalid syntax") -> str:
    return f'invalid argument "{value}" for "{shown}" flag: strconv.{function}: parsing "{value}": {why}'


@dataclass(frozen=True, slots=True)
class Count:
    """How many arguments a command takes; high None = any number from `low` on."""

    low: int = 0
    high: int | None = None

    def check(self, words: Sequence[str]) -> None:
        """Raise UsageError with cobra's text when there are too few or too many."""
        got = len(words)
        if self.low == self.high != got:
            raise UsageError(f"accepts {self.low} arg(s), received {got}")
        if got < self.low:
            raise UsageError(f"requires at least {self.low} arg(s), only received {got}")
        if self.high is not None and got > self.high:
            raise UsageError(f"accepts at most {self.high} arg(s), received {got}")
