"""Help texts in cobra's layout, made from the command table and from the fields of Settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from corral.cli.commands import COMMANDS, HELP_SHORT, ROOT_FLAGS, ROOT_SHORT, Command
from corral.cli.flags import Flag
from corral.config import Settings

PROGRAM = "corral"
TYPES = {"bool": "", "string": " string", "int": " int"}


def root_help() -> str:
    """What `corral`, `corral help` and `corral --help` print."""
    rows = [(command.name, command.short) for command in COMMANDS] + [("help", HELP_SHORT)]
    return (
        f"{ROOT_SHORT}\n\nUsage:\n  {PROGRAM} [flags]\n  {PROGRAM} [command]\n\nAvailable Commands:\n"
        + "".join(f"  {name:<11} {short}\n" for name, short in rows)
        + f"\nFlags:\n{_flag_lines(ROOT_FLAGS, PROGRAM)}"
        + f'\nUse "{PROGRAM} [command] --help" for more information about a command.\n'
    )


def command_help(command: Command) -> str:
    """What `corral COMMAND --help` prints."""
    detail = f"\n{command.detail}\n" if command.detail else ""
    text = f"{command.short}\n{detail}\nUsage:\n  {PROGRAM} {command.use} [flags]\n"
    if command.aliases:
        text += f"\nAliases:\n  {', '.join([command.name, *command.aliases])}\n"
    text += f"\nFlags:\n{_flag_lines(command.flags, command.name)}"
    rows = [(name, doc) for name, doc in variables() if "*" in command.variables or name in command.variables]
    if rows:
        lines = "".join(f"      {f'CORRAL_{name}':<27}   {doc}\n" for name, doc in rows)
        text += f"\nEnvironment Variables:\n{lines}"
    return text


def variables() -> list[tuple[str, str]]:
    """Every setting's variable, without its prefix, and its line of help, sorted by name."""
    return sorted((item.metadata["env"], item.metadata["doc"]) for item in fields(Settings) if "env" in item.metadata)


def _flag_lines(flags: Sequence[Flag], owner: str) -> str:
    rows = []
    for flag in sorted([*flags, Flag("help", "bool", f"help for {owner}", short="h")], key=lambda flag: flag.name):
        start = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        bare = f'[="{flag.bare}"]' if flag.bare is not None else ""
        rows.append((f"{start}{TYPES[flag.kind]}{bare}", flag.doc))
    width = max(len(left) for left, _ in rows)
    return "".join(f"{left:<{width}}   {doc}\n" for left, doc in rows)
