"""`docs/corral.1`, the manual page, made from the command table and the fields of Settings, as the help texts are.

`python -m` of this module writes it to the output; a test compares the page in the tree with this one. Installing the
package puts it where `man corral` finds it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import corral
from corral.cli.commands import COMMANDS, ROOT_FLAGS, Command
from corral.cli.flags import Flag
from corral.cli.usage import PROGRAM, TYPES, variables

_STATUS = (
    ("0", "All went well."),
    (
        "1",
        "Anything else; a line on the error stream says what. doctor, fsck and import: something is wrong or left out.",
    ),
    ("130", "Ended by Ctrl+C, as a shell sees it."),
)
_FILES = (
    ("~/.corral/models", "The store, in Ollama's layout."),
    ("~/.corral/corral.toml", "Settings, below those of the environment."),
    ("~/.corral/logs/server.log", "What a server that was started in the background had to say."),
    ("~/.corral/history", "Lines typed in chats."),
)
_EXAMPLES = (
    (
        'corral run smollm2:135m "Why is the sky blue?"',
        "One answer; server and model are fetched and started as needed.",
    ),
    ("corral run smollm2:135m", "A chat; /? lists its commands."),
    ("corral launch claude --dry-run", "What would be set to run Claude Code on a model of this server."),
    ("corral doctor", "What is slow or wrong here, and the command that mends it."),
)


def manual_page() -> str:
    """The page's text, in man(7) macros."""
    out = [
        f'.TH CORRAL 1 "" "corral {corral.__version__}" "User Commands"',
        ".SH NAME",
        f"{PROGRAM} \\- pull language models, run them here, talk to them over HTTP",
        ".SH SYNOPSIS",
        f".B {PROGRAM}",
        ".I command",
        "[flags] [arguments]",
        ".SH DESCRIPTION",
        _text("A local server for language models with Ollama's, OpenAI's and Anthropic's API, and its command line."),
        _text(
            "Commands that need the server say so where none answers; run, pull, list, create and the like start one."
        ),
        ".SH COMMANDS",
        *(line for command in COMMANDS for line in _command(command)),
        ".SH OPTIONS",
        *_flags(ROOT_FLAGS),
        ".SH ENVIRONMENT",
        _text("Each is also read with OLLAMA_ in place of CORRAL_, where Ollama has it."),
        *_terms((f"CORRAL_{name}", doc) for name, doc in variables()),
        ".SH FILES",
        *_terms(_FILES),
        ".SH EXIT STATUS",
        *_terms(_STATUS),
        ".SH EXAMPLES",
        *_terms(_EXAMPLES),
    ]
    return "\n".join(out) + "\n"


def _command(command: Command) -> list[str]:
    names = f" (also {', '.join(command.aliases)})" if command.aliases else ""
    lines = [".TP", f".B {_escaped(command.use)}", _text(f"{command.short}{names}.")]
    if command.detail:
        lines += [".sp", ".nf", _text(command.detail), ".fi"]
    if command.flags:
        lines += [".RS", *_flags(command.flags), ".RE"]
    return lines


def _flags(flags: tuple[Flag, ...]) -> list[str]:
    rows = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        short = f"-{flag.short}, " if flag.short else ""
        rows.append((f"{short}--{flag.name}{TYPES[flag.kind]}", f"{flag.doc}."))
    return _terms(rows)


def _terms(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [line for term, doc in rows for line in (".TP", f".B {_escaped(term)}", _text(doc))]


def _text(text: str) -> str:
    """Lines that roff takes as text: no escapes, no requests."""
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in _escaped(text).splitlines())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")


if __name__ == "__main__":
    sys.stdout.write(manual_page())
