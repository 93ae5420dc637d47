"""Completion in the shell: scripts for bash, zsh and fish, which ask `corral __complete` for what could come next.

Model names come from the server, within a second; without one there are none.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from corral.cli.api import Api
from corral.cli.commands import COMMANDS, ROOT_FLAGS, find_command
from corral.cli.context import Context
from corral.cli.flags import UsageError
from corral.cli.programs import PROGRAMS
from corral.config import Settings
from corral.errors import CorralError

_MODELS = frozenset({"run", "show", "rm", "cp", "stop", "push", "tune", "create", "pull", "list", "ps"})
_WORDS = {
    "import": ("ollama", "lmstudio", "hf-cache"),
    "completion": ("bash", "zsh", "fish"),
    "engine": ("status", "build"),
    "launch": tuple(program.name for program in PROGRAMS),
}
_SCRIPTS = {
    "bash": """\
_corral() {
    local IFS=$'\\n' cur prev words cword
    COMPREPLY=()
    local line="${COMP_LINE:0:COMP_POINT}"
    local -a typed=()
    IFS=' ' read -r -a typed <<< "$line"
    [[ "$line" == *' ' ]] && typed+=("")
    COMPREPLY=($(corral __complete "${typed[@]:1}" 2>/dev/null))
    local last="${typed[-1]}"
    if [[ "$last" == *:* && "$COMP_WORDBREAKS" == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#${last%${last##*:}}}")
    fi
}
complete -o default -F _corral corral
""",
    "zsh": """\
#compdef corral
_corral() {
    local -a found
    found=("${(@f)$(corral __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -- ${found:#}
}
compdef _corral corral
""",
    "fish": """\
complete -c corral -f -a '(corral __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}


def script(context: Context) -> None:
    """`corral completion bash|zsh|fish`."""
    shell = context.words[0]
    if shell not in _SCRIPTS:
        raise UsageError(f'no completion for "{shell}": bash, zsh and fish have one')
    context.console.print(_SCRIPTS[shell], end="")


def complete(words: Sequence[str], settings: Settings) -> list[str]:
    """What could stand in place of the last of `words`, which may be empty."""
    *before, last = words or [""]
    typed = next((word for word in before if not word.startswith("-")), None)
    command = find_command(typed) if typed else None
    if command is None:
        names = [found.name for found in COMMANDS] + ["help"]
        flags = [f"--{flag.name}" for flag in ROOT_FLAGS]
        return _beginning(last, flags if last.startswith("-") else names)
    if last.startswith("-"):
        return _beginning(last, [f"--{flag.name}" for flag in command.flags] + ["--help"])
    if command.name in _MODELS:
        return _beginning(last, stored_models(settings))
    return _beginning(last, _WORDS.get(command.name, ()))


def _beginning(start: str, words: Sequence[str]) -> list[str]:
    return [word for word in words if word.startswith(start)]


def stored_models(settings: Settings) -> list[str]:
    """The names of the models that the server has; none without one, or after a second."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(1.0)
    try:
        return [str(model["name"]) for model in Api(settings).get("/api/tags").get("models") or []]
    except CorralError:
        return []
    finally:
        socket.setdefaulttimeout(before)
