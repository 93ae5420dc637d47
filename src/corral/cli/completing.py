"""What Tab completes in the REPL: commands, their words, parameters, models, paths. Pure but for the folders read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from corral.cli.help_texts import TOPICS
from corral.cli.slash_show import TOPICS as SHOWN
from corral.options import OPTIONS

_MOST_PATHS = 200
_PATHS = ("./", "../", "/", "~/")


def completions(
    line: str, commands: Iterable[str], settings: Iterable[str], models: Callable[[], list[str]]
) -> list[str]:
    """Words that could stand in place of the last one of `line`, which may be empty; none in plain text."""
    head, _, word = line.rpartition(" ")
    before = head.split()
    if not before and word.startswith("/"):
        found = [name for name in commands if name.startswith(word)]
        return found or _paths(word)
    if word.startswith(_PATHS):
        return _paths(word)
    if not line.startswith("/"):
        return []
    return [name for name in _words_after(before, settings, models) if name.startswith(word)]


def _words_after(before: list[str], settings: Iterable[str], models: Callable[[], list[str]]) -> Iterable[str]:
    match before:
        case ["/load" | "/model" | "/save!"]:
            return models()
        case ["/set"]:
            return settings
        case ["/set", "parameter"]:
            return OPTIONS
        case ["/set", "think"]:
            return ("high", "medium", "low", "max")
        case ["/set", "format"]:
            return ("json",)
        case ["/show"]:
            return SHOWN
        case ["/?" | "/help"]:
            return TOPICS
        case _:
            return ()


def _paths(word: str) -> list[str]:
    """Files and folders that begin with what was typed, as it was typed; a folder ends in a slash."""
    head, slash, start = word.rpartition("/")
    folder = Path(f"{head}/").expanduser() if slash else Path()
    try:
        found = sorted(path for path in folder.iterdir() if path.name.startswith(start))
    except OSError:
        return []
    shown = (path for path in found if start.startswith(".") or not path.name.startswith("."))
    names = (path.name + ("/" if path.is_dir() else "") for path in shown)
    return [f"{head}{slash}{name}" for name in names][:_MOST_PATHS]
