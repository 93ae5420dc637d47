"""The entry point: find the command, check flags, arguments and server in that order, run it, turn errors into exits.

| what happened                 | printed                     | exit |
|-------------------------------|-----------------------------|------|
| nothing went wrong            |                             | 0    |
| any CorralError               | `Error: <text>` on stderr   | 1    |
| a file could not be used      | `Error: <what the OS said>` | 1    |
| Ctrl+C outside a generation   |                             | SIGINT |
| nobody reads our output       |                             | 141  |
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module

import corral
from corral.cli.commands import ROOT_FLAGS, Command, find_command, suggestions
from corral.cli.console import Console
from corral.cli.context import Context
from corral.cli.flags import HELP, Parsed, UsageError, parse_flags
from corral.cli.usage import PROGRAM, command_help, root_help
from corral.config import Settings
from corral.errors import CorralError

_BROKEN_PIPE = 128 + signal.SIGPIPE
_NOT_FOUND = 404
COMPLETE = "__complete"  # asked by the scripts of completion.py; no command of its own


def main() -> int:
    """Run the command line of this process; returns the exit status, or dies by SIGINT as a shell expects."""
    console = Console.standard()
    try:
        return execute(sys.argv[1:], console)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE


def execute(words: Sequence[str], console: Console, environ: Mapping[str, str] | None = None) -> int:
    """Run a command line and return its exit status; `environ` stands in for the process's in tests."""
    try:
        return _dispatch(list(words), console, environ)
    except BrokenPipeError:
        raise
    except CorralError as error:
        console.note(f"Error: {error}")
    except OSError as error:
        console.note(f"Error: {describe_os_error(error)}")
    return 1


def describe_os_error(error: OSError) -> str:
    """The operating system's words with the file in front: `open x: no such file or directory`."""
    what = (error.strerror or str(error) or type(error).__name__).lower()
    return f"{error.filename}: {what}" if error.filename else what


def _dispatch(words: list[str], console: Console, environ: Mapping[str, str] | None) -> int:
    place = _place_of_command(words)
    if place is None:
        return _root(words, console, environ)
    word, rest = words[place], words[:place] + words[place + 1 :]
    if word == "help":
        return _help(rest, console)
    if word == COMPLETE:
        return _complete(rest, console, environ)
    command = find_command(word)
    if command is None:
        raise UsageError(_unknown(word))
    return _run(command, rest, console, environ)


def _place_of_command(words: Sequence[str]) -> int | None:
    """Where the command's name stands; a flag before it that is not the root's takes the word behind it as its value.

    Source: cobra command.go stripFlags.
    """
    alone = {text for flag in (*ROOT_FLAGS, HELP) for text in (f"--{flag.name}", f"-{flag.short}")}
    place = 0
    while place < len(words) and words[place] != "--":
        word = words[place]
        if word and not word.startswith("-"):
            return place
        is_flag = word.startswith("--") or len(word) == 2
        has_value = is_flag and "=" not in word and word not in alone
        if has_value and place + 2 >= len(words):
            return None
        place += 2 if has_value else 1
    return None


def _run(command: Command, words: Sequence[str], console: Console, environ: Mapping[str, str] | None) -> int:
    parsed = parse_flags(words, command.flags)
    if parsed.flag("help"):
        console.print(command_help(command), end="")
        return 0
    try:
        command.count.check(parsed.words)
    except UsageError as error:
        if not command.shows_usage:
            raise
        raise UsageError(f"{error}\n\nUsage:\n  {PROGRAM} {command.use} [flags]{_models_here(environ)}") from None
    settings = Settings.from_env(environ)
    context = Context(settings, parsed, replace(console, color=settings.color))
    if command.needs_server:
        from corral.cli.reaching import reach_server

        reach_server(context, start=command.starts_server)
    module, _, function = command.code.partition(":")
    try:
        status = getattr(import_module(f"corral.cli.{module}"), function)(context)
    except CorralError as error:
        raise _with_hint(error, context) from None
    return int(status or 0)


def _models_here(environ: Mapping[str, str] | None) -> str:
    """The models that could have been named; nothing where no server says."""
    from corral.cli.completion import stored_models

    names = stored_models(Settings.from_env(environ))
    return "\n\nModels here:\n" + "".join(f"\t{name}\n" for name in names) if names else ""


def _with_hint(error: CorralError, context: Context) -> CorralError:
    """The error, with the models that may have been meant where it says that one was not found."""
    from corral.cli.api import ServerError
    from corral.cli.nearest import hint

    if not (isinstance(error, ServerError) and error.status == _NOT_FOUND and context.words):
        return error
    close = hint(context.api, context.words[0])
    return UsageError(f"{error}{close}") if close else error


def _complete(words: Sequence[str], console: Console, environ: Mapping[str, str] | None) -> int:
    from corral.cli.completion import complete

    console.print("".join(f"{found}\n" for found in complete(words, Settings.from_env(environ))), end="")
    return 0


def _root(words: Sequence[str], console: Console, environ: Mapping[str, str] | None) -> int:
    parsed = parse_flags(words, ROOT_FLAGS)
    if parsed.flag("version") and not parsed.flag("help"):
        return _version(Context(Settings.from_env(environ), Parsed(), console))
    console.print(root_help(), end="")
    return 0


def _help(words: Sequence[str], console: Console) -> int:
    topic = next((word for word in words if not word.startswith("-")), None)
    command = find_command(topic) if topic else None
    if topic not in {None, "help"} and command is None:
        raise UsageError(_unknown(str(topic)))
    console.print(root_help() if command is None else command_help(command), end="")
    return 0


def _unknown(word: str) -> str:
    close = suggestions(word)
    hint = "\n\nDid you mean this?\n" + "".join(f"\t{name}\n" for name in close) if close else ""
    return f'unknown command "{word}" for "{PROGRAM}"{hint}'


def _version(context: Context) -> int:
    try:
        server = context.api.server_version(timeout_s=5)
    except CorralError:
        server = ""
        context.console.print(f"{PROGRAM} {corral.__version__}")
        context.console.print("Warning: could not connect to a running Corral instance")
    if server:
        context.console.print(f"{PROGRAM} version is {server}")
    if server != corral.__version__:
        context.console.print(f"Warning: client version is {corral.__version__}")
    return 0
