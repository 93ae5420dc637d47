"""`docs/configuration.md`, made from the fields of Settings. `python -m` of this module writes it to the output.

A test compares the page in the tree with this one.
"""

from __future__ import annotations

import math
import sys
from dataclasses import fields
from typing import Any

from corral.address import Address
from corral.config import Settings

_HEAD = """\
# Configuration

Made from the fields of `Settings` by `python -m corral.cli.configuration_page`; do not edit.

Order, strongest first: command-line flags, `CORRAL_<variable>`, `OLLAMA_<variable>`, `corral.toml`, the default.
`corral.toml` is `$CORRAL_CONFIG`, else `~/.corral/corral.toml`, and over that `./corral.toml`; its keys are those
of the last column. A value that cannot be read is an error that names it; in an `OLLAMA_` variable it is ignored, as
Ollama does, and the server's log says so. `NO_COLOR`, set to anything, turns off colours. A `corral.toml` in the
current folder may be a stranger's, so it sets nothing that decides who is talked to, what is started or how it is
confined: keys marked with *.

| variable | default | meaning | values | key |
|---|---|---|---|---|
"""

_ACCEPTED = {"another value": "text"}


def configuration_page() -> str:
    """The page's text."""
    rows = sorted((item for item in fields(Settings) if "env" in item.metadata), key=lambda item: item.metadata["env"])
    return _HEAD + "".join(
        f"| `{item.metadata['env']}` | {_default(item.default)} | {item.metadata['doc']} "
        f"| {_ACCEPTED.get(item.metadata['accepted'], item.metadata['accepted'])} "
        f"| `{item.name}`{'*' if item.metadata['guarded'] else ''} |\n"
        for item in rows
    )


def _default(value: Any) -> str:
    if isinstance(value, Address):
        return f"`{value.host}:{value.port}`"
    if value is None or value == "" or value == ():
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "for ever" if math.isinf(value) else f"{value:g} s"
    return f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(configuration_page())
