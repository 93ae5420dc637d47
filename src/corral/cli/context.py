"""What every command gets: the settings, its words and flags, the console, the server."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from corral.cli.console import Console
from corral.cli.flags import Parsed
from corral.config import Settings

if TYPE_CHECKING:
    from corral.cli.api import Api  # imported on first use


@dataclass(frozen=True)
class Context:
    """One run of one command."""

    settings: Settings
    parsed: Parsed
    console: Console

    @cached_property
    def api(self) -> Api:
        """The server named by the settings."""
        from corral.cli.api import Api

        return Api(self.settings)

    @property
    def words(self) -> tuple[str, ...]:
        """The command's arguments."""
        return self.parsed.words
