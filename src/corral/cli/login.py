"""login and logout: keys for other Corrals, and registries, that ask for one. The key is read, never an argument."""

from __future__ import annotations

import getpass

from corral.cli.context import Context
from corral.cli.flags import UsageError
from corral.registry.logins import Logins, place_of


def login(context: Context) -> None:
    """`corral login HOST`: the key from the terminal, unseen, or from the input."""
    place = place_of(context.words[0])
    console = context.console
    typed = console.reads_terminal
    key = getpass.getpass(f"Key for {place}: ") if typed else console.read_all()
    Logins(context.settings.home).save(context.words[0], key.strip())
    console.note(f"the key for {place} is kept in {context.settings.home / 'logins.json'}")


def logout(context: Context) -> None:
    """`corral logout HOST`."""
    place = place_of(context.words[0])
    if not Logins(context.settings.home).forget(context.words[0]):
        raise UsageError(f"no key for {place} is known")
    context.console.note(f"the key for {place} is forgotten")
